//! An image from a tree and the segments that hold its contents.
//!
//! Inodes are numbered in tree order. They are written directory by directory, the last directory of the tree first,
//! so that what a directory names lies together and is already written when its listing is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::digest::Digest;
use crate::format::{Bytes, Recipe};
use crate::tree::{File, Kind, Node, Tree, TreePath};

use super::directory::{self, Entry, Listing};
use super::inode::{self, Body, Common};
use super::layout::{self, COMPRESSOR_ZSTD, NO_TABLE, Position, Record, STORED_METADATA, Superblock, flag};
use super::metadata::{MetadataWriter, lookup_table};
use super::segment::{FragmentBlock, Placed, Placement, SegmentIndex};
use super::xattr::XattrTable;
use super::{ALIGNMENT, Params, SquashfsError};

/// The longest target of a symbolic link: `PATH_MAX` without its NUL.
const TARGET_LIMIT: usize = 4095;

/// A segment as a store holds it.
#[derive(Clone, Debug)]
pub struct Segment {
    /// What lies where in it.
    pub index: SegmentIndex,
    /// The object that is its bytes, `index.length` of them.
    pub object: Digest,
    /// Whose contents it holds, for the recipe.
    pub label: Arc<str>,
}

/// The recipe of the image that shows `tree`, with the contents of `segments` in their order.
///
/// A content that several segments hold is taken from the first. Every segment is part of the image, needed or not.
/// The recipe's length is a multiple of [`ALIGNMENT`], and each segment starts at one.
///
/// # Errors
/// When no segment holds a content, a segment's index is broken or made with another block size, or the tree has
/// something that squashfs cannot hold.
pub fn assemble(tree: &Tree, segments: &[Segment], params: &Params) -> Result<Recipe, SquashfsError> {
    params.check()?;
    let contents = Contents::lay(segments, params.block_size)?;
    Tables::write(tree, &contents, params)?.finish(segments)
}

/// Every content's place in the image.
struct Contents<'a> {
    /// Start of the content's segment, number of that segment's first fragment block, and the place in the segment.
    places: BTreeMap<Digest, (u64, u32, &'a Placed)>,
    fragments: Vec<FragmentBlock>,
    /// Where the last segment ends.
    end: u64,
}

impl<'a> Contents<'a> {
    fn lay(segments: &'a [Segment], block_size: u32) -> Result<Self, SquashfsError> {
        let mut contents = Self { places: BTreeMap::new(), fragments: Vec::new(), end: ALIGNMENT };
        for segment in segments {
            let index = &segment.index;
            check_index(index, block_size)
                .map_err(|what| SquashfsError::Index { label: segment.label.to_string(), what })?;
            let first = u32::try_from(contents.fragments.len() + index.fragments.len())
                .map_err(|_| SquashfsError::TooMuch("over 2^32 fragment blocks"))?
                - index.fragments.len() as u32;
            for (digest, placed) in &index.files {
                contents.places.entry(*digest).or_insert((contents.end, first, placed));
            }
            let start = contents.end;
            contents.fragments.extend(index.fragments.iter().map(|block| FragmentBlock(start + block.0, block.1)));
            contents.end = start
                .checked_add(index.length)
                .filter(|end| *end < 1 << 62)
                .ok_or(SquashfsError::TooMuch("segments of over 2^62 bytes"))?;
        }
        Ok(contents)
    }
}

