//! SHA-256's compression into several states at once, by the SHA instructions of x86-64.
//!
//! Each round waits for the one before, so a single state leaves a part of the processor's unit for it idle, and what is
//! made of a message alone is made once where all have the same. How much that is differs: where one state takes 1.7 GB/s
//! (Rocket Lake), two or more take 2.3 together. Source: FIPS 180-4, 6.2.2; Intel, *SHA Extensions* (2013), for the order
//! of the words in registers.

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// A state: the eight words.
pub type State = [u32; 8];

/// Compresses `blocks` into each of the states. False where the processor cannot, and then nothing was done.
pub fn compress_all<const N: usize>(states: &mut [State; N], blocks: &[[u8; BLOCK]]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if x86_64::is_possible() {
        #[expect(unsafe_code, reason = "only the compiler's word for what was just found out is missing")]
        // SAFETY: the processor has the instructions that the function is compiled to.
        unsafe {
            x86_64::compress_all(states, blocks);
        }
        return true;
    }
    let _ = (states, blocks);
    false
}

/// Compresses blocks of its own, as many as the other has, into each of two states. False where the processor cannot, and
/// then nothing was done.
pub fn compress_two(states: &mut [State; 2], blocks: [&[[u8; BLOCK]]; 2]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if x86_64::is_possible() {
        #[expect(unsafe_code, reason = "only the compiler's word for what was just found out is missing")]
        // SAFETY: the processor has the instructions that the function is compiled to.
        unsafe {
            x86_64::compress_two(states, blocks);
        }
        return true;
    }
    let _ = (states, blocks);
    false
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::{BLOCK, State};

    /// FIPS 180-4, 4.2.2.
    const CONSTANTS: [u32; 64] = [
        0x428a_2f98,
        0x7137_4491,
        0xb5c0_fbcf,
        0xe9b5_dba5,
        0x3956_c25b,
        0x59f1_11f1,
        0x923f_82a4,
        0xab1c_5ed5,
        0xd807_aa98,
        0x1283_5b01,
        0x2431_85be,
        0x550c_7dc3,
        0x72be_5d74,
        0x80de_b1fe,
        0x9bdc_06a7,
        0xc19b_f174,
        0xe49b_69c1,
        0xefbe_4786,
        0x0fc1_9dc6,
        0x240c_a1cc,
        0x2de9_2c6f,
        0x4a74_84aa,
        0x5cb0_a9dc,
        0x76f9_88da,
        0x983e_5152,
        0xa831_c66d,
        0xb003_27c8,
        0xbf59_7fc7,
        0xc6e0_0bf3,
        0xd5a7_9147,
        0x06ca_6351,
        0x1429_2967,
        0x27b7_0a85,
        0x2e1b_2138,
        0x4d2c_6dfc,
        0x5338_0d13,
        0x650a_7354,
        0x766a_0abb,
        0x81c2_c92e,
        0x9272_2c85,
        0xa2bf_e8a1,
        0xa81a_664b,
        0xc24b_8b70,
        0xc76c_51a3,
        0xd192_e819,
        0xd699_0624,
        0xf40e_3585,
        0x106a_a070,
        0x19a4_c116,
        0x1e37_6c08,
        0x2748_774c,
        0x34b0_bcb5,
        0x391c_0cb3,
        0x4ed8_aa4a,
        0x5b9c_ca4f,
        0x682e_6ff3,
        0x748f_82ee,
        0x78a5_636f,
        0x84c8_7814,
        0x8cc7_0208,
        0x90be_fffa,
        0xa450_6ceb,
        0xbef9_a3f7,
        0xc671_78f2,
    ];

    /// The words a, b, e, f of a state, and c, d, g, h.
    type Halves = (__m128i, __m128i);

    /// Whether the processor has the instructions that the functions below are compiled to.
    pub(super) fn is_possible() -> bool {
        is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1")
    }

    /// As [`super::compress_all`].
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    pub(super) fn compress_all<const N: usize>(states: &mut [State; N], blocks: &[[u8; BLOCK]]) {
        let mut halves = [load(&states[0]); N];
        for (halves, state) in halves.iter_mut().zip(states.iter()) {
            *halves = load(state);
        }
        for block in blocks {
            let before = halves;
            let mut words = message(block);
            for quarter in 0..4 {
                for at in 0..4 {
                    if quarter > 0 {
                        words[at] = schedule(&words, at);
                    }
                    rounds(&mut halves, [words[at]; N], 16 * quarter + 4 * at);
                }
            }
            add(&mut halves, before);
        }
        for (state, halves) in states.iter_mut().zip(halves) {
            *state = store(halves);
        }
    }

    /// As [`super::compress_two`].
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    pub(super) fn compress_two(states: &mut [State; 2], blocks: [&[[u8; BLOCK]]; 2]) {
        let mut halves = [load(&states[0]), load(&states[1])];
        for (one, two) in blocks[0].iter().zip(blocks[1]) {
            let before = halves;
            let mut words = [message(one), message(two)];
            for quarter in 0..4 {
                for at in 0..4 {
                    if quarter > 0 {
                        words[0][at] = schedule(&words[0], at);
                        words[1][at] = schedule(&words[1], at);
                    }
                    rounds(&mut halves, [words[0][at], words[1][at]], 16 * quarter + 4 * at);
                }
            }
            add(&mut halves, before);
        }
        *states = [store(halves[0]), store(halves[1])];
    }

    /// Four rounds of each state, from the round `first`.
    #[inline]
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn rounds<const N: usize>(halves: &mut [Halves; N], mut words: [__m128i; N], first: usize) {
        for (words, (abef, cdgh)) in words.iter_mut().zip(halves.iter_mut()) {
            *words = _mm_add_epi32(*words, vector(&CONSTANTS, first));
            *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, *words);
        }
        for (words, (abef, cdgh)) in words.into_iter().zip(halves) {
            *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(words, 0x0e));
        }
    }

    #[inline]
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn add<const N: usize>(halves: &mut [Halves; N], before: [Halves; N]) {
        for (now, before) in halves.iter_mut().zip(before) {
            *now = (_mm_add_epi32(now.0, before.0), _mm_add_epi32(now.1, before.1));
        }
    }

    /// The four words of the schedule that follow the sixteen of `words`, whose oldest four are at `at`.
    #[inline]
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn schedule(words: &[__m128i; 4], at: usize) -> __m128i {
        let (one, two) = (words[at], words[(at + 1) % 4]);
        let (three, four) = (words[(at + 2) % 4], words[(at + 3) % 4]);
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(one, two), _mm_alignr_epi8(four, three, 4));
        _mm_sha256msg2_epu32(sum, four)
    }

    /// The block's sixteen words.
    #[inline]
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn message(block: &[u8; BLOCK]) -> [__m128i; 4] {
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let mut words = [_mm_set_epi64x(0, 0); 4];
        for (words, pair) in words.iter_mut().zip(block.as_chunks::<16>().0) {
            let pair = u128::from_le_bytes(*pair);
            // What the shift leaves behind is the other half.
            *words = _mm_shuffle_epi8(_mm_set_epi64x((pair >> 64) as i64, pair as i64), swap);
        }
        words
    }

    /// Four words as a register has them, the first one lowest.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn vector(words: &[u32], first: usize) -> __m128i {
        let word = |at: usize| words[first + at].cast_signed();
        _mm_set_epi32(word(3), word(2), word(1), word(0))
    }

    #[inline]
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn load(state: &State) -> Halves {
        let cdab = _mm_shuffle_epi32(vector(state, 0), 0xb1);
        let efgh = _mm_shuffle_epi32(vector(state, 4), 0x1b);
        (_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xf0))
    }

    #[inline]
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn store((abef, cdgh): Halves) -> State {
        let (feba, dchg) = (_mm_shuffle_epi32(abef, 0x1b), _mm_shuffle_epi32(cdgh, 0xb1));
        let (dcba, hgfe) = (_mm_blend_epi16(feba, dchg, 0xf0), _mm_alignr_epi8(dchg, feba, 8));
        let words = |half| {
            [
                _mm_extract_epi32(half, 0),
                _mm_extract_epi32(half, 1),
                _mm_extract_epi32(half, 2),
                _mm_extract_epi32(half, 3),
            ]
        };
        let ([a, b, c, d], [e, f, g, h]) = (words(dcba), words(hgfe));
        [a, b, c, d, e, f, g, h].map(i32::cast_unsigned)
    }
}
