//! Bounded access to an image: ranges, metadata blocks, and tables that are looked up by number.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use super::ReadError;
use crate::format::squashfs::codec::Decoder;
use crate::format::squashfs::layout::{METADATA_LENGTH, Position, STORED_METADATA};

/// Uncompressed metadata blocks of one generation: 1 MiB.
const GENERATION: usize = 128;

/// An uncompressed metadata block, and where the next one starts.
type MetadataBlock = (Arc<[u8]>, u64);

/// The bytes of an image, and the metadata blocks that were used lately.
pub(super) struct Source<R> {
    bytes: R,
    length: u64,
    decoder: Decoder,
    packed: Vec<u8>,
    /// Blocks that were used since the last change of generation, by place.
    young: BTreeMap<u64, MetadataBlock>,
    /// Blocks of the generation before; those not used again go with the next change.
    old: BTreeMap<u64, MetadataBlock>,
}

impl<R: Read + Seek> Source<R> {
    pub(super) fn new(mut bytes: R) -> Result<Self, ReadError> {
        let length = bytes.seek(SeekFrom::End(0)).map_err(ReadError::Read)?;
        let decoder = Decoder::new().map_err(ReadError::Read)?;
        Ok(Self { bytes, length, decoder, packed: Vec::new(), young: BTreeMap::new(), old: BTreeMap::new() })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Refuses from now on what lies behind `length`.
    pub(super) fn shorten(&mut self, length: u64) {
        self.length = self.length.min(length);
    }

    /// Fills `out` with the bytes from `at`.
    pub(super) fn read_at(&mut self, at: u64, out: &mut [u8]) -> Result<(), ReadError> {
        if at.checked_add(out.len() as u64).is_none_or(|end| end > self.length) {
            return Err(ReadError::Broken("something lies behind its end"));
        }
        self.bytes.seek(SeekFrom::Start(at)).map_err(ReadError::Read)?;
        self.bytes.read_exact(out).map_err(ReadError::Read)
    }

    /// Decompresses the `size` bytes at `at` into `out`, at most `limit` bytes.
    pub(super) fn decompress(
        &mut self,
        at: u64,
        size: usize,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let mut packed = std::mem::take(&mut self.packed);
        packed.resize(size, 0);
        let result = self.read_at(at, &mut packed).and_then(|()| {
            let result = self.decoder.decompress(&packed, limit, out);
            result.map_err(|source| ReadError::Decompress { at, source })
        });
        self.packed = packed;
        result
    }

    /// The metadata block at `at`.
    fn metadata(&mut self, at: u64) -> Result<MetadataBlock, ReadError> {
        if let Some(block) = self.young.get(&at) {
            return Ok(block.clone());
        }
        let block = match self.old.remove(&at) {
            Some(block) => block,
            None => self.read_metadata(at)?,
        };
        if self.young.len() == GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(at, block.clone());
        Ok(block)
    }

    fn read_metadata(&mut self, at: u64) -> Result<MetadataBlock, ReadError> {
        let mut header = [0; 2];
        self.read_at(at, &mut header)?;
        let header = u16::from_le_bytes(header);
        let size = usize::from(header & !STORED_METADATA);
        if size == 0 || size > METADATA_LENGTH {
            return Err(ReadError::Broken("a metadata block is empty or over 8192 bytes"));
        }
        let mut bytes = Vec::new();
        if header & STORED_METADATA == 0 {
            self.decompress(at + 2, size, METADATA_LENGTH, &mut bytes)?;
        } else {
            bytes.resize(size, 0);
            self.read_at(at + 2, &mut bytes)?;
        }
        Ok((bytes.into(), at + 2 + size as u64))
    }
}

/// The range of an image that the metadata blocks of one stream lie in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub start: u64,
    pub end: u64,
}

/// A place in a stream of metadata blocks, moving on as it is read.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    table: Table,
    /// The block to read from.
    block: u64,
    offset: usize,
}

impl Cursor {
    pub(super) fn new(table: Table, place: Position) -> Result<Self, ReadError> {
        let block = table.start.checked_add(place.block.into());
        let block = block.ok_or(ReadError::Broken("a reference into a table lies outside it"))?;
        Ok(Self { table, block, offset: place.offset.into() })
    }

    /// Where the cursor is, to come back to.
    pub(super) fn position(&self) -> Result<Position, ReadError> {
        let outside = |_| ReadError::Broken("a reference into a table lies outside it");
        let block = u32::try_from(self.block - self.table.start).map_err(outside)?;
        Ok(Position { block, offset: u16::try_from(self.offset).map_err(outside)? })
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(
        &mut self,
        source: &mut Source<impl Read + Seek>,
    ) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.fill(source, &mut bytes)?;
        Ok(bytes)
    }

    /// The next `length` bytes, of which the caller knows that they are few.
    pub(super) fn bytes(&mut self, source: &mut Source<impl Read + Seek>, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length];
        self.fill(source, &mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, source: &mut Source<impl Read + Seek>, mut out: &mut [u8]) -> Result<(), ReadError> {
        while !out.is_empty() {
            if self.block >= self.table.end {
                return Err(ReadError::Broken("a table ends before what it should hold"));
            }
            let (block, next) = source.metadata(self.block)?;
            let here = block.get(self.offset..).ok_or(ReadError::Broken("a reference points behind its block"))?;
            let length = here.len().min(out.len());
            let (now, later) = out.split_at_mut(length);
            now.copy_from_slice(&here[..length]);
            out = later;
            self.offset += length;
            if self.offset == block.len() {
                (self.block, self.offset) = (next, 0);
            }
        }
        Ok(())
    }
}

/// Entry `number` of a table that is looked up by number: `list` is where the places of its metadata blocks are listed.
pub(super) fn lookup<const N: usize>(
    source: &mut Source<impl Read + Seek>,
    list: u64,
    number: u64,
) -> Result<[u8; N], ReadError> {
    let outside = ReadError::Broken("a reference into a table lies outside it");
    let byte = number.saturating_mul(N as u64);
    let Some(slot) = (byte / METADATA_LENGTH as u64).checked_mul(8).and_then(|slot| slot.checked_add(list)) else {
        return Err(outside);
    };
    let mut place = [0; 8];
    source.read_at(slot, &mut place)?;
    let start = u64::from_le_bytes(place);
    if start >= list {
        return Err(outside);
    }
    let offset = (byte % METADATA_LENGTH as u64) as u16;
    Cursor::new(Table { start, end: list }, Position { block: 0, offset })?.array(source)
}
