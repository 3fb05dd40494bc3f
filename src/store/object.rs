//! Objects: bytes under the name of their digest.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;

use crate::digest::{Digest, Hasher};
use crate::sys::files::{Context as _, Pending};
use crate::tree::{self, Content, Places, Tree};

use super::{ContentReader, Store, StoreError};

impl Store {
    /// Whether the store has the object.
    pub fn has(&self, digest: &Digest) -> bool {
        self.object_path(digest).exists()
    }

    /// Where the object's file is, for handing it to another program. Read-only: writing there breaks the store.
    pub fn object_path(&self, digest: &Digest) -> PathBuf {
        let text = digest.to_string();
        self.root.join("objects").join(&text[..2]).join(&text[2..])
    }

    /// Opens an object for reading; one that is promised elsewhere is brought first.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when the store lacks it.
    pub fn open_object(&self, digest: &Digest) -> Result<File, StoreError> {
        match self.open_here(digest) {
            Err(StoreError::Missing(_)) if self.borrow(digest)? => self.open_here(digest),
            opened => opened,
        }
    }

    fn open_here(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.object_path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing(*digest)),
            Err(error) => Err(error).on("open", &path)?,
        }
    }

    /// The bytes of a content, checked against its digest.
    ///
    /// # Errors
    /// When the object is missing, unreadable or altered.
    pub fn read(&self, content: &Content) -> Result<Vec<u8>, StoreError> {
        let file = self.open_object(&content.place.object)?;
        // The size is a claim until the file has that many bytes: read, do not trust it for an allocation.
        let mut bytes = Vec::new();
        let mut reader = ReadRange::new(&file, content.place.offset, content.size);
        reader.read_to_end(&mut bytes).on("read", &self.object_path(&content.place.object))?;
        if Digest::of(&bytes) == content.digest { Ok(bytes) } else { Err(self.discard(&content.place.object)) }
    }

    /// A reader over the bytes of a content, which fails at the end when they are not what its digest says.
    ///
    /// # Errors
    /// When the object is missing or cannot be opened.
    pub fn reader(&self, content: &Content) -> Result<ContentReader<'_>, StoreError> {
        ContentReader::new(self, *content)
    }

    /// Stores `bytes`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.has(&digest) {
            let mut writer = self.writer()?;
            writer.write_all(bytes).on("write", &self.object_path(&digest))?;
            writer.finish()?;
        }
        Ok(digest)
    }

    /// Starts an object whose digest is known only once all is written.
    ///
    /// # Errors
    /// When the store does not take a new file.
    pub fn writer(&self) -> Result<ObjectWriter<'_>, StoreError> {
        let pending = Pending::create(&self.root.join("objects").join("new"))?;
        Ok(ObjectWriter { store: self, pending, hasher: Hasher::new(), size: 0 })
    }

    /// Stores a tree, places and origins included.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_tree(&self, tree: &Tree) -> Result<Digest, StoreError> {
        self.put(tree::write_dump(tree, Places::Kept).as_bytes())
    }

    /// Stores a tree as it differs from `base`, which is stored as `stored`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_tree_over(&self, tree: &Tree, base: &Tree, stored: &Digest) -> Result<Digest, StoreError> {
        self.put(tree::write_difference(tree, base, stored).as_bytes())
    }

    /// Reads a stored tree.
    ///
    /// # Errors
    /// When it, or the one that it was stored over, is missing, altered or does not read.
    pub fn tree(&self, digest: &Digest) -> Result<Tree, StoreError> {
        let text = self.text(digest)?;
        match tree::difference_base(&text) {
            Some(base) => {
                let under = self.text(&base)?;
                let under = tree::parse_dump(&under).map_err(|error| StoreError::Tree(base, error))?;
                tree::parse_difference(&text, &under)
            }
            None => tree::parse_dump(&text),
        }
        .map_err(|error| StoreError::Tree(*digest, error))
    }

    /// As [`Store::tree`], where `base` is at hand, which is stored as `stored`.
    ///
    /// # Errors
    /// As there.
    pub fn tree_over(&self, digest: &Digest, base: &Tree, stored: &Digest) -> Result<Tree, StoreError> {
        let text = self.text(digest)?;
        match tree::difference_base(&text).is_some_and(|found| found == *stored) {
            true => tree::parse_difference(&text, base).map_err(|error| StoreError::Tree(*digest, error)),
            false => self.tree(digest),
        }
    }

    /// An object that is text.
    fn text(&self, digest: &Digest) -> Result<String, StoreError> {
        let mut bytes = Vec::new();
        self.open_object(digest)?.read_to_end(&mut bytes).on("read", &self.object_path(digest))?;
        if Digest::of(&bytes) != *digest {
            return Err(self.discard(digest));
        }
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
}

