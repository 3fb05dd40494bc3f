//! The one place where a configured tree is made the same on every machine and day.
//!
//! Owns the list of what is normalised: times, logs, caches, back-up copies, identity, stamps. A function Tree → Tree;
//! nothing else in the program touches these paths, and the image lints check that nothing here was forgotten.
//! References: machine-id(5), systemd-update-done.service(8), random-seed(8), the measured list in the tests of
//! reproducible builds (reproducible-builds.org, "system images").

use std::sync::Arc;

use crate::tree::{Content, Kind, Meta, Node, Origin, Tree, TreePath};

/// Directories whose files are records of the build; the directories stay.
const LOGS: [&str; 1] = ["var/log"];

/// Directories that programs fill again by themselves; they stay, empty.
const EMPTIED: [&str; 7] = [
    "run",
    "tmp",
    "var/tmp",
    "var/cache/apt/archives",
    "var/lib/apt/lists",
    "var/cache/ldconfig",
    "var/lib/dpkg/updates",
];

/// Files that are caches, back-up copies, or one machine's identity.
const REMOVED: [&str; 26] = [
    "etc/.pwd.lock",
    "etc/bind/rndc.key",
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "etc/ssl/certs/ssl-cert-snakeoil.pem",
    "etc/ssl/private/ssl-cert-snakeoil.key",
    "root/.bash_history",
    "root/.lesshst",
    "root/.wget-hsts",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/passwords.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/statoverride-old",
    "var/lib/dpkg/status-old",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
    "var/lib/urandom/random-seed",
];

/// Whether what lies at `path`, a file of `size` bytes or something without content, has no place in a settled tree.
pub fn removes(path: &TreePath, size: u64) -> bool {
    let is_below = |directory: &str| {
        let rest = path.as_bytes().strip_prefix(directory.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    };
    REMOVED.iter().any(|file| file.as_bytes() == path.as_bytes())
        || EMPTIED.into_iter().any(is_below)
        // Empty logs were made for their owner and mode (`btmp`, `wtmp`): they stay.
        || (size > 0 && LOGS.into_iter().any(is_below))
        || (is_below("etc/ssh") && path.name().starts_with(b"ssh_host_"))
}

/// The tree as every machine and day would have made it. `epoch` is the latest time that a node may have; `stored`
/// gives the content of bytes that the store is made to hold.
///
/// # Errors
/// What `stored` fails with.
pub fn settle<E>(mut tree: Tree, epoch: i64, mut stored: impl FnMut(&[u8]) -> Result<Content, E>) -> Result<Tree, E> {
    let path = |text: &str| TreePath::parse(text).unwrap_or_default();
    let size = |node: &Node| node.content().map_or(0, |content| content.size);
    let mut doomed: Vec<TreePath> =
        tree.iter().filter(|(path, node)| removes(path, size(node))).map(|(path, _)| path.clone()).collect();
    // The certificate's name by hash, a link that would dangle.
    let certificates = path("etc/ssl/certs");
    let snakeoil =
        |node: &Node| matches!(&node.kind, Kind::Symlink(target) if target.ends_with(b"ssl-cert-snakeoil.pem"));
    doomed.extend(tree.below(&certificates).filter(|(_, node)| snakeoil(node)).map(|(path, _)| path.clone()));
    for path in &doomed {
        tree.remove(path);
    }
    super::place::repair_groups(&mut tree);

    let origin = Arc::new(Origin::Built("settled: the same for every machine and day".to_owned()));
    let mut file = |tree: &mut Tree, text: &str, mode: u16, bytes: &[u8]| -> Result<(), E> {
        let place = path(text);
        if place.parent().is_some_and(|parent| tree.get(&parent).is_some_and(|node| node.kind.is_directory())) {
            let meta = Meta { mtime: epoch, ..Meta::root_owned(mode) };
            // The parent is there.
            let _ = tree.insert(place, Node::new(meta, Kind::file(stored(bytes)?), origin.clone()));
        }
        Ok(())
    };
    // Empty: the first boot makes an identity, but nothing takes it for a first boot (machine-id(5)).
    file(&mut tree, "etc/machine-id", 0o444, b"")?;
    // `/usr` is not newer than these: nothing is rebuilt at boot (systemd-update-done.service(8)).
    let stamp = format!("# The caches of /usr were made with it.\nTIMESTAMP_NSEC={epoch}000000000\n");
    for text in ["etc/.updated", "var/.updated"] {
        file(&mut tree, text, 0o644, stamp.as_bytes())?;
    }
    for (_, node) in tree.iter_mut() {
        node.meta.mtime = node.meta.mtime.min(epoch);
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use crate::digest::Digest;

    use super::*;

    fn store(bytes: &[u8]) -> Result<Content, Infallible> {
        Ok(Content::whole(Digest::of(bytes), bytes.len() as u64))
    }

    fn tree(paths: &[(&str, &str)]) -> Tree {
        let node =
            |kind| Node::new(Meta { mtime: 2_000, ..Meta::root_owned(0o755) }, kind, Origin::Built("test".into()));
        let mut tree = Tree::new(node(Kind::Directory));
        for (path, text) in paths {
            let path = TreePath::parse(path).unwrap();
            let mut parents: Vec<_> = std::iter::successors(path.parent(), TreePath::parent).collect();
            parents.reverse();
            for parent in parents {
                if tree.get(&parent).is_none() {
                    tree.insert(parent, node(Kind::Directory)).unwrap();
                }
            }
            let kind = match text.strip_prefix("-> ") {
                Some(target) => Kind::Symlink(target.as_bytes().to_vec()),
                None => Kind::file(store(text.as_bytes()).unwrap()),
            };
            tree.insert(path, node(kind)).unwrap();
        }
        tree
    }

    #[test]
    fn what_one_machine_or_day_left_is_gone_and_the_rest_stays() {
        let before = tree(&[
            ("etc/machine-id", "0123"),
            ("etc/ssh/ssh_host_rsa_key", "secret"),
            ("etc/ssh/sshd_config", "kept"),
            ("etc/ssl/certs/abc.0", "-> ssl-cert-snakeoil.pem"),
            ("etc/ssl/certs/ca.pem", "kept"),
            ("var/cache/ldconfig/aux-cache", "x"),
            ("var/log/dpkg.log", "x"),
            ("var/log/btmp", ""),
            ("var/log/apt/history.log", "x"),
            ("var/lib/dpkg/status", "kept"),
            ("var/lib/dpkg/status-old", "x"),
        ]);
        let after = settle(before, 1_000, store).unwrap();
        let paths: Vec<String> =
            after.iter().filter(|(_, n)| !n.kind.is_directory()).map(|(p, _)| p.to_string()).collect();
        let kept = [
            "etc/.updated",
            "etc/machine-id",
            "etc/ssh/sshd_config",
            "etc/ssl/certs/ca.pem",
            "var/.updated",
            "var/lib/dpkg/status",
            "var/log/btmp",
        ];
        assert_eq!(paths, kept);
        assert!(after.get(&TreePath::parse("var/log/apt").unwrap()).is_some());
        assert!(after.iter().all(|(_, node)| node.meta.mtime == 1_000));
        let id = after.get(&TreePath::parse("etc/machine-id").unwrap()).unwrap();
        assert_eq!(id.content().unwrap().size, 0);
    }

    #[test]
    fn settling_twice_changes_nothing_more() {
        let once = settle(tree(&[("etc/passwd", "x"), ("var/log/x", "y")]), 1_000, store).unwrap();
        assert_eq!(settle(once.clone(), 1_000, store).unwrap(), once);
    }
}
