//! What becomes of bytes that were written: they are hashed, for the files that they are in and for their object.

use crate::digest::{self, Digest, Hasher};
use crate::store::{Store, StoreError};

use super::beginning::FileHash;
use super::run::{Run, Spare, Step};
use super::stretch::Stretch;

/// Hashes the objects that pass, where nobody did before.
pub(super) struct Check<'a> {
    store: &'a Store,
    object: Option<Hasher>,
}

impl<'a> Check<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, object: None }
    }

    pub(super) fn begin(&mut self, is_new: bool) {
        self.object = is_new.then(Hasher::new);
    }

    /// Where the bytes of the object go that is passing now.
    pub(super) fn lane(&mut self) -> Option<&mut Hasher> {
        self.object.as_mut()
    }

    pub(super) fn end(&mut self, object: Digest) -> Result<(), StoreError> {
        if self.object.take().is_some_and(|hasher| hasher.finish() != object) {
            return Err(self.store.discard(&object));
        }
        self.store.vouch(object);
        Ok(())
    }
}

/// Hashes the steps of stretches.
pub(super) struct Hashing<'a> {
    stretches: &'a [Stretch<'a>],
    spare: &'a Spare,
    files: Vec<FileHash>,
    /// One for each stretch.
    checks: Vec<Check<'a>>,
    /// Bytes of an object that wait for some of another one, and their stretch: two at once are hashed sooner.
    waiting: Option<(usize, Run)>,
}

impl<'a> Hashing<'a> {
    pub(super) fn new(store: &'a Store, stretches: &'a [Stretch<'a>], files: Vec<FileHash>, spare: &'a Spare) -> Self {
        let checks = stretches.iter().map(|_| Check::new(store)).collect();
        Self { stretches, spare, files, checks, waiting: None }
    }

    /// Takes a step of the stretch `at`.
    ///
    /// # Errors
    /// When an object is not what its name says.
    pub(super) fn take(&mut self, at: usize, step: Step) -> Result<(), StoreError> {
        match step {
            Step::Open { is_new, .. } => self.checks[at].begin(is_new),
            Step::Run(run) => self.run(at, run),
            Step::End(object) => {
                if let Some((_, run)) = self.waiting.take_if(|(other, _)| *other == at) {
                    self.alone(at, run);
                }
                self.checks[at].end(object)?;
            }
        }
        Ok(())
    }

    fn run(&mut self, at: usize, run: Run) {
        let stretches = self.stretches;
        let (into, length) = (&stretches[at].into, run.length());
        let files = self.files.iter_mut().enumerate().filter(|(file, _)| into.contains(file));
        let mut lanes: Vec<&mut Hasher> = files.filter_map(|(_, hash)| hash.lane()).collect();
        let object = self.checks[at].lane();
        if lanes.is_empty() && object.is_some() {
            self.with_another(at, run);
        } else {
            lanes.extend(object);
            run.each_chunk(&mut |chunk| digest::update_all(&mut lanes, chunk));
            self.spare.give_back(run);
        }
        into.iter().for_each(|file| self.files[*file].advance(length));
    }

    /// Hashes bytes of an object together with those that wait of another one; else they wait in their turn.
    fn with_another(&mut self, at: usize, run: Run) {
        match self.waiting.take() {
            Some((other, first)) if other != at => {
                let lanes = self.checks.get_disjoint_mut([other, at]).map(|checks| checks.map(Check::lane));
                if let Ok([Some(one), Some(two)]) = lanes {
                    digest::update_two([one, two], [&first, &run].map(|run| run.bytes().unwrap_or_default()));
                }
                self.spare.give_back(first);
                self.spare.give_back(run);
            }
            former => {
                if let Some((_, first)) = former {
                    self.alone(at, first);
                }
                self.waiting = Some((at, run));
            }
        }
    }

    /// Hashes bytes for their object.
    fn alone(&mut self, at: usize, run: Run) {
        let lane = self.checks[at].lane();
        lane.into_iter().for_each(|hasher| run.each_chunk(&mut |chunk| hasher.update(chunk)));
        self.spare.give_back(run);
    }

    /// The hashes of the files, when all steps were taken.
    pub(super) fn finish(self) -> Vec<FileHash> {
        self.files
    }
}