/// An object being written; gone again unless finished.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    store: &'a Store,
    pending: Pending,
    hasher: Hasher,
    size: u64,
}

impl ObjectWriter<'_> {
    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Stores what was written; returns its digest and size in bytes.
    ///
    /// # Errors
    /// When the object cannot be given its name.
    pub fn finish(self) -> Result<(Digest, u64), StoreError> {
        let digest = self.hasher.finish();
        let path = self.store.object_path(&digest);
        if !path.exists() {
            self.pending.file.set_permissions(Permissions::from_mode(0o444)).on("protect", &path)?;
            if let Some(directory) = path.parent() {
                super::integrity::make_room(directory)?;
            }
            self.pending.publish_as(&path)?;
            self.store.vouch(digest);
        }
        Ok((digest, self.size))
    }
}

impl Write for ObjectWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.pending.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader over a range of a file, by position: several can read one file at once.
#[derive(Debug)]
pub struct ReadRange<F> {
    file: F,
    position: u64,
    end: u64,
    start: u64,
}

impl<F> ReadRange<F> {
    /// The `length` bytes from `start`.
    pub fn new(file: F, start: u64, length: u64) -> Self {
        Self { file, position: start, end: start.saturating_add(length), start }
    }
}

impl<F: std::borrow::Borrow<File>> io::Read for ReadRange<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end - self.position;
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.file.borrow().read_at(&mut buffer[..length], self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<F: std::borrow::Borrow<File>> io::Seek for ReadRange<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => self.start.checked_add(offset),
            SeekFrom::End(offset) => self.end.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        match target {
            Some(target) if (self.start..=self.end).contains(&target) => self.position = target,
            _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
        }
        Ok(self.position - self.start)
    }
}

impl Store {
    /// Removes an object, if it is there; for a collection.
    pub(super) fn remove_object(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.object_path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).on("remove", &path)?,
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_read_back_and_an_altered_one_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let digest = store.put(b"hello").unwrap();
        let content = Content::whole(digest, 5);
        assert_eq!(store.read(&content).unwrap(), b"hello");

        let path = store.object_path(&digest);
        fs::remove_file(&path).unwrap();
        assert!(matches!(store.read(&content), Err(StoreError::Missing(_))));
        fs::write(&path, b"hallo").unwrap();
        assert!(matches!(store.read(&content), Err(StoreError::Altered(_))));
    }

    #[test]
    fn a_content_can_be_a_range_of_an_object() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let object = store.put(b"..hello..").unwrap();
        let content =
            Content { digest: Digest::of(b"hello"), size: 5, place: crate::tree::Place { object, offset: 2 } };
        assert_eq!(store.read(&content).unwrap(), b"hello");
    }

    #[test]
    fn an_unfinished_object_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut writer = store.writer().unwrap();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(directory.path().join("objects")).unwrap().count(), 0);
    }

    #[test]
    fn a_foreign_directory_is_no_store() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("thesis.txt"), "precious").unwrap();
        assert!(matches!(Store::open(directory.path()), Err(StoreError::NotAStore(_))));
    }
}
