//! What the writer promises about its bytes, and what it refuses.

use std::collections::BTreeMap;
use std::io::Cursor;

use super::support::{SMALL, Sample, assert_shows, everything, inputs, meta, noise, path, pour, segment, text};
use crate::digest::Digest;
use crate::format::squashfs::read::check;
use crate::format::squashfs::{
    ALIGNMENT, FragmentBlock, Input, Params, Placement, SEGMENT_VERSION, Segment, SegmentIndex, SquashfsError,
    assemble, compress,
};
use crate::tree::{File, Kind, Meta};

fn contents(list: &[Vec<u8>]) -> BTreeMap<Digest, Vec<u8>> {
    list.iter().map(|bytes| (Digest::of(bytes), bytes.clone())).collect()
}

fn segments_of(sample: &Sample) -> Vec<Segment> {
    sample.segments(&SMALL, 2).into_iter().map(|pair| pair.0).collect()
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let mut sample = everything(&SMALL);
    // More blocks than are compressed together.
    sample.file("many", &text(100 * 4096 + 5, 1));
    assert_shows(&sample.image(&SMALL), &sample);
    let images: Vec<_> = [1, 2, 4]
        .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
        .map(|pool| pool.install(|| sample.image(&SMALL)))
        .to_vec();
    assert!(images[0] == images[1] && images[1] == images[2]);
}

#[test]
fn the_bytes_are_those_of_the_last_release() {
    // When this fails, images made before and after differ: say so in the change's description, bump `SEGMENT_VERSION`
    // (a new libzstd counts too) and write the new digest here.
    let digest = Digest::of(&everything(&SMALL).image(&SMALL)).to_string();
    assert_eq!(
        (SEGMENT_VERSION, digest.as_str()),
        (1, "323dfcb9bef583332ebb60eb5ed3bb8d61f461db791947b3e06a708ad3bc0d3e")
    );
}

#[test]
fn a_segment_lies_unchanged_in_every_image() {
    let sample = everything(&SMALL);
    let segments = sample.segments(&SMALL, 5);
    let list: Vec<_> = segments.iter().map(|pair| pair.0.clone()).collect();
    let image = pour(&assemble(&sample.tree, &list, &SMALL).unwrap(), &segments);
    let mut at = ALIGNMENT as usize;
    for (segment, bytes) in &segments {
        assert!(segment.index.length.is_multiple_of(ALIGNMENT));
        assert!(image[at..at + bytes.len()] == bytes[..], "{}", segment.label);
        at += bytes.len();
    }
    assert!((image.len() as u64).is_multiple_of(ALIGNMENT));
}

#[test]
fn a_changed_file_leaves_the_segments_before_it_as_they_were() {
    let (mut before, mut after) = (everything(&SMALL), everything(&SMALL));
    let packages = before.segments(&SMALL, 3);
    let images = [(&mut before, &b"old"[..]), (&mut after, b"new, and longer")].map(|(sample, bytes)| {
        sample.file("etc", bytes);
        let mut segments = packages.clone();
        segments.push(segment(&contents(&[bytes.to_vec()]), &SMALL, "overlay"));
        let list: Vec<_> = segments.iter().map(|pair| pair.0.clone()).collect();
        pour(&assemble(&sample.tree, &list, &SMALL).unwrap(), &segments)
    });
    let packages_end = ALIGNMENT as usize + packages.iter().map(|pair| pair.1.len()).sum::<usize>();
    let differing = |(one, two): (&[u8], &[u8])| one != two;
    let blocks = |image: usize| images[image][..packages_end].chunks(ALIGNMENT as usize);
    // The superblock knows where the tables are.
    assert!(blocks(0).zip(blocks(1)).filter(|pair| differing(*pair)).count() <= 1);
    assert_shows(&images[1], &after);
}

#[test]
fn every_piece_says_what_it_is() {
    let sample = everything(&SMALL);
    let recipe = assemble(&sample.tree, &segments_of(&sample), &SMALL).unwrap();
    let origins: Vec<&str> = recipe.pieces().iter().map(|piece| &*piece.origin).collect();
    let expected = [
        "squashfs superblock",
        "squashfs padding",
        "segment 0",
        "segment 1",
        "squashfs inode table",
        "squashfs directory table",
        "squashfs fragment table",
        "squashfs export table",
        "squashfs id table",
        "squashfs attribute tables",
        "squashfs padding",
    ];
    assert_eq!(origins, expected);
}

