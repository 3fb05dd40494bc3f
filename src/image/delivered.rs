//! What was delivered where, so that a build of which nothing changed need not write, or read, the outputs again.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::Key;
use crate::store::{Store, StoreError};

use super::manifest::Manifest;

/// A file as it was when it had been written.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    file: String,
    size: u64,
    inode: u64,
    /// Seconds and nanoseconds of the last change of content or attributes (`st_ctim`).
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
struct Delivery {
    manifest: Manifest,
    seen: Vec<Seen>,
}

/// The manifest of the delivery `key`, when all of its files still lie in `directory` as they were written.
///
/// # Errors
/// When the store cannot be read.
pub fn recall(store: &Store, key: &Key, directory: &Path) -> Result<Option<Manifest>, StoreError> {
    let Some(delivery) = store.result::<Delivery>(&placed(key, directory))? else { return Ok(None) };
    let untouched = delivery.seen.iter().all(|seen| look(directory, &seen.file).as_ref() == Some(seen));
    Ok(untouched.then_some(delivery.manifest))
}

/// Remembers a delivery.
///
/// # Errors
/// When the store cannot be written.
pub fn remember(store: &Store, key: &Key, directory: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let files = manifest.files().map(|(file, _)| file).chain(["manifest.json", super::sums::SUMS]);
    let seen = files.filter_map(|file| look(directory, file)).collect();
    store.record(&placed(key, directory), Vec::new(), &Delivery { manifest: manifest.clone(), seen })
}

fn placed(key: &Key, directory: &Path) -> Key {
    key.clone().input("directory", directory.display())
}

fn look(directory: &Path, file: &str) -> Option<Seen> {
    let metadata = std::fs::metadata(directory.join(file)).ok()?;
    Some(Seen {
        file: file.to_owned(),
        size: metadata.len(),
        inode: metadata.ino(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}
