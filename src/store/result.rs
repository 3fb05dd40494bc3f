//! Results of steps, by key.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::SystemTime;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Key};
use crate::sys::files::{Context as _, Pending};

use super::integrity::make_room;
use super::{Store, StoreError};

/// A result as stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored<T> {
    step: String,
    inputs: Vec<(String, String)>,
    /// Every object that the value needs, directly or through a tree.
    pub(super) objects: Vec<Digest>,
    value: T,
}

impl<T: DeserializeOwned> Stored<T> {
    /// Reads a result's file: a line with the digest of what follows, and JSON. None when it is anything else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (line, json) = bytes.split_at_checked(65)?;
        let sum = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        (Digest::parse(sum).ok()? == Digest::of(json)).then(|| serde_json::from_slice(json).ok())?
    }
}

impl<T: Serialize> Stored<T> {
    fn write(&self) -> serde_json::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let mut bytes = format!("{}\n", Digest::of(&json)).into_bytes();
        bytes.extend(json);
        Ok(bytes)
    }
}

/// A result as it lies in a store, and as it travels between stores: whatever its value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The step.
    pub step: String,
    /// Digest of its key.
    pub key: Digest,
    /// The key's inputs: name and value.
    pub inputs: Vec<(String, String)>,
    /// Every object that the value needs, each once.
    pub objects: BTreeSet<Digest>,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Parcel {
    /// Reads a result's file; none when it is altered, or no such file.
    pub fn read(bytes: Vec<u8>) -> Option<Self> {
        let Stored { step, inputs, objects, .. } = Stored::<IgnoredAny>::parse(&bytes)?;
        // The step names a directory.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
        let is_step = !step.is_empty() && !step.starts_with('.') && step.len() <= 60 && step.bytes().all(plain);
        let key = Key::digest_of(&step, &inputs);
        is_step.then(|| Self { step, key, inputs, objects: objects.into_iter().collect(), bytes })
    }
}

/// Why a step has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Miss {
    /// The step was never run, or its results were collected.
    NeverRun,
    /// The nearest earlier run differs in these inputs: name, then value, now.
    Changed(Vec<(String, Option<String>, Option<String>)>),
    /// It was run, but an object of its result is gone.
    Incomplete,
}

impl Store {
    fn result_path(&self, key: &Key) -> PathBuf {
        self.root.join("results").join(key.step()).join(key.digest().to_string())
    }

    /// The result of the step, if it was run, here or elsewhere, and everything that its result needs is still to be
    /// had.
    ///
    /// # Errors
    /// When a result is there but cannot be read. One that was altered, or is another step's, counts as absent.
    pub fn result<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, StoreError> {
        let path = self.result_path(key);
        let here = read(&path)?.and_then(|(bytes, used)| Some((self.judged::<T>(key, &bytes)?, used)));
        let stored = match here {
            Some((stored, used)) => {
                touch(&path, used);
                stored
            }
            None => match self.borrow_result(key, &path)? {
                Some(stored) => stored,
                None => return Ok(None),
            },
        };
        self.note_use(key.step(), key.digest());
        Ok(Some(stored.value))
    }

    /// The result in a file, if it is this key's and whole.
    fn judged<T: DeserializeOwned>(&self, key: &Key, bytes: &[u8]) -> Option<Stored<T>> {
        let stored = Stored::<T>::parse(bytes)?;
        let is_it = stored.step == key.step() && stored.inputs == key.inputs();
        (is_it && stored.objects.iter().all(|digest| self.can_have(digest))).then_some(stored)
    }

    fn borrow_result<T: DeserializeOwned>(&self, key: &Key, path: &Path) -> Result<Option<Stored<T>>, StoreError> {
        let Some(elsewhere) = &self.elsewhere else { return Ok(None) };
        let bytes = elsewhere.result(key).map_err(|diagnostic| StoreError::Elsewhere(Box::new(diagnostic)))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let stored = self.judged(key, &bytes);
        if stored.is_some() {
            write(path, &bytes)?;
        }
        Ok(stored)
    }