#[test]
fn small_files_share_fragment_blocks_and_large_ones_have_their_own() {
    let files = [noise(3000, 1), noise(1096, 2), noise(1, 3), noise(4096, 4), vec![0; 9000], text(5000, 5)];
    let mut bytes = Vec::new();
    let list = files.iter().map(|bytes| (Digest::of(bytes), bytes.clone())).collect::<Vec<_>>();
    let index = compress(inputs(list.iter().map(|(digest, bytes)| (digest, bytes))), &SMALL, &mut bytes).unwrap();
    let place = |number: usize| index.files[&list[number].0].place.clone();
    assert_eq!(place(0), Placement::Fragment(0, 0));
    assert_eq!(place(1), Placement::Fragment(0, 3000));
    assert_eq!(place(2), Placement::Fragment(1, 0));
    // The full fragment block comes first: it was closed before the large files came.
    assert_eq!(place(3), Placement::Blocks(4096, vec![4096 | 1 << 24]));
    assert_eq!(place(4), Placement::Blocks(8192, vec![0, 0, 0]));
    let Placement::Blocks(8192, sizes) = place(5) else { panic!("{:?}", place(5)) };
    assert!(sizes.len() == 2 && sizes.iter().all(|size| *size > 0 && *size < 4096), "{sizes:?}");
    let end = 8192 + u64::from(sizes[0] + sizes[1]);
    assert_eq!(index.fragments, [FragmentBlock(0, 4096 | 1 << 24), FragmentBlock(end, 1 | 1 << 24)]);
    assert_eq!(index.length, bytes.len() as u64);
}

#[test]
fn an_index_survives_being_stored() {
    let sample = everything(&SMALL);
    for segment in segments_of(&sample) {
        let text = serde_json::to_string(&segment.index).unwrap();
        assert_eq!(serde_json::from_str::<SegmentIndex>(&text).unwrap(), segment.index);
    }
}

#[test]
fn the_first_segment_that_holds_a_content_gives_it() {
    let (shared, other) = (text(2000, 1), text(2001, 2));
    let both = segment(&contents(&[shared.clone(), other]), &SMALL, "both");
    let one = segment(&contents(std::slice::from_ref(&shared)), &SMALL, "one");
    let mut sample = Sample::new();
    sample.file("file", &shared);
    let segments = [both.0.clone(), one.0.clone()];
    let recipe = assemble(&sample.tree, &segments, &SMALL).unwrap();
    for (number, readable) in [(0, false), (1, true)] {
        let mut stored = [both.clone(), one.clone()];
        stored[number].1.fill(0xff);
        let read = check(&pour(&recipe, &stored), u64::MAX);
        assert_eq!(read.is_ok(), readable, "without segment {number}: {read:?}");
    }
    let empty = segment(&BTreeMap::new(), &SMALL, "empty");
    assert_eq!(empty.0.index.length, 0, "a segment without contents takes no place");
}

#[test]
fn a_big_directory_has_an_index_and_a_small_one_none() {
    use crate::format::squashfs::directory::{Entry, write};
    use crate::format::squashfs::layout::{METADATA_LENGTH, Position};
    use crate::format::squashfs::metadata::MetadataWriter;
    for (count, indexed) in [(10, false), (5_000, true)] {
        let names: Vec<_> = (0..count).map(|number| format!("{number:06}-{}", "x".repeat(number % 30))).collect();
        let entries: Vec<_> = (1..)
            .zip(&names)
            .map(|(number, name)| Entry {
                name: name.as_bytes(),
                number,
                inode: Position { block: number / 200, offset: 0 },
                kind: 2,
            })
            .collect();
        let mut table = MetadataWriter::new(3);
        table.write(&[0; METADATA_LENGTH - 5]).unwrap();
        let listing = write(&entries, &mut table).unwrap();
        assert_eq!(!listing.index.is_empty(), indexed);
        if indexed {
            // One entry for each metadata block that the listing goes on in.
            assert_eq!(listing.index.len(), (listing.length as usize - 5).div_ceil(METADATA_LENGTH));
        }
        for entry in &listing.index {
            let start = (METADATA_LENGTH - 5 + entry.at as usize) % METADATA_LENGTH;
            assert!(start < 300, "the run starts soon after its block does, not at byte {start}");
        }
    }
}

#[test]
fn a_content_that_no_segment_holds_is_named() {
    let mut sample = Sample::new();
    sample.file("empty", b"").file("etc", b"x");
    let error = assemble(&sample.tree, &[], &SMALL).unwrap_err();
    assert!(matches!(&error, SquashfsError::MissingContent { path: at, .. } if *at == path("etc")), "{error}");
    assert!(error.to_string().contains("`/etc`"), "{error}");
}

