//! casync's index of a file (`.caibx`): where its chunks end, and the digest of each.
//!
//! A chunk ends where the bytes before it say so, so a change moves the ends near it and no others: what two versions
//! of a file have in common are equal chunks, wherever they lie. Ends, digests (SHA-512/256) and form are those of
//! `casync make --digest=sha512-256`, byte for byte; only chunks of casync's default sizes are read. Source:
//! casync's `src/cachunker.c` and `src/caformat.h`. Never fetches anything.
//!
//! ```text
//! 0      48, magic, feature flags, least, average and largest chunk     six numbers
//! 48     2^64-1, magic                                                  the table's head
//! 64     end of the chunk in the file, its digest                       40 bytes a chunk
//!        0, 0, 48, length of the table with head and tail, magic        its tail
//! ```

mod chunks;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

use sha2::{Digest as _, Sha512_256};

pub use chunks::{Chunks, LARGEST, LEAST};

/// The name of the index of the file `name`. It begins otherwise, because systemd-sysupdate (257) takes every name that begins
/// as its `MatchPattern=` says, whatever comes after, and would write an index in place of the file.
pub fn index_name(name: &str) -> String {
    format!("{PREFIX}{name}{SUFFIX}")
}

/// The file whose index `name` is.
pub fn indexed(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)
}

const PREFIX: &str = "index-";

/// What ends the name of every index.
pub const SUFFIX: &str = ".caibx";

/// Longest index that is worth reading, in bytes: that of a file of about 16 GiB.
pub const LONGEST: u64 = 8 << 20;

const INDEX: u64 = 0x9682_4d9c_7b12_9ff9;
const TABLE: u64 = 0xe75b_9e11_2f17_417d;
const TAIL: u64 = 0x4b4f_050e_5549_ecd1;

/// The feature flag that says which digest names chunks.
const SHA512_256: u64 = 1 << 61;

/// As casync writes them for a file: beside the digest, what it would leave out of a directory.
const FLAGS: u64 = SHA512_256 | 1 << 63 | 1 << 60;

const HEAD_LENGTH: usize = 64;
const ITEM_LENGTH: usize = 40;

/// What a chunk is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 32]);

impl Id {
    /// The identity of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha512_256::digest(bytes).into())
    }
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its first byte.
    pub start: u64,
    /// Its bytes, at most [`LARGEST`].
    pub length: usize,
    /// What it is known by.
    pub id: Id,
}

impl Chunk {
    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.start + self.length as u64
    }
}

/// The chunks of a file, in order and without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// All of them.
    pub chunks: Vec<Chunk>,
}

/// Why bytes are no index that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Too short, or other magic numbers.
    #[error("it is no casync index")]
    Form,
    /// Chunks are named by another digest.
    #[error("its chunks are not named by SHA-512/256")]
    Digest,
    /// Chunks are cut in another way.
    #[error("its chunks are not of casync's default sizes")]
    Sizes,
    /// Chunks that cannot be chunks of a file.
    #[error("chunk {0} is shorter or longer than a chunk can be")]
    Chunk(usize),
}

impl Index {
    /// The index of what `source` holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(source: impl Read) -> io::Result<Self> {
        let mut index = Self::default();
        let mut chunks = Chunks::new(source);
        while let Some(bytes) = chunks.cut()? {
            let (start, length) = (index.length(), bytes.len());
            index.chunks.push(Chunk { start, length, id: Id::of(bytes) });
        }
        Ok(index)
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.chunks.last().map_or(0, Chunk::end)
    }

    /// The index as a file.
    pub fn write(&self) -> Vec<u8> {
        let items = self.chunks.len() * ITEM_LENGTH;
        let mut bytes = Vec::with_capacity(HEAD_LENGTH + items + ITEM_LENGTH);
        let numbers = |bytes: &mut Vec<u8>, numbers: &[u64]| {
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        };
        let [least, average, largest] = SIZES;
        numbers(&mut bytes, &[48, INDEX, FLAGS, least, average, largest, u64::MAX, TABLE]);
        for chunk in &self.chunks {
            bytes.extend(chunk.end().to_le_bytes());
            bytes.extend(chunk.id.0);
        }
        numbers(&mut bytes, &[0, 0, 48, (16 + items + ITEM_LENGTH) as u64, TAIL]);
        bytes
    }

    /// Reads an index: of a file, with chunks of casync's default sizes, named by SHA-512/256.
    ///
    /// # Errors
    /// When `bytes` are none.
    pub fn read(bytes: &[u8]) -> Result<Self, IndexError> {
        let (head, rest) = bytes.split_at_checked(HEAD_LENGTH).ok_or(IndexError::Form)?;
        let end = rest.len().checked_sub(ITEM_LENGTH).ok_or(IndexError::Form)?;
        let (items, tail) = rest.split_at(end);
        let table = (bytes.len() - 48) as u64;
        let head = numbers(head);
        if [head[0], head[1], head[6], head[7]] != [48, INDEX, u64::MAX, TABLE]
            || numbers(tail) != [0, 0, 48, table, TAIL]
            || !items.len().is_multiple_of(ITEM_LENGTH)
        {
            return Err(IndexError::Form);
        }
        if head[2] & SHA512_256 == 0 {
            return Err(IndexError::Digest);
        }
        if head[3..6] != SIZES {
            return Err(IndexError::Sizes);
        }
        let mut index = Self::default();
        let items = items.chunks_exact(ITEM_LENGTH);
        let last = items.len().wrapping_sub(1);
        for (number, item) in items.enumerate() {
            let (end, id) = item.split_at(8);
            let start = index.length();
            let length = numbers(end)[0].checked_sub(start).and_then(|length| usize::try_from(length).ok());
            // A file's last chunk ends where the file does.
            let least = if number == last { 1 } else { LEAST };
            let length = length.filter(|length| (least..=LARGEST).contains(length)).ok_or(IndexError::Chunk(number))?;
            let id = Id(id.try_into().unwrap_or_default());
            index.chunks.push(Chunk { start, length, id });
        }
        Ok(index)
    }
}

/// Least, average and largest chunk, as an index tells them.
const SIZES: [u64; 3] = [LEAST as u64, chunks::AVERAGE as u64, LARGEST as u64];

fn numbers(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().unwrap_or_default())).collect()
}
