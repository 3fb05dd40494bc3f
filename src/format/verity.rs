//! dm-verity: the hash tree over an image, as `veritysetup format` lays it out.
//!
//! Hash type 1 (the salt is hashed before each block), SHA-256, data and hash blocks of 4096 bytes. The *hash area*
//! is a superblock in a block of its own, then the levels of the tree from the one-block top down to the leaves:
//!
//! ```text
//! 0      superblock (512 bytes, then zeros)
//! 4096   top level, …, leaves       128 digests a block, the last block of a level filled with zeros
//! ```
//!
//! The root hash is the digest of the top block. Source: the kernel's `admin-guide/device-mapper/verity.rst`,
//! cryptsetup's wiki page *DMVerity*. Never touches a device.

use std::io::{self, Read};

use rayon::prelude::*;

use crate::digest::{Digest, Hasher};

#[cfg(test)]
mod tests;

/// Bytes of a data block and of a hash block.
pub const BLOCK: usize = 4096;

const DIGEST_LENGTH: usize = 32;
const DIGESTS_PER_BLOCK: usize = BLOCK / DIGEST_LENGTH;
const SALT_LIMIT: usize = 256;
const SIGNATURE: &[u8; 8] = b"verity\0\0";

/// Data that is hashed or read at a time: enough for every core.
const WINDOW: usize = 256 * BLOCK;

/// Why a hash tree cannot be made, or what a check found.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// The salt is longer than the superblock's field.
    #[error("a dm-verity salt has at most 256 bytes, not {0}")]
    Salt(usize),
    /// Data that does not end with a block.
    #[error("dm-verity covers whole blocks of 4096 bytes; the data is {0} bytes long")]
    Unaligned(u64),
    /// No data at all.
    #[error("dm-verity needs at least one block of data")]
    Empty,
    /// The hash area does not begin with a superblock of the form that this module writes.
    #[error("the dm-verity superblock is unusable: {0}")]
    Superblock(&'static str),
    /// The data could not be read.
    #[error("cannot read the data under dm-verity")]
    Read(#[source] io::Error),
    /// The data is shorter or longer than the superblock says.
    #[error("the dm-verity superblock covers {expected} blocks of data, and there are {found} bytes")]
    DataLength {
        /// Blocks by the superblock.
        expected: u64,
        /// Bytes found, counted up to the first that is too much.
        found: u64,
    },
    /// A block of the hash area is not what the block above it, or the root hash, says.
    #[error("block {block} of the dm-verity hash area (byte {}, level {level} above the data) is corrupt", block * BLOCK as u64)]
    CorruptTree {
        /// Block of the hash area; the superblock is 0.
        block: u64,
        /// Level: 0 for the leaves.
        level: usize,
    },
    /// A block of the data is not what its leaf says.
    #[error("data block {block} (byte {}) is corrupt: its hash is not the one in the dm-verity tree", block * BLOCK as u64)]
    CorruptData {
        /// Block of the data.
        block: u64,
    },
}

/// The leaf hashes of a run of data that is made of whole blocks; fed piece by piece.
///
/// The leaves of two runs, one after the other, are the leaves of the runs' concatenation. So those of a stored object
/// can be kept beside it and [appended](Leaves::append).
#[derive(Clone, Debug)]
pub struct Leaves {
    salt: Vec<u8>,
    digests: Vec<u8>,
    /// The block that is not full yet.
    partial: Vec<u8>,
}

impl Leaves {
    /// No data yet.
    pub fn new(salt: &[u8]) -> Self {
        Self { salt: salt.to_vec(), digests: Vec::new(), partial: Vec::new() }
    }

    /// Feeds the next bytes; whole blocks are hashed on rayon's current pool.
    pub fn update(&mut self, mut data: &[u8]) {
        if !self.partial.is_empty() {
            let (now, later) = data.split_at(data.len().min(BLOCK - self.partial.len()));
            self.partial.extend_from_slice(now);
            data = later;
            if self.partial.len() < BLOCK {
                return;
            }
            let block = std::mem::take(&mut self.partial);
            self.hash(&block);
        }
        let (blocks, rest) = data.split_at(data.len() - data.len() % BLOCK);
        self.hash(blocks);
        self.partial.extend_from_slice(rest);
    }

    /// Feeds `length` zero bytes, at the cost of hashing one block.
    pub fn zeros(&mut self, length: u64) {
        let zeros = [0; BLOCK];
        let first = if self.partial.is_empty() { 0 } else { length.min((BLOCK - self.partial.len()) as u64) };
        self.update(&zeros[..first as usize]);
        let length = length - first;
        let leaf = hash_block(&self.salt, &zeros);
        for _ in 0..length / BLOCK as u64 {
            self.digests.extend_from_slice(leaf.as_bytes());
        }
        self.update(&zeros[..(length % BLOCK as u64) as usize]);
    }

    /// Feeds data by its leaf hashes, as [`Leaves::finish`] returned them for the same salt.
    ///
    /// # Errors
    /// When the data so far does not end with a block, or `digests` is not a whole number of digests.
    pub fn append(&mut self, digests: &[u8]) -> Result<(), VerityError> {
        if !self.partial.is_empty() || !digests.len().is_multiple_of(DIGEST_LENGTH) {
            return Err(VerityError::Unaligned(self.length()));
        }
        self.digests.extend_from_slice(digests);
        Ok(())
    }

    /// The leaf hashes, 32 bytes for each block.
    ///
    /// # Errors
    /// When the data does not end with a block.
    pub fn finish(self) -> Result<Vec<u8>, VerityError> {
        if self.partial.is_empty() { Ok(self.digests) } else { Err(VerityError::Unaligned(self.length())) }
    }

    fn length(&self) -> u64 {
        (self.digests.len() / DIGEST_LENGTH * BLOCK + self.partial.len()) as u64
    }

    fn hash(&mut self, blocks: &[u8]) {
        self.digests.extend(hash_blocks(&self.salt, blocks));
    }
}

/// A finished hash tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verity {
    /// Digest of the top of the tree; what the kernel command line names.
    pub root_hash: Digest,
    /// The superblock and the tree: everything of the hash partition.
    pub hash_area: Vec<u8>,
}