#[test]
fn what_squashfs_cannot_hold_is_refused_at_its_path() {
    let with = |name: &[u8], value: &[u8]| Meta { xattrs: [(name.to_vec(), value.to_vec())].into(), ..meta(0o644) };
    let cases = [
        (with(b"system.posix_acl_access", b"x"), Kind::Fifo, "system.posix_acl_access"),
        (with(b"user.", b"x"), Kind::Fifo, "empty"),
        (with(b"user.long", &[0; 65_537]), Kind::Fifo, "65536"),
        (meta(0o644), Kind::Symlink(Vec::new()), "target"),
        (meta(0o644), Kind::Symlink(vec![b'x'; 4096]), "target"),
        (meta(0o644), Kind::Block(4096, 0), "device number"),
        (meta(0o644), Kind::Character(0, 1 << 20), "device number"),
    ];
    let many: BTreeMap<_, _> =
        (0..17_u8).map(|number| ([b"user.", &[b'a' + number][..]].concat(), vec![0; 65_536])).collect();
    let cases = cases.into_iter().chain([(Meta { xattrs: many, ..meta(0o644) }, Kind::Fifo, "1 MiB")]);
    for (meta, kind, part) in cases {
        let mut sample = Sample::new();
        sample.add("here", meta, kind);
        let error = assemble(&sample.tree, &[], &SMALL).unwrap_err().to_string();
        assert!(error.contains("`/here`") && error.contains(part), "{error}");
    }
}

#[test]
fn names_of_one_file_that_differ_are_refused() {
    let mut sample = Sample::new();
    sample.links(&["a", "b"], meta(0o644), b"one");
    let content = sample.content(b"two");
    sample.add("c", meta(0o644), Kind::File(File { content, group: Some(path("a")) }));
    let error = assemble(&sample.tree, &segments_of(&sample), &SMALL).unwrap_err();
    assert!(matches!(&error, SquashfsError::UnequalLinks { path: at, .. } if *at == path("c")), "{error}");
}

#[test]
fn contents_of_another_size_are_refused() {
    for (said, has) in [(5, 4), (5, 6), (5000, 4999), (5000, 5001)] {
        let bytes = Cursor::new(vec![1; has]);
        let input = Input { digest: Digest::of(b""), size: said, bytes };
        let error = compress([input], &SMALL, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, SquashfsError::Size { size, .. } if size == said), "{said} {has}: {error}");
    }
}

#[test]
fn parameters_out_of_range_are_refused() {
    let cases = [
        Params { block_size: 1000, ..SMALL },
        Params { block_size: 2048, ..SMALL },
        Params { block_size: 1 << 21, ..SMALL },
        Params { level: 0, ..SMALL },
        Params { level: 23, ..SMALL },
    ];
    for params in cases {
        let compressed = compress(Vec::<Input<&[u8]>>::new(), &params, &mut Vec::new());
        assert!(matches!(compressed, Err(SquashfsError::Params(_))), "{params:?}");
        let assembled = assemble(&Sample::new().tree, &[], &params);
        assert!(matches!(assembled, Err(SquashfsError::Params(_))), "{params:?}");
    }
}

#[test]
fn a_broken_index_is_refused() {
    let mut sample = Sample::new();
    sample.file("small", b"small").file("large", &text(9000, 1));
    let segment = segments_of(&sample).remove(0);
    let files = contents(&[b"small".to_vec(), text(9000, 1)]);
    let whole = super::support::segment(&files, &SMALL, "whole").0;
    let (small, large) = (Digest::of(b"small"), Digest::of(&text(9000, 1)));
    /// Breaks an index; the digests are those of the small and the large file.
    type Break = fn(&mut SegmentIndex, Digest, Digest);
    let breaks: [(&str, Break); 6] = [
        ("another block size", |index, _, _| index.block_size = 8192),
        ("multiple of 4096", |index, _, _| index.length += 1),
        ("fragment block lies outside", |index, _, _| index.fragments[0].0 = u64::MAX),
        ("outside its fragment", |index, small, _| {
            index.files.get_mut(&small).unwrap().place = Placement::Fragment(1, 0)
        }),
        ("number of blocks", |index, _, large| index.files.get_mut(&large).unwrap().size = 1 << 60),
        ("blocks lie outside", |index, _, large| {
            index.files.get_mut(&large).unwrap().place = Placement::Blocks(4000, vec![4096; 3]);
        }),
    ];
    for (part, break_it) in breaks {
        let mut broken = Segment { label: "broken".into(), ..whole.clone() };
        break_it(&mut broken.index, small, large);
        let error = assemble(&sample.tree, &[segment.clone(), broken], &SMALL).unwrap_err().to_string();
        assert!(error.contains("`broken`") && error.contains(part), "{error}");
    }
}
