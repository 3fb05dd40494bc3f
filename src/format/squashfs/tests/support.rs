//! Trees with contents in memory, and images of them.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::digest::Digest;
use crate::format::squashfs::read::{EntryKind, Image};
use crate::format::squashfs::{Input, Params, Segment, SegmentIndex, assemble, compress};
use crate::format::{Bytes, Recipe};
use crate::tree::{Content, File, Kind, Meta, Node, Origin, Places, Tree, TreePath, write_dump};

/// A small block size, so that small contents cross block boundaries.
pub(super) const SMALL: Params = Params { level: 3, block_size: 4096, time: 1_700_000_000 };

pub(super) fn path(text: impl AsRef<[u8]>) -> TreePath {
    TreePath::parse(text).unwrap()
}

/// A tree and the bytes of its files.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub tree: Tree,
    pub contents: BTreeMap<Digest, Vec<u8>>,
}

impl Sample {
    pub(super) fn new() -> Self {
        let root = Node::new(meta(0o755), Kind::Directory, Origin::Built("test".into()));
        Self { tree: Tree::new(root), contents: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, at: impl AsRef<[u8]>, meta: Meta, kind: Kind) -> &mut Self {
        self.tree.insert(path(at), Node::new(meta, kind, Origin::Built("test".into()))).unwrap();
        self
    }

    pub(super) fn directory(&mut self, at: impl AsRef<[u8]>) -> &mut Self {
        self.add(at, meta(0o755), Kind::Directory)
    }

    pub(super) fn content(&mut self, bytes: &[u8]) -> Content {
        let content = Content::whole(Digest::of(bytes), bytes.len() as u64);
        self.contents.insert(content.digest, bytes.to_vec());
        content
    }

    pub(super) fn file(&mut self, at: impl AsRef<[u8]>, bytes: &[u8]) -> &mut Self {
        let content = self.content(bytes);
        self.add(at, meta(0o644), Kind::file(content))
    }

    pub(super) fn links(&mut self, names: &[&str], meta: Meta, bytes: &[u8]) -> &mut Self {
        let content = self.content(bytes);
        for name in names {
            let file = File { content, group: Some(path(names[0])) };
            self.add(name, meta.clone(), Kind::File(file));
        }
        self
    }

    /// The contents in `count` segments.
    pub(super) fn segments(&self, params: &Params, count: usize) -> Vec<(Segment, Vec<u8>)> {
        let contents: Vec<_> = self.contents.iter().collect();
        let size = contents.len().div_ceil(count).max(1);
        let groups = contents.chunks(size).enumerate();
        groups.map(|(number, group)| segment(group.iter().copied(), params, &format!("segment {number}"))).collect()
    }

    /// The image, made of two segments.
    pub(super) fn image(&self, params: &Params) -> Vec<u8> {
        let segments = self.segments(params, 2);
        let recipe = assemble(&self.tree, &segments.iter().map(|pair| pair.0.clone()).collect::<Vec<_>>(), params);
        pour(&recipe.unwrap(), &segments)
    }
}

pub(super) fn meta(mode: u16) -> Meta {
    Meta { mtime: 1_600_000_000, ..Meta::root_owned(mode) }
}

pub(super) fn inputs<'a>(
    contents: impl IntoIterator<Item = (&'a Digest, &'a Vec<u8>)>,
) -> impl Iterator<Item = Input<Cursor<&'a [u8]>>> {
    contents.into_iter().map(|(digest, bytes)| Input {
        digest: *digest,
        size: bytes.len() as u64,
        bytes: Cursor::new(bytes.as_slice()),
    })
}

pub(super) fn segment<'a>(
    contents: impl IntoIterator<Item = (&'a Digest, &'a Vec<u8>)>,
    params: &Params,
    label: &str,
) -> (Segment, Vec<u8>) {
    let mut bytes = Vec::new();
    let index: SegmentIndex = compress(inputs(contents), params, &mut bytes).unwrap();
    assert_eq!(index.length, bytes.len() as u64);
    (Segment { index, object: Digest::of(&bytes), label: label.into() }, bytes)
}

/// What a store does with a recipe.
pub(super) fn pour(recipe: &Recipe, segments: &[(Segment, Vec<u8>)]) -> Vec<u8> {
    let mut image = Vec::new();
    for piece in recipe.pieces() {
        match &piece.bytes {
            Bytes::Literal(bytes) => image.extend_from_slice(bytes),
            Bytes::Zeros(length) => image.resize(image.len() + *length as usize, 0),
            Bytes::Recipe(inner) => image.extend(pour(inner, segments)),
            Bytes::Object { object, offset, length } => {
                let (_, bytes) = segments.iter().find(|(segment, _)| segment.object == *object).unwrap();
                image.extend_from_slice(&bytes[*offset as usize..][..*length as usize]);
            }
        }
    }
    assert_eq!(image.len() as u64, recipe.length());
    image
}

/// Bytes that compress, unlike for each seed.
pub(super) fn text(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761);
    let mut step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    (0..length).map(|_| b"etaoin shrdlu\n"[step() as usize % 14]).collect()
}

/// Bytes that do not compress.
pub(super) fn noise(length: usize, seed: u32) -> Vec<u8> {
    let blocks =
        (0_u32..).flat_map(|block| *Digest::of(&[seed.to_le_bytes(), block.to_le_bytes()].concat()).as_bytes());
    blocks.take(length).collect()
}

