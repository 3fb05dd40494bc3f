//! Listings of directories, name by name.

use std::io::{Read, Seek};

use super::ReadError;
use super::inode::Listing;
use super::source::{Cursor, Source, Table};
use crate::format::squashfs::layout::{DIRECTORY_EXTRA, HEADER_ENTRIES, Position};

/// One name of a directory.
pub(super) struct Name {
    pub bytes: Vec<u8>,
    pub inode: Position,
}

/// Reads a listing from its start. Every step consumes bytes of the listing, whose length the inode gives, and names have
/// to ascend, so no name comes twice.
pub(super) struct Names {
    cursor: Cursor,
    /// Bytes of the listing still to read.
    left: u32,
    /// Entries that the last header leads, still to read.
    run: u32,
    /// Block of the run's inodes.
    block: u32,
    last: Vec<u8>,
}

impl Names {
    pub(super) fn new(table: Table, listing: &Listing) -> Result<Self, ReadError> {
        let cursor = Cursor::new(table, listing.start)?;
        let left = listing.size.saturating_sub(DIRECTORY_EXTRA);
        Ok(Self { cursor, left, run: 0, block: 0, last: Vec::new() })
    }

    /// The next name; none at the end.
    pub(super) fn next(&mut self, source: &mut Source<impl Read + Seek>) -> Result<Option<Name>, ReadError> {
        if self.run == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            let [c0, c1, c2, c3, b0, b1, b2, b3, ..] = self.take::<12>(source)?;
            self.run = u32::from_le_bytes([c0, c1, c2, c3]).saturating_add(1);
            self.block = u32::from_le_bytes([b0, b1, b2, b3]);
            if self.run as usize > HEADER_ENTRIES {
                return Err(ReadError::Broken("a directory header leads over 256 entries"));
            }
        }
        self.run -= 1;
        let [o0, o1, _, _, _, _, l0, l1] = self.take::<8>(source)?;
        let length = u32::from(u16::from_le_bytes([l0, l1])) + 1;
        if length > 255 {
            return Err(ReadError::Broken("a name is over 255 bytes"));
        }
        self.consume(length)?;
        let bytes = self.cursor.bytes(source, length as usize)?;
        if bytes.contains(&b'/') || bytes.contains(&0) || bytes == b"." || bytes == b".." {
            return Err(ReadError::Broken("a name holds a slash or a NUL, or is `.` or `..`"));
        }
        if bytes <= self.last {
            return Err(ReadError::Broken("the names of a directory do not ascend"));
        }
        self.last.clone_from(&bytes);
        Ok(Some(Name { bytes, inode: Position { block: self.block, offset: u16::from_le_bytes([o0, o1]) } }))
    }

    fn take<const N: usize>(&mut self, source: &mut Source<impl Read + Seek>) -> Result<[u8; N], ReadError> {
        self.consume(N as u32)?;
        self.cursor.array(source)
    }

    fn consume(&mut self, length: u32) -> Result<(), ReadError> {
        self.left =
            self.left.checked_sub(length).ok_or(ReadError::Broken("a directory's listing ends inside an entry"))?;
        Ok(())
    }
}
