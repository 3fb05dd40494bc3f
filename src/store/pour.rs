//! Pouring: a recipe becomes a file.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use crate::digest::{Digest, Hasher};
use crate::format::recipe::{Bytes, Recipe};
use crate::sys::files::{Context as _, Pending};

use super::{Store, StoreError};

/// How much is read, hashed and written at once: a few lie in a processor's cache.
const CHUNK: usize = 256 << 10;

/// How many chunks wait for the hash at once.
const WAITING: usize = 16;

/// What was poured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poured {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A run of bytes on its way to the hash.
enum Run {
    Bytes(Arc<[u8]>, std::ops::Range<usize>),
    /// The first bytes of a buffer of [`CHUNK`] bytes.
    Chunk(Box<[u8]>, usize),
    Zeros(u64),
}

/// Buffers that were used and can be used again: a fresh one costs as much as reading into it.
#[derive(Default)]
struct Spare(Mutex<Vec<Box<[u8]>>>);

impl Spare {
    fn take(&self) -> Box<[u8]> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice())
    }

    fn give_back(&self, run: Run) {
        if let Run::Chunk(buffer, _) = run {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

/// What a run of zeros is handed out as.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

impl Run {
    fn each_chunk(&self, take: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Bytes(bytes, range) => take(&bytes[range.clone()]),
            Self::Chunk(buffer, length) => take(&buffer[..*length]),
            Self::Zeros(length) => {
                let mut left = *length;
                while left > 0 {
                    let chunk = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
                    take(&ZEROS[..chunk]);
                    left -= chunk as u64;
                }
            }
        }
    }
}

impl Store {
    /// Writes the file that `recipe` describes to `path`, whole or not at all: hashed on a second thread while it
    /// is written, zeros left as holes. `progress` is told of bytes as they are written.
    ///
    /// # Errors
    /// When an object is missing or too short, or the file cannot be written.
    pub fn pour(&self, recipe: &Recipe, path: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<Poured, StoreError> {
        let mut pending = Pending::create(path)?;
        let poured = pour_into(self, recipe, Some(&mut pending.file), path, progress)?;
        pending.publish()?;
        Ok(poured)
    }

    /// The digest and size of the file that `recipe` describes, without writing it.
    ///
    /// # Errors
    /// When an object is missing or too short.
    pub fn digest_of(&self, recipe: &Recipe) -> Result<Poured, StoreError> {
        match self.whole_object(recipe)? {
            Some(digest) => {
                self.open_verified(&digest)?;
                Ok(Poured { digest, size: recipe.length() })
            }
            None => pour_into(self, recipe, None, Path::new(""), &|_| {}),
        }
    }

    /// The object that is all of the recipe, if one is: what it is poured to has its name for a digest.
    fn whole_object(&self, recipe: &Recipe) -> Result<Option<Digest>, StoreError> {
        let mut leaves = recipe.leaves();
        let (Some(leaf), None) = (leaves.next(), leaves.next()) else { return Ok(None) };
        let Bytes::Object { object, offset: 0, length } = leaf.bytes else { return Ok(None) };
        let size = self.open_object(object)?.metadata().on("read", &self.object_path(object))?.len();
        Ok((size == *length).then_some(*object))
    }

    /// All bytes of a small recipe.
    ///
    /// # Errors
    /// When an object is missing or too short.
    pub fn bytes_of(&self, recipe: &Recipe) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.feed(recipe, &mut |chunk| bytes.extend_from_slice(chunk))?;
        Ok(bytes)
    }

    /// Hands the bytes of a recipe to `take`, front to back.
    ///
    /// # Errors
    /// When an object is missing or too short.
    pub fn feed(&self, recipe: &Recipe, take: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        let spare = Spare::default();
        self.each_run(recipe, &spare, &mut |run| {
            run.each_chunk(take);
            spare.give_back(run);
            Ok(())
        })
    }

    /// Reads the recipe front to back.
    fn each_run(
        &self,
        recipe: &Recipe,
        spare: &Spare,
        take: &mut dyn FnMut(Run) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for piece in recipe.pieces() {
            match &piece.bytes {
                Bytes::Literal(bytes) => take(Run::Bytes(bytes.clone(), 0..bytes.len()))?,
                Bytes::Zeros(length) => take(Run::Zeros(*length))?,
                Bytes::Recipe(inner) => self.each_run(inner, spare, take)?,
                Bytes::Object { object, offset, length } => {
                    let mut file = self.open_object(object)?;
                    let size = file.metadata().on("read", &self.object_path(object))?.len();
                    // A whole object is hashed while it is read; of one in part, the rest is read for that too.
                    let mut hasher = None;
                    if !self.is_verified(object) {
                        match (*offset, *length) == (0, size) {
                            true => hasher = Some(Hasher::new()),
                            false => file = self.open_verified(object)?,
                        }
                    }
                    let mut position = *offset;
                    let mut left = *length;
                    while left > 0 {
                        let mut buffer = spare.take();
                        let chunk_length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                        let chunk = &mut buffer[..chunk_length];
                        match file.read_exact_at(chunk, position) {
                            Ok(()) => {}
                            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                                return Err(self.discard(object));
                            }
                            Err(error) => return Err(error).on("read", &self.object_path(object))?,
                        }
                        position += chunk.len() as u64;
                        left -= chunk.len() as u64;
                        if let Some(hasher) = &mut hasher {
                            hasher.update(chunk);
                        }
                        take(Run::Chunk(buffer, chunk_length))?;
                    }
                    if let Some(hasher) = hasher {
                        if hasher.finish() != *object {
                            return Err(self.discard(object));
                        }
                        self.vouch(*object);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Pours into an open file, or only hashes; `path` is for messages.
///
/// # Errors
/// As [`Store::pour`].
pub fn pour_into(
    store: &Store,
    recipe: &Recipe,
    mut file: Option<&mut File>,
    path: &Path,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Poured, StoreError> {
    let known = store.whole_object(recipe)?;
    let spare = &Spare::default();
    let (sender, receiver) = mpsc::sync_channel::<Run>(WAITING);
    std::thread::scope(|scope| {
        let hashing = scope.spawn(move || {
            let mut hasher = Hasher::new();
            for run in receiver {
                run.each_chunk(&mut |chunk| hasher.update(chunk));
                spare.give_back(run);
            }
            hasher.finish()
        });
        let mut size = 0;
        let outcome = store.each_run(recipe, spare, &mut |run| {
            let length = match &run {
                Run::Bytes(_, range) => range.len() as u64,
                Run::Chunk(_, length) => *length as u64,
                Run::Zeros(length) => *length,
            };
            if let Some(file) = file.as_deref_mut() {
                match &run {
                    Run::Bytes(bytes, range) => file.write_all(&bytes[range.clone()]).on("write", path)?,
                    Run::Chunk(buffer, length) => file.write_all(&buffer[..*length]).on("write", path)?,
                    Run::Zeros(length) => {
                        file.seek(SeekFrom::Current(length.cast_signed())).on("write", path)?;
                    }
                }
            }
            size += length;
            progress(length);
            match known {
                // `each_run` compares the bytes with that name.
                Some(_) => spare.give_back(run),
                // The hashing thread only ends before the sender when it panics; `join` then says so.
                None => drop(sender.send(run)),
            }
            Ok(())
        });
        drop(sender);
        let hashed = hashing.join().map_err(|_| io::Error::other("the hashing thread failed")).on("hash", path)?;
        let digest = known.unwrap_or(hashed);
        outcome?;
        if let Some(file) = file {
            // A hole at the end exists only once the length says so.
            file.set_len(size).on("write", path)?;
        }
        Ok(Poured { digest, size })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_piece_is_poured_and_hashed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let object = store.put(b"0123456789").unwrap();
        let mut inner = Recipe::new();
        inner.push(Bytes::Object { object, offset: 2, length: 3 }, "inner");
        let mut recipe = Recipe::new();
        recipe.literal(b"head".as_slice(), "head");
        recipe.push(Bytes::Zeros(3_000_000), "gap");
        recipe.push(Bytes::Recipe(Arc::new(inner)), "nested");
        recipe.push(Bytes::Zeros(5), "tail");
        let path = directory.path().join("out");
        let poured = store.pour(&recipe, &path, &|_| {}).unwrap();
        let expected = [b"head".as_slice(), &vec![0; 3_000_000], b"234", &[0; 5]].concat();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        assert_eq!(poured, Poured { digest: Digest::of(&expected), size: expected.len() as u64 });
        assert_eq!(store.digest_of(&recipe).unwrap(), poured);
        assert_eq!(store.bytes_of(&recipe).unwrap(), expected);
    }

    #[test]
    fn an_object_cut_short_is_noticed_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let object = store.put(b"0123456789").unwrap();
        let mut recipe = Recipe::new();
        recipe.push(Bytes::Object { object, offset: 5, length: 6 }, "too long");
        let out = directory.path().join("out");
        std::fs::create_dir(&out).unwrap();
        assert!(matches!(store.pour(&recipe, &out.join("x"), &|_| {}), Err(StoreError::Altered(_))));
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
    }
}
