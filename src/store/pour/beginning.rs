//! What files begin with, hashed once.
//!
//! Where a file is nothing but objects up to some place, as a tarball is, how far its hash was there is remembered at a few
//! of such places. The next file that begins with the same objects goes on from the last of them. The objects themselves
//! are hashed as ever, so an altered one reaches no file.

use crate::digest::{Digest, Hasher, Key, Paused};
use crate::format::Bytes;
use crate::store::{Store, StoreError};

/// Version of what is remembered (a format break).
const VERSION: u32 = 1;

/// Fewer bytes are hashed as fast as they are remembered.
const WORTH: u64 = 4 << 20;

/// The hash of a file that is being poured.
pub(super) struct FileHash {
    /// The digest, where it is known without hashing.
    known: Option<Digest>,
    hasher: Hasher,
    /// Bytes that have passed.
    passed: u64,
    /// Up to here the hasher had seen them before.
    seen: u64,
    /// The places still to come that are worth remembering, the first one last.
    marks: Vec<Mark>,
    /// What is to be remembered once the file is known to be right.
    news: Vec<(Mark, Paused)>,
}

/// A place that a file has nothing but objects before.
#[derive(Clone, Debug)]
struct Mark {
    /// Bytes before it.
    offset: u64,
    /// Digest of the list of the objects.
    objects: Digest,
}

impl Mark {
    fn key(&self) -> Key {
        Key::new("pour.beginning", VERSION).input("objects", self.objects)
    }
}

impl FileHash {
    fn new() -> Self {
        Self { known: None, hasher: Hasher::new(), passed: 0, seen: 0, marks: Vec::new(), news: Vec::new() }
    }

    /// The hash of a file of these pieces. Where its digest is `expected`, it alone vouches for them, so all of it is hashed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn of(store: &Store, pieces: &[&Bytes], expected: Option<Digest>) -> Result<Self, StoreError> {
        if expected.is_some() {
            return Ok(Self::new());
        }
        // One object is hashed for itself, and that is its name.
        match store.whole_object(pieces)? {
            Some(digest) => Ok(Self { known: Some(digest), ..Self::new() }),
            None => Self::resumed(store, marks(pieces)),
        }
    }

    /// From the last of the places that is remembered.
    fn resumed(store: &Store, mut marks: Vec<Mark>) -> Result<Self, StoreError> {
        let mut later = Vec::new();
        while let Some(mark) = marks.pop() {
            let key = mark.key();
            // Nobody else is asked for it: that takes longer than hashing.
            let paused = if store.keeps(&key) { store.result::<Paused>(&key)? } else { None };
            if let Some(hasher) = paused.and_then(|paused| Hasher::resume(&paused, mark.offset)) {
                return Ok(Self { hasher, seen: mark.offset, marks: later, ..Self::new() });
            }
            later.push(mark);
        }
        Ok(Self { marks: later, ..Self::new() })
    }

    /// Bytes at the file's beginning that need not be hashed for it.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Where the next bytes go, none of them past a mark; nowhere when they need not be hashed.
    pub(super) fn lane(&mut self) -> Option<&mut Hasher> {
        (self.known.is_none() && self.passed >= self.seen).then_some(&mut self.hasher)
    }

    /// Notes that `length` bytes have passed.
    pub(super) fn advance(&mut self, length: u64) {
        self.passed += length;
        if let Some(mark) = self.marks.pop_if(|mark| mark.offset == self.passed) {
            self.news.push((mark, self.hasher.pause()));
        }
    }

    /// The digest, when all bytes have passed.
    pub(super) fn digest(&self) -> Digest {
        self.known.unwrap_or_else(|| self.hasher.clone().finish())
    }

    /// Remembers how far the hash was where others may begin with the same objects, which were found to be what their
    /// names say.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(super) fn remember(&self, store: &Store) -> Result<(), StoreError> {
        self.news.iter().try_for_each(|(mark, paused)| store.record(&mark.key(), Vec::new(), paused))
    }
}

/// The ends of objects that lie half, a quarter, an eighth and so on of a file before its end, the first one first.
fn marks(pieces: &[&Bytes]) -> Vec<Mark> {
    let size: u64 = pieces.iter().map(|bytes| bytes.length()).sum();
    let (mut listed, mut offset, mut marks) = (Hasher::new(), 0, Vec::<Mark>::new());
    let mut rest = size / 2;
    for piece in pieces {
        let Bytes::Object { object, offset: start, length } = piece else { break };
        let end = offset + length;
        if end > size - rest && offset > 0 {
            marks.push(Mark { offset, objects: listed.clone().finish() });
        }
        while rest >= WORTH && end > size - rest {
            rest /= 2;
        }
        if rest < WORTH {
            break;
        }
        listed.update(format!("{object} {start} {length}\n").as_bytes());
        offset = end;
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_worth_remembering_lie_ever_nearer_to_the_end() {
        const MIB: u64 = 1 << 20;
        let object = |name: u8, length| Bytes::Object { object: Digest::of(&[name]), offset: 0, length };
        let offsets = |pieces: &[Bytes]| {
            let marks = marks(&pieces.iter().collect::<Vec<_>>());
            marks.into_iter().map(|mark| mark.offset / MIB).collect::<Vec<u64>>()
        };
        let members: Vec<Bytes> = (0..64).map(|at| object(at, MIB)).collect();
        assert_eq!(offsets(&members), [32, 48, 56, 60]);
        // One that spans several of them is before or behind them all.
        let large = [object(0, 10 * MIB), object(1, 50 * MIB), object(2, 4 * MIB)];
        assert_eq!(offsets(&large), [10, 60]);
        let none: [u64; 0] = [];
        assert_eq!(offsets(&[object(0, 7 * MIB), object(1, MIB / 2)]), none);
        assert_eq!(offsets(&[object(0, 64 * MIB)]), none);
        // Behind what is no object there is none.
        let gap = [Bytes::Zeros(1)];
        assert_eq!(offsets(&[&members[..40], &gap, &members[40..]].concat()), [32]);
        assert_eq!(offsets(&[&gap, &members[..]].concat()), none);
    }

    #[test]
    fn the_same_objects_in_another_order_are_another_beginning() {
        let object = |name: u8| Bytes::Object { object: Digest::of(&[name]), offset: 0, length: 10 << 20 };
        let (one, two, three) = (object(1), object(2), object(3));
        let first = |pieces: &[&Bytes]| marks(pieces).last().map(|mark| mark.objects);
        assert_eq!(first(&[&one, &two, &three]), first(&[&one, &two, &one]));
        assert_ne!(first(&[&one, &two, &three]), first(&[&two, &one, &three]));
    }
}
