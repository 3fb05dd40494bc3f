//! Reads squashfs 4.0 images with zstd, from whoever made them.
//!
//! An image may be hostile. Whatever it says is checked before it is believed: each read stays inside its table and
//! the image, no allocation follows a length that the image claims beyond a block, directories are walked with a stack
//! and a bound on names, and a directory is entered once. Errors say what is wrong; nothing panics.

mod directory;
mod inode;
mod source;
mod walk;

pub use inode::{Entry, EntryKind, FileData, Listing};
pub use walk::{Summary, Walk, check};

use std::io::{self, Read, Seek, Write};

use crate::tree::{PathError, TreePath};

use super::layout::{COMPRESSOR_ZSTD, NO_INDEX, NO_TABLE, Position, STORED_BLOCK, SUPERBLOCK_LENGTH, Superblock};
use source::{Cursor, Source, Table};

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes could not be read.
    #[error("cannot read the squashfs image")]
    Read(#[source] io::Error),
    /// The bytes are no squashfs image.
    #[error("this is no squashfs image: its first four bytes are not `hsqs`")]
    NoSquashfs,
    /// An image of a kind that this reader does not know.
    #[error("this squashfs image cannot be read: {0}")]
    Unsupported(&'static str),
    /// The image contradicts itself.
    #[error("the squashfs image is broken: {0}")]
    Broken(&'static str),
    /// A block does not decompress.
    #[error("the squashfs image is broken: the block at byte {at} does not decompress")]
    Decompress {
        /// Where the block is in the image.
        at: u64,
        /// What zstd says.
        source: io::Error,
    },
    /// A name that no path can hold.
    #[error("the squashfs image is broken: it holds an impossible name")]
    Name(#[from] PathError),
    /// More names and attributes than the reader takes.
    #[error("the squashfs image names more files and attributes than any root file system should")]
    TooManyNames,
    /// A file's bytes could not be passed on.
    #[error("cannot write the file's bytes")]
    Write(#[source] io::Error),
}

/// An open image.
pub struct Image<R> {
    source: Source<R>,
    superblock: Superblock,
    ids: Vec<u32>,
    /// The two tables of the attributes, when there are any.
    xattrs: Option<inode::XattrTables>,
    /// The uncompressed fragment block that was used last, and where it is.
    fragment: Option<(u64, Vec<u8>)>,
}

impl<R: Read + Seek> Image<R> {
    /// Opens the image that `bytes` starts with; zeros or other bytes may follow it.
    ///
    /// # Errors
    /// When this is no squashfs 4.0 image with zstd, or its tables do not lie inside it.
    pub fn open(bytes: R) -> Result<Self, ReadError> {
        let mut source = Source::new(bytes)?;
        let mut head = [0; SUPERBLOCK_LENGTH];
        source.read_at(0, &mut head).map_err(|error| match error {
            ReadError::Broken(_) => ReadError::NoSquashfs,
            other => other,
        })?;
        let superblock = Superblock::decode(&head).ok_or(ReadError::NoSquashfs)?;
        check_superblock(&superblock, source.length())?;
        source.shorten(superblock.bytes_used);
        let ids = inode::read_ids(&mut source, &superblock)?;
        let xattrs = inode::XattrTables::open(&mut source, &superblock)?;
        Ok(Self { source, superblock, ids, xattrs, fragment: None })
    }

    /// Number of inodes that the image says it has.
    pub fn inodes(&self) -> u32 {
        self.superblock.inodes
    }

    /// Bytes of a data block before compression.
    pub fn block_size(&self) -> u32 {
        self.superblock.block_size
    }

    /// The time in the superblock, in seconds since the Epoch.
    pub fn time(&self) -> u32 {
        self.superblock.time
    }

    /// The root directory.
    ///
    /// # Errors
    /// When its inode is broken or no directory.
    pub fn root(&mut self) -> Result<Entry, ReadError> {
        let place = Position::from_reference(self.superblock.root).ok_or(ReadError::Broken("the root lies nowhere"))?;
        let root = self.entry(TreePath::root(), place)?;
        if matches!(root.kind, EntryKind::Directory(_)) {
            Ok(root)
        } else {
            Err(ReadError::Broken("the root is no directory"))
        }
    }

    /// The node at `path`, symbolic links not followed; none when the image has none there.
    ///
    /// # Errors
    /// When a directory on the way is broken.
    pub fn find(&mut self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let mut entry = self.root()?;
        for component in path.components() {
            let EntryKind::Directory(listing) = &entry.kind else { return Ok(None) };
            let mut names = directory::Names::new(self.directory_table(), listing)?;
            let found = loop {
                match names.next(&mut self.source)? {
                    Some(name) if name.bytes == component => break Some(name.inode),
                    Some(name) if name.bytes.as_slice() < component => {}
                    _ => break None,
                }
            };
            let Some(inode) = found else { return Ok(None) };
            let below = entry.path.join(&TreePath::parse(component)?);
            entry = self.entry(below, inode)?;
        }
        Ok(Some(entry))
    }

    /// Every name in the image; directories before what is in them, siblings by their names' bytes.
    pub fn walk(&mut self) -> Walk<'_, R> {
        Walk::new(self)
    }

    /// Writes the bytes of a file to `out`. A hole is written as zeros, so an image of a few bytes can hold a file of
    /// any [size](FileData::size): look at it first.
    ///
    /// # Errors
    /// When a block is broken, or `out` fails.
    pub fn read_file(&mut self, file: &FileData, out: &mut impl Write) -> Result<(), ReadError> {
        let block_size = u64::from(self.superblock.block_size);
        let mut sizes = Cursor::new(self.inode_table(), file.sizes)?;
        let mut at = file.start;
        let mut block = Vec::new();
        let blocks = match file.fragment {
            Some(_) => file.size / block_size,
            None => file.size.div_ceil(block_size),
        };
        for number in 0..blocks {
            let length = block_size.min(file.size - number * block_size) as usize;
            let stored = u32::from_le_bytes(sizes.array(&mut self.source)?);
            self.read_block(at, stored, length, &mut block)?;
            if block.len() != length {
                return Err(ReadError::Broken("a data block is longer or shorter than the file asks for"));
            }
            out.write_all(&block).map_err(ReadError::Write)?;
            at = at.saturating_add(u64::from(stored & !STORED_BLOCK));
        }
        match file.fragment {
            Some((number, offset)) if !file.size.is_multiple_of(block_size) => {
                let length = (file.size % block_size) as usize;
                let bytes = self.fragment(number)?;
                let end = (offset as usize).checked_add(length);
                let tail = end.and_then(|end| bytes.get(offset as usize..end));
                let tail = tail.ok_or(ReadError::Broken("a file's tail lies outside its fragment block"))?;
                out.write_all(tail).map_err(ReadError::Write)
            }
            _ => Ok(()),
        }
    }

    fn entry(&mut self, path: TreePath, place: Position) -> Result<Entry, ReadError> {
        let table = self.inode_table();
        inode::read(&mut self.source, table, place, path, &self.ids, self.xattrs.as_ref())
    }

    fn inode_table(&self) -> Table {
        Table { start: self.superblock.inode_table, end: self.superblock.directory_table }
    }

    fn directory_table(&self) -> Table {
        // The fragment table's blocks come next; where they start is written in the table itself. Its end bounds them.
        let end = if self.superblock.fragments > 0 { self.superblock.fragment_table } else { self.superblock.id_table };
        Table { start: self.superblock.directory_table, end }
    }

    /// Reads a block of data, stored as `stored` says, into `out`: `length` zeros for a hole, else what the block holds, at
    /// most `length` bytes.
    fn read_block(&mut self, at: u64, stored: u32, length: usize, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let size = (stored & !STORED_BLOCK) as usize;
        if stored == 0 {
            out.clear();
            out.resize(length, 0);
            Ok(())
        } else if size > self.superblock.block_size as usize {
            Err(ReadError::Broken("a block is stored in more bytes than it holds"))
        } else if stored & STORED_BLOCK == 0 {
            self.source.decompress(at, size, length, out)
        } else {
            out.clear();
            out.resize(size, 0);
            self.source.read_at(at, out)
        }
    }

    fn fragment(&mut self, number: u32) -> Result<&[u8], ReadError> {
        if number >= self.superblock.fragments {
            return Err(ReadError::Broken("a file's tail is in a fragment block that is not there"));
        }
        let entry: [u8; 16] = source::lookup(&mut self.source, self.superblock.fragment_table, u64::from(number))?;
        let (start, rest) = entry.split_at(8);
        let start = u64::from_le_bytes(start.try_into().unwrap_or_default());
        let stored = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
        if self.fragment.as_ref().is_none_or(|(kept, _)| *kept != start) {
            let mut bytes = self.fragment.take().map(|(_, bytes)| bytes).unwrap_or_default();
            if stored == 0 {
                return Err(ReadError::Broken("a fragment block is empty"));
            }
            self.read_block(start, stored, self.superblock.block_size as usize, &mut bytes)?;
            self.fragment = Some((start, bytes));
        }
        Ok(self.fragment.as_ref().map_or(&[], |(_, bytes)| bytes))
    }
}

/// Checks what everything else relies on. `length` is that of the file or device.
fn check_superblock(superblock: &Superblock, length: u64) -> Result<(), ReadError> {
    if superblock.version != (4, 0) {
        return Err(ReadError::Unsupported("its version is not 4.0"));
    }
    if superblock.compressor != COMPRESSOR_ZSTD {
        return Err(ReadError::Unsupported("its compressor is not zstd"));
    }
    let size = superblock.block_size;
    if !(4096..=1 << 20).contains(&size) || !size.is_power_of_two() || size.ilog2() != u32::from(superblock.block_log) {
        return Err(ReadError::Broken("its block size is no power of two from 4096 to 1048576"));
    }
    if superblock.bytes_used > length {
        return Err(ReadError::Broken("it is cut short"));
    }
    let mut tables = vec![superblock.inode_table, superblock.directory_table];
    tables.extend(Some(superblock.fragment_table).filter(|_| superblock.fragments > 0));
    tables.extend(Some(superblock.export_table).filter(|table| *table != NO_TABLE));
    tables.push(superblock.id_table);
    tables.extend(Some(superblock.xattr_table).filter(|table| *table != NO_TABLE));
    tables.push(superblock.bytes_used);
    if !tables.is_sorted() || superblock.inode_table < SUPERBLOCK_LENGTH as u64 {
        return Err(ReadError::Broken("its tables overlap or lie outside it"));
    }
    if superblock.ids == 0 || superblock.inodes == 0 {
        return Err(ReadError::Broken("it has no owner or no inode"));
    }
    Ok(())
}

/// A number that is there unless it is the format's "nowhere".
fn some_index(number: u32) -> Option<u32> {
    Some(number).filter(|number| *number != NO_INDEX)
}