/// Holds an index to what the image relies on.
fn check_index(index: &SegmentIndex, block_size: u32) -> Result<(), &'static str> {
    let stored = |size: u32| u64::from(size & !layout::STORED_BLOCK);
    let inside = |start: u64, length: u64| start.checked_add(length).is_some_and(|end| end <= index.length);
    if index.block_size != block_size {
        return Err("it was made with another block size");
    }
    if !index.length.is_multiple_of(ALIGNMENT) {
        return Err("its length is no multiple of 4096");
    }
    if !index.fragments.iter().all(|block| inside(block.0, stored(block.1))) {
        return Err("a fragment block lies outside the segment");
    }
    for placed in index.files.values() {
        match &placed.place {
            Placement::Blocks(start, sizes) => {
                if sizes.len() as u64 != placed.size.div_ceil(u64::from(block_size)) {
                    return Err("a content has another number of blocks than its size asks for");
                }
                if !inside(*start, sizes.iter().map(|size| stored(*size)).sum()) {
                    return Err("a content's blocks lie outside the segment");
                }
            }
            Placement::Fragment(number, offset) => {
                if *number as usize >= index.fragments.len() || u64::from(*offset) + placed.size > block_size.into() {
                    return Err("a content lies outside its fragment block");
                }
            }
        }
    }
    Ok(())
}

/// One node on its way into the tables.
struct Item<'a> {
    path: &'a TreePath,
    node: &'a Node,
    /// Inode number; names of one file share it.
    number: u32,
    /// Inode number of the directory above.
    parent: u32,
    /// Names of the file, or `.`, the name and each child's `..` of a directory.
    links: u32,
    /// Places of the children among the items; of directories only.
    children: Vec<usize>,
}

/// Numbers the nodes in tree order; also returns the number of inodes.
fn number(tree: &Tree) -> Result<(Vec<Item<'_>>, u32), SquashfsError> {
    let mut items: Vec<Item<'_>> = Vec::with_capacity(tree.len());
    let mut groups: BTreeMap<&TreePath, Vec<usize>> = BTreeMap::new();
    // The directories from the root to the last node, as places among the items.
    let mut above: Vec<usize> = Vec::new();
    let mut inodes = 0_u32;
    for (path, node) in tree.iter() {
        while above.last().is_some_and(|at| !path.starts_with(items[*at].path)) {
            above.pop();
        }
        let at = items.len();
        let is_directory = node.kind.is_directory();
        let parent = above.last().map_or(0, |above| items[*above].number);
        if let Some(above) = above.last() {
            items[*above].children.push(at);
            items[*above].links += u32::from(is_directory);
        }
        let group = match &node.kind {
            Kind::File(File { group: Some(group), .. }) => Some(groups.entry(group).or_default()),
            _ => None,
        };
        let first = group.as_ref().and_then(|members| members.first().copied());
        if let Some(members) = group {
            members.push(at);
        }
        let number = match first {
            Some(first) if items[first].node.meta != node.meta || items[first].node.content() != node.content() => {
                return Err(SquashfsError::UnequalLinks { path: path.clone(), first: items[first].path.clone() });
            }
            Some(first) => items[first].number,
            None => {
                inodes = inodes.checked_add(1).ok_or(SquashfsError::TooMuch("over 2^32 inodes"))?;
                inodes
            }
        };
        let links = if is_directory { 2 } else { 1 };
        items.push(Item { path, node, number, parent, links, children: Vec::new() });
        if is_directory {
            above.push(at);
        }
    }
    for members in groups.values() {
        for member in members {
            items[*member].links = members.len() as u32;
        }
    }
    // The kernel asks nothing of the root's parent; mksquashfs gives it the first unused number.
    items[0].parent = inodes.wrapping_add(1);
    Ok((items, inodes))
}

struct Tables<'a> {
    params: &'a Params,
    contents: &'a Contents<'a>,
    ids: BTreeMap<u32, u16>,
    inodes: MetadataWriter,
    directories: MetadataWriter,
    xattrs: XattrTable,
    /// Where each inode is, by its number less one.
    places: Vec<Option<Position>>,
}