/// Builds the tree over data with the leaf hashes `leaves`, 32 bytes a block, made with the same `salt`.
///
/// # Errors
/// When there is no leaf, half a leaf, or the salt is longer than 256 bytes.
pub fn build(leaves: &[u8], salt: &[u8], uuid: [u8; 16]) -> Result<Verity, VerityError> {
    if salt.len() > SALT_LIMIT {
        return Err(VerityError::Salt(salt.len()));
    }
    if leaves.is_empty() {
        return Err(VerityError::Empty);
    }
    if !leaves.len().is_multiple_of(DIGEST_LENGTH) {
        return Err(VerityError::Unaligned((leaves.len() / DIGEST_LENGTH * BLOCK) as u64));
    }
    // From the leaves up; each level but the last has more than one digest.
    let mut levels = vec![leaves.to_vec()];
    let mut digests = leaves.len() / DIGEST_LENGTH;
    while digests > 1 {
        digests = digests.div_ceil(DIGESTS_PER_BLOCK);
        let level = levels.len() - 1;
        levels[level].resize(digests * BLOCK, 0);
        levels.push(hash_blocks(salt, &levels[level]));
    }
    let mut hash_area = superblock(salt, uuid, (leaves.len() / DIGEST_LENGTH) as u64);
    let mut root_hash = [0; DIGEST_LENGTH];
    root_hash.copy_from_slice(&levels.pop().unwrap_or_default());
    for level in levels.iter().rev() {
        hash_area.extend_from_slice(level);
    }
    Ok(Verity { root_hash: Digest::from_bytes(root_hash), hash_area })
}

fn superblock(salt: &[u8], uuid: [u8; 16], data_blocks: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK);
    bytes.extend_from_slice(SIGNATURE);
    bytes.extend_from_slice(&1_u32.to_le_bytes()); // version of the superblock
    bytes.extend_from_slice(&1_u32.to_le_bytes()); // hash type
    bytes.extend_from_slice(&uuid);
    bytes.extend_from_slice(b"sha256");
    bytes.resize(64, 0);
    bytes.extend_from_slice(&(BLOCK as u32).to_le_bytes()); // data block
    bytes.extend_from_slice(&(BLOCK as u32).to_le_bytes()); // hash block
    bytes.extend_from_slice(&data_blocks.to_le_bytes());
    bytes.extend_from_slice(&(salt.len() as u16).to_le_bytes());
    bytes.resize(88, 0);
    bytes.extend_from_slice(salt);
    bytes.resize(BLOCK, 0);
    bytes
}

/// Number of digests of each level, from the leaves up to the level of one block.
fn level_digests(data_blocks: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut digests = data_blocks;
    while digests > 1 {
        levels.push(digests);
        digests = digests.div_ceil(DIGESTS_PER_BLOCK as u64);
    }
    levels
}