/// A tree with every kind of node, every size at a block's edge, attributes, owners and hard links.
pub(super) fn everything(params: &Params) -> Sample {
    let block = params.block_size as usize;
    let mut sample = Sample::new();
    sample.directory("sizes").directory("empty").directory("dev").directory("deep").directory("deep/er");
    for (number, size) in [0, 1, block - 1, block, block + 1, 3 * block, 3 * block + 7].into_iter().enumerate() {
        sample.file(format!("sizes/text-{size}"), &text(size, number as u32));
        sample.file(format!("sizes/noise-{size}"), &noise(size, number as u32));
        sample.file(format!("sizes/zero-{size}"), &vec![0; size]);
    }
    let mut sparse = vec![0; 5 * block + 100];
    sparse[2 * block..3 * block].fill(7);
    sample.file("deep/er/sparse", &sparse).file("deep/er/copy", &sparse);
    let attributes = [(&b"security.capability"[..], &b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..])];
    let with = |meta: Meta, pairs: &[(&[u8], &[u8])]| Meta {
        xattrs: pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        ..meta
    };
    let ping = sample.content(b"ping");
    sample.add("deep/ping", with(meta(0o755), &attributes), Kind::file(ping));
    sample.add("deep/ping2", with(meta(0o4755), &attributes), Kind::file(ping));
    let several: [(&[u8], &[u8]); 3] = [(b"trusted.a", b""), (b"user.b", b"\0\xff"), (b"user.c", &[b'x'; 3000])];
    sample.add("deep/several", with(Meta { uid: 1000, gid: 70_000, ..meta(0o600) }, &several), Kind::file(ping));
    sample.add("attributed", with(meta(0o1777), &several[..1]), Kind::Directory);
    sample.add("dev/null", meta(0o666), Kind::Character(1, 3));
    sample.add("dev/big", with(meta(0o660), &several[..1]), Kind::Block(4095, 1_048_575));
    sample.add("dev/pipe", meta(0o600), Kind::Fifo);
    sample.add("dev/socket", Meta { uid: u32::MAX - 1, ..meta(0o755) }, Kind::Socket);
    sample.add("link", meta(0o777), Kind::Symlink(b"deep/er/../ping".to_vec()));
    sample.add("link2", with(meta(0o777), &attributes), Kind::Symlink(vec![b'x'; 4000]));
    sample.links(&["deep/one", "deep/er/two", "three"], Meta { mtime: -5, ..meta(0o640) }, &text(9000, 99));
    sample.links(&["deep/lone"], meta(0o640), b"lone");
    sample.file(b"bytes \xff\n\t", b"odd name");
    sample.file("n".repeat(255), b"long name");
    sample
}

/// A folder of one test, and the image in it.
pub(super) fn write_image(image: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.squashfs");
    std::fs::write(&file, image).unwrap();
    (folder, file)
}

/// Runs a tool and returns what it printed.
pub(super) fn run(program: &str, arguments: &[&Path]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {}\n{shown}", output.status);
    output.stdout
}

/// The tree that an image of `tree` shows: times as squashfs can hold them, hard links named by their first name,
/// a file with one name no hard link.
pub(super) fn shown(tree: &Tree) -> Tree {
    let mut groups: BTreeMap<TreePath, Vec<TreePath>> = BTreeMap::new();
    for (path, node) in tree.iter() {
        if let Kind::File(File { group: Some(group), .. }) = &node.kind {
            groups.entry(group.clone()).or_default().push(path.clone());
        }
    }
    let mut tree = tree.clone();
    for (_, node) in tree.iter_mut() {
        node.meta.mtime = node.meta.mtime.clamp(0, u32::MAX.into());
        if let Kind::File(file) = &mut node.kind {
            let names = file.group.as_ref().and_then(|group| groups.get(group));
            file.group = names.filter(|names| names.len() > 1).map(|names| names[0].clone());
        }
    }
    tree
}

/// The tree and the contents that the own reader finds in an image.
pub(super) fn read_back(image: &[u8]) -> Sample {
    let mut opened = Image::open(Cursor::new(image)).unwrap();
    let mut found = Sample::new();
    let mut first_names: BTreeMap<u32, TreePath> = BTreeMap::new();
    let mut walk = opened.walk();
    while let Some(entry) = walk.next() {
        let entry = entry.unwrap();
        let kind = match entry.kind {
            EntryKind::File(data) => {
                let mut bytes = Vec::new();
                walk.image().read_file(&data, &mut bytes).unwrap();
                assert_eq!(bytes.len() as u64, data.size, "{:?}", entry.path);
                let group = first_names.entry(entry.inode).or_insert_with(|| entry.path.clone()).clone();
                Kind::File(File { content: found.content(&bytes), group: Some(group).filter(|_| entry.links > 1) })
            }
            EntryKind::Directory(_) => Kind::Directory,
            EntryKind::Symlink(target) => Kind::Symlink(target),
            EntryKind::Character(major, minor) => Kind::Character(major, minor),
            EntryKind::Block(major, minor) => Kind::Block(major, minor),
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Socket => Kind::Socket,
        };
        found.add(entry.path.as_bytes(), entry.meta, kind);
    }
    found
}

/// Holds what an image shows against what it was made from.
pub(super) fn assert_shows(image: &[u8], sample: &Sample) {
    let found = read_back(image);
    let (found_text, expected) =
        (write_dump(&found.tree, Places::Left), write_dump(&shown(&sample.tree), Places::Left));
    for (found, expected) in found_text.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found_text.len(), expected.len());
}