impl<'a> Tables<'a> {
    fn write(tree: &Tree, contents: &'a Contents<'a>, params: &'a Params) -> Result<Self, SquashfsError> {
        let (items, count) = number(tree)?;
        let mut tables = Self {
            params,
            contents,
            ids: number_ids(tree)?,
            inodes: MetadataWriter::new(params.level),
            directories: MetadataWriter::new(params.level),
            xattrs: XattrTable::new(params.level),
            places: vec![None; count as usize],
        };
        // Listings of directories whose inode is not written yet, by place among the items.
        let mut listings: BTreeMap<usize, Listing> = BTreeMap::new();
        for (at, directory) in items.iter().enumerate().rev().filter(|(_, item)| item.node.kind.is_directory()) {
            let mut entries = Vec::with_capacity(directory.children.len());
            for child in &directory.children {
                let item = &items[*child];
                // What is no directory has no listing, and none is looked at.
                let inode = tables.inode(item, &listings.remove(child).unwrap_or_default())?;
                entries.push(Entry {
                    name: item.path.name(),
                    number: item.number,
                    inode,
                    kind: kind_number(item.node),
                });
            }
            listings.insert(at, directory::write(&entries, &mut tables.directories)?);
        }
        tables.inode(&items[0], &listings.remove(&0).unwrap_or_default())?;
        Ok(tables)
    }

    /// Writes the inode of `item` unless another name of it already has, and returns where it is.
    fn inode(&mut self, item: &Item<'_>, listing: &Listing) -> Result<Position, SquashfsError> {
        let slot = item.number as usize - 1;
        if let Some(place) = self.places[slot] {
            return Ok(place);
        }
        let meta = &item.node.meta;
        let owner = (self.ids[&meta.uid], self.ids[&meta.gid]);
        let xattrs = self.xattrs.add(item.path, item.node)?;
        let place = self.inodes.position()?;
        let body = self.body(item, listing)?;
        self.inodes.write(&inode::encode(&Common { meta, owner, number: item.number, xattrs }, &body))?;
        self.places[slot] = Some(place);
        Ok(place)
    }

