//! cpio archives that the kernel unpacks as an initrd: pieces of ours beside the generator's.
//!
//! Writes the `newc` form, uncompressed, with fixed inode numbers and no times. Never reads one. Specification: the
//! kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeMap;

use super::{Bytes, Recipe};
use crate::tree::TreePath;

/// Records and contents begin at multiples of this many bytes.
const ALIGNMENT: u64 = 4;
/// Bytes of a record before the name.
const HEADER: usize = 110;
/// The name that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// What an entry is, with the bits that `st_mode` has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file and its bytes.
    File(Recipe),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device: major, minor.
    Character(u32, u32),
}

/// One entry, owned by root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits: the low twelve bits of `st_mode`.
    pub mode: u16,
    /// What it is.
    pub kind: Kind,
}

/// A file that an archive cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`/{path}` has {size} bytes; a file in an initrd has at most 4294967295")]
pub struct CpioError {
    /// The file.
    pub path: TreePath,
    /// Its size in bytes.
    pub size: u64,
}

/// The archive of `entries`. The kernel makes no directory unasked: those on the way have to be entries, or in an
/// archive that it unpacks before this one.
///
/// # Errors
/// When a file is 4 GiB or larger.
pub fn archive(entries: &BTreeMap<TreePath, Entry>) -> Result<Recipe, CpioError> {
    let mut archive = Recipe::new();
    for ((path, Entry { mode, kind }), inode) in entries.iter().zip(1..) {
        let name = if path.is_root() { b"." } else { path.as_bytes() };
        let (kind_bits, links, device, content) = match kind {
            Kind::Directory => (0o040_000, 2, (0, 0), None),
            Kind::File(content) => (0o100_000, 1, (0, 0), Some(content.clone())),
            Kind::Symlink(target) => {
                let mut content = Recipe::new();
                content.literal(target.as_slice(), "link target");
                (0o120_000, 1, (0, 0), Some(content))
            }
            Kind::Character(major, minor) => (0o020_000, 1, (*major, *minor), None),
        };
        let length = content.as_ref().map_or(0, Recipe::length);
        let size = u32::try_from(length).map_err(|_| CpioError { path: path.clone(), size: length })?;
        let mode = kind_bits | u32::from(mode & 0o7777);
        archive.literal(record(name, Numbers { inode, mode, links, size, device }), format!("initrd entry /{path}"));
        if let Some(content) = content {
            archive.push(Bytes::Recipe(content.into()), format!("initrd file /{path}"));
            archive.pad_to(ALIGNMENT, "initrd padding");
        }
    }
    archive.literal(record(TRAILER, Numbers { links: 1, ..Numbers::default() }), "end of the initrd");
    Ok(archive)
}

/// The numbers of a record that are not always 0.
#[derive(Default)]
struct Numbers {
    inode: u32,
    mode: u32,
    links: u32,
    size: u32,
    device: (u32, u32),
}

