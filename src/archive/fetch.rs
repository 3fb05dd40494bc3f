//! The .debs of a lock, fetched into the store.
//!
//! Several at once, each hashed while it streams and bounded by the size that the lock pins. What is there is not
//! fetched again; what came whole before a failure stays. A package that the mirror no longer has is told apart from
//! all other failures, because a build may then choose its successor.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::mirror::{Candidates, Mirror};
use super::transfer_error::TransferError;
use super::url::shown;
use super::{Access, keyring_of, release};
use crate::digest::{Digest, Key};
use crate::lock::LockedPackage;
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::Archive;
use crate::store::{ObjectWriter, Store, StoreError};
use crate::sys::FileError;
use crate::sys::files::Context as _;

/// How many are fetched at once.
pub const THREADS: usize = 8;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Packages downloaded.
    pub packages: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Why not everything is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchError {
    /// Packages that their mirrors no longer serve, in the order asked for.
    pub gone: Vec<LockedPackage>,
    /// What to tell; has a line for each of `gone` too.
    pub report: Report,
}

impl FetchError {
    /// Whether nothing else is wrong than that packages are gone: a new lock would help.
    pub fn is_gone(&self) -> bool {
        !self.gone.is_empty() && self.report.diagnostics.len() == self.gone.len()
    }
}

impl From<Diagnostic> for FetchError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { gone: Vec::new(), report: diagnostic.into() }
    }
}

impl From<Report> for FetchError {
    fn from(report: Report) -> Self {
        Self { gone: Vec::new(), report }
    }
}

/// The packages that the store lacks, each digest once.
///
/// # Errors
/// When the store cannot be read.
pub fn missing<'p>(
    packages: impl IntoIterator<Item = &'p LockedPackage>,
    access: &Access<'_>,
) -> Result<Vec<&'p LockedPackage>, Report> {
    let mut seen = std::collections::BTreeSet::new();
    let mut missing = Vec::new();
    for package in packages {
        if seen.insert(package.sha256) {
            let there: Option<Digest> = access.store.result(&key_of(package)).map_err(Diagnostic::from)?;
            if there.is_none() && !found(package, access)? {
                missing.push(package);
            }
        }
    }
    Ok(missing)
}

