//! What a store holds, and giving back what no recent result needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use serde::de::IgnoredAny;

use crate::digest::Digest;
use crate::sys::files::Context as _;

use super::result::Stored;
use super::{Store, StoreError};

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Number of objects.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Number of results.
    pub results: u64,
}

/// What a collection gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Collected {
    /// Objects removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Results removed.
    pub results: u64,
}

impl Store {
    /// Counts what is there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let mut stats = Stats { results: self.result_files()?.len() as u64, ..Stats::default() };
        for (_, path) in self.objects()? {
            stats.objects += 1;
            stats.object_bytes += fs::metadata(&path).on("read", &path)?.len();
        }
        Ok(stats)
    }

    /// Removes results not used for `age` and every object that no remaining result needs. Waits until no build
    /// uses the store.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn collect(self, age: Duration) -> Result<Collected, StoreError> {
        let lock = self.root.join("lock");
        // Given up before it is asked for alone: two collections that each held it shared would wait for ever.
        self.lock.unlock().on("unlock", &lock)?;
        self.lock.lock().on("lock", &lock)?;
        let mut collected = Collected::default();
        let mut needed = BTreeSet::new();
        for path in self.result_files()? {
            let metadata = fs::metadata(&path).on("read", &path)?;
            let used = metadata.modified().on("read", &path)?;
            let fresh = SystemTime::now().duration_since(used).unwrap_or_default() <= age;
            let stored = fs::read(&path).on("read", &path)?;
            match Stored::<IgnoredAny>::parse(&stored) {
                Some(stored) if fresh => needed.extend(stored.objects),
                _ => {
                    fs::remove_file(&path).on("remove", &path)?;
                    collected.results += 1;
                }
            }
        }
        for (digest, path) in self.objects()? {
            if !needed.contains(&digest) {
                collected.bytes += fs::metadata(&path).on("read", &path)?.len();
                collected.objects += 1;
                self.remove_object(&digest)?;
            }
        }
        Ok(collected)
    }

    /// Hashes every object that this process did not hash before, and takes away those that were altered: where one
    /// was, others may be. [`Store::take_discarded`] tells which.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn scrub(&self) -> Result<(), StoreError> {
        let objects = self.objects()?;
        objects.par_iter().try_for_each(|(digest, _)| match self.open_verified(digest) {
            // One that another build's collection took meanwhile is none that was altered.
            Ok(_) | Err(StoreError::Altered(_) | StoreError::Missing(_)) => Ok(()),
            Err(error) => Err(error),
        })
    }

    fn result_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut files = Vec::new();
        for step in entries(&self.root.join("results"))? {
            files.extend(entries(&step)?);
        }
        Ok(files)
    }

    fn objects(&self) -> Result<Vec<(Digest, PathBuf)>, StoreError> {
        let mut objects = Vec::new();
        for shelf in entries(&self.root.join("objects"))? {
            if !shelf.is_dir() {
                continue;
            }
            for path in entries(&shelf)? {
                let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if let Ok(digest) = Digest::parse(&(name(&shelf) + &name(&path))) {
                    objects.push((digest, path));
                }
            }
        }
        Ok(objects)
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).on("read", directory)? {
        paths.push(entry.on("read", directory)?.path());
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use crate::digest::Key;

    use super::*;

    #[test]
    fn scrubbing_takes_away_what_was_altered_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (good, bad) = (store.put(b"good").unwrap(), store.put(b"bad").unwrap());
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        fs::remove_file(store.object_path(&bad)).unwrap();
        fs::write(store.object_path(&bad), "mad").unwrap();
        store.scrub().unwrap();
        assert!(store.has(&good) && !store.has(&bad));
        assert_eq!(store.take_discarded(), [bad]);
    }

    #[test]
    fn a_collection_keeps_what_recent_results_need() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let kept = store.put(b"kept").unwrap();
        let lost = store.put(b"lost").unwrap();
        store.record(&Key::new("test", 1), vec![kept], &1).unwrap();
        assert_eq!(store.stats().unwrap().objects, 2);
        let collected = store.collect(Duration::from_secs(3600)).unwrap();
        assert_eq!(collected, Collected { objects: 1, bytes: 4, results: 0 });
        let store = Store::open(directory.path()).unwrap();
        assert!(store.has(&kept) && !store.has(&lost));
        assert_eq!(store.collect(Duration::ZERO).unwrap().results, 1);
    }
}
