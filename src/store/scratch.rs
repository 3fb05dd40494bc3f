//! Working directories of running builds.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::files::{self, Context as _};

use super::{Store, StoreError};

/// A working directory, locked by this process and removed when dropped. One left by a killed build is removed
/// when a store is next opened.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    lock: PathBuf,
    _held: File,
}

impl Scratch {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock);
    }
}

impl Store {
    /// A fresh working directory on the store's file system.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self, purpose: &str) -> Result<Scratch, StoreError> {
        let room = self.root.join("scratch");
        for attempt in 0.. {
            let path = room.join(format!("{purpose}.{}-{attempt}", std::process::id()));
            let lock = path.with_extension(format!("{}-{attempt}.held", std::process::id()));
            let file = match File::options().write(true).create_new(true).open(&lock) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error).on("create", &lock)?,
            };
            file.lock().on("lock", &lock)?;
            files::make_directory(&path)?;
            return Ok(Scratch { path, lock, _held: file });
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists)).on("create", &room)?
    }

    /// Removes working directories whose builds are gone.
    pub(super) fn sweep_scratch(&self) -> Result<(), StoreError> {
        let room = self.root.join("scratch");
        for entry in fs::read_dir(&room).on("read", &room)?.filter_map(Result::ok) {
            let lock = entry.path();
            if lock.extension().is_none_or(|extension| extension != "held") {
                continue;
            }
            let Ok(file) = File::options().write(true).open(&lock) else { continue };
            if file.try_lock().is_ok() {
                // A tree that a user namespace left may not be ours to remove; it is tried again next time.
                let directory = lock.with_extension("");
                if fs::remove_dir_all(&directory).is_ok() || !directory.exists() {
                    let _ = fs::remove_file(&lock);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_builds_directory_is_swept_and_a_live_ones_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let live = store.scratch("layer").unwrap();
        let room = directory.path().join("scratch");
        fs::create_dir(room.join("layer.1-0")).unwrap();
        fs::write(room.join("layer.1-0.held"), "").unwrap();
        Store::open(directory.path()).unwrap();
        assert!(!room.join("layer.1-0").exists());
        assert!(live.path().exists());
        let path = live.path().to_owned();
        drop(live);
        assert!(!path.exists());
    }
}
