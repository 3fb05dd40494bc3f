//! Writer to own reader.

use std::io::Cursor;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::support::{SMALL, Sample, assert_shows, everything, meta, path, pour, text};
use crate::format::squashfs::read::{EntryKind, Image};
use crate::format::squashfs::{Params, assemble};
use crate::tree::{Kind, Meta};

#[test]
fn every_kind_of_node_and_size_reads_back() {
    for params in [SMALL, Params { block_size: 1 << 17, level: 1, time: 0 }] {
        let sample = everything(&params);
        assert_shows(&sample.image(&params), &sample);
    }
}

#[test]
fn an_empty_tree_reads_back() {
    let image = Sample::new().image(&Params::default());
    assert_eq!(image.len(), 8192, "a block for the superblock, one for the tables");
    assert_shows(&image, &Sample::new());
}

#[test]
fn deep_and_wide_directories_read_back() {
    let mut sample = Sample::new();
    let mut deep = String::from("a");
    while deep.len() < 4000 {
        sample.directory(&deep);
        deep.push_str("/abcdefghij");
    }
    sample.directory("wide");
    for number in 0..3_000 {
        sample.file(format!("wide/{number:04}-{}", "x".repeat(number % 200)), &text(number % 7, number as u32));
    }
    let image = sample.image(&SMALL);
    assert_shows(&image, &sample);
}

#[test]
fn a_node_is_found_by_its_path() {
    let sample = everything(&SMALL);
    let bytes = sample.image(&SMALL);
    let mut image = Image::open(Cursor::new(&bytes)).unwrap();
    assert_eq!((image.time(), image.block_size(), image.inodes()), (SMALL.time, 4096, sample.tree.len() as u32 - 2));
    for (path, node) in sample.tree.iter() {
        let entry = image.find(path).unwrap().unwrap_or_else(|| panic!("{path:?}"));
        assert_eq!((&entry.path, entry.meta.mode), (path, node.meta.mode));
    }
    for missing in ["a", "deep/er/x", "deep/ping/x", "link/x", "zzz"] {
        assert_eq!(image.find(&path(missing)).unwrap(), None, "{missing}");
    }
    let entry = image.find(&path("deep/er/two")).unwrap().unwrap();
    let EntryKind::File(file) = &entry.kind else { panic!("{entry:?}") };
    let mut found = Vec::new();
    image.read_file(file, &mut found).unwrap();
    assert_eq!((found, entry.links), (text(9000, 99), 3));
}

/// One random node under one of a few directories.
fn node() -> impl Strategy<Value = (Meta, Option<Vec<u8>>, u8)> {
    let names = prop_oneof!["user\\.[a-z]{1,8}", "trusted\\.[a-z]{1,8}", "security\\.[a-z]{1,8}"];
    let xattrs = btree_map(names.prop_map(String::into_bytes), vec(any::<u8>(), 0..40), 0..3);
    let meta = (0_u16..0o10_000, any::<u32>(), 0_u32..5, any::<i64>(), xattrs)
        .prop_map(|(mode, uid, gid, mtime, xattrs)| Meta { mode, uid, gid, mtime, xattrs });
    let content = prop_oneof![
        vec(any::<u8>(), 0..300),
        (0_usize..20_000, any::<u32>()).prop_map(|(length, seed)| text(length, seed)),
        (0_usize..20_000).prop_map(|length| vec![0; length]),
    ];
    (meta, prop::option::weighted(0.7, content), any::<u8>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn random_trees_read_back(
        nodes in btree_map("(da/|db/|db/dc/)?[a-z]{1,12}", node(), 0..40),
        count in 1_usize..5,
        block_log in 12_u32..16,
    ) {
        let params = Params { block_size: 1 << block_log, ..SMALL };
        let mut sample = Sample::new();
        sample.directory("da").directory("db").directory("db/dc");
        for (name, (meta, content, kind)) in nodes {
            if sample.tree.get(&path(&name)).is_some() {
                continue;
            }
            match (content, kind % 5) {
                (Some(bytes), _) => {
                    let content = sample.content(&bytes);
                    sample.add(name, meta, Kind::file(content));
                }
                (None, 0) => { sample.add(name, meta, Kind::Symlink(vec![b't'; usize::from(kind) + 1])); }
                (None, 1) => { sample.add(name, meta, Kind::Character(kind.into(), 70_000)); }
                (None, 2) => { sample.add(name, meta, Kind::Fifo); }
                (None, 3) => { sample.add(name, meta, Kind::Socket); }
                (None, _) => { sample.add(name, meta, Kind::Directory); }
            }
        }
        sample.links(&["db/zz", "zz", "da/zz"], meta(0o600), b"linked");
        let segments = sample.segments(&params, count);
        let list: Vec<_> = segments.iter().map(|pair| pair.0.clone()).collect();
        let recipe = assemble(&sample.tree, &list, &params).unwrap();
        assert_shows(&pour(&recipe, &segments), &sample);
    }
}