    fn body<'b>(&self, item: &'b Item<'_>, listing: &'b Listing) -> Result<Body<'b>, SquashfsError>
    where
        'a: 'b,
    {
        let refuse = |why| SquashfsError::Node { path: item.path.clone(), why };
        let kind = kind_number(item.node);
        Ok(match &item.node.kind {
            Kind::Directory => Body::Directory { listing, links: item.links, parent: item.parent },
            Kind::File(file) => self.file(item, file)?,
            Kind::Symlink(target) if target.is_empty() || target.len() > TARGET_LIMIT => {
                return Err(refuse("the target of the symbolic link is empty or longer than 4095 bytes"));
            }
            Kind::Symlink(target) => Body::Symlink(target),
            Kind::Character(major, minor) | Kind::Block(major, minor) => {
                let number = device_number(*major, *minor)
                    .ok_or_else(|| refuse("the device number is over 4095 (major) or 1048575 (minor)"))?;
                Body::Device(kind, number)
            }
            Kind::Fifo | Kind::Socket => Body::Endpoint(kind),
        })
    }

    fn file(&self, item: &Item<'_>, file: &File) -> Result<Body<'a>, SquashfsError> {
        let (size, block_size, links) = (file.content.size, self.params.block_size, item.links);
        if size == 0 {
            return Ok(Body::File { start: 0, size, block_size, sizes: &[], fragment: None, links });
        }
        let digest = file.content.digest;
        let (start, first, placed) = self
            .contents
            .places
            .get(&digest)
            .ok_or_else(|| SquashfsError::MissingContent { path: item.path.clone(), digest })?;
        if placed.size != size {
            let why = "the tree and the segment give its content different sizes";
            return Err(SquashfsError::Node { path: item.path.clone(), why });
        }
        Ok(match &placed.place {
            Placement::Blocks(offset, sizes) => {
                Body::File { start: start + offset, size, block_size, sizes, fragment: None, links }
            }
            Placement::Fragment(number, offset) => {
                Body::File { start: 0, size, block_size, sizes: &[], fragment: Some((first + number, *offset)), links }
            }
        })
    }

    /// Puts superblock, segments and tables in their order, which is that of mksquashfs: the kernel checks each
    /// table's end against the start of the next.
    fn finish(self, segments: &[Segment]) -> Result<Recipe, SquashfsError> {
        let level = self.params.level;
        let references: Vec<u64> = self.places.iter().flatten().map(|place| place.reference()).collect();
        let root = references.first().copied().unwrap_or(0);
        let inode_table = self.contents.end;
        let (inodes, _) = self.inodes.finish()?;
        let directory_table = inode_table + inodes.len() as u64;
        let (directories, _) = self.directories.finish()?;

        let mut base = directory_table + directories.len() as u64;
        let mut lookup = |entries: Record| {
            let (bytes, list) = lookup_table(&entries.0, base, level)?;
            base += bytes.len() as u64;
            Ok::<_, SquashfsError>((bytes, list))
        };
        let mut fragments = Record::default();
        for FragmentBlock(start, size) in &self.contents.fragments {
            fragments.u64(*start).u32(*size).u32(0);
        }
        let mut exports = Record::default();
        for reference in &references {
            exports.u64(*reference);
        }
        let mut ids = Record::default();
        for id in self.ids.keys() {
            ids.u32(*id);
        }
        let (fragments, fragment_table) = lookup(fragments)?;
        let (exports, export_table) = lookup(exports)?;
        let (ids, id_table) = lookup(ids)?;
        let (xattrs, xattr_table) = self.xattrs.finish(base)?.unwrap_or((Vec::new(), NO_TABLE));

        let superblock = Superblock {
            inodes: references.len() as u32,
            time: self.params.time,
            block_size: self.params.block_size,
            fragments: self.contents.fragments.len() as u32,
            compressor: COMPRESSOR_ZSTD,
            block_log: self.params.block_size.ilog2() as u16,
            flags: flag::DUPLICATES | flag::EXPORTABLE | flag::COMPRESSOR_OPTIONS,
            ids: self.ids.len() as u16,
            version: (4, 0),
            root,
            bytes_used: base + xattrs.len() as u64,
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            fragment_table,
            export_table,
        };
        // The options are a metadata block of their own: the level, stored as it is.
        let mut head = Record(superblock.encode());
        head.u16(4 | STORED_METADATA).u32(level as u32);

        let mut recipe = Recipe::new();
        recipe.literal(head.0, "squashfs superblock");
        recipe.pad_to(ALIGNMENT, "squashfs padding");
        for Segment { index, object, label } in segments {
            recipe.push(Bytes::Object { object: *object, offset: 0, length: index.length }, label.clone());
        }
        for (bytes, origin) in [
            (inodes, "squashfs inode table"),
            (directories, "squashfs directory table"),
            (fragments, "squashfs fragment table"),
            (exports, "squashfs export table"),
            (ids, "squashfs id table"),
            (xattrs, "squashfs attribute tables"),
        ] {
            recipe.literal(bytes, origin);
        }
        recipe.pad_to(ALIGNMENT, "squashfs padding");
        Ok(recipe)
    }
}

/// Numbers the owners and groups of `tree`, smallest first.
fn number_ids(tree: &Tree) -> Result<BTreeMap<u32, u16>, SquashfsError> {
    let ids: BTreeSet<u32> = tree.iter().flat_map(|(_, node)| [node.meta.uid, node.meta.gid]).collect();
    if ids.len() > usize::from(u16::MAX) {
        return Err(SquashfsError::TooMuch("over 65535 different owners and groups"));
    }
    Ok(ids.into_iter().zip(0..).collect())
}

fn kind_number(node: &Node) -> u16 {
    use super::layout::inode;
    match node.kind {
        Kind::Directory => inode::DIRECTORY,
        Kind::File(_) => inode::FILE,
        Kind::Symlink(_) => inode::SYMLINK,
        Kind::Block(..) => inode::BLOCK,
        Kind::Character(..) => inode::CHARACTER,
        Kind::Fifo => inode::FIFO,
        Kind::Socket => inode::SOCKET,
    }
}

/// A device number as the kernel's `new_encode_dev` packs it; none when a part is too large.
fn device_number(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}
