//! Bringing results to a remote: what is there is not sent again, blobs go before the records that name them.
//!
//! A name that is taken stays with whoever came first. One that nobody can use is put anew: a record that no believed key
//! signed, or one whose blobs are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::digest::{Digest, Hasher};
use crate::report::{Diagnostic, Progress, Report, Unit};
use crate::sign::Signer;
use crate::store::{Parcel, Scratch, Store, StoreError, at_once};
use crate::sys::files::Context as _;

use super::borrow::Remote;
use super::envelope::{self, Blob, Refused};
use super::place::{Name, Put};

/// zstd's level: what is sent once is compressed once.
const LEVEL: i32 = 3;

/// Smaller objects are sent as they are.
const SMALL: u64 = 512;

/// What was brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pushed {
    /// Results that are there now and were not.
    pub results: u64,
    /// Results that were there already.
    pub there: u64,
    /// Blobs that were sent.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What stands under a result's name before anything is sent.
enum Look {
    Nothing,
    /// The same result, with these blobs.
    Same(Vec<Blob>),
    /// Another result of the same key.
    Other,
    /// Nothing that is believed.
    Refused(Refused),
}

/// Brings `parcels` of `store` to the remote, signed. `guides` are steps whose results only save asking, and that may
/// differ from writer to writer: nobody is told when another's stands there.
///
/// # Errors
/// When the remote cannot be reached or written, the store cannot be read, or the key does not sign.
pub fn push(
    remote: &Remote,
    store: &Store,
    parcels: &[Parcel],
    guides: &[&str],
    signer: Option<&Signer>,
    progress: &dyn Progress,
) -> Result<(Pushed, Report), Report> {
    let task = progress.begin("look what is there", parcels.len() as u64, Unit::Things);
    let looks = Mutex::new(BTreeMap::new());
    let known = Mutex::new(BTreeMap::new());
    at_once(parcels, |parcel| -> Result<(), Report> {
        let look = look(remote, parcel, &known)?;
        locked(&looks).insert(name_of(parcel), look);
        task.advance(1);
        Ok(())
    })?;
    drop(task);
    let looks = looks.into_inner().unwrap_or_else(PoisonError::into_inner);
    let wanted: Vec<&Parcel> =
        parcels.iter().filter(|parcel| !matches!(looks.get(&name_of(parcel)), Some(Look::Other))).collect();
    let objects: BTreeSet<Digest> = wanted.iter().flat_map(|parcel| parcel.objects.iter().copied()).collect();
    let objects: Vec<Digest> = objects.into_iter().collect();
    let known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
    let task = progress.begin("bring objects", objects.len() as u64, Unit::Things);
    let scratch = store.scratch("push").map_err(Diagnostic::from)?;
    let work = Work { remote, store, scratch: &scratch, pushed: Mutex::default(), blobs: Mutex::default() };
    at_once(&objects, |object| {
        work.object(object, known.get(object))?;
        task.advance(1);
        Ok::<(), Report>(())
    })?;
    drop(task);
    let task = progress.begin("bring results", wanted.len() as u64, Unit::Things);
    let warnings = Mutex::new(BTreeMap::new());
    at_once(&wanted, |parcel| {
        let name = name_of(parcel);
        if let Some(warning) = work.result(parcel, &name, looks.get(&name).unwrap_or(&Look::Nothing), signer)? {
            locked(&warnings).insert(name, warning);
        }
        task.advance(1);
        Ok::<(), Report>(())
    })?;
    drop(task);
    let mut warnings = warnings.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (name, look) in &looks {
        if matches!(look, Look::Other) {
            warnings.insert(name.clone(), another(remote, name));
        }
    }
    warnings
        .retain(|name, _| !guides.contains(&name.step.as_str()) || matches!(looks.get(name), Some(Look::Refused(_))));
    let mut report = Report::new();
    warnings.into_values().for_each(|warning| report.push(warning));
    Ok((work.pushed.into_inner().unwrap_or_else(PoisonError::into_inner), report))
}

fn name_of(parcel: &Parcel) -> Name {
    Name { step: parcel.step.clone(), key: parcel.key }
}

fn look(remote: &Remote, parcel: &Parcel, known: &Mutex<BTreeMap<Digest, Blob>>) -> Result<Look, Report> {
    let found = remote.look(&name_of(parcel)).map_err(|trouble| trouble.diagnostic())?;
    Ok(match found {
        None => Look::Nothing,
        Some(Err(refused)) => Look::Refused(refused),
        Some(Ok(opened)) => {
            locked(known).extend(opened.blobs.iter().map(|blob| (blob.object, blob.clone())));
            match opened.parcel.bytes == parcel.bytes {
                true => Look::Same(opened.blobs),
                false => Look::Other,
            }
        }
    })
}

fn another(remote: &Remote, name: &Name) -> Diagnostic {
    Diagnostic::warning(format!("`{}` has another result of the same step and inputs; it stays", remote.shown()))
        .note(format!("it is `{} {}`", name.step, name.key))
        .note("a step that does not give the same twice is a bug, here or where that one was made")
        .hint("compare both machines with `rolecast verify`")
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Work<'a> {
    remote: &'a Remote,
    store: &'a Store,
    scratch: &'a Scratch,
    pushed: Mutex<Pushed>,
    /// The blobs that are there, by object.
    blobs: Mutex<BTreeMap<Digest, Blob>>,
}