    /// The file of a result, whatever it holds; none when there is none, or it was altered.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn parcel(&self, step: &str, key: &Digest) -> Result<Option<Parcel>, StoreError> {
        let bytes = read(&self.root.join("results").join(step).join(key.to_string()))?;
        Ok(bytes.and_then(|(bytes, _)| Parcel::read(bytes)).filter(|parcel| parcel.step == step && parcel.key == *key))
    }

    /// The files of all results of a step, by key.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn parcels(&self, step: &str) -> Result<Vec<Parcel>, StoreError> {
        let Ok(entries) = fs::read_dir(self.root.join("results").join(step)) else { return Ok(Vec::new()) };
        let names = entries.filter_map(|entry| Digest::parse(&entry.ok()?.file_name().to_string_lossy()).ok());
        let mut keys: Vec<Digest> = names.collect();
        keys.sort();
        let read: Result<Vec<Option<Parcel>>, StoreError> = keys.iter().map(|key| self.parcel(step, key)).collect();
        Ok(read?.into_iter().flatten().collect())
    }

    /// Takes a result that came with another one, unless there is one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn adopt(&self, parcel: &Parcel) -> Result<(), StoreError> {
        if self.parcel(&parcel.step, &parcel.key)?.is_some() {
            return Ok(());
        }
        write(&self.root.join("results").join(&parcel.step).join(parcel.key.to_string()), &parcel.bytes)
    }

    fn note_use(&self, step: &str, key: Digest) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert((step.to_owned(), key));
    }

    /// The results that were found or recorded since this was last asked: step and key.
    pub fn take_used(&self) -> BTreeSet<(String, Digest)> {
        std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether [`Store::result`] would find something.
    ///
    /// # Errors
    /// As there.
    pub fn knows(&self, key: &Key) -> Result<bool, StoreError> {
        Ok(self.result::<IgnoredAny>(key)?.is_some())
    }

    /// Whether the store keeps a result of the step's key, whole or not.
    pub fn keeps(&self, key: &Key) -> bool {
        self.result_path(key).exists()
    }

    /// Records a step's result. `objects` names every object that is needed to use it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record<T: Serialize>(&self, key: &Key, objects: Vec<Digest>, value: &T) -> Result<(), StoreError> {
        let path = self.result_path(key);
        let stored = Stored { step: key.step().to_owned(), inputs: key.inputs().to_vec(), objects, value };
        let bytes = stored.write().map_err(io::Error::other).on("write", &path)?;
        write(&path, &bytes)?;
        self.note_use(key.step(), key.digest());
        Ok(())
    }

    /// Holds the step for this process: a second build that wants the same step waits, and then finds its result.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn hold(&self, key: &Key) -> Result<File, StoreError> {
        let path = self.root.join("scratch").join(format!("{}.lock", key.digest()));
        let file = File::options().create(true).truncate(false).write(true).open(&path).on("open", &path)?;
        file.lock().on("lock", &path)?;
        Ok(file)
    }

    /// Why [`Store::result`] finds nothing for the key: what changed since the most similar earlier run.
    pub fn explain(&self, key: &Key) -> Miss {
        if self.result_path(key).exists() {
            return Miss::Incomplete;
        }
        let Ok(entries) = fs::read_dir(self.root.join("results").join(key.step())) else { return Miss::NeverRun };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        let mut nearest: Option<Vec<_>> = None;
        for path in paths {
            let Ok(bytes) = fs::read(&path) else { continue };
            let Some(stored) = Stored::<IgnoredAny>::parse(&bytes) else { continue };
            let changed = changed_inputs(&stored.inputs, key.inputs());
            if nearest.as_ref().is_none_or(|best| changed.len() < best.len()) {
                nearest = Some(changed);
            }
        }
        nearest.map_or(Miss::NeverRun, Miss::Changed)
    }
}

/// Notes that a result was used that was last noted to be at `used`, so that a collection keeps it: once a day is enough,
/// and failing is no harm.
fn touch(path: &Path, used: SystemTime) {
    let now = SystemTime::now();
    if now.duration_since(used).is_ok_and(|age| age.as_secs() > 24 * 3600)
        && let Ok(file) = File::options().write(true).open(path)
    {
        let _ = file.set_modified(now);
    }
}

/// A result's file, and when its use was last noted.
fn read(path: &Path) -> Result<Option<(Vec<u8>, SystemTime)>, StoreError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).on("read", path)?,
    };
    let used = file.metadata().and_then(|metadata| metadata.modified()).on("read", path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).on("read", path)?;
    Ok(Some((bytes, used)))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    if let Some(directory) = path.parent() {
        make_room(directory)?;
    }
    let mut pending = Pending::create(path)?;
    pending.file.set_permissions(Permissions::from_mode(0o644)).on("protect", path)?;
    pending.file.write_all(bytes).on("write", path)?;
    Ok(pending.publish()?)
}

fn changed_inputs(
    before: &[(String, String)],
    now: &[(String, String)],
) -> Vec<(String, Option<String>, Option<String>)> {
    let find = |list: &[(String, String)], name: &str| {
        list.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    };
    let mut changed = Vec::new();
    for (name, value) in now {
        let old = find(before, name);
        if old.as_ref() != Some(value) {
            changed.push((name.clone(), old, Some(value.clone())));
        }
    }
    for (name, value) in before {
        if find(now, name).is_none() {
            changed.push((name.clone(), Some(value.clone()), None));
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_found_while_its_objects_are_there_and_a_miss_is_explained() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let key = |level: u32| Key::new("test.step", 1).input("level", level).input("file", "x");
        assert_eq!(store.explain(&key(3)), Miss::NeverRun);
        let object = store.put(b"value").unwrap();
        store.record(&key(3), vec![object], &"made").unwrap();
        assert_eq!(store.result::<String>(&key(3)).unwrap().as_deref(), Some("made"));
        assert_eq!(store.result::<String>(&key(4)).unwrap(), None);
        let changed = vec![("level".to_owned(), Some("3".to_owned()), Some("4".to_owned()))];
        assert_eq!(store.explain(&key(4)), Miss::Changed(changed));
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
        let path = store.result_path(&key(3));
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert!(store.knows(&key(3)).unwrap());
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > old, "use was not noted");
        // A result that was altered, or put in another's place, is none.
        let bytes = fs::read(&path).unwrap();
        let spoiled = String::from_utf8(bytes.clone()).unwrap().replace("made", "mode");
        fs::write(&path, spoiled).unwrap();
        assert_eq!(store.result::<String>(&key(3)).unwrap(), None);
        fs::write(store.result_path(&key(5)), &bytes).unwrap();
        assert_eq!(store.result::<String>(&key(5)).unwrap(), None);
        fs::write(&path, bytes).unwrap();
        assert!(store.knows(&key(3)).unwrap());
        store.remove_object(&object).unwrap();
        assert_eq!(store.result::<String>(&key(3)).unwrap(), None);
        assert_eq!(store.explain(&key(3)), Miss::Incomplete);
    }
}
