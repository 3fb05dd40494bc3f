//! squashfs 4.0 with zstd: a writer of recipes and a reader.
//!
//! An image is assembled from *segments*. A segment holds the compressed contents of one origin (a package, an overlay)
//! and nothing of another, knows no absolute offset and is as long as whole 4096-byte blocks, so it is compressed
//! once and lies unchanged in every image that wants it, whatever lies around it:
//!
//! ```text
//! 0      superblock, compressor options
//! 4096   segment, segment, …        each padded to 4096 bytes
//!        inode table, directory table, fragment table, export table, id table, attribute tables
//!        zeros to a multiple of 4096
//! ```
//!
//! [`compress`] makes a segment, [`assemble()`] the recipe of an image, [`read`] reads one back. Nothing here knows the
//! time, a path of the host or the number of threads. Source of the format: the kernel's `fs/squashfs` and
//! `Documentation/filesystems/squashfs.rst`; where they leave a choice, mksquashfs's.

mod assemble;
mod codec;
mod directory;
mod inode;
mod layout;
mod metadata;
pub mod read;
mod segment;
#[cfg(test)]
mod tests;
mod xattr;

pub use assemble::{Segment, assemble};
pub use segment::{FragmentBlock, Input, Placed, Placement, SEGMENT_VERSION, SegmentIndex, compress};

use std::io;

use crate::digest::Digest;
use crate::tree::TreePath;

/// Segments and images start and end on multiples of this, so that a segment covers whole dm-verity blocks.
pub const ALIGNMENT: u64 = 4096;

/// What a person may choose about an image. The defaults are the house's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// zstd level, 1 to 22.
    pub level: i32,
    /// Bytes of a data block before compression: a power of two from 4096 to 1 MiB.
    pub block_size: u32,
    /// Time in the superblock, in seconds since the Epoch. Segments do not depend on it.
    pub time: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self { level: 3, block_size: 1 << 20, time: 0 }
    }
}

impl Params {
    fn check(&self) -> Result<(), SquashfsError> {
        if !self.block_size.is_power_of_two() || !(4096..=1 << 20).contains(&self.block_size) {
            return Err(SquashfsError::Params("the block size is no power of two from 4096 to 1048576"));
        }
        if !(1..=22).contains(&self.level) {
            return Err(SquashfsError::Params("the zstd level is not between 1 and 22"));
        }
        Ok(())
    }
}

/// Why a segment or an image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SquashfsError {
    /// A parameter out of its range.
    #[error("squashfs: {0}")]
    Params(&'static str),
    /// A file's bytes could not be read.
    #[error("cannot read the content {digest}")]
    Read {
        /// The content.
        digest: Digest,
        /// What happened.
        source: io::Error,
    },
    /// A file has more or fewer bytes than said.
    #[error("the content {digest} does not have the {size} bytes it should have")]
    Size {
        /// The content.
        digest: Digest,
        /// Its size as given.
        size: u64,
    },
    /// A segment could not be written.
    #[error("cannot write the segment")]
    Write(#[source] io::Error),
    /// zstd failed.
    #[error("cannot compress a squashfs block")]
    Compress(#[source] io::Error),
    /// No segment holds a file's content.
    #[error("no segment holds the content {digest} of `/{path}`")]
    MissingContent {
        /// The file.
        path: TreePath,
        /// Its content.
        digest: Digest,
    },
    /// A segment's index contradicts itself, the parameters or the tree.
    #[error("the index of the segment `{label}` is unusable: {what}")]
    Index {
        /// The segment's label.
        label: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The names of a hard-link group differ in content or metadata.
    #[error("`/{path}` and `/{first}` are names of one file but differ")]
    UnequalLinks {
        /// The name that differs.
        path: TreePath,
        /// The first name of the group in the tree.
        first: TreePath,
    },
    /// squashfs has no place for an extended attribute.
    #[error("squashfs cannot hold the extended attribute `{name}` of `/{path}`: {why}")]
    Xattr {
        /// The node.
        path: TreePath,
        /// The attribute.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// squashfs has no place for something else of a node.
    #[error("squashfs cannot hold `/{path}`: {why}")]
    Node {
        /// The node.
        path: TreePath,
        /// Why not.
        why: &'static str,
    },
    /// More of something than the format can count.
    #[error("the image holds too much for squashfs: {0}")]
    TooMuch(&'static str),
}
