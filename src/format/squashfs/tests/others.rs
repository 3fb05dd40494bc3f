//! Other readers on our images, and our reader on another writer's.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use super::support::{SMALL, Sample, everything, path, read_back, run, text, write_image};
use crate::format::squashfs::Params;
use crate::format::squashfs::read::{EntryKind, Image};
use crate::tree::{Kind, Node};

/// A line of `unsquashfs -lln`: permissions, owner, size or device, path.
fn listing_line(path: &[u8], node: &Node) -> Option<String> {
    let letter = match node.kind {
        Kind::Directory => 'd',
        Kind::File(_) => '-',
        Kind::Symlink(_) => 'l',
        Kind::Character(..) => 'c',
        Kind::Block(..) => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    };
    let mode = node.meta.mode;
    let bit = |mask: u16, letter: char| if mode & mask != 0 { letter } else { '-' };
    // One of `rwx` with the special bit in the place of the `x`.
    let execute = |mask: u16, special: u16, set: char| match (mode & mask != 0, mode & special != 0) {
        (true, true) => set,
        (false, true) => set.to_ascii_uppercase(),
        (true, false) => 'x',
        (false, false) => '-',
    };
    let permissions = [
        (bit(0o400, 'r'), bit(0o200, 'w'), execute(0o100, 0o4000, 's')),
        (bit(0o040, 'r'), bit(0o020, 'w'), execute(0o010, 0o2000, 's')),
        (bit(0o004, 'r'), bit(0o002, 'w'), execute(0o001, 0o1000, 't')),
    ];
    let permissions: String = permissions.iter().flat_map(|(r, w, x)| [*r, *w, *x]).collect();
    let name = std::str::from_utf8(path).ok().filter(|name| !name.contains(['\n', '\t']))?;
    let size = match &node.kind {
        Kind::File(file) => file.content.size.to_string(),
        Kind::Symlink(target) => target.len().to_string(),
        // unsquashfs 4.5 knows eight bits of each.
        Kind::Character(256.., _) | Kind::Block(256.., _) => return None,
        Kind::Character(major, minor) | Kind::Block(major, minor) => format!("{major},{minor}"),
        _ => return Some(format!("{letter}{permissions} {}/{} {name}", node.meta.uid, node.meta.gid)),
    };
    Some(format!("{letter}{permissions} {}/{} {size} {name}", node.meta.uid, node.meta.gid))
}

#[test]
fn unsquashfs_lists_and_prints_every_node() {
    let sample = everything(&SMALL);
    let (_folder, file) = write_image(&sample.image(&SMALL));
    let printed = run("unsquashfs", &["-lln".as_ref(), &file]);
    let printed = String::from_utf8_lossy(&printed);
    let mut listed = BTreeMap::new();
    for line in printed.lines().filter(|line| line.contains(" squashfs-root/")) {
        let (head, name) = line.split_once(" squashfs-root/").unwrap();
        let name = name.split(" -> ").next().unwrap();
        let words: Vec<_> = head.split_whitespace().collect();
        // Date and time stand before the path; a device's numbers are two words.
        let (words, _) = words.split_at(words.len() - 2);
        listed.insert(name.to_owned(), words.join(" ").replace(", ", ","));
    }
    let mut compared = 0;
    for (path, node) in sample.tree.iter().filter(|(path, _)| !path.is_root()) {
        let Some(expected) = listing_line(path.as_bytes(), node) else { continue };
        let (expected, name) = expected.rsplit_once(' ').unwrap();
        let found = &listed[name];
        let sized = !matches!(node.kind, Kind::Directory | Kind::Fifo | Kind::Socket);
        // A directory's size is that of its listing.
        let found = if sized { found } else { found.rsplit_once(' ').unwrap().0 };
        assert_eq!(found, expected, "{name}");
        if let Kind::File(kind) = &node.kind {
            let bytes = run("unsquashfs", &["-cat".as_ref(), &file, Path::new(name)]);
            assert!(bytes == sample.contents[&kind.content.digest], "{name}");
        }
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn images_of_mksquashfs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    let mut sample = Sample::new();
    for (name, size) in [("empty", 0), ("small", 10), ("a/block", 4096), ("a/tail", 9000), ("a/b/large", 70_000)] {
        let bytes = text(size, size as u32);
        std::fs::write(root.join(name), &bytes).unwrap();
        sample.contents.insert(crate::digest::Digest::of(&bytes), bytes);
    }
    std::fs::write(root.join("hole"), vec![0; 20_000]).unwrap();
    std::fs::hard_link(root.join("a/tail"), root.join("linked")).unwrap();
    std::os::unix::fs::symlink("a/b", root.join("symlink")).unwrap();
    for number in 0..2000 {
        std::fs::write(root.join(format!("a/b/file-{number}")), format!("{number}")).unwrap();
    }
    // The same long value in two different sets: mksquashfs stores it once and refers to it.
    let long = vec![b'v'; 3000];
    for (name, other) in [("small", &b"1"[..]), ("a/tail", b"2"), ("a/block", b"3")] {
        for (attribute, value) in [("user.long", &long[..]), ("user.other", other)] {
            rustix::fs::setxattr(root.join(name), attribute, value, rustix::fs::XattrFlags::empty()).unwrap();
        }
    }
    for options in [&["-b", "4096"][..], &["-b", "131072", "-always-use-fragments", "-noI", "-noF"]] {
        let file = folder.path().join("image");
        let output = Command::new("mksquashfs")
            .args([&root, &file])
            .args(["-comp", "zstd", "-noappend", "-quiet", "-no-progress"])
            .args(options)
            .output()
            .expect("mksquashfs is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let image = std::fs::read(&file).unwrap();
        let found = read_back(&image);
        assert_eq!(found.tree.len(), 2000 + 11, "{options:?}");
        for (digest, bytes) in &sample.contents {
            assert_eq!(found.contents.get(digest), Some(bytes), "{options:?}: {} bytes", bytes.len());
        }
        let mut opened = Image::open(Cursor::new(&image)).unwrap();
        let linked = opened.find(&path("linked")).unwrap().unwrap();
        let other = opened.find(&path("a/tail")).unwrap().unwrap();
        assert_eq!((linked.links, linked.inode), (2, other.inode));
        let expected = [(b"user.long".to_vec(), long.clone()), (b"user.other".to_vec(), b"2".to_vec())];
        assert_eq!(linked.meta.xattrs, expected.into());
        let symlink = opened.find(&path("symlink")).unwrap().unwrap();
        assert_eq!(symlink.kind, EntryKind::Symlink(b"a/b".to_vec()));
    }
}

#[test]
fn unsquashfs_reads_the_superblock_as_it_was_asked_for() {
    let params = Params { level: 7, block_size: 1 << 16, time: 1_700_000_000 };
    let (_folder, file) = write_image(&Sample::new().image(&params));
    let printed = String::from_utf8(run("unsquashfs", &["-s".as_ref(), &file])).unwrap();
    for part in ["Compression zstd", "compression-level 7", "Block size 65536", "Number of inodes 1", "exportable"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}
