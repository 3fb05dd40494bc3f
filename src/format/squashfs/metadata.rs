//! Metadata blocks: a stream cut every 8 KiB, each part compressed, a 16-bit length before it.

use super::layout::{METADATA_LENGTH, Position, STORED_METADATA};
use super::{SquashfsError, codec};

/// Writes one stream of metadata blocks.
pub(super) struct MetadataWriter {
    level: i32,
    blocks: Vec<u8>,
    /// Start of each block in `blocks`.
    starts: Vec<u64>,
    pending: Vec<u8>,
}

impl MetadataWriter {
    pub(super) fn new(level: i32) -> Self {
        Self { level, blocks: Vec::new(), starts: Vec::new(), pending: Vec::with_capacity(METADATA_LENGTH) }
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> Result<Position, SquashfsError> {
        let block = u32::try_from(self.blocks.len())
            .map_err(|_| SquashfsError::TooMuch("a table of inodes, directories or attributes is over 4 GiB"))?;
        Ok(Position { block, offset: self.pending.len() as u16 })
    }

    /// Number of bytes that still go into the block which is being filled; never zero.
    pub(super) fn room(&self) -> usize {
        METADATA_LENGTH - self.pending.len()
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), SquashfsError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.room()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == METADATA_LENGTH {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SquashfsError> {
        self.starts.push(self.blocks.len() as u64);
        match codec::compress(&self.pending, self.level).map_err(SquashfsError::Compress)? {
            Some(packed) => {
                self.blocks.extend_from_slice(&(packed.len() as u16).to_le_bytes());
                self.blocks.extend_from_slice(&packed);
            }
            None => {
                self.blocks.extend_from_slice(&(self.pending.len() as u16 | STORED_METADATA).to_le_bytes());
                self.blocks.extend_from_slice(&self.pending);
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// The blocks, and where in them each starts.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Vec<u64>), SquashfsError> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        Ok((self.blocks, self.starts))
    }
}

/// A table that is looked up by number: metadata blocks of `entries`, then the list of the blocks' absolute places.
/// `base` is where the table starts in the image. Returns the bytes, and where in the image the list starts.
pub(super) fn lookup_table(entries: &[u8], base: u64, level: i32) -> Result<(Vec<u8>, u64), SquashfsError> {
    let mut writer = MetadataWriter::new(level);
    writer.write(entries)?;
    let (mut bytes, starts) = writer.finish()?;
    let list = base + bytes.len() as u64;
    for start in starts {
        bytes.extend_from_slice(&(base + start).to_le_bytes());
    }
    Ok((bytes, list))
}
