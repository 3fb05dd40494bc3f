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
    /// The next bytes are these of a file of the store; `is_new` when they are all of an object that nobody has hashed yet.
    Open { file: Arc<File>, range: Range<u64>, is_new: bool },
    /// Bytes.
    Run(Run),
    /// That was all of the new object of this name, if it is what its name says.
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

/// The steps of pieces, front to back.
pub(super) struct Steps<'a> {
    store: &'a Store,
    spare: &'a Spare,
    pieces: std::slice::Iter<'a, &'a Bytes>,
    is_checked: bool,
    object: Option<Object>,
}

/// The object that is being read.
struct Object {
    name: Digest,
    file: Arc<File>,
    /// What of it is still to be read.
    left: Range<u64>,
    is_new: bool,
}

impl<'a> Steps<'a> {
    /// Of pieces that are no recipes. Where `is_checked`, all of an object that comes in part is hashed before, and one that
    /// comes whole is for whoever takes the steps to hash.
    pub(super) fn new(store: &'a Store, pieces: &'a [&'a Bytes], is_checked: bool, spare: &'a Spare) -> Self {
        Self { store, spare, pieces: pieces.iter(), is_checked, object: None }
    }

    fn open(&mut self, name: &Digest, range: Range<u64>) -> Result<Step, StoreError> {
        let mut file = self.store.open_object(name)?;
        let is_new = self.is_checked && !self.store.is_verified(name);
        let size = file.metadata().on("read", &self.store.object_path(name))?.len();
        let is_whole = range == (0..size);
        if is_new && !is_whole {
            file = self.store.open_verified(name)?;
        }
        let (file, is_new) = (Arc::new(file), is_new && is_whole);
        self.object = Some(Object { name: *name, file: file.clone(), left: range.clone(), is_new });
        Ok(Step::Open { file, range, is_new })
    }

    fn read(&self, object: &mut Object) -> Result<Step, StoreError> {
        let mut buffer = self.spare.take();
        let length = usize::try_from(object.left.end - object.left.start).unwrap_or(CHUNK).min(CHUNK);
        match object.file.read_exact_at(&mut buffer[..length], object.left.start) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.store.discard(&object.name)),
            Err(error) => return Err(error).on("read", &self.store.object_path(&object.name))?,
        }
        object.left.start += length as u64;
        Ok(Step::Run(Run::Chunk(buffer, length)))
    }
}

impl Iterator for Steps<'_> {
    type Item = Result<Step, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.object.take() {
            Some(mut object) if !object.left.is_empty() => {
                let step = self.read(&mut object);
                self.object = Some(object);
                return Some(step);
            }
            Some(Object { name, is_new: true, .. }) => return Some(Ok(Step::End(name))),
            _ => {}
        }
        match self.pieces.next()? {
            Bytes::Literal(bytes) => Some(Ok(Step::Run(Run::Bytes(bytes.clone())))),
            Bytes::Zeros(length) => Some(Ok(Step::Run(Run::Zeros(*length)))),
            Bytes::Object { object, offset, length } => Some(self.open(object, *offset..offset + length)),
            // Its pieces are here in its place.
            Bytes::Recipe(_) => self.next(),
        }
    }
}
