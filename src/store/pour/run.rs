//! The bytes of a recipe on their way: read front to back, a run at a time.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::Digest;
use crate::format::Bytes;
use crate::store::{Store, StoreError};
use crate::sys::files::Context as _;

/// How much is read, hashed and written at once: a few lie in a processor's cache.
const CHUNK: usize = 256 << 10;

/// What comes next of a recipe.
pub(super) enum Step {
    /// The next bytes are all of an object that this process has not hashed yet.
    Begin,
    /// The next bytes are these of a file of the store.
    Source(Arc<File>, Range<u64>),
    /// Bytes.
    Run(Run),
    /// That was all of the object of this name, if it is what its name says.
    End(Digest),
}

/// Some bytes.
pub(super) enum Run {
    Bytes(Arc<[u8]>),
    /// The first bytes of a buffer of [`CHUNK`] bytes.
    Chunk(Box<[u8]>, usize),
    Zeros(u64),
}

/// What a run of zeros is handed out as.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Run {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Chunk(_, length) => *length as u64,
            Self::Zeros(length) => *length,
        }
    }

    /// The bytes; none of zeros, which are a hole.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Chunk(buffer, length) => Some(&buffer[..*length]),
            Self::Zeros(_) => None,
        }
    }

    pub(super) fn each_chunk(&self, take: &mut dyn FnMut(&[u8])) {
        if let Some(bytes) = self.bytes() {
            return take(bytes);
        }
        let mut left = self.length();
        while left > 0 {
            let chunk = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
            take(&ZEROS[..chunk]);
            left -= chunk as u64;
        }
    }
}

/// Buffers that were used and can be used again: a fresh one costs as much as reading into it.
#[derive(Default)]
pub(super) struct Spare(Mutex<Vec<Box<[u8]>>>);

impl Spare {
    fn take(&self) -> Box<[u8]> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice())
    }

    pub(super) fn give_back(&self, run: Run) {
        if let Run::Chunk(buffer, _) = run {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

impl Store {
    /// Reads pieces front to back. Where `is_checked`, all of an object that comes in part is hashed before, and one that comes
    /// whole is for `take` to hash.
    pub(super) fn each_step(
        &self,
        pieces: &[&Bytes],
        is_checked: bool,
        spare: &Spare,
        take: &mut dyn FnMut(Step) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for piece in pieces {
            match piece {
                Bytes::Literal(bytes) => take(Step::Run(Run::Bytes(bytes.clone())))?,
                Bytes::Zeros(length) => take(Step::Run(Run::Zeros(*length)))?,
                Bytes::Recipe(inner) => self.each_step(&super::pieces_of(inner), is_checked, spare, take)?,
                Bytes::Object { object, offset, length } => {
                    let is_new = is_checked && !self.is_verified(object);
                    self.each_chunk(object, *offset..offset + length, is_new, spare, take)?;
                }
            }
        }
        Ok(())
    }

    fn each_chunk(
        &self,
        object: &Digest,
        range: Range<u64>,
        is_new: bool,
        spare: &Spare,
        take: &mut dyn FnMut(Step) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut file = self.open_object(object)?;
        let size = file.metadata().on("read", &self.object_path(object))?.len();
        let is_whole = range == (0..size);
        match (is_new, is_whole) {
            (true, true) => take(Step::Begin)?,
            (true, false) => file = self.open_verified(object)?,
            (false, _) => {}
        }
        let file = Arc::new(file);
        take(Step::Source(file.clone(), range.clone()))?;
        let mut position = range.start;
        while position < range.end {
            let mut buffer = spare.take();
            let length = usize::try_from(range.end - position).unwrap_or(CHUNK).min(CHUNK);
            match file.read_exact_at(&mut buffer[..length], position) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.discard(object)),
                Err(error) => return Err(error).on("read", &self.object_path(object))?,
            }
            position += length as u64;
            take(Step::Run(Run::Chunk(buffer, length)))?;
        }
        if is_new && is_whole { take(Step::End(*object)) } else { Ok(()) }
    }
}
