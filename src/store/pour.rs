//! Pouring: recipes become files.
//!
//! Files that have much in common, as a disk and the root in it, are written side by side: what they share is read once,
//! and hashed for all of them at once. One thread reads and writes, a second one hashes; files that have little in common
//! are poured at the same time. Objects that were not hashed before are hashed there too, and no file gets its name before
//! all that is in it is what it should be.

mod beginning;
mod common;
mod run;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;

use rayon::prelude::*;

use crate::digest::{self, Digest, Hasher};
use crate::format::{Bytes, Recipe};
use crate::sys::files::Context as _;

use super::{Store, StoreError};
use beginning::FileHash;
use common::Group;
use run::{Spare, Step};
use target::Target;

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
            let hashes = hashes.collect::<Result<_, _>>()?;
            self.pour_together(targets, hashes, &stretches(group, &pieces, files), progress)
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
        let spare = Spare::default();
        let mut checks = Checks { store: self, object: None };
        self.each_step(&pieces_of(recipe), true, &spare, &mut |step| {
            if let Step::Run(run) = &step {
                run.each_chunk(&mut |chunk| {
                    checks.lane().into_iter().for_each(|hasher| hasher.update(chunk));
                    take(chunk);
                });
            }
            checks.take(step, &spare)
        })
    }

    /// Pours files side by side, stretch after stretch.
    fn pour_together(
        &self,
        mut targets: Vec<Target>,
        mut hashes: Vec<FileHash>,
        stretches: &[Stretch<'_>],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<Poured>, StoreError> {
        let spare = &Spare::default();
        let (sender, receiver) = mpsc::sync_channel::<(usize, Step)>(WAITING);
        let hashes = std::thread::scope(|scope| {
            let hashing = scope.spawn(move || {
                let mut checks = Checks { store: self, object: None };
                for (stretch, step) in receiver {
                    if let Step::Run(run) = &step {
                        let files = hashes.iter_mut().enumerate();
                        let files = files.filter(|(file, _)| stretches[stretch].into.contains(file));
                        let mut files: Vec<&mut FileHash> = files.map(|(_, hash)| hash).collect();
                        let lanes = files.iter_mut().filter_map(|hash| hash.lane());
                        let mut lanes: Vec<&mut Hasher> = lanes.chain(checks.lane()).collect();
                        run.each_chunk(&mut |chunk| digest::update_all(&mut lanes, chunk));
                        files.into_iter().for_each(|hash| hash.advance(run.length()));
                    }
                    checks.take(step, spare)?;
                }
                Ok::<_, StoreError>(hashes)
            });
            let mut written = Ok(());
            for (index, stretch) in stretches.iter().enumerate() {
                written = self.each_step(stretch.pieces, stretch.is_checked, spare, &mut |step| {
                    for file in &stretch.into {
                        match &step {
                            Step::Source(source, range) => targets[*file].share(source, range),
                            Step::Run(run) => {
                                targets[*file].write(run)?;
                                progress(run.length());
                            }
                            Step::Begin | Step::End(_) => {}
                        }
                    }
                    // The hashing thread ends early when it fails, and then says why.
                    let _ = sender.send((index, step));
                    Ok(())
                });
                if written.is_err() {
                    break;
                }
            }
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

/// Pieces that go into some of the files that are poured side by side.
struct Stretch<'a> {
    into: Vec<usize>,
    pieces: &'a [&'a Bytes],
    /// Whether objects are hashed for themselves: in no file whose digest is known.
    is_checked: bool,
}

/// What each file has before the common run, the run, and what each has behind it.
fn stretches<'a>(group: &Group, pieces: &'a [Vec<&'a Bytes>], files: &[Wanted<'_>]) -> Vec<Stretch<'a>> {
    let members = || group.members.iter().enumerate();
    let own = |at: usize, pieces: &'a [&'a Bytes]| {
        let is_checked = files[group.members[at].0].expected.is_none();
        Stretch { into: vec![at], pieces, is_checked }
    };
    let before = members().map(|(at, (file, start))| own(at, &pieces[*file][..*start]));
    let common = group.members.first().map(|(file, start)| Stretch {
        into: members().map(|(at, _)| at).collect(),
        pieces: &pieces[*file][*start..start + group.length],
        is_checked: members().all(|(_, (file, _))| files[*file].expected.is_none()),
    });
    let after = members().map(|(at, (file, start))| own(at, &pieces[*file][start + group.length..]));
    before.chain(common).chain(after).collect()
}

/// Hashes the objects that pass, where nobody did before.
struct Checks<'a> {
    store: &'a Store,
    object: Option<Hasher>,
}

impl Checks<'_> {
    /// Where the bytes of the object go that is passing now.
    fn lane(&mut self) -> Option<&mut Hasher> {
        self.object.as_mut()
    }

    /// Notes a step whose bytes were hashed, and gives its buffer back.
    fn take(&mut self, step: Step, spare: &Spare) -> Result<(), StoreError> {
        match step {
            Step::Begin => self.object = Some(Hasher::new()),
            Step::Source(..) => {}
            Step::Run(run) => spare.give_back(run),
            Step::End(object) => {
                if self.object.take().is_some_and(|hasher| hasher.finish() != object) {
                    return Err(self.store.discard(&object));
                }
                self.store.vouch(object);
            }
        }
        Ok(())
    }
}
