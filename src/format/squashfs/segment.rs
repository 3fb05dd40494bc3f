//! Segments: the compressed contents of one origin.
//!
//! As mksquashfs does by default, a file smaller than a block is packed with its like into *fragment blocks*; a larger
//! file is a run of blocks of its own, its last one short. A block of zeros is a hole. All offsets are relative to
//! the segment's start.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use rayon::prelude::*;

use crate::digest::Digest;

use super::layout::STORED_BLOCK;
use super::{ALIGNMENT, Params, SquashfsError, codec};

/// Changes whenever the same contents and parameters give other bytes or another index: part of the key under which
/// segments are stored, with [`Params::level`] and [`Params::block_size`].
pub const SEGMENT_VERSION: u32 = 1;

/// Blocks that are read before they are compressed together: the bound of a segment's memory, and enough to keep
/// every core busy.
const WINDOW: usize = 32;

/// A file's bytes on their way into a segment.
#[derive(Clone, Debug)]
pub struct Input<R> {
    /// Digest of the bytes. The caller vouches for it.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// The bytes, exactly `size` of them. Not read when the segment already holds the digest.
    pub bytes: R,
}

/// Where the contents lie in a segment. Stored by the caller beside the segment's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SegmentIndex {
    /// Block size that the segment was made with.
    pub block_size: u32,
    /// Number of bytes of the segment, a multiple of [`ALIGNMENT`].
    pub length: u64,
    /// Every content but the empty one.
    pub files: BTreeMap<Digest, Placed>,
    /// The fragment blocks, in order.
    pub fragments: Vec<FragmentBlock>,
}

/// Size and place of one content.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Placed {
    /// Number of bytes before compression.
    #[serde(rename = "s")]
    pub size: u64,
    /// Where they are.
    #[serde(rename = "p")]
    pub place: Placement,
}

/// Where one content lies in a segment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Placement {
    /// In blocks of its own: offset of the first, and the stored size of each as the inode has it (0 for a hole;
    /// bit 24 set for a block that is stored uncompressed).
    #[serde(rename = "b")]
    Blocks(u64, Vec<u32>),
    /// In a fragment block: its number in the segment, and the first byte in the uncompressed block.
    #[serde(rename = "f")]
    Fragment(u32, u32),
}

/// One fragment block: offset in the segment, and stored size (bit 24 set when stored uncompressed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FragmentBlock(pub u64, pub u32);

/// Compresses `files`, in their order, into one segment, and says where each content went.
///
/// Runs on rayon's current pool; the bytes are the same for any number of threads. Holds at most about 64 blocks in
/// memory. A digest that comes twice is stored once; an empty content takes no place.
///
/// # Errors
/// When a parameter is out of range, a file cannot be read or is longer or shorter than said, or `out` fails.
pub fn compress<R: Read>(
    files: impl IntoIterator<Item = Input<R>>,
    params: &Params,
    out: &mut impl Write,
) -> Result<SegmentIndex, SquashfsError> {
    params.check()?;
    let mut writer = SegmentWriter::new(params, out);
    for file in files {
        writer.add(file)?;
    }
    writer.finish()
}

/// Whom a block belongs to.
enum Owner {
    File(Digest),
    Fragment,
}

struct Block {
    bytes: Vec<u8>,
    owner: Owner,
}

struct SegmentWriter<'a, W> {
    params: &'a Params,
    out: &'a mut W,
    index: SegmentIndex,
    window: Vec<Block>,
    /// The fragment block that is being filled.
    fragment: Vec<u8>,
    /// Its number.
    fragment_number: u32,
    /// Buffers of written blocks, for the next ones.
    spare: Vec<Vec<u8>>,
}

impl<'a, W: Write> SegmentWriter<'a, W> {
    fn new(params: &'a Params, out: &'a mut W) -> Self {
        let index = SegmentIndex { block_size: params.block_size, ..SegmentIndex::default() };
        Self { params, out, index, window: Vec::new(), fragment: Vec::new(), fragment_number: 0, spare: Vec::new() }
    }

    fn add<R: Read>(&mut self, file: Input<R>) -> Result<(), SquashfsError> {
        let Input { digest, size, mut bytes } = file;
        if size == 0 || self.index.files.contains_key(&digest) {
            return Ok(());
        }
        if size < u64::from(self.params.block_size) {
            self.add_fragment(digest, size, &mut bytes)?;
        } else {
            self.add_blocks(digest, size, &mut bytes)?;
        }
        let mut excess = [0];
        let more = bytes.read(&mut excess).map_err(|source| SquashfsError::Read { digest, source })?;
        if more > 0 { Err(SquashfsError::Size { digest, size }) } else { Ok(()) }
    }

