//! The image as the kernel shows it, mounted from a loop device. Needs root.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{SMALL, Sample, everything, run, text, write_image};
use crate::format::squashfs::Params;
use crate::tree::{Kind, Meta, Node, TreePath};

struct Mount(PathBuf);

impl Mount {
    fn new(image: &Path, at: PathBuf) -> Self {
        std::fs::create_dir(&at).unwrap();
        run("mount", &["-o".as_ref(), "loop,ro".as_ref(), "-t".as_ref(), "squashfs".as_ref(), image, &at]);
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Nothing else can be done about a failure; the loop device goes with the mount.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn xattrs(file: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut buffer = vec![0; 1 << 17];
    let length = rustix::fs::llistxattr(file, &mut buffer).unwrap();
    let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
    let names: Vec<_> = names.collect();
    let pairs = names.into_iter().map(|name| {
        let length = rustix::fs::lgetxattr(file, &name[..], &mut buffer).unwrap();
        (name, buffer[..length].to_vec())
    });
    pairs.collect()
}

fn group_of(node: &Node) -> Option<&TreePath> {
    match &node.kind {
        Kind::File(file) => file.group.as_ref(),
        _ => None,
    }
}

fn compare(sample: &Sample, root: &Path) {
    let mut seen = 0;
    // Without an attribute table the kernel answers every question for attributes with "not supported".
    let attributed = sample.tree.iter().any(|(_, node)| !node.meta.xattrs.is_empty());
    let mut inodes: BTreeMap<TreePath, BTreeSet<u64>> = BTreeMap::new();
    let mut groups: BTreeMap<TreePath, u64> = BTreeMap::new();
    for (_, node) in sample.tree.iter() {
        if let Some(group) = group_of(node) {
            *groups.entry(group.clone()).or_default() += 1;
        }
    }
    for (path, node) in sample.tree.iter() {
        let file = root.join(OsStr::from_bytes(path.as_bytes()));
        let found = file.symlink_metadata().unwrap_or_else(|error| panic!("{path:?}: {error}"));
        compare_meta(path, &node.meta, &found);
        if attributed {
            assert_eq!(xattrs(&file), node.meta.xattrs, "{path:?}");
        }
        compare_kind(sample, path, node, &file);
        let links = match &node.kind {
            Kind::Directory => {
                let below = sample
                    .tree
                    .iter()
                    .filter(|(other, node)| other.parent().as_ref() == Some(path) && node.kind.is_directory());
                2 + below.count() as u64
            }
            _ => group_of(node).map_or(1, |group| groups[group]),
        };
        assert_eq!(found.nlink(), links, "{path:?}");
        if let Some(group) = group_of(node) {
            inodes.entry(group.clone()).or_default().insert(found.ino());
        }
        seen += 1;
    }
    assert!(inodes.values().all(|numbers| numbers.len() == 1), "{inodes:?}");
    let listed = run("find", &[root, "-printf".as_ref(), "x".as_ref()]);
    assert_eq!(listed.len(), seen);
}

fn compare_meta(path: &TreePath, meta: &Meta, found: &std::fs::Metadata) {
    let expected = (u32::from(meta.mode), meta.uid, meta.gid, meta.mtime.max(0));
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid(), found.mtime()), expected, "{path:?}");
}

fn compare_kind(sample: &Sample, path: &TreePath, node: &Node, file: &Path) {
    let found = file.symlink_metadata().unwrap();
    let kind = found.file_type();
    // The device number as the C library packs it: the kernel's 12 and 20 bits.
    let device =
        |major: u32, minor: u32| u64::from(major) << 8 | u64::from(minor & 0xff) | u64::from(minor & !0xff) << 12;
    match &node.kind {
        Kind::Directory => assert!(kind.is_dir(), "{path:?}"),
        Kind::File(expected) => {
            let bytes = std::fs::read(file).unwrap();
            assert_eq!(bytes.len() as u64, expected.content.size, "{path:?}");
            assert!(expected.content.size == 0 || bytes == sample.contents[&expected.content.digest], "{path:?}");
        }
        Kind::Symlink(target) => {
            assert_eq!(std::fs::read_link(file).unwrap().as_os_str().as_bytes(), target, "{path:?}");
        }
        Kind::Character(major, minor) => {
            assert!(kind.is_char_device() && found.rdev() == device(*major, *minor), "{path:?}");
        }
        Kind::Block(major, minor) => {
            assert!(kind.is_block_device() && found.rdev() == device(*major, *minor), "{path:?}");
        }
        Kind::Fifo => assert!(kind.is_fifo(), "{path:?}"),
        Kind::Socket => assert!(kind.is_socket(), "{path:?}"),
    }
}

#[test]
#[ignore = "needs root: mounts a loop device"]
fn the_kernel_shows_what_the_tree_says() {
    let params = [SMALL, Params { block_size: 1 << 17, ..SMALL }, Params::default()];
    let mut samples: Vec<_> = params.iter().map(|params| (everything(params), *params)).collect();
    samples.push((Sample::new(), SMALL));
    for (sample, params) in samples {
        let (folder, file) = write_image(&sample.image(&params));
        let mount = Mount::new(&file, folder.path().join("root"));
        compare(&sample, &mount.0);
    }
}

#[test]
#[ignore = "needs root: mounts a loop device"]
fn every_name_of_a_big_directory_is_found() {
    let mut sample = Sample::new();
    sample.directory("info").directory("info/sub");
    for number in 0..5_000 {
        let name = format!("info/package-{:016x}-{number}.md5sums", number * 7919);
        if number % 500 == 0 {
            sample.directory(name);
        } else {
            sample.file(name, &text(number as usize % 50, number));
        }
    }
    let (folder, file) = write_image(&sample.image(&SMALL));
    let mount = Mount::new(&file, folder.path().join("root"));
    for (path, _) in sample.tree.iter() {
        let found = mount.0.join(OsStr::from_bytes(path.as_bytes())).symlink_metadata();
        assert!(found.is_ok(), "{path:?}");
    }
    for missing in ["info/a", "info/package-", "info/package-5", "info/zzz"] {
        assert!(mount.0.join(missing).symlink_metadata().is_err(), "{missing}");
    }
    assert_eq!(std::fs::read_dir(mount.0.join("info")).unwrap().count(), 5_001);
}
