//! The reader on broken and hostile images: it may refuse, it may not fall over.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::support::{SMALL, Sample, assert_shows, everything, path, text};
use crate::format::squashfs::read::{ReadError, Summary, check};

/// Contents that a check reads at most.
const LIMIT: u64 = 1 << 22;

#[test]
fn a_sound_image_is_read_to_its_end() {
    let sample = everything(&SMALL);
    let bytes: u64 = sample.tree.iter().filter_map(|(_, node)| node.content()).map(|content| content.size).sum();
    let expected = Summary { names: sample.tree.len() as u64, bytes, left: 0 };
    assert_eq!(check(&sample.image(&SMALL), LIMIT).unwrap(), expected);
}

#[test]
fn what_is_no_image_is_said_to_be_none() {
    for bytes in [&b""[..], b"hsqs", &[0; 4096], &text(4096, 1)] {
        assert!(matches!(check(bytes, LIMIT), Err(ReadError::NoSquashfs)));
    }
}

#[test]
fn a_superblock_that_lies_is_refused() {
    let image = everything(&SMALL).image(&SMALL);
    // Field and the byte that is written into it.
    let lies = [
        ("inodes", 4, 0_u32.to_le_bytes().to_vec()),
        ("block size", 12, 4097_u32.to_le_bytes().to_vec()),
        ("compressor", 20, vec![1, 0]),
        ("block log", 22, vec![13, 0]),
        ("ids", 26, vec![0, 0]),
        ("version", 28, vec![3, 0]),
        ("root", 32, vec![0xff; 8]),
        ("root", 32, vec![0, 0x10, 0, 0, 0, 0, 0, 0]),
        ("bytes used", 40, vec![0xff; 8]),
        ("id table", 48, vec![0; 8]),
        ("attribute table", 56, vec![0; 8]),
        ("inode table", 64, vec![0; 8]),
        ("directory table", 72, vec![0xff; 8]),
        ("fragment table", 80, vec![0; 8]),
    ];
    for (field, at, value) in lies {
        let mut broken = image.clone();
        broken[at..at + value.len()].copy_from_slice(&value);
        assert!(check(&broken, LIMIT).is_err(), "{field}");
    }
}

#[test]
fn a_short_image_is_refused_at_every_length() {
    let mut sample = Sample::new();
    sample.directory("a").file("a/b", &text(5000, 1)).file("c", b"c");
    let image = sample.image(&SMALL);
    let used = u64::from_le_bytes(image[40..48].try_into().unwrap()) as usize;
    for length in 0..used {
        assert!(check(&image[..length], LIMIT).is_err(), "{length} of {used} bytes");
    }
    assert!(check(&image[..used], LIMIT).is_ok());
}

/// An image of `sample` whose inodes and listings are stored as they are, so that single fields can be broken; and where
/// the first inode and the first listing start. Both tables have to fit one metadata block.
fn open_tables(sample: &Sample) -> (Vec<u8>, usize, usize) {
    let image = sample.image(&SMALL);
    let field = |image: &[u8], at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let (inodes, directories) = (field(&image, 64) as usize, field(&image, 72) as usize);
    let mut opened = image[..inodes].to_vec();
    let mut starts = Vec::new();
    let mut end = inodes;
    for start in [inodes, directories] {
        assert_eq!(start, end, "one block a table");
        let header = u16::from_le_bytes([image[start], image[start + 1]]);
        end = start + 2 + usize::from(header & 0x7fff);
        let packed = &image[start + 2..end];
        let plain = if header & 0x8000 == 0 { zstd::bulk::decompress(packed, 8192).unwrap() } else { packed.to_vec() };
        starts.push(opened.len() + 2);
        opened.extend_from_slice(&(plain.len() as u16 | 0x8000).to_le_bytes());
        opened.extend_from_slice(&plain);
    }
    let moved = (opened.len() - end) as u64;
    opened.extend_from_slice(&image[end..]);
    let mut add = |at: usize, more: u64| {
        let value = field(&opened, at);
        if value != u64::MAX {
            opened[at..at + 8].copy_from_slice(&(value + more).to_le_bytes());
        }
        value + more
    };
    add(72, (starts[1] - 2 - directories) as u64);
    add(40, moved);
    // The lists of the fragment, export and id tables hold one absolute place each; the head of the attributes' holds
    // one, and so does its list, 16 bytes on.
    for superblock_field in [80, 88, 48] {
        let list = add(superblock_field, moved) as usize;
        add(list, moved);
    }
    if field(&image, 56) != u64::MAX {
        let head = add(56, moved) as usize;
        add(head, moved);
        add(head + 16, moved);
    }
    (opened, starts[0], starts[1])
}

/// Everything that fits one block a table.
fn open_everything() -> Vec<u8> {
    let mut sample = everything(&SMALL);
    sample.tree.remove(&path("link2"));
    open_tables(&sample).0
}

#[test]
fn opened_tables_read_like_closed_ones() {
    let mut sample = everything(&SMALL);
    sample.tree.remove(&path("link2"));
    assert_shows(&open_everything(), &sample);
}

#[test]
fn a_directory_inside_itself_is_refused() {
    let mut sample = Sample::new();
    // A file, for a fragment table.
    sample.directory("a").directory("a/b").file("c", b"c");
    let (image, inodes, directories) = open_tables(&sample);
    assert_eq!(check(&image, LIMIT).unwrap().names, 4);
    // The listings in order: `a/b` is empty, `a` has the entry `b`, the root has `a`. Entry `b` starts after a
    // 12-byte header and begins with the offset of its inode; the inode of `a` is the second of 32 bytes.
    let mut looped = image.clone();
    looped[directories + 12..directories + 14].copy_from_slice(&32_u16.to_le_bytes());
    let error = check(&looped, LIMIT).unwrap_err().to_string();
    assert!(error.contains("two places"), "{error}");
    for (name, part) in [(&b"/"[..], "slash"), (b".", "slash"), (b"\0", "NUL")] {
        let mut named = image.clone();
        named[directories + 20..directories + 21].copy_from_slice(name);
        let error = check(&named, LIMIT).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let mut kind = image.clone();
    kind[inodes] = 15;
    let error = check(&kind, LIMIT).unwrap_err().to_string();
    assert!(error.contains("no known type"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn changed_bytes_never_make_the_reader_fall_over(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        head in prop::option::weighted(0.1, (0_usize..96, any::<u8>())),
        tables in any::<bool>(),
    ) {
        static CLOSED: LazyLock<Vec<u8>> = LazyLock::new(|| everything(&SMALL).image(&SMALL));
        static OPENED: LazyLock<Vec<u8>> = LazyLock::new(open_everything);
        let mut image = if tables { OPENED.clone() } else { CLOSED.clone() };
        let start = u64::from_le_bytes(image[64..72].try_into().unwrap()) as usize;
        for (at, value) in &changes {
            let at = start + at.index(image.len() - start);
            image[at] = *value;
        }
        if let Some((at, value)) = head {
            image[at] = value;
        }
        let _ = check(&image, LIMIT);
    }

    #[test]
    fn bytes_after_a_sound_superblock_never_make_the_reader_fall_over(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut image = Sample::new().image(&SMALL);
        let start = 4096;
        let length = bytes.len().min(image.len() - start);
        image[start..start + length].copy_from_slice(&bytes[..length]);
        let _ = check(&image, LIMIT);
    }
}
