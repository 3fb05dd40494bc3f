//! Pouring: recipes become files.
//!
//! Files that have much in common, as a disk and the root in it, are written side by side: what they share is read once,
//! and hashed for all of them at once. One thread reads and writes, a second one hashes; files that have little in common
//! are poured at the same time. Objects that were not hashed before are hashed there too, and no file gets its name before
//! all that is in it is what it should be.

mod beginning;
mod common;
mod hashing;
mod run;
mod stretch;
mod target;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;

use rayon::prelude::*;

use crate::digest::{Digest, Hasher};
use crate::format::{Bytes, Recipe};
use crate::sys::files::Context as _;

use super::{Store, StoreError};
use beginning::FileHash;
use common::Group;
use hashing::{Check, Hashing};
use run::{Spare, Step, Steps};
use stretch::{Stretch, stretches};
use target::{Place, Target};

/// How many runs wait for the hash at once.
const WAITING: usize = 16;

/// A file to pour.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// What it is made of.
    pub recipe: &'a Recipe,
    /// Where it is to be.
    pub path: PathBuf,
    /// Its digest, where that is known: it vouches for every object in the file, so that these are not hashed for themselves.
    pub expected: Option<Digest>,
}

/// What was poured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poured {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl Store {
    /// Writes files, each whole or not at all, zeros left as holes; returns what they are, in order. `progress` is told of
    /// bytes as they are written.
    ///
    /// # Errors
    /// When an object is missing, altered or too short, a file cannot be written, or comes out otherwise than expected.
    pub fn pour(&self, files: &[Wanted<'_>], progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<Poured>, StoreError> {
        let pieces: Vec<Vec<&Bytes>> = files.iter().map(|file| pieces_of(file.recipe)).collect();
        let groups = common::groups(&pieces);
        let pour = |group: &Group| {
            let members = || group.members.iter().map(|(member, _)| *member);
            let targets = members().map(|member| Target::new(&files[member])).collect::<Result<_, _>>()?;
            let hashes = members().map(|member| FileHash::of(self, &pieces[member], files[member].expected));
            let hashes: Vec<FileHash> = hashes.collect::<Result<_, _>>()?;
            let stretches = stretches(group, &pieces, files, &hashes);
            self.pour_together(targets, hashes, &stretches, progress)
        };
        let done: Vec<Vec<Poured>> = groups.par_iter().with_max_len(1).map(pour).collect::<Result<_, StoreError>>()?;
        let members = groups.iter().flat_map(|group| &group.members).map(|(member, _)| *member);
        let poured: BTreeMap<usize, Poured> = members.zip(done.into_iter().flatten()).collect();
        Ok(poured.into_values().collect())
    }

    /// What was altered where a file is not what it was known to be.
    fn altered_among(&self, stretches: &[Stretch<'_>]) -> Result<StoreError, StoreError> {
        for piece in stretches.iter().flat_map(|stretch| stretch.pieces) {
            if let Bytes::Object { object, .. } = piece {
                self.open_verified(object)?;
            }
        }
        Ok(StoreError::Unlike)
    }

    /// The digest and size of the file that `recipe` describes, without writing it.
    ///
    /// # Errors
    /// When an object is missing, altered or too short.
    pub fn digest_of(&self, recipe: &Recipe) -> Result<Poured, StoreError> {
        match self.whole_object(&pieces_of(recipe))? {
            Some(digest) => {
                self.open_verified(&digest)?;
                Ok(Poured { digest, size: recipe.length() })
            }
            None => {
                let mut hasher = Hasher::new();
                self.feed(recipe, &mut |bytes| hasher.update(bytes))?;
                Ok(Poured { digest: hasher.finish(), size: recipe.length() })
            }
        }
    }

    /// The object that is all of a file, if one is: what it is poured to has its name for a digest.
    fn whole_object(&self, pieces: &[&Bytes]) -> Result<Option<Digest>, StoreError> {
        let [Bytes::Object { object, offset: 0, length }] = pieces else { return Ok(None) };
        let size = self.open_object(object)?.metadata().on("read", &self.object_path(object))?.len();
        Ok((size == *length).then_some(*object))
    }

    /// All bytes of a small recipe.
    ///
    /// # Errors
    /// When an object is missing, altered or too short.
    pub fn bytes_of(&self, recipe: &Recipe) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.feed(recipe, &mut |chunk| bytes.extend_from_slice(chunk))?;
        Ok(bytes)
    }

    /// Hands the bytes of a recipe to `take`, front to back; those of an altered object too, before it fails.
    ///
    /// # Errors
    /// When an object is missing, altered or too short.
    pub fn feed(&self, recipe: &Recipe, take: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        let (spare, pieces) = (Spare::default(), pieces_of(recipe));
        let mut check = Check::new(self);
        for step in Steps::new(self, &pieces, true, &spare) {
            match step? {
                Step::Open { is_new, .. } => check.begin(is_new),
                Step::Run(run) => {
                    run.each_chunk(&mut |chunk| {
                        check.lane().into_iter().for_each(|hasher| hasher.update(chunk));
                        take(chunk);
                    });
                    spare.give_back(run);
                }
                Step::End(object) => check.end(object)?,
            }
        }
        Ok(())
    }

    /// Writes stretch after stretch, those beside one another in turns, and hands out each step when it was written.
    fn write<'a>(
        &'a self,
        targets: &mut [Target],
        stretches: &'a [Stretch<'a>],
        spare: &'a Spare,
        take: &mut dyn FnMut(usize, Step),
    ) -> Result<(), StoreError> {
        let mut first = 0;
        for beside in stretches.chunk_by(|_, next| next.is_beside) {
            let way = |(at, stretch): (usize, &'a Stretch<'a>)| {
                let length = stretch.length();
                let places = stretch.into.iter().map(|file| (*file, targets[*file].place(length)));
                let places: Vec<(usize, Place)> = places.collect();
                (at, Steps::new(self, stretch.pieces, stretch.is_checked, spare), places)
            };
            let mut ways: VecDeque<_> = (first..).zip(beside).map(way).collect();
            first += beside.len();
            while let Some((at, mut steps, mut places)) = ways.pop_front() {
                let Some(step) = steps.next().transpose()? else { continue };
                for (file, place) in &mut places {
                    match &step {
                        Step::Open { file: object, range, .. } => targets[*file].share(place, object, range),
                        Step::Run(run) => targets[*file].write(place, run)?,
                        Step::End(_) => {}
                    }
                }
                let is_turn_over = matches!(step, Step::Run(_));
                take(at, step);
                let way = (at, steps, places);
                if is_turn_over { ways.push_back(way) } else { ways.push_front(way) }
            }
        }
        Ok(())
    }

    /// Pours files side by side.
    fn pour_together(
        &self,
        mut targets: Vec<Target>,
        hashes: Vec<FileHash>,
        stretches: &[Stretch<'_>],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<Poured>, StoreError> {
        let spare = &Spare::default();
        let (sender, receiver) = mpsc::sync_channel::<(usize, Step)>(WAITING);
        let hashes = std::thread::scope(|scope| {
            let hashing = scope.spawn(move || {
                let mut hashing = Hashing::new(self, stretches, hashes, spare);
                receiver.into_iter().try_for_each(|(stretch, step)| hashing.take(stretch, step))?;
                Ok::<_, StoreError>(hashing.finish())
            });
            let written = self.write(&mut targets, stretches, spare, &mut |stretch, step| {
                if let Step::Run(run) = &step {
                    progress(run.length() * stretches[stretch].into.len() as u64);
                }
                // The hashing thread ends early when it fails, and then says why.
                let _ = sender.send((stretch, step));
            });
            drop(sender);
            let hashed = hashing.join().map_err(|_| io::Error::other("the hashing thread failed"));
            let hashed = hashed.on("hash", self.root())?;
            written.and(hashed)
        })?;
        let digests: Vec<Digest> = hashes.iter().map(FileHash::digest).collect();
        if targets
            .iter()
            .zip(&digests)
            .any(|(target, digest)| target.expected.is_some_and(|expected| expected != *digest))
        {
            return Err(self.altered_among(stretches)?);
        }
        hashes.iter().try_for_each(|hash| hash.remember(self))?;
        targets.into_iter().zip(digests).map(|(target, digest)| target.finish(digest)).collect()
    }
}

/// The pieces of a recipe, those of recipes in it too.
fn pieces_of(recipe: &Recipe) -> Vec<&Bytes> {
    recipe.leaves().map(|leaf| leaf.bytes).collect()
}
