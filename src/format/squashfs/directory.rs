//! Directory listings: runs of entries, each led by a header, and the index of a big directory.
//!
//! Entries are sorted by their names' bytes. A header holds what its entries share (the block of their inodes and the
//! number that theirs are relative to). In a listing longer than a metadata block a new run begins with each block, and the
//! index names the first entry of that run, so that a lookup reads one block instead of all before it.

use super::SquashfsError;
use super::layout::{HEADER_ENTRIES, METADATA_LENGTH, Position, Record};
use super::metadata::MetadataWriter;

const HEADER_LENGTH: usize = 12;
const ENTRY_LENGTH: usize = 8;

/// One name in a directory.
pub(super) struct Entry<'a> {
    pub name: &'a [u8],
    /// Inode number.
    pub number: u32,
    /// Where the inode is in the inode table.
    pub inode: Position,
    /// Basic type number.
    pub kind: u16,
}

/// Where a directory's listing is, as its inode says.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub start: Position,
    /// Bytes of the listing.
    pub length: u32,
    pub index: Vec<IndexEntry>,
}

/// One entry of a directory's index.
#[derive(Debug)]
pub(super) struct IndexEntry {
    /// Byte of the listing at which the run starts.
    pub at: u32,
    /// Metadata block that this byte is in.
    pub block: u32,
    /// First name of the run.
    pub name: Vec<u8>,
}

/// Writes the listing of one directory.
pub(super) fn write(entries: &[Entry<'_>], table: &mut MetadataWriter) -> Result<Listing, SquashfsError> {
    let mut listing = Listing { start: table.position()?, ..Listing::default() };
    let least: usize = entries.iter().map(|entry| ENTRY_LENGTH + entry.name.len()).sum();
    let indexed = least > METADATA_LENGTH;
    let mut rest = entries;
    let mut at = 0_usize;
    while let [first, ..] = rest {
        let position = table.position()?;
        let last_block = listing.index.last().map_or(listing.start.block, |entry| entry.block);
        if indexed && position.block != last_block {
            let name = first.name.to_vec();
            listing.index.push(IndexEntry { at: at as u32, block: position.block, name });
        }
        let (run, later) = rest.split_at(run_length(rest, table.room(), indexed));
        let record = encode_run(first, run);
        table.write(&record)?;
        at += record.len();
        rest = later;
    }
    listing.length = u32::try_from(at)
        .ok()
        .filter(|length| *length < u32::MAX - METADATA_LENGTH as u32)
        .ok_or(SquashfsError::TooMuch("a directory's listing is over 4 GiB"))?;
    if listing.index.len() > usize::from(u16::MAX) {
        return Err(SquashfsError::TooMuch("a directory's index has over 65535 entries"));
    }
    Ok(listing)
}

/// How many of `entries`, at least one, one header can lead. `room` is what the metadata block still takes; in an
/// indexed directory a run ends with the block, so that the next block starts a run.
fn run_length(entries: &[Entry<'_>], room: usize, indexed: bool) -> usize {
    let first = &entries[0];
    let mut length = HEADER_LENGTH;
    let shared = entries.iter().take(HEADER_ENTRIES).take_while(|entry| {
        let full = indexed && length >= room.max(HEADER_LENGTH + 1);
        length += ENTRY_LENGTH + entry.name.len();
        !full
            && entry.inode.block == first.inode.block
            && i16::try_from(i64::from(entry.number) - i64::from(first.number)).is_ok()
    });
    shared.count().max(1)
}

fn encode_run(first: &Entry<'_>, run: &[Entry<'_>]) -> Vec<u8> {
    let mut record = Record::default();
    record.u32(run.len() as u32 - 1).u32(first.inode.block).u32(first.number);
    for entry in run {
        let difference = entry.number.wrapping_sub(first.number) as u16;
        record.u16(entry.inode.offset).u16(difference).u16(entry.kind);
        record.u16(entry.name.len() as u16 - 1).bytes(entry.name);
    }
    record.0
}
