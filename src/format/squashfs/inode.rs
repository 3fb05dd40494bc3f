//! Inodes as they are stored: the basic form where everything fits it, else the extended one.

use crate::tree::Meta;

use super::directory::Listing;
use super::layout::{DIRECTORY_EXTRA, NO_INDEX, Record, inode};

/// What every inode begins with, and its attributes.
pub(super) struct Common<'a> {
    pub meta: &'a Meta,
    /// Places of owner and group in the id table.
    pub owner: (u16, u16),
    pub number: u32,
    /// Place in the attribute table.
    pub xattrs: Option<u32>,
}

/// What differs from kind to kind.
pub(super) enum Body<'a> {
    Directory {
        listing: &'a Listing,
        links: u32,
        /// Inode number of the directory above; the root's is one more than the last number.
        parent: u32,
    },
    File {
        /// Absolute place of the first block; 0 without blocks.
        start: u64,
        size: u64,
        block_size: u32,
        sizes: &'a [u32],
        /// Fragment block and offset in it.
        fragment: Option<(u32, u32)>,
        links: u32,
    },
    Symlink(&'a [u8]),
    /// Basic type number and device number.
    Device(u16, u32),
    /// Basic type number of a pipe or socket.
    Endpoint(u16),
}

/// The bytes of one inode.
pub(super) fn encode(common: &Common<'_>, body: &Body<'_>) -> Vec<u8> {
    match *body {
        Body::Directory { listing, links, parent } => directory(common, listing, links, parent),
        Body::File { start, size, block_size, sizes, fragment, links } => {
            let sparse = sparse_bytes(size, block_size, sizes);
            file(common, start, size, sparse, sizes, fragment, links)
        }
        Body::Symlink(target) => {
            let mut record = header(common, inode::SYMLINK, common.xattrs.is_some());
            record.u32(1).u32(target.len() as u32).bytes(target);
            end(record, common)
        }
        Body::Device(kind, number) => {
            let mut record = header(common, kind, common.xattrs.is_some());
            record.u32(1).u32(number);
            end(record, common)
        }
        Body::Endpoint(kind) => {
            let mut record = header(common, kind, common.xattrs.is_some());
            record.u32(1);
            end(record, common)
        }
    }
}

fn header(common: &Common<'_>, kind: u16, extended: bool) -> Record {
    let mut record = Record::default();
    record.u16(if extended { kind + inode::EXTENDED } else { kind }).u16(common.meta.mode & 0o7777);
    record.u16(common.owner.0).u16(common.owner.1).u32(clamp_time(common.meta.mtime)).u32(common.number);
    record
}

/// Ends the kinds whose extended form is the basic one with the place of the attributes after it.
fn end(mut record: Record, common: &Common<'_>) -> Vec<u8> {
    if let Some(xattrs) = common.xattrs {
        record.u32(xattrs);
    }
    record.0
}

fn directory(common: &Common<'_>, listing: &Listing, links: u32, parent: u32) -> Vec<u8> {
    let size = listing.length + DIRECTORY_EXTRA;
    let small = u16::try_from(size).ok().filter(|_| listing.index.is_empty() && common.xattrs.is_none());
    let mut record = header(common, inode::DIRECTORY, small.is_none());
    if let Some(size) = small {
        record.u32(listing.start.block).u32(links).u16(size).u16(listing.start.offset).u32(parent);
        return record.0;
    }
    record.u32(links).u32(size).u32(listing.start.block).u32(parent);
    record.u16(listing.index.len() as u16).u16(listing.start.offset).u32(common.xattrs.unwrap_or(NO_INDEX));
    for entry in &listing.index {
        record.u32(entry.at).u32(entry.block).u32(entry.name.len() as u32 - 1).bytes(&entry.name);
    }
    record.0
}

fn file(
    common: &Common<'_>,
    start: u64,
    size: u64,
    sparse: u64,
    sizes: &[u32],
    fragment: Option<(u32, u32)>,
    links: u32,
) -> Vec<u8> {
    let (fragment, offset) = fragment.unwrap_or((NO_INDEX, 0));
    let plain = sparse == 0 && links == 1 && common.xattrs.is_none();
    let small = u32::try_from(start).ok().zip(u32::try_from(size).ok()).filter(|_| plain);
    let mut record = header(common, inode::FILE, small.is_none());
    if let Some((start, size)) = small {
        record.u32(start).u32(fragment).u32(offset).u32(size);
    } else {
        record.u64(start).u64(size).u64(sparse).u32(links);
        record.u32(fragment).u32(offset).u32(common.xattrs.unwrap_or(NO_INDEX));
    }
    for size in sizes {
        record.u32(*size);
    }
    record.0
}

/// Bytes of a file that lie in holes; the kernel takes them off `st_blocks`.
fn sparse_bytes(size: u64, block_size: u32, sizes: &[u32]) -> u64 {
    let block_size = u64::from(block_size);
    let holes = sizes.iter().zip(0_u64..).filter(|(stored, _)| **stored == 0);
    holes.map(|(_, number)| block_size.min(size - number * block_size)).sum()
}

/// squashfs counts seconds from 1970 to 2106.
fn clamp_time(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_the_format_are_clamped() {
        for (time, stored) in [(-1, 0), (0, 0), (1_700_000_000, 1_700_000_000), (1 << 32, u32::MAX)] {
            assert_eq!(clamp_time(time), stored);
        }
    }

    #[test]
    fn a_short_last_hole_counts_its_own_length() {
        assert_eq!(sparse_bytes(10_000, 4096, &[0, 17, 0]), 4096 + 1808);
    }
}
