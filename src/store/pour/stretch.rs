//! In what order the pieces of files that are poured side by side are read.

use crate::format::Bytes;

use super::Wanted;
use super::beginning::FileHash;
use super::common::Group;

/// Pieces that go into some of the files that are poured side by side.
pub(super) struct Stretch<'a> {
    /// The files, by their places in the group.
    pub into: Vec<usize>,
    pub pieces: &'a [&'a Bytes],
    /// Whether objects are hashed for themselves: in no file whose digest is known.
    pub is_checked: bool,
    /// Whether it is read in turns with the one before it, so that an object of each is hashed at once.
    pub is_beside: bool,
}

impl Stretch<'_> {
    pub(super) fn length(&self) -> u64 {
        self.pieces.iter().map(|bytes| bytes.length()).sum()
    }
}

/// What each file has before the common run, the run, and what each has behind it. The beginning of a file alone that need
/// not be hashed for the file is read at two places.
pub(super) fn stretches<'a>(
    group: &Group,
    pieces: &'a [Vec<&'a Bytes>],
    files: &[Wanted<'_>],
    hashes: &[FileHash],
) -> Vec<Stretch<'a>> {
    let members = || group.members.iter().enumerate();
    let own = |at: usize, pieces: &'a [&'a Bytes]| {
        let is_checked = files[group.members[at].0].expected.is_none();
        Stretch { into: vec![at], pieces, is_checked, is_beside: false }
    };
    if let ([(file, _)], [hash]) = (&group.members[..], hashes) {
        let pieces = &pieces[*file];
        let (seen, rest) = pieces.split_at(count(pieces, hash.seen()));
        let (first, second) = seen.split_at(count(seen, hash.seen() / 2));
        return vec![own(0, first), Stretch { is_beside: true, ..own(0, second) }, own(0, rest)];
    }
    let before = members().map(|(at, (file, start))| own(at, &pieces[*file][..*start]));
    let common = group.members.first().map(|(file, start)| Stretch {
        into: members().map(|(at, _)| at).collect(),
        pieces: &pieces[*file][*start..start + group.length],
        is_checked: members().all(|(_, (file, _))| files[*file].expected.is_none()),
        is_beside: false,
    });
    let after = members().map(|(at, (file, start))| own(at, &pieces[*file][start + group.length..]));
    before.chain(common).chain(after).collect()
}

/// How many pieces the first `bytes` are.
fn count(pieces: &[&Bytes], bytes: u64) -> usize {
    let mut end = 0;
    let within = |piece: &&&Bytes| {
        end += piece.length();
        end <= bytes
    };
    pieces.iter().take_while(within).count()
}