/// Whether the store has the package although no result says so: one that was put there for another step.
fn found(package: &LockedPackage, access: &Access<'_>) -> Result<bool, Report> {
    match access.store.open_verified(&package.sha256) {
        Ok(_) => {
            access.store.record(&key_of(package), vec![package.sha256], &package.sha256).map_err(Diagnostic::from)?;
            Ok(true)
        }
        Err(StoreError::Missing(_) | StoreError::Altered(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Brings every package into the store, as the object of its digest. `access.progress` is told of bytes as they come.
///
/// # Errors
/// When a package is gone or is not the one that was pinned, or the network or the store fails.
pub fn fetch<'p>(
    packages: impl IntoIterator<Item = &'p LockedPackage>,
    archives: &BTreeMap<String, Archive>,
    access: &Access<'_>,
    threads: usize,
) -> Result<Fetched, FetchError> {
    let wanted = missing(packages, access)?;
    if wanted.is_empty() {
        return Ok(Fetched::default());
    }
    if access.offline {
        let local = |package: &&LockedPackage| {
            archives.get(&package.archive).is_some_and(|archive| access.mirrors.is_local(archive).unwrap_or(false))
        };
        let remote: Vec<&LockedPackage> = wanted.iter().copied().filter(|package| !local(package)).collect();
        if !remote.is_empty() {
            return Err(offline(&remote).into());
        }
    }
    let mut mirrors = BTreeMap::new();
    for package in &wanted {
        if !mirrors.contains_key(package.archive.as_str()) {
            mirrors.insert(package.archive.as_str(), mirror_of(&package.archive, archives, access)?);
        }
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failures = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, wanted.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(package) = wanted.get(index) else { break };
                    let outcome = fetch_one(package, &mirrors[package.archive.as_str()], access, &stop);
                    if let Err(failure) = outcome {
                        // All that is gone is told at once; anything else ends the run.
                        if !matches!(failure, Failure::Gone(_)) {
                            stop.store(true, Ordering::Relaxed);
                        }
                        let mut failures = failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        failures.insert(index, failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if failures.is_empty() {
        let bytes = wanted.iter().map(|package| package.size).sum();
        return Ok(Fetched { packages: wanted.len(), bytes });
    }
    let mut error = FetchError::default();
    for (index, failure) in failures {
        match failure {
            Failure::Gone(diagnostic) => {
                error.gone.push(wanted[index].clone());
                error.report.push(diagnostic);
            }
            Failure::Other(diagnostic) => error.report.push(diagnostic),
            Failure::Stopped => {}
        }
    }
    Err(error)
}

/// Copies the packages that the store `from` has into `to`, each hashed on the way: what was altered there is left out.
/// `progress` is told of bytes. Returns how many were copied.
///
/// # Errors
/// When one of the stores cannot be read or written.
pub fn borrow<'p>(
    packages: impl IntoIterator<Item = &'p LockedPackage>,
    from: &Store,
    to: &Store,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<usize, StoreError> {
    let wanted: BTreeMap<Digest, &LockedPackage> =
        packages.into_iter().map(|package| (package.sha256, package)).collect();
    let there: Vec<&LockedPackage> = wanted.into_values().filter(|package| from.has(&package.sha256)).collect();
    let copied: Result<Vec<bool>, StoreError> = there
        .par_iter()
        .map(|package| {
            let mut writer = to.writer()?;
            let source = from.open_object(&package.sha256)?;
            let copied = io::copy(&mut source.take(package.size + 1), &mut writer);
            progress(copied.on("copy", &from.object_path(&package.sha256))?);
            let (digest, _) = writer.finish()?;
            if digest == package.sha256 {
                to.record(&key_of(package), vec![digest], &digest)?;
            }
            Ok(digest == package.sha256)
        })
        .collect();
    Ok(copied?.into_iter().filter(|copied| *copied).count())
}

/// Why one package is not there.
enum Failure {
    Gone(Diagnostic),
    Other(Diagnostic),
    /// Another one failed.
    Stopped,
}

fn fetch_one(package: &LockedPackage, mirror: &Mirror, access: &Access<'_>, stop: &AtomicBool) -> Result<(), Failure> {
    let other = |error: crate::store::StoreError| Failure::Other(error.into());
    let key = key_of(package);
    if !access.store.has(&package.sha256) {
        let writer = access.store.writer().map_err(other)?;
        let mut sink = Stoppable { writer, stop };
        let url = mirror.url_of(&package.path);
        match access.client.download(&url, package.size, &mut sink, access.progress) {
            Ok(()) => {}
            Err(TransferError::Sink { .. }) if stop.load(Ordering::Relaxed) => return Err(Failure::Stopped),
            Err(TransferError::Sink { source, .. }) => {
                let full = FileError { doing: "write", path: access.store.root().to_owned(), source };
                return Err(Failure::Other(full.into()));
            }
            Err(error) => return Err(failed(package, mirror, &error)),
        }
        // The object's name is its digest: a wrong one is an object that nobody asks for, and is collected.
        let (digest, _) = sink.writer.finish().map_err(other)?;
        if digest != package.sha256 {
            return Err(Failure::Other(not_the_pinned(package, mirror, &digest.to_string())));
        }
    }
    access.store.record(&key, vec![package.sha256], &package.sha256).map_err(other)
}

/// Writes until another package fails, so that a large one does not hold up the message.
struct Stoppable<'a> {
    writer: ObjectWriter<'a>,
    stop: &'a AtomicBool,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another package failed"));
        }
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Keeps the .deb from collection as long as locks ask for it.
fn key_of(package: &LockedPackage) -> Key {
    Key::new("archive.deb", 1).input("file", package.sha256)
}

/// The mirror of an archive: the one found for its Releases in this run, or looked for now.
fn mirror_of(name: &str, archives: &BTreeMap<String, Archive>, access: &Access<'_>) -> Result<Mirror, Report> {
    let Some(archive) = archives.get(name) else {
        let message = format!("the lock names archive `{name}`, which the image file does not have");
        return Err(Diagnostic::error(Kind::Input, message).hint("make the lock anew: `rolecast lock`").into());
    };
    if let Some(mirror) = access.mirrors.found(name) {
        return Ok(mirror);
    }
    match access.mirrors.candidates(archive)? {
        Candidates::Named(mirror) => Ok(mirror),
        Candidates::Host(_) => {
            let reached = release::reach(archive, &keyring_of(archive)?, access)?;
            reached.mirror.ok_or_else(Report::new)
        }
    }
}

fn told(package: &LockedPackage, mirror: &Mirror, diagnostic: Diagnostic) -> Diagnostic {
    let LockedPackage { name, version, architecture, archive, path, .. } = package;
    diagnostic
        .note(format!("package `{name}` {version} ({architecture}) of archive `{archive}`: `{path}`"))
        .note(format!("the mirror is `{}`, named by {}", shown(&mirror.url), mirror.origin))
}

fn failed(package: &LockedPackage, mirror: &Mirror, error: &TransferError) -> Failure {
    match error {
        TransferError::NotFound { .. } => {
            let message = format!("the mirror no longer has `{}` {}", package.name, package.version);
            let diagnostic = told(package, mirror, Diagnostic::error(Kind::World, message));
            Failure::Gone(
                diagnostic.hint("mirrors drop superseded packages: `rolecast lock --update` takes their successors"),
            )
        }
        TransferError::TooLong { limit, .. } => {
            Failure::Other(not_the_pinned(package, mirror, &format!("more than {limit} bytes")))
        }
        error => Failure::Other(told(package, mirror, error.diagnostic(&package.archive))),
    }
}

fn not_the_pinned(package: &LockedPackage, mirror: &Mirror, got: &str) -> Diagnostic {
    let message = format!("the package `{}` {} is not the one that the lock pins", package.name, package.version);
    told(package, mirror, Diagnostic::error(Kind::Trust, message))
        .note(format!("expected: {} bytes, SHA-256 {}", package.size, package.sha256))
        .note(format!("got:      {got}"))
        .hint("the mirror or something between alters what it serves: name another mirror")
}

fn offline(wanted: &[&LockedPackage]) -> Diagnostic {
    let message = format!("the store lacks {} of the packages, and `--offline` forbids fetching", wanted.len());
    let mut diagnostic = Diagnostic::error(Kind::World, message);
    for package in wanted.iter().take(10) {
        diagnostic = diagnostic.note(format!("`{}` {} ({})", package.name, package.version, package.architecture));
    }
    if wanted.len() > 10 {
        diagnostic = diagnostic.note(format!("and {} more", wanted.len() - 10));
    }
    diagnostic.hint("run once without `--offline`")
}
