//! A running SHA-256: alone, or beside others over the same bytes.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::block_api::compress256;

use super::Digest;
use crate::sys::sha256::{self, BLOCK, State};

/// The state before anything was added (FIPS 180-4, 5.3.3).
const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Where the last block has the message's length in bits (FIPS 180-4, 5.1.1).
const LENGTH: usize = BLOCK - 8;

/// A running SHA-256.
#[derive(Clone)]
pub struct Hasher {
    state: State,
    length: u64,
    /// The block that is not full yet: its first `length % 64` bytes count.
    partial: [u8; BLOCK],
}

/// A hasher that waits, kept until it is needed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    state: State,
    length: u64,
    partial: Vec<u8>,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self { state: INITIAL, length: 0, partial: [0; BLOCK] }
    }

    /// Bytes of the block that is not full yet.
    fn held(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        let rest = self.complete(bytes);
        let (blocks, rest) = rest.as_chunks();
        compress256(&mut self.state, blocks);
        self.length += (blocks.len() * BLOCK) as u64;
        self.hold(rest);
    }

    /// Adds what the block takes that has begun; returns what is behind it.
    fn complete<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let held = self.held();
        if held == 0 {
            return bytes;
        }
        let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - held));
        self.hold(now);
        if self.held() == 0 && !now.is_empty() {
            compress256(&mut self.state, &[self.partial]);
        }
        rest
    }

    /// Adds no more than fits into the block.
    fn hold(&mut self, bytes: &[u8]) {
        let held = self.held();
        self.partial[held..held + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u64;
    }

    /// How far this hasher is.
    pub fn pause(&self) -> Paused {
        Paused { state: self.state, length: self.length, partial: self.partial[..self.held()].to_vec() }
    }

    /// A hasher that goes on after `length` bytes; none when `paused` was somewhere else, or never.
    pub fn resume(paused: &Paused, length: u64) -> Option<Self> {
        let mut hasher = Self { state: paused.state, length, partial: [0; BLOCK] };
        let held = hasher.held();
        if (paused.length, paused.partial.len()) != (length, held) {
            return None;
        }
        hasher.partial[..held].copy_from_slice(&paused.partial);
        Some(hasher)
    }

    /// The digest of everything added.
    pub fn finish(mut self) -> Digest {
        let held = self.held();
        let bits = self.length.wrapping_mul(8).to_be_bytes();
        let mut last = [[0; BLOCK]; 2];
        last[0][..held].copy_from_slice(&self.partial[..held]);
        last[0][held] = 0x80;
        let blocks = if held < LENGTH { 1 } else { 2 };
        last[blocks - 1][LENGTH..].copy_from_slice(&bits);
        compress256(&mut self.state, &last[..blocks]);
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        Digest(digest)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hasher")
    }
}

/// Adds the same bytes to several hashers. Where their blocks begin at the same byte, up to four of them take less time
/// together than one after another (see [`sha256`]); so do two wherever theirs begin.
pub fn update_all(hashers: &mut [&mut Hasher], bytes: &[u8]) {
    for some in hashers.chunks_mut(4) {
        let held = some.first().map(|hasher| hasher.held());
        let in_step = some.iter().all(|hasher| Some(hasher.held()) == held);
        match some {
            [one, two] if in_step => together([one, two], bytes),
            [one, two, three] if in_step => together([one, two, three], bytes),
            [one, two, three, four] if in_step => together([one, two, three, four], bytes),
            [one, two] => update_two([one, two], [bytes, bytes]),
            _ => some.iter_mut().for_each(|hasher| hasher.update(bytes)),
        }
    }
}

/// Adds to hashers whose blocks begin at the same byte.
fn together<const N: usize>(hashers: [&mut Hasher; N], bytes: &[u8]) {
    let (mut hashers, mut rest) = (hashers, bytes);
    for hasher in &mut hashers {
        rest = hasher.complete(bytes);
    }
    let (blocks, last) = rest.as_chunks();
    let mut states = hashers.each_ref().map(|hasher| hasher.state);
    if !sha256::compress_all(&mut states, blocks) {
        states.iter_mut().for_each(|state| compress256(state, blocks));
    }
    for (hasher, state) in hashers.into_iter().zip(states) {
        hasher.state = state;
        hasher.length += (blocks.len() * BLOCK) as u64;
        hasher.hold(last);
    }
}