/// Header and name, padded so that the content can follow.
fn record(name: &[u8], numbers: Numbers) -> Vec<u8> {
    let Numbers { inode, mode, links, size, device: (major, minor) } = numbers;
    let name_size = name.len() as u32 + 1; // with the NUL that ends it
    let mut record = Vec::with_capacity(HEADER + name.len() + 4);
    record.extend(b"070701");
    // Inode, mode, user, group, links, time, size, the file system's device, the node's device, name, checksum.
    for number in [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
        record.extend(format!("{number:08x}").bytes());
    }
    record.extend(name);
    record.push(0);
    record.resize(record.len().next_multiple_of(ALIGNMENT as usize), 0);
    record
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::super::recipe::testing::Objects;
    use super::*;

    fn sample(objects: &mut Objects) -> Recipe {
        let entry = |mode, kind| Entry { mode, kind };
        let entries = [
            ("", entry(0o755, Kind::Directory)),
            ("dev", entry(0o755, Kind::Directory)),
            ("dev/console", entry(0o600, Kind::Character(5, 1))),
            ("etc", entry(0o755, Kind::Directory)),
            ("etc/unit.service", entry(0o644, Kind::File(objects.keep(*b"[Unit]\n")))),
            ("init", entry(0o777, Kind::Symlink(b"/usr/lib/systemd/systemd".to_vec()))),
        ];
        archive(&entries.map(|(path, entry)| (TreePath::parse(path).unwrap(), entry)).into()).unwrap()
    }

    #[test]
    fn cpio_lists_what_was_written() {
        let mut objects = Objects::default();
        let recipe = sample(&mut objects);
        assert_eq!(recipe, sample(&mut objects));
        let cpio = |arguments: &[&str]| {
            let mut child = Command::new("cpio")
                .args(arguments)
                .env("TZ", "UTC")
                .env("LC_ALL", "C")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("cpio has to be installed");
            child.stdin.take().unwrap().write_all(&objects.pour(&recipe)).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let listed = cpio(&["--quiet", "-tvn"]);
        let expected = "\
            drwxr-xr-x   2 0        0               0 Jan  1  1970 .\n\
            drwxr-xr-x   2 0        0               0 Jan  1  1970 dev\n\
            crw-------   1 0        0          5,   1 Jan  1  1970 dev/console\n\
            drwxr-xr-x   2 0        0               0 Jan  1  1970 etc\n\
            -rw-r--r--   1 0        0               7 Jan  1  1970 etc/unit.service\n\
            lrwxrwxrwx   1 0        0              24 Jan  1  1970 init -> /usr/lib/systemd/systemd\n";
        assert_eq!(listed, expected);
        assert_eq!(cpio(&["--quiet", "-i", "--to-stdout", "etc/unit.service"]), "[Unit]\n");
    }

    #[test]
    fn a_file_of_4_gib_is_refused() {
        let mut large = Recipe::new();
        large.push(Bytes::Zeros(1 << 32), "large");
        let path = TreePath::parse("large").unwrap();
        let entries = BTreeMap::from([(path.clone(), Entry { mode: 0o644, kind: Kind::File(large) })]);
        assert_eq!(archive(&entries), Err(CpioError { path, size: 1 << 32 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

        /// Nothing here reads cpio: GNU cpio unpacks what was written.
        #[test]
        fn cpio_unpacks_what_was_written(
            files in proptest::collection::btree_map("[a-zA-Z0-9+_é-]{1,80}", (0o400..0o10000_u16, any::<bool>(), ".{1,300}"), 0..12)
        ) {
            let mut objects = Objects::default();
            let mut entries = BTreeMap::from([(TreePath::root(), Entry { mode: 0o755, kind: Kind::Directory })]);
            for (name, (mode, link, text)) in &files {
                let kind = if *link { Kind::Symlink(text.replace('\0', "").into_bytes()) } else { Kind::File(objects.keep(text.as_bytes())) };
                if !matches!(&kind, Kind::Symlink(target) if target.is_empty()) {
                    entries.insert(TreePath::parse(name).unwrap(), Entry { mode: *mode & 0o377 | 0o400, kind });
                }
            }
            let folder = tempfile::tempdir().unwrap();
            let mut child = Command::new("cpio")
                .args(["--quiet", "-i"])
                .current_dir(folder.path())
                .stdin(Stdio::piped())
                .spawn()
                .expect("cpio has to be installed");
            child.stdin.take().unwrap().write_all(&objects.pour(&archive(&entries).unwrap())).unwrap();
            prop_assert!(child.wait().unwrap().success());
            for (path, entry) in &entries {
                let place = folder.path().join(path.to_string());
                match &entry.kind {
                    Kind::Symlink(target) => {
                        let found = std::fs::read_link(&place).unwrap();
                        prop_assert_eq!(std::os::unix::ffi::OsStrExt::as_bytes(found.as_os_str()), target.as_slice());
                    }
                    Kind::File(content) => prop_assert_eq!(std::fs::read(&place).unwrap(), objects.pour(content)),
                    Kind::Directory | Kind::Character(..) => {}
                }
            }
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), entries.len() - 1);
        }
    }
}
