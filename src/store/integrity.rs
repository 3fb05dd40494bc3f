//! Nothing altered leaves a store: when an object is hashed, and what happens to one that is not what its name says.
//!
//! An object is hashed once in a process and those that work for it: when it is written, or while it is first read.
//! Before the hash is right nothing made of it gets a name: an output, an object and a result are all published whole.
//! One that is wrong is taken away, so that results that need it count as absent and their steps run again.
//!
//! This is against faulty disks and careless programs. Who can write to a store as its owner can do anything that the
//! owner can; anybody else's store is not opened.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::PoisonError;

use crate::digest::{Digest, Hasher};
use crate::sys::files::{Context as _, FileError};
use crate::tree::Content;

use super::{ReadRange, Store, StoreError};

/// Bits of a mode that let others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

impl Store {
    /// Opens an object whose bytes are what its name says: hashed now, unless this process did before.
    ///
    /// # Errors
    /// When the object is missing or altered, or cannot be read.
    pub fn open_verified(&self, digest: &Digest) -> Result<File, StoreError> {
        let mut file = self.open_object(digest)?;
        if !self.is_verified(digest) {
            let path = self.object_path(digest);
            if Digest::of_reader(&mut file, &|_| {}).on("read", &path)? != *digest {
                return Err(self.discard(digest));
            }
            self.vouch(*digest);
            file = self.open_object(digest)?;
        }
        Ok(file)
    }

    /// Whether this process wrote or hashed the object.
    pub fn is_verified(&self, digest: &Digest) -> bool {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// The objects that this process wrote or hashed.
    pub fn hashed(&self) -> Vec<Digest> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The same store, in a process that works for another one: what that one has hashed is not hashed again.
    #[must_use]
    pub fn believing(self, hashed: &[Digest]) -> Self {
        hashed.iter().for_each(|object| self.vouch(*object));
        self
    }

    /// Notes that the object's bytes are what its name says.
    pub(super) fn vouch(&self, digest: Digest) {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }

    /// Takes away an object that was found altered; returns the error to tell. One that another build has made anew
    /// meanwhile stays.
    pub fn discard(&self, digest: &Digest) -> StoreError {
        let good =
            self.open_object(digest).ok().and_then(|file| Digest::of_reader(file, &|_| {}).ok()) == Some(*digest);
        if !good && self.remove_object(digest).is_ok() {
            self.verified.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
            self.discarded.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest);
        }
        StoreError::Altered(*digest)
    }

    /// The objects that were taken away since this was last asked: a build that failed can be run again.
    pub fn take_discarded(&self) -> Vec<Digest> {
        std::mem::take(&mut *self.discarded.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}

/// The bytes of a content, hashed as they are read: an altered one ends in an error in place of its last bytes.
#[derive(Debug)]
pub struct ContentReader<'a> {
    store: &'a Store,
    content: Content,
    range: ReadRange<File>,
    /// None once the end was reached, or when the whole object is known to be right.
    hasher: Option<Hasher>,
    left: u64,
}

impl<'a> ContentReader<'a> {
    pub(super) fn new(store: &'a Store, content: Content) -> Result<Self, StoreError> {
        let file = store.open_object(&content.place.object)?;
        let range = ReadRange::new(file, content.place.offset, content.size);
        let hasher = (!store.is_verified(&content.place.object)).then(Hasher::new);
        Ok(Self { store, content, range, hasher, left: content.size })
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.range.read(buffer)?;
        self.left -= length as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..length]);
            let ended = self.left == 0 || (length == 0 && !buffer.is_empty());
            if let Some(hasher) = self.hasher.take_if(|_| ended)
                && hasher.finish() != self.content.digest
            {
                return Err(io::Error::other(self.store.discard(&self.content.place.object)));
            }
        }
        Ok(length)
    }
}

/// Makes a directory of a store and its parents: whatever the umask, nobody else can write there.
pub(super) fn make_room(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).on("make the directory", path)
}

/// Refuses a place where another user could have put something, or can.
pub(super) fn check_owner(path: &Path) -> Result<(), StoreError> {
    let metadata = fs::metadata(path).on("read", path)?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(StoreError::Foreign { path: path.to_owned(), owner: metadata.uid(), user });
    }
    if metadata.permissions().mode() & WRITABLE_BY_OTHERS != 0 {
        let mode = metadata.permissions().mode() & 0o7777;
        return Err(StoreError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn spoil(store: &Store, digest: &Digest) {
        let path = store.object_path(digest);
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }

    #[test]
    fn an_altered_object_is_not_read_and_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let write = |bytes: &[u8]| Store::open(directory.path()).unwrap().put(bytes).unwrap();
        let digest = write(b"0123456789");
        let content =
            Content { digest: Digest::of(b"345"), size: 3, place: crate::tree::Place { object: digest, offset: 3 } };
        // The writer's own process knows what it wrote; another one looks.
        let looks: [&dyn Fn(&Store) -> bool; 5] = [
            &|store| store.open_verified(&digest).is_err(),
            &|store| store.read(&Content::whole(digest, 10)).is_err(),
            &|store| io::copy(&mut store.reader(&Content::whole(digest, 10)).unwrap(), &mut io::sink()).is_err(),
            &|store| store.tree(&digest).is_err(),
            &|store| {
                let mut recipe = crate::format::Recipe::new();
                recipe.push(crate::format::Bytes::Object { object: digest, offset: 3, length: 3 }, "part");
                store.bytes_of(&recipe).is_err()
            },
        ];
        for look in looks {
            assert_eq!(write(b"0123456789"), digest);
            let store = Store::open(directory.path()).unwrap();
            spoil(&store, &digest);
            assert!(look(&store));
            assert!(!store.has(&digest));
            assert_eq!(store.take_discarded(), [digest]);
        }
        // A range that is whole does not suffer from what lies beside it.
        assert_eq!(write(b"0123456789"), digest);
        let store = Store::open(directory.path()).unwrap();
        spoil(&store, &digest);
        assert_eq!(store.read(&content).unwrap(), b"345");
    }

    #[test]
    fn who_works_for_another_process_does_not_hash_again_what_that_one_has() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let [one, two] = [b"one", b"two"].map(|bytes| store.put(bytes).unwrap());
        let helper = Store::open(directory.path()).unwrap().believing(&store.hashed());
        assert!(helper.is_verified(&one) && helper.is_verified(&two));
        let helper = Store::open(directory.path()).unwrap().believing(&[one]);
        spoil(&store, &two);
        assert!(helper.is_verified(&one) && helper.open_verified(&two).is_err());
    }

    #[test]
    fn a_store_that_others_can_write_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        drop(Store::open(&root).unwrap());
        for (place, mode) in [("", 0o775), ("results", 0o757), ("objects", 0o775)] {
            let place = root.join(place);
            let before = fs::metadata(&place).unwrap().permissions();
            fs::set_permissions(&place, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Store::open(&root), Err(StoreError::Open { .. })), "{}", place.display());
            fs::set_permissions(&place, before).unwrap();
        }
        drop(Store::open(&root).unwrap());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(root.join("results"), Some(4711), None).unwrap();
            let error = Store::open(&root).unwrap_err();
            assert!(matches!(error, StoreError::Foreign { owner: 4711, .. }), "{error}");
        }
    }
}