/// Adds to each of two hashers bytes of its own, wherever their blocks begin: as far as both have some, that takes less time
/// than one after the other.
pub fn update_two(mut hashers: [&mut Hasher; 2], bytes: [&[u8]; 2]) {
    let [one, two] = &mut hashers;
    let rests = [one.complete(bytes[0]), two.complete(bytes[1])].map(<[u8]>::as_chunks);
    let count = rests[0].0.len().min(rests[1].0.len());
    let mut states = hashers.each_ref().map(|hasher| hasher.state);
    let done = sha256::compress_two(&mut states, rests.map(|(blocks, _)| &blocks[..count]));
    let from = if done { count } else { 0 };
    for ((hasher, mut state), (blocks, last)) in hashers.into_iter().zip(states).zip(rests) {
        compress256(&mut state, &blocks[from..]);
        hasher.state = state;
        hasher.length += (blocks.len() * BLOCK) as u64;
        hasher.hold(last);
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 15) as u8).collect()
    }

    #[test]
    fn every_length_in_every_cut_has_the_digest_that_others_find() {
        let bytes = noise(400);
        for length in 0..bytes.len() {
            let expected: [u8; 32] = sha2::Sha256::digest(&bytes[..length]).into();
            for cut in [0, 1, 55, 63, 64, 65, 200].map(|cut: usize| cut.min(length)) {
                let mut hasher = Hasher::new();
                hasher.update(&bytes[..cut]);
                hasher.update(&bytes[cut..length]);
                assert_eq!(hasher.finish(), Digest(expected), "{length} bytes, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_hasher_goes_on_where_it_was_and_nowhere_else() {
        let bytes = noise(400);
        for cut in [0, 1, 63, 64, 65, 200, 399] {
            let mut hasher = Hasher::new();
            hasher.update(&bytes[..cut]);
            let kept = serde_json::to_string(&hasher.pause()).unwrap();
            let paused: Paused = serde_json::from_str(&kept).unwrap();
            let mut resumed = Hasher::resume(&paused, cut as u64).unwrap();
            resumed.update(&bytes[cut..]);
            assert_eq!(resumed.finish(), Digest::of(&bytes), "cut at {cut}");
            assert!(Hasher::resume(&paused, cut as u64 + 64).is_none());
            let longer = Paused { partial: vec![0; 65], ..paused };
            assert!(Hasher::resume(&longer, cut as u64).is_none());
        }
    }

    #[test]
    fn two_with_bytes_of_their_own_find_what_each_finds_alone() {
        let bytes = noise(1000);
        for lengths in [[0, 0], [0, 999], [63, 64], [200, 64], [500, 999], [999, 1]] {
            for leads in [[0, 0], [7, 0], [61, 3]] {
                let mut hashers = leads.map(|lead| {
                    let mut hasher = Hasher::new();
                    hasher.update(&bytes[..lead]);
                    hasher
                });
                update_two(hashers.each_mut(), lengths.map(|length| &bytes[1000 - length..]));
                for (hasher, (lead, length)) in hashers.into_iter().zip(leads.into_iter().zip(lengths)) {
                    let expected = [&bytes[..lead], &bytes[1000 - length..]].concat();
                    assert_eq!(hasher.finish(), Digest::of(&expected), "{lead} before, {length}");
                }
            }
        }
    }

    #[test]
    fn hashers_together_find_what_each_finds_alone() {
        let bytes = noise(1000);
        for count in 0..7 {
            for (lead, step) in [(0, 0), (7, 0), (64, 0), (64, 64), (3, 1), (61, 0)] {
                for length in [0, 1, 60, 61, 64, 128, 500, 999] {
                    let leads: Vec<usize> = (0..count).map(|at| lead + at * step).collect();
                    let begun = leads.iter().map(|lead| {
                        let mut hasher = Hasher::new();
                        hasher.update(&bytes[..*lead]);
                        hasher
                    });
                    let mut hashers: Vec<Hasher> = begun.collect();
                    update_all(&mut hashers.iter_mut().collect::<Vec<_>>(), &bytes[..length]);
                    update_all(&mut hashers.iter_mut().collect::<Vec<_>>(), &bytes[length..]);
                    for (hasher, lead) in hashers.into_iter().zip(leads) {
                        let expected = [&bytes[..lead], &bytes].concat();
                        assert_eq!(hasher.finish(), Digest::of(&expected), "{count} hashers, {lead} before, {length}");
                    }
                }
            }
        }
    }
}
