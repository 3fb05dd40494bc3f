//! zstd over single blocks, with one context a thread.
//!
//! A block's bytes depend on its content, the level and the pinned libzstd alone: not on what a context compressed
//! before (a test holds that), nor on the number of threads.

use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};

struct Context {
    level: i32,
    compressor: Compressor<'static>,
    buffer: Vec<u8>,
}

thread_local! {
    /// Setting up a context costs as much as a small block, so each thread keeps the one that it used last.
    static CONTEXT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// Compresses `block`; none when that would not make it smaller.
pub(super) fn compress(block: &[u8], level: i32) -> io::Result<Option<Vec<u8>>> {
    CONTEXT.with_borrow_mut(|slot| {
        let context = match slot {
            Some(context) if context.level == level => context,
            _ => slot.insert(Context { level, compressor: Compressor::new(level)?, buffer: Vec::new() }),
        };
        context.buffer.clear();
        context.buffer.reserve(zstd::zstd_safe::compress_bound(block.len()));
        let length = context.compressor.compress_to_buffer(block, &mut context.buffer)?;
        Ok((length < block.len()).then(|| context.buffer[..length].to_vec()))
    })
}

/// Decompresses blocks of at most a given length; a frame that wants more is an error, not an allocation.
pub(super) struct Decoder(Decompressor<'static>);

impl Decoder {
    pub(super) fn new() -> io::Result<Self> {
        Decompressor::new().map(Self)
    }

    /// Decompresses `block` into `out`, which ends with at most `limit` bytes, whatever it held.
    pub(super) fn decompress(&mut self, block: &[u8], limit: usize, out: &mut Vec<u8>) -> io::Result<()> {
        out.resize(limit, 0);
        let length = self.0.decompress_to_buffer(block, out.as_mut_slice())?;
        out.truncate(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text-like bytes without a random source: a linear congruential generator over a small alphabet.
    fn text(length: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut step = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| b"the quick brown fox\n"[usize::from(step() % 20)]).collect()
    }

    #[test]
    fn a_used_context_gives_the_bytes_of_a_fresh_one() {
        for level in [1, 3, 7, 12] {
            let blocks: Vec<_> = (0..6).map(|seed| text(5_000 << seed, seed)).collect();
            for block in blocks.iter().chain(blocks.iter().rev()) {
                let fresh = zstd::bulk::compress(block, level).unwrap();
                assert_eq!(compress(block, level).unwrap(), Some(fresh), "level {level}, {} bytes", block.len());
            }
        }
    }

    #[test]
    fn blocks_round_trip_within_their_limit() {
        let block = text(10_000, 1);
        let packed = compress(&block, 3).unwrap().unwrap();
        let mut decoder = Decoder::new().unwrap();
        let mut out = vec![7; 3];
        decoder.decompress(&packed, block.len(), &mut out).unwrap();
        assert_eq!(out, block);
        assert!(decoder.decompress(&packed, block.len() - 1, &mut out).is_err());
        assert!(decoder.decompress(b"no frame", 100, &mut out).is_err());
        decoder.decompress(&packed, block.len(), &mut out).unwrap();
        assert_eq!(out, block, "an error leaves the decoder usable");
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        assert_eq!(compress(b"abc", 3).unwrap(), None);
    }
}