/// Checks `data` against `hash_area` and both against `root_hash`, from the top of the tree down.
///
/// # Errors
/// At the first block that is corrupt, or when the superblock, the hash area or the data have not the form or the
/// length that they should have.
pub fn verify(data: &mut impl Read, hash_area: &[u8], root_hash: Digest) -> Result<(), VerityError> {
    let (salt, data_blocks) = read_superblock(hash_area)?;
    let tree = &hash_area[BLOCK..];
    let levels = level_digests(data_blocks);
    let block_counts = levels.iter().map(|digests| digests.div_ceil(DIGESTS_PER_BLOCK as u64));
    if block_counts.sum::<u64>().checked_mul(BLOCK as u64) != Some(tree.len() as u64) {
        return Err(VerityError::Superblock("the hash area is longer or shorter than the data's length asks for"));
    }
    let mut above = root_hash.as_bytes().to_vec();
    let mut start = 0;
    for (level, digests) in levels.iter().enumerate().rev() {
        let length = digests.div_ceil(DIGESTS_PER_BLOCK as u64) as usize * BLOCK;
        let blocks = &tree[start..start + length];
        if let Some(corrupt) = first_difference(&hash_blocks(salt, blocks), &above) {
            return Err(VerityError::CorruptTree { block: 1 + (start / BLOCK + corrupt) as u64, level });
        }
        above = blocks[..*digests as usize * DIGEST_LENGTH].to_vec();
        start += length;
    }
    verify_data(data, salt, &above)
}

fn verify_data(data: &mut impl Read, salt: &[u8], leaves: &[u8]) -> Result<(), VerityError> {
    let expected = (leaves.len() / DIGEST_LENGTH) as u64;
    let mut buffer = Vec::with_capacity(WINDOW);
    let mut block = 0;
    for leaves in leaves.chunks(WINDOW / BLOCK * DIGEST_LENGTH) {
        buffer.clear();
        let length = leaves.len() / DIGEST_LENGTH * BLOCK;
        let read = data.by_ref().take(length as u64).read_to_end(&mut buffer).map_err(VerityError::Read)?;
        if read < length {
            return Err(VerityError::DataLength { expected, found: block * BLOCK as u64 + read as u64 });
        }
        if let Some(corrupt) = first_difference(&hash_blocks(salt, &buffer), leaves) {
            return Err(VerityError::CorruptData { block: block + corrupt as u64 });
        }
        block += (leaves.len() / DIGEST_LENGTH) as u64;
    }
    let excess = data.read(&mut [0]).map_err(VerityError::Read)? as u64;
    if excess > 0 {
        return Err(VerityError::DataLength { expected, found: expected * BLOCK as u64 + excess });
    }
    Ok(())
}

/// The salt and the number of data blocks. Everything else has to be what [`build`] writes.
fn read_superblock(hash_area: &[u8]) -> Result<(&[u8], u64), VerityError> {
    let refuse = |what| Err(VerityError::Superblock(what));
    let Some((bytes, _)) = hash_area.split_at_checked(BLOCK) else {
        return refuse("the hash area is shorter than a block");
    };
    if !bytes.starts_with(SIGNATURE) {
        return refuse("it does not begin with `verity`");
    }
    let salt_length = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
    if salt_length > SALT_LIMIT {
        return refuse("the salt is longer than 256 bytes");
    }
    let salt = &bytes[88..88 + salt_length];
    let field = |at: usize| bytes[at..at + 8].try_into().unwrap_or_default();
    let data_blocks = u64::from_le_bytes(field(72));
    let uuid: [u8; 16] = bytes[16..32].try_into().unwrap_or_default();
    if bytes != superblock(salt, uuid, data_blocks) {
        return refuse("it is not of version 1, hash type 1, SHA-256 and blocks of 4096 bytes, or holds more");
    }
    if data_blocks == 0 {
        return refuse("it covers no data");
    }
    Ok((salt, data_blocks))
}

/// The first digest that differs; `expected` is a whole number of digests, and the shorter list counts.
fn first_difference(found: &[u8], expected: &[u8]) -> Option<usize> {
    found.chunks(DIGEST_LENGTH).zip(expected.chunks(DIGEST_LENGTH)).position(|(found, expected)| found != expected)
}

/// The digests of whole blocks, in order.
fn hash_blocks(salt: &[u8], blocks: &[u8]) -> Vec<u8> {
    // A digest takes microseconds, so a task takes a run of blocks.
    let runs = blocks.par_chunks(16 * BLOCK);
    runs.flat_map_iter(|run| run.chunks(BLOCK).flat_map(|block| *hash_block(salt, block).as_bytes())).collect()
}

fn hash_block(salt: &[u8], block: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(salt);
    hasher.update(block);
    hasher.finish()
}