    fn add_fragment(&mut self, digest: Digest, size: u64, bytes: &mut impl Read) -> Result<(), SquashfsError> {
        if self.fragment.len() as u64 + size > u64::from(self.params.block_size) {
            self.close_fragment()?;
        }
        if self.fragment.capacity() == 0 {
            self.fragment = self.spare.pop().unwrap_or_default();
        }
        let offset = self.fragment.len() as u32;
        read_exactly(digest, size, bytes, size, &mut self.fragment)?;
        let place = Placement::Fragment(self.fragment_number, offset);
        self.index.files.insert(digest, Placed { size, place });
        Ok(())
    }

    fn add_blocks(&mut self, digest: Digest, size: u64, bytes: &mut impl Read) -> Result<(), SquashfsError> {
        // The offset is known once everything before has been written; see `place`.
        self.index.files.insert(digest, Placed { size, place: Placement::Blocks(0, Vec::new()) });
        let mut left = size;
        while left > 0 {
            let length = left.min(u64::from(self.params.block_size));
            let mut block = self.spare.pop().unwrap_or_default();
            read_exactly(digest, length, bytes, size, &mut block)?;
            self.push(Block { bytes: block, owner: Owner::File(digest) })?;
            left -= length;
        }
        Ok(())
    }

    fn close_fragment(&mut self) -> Result<(), SquashfsError> {
        if self.fragment.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.fragment);
        self.fragment_number += 1;
        self.push(Block { bytes, owner: Owner::Fragment })
    }

    fn push(&mut self, block: Block) -> Result<(), SquashfsError> {
        self.window.push(block);
        if self.window.len() == WINDOW { self.flush() } else { Ok(()) }
    }

    /// Compresses the window's blocks side by side and writes them in order.
    fn flush(&mut self) -> Result<(), SquashfsError> {
        let level = self.params.level;
        let window = std::mem::take(&mut self.window);
        let packed: Vec<Packed> = window
            .par_iter()
            .map(|block| pack(block, level))
            .collect::<Result<_, _>>()
            .map_err(SquashfsError::Compress)?;
        for (block, packed) in window.into_iter().zip(packed) {
            let (bytes, size): (&[u8], u32) = match &packed {
                Packed::Hole => (&[], 0),
                Packed::Smaller(bytes) => (bytes, bytes.len() as u32),
                Packed::Stored => (&block.bytes, block.bytes.len() as u32 | STORED_BLOCK),
            };
            self.out.write_all(bytes).map_err(SquashfsError::Write)?;
            self.place(&block.owner, size);
            self.index.length += bytes.len() as u64;
            let mut buffer = block.bytes;
            buffer.clear();
            self.spare.push(buffer);
        }
        Ok(())
    }

    /// Notes where the block that is written next lies.
    fn place(&mut self, owner: &Owner, size: u32) {
        let offset = self.index.length;
        match owner {
            Owner::Fragment => self.index.fragments.push(FragmentBlock(offset, size)),
            Owner::File(digest) => {
                if let Some(Placed { place: Placement::Blocks(start, sizes), .. }) = self.index.files.get_mut(digest) {
                    if sizes.is_empty() {
                        *start = offset;
                    }
                    sizes.push(size);
                }
            }
        }
    }

    fn finish(mut self) -> Result<SegmentIndex, SquashfsError> {
        self.close_fragment()?;
        self.flush()?;
        let padding = self.index.length.next_multiple_of(ALIGNMENT) - self.index.length;
        self.out.write_all(&[0; ALIGNMENT as usize][..padding as usize]).map_err(SquashfsError::Write)?;
        self.index.length += padding;
        Ok(self.index)
    }
}

/// Appends `length` bytes of the content `digest` to `buffer`.
fn read_exactly(
    digest: Digest,
    length: u64,
    bytes: &mut impl Read,
    size: u64,
    buffer: &mut Vec<u8>,
) -> Result<(), SquashfsError> {
    let read = bytes.take(length).read_to_end(buffer).map_err(|source| SquashfsError::Read { digest, source })?;
    if read as u64 == length { Ok(()) } else { Err(SquashfsError::Size { digest, size }) }
}

enum Packed {
    Hole,
    Smaller(Vec<u8>),
    Stored,
}

fn pack(block: &Block, level: i32) -> std::io::Result<Packed> {
    // A fragment block cannot be a hole: the format has no size 0 for it.
    if matches!(block.owner, Owner::File(_)) && block.bytes.iter().all(|byte| *byte == 0) {
        return Ok(Packed::Hole);
    }
    Ok(codec::compress(&block.bytes, level)?.map_or(Packed::Stored, Packed::Smaller))
}
