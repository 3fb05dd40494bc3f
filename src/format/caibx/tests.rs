use proptest::prelude::*;

use super::*;
use crate::digest::Digest;

/// Bytes without a pattern, the same every time.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

const CASYNC_ENDS: [u64; 20] = [
    18247, 154840, 215596, 266832, 307764, 326684, 496597, 545715, 567548, 666706, 691823, 798951, 823878, 865819,
    884267, 903917, 1166061, 1428205, 1690349, 1748581,
];
const CASYNC_INDEX: &str = "89db81fcfafd68322ac246923fbf6e2c3ebadf81de72ec04d7d254bf22999fda";

fn ends(index: &Index) -> Vec<u64> {
    index.chunks.iter().map(Chunk::end).collect()
}

/// What `casync make --digest=sha512-256` (casync 2) wrote for these bytes.
#[test]
fn an_index_is_that_of_casync_byte_for_byte() {
    let bytes = [noise(1 << 20, 1), vec![0; 700_000], noise(5, 2)].concat();
    let index = Index::of(bytes.as_slice()).unwrap();
    assert_eq!(ends(&index), CASYNC_ENDS);
    assert_eq!(Digest::of(&index.write()).to_string(), CASYNC_INDEX);
    assert_eq!(Index::read(&index.write()), Ok(index));
}

#[test]
fn short_files_are_one_chunk_and_none_is_none() {
    for length in [0, 1, 48, LEAST - 1, LEAST] {
        let index = Index::of(noise(length, 3).as_slice()).unwrap();
        assert_eq!(index.chunks.len(), usize::from(length > 0), "{length}");
        assert_eq!(Index::read(&index.write()).unwrap().length(), length as u64);
    }
}

#[test]
fn a_change_moves_the_chunks_near_it_alone() {
    let before = noise(4 << 20, 4);
    let mut after = before.clone();
    after.splice(2 << 20..2 << 20, *b"a few bytes more");
    let (before, after) = (Index::of(before.as_slice()).unwrap(), Index::of(after.as_slice()).unwrap());
    let new = after.chunks.iter().filter(|chunk| before.chunks.iter().all(|other| other.id != chunk.id)).count();
    assert!((1..=2).contains(&new), "{new} of {} chunks are new", after.chunks.len());
}

#[test]
fn what_is_no_index_is_refused() {
    let index = Index::of(noise(300_000, 5).as_slice()).unwrap();
    let good = index.write();
    let with = |at: usize, number: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        Index::read(&bytes)
    };
    let tail = good.len() - ITEM_LENGTH;
    for at in [0, 8, 48, 56, tail, tail + 8, tail + 16, tail + 24, tail + 32] {
        assert_eq!(with(at, 7), Err(IndexError::Form), "{at}");
    }
    assert_eq!(with(16, 1 << 63), Err(IndexError::Digest));
    for at in [24, 32, 40] {
        assert_eq!(with(at, 1 << 30), Err(IndexError::Sizes), "{at}");
    }
    for end in [0, LEAST as u64 - 1, LARGEST as u64 + 1, u64::MAX] {
        assert_eq!(with(64, end), Err(IndexError::Chunk(0)), "{end}");
    }
    assert_eq!(with(tail - ITEM_LENGTH, 1), Err(IndexError::Chunk(index.chunks.len() - 1)));
    for length in 0..good.len() {
        assert!(Index::read(&good[..length]).is_err(), "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes come, the chunks are the same, between their bounds, and all of the file.
    #[test]
    fn chunks_are_the_file_however_it_is_read(length in 0_usize..1 << 20, seed: u64, step in 1_usize..100_000) {
        struct Steps<'a>(&'a [u8], usize);
        impl Read for Steps<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = self.1.min(buffer.len()).min(self.0.len());
                let (now, later) = self.0.split_at(length);
                buffer[..length].copy_from_slice(now);
                self.0 = later;
                Ok(length)
            }
        }
        let bytes = noise(length, seed);
        let index = Index::of(bytes.as_slice()).unwrap();
        prop_assert_eq!(&Index::of(Steps(&bytes, step)).unwrap(), &index);
        prop_assert_eq!(index.length(), length as u64);
        for chunk in &index.chunks {
            let start = chunk.start as usize;
            prop_assert_eq!(Id::of(&bytes[start..start + chunk.length]), chunk.id);
        }
        prop_assert_eq!(&Index::read(&index.write()).unwrap(), &index);
    }
}
