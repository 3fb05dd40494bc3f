//! Inodes, owners and extended attributes.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::source::{Cursor, Source, Table, lookup};
use super::{ReadError, some_index};
use crate::format::squashfs::layout::{
    METADATA_LENGTH, NO_TABLE, Position, Superblock, XATTR_BYTES_LIMIT, XATTR_COUNT_LIMIT, XATTR_OUT_OF_LINE,
    XATTR_PREFIXES, inode,
};
use crate::tree::{Meta, TreePath};

/// The longest target of a symbolic link.
const TARGET_LIMIT: u32 = 4096;

/// One name in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, from the root.
    pub path: TreePath,
    /// Owner, mode, time, attributes.
    pub meta: Meta,
    /// Number of the inode; names with the same number are one file.
    pub inode: u32,
    /// Number of names that the inode says it has.
    pub links: u32,
    /// What it is.
    pub kind: EntryKind,
}

/// What a name in an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory(Listing),
    /// A regular file.
    File(FileData),
    /// A symbolic link and its target's bytes.
    Symlink(Vec<u8>),
    /// A character device: major, minor.
    Character(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Where a directory's names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub(super) start: Position,
    /// Bytes of the listing and three more.
    pub(super) size: u32,
}

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileData {
    /// Number of bytes, as the image claims.
    pub size: u64,
    pub(super) start: u64,
    pub(super) fragment: Option<(u32, u32)>,
    /// Where in the inode table the sizes of the blocks are.
    pub(super) sizes: Position,
}

/// Little-endian numbers from a stream of metadata.
struct Fields<'a, R> {
    source: &'a mut Source<R>,
    cursor: Cursor,
}

impl<R: Read + Seek> Fields<'_, R> {
    fn u16(&mut self) -> Result<u16, ReadError> {
        self.cursor.array(self.source).map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ReadError> {
        self.cursor.array(self.source).map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ReadError> {
        self.cursor.array(self.source).map(u64::from_le_bytes)
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, ReadError> {
        self.cursor.bytes(self.source, length)
    }
}

/// Reads the inode at `place`; the name and the tables are what it needs besides.
pub(super) fn read<R: Read + Seek>(
    source: &mut Source<R>,
    table: Table,
    place: Position,
    path: TreePath,
    ids: &[u32],
    xattrs: Option<&XattrTables>,
) -> Result<Entry, ReadError> {
    let mut fields = Fields { source, cursor: Cursor::new(table, place)? };
    let kind = fields.u16()?;
    let mode = fields.u16()? & 0o7777;
    let mut owner = || {
        let place = usize::from(fields.u16()?);
        ids.get(place).copied().ok_or(ReadError::Broken("an owner is not in the table of owners"))
    };
    let (uid, gid) = (owner()?, owner()?);
    let mtime = i64::from(fields.u32()?);
    let number = fields.u32()?;
    let (basic, extended) = if kind > inode::EXTENDED { (kind - inode::EXTENDED, true) } else { (kind, false) };
    let (kind, links, set) = body(&mut fields, basic, extended)?;
    let xattrs = match (set.and_then(some_index), xattrs) {
        (None, _) => BTreeMap::new(),
        (Some(set), Some(tables)) => tables.read(fields.source, set)?,
        (Some(_), None) => return Err(ReadError::Broken("a node has attributes, and there is no table of them")),
    };
    Ok(Entry { path, meta: Meta { mode, uid, gid, mtime, xattrs }, inode: number, links, kind })
}

/// What follows an inode's common part: kind, number of links, number of the attribute set.
fn body<R: Read + Seek>(
    fields: &mut Fields<'_, R>,
    basic: u16,
    extended: bool,
) -> Result<(EntryKind, u32, Option<u32>), ReadError> {
    let set = |fields: &mut Fields<'_, R>| if extended { fields.u32().map(Some) } else { Ok(None) };
    Ok(match basic {
        inode::DIRECTORY => directory(fields, extended)?,
        inode::FILE => file(fields, extended)?,
        inode::SYMLINK => {
            let (links, length) = (fields.u32()?, fields.u32()?);
            if length > TARGET_LIMIT {
                return Err(ReadError::Broken("the target of a symbolic link is over 4096 bytes"));
            }
            let target = fields.bytes(length as usize)?;
            (EntryKind::Symlink(target), links, set(fields)?)
        }
        inode::BLOCK | inode::CHARACTER => {
            let (links, number) = (fields.u32()?, fields.u32()?);
            let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xf_ff00);
            let kind = if basic == inode::BLOCK { EntryKind::Block } else { EntryKind::Character };
            (kind(major, minor), links, set(fields)?)
        }
        inode::FIFO => (EntryKind::Fifo, fields.u32()?, set(fields)?),
        inode::SOCKET => (EntryKind::Socket, fields.u32()?, set(fields)?),
        _ => return Err(ReadError::Broken("an inode is of no known type")),
    })
}

fn directory<R: Read + Seek>(
    fields: &mut Fields<'_, R>,
    extended: bool,
) -> Result<(EntryKind, u32, Option<u32>), ReadError> {
    if extended {
        let (links, size, block, _parent) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let (_index, offset, set) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let start = Position { block, offset };
        return Ok((EntryKind::Directory(Listing { start, size }), links, Some(set)));
    }
    let (block, links, size, offset) = (fields.u32()?, fields.u32()?, fields.u16()?, fields.u16()?);
    let start = Position { block, offset };
    Ok((EntryKind::Directory(Listing { start, size: size.into() }), links, None))
}

fn file<R: Read + Seek>(
    fields: &mut Fields<'_, R>,
    extended: bool,
) -> Result<(EntryKind, u32, Option<u32>), ReadError> {
    let (start, size, links, number, offset, set) = if extended {
        let (start, size, _sparse, links) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u32()?);
        (start, size, links, fields.u32()?, fields.u32()?, Some(fields.u32()?))
    } else {
        let (start, number, offset, size) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        (start.into(), size.into(), 1, number, offset, None)
    };
    let fragment = some_index(number).map(|number| (number, offset));
    let sizes = fields.cursor.position()?;
    Ok((EntryKind::File(FileData { size, start, fragment, sizes }), links, set))
}

