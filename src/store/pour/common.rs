//! Which files of a pour are written side by side: those that have a long run of pieces in common.

use std::collections::HashMap;
use std::ops::Range;

use crate::digest::Digest;
use crate::format::Bytes;

/// Bytes of a run that are worth it; a root has a hundred times as many.
const WORTH: u64 = 1 << 20;

/// Files that are poured together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Each file, and where the common run begins among its pieces.
    pub members: Vec<(usize, usize)>,
    /// Number of the run's pieces; none in a file that is poured alone.
    pub length: usize,
}

/// Every file once: the longest common run first, with all files that have it.
pub(super) fn groups(files: &[Vec<&Bytes>]) -> Vec<Group> {
    let files: Vec<Pieces<'_>> = files.iter().map(|pieces| Pieces::new(pieces)).collect();
    let mut alone: Vec<usize> = (0..files.len()).collect();
    let mut groups = Vec::new();
    while let Some((file, run)) = longest(&files, &alone) {
        let run = &files[file].pieces[run];
        let members: Vec<(usize, usize)> =
            alone.iter().filter_map(|other| Some((*other, files[*other].find(run)?))).collect();
        alone.retain(|other| members.iter().all(|(member, _)| member != other));
        groups.push(Group { members, length: run.len() });
    }
    groups.extend(alone.into_iter().map(|file| Group { members: vec![(file, 0)], length: 0 }));
    groups
}

/// The longest run that two of `among` have in common, as the first of the two has it.
fn longest(files: &[Pieces<'_>], among: &[usize]) -> Option<(usize, Range<usize>)> {
    let large: Vec<usize> = among.iter().copied().filter(|file| files[*file].bytes >= WORTH).collect();
    let pairs = large.iter().enumerate().flat_map(|(at, one)| large[at + 1..].iter().map(move |other| (*one, *other)));
    let runs = pairs.filter_map(|(one, other)| Some((one, files[one].common(&files[other])?)));
    let longest = runs.max_by_key(|(_, (bytes, _))| *bytes).filter(|(_, (bytes, _))| *bytes >= WORTH);
    longest.map(|(one, (_, run))| (one, run))
}

/// The pieces of a file, and where its objects are among them.
struct Pieces<'a> {
    pieces: &'a [&'a Bytes],
    places: HashMap<(Digest, u64, u64), usize>,
    /// Bytes that are in objects.
    bytes: u64,
}

impl<'a> Pieces<'a> {
    fn new(pieces: &'a [&'a Bytes]) -> Self {
        let places: HashMap<_, usize> =
            pieces.iter().enumerate().filter_map(|(at, bytes)| Some((object(bytes)?, at))).collect();
        let bytes = places.keys().map(|(_, _, length)| length).sum();
        Self { pieces, places, bytes }
    }

    /// The longest run in common with `other`, by its bytes, and these.
    fn common(&self, other: &Self) -> Option<(u64, Range<usize>)> {
        let mut best: Option<(u64, Range<usize>)> = None;
        let mut at = 0;
        while at < self.pieces.len() {
            let Some(there) = object(self.pieces[at]).and_then(|piece| other.places.get(&piece)) else {
                at += 1;
                continue;
            };
            let same = |(one, other): &(&&Bytes, &&Bytes)| one == other;
            // What is no object, a superblock, may lead the run.
            let before =
                self.pieces[..at].iter().rev().zip(other.pieces[..*there].iter().rev()).take_while(same).count();
            let after = self.pieces[at..].iter().zip(&other.pieces[*there..]).take_while(same).count();
            let run = at - before..at + after;
            let bytes = self.pieces[run.clone()].iter().map(|bytes| bytes.length()).sum();
            at = run.end;
            if best.as_ref().is_none_or(|(most, _)| bytes > *most) {
                best = Some((bytes, run));
            }
        }
        best
    }

    /// Where a run begins, if it is there.
    fn find(&self, run: &[&Bytes]) -> Option<usize> {
        self.pieces.windows(run.len()).position(|window| window == run)
    }
}

fn object(bytes: &Bytes) -> Option<(Digest, u64, u64)> {
    match bytes {
        Bytes::Object { object, offset, length } => Some((*object, *offset, *length)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_a_long_run_in_common_go_together() {
        let object = |name: u8, length| Bytes::Object { object: Digest::of(&[name]), offset: 0, length };
        let (head, long, longer) = (Bytes::Literal((*b"head").into()), object(1, WORTH), object(2, 9 * WORTH));
        let (other, small, gap) = (object(3, 5 * WORTH), object(4, 100), Bytes::Zeros(99 * WORTH));
        let root = vec![&head, &long, &longer];
        let disk = vec![&gap, &other, &gap, &head, &long, &longer, &gap];
        let kernel = vec![&small, &other];
        let initrd = vec![&other];
        let table = vec![&head, &small];
        let groups = groups(&[table, initrd, disk, kernel, root]);
        let expected = [
            Group { members: vec![(2, 3), (4, 0)], length: 3 },
            Group { members: vec![(1, 0), (3, 1)], length: 1 },
            Group { members: vec![(0, 0)], length: 0 },
        ];
        assert_eq!(groups, expected);
    }
}
