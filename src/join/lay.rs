//! Lays the accepted ticket's files, and gives the machine its name.
//!
//! `/etc` is new at every boot of a sealed image, so this runs early (`rolecast-seed.service`), before the network and
//! whatever reads these files, and again from the join where a ticket has just arrived. Owns the way from a ticket's
//! file to one on disk: the owners' names become numbers by the image's own `passwd` and `group` (passwd(5), group(5)).
//! What may be laid was settled when the ticket was accepted. Starts nothing.

use std::collections::BTreeMap;
use std::path::Path;

use super::durable::{self, Belongs};
use crate::report::{Diagnostic, Kind};
use crate::sys::files;
use crate::ticket::{File, Ticket};

/// Lays the files of the ticket that are not as they should be; returns their paths. `root` is `/` but in tests.
///
/// # Errors
/// When an owner is unknown or a file cannot be written. What was laid stays.
pub fn files(root: &Path, ticket: &Ticket) -> Result<Vec<String>, Diagnostic> {
    let names = Names::read(root)?;
    let mut changed = Vec::new();
    for file in &ticket.files {
        let belongs = names.belongs(file)?;
        if !durable::stands(root, Path::new(&file.path), file.content.0.as_bytes(), belongs) {
            durable::write(root, Path::new(&file.path), file.content.0.as_bytes(), belongs)?;
            changed.push(file.path.clone());
        }
    }
    Ok(changed)
}

/// Whether all files of the ticket are as they should be.
///
/// # Errors
/// When an owner is unknown.
pub fn laid(root: &Path, ticket: &Ticket) -> Result<bool, Diagnostic> {
    let names = Names::read(root)?;
    for file in &ticket.files {
        if !durable::stands(root, Path::new(&file.path), file.content.0.as_bytes(), names.belongs(file)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives this machine its name: in the kernel now (sethostname(2)), and in `/etc/hostname` for what reads it later.
///
/// # Errors
/// When the kernel refuses.
pub fn host_name(ticket: &Ticket) -> Result<(), Diagnostic> {
    rustix::system::sethostname(ticket.node.as_bytes()).map_err(|error| {
        Diagnostic::error(Kind::World, format!("cannot set the host name to `{}`: {error}", ticket.node))
    })?;
    let belongs = Belongs { mode: 0o644, ..Belongs::mine() };
    let text = format!("{}\n", ticket.node);
    // In a container the file may be the host's, mounted read-only; the name itself is what counts.
    let _ = durable::write(Path::new("/"), Path::new("/etc/hostname"), text.as_bytes(), belongs);
    Ok(())
}

/// Users and groups of the image.
struct Names {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Names {
    fn read(root: &Path) -> Result<Self, Diagnostic> {
        let table = |path: &str| -> Result<BTreeMap<String, u32>, Diagnostic> {
            let bytes = files::read(&root.join(path))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let entry = |line: &str| {
                let mut fields = line.split(':');
                let name = fields.next()?.to_owned();
                Some((name, fields.nth(1)?.parse().ok()?))
            };
            Ok(text.lines().filter_map(entry).collect())
        };
        Ok(Self { users: table("etc/passwd")?, groups: table("etc/group")? })
    }

    fn belongs(&self, file: &File) -> Result<Belongs, Diagnostic> {
        let number = |table: &BTreeMap<String, u32>, what: &str, name: &str| {
            table.get(name).copied().ok_or_else(|| {
                Diagnostic::error(
                    Kind::World,
                    format!("`{}` belongs to {what} `{name}`, which this image lacks", file.path),
                )
                .hint("boot the image that the ticket was made for")
            })
        };
        Ok(Belongs {
            user: number(&self.users, "user", &file.owner)?,
            group: number(&self.groups, "group", &file.group)?,
            mode: mode(&file.mode).ok_or_else(|| {
                Diagnostic::error(Kind::Input, format!("`{}` has mode `{}`, which is none", file.path, file.mode))
            })?,
        })
    }
}

/// Four octal digits, without the bits that lend a user's rights.
pub(super) fn mode(text: &str) -> Option<u32> {
    let octal = text.len() == 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok()?;
    (octal && mode <= 0o777).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::ticket::Secret;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let me = Belongs::mine();
        std::fs::write(root.path().join("etc/passwd"), format!("me:x:{}:{}::/:/bin/sh\n", me.user, me.group)).unwrap();
        std::fs::write(root.path().join("etc/group"), format!("us:x:{}:\n", me.group)).unwrap();
        root
    }

    fn file(path: &str, content: &str) -> File {
        let content = Secret(content.into());
        File { path: path.into(), owner: "me".into(), group: "us".into(), mode: "0640".into(), content }
    }

    #[test]
    fn files_are_laid_once_and_again_where_they_drifted() {
        let root = root();
        let ticket = Ticket { files: vec![file("/etc/a", "1"), file("/etc/b/c", "2")], ..testing::ticket("region-1") };
        assert!(!laid(root.path(), &ticket).unwrap());
        assert_eq!(files(root.path(), &ticket).unwrap(), ["/etc/a", "/etc/b/c"]);
        assert!(laid(root.path(), &ticket).unwrap());
        assert!(files(root.path(), &ticket).unwrap().is_empty());
        std::fs::write(root.path().join("etc/a"), "drift").unwrap();
        assert!(!laid(root.path(), &ticket).unwrap());
        assert_eq!(files(root.path(), &ticket).unwrap(), ["/etc/a"]);
    }

    #[test]
    fn an_unknown_owner_and_a_strange_mode_are_refused() {
        let root = root();
        let strange = |file: File| Ticket { files: vec![file], ..testing::ticket("region-1") };
        let owner = strange(File { owner: "nobody-here".into(), ..file("/etc/a", "") });
        assert!(files(root.path(), &owner).unwrap_err().message.contains("nobody-here"));
        for bad in ["4755", "644", "08", "rw-r", "+644"] {
            let ticket = strange(File { mode: bad.into(), ..file("/etc/a", "") });
            assert!(files(root.path(), &ticket).is_err(), "{bad}");
        }
    }
}