/// Reads the table of owners and groups; it has at most 65535 entries.
pub(super) fn read_ids<R: Read + Seek>(source: &mut Source<R>, superblock: &Superblock) -> Result<Vec<u32>, ReadError> {
    let numbers = 0..u64::from(superblock.ids);
    numbers.map(|number| lookup(source, superblock.id_table, number).map(u32::from_le_bytes)).collect()
}

/// Where the extended attributes are.
pub(super) struct XattrTables {
    /// The stream of names and values.
    pairs: Table,
    /// The list of the blocks that hold the sets.
    list: u64,
    sets: u32,
}

impl XattrTables {
    pub(super) fn open<R: Read + Seek>(
        source: &mut Source<R>,
        superblock: &Superblock,
    ) -> Result<Option<Self>, ReadError> {
        let head = superblock.xattr_table;
        if head == NO_TABLE {
            return Ok(None);
        }
        let mut bytes = [0; 16];
        source.read_at(head, &mut bytes)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, c0, c1, c2, c3, ..] = bytes;
        let start = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        if start > head {
            return Err(ReadError::Broken("its tables overlap or lie outside it"));
        }
        let pairs = Table { start, end: head };
        Ok(Some(Self { pairs, list: head + bytes.len() as u64, sets: u32::from_le_bytes([c0, c1, c2, c3]) }))
    }

    fn read<R: Read + Seek>(&self, source: &mut Source<R>, set: u32) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
        if set >= self.sets {
            return Err(ReadError::Broken("a node's attributes are not in the table of them"));
        }
        let entry: [u8; 16] = lookup(source, self.list, u64::from(set))?;
        let [r0, r1, r2, r3, r4, r5, r6, r7, c0, c1, c2, c3, ..] = entry;
        let count = u32::from_le_bytes([c0, c1, c2, c3]);
        if count as usize > XATTR_COUNT_LIMIT {
            return Err(ReadError::Broken("a node has over 1024 attributes"));
        }
        let cursor = self.cursor(u64::from_le_bytes([r0, r1, r2, r3, r4, r5, r6, r7]))?;
        let mut fields = Fields { source, cursor };
        let mut xattrs = BTreeMap::new();
        let mut total = 0;
        for _ in 0..count {
            let (kind, length) = (fields.u16()?, fields.u16()?);
            let prefix = XATTR_PREFIXES.get(usize::from(kind & !XATTR_OUT_OF_LINE));
            let prefix = prefix.ok_or(ReadError::Broken("an attribute is of no known type"))?;
            if usize::from(length) > METADATA_LENGTH {
                return Err(ReadError::Broken("the name of an attribute is over 8192 bytes"));
            }
            let name = [prefix.to_vec(), fields.bytes(length.into())?].concat();
            let value = self.value(&mut fields, kind & XATTR_OUT_OF_LINE != 0)?;
            total += name.len() + value.len();
            if total > XATTR_BYTES_LIMIT {
                return Err(ReadError::Broken("the attributes of a node are over 1 MiB"));
            }
            xattrs.insert(name, value);
        }
        Ok(xattrs)
    }

    fn value<R: Read + Seek>(&self, fields: &mut Fields<'_, R>, elsewhere: bool) -> Result<Vec<u8>, ReadError> {
        let length = fields.u32()? as usize;
        if length > XATTR_BYTES_LIMIT {
            return Err(ReadError::Broken("the attributes of a node are over 1 MiB"));
        }
        if !elsewhere {
            return fields.bytes(length);
        }
        // Then the value here is a reference to the one that counts, with its own length.
        let mut there = Fields { cursor: self.cursor(fields.u64()?)?, source: &mut *fields.source };
        let length = there.u32()? as usize;
        if length > XATTR_BYTES_LIMIT {
            return Err(ReadError::Broken("the attributes of a node are over 1 MiB"));
        }
        there.bytes(length)
    }

    fn cursor(&self, reference: u64) -> Result<Cursor, ReadError> {
        let place = Position::from_reference(reference);
        Cursor::new(self.pairs, place.ok_or(ReadError::Broken("an attribute lies outside the table of them"))?)
    }
}
