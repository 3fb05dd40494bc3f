//! The root: one read-only squashfs, sealed with dm-verity.
//!
//! Segments (the compressed files of one origin) and the dm-verity leaves of each are steps of their own: what the
//! store has is not compressed or hashed again, whichever role or build made it.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher, Key};
use crate::format::squashfs::{self, Params, Segment, SegmentIndex};
use crate::format::{Bytes, Recipe, verity};
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::store::{ContentReader, Store};
use crate::tree::{Content, Tree, TreePath};

use super::group;

/// Version of what squashfs segments hold for the same contents (a format break).
const SEGMENT_VERSION: u32 = 1;

/// Version of dm-verity leaves.
const LEAVES_VERSION: u32 = 1;

/// The constant salt of every root: blocks that did not change keep their hashes.
pub const SALT: [u8; 32] = *b"rolecast: salt of sealed roots 1";

/// A sealed root.
#[derive(Clone, Debug)]
pub struct Root {
    /// The squashfs.
    pub squashfs: Recipe,
    /// The dm-verity superblock and hash tree.
    pub hash_area: Recipe,
    /// The root hash that the kernel command line names.
    pub root_hash: Digest,
}

#[derive(Serialize, Deserialize)]
struct StoredSegment {
    object: Digest,
    index: SegmentIndex,
}

/// The tree that a sealed root shows: without the contents of `/boot`, where the ESP is mounted.
pub fn sealed_tree(tree: &Tree) -> Tree {
    let mut sealed = tree.clone();
    let boot = TreePath::parse("boot").unwrap_or_default();
    let inside: Vec<TreePath> =
        tree.below(&boot).filter(|(path, _)| **path != boot).map(|(path, _)| path.clone()).collect();
    for path in &inside {
        sealed.remove(path);
    }
    sealed
}

/// Presses a tree into a sealed root. `layers` names the role's layers, lowest first.
///
/// # Errors
/// When a content is missing from the store, or the store cannot be written.
pub fn press(
    tree: &Tree,
    layers: &[String],
    epoch: i64,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Root, Report> {
    let params = Params { time: u32::try_from(epoch).unwrap_or(0), ..Params::default() };
    let groups = group::groups(tree, layers, |_, node| node.content().is_some());
    let contents = group::contents(&groups);
    let total = contents.iter().flat_map(|(_, contents)| contents).map(|content| content.size).sum();
    let task = progress.begin("compress", total, Unit::Bytes);
    let segments: Result<Vec<Segment>, Report> = contents
        .par_iter()
        .map(|(label, contents)| {
            let segment = segment(store, label, contents, &params);
            task.advance(contents.iter().map(|content| content.size).sum());
            segment
        })
        .collect();
    drop(task);
    let squashfs = squashfs::assemble(tree, &segments?, &params).map_err(internal)?;
    let leaves = leaves(store, &squashfs)?;
    let seal = verity::build(&leaves, &SALT, uuid(&leaves)).map_err(internal)?;
    let mut hash_area = Recipe::new();
    hash_area.literal(seal.hash_area, "dm-verity hash tree");
    Ok(Root { squashfs, hash_area, root_hash: seal.root_hash })
}

fn internal(error: impl std::fmt::Display) -> Report {
    Diagnostic::error(Kind::Internal, error.to_string()).into()
}

/// The verity superblock's UUID: version 8 (RFC 9562), from what is sealed.
fn uuid(leaves: &[u8]) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&Digest::of(leaves).as_bytes()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

fn segment(store: &Store, label: &str, contents: &[Content], params: &Params) -> Result<Segment, Report> {
    let mut listed = Hasher::new();
    for content in contents {
        listed.update(content.digest.as_bytes());
        listed.update(&content.size.to_le_bytes());
    }
    let key = Key::new("squashfs.segment", SEGMENT_VERSION)
        .input("level", params.level)
        .input("block size", params.block_size)
        .input("contents", listed.finish());
    let made = match store.result::<StoredSegment>(&key)? {
        Some(made) => made,
        None => compress(store, contents, params, &key)?,
    };
    Ok(Segment { index: made.index, object: made.object, label: label.into() })
}

fn compress(store: &Store, contents: &[Content], params: &Params, key: &Key) -> Result<StoredSegment, Report> {
    let mut writer = store.writer()?;
    let inputs = contents.iter().map(|content| squashfs::Input {
        digest: content.digest,
        size: content.size,
        bytes: LazyReader { store, content: *content, reader: None },
    });
    let index = squashfs::compress(inputs, params, &mut writer)
        .map_err(|error| Report::from(Diagnostic::error(Kind::World, describe(&error))))?;
    let (object, _) = writer.finish()?;
    let made = StoredSegment { object, index };
    store.record(key, vec![object], &made)?;
    Ok(made)
}

/// An error with what caused it, on one line.
fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", describe(source)),
        None => error.to_string(),
    }
}

/// Opens its object when it is first read, so that a group of thousands of files does not hold as many open.
struct LazyReader<'a> {
    store: &'a Store,
    content: Content,
    reader: Option<ContentReader<'a>>,
}

impl std::io::Read for LazyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.reader.is_none() {
            self.reader = Some(self.store.reader(&self.content).map_err(std::io::Error::other)?);
        }
        self.reader.as_mut().map_or(Ok(0), |reader| reader.read(buffer))
    }
}

/// The dm-verity leaves of the whole squashfs. Those of a stored object that covers whole blocks come from the
/// store; the others are made here.
fn leaves(store: &Store, squashfs: &Recipe) -> Result<Vec<u8>, Report> {
    let mut leaves = Vec::with_capacity(usize::try_from(squashfs.length() / 128).unwrap_or(0));
    let mut loose = Recipe::new();
    for piece in squashfs.pieces() {
        match &piece.bytes {
            Bytes::Object { object, offset: 0, length }
                if length.is_multiple_of(squashfs::ALIGNMENT) && loose.length().is_multiple_of(squashfs::ALIGNMENT) =>
            {
                leaves.extend(leaves_of(store, &std::mem::take(&mut loose))?);
                leaves.extend(object_leaves(store, object, *length)?);
            }
            bytes => loose.push(bytes.clone(), piece.origin.clone()),
        }
    }
    leaves.extend(leaves_of(store, &loose)?);
    Ok(leaves)
}

fn object_leaves(store: &Store, object: &Digest, length: u64) -> Result<Vec<u8>, Report> {
    let key = Key::new("verity.leaves", LEAVES_VERSION)
        .input("salt", Digest::of(&SALT))
        .input("object", object)
        .input("length", length);
    if let Some((stored, size)) = store.result::<(Digest, u64)>(&key)? {
        return Ok(store.read(&Content::whole(stored, size))?);
    }
    let mut recipe = Recipe::new();
    recipe.push(Bytes::Object { object: *object, offset: 0, length }, Arc::from("segment"));
    let leaves = leaves_of(store, &recipe)?;
    let stored = store.put(&leaves)?;
    store.record(&key, vec![*object, stored], &(stored, leaves.len() as u64))?;
    Ok(leaves)
}

fn leaves_of(store: &Store, recipe: &Recipe) -> Result<Vec<u8>, Report> {
    let mut leaves = verity::Leaves::new(&SALT);
    store.feed(recipe, &mut |bytes| leaves.update(bytes))?;
    leaves.finish().map_err(internal)
}