impl Work<'_> {
    /// Sees to it that an object is there. One that neither side has is left out.
    fn object(&self, object: &Digest, known: Option<&Blob>) -> Result<(), Report> {
        let has = |blob: &Blob| -> Result<bool, Report> {
            // Nothing need be sent for no bytes.
            Ok(blob.length == 0 || self.remote.place.has(&blob.blob).map_err(|trouble| trouble.diagnostic())?)
        };
        if let Some(blob) = known
            && has(blob)?
        {
            locked(&self.blobs).insert(*object, blob.clone());
            return Ok(());
        }
        let packed = match self.pack(object) {
            Err(StoreError::Missing(_) | StoreError::Altered(_)) => return Ok(()),
            packed => packed.map_err(Diagnostic::from)?,
        };
        if !has(&packed.blob)? {
            let Blob { blob, length, .. } = &packed.blob;
            let put = self.remote.place.put_blob(blob, &packed.path, *length);
            put.map_err(|trouble| trouble.diagnostic())?;
            let mut pushed = locked(&self.pushed);
            pushed.blobs += 1;
            pushed.bytes += length;
        }
        if packed.blob.zstd {
            let _ = fs::remove_file(&packed.path);
        }
        locked(&self.blobs).insert(*object, packed.blob);
        Ok(())
    }

    /// The blob of an object: its zstd frame where that is smaller by a sixteenth.
    fn pack(&self, object: &Digest) -> Result<Packed, StoreError> {
        let mut file = self.store.open_verified(object)?;
        let here = self.store.object_path(object);
        let size = file.metadata().on("read", &here)?.len();
        let plain = Blob { object: *object, size, blob: *object, length: size, zstd: false };
        if size < SMALL {
            return Ok(Packed { blob: plain, path: here });
        }
        let path = self.scratch.path().join(object.to_string());
        let (blob, length) = compress(&mut file, &path).on("compress", &here)?;
        if length > size - size / 16 {
            let _ = fs::remove_file(&path);
            return Ok(Packed { blob: plain, path: here });
        }
        Ok(Packed { blob: Blob { blob, length, zstd: true, ..plain }, path })
    }

    /// Puts a record whose blobs are all there; returns what a person should know of it.
    fn result(
        &self,
        parcel: &Parcel,
        name: &Name,
        look: &Look,
        signer: Option<&Signer>,
    ) -> Result<Option<Diagnostic>, Report> {
        let blobs: Option<Vec<Blob>> = {
            let there = locked(&self.blobs);
            parcel.objects.iter().map(|object| there.get(object).cloned()).collect()
        };
        let Some(blobs) = blobs else {
            let message = format!("a result of `{}` is not brought: the store lacks objects that it needs", name.step);
            return Ok(Some(
                Diagnostic::warning(message)
                    .note(format!("it is `{} {}`", name.step, name.key))
                    .hint("build again, so that they are made anew"),
            ));
        };
        if matches!(look, Look::Same(same) if *same == blobs) {
            locked(&self.pushed).there += 1;
            return Ok(None);
        }
        let bytes = envelope::seal(parcel, &blobs, signer)?;
        let replace = !matches!(look, Look::Nothing);
        let sent: Vec<Blob> = blobs.into_iter().filter(|blob| blob.length > 0).collect();
        let put = self.remote.place.put_record(name, &bytes, &sent, replace);
        if put.map_err(|trouble| trouble.diagnostic())? == Put::Done {
            locked(&self.pushed).results += 1;
            let Look::Refused(refused) = look else { return Ok(None) };
            let warning = refused.clone().diagnostic(self.remote.shown(), name);
            let warning = Diagnostic { severity: crate::report::Severity::Warning, ..warning };
            return Ok(Some(
                warning.note("it was put anew").hint("who else can write there? Look, if you do not know"),
            ));
        }
        // Somebody put it in between.
        Ok(match look_again(self.remote, parcel, name)? {
            true => {
                locked(&self.pushed).there += 1;
                None
            }
            false => Some(another(self.remote, name)),
        })
    }
}

fn look_again(remote: &Remote, parcel: &Parcel, name: &Name) -> Result<bool, Report> {
    let found = remote.look(name).map_err(|trouble| trouble.diagnostic())?;
    Ok(matches!(found, Some(Ok(opened)) if opened.parcel.bytes == parcel.bytes))
}

/// A blob and the file that holds it.
struct Packed {
    blob: Blob,
    path: PathBuf,
}

/// Writes the zstd frame of a file; returns its digest and length in bytes.
fn compress(from: &mut File, to: &Path) -> io::Result<(Digest, u64)> {
    let mut encoder =
        zstd::stream::write::Encoder::new(Hashed { file: File::create(to)?, hasher: Hasher::new(), length: 0 }, LEVEL)?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match from.read(&mut chunk)? {
            0 => break,
            length => encoder.write_all(&chunk[..length])?,
        }
    }
    let Hashed { hasher, length, .. } = encoder.finish()?;
    Ok((hasher.finish(), length))
}

struct Hashed {
    file: File,
    hasher: Hasher,
    length: u64,
}

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.length += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
