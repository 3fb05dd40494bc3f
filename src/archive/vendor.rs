//! Every input of a lock in a directory that is a mirror: Releases, indexes, packages and keyrings.
//!
//! The directory has an archive's layout below each archive's name, so `file://DIR/debian` serves what the lock
//! pins when no other mirror does any more. What lies there already is believed only by its digest; each file comes
//! whole or not at all, so a run that was ended goes on where it was. Packages pass through the store.
//!
//! ```text
//! SHA256SUMS                              of all the files below, for sha256sum(1)
//! ARCHIVE/dists/SUITE/InRelease           or Release and Release.gpg: those whose digest the lock has
//! ARCHIVE/dists/SUITE/COMPONENT/…         the indexes that the Release vouches for
//! ARCHIVE/pool/…                          the packages of the lock
//! keyrings/ARCHIVE.pgp
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::mirror::{Candidates, Mirror};
use super::release::{self, Pinned, Served, Suite};
use super::transfer_error::TransferError;
use super::{Access, THREADS, fetch, index, keyring_of};
use crate::deb::release::IndexFile;
use crate::digest::Digest;
use crate::lock::{Lock, LockedPackage, LockedSuite};
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::Archive;
use crate::sys::files::{self, Context as _, Pending};

/// The list of digests.
const SUMS: &str = "SHA256SUMS";

/// What a directory holds after a run, or was found to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vendored {
    /// Packages of the lock.
    pub packages: usize,
    /// Files that were brought in this run.
    pub brought: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// What is missing and does not stop a build.
    pub warnings: Report,
}

/// A file that belongs in the directory.
struct Wanted {
    path: String,
    size: u64,
    sha256: Digest,
}

/// Brings every input of `lock` into `directory`. `access.progress` is told of bytes as they come over the network.
///
/// # Errors
/// When a package cannot be had, a Release is not what the lock pins or its signature is not good, or the directory
/// cannot be written.
pub fn vendor(
    lock: &Lock,
    archives: &BTreeMap<String, Archive>,
    architecture: &str,
    directory: &Path,
    access: &Access<'_>,
) -> Result<Vendored, Report> {
    let mut vendored = Vendored::default();
    let mut sums = BTreeMap::new();
    let missing: Vec<&LockedPackage> = packages(lock)
        .into_values()
        .filter(|package| !is_there(&directory.join(path_of(package)), package.size, &package.sha256))
        .collect();
    vendored.brought = missing.len();
    fetch(missing.iter().copied(), archives, access, THREADS).map_err(|error| error.report)?;
    missing.par_iter().try_for_each(|package| copy_out(package, directory, access))?;
    for package in packages(lock).into_values() {
        vendored.packages += 1;
        vendored.bytes += package.size;
        sums.insert(path_of(package), package.sha256);
    }
    for (archive, suite) in suites(lock, archives)? {
        keyring_of(archive)?;
        let keyring = archive.keyring_bytes.as_deref().unwrap_or_default();
        let path = format!("keyrings/{}.pgp", archive.name);
        keep(directory, &path, keyring, &mut sums, &mut vendored)?;
        match release_of(archive, suite, directory, access)? {
            Some((served, judged)) => {
                let place = format!("{}/dists/{}", archive.name, suite.name);
                match &served.detached {
                    None => keep(directory, &format!("{place}/InRelease"), &served.bytes, &mut sums, &mut vendored)?,
                    Some(detached) => {
                        keep(directory, &format!("{place}/Release"), &served.bytes, &mut sums, &mut vendored)?;
                        keep(directory, &format!("{place}/Release.gpg"), detached, &mut sums, &mut vendored)?;
                    }
                }
                for path in index::wanted(archive, &judged, architecture)? {
                    let listings = index::listings(&judged, &path);
                    match kept_index(directory, &place, &listings) {
                        Some((name, file)) => {
                            vendored.bytes += file.size;
                            sums.insert(format!("{place}/{name}"), file.sha256);
                        }
                        None => match index::as_served(
                            archive,
                            &judged,
                            &path,
                            mirror_of(archive, access)?.as_ref(),
                            access,
                        ) {
                            Some((name, bytes)) => {
                                keep(directory, &format!("{place}/{name}"), &bytes, &mut sums, &mut vendored)?;
                            }
                            None => vendored.warnings.push(index_gone(&place, &path)),
                        },
                    }
                }
            }
            None => vendored.warnings.push(release_gone(archive, suite)),
        }
    }
    let mut text = String::new();
    for (path, sha256) in &sums {
        let _ = writeln!(text, "{sha256}  {path}");
    }
    write(&directory.join(SUMS), text.as_bytes())?;
    Ok(vendored)
}

/// Looks whether `directory` holds every input of `lock`, and nothing in its place that is something else: digests,
/// signatures, and that each package stands in an index that a signed Release vouches for.
///
/// # Errors
/// With everything that is missing or altered.
pub fn check(
    lock: &Lock,
    archives: &BTreeMap<String, Archive>,
    architecture: &str,
    directory: &Path,
    now: i64,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vendored, Report> {
    let mut vendored = Vendored::default();
    let wanted: Vec<Wanted> = packages(lock)
        .into_values()
        .map(|package| Wanted { path: path_of(package), size: package.size, sha256: package.sha256 })
        .collect();
    let faults: Vec<Diagnostic> = wanted
        .par_iter()
        .filter_map(|wanted| {
            let fault = fault(directory, wanted);
            progress(wanted.size);
            fault
        })
        .collect();
    let mut report = Report { diagnostics: faults };
    vendored.packages = wanted.len();
    vendored.bytes = wanted.iter().map(|wanted| wanted.size).sum();
    let mut vouched = BTreeSet::new();
    let mut unproven = BTreeSet::new();
    let mut keyrings = BTreeSet::new();
    for (archive, suite) in suites(lock, archives)? {
        if keyrings.insert(archive.name.as_str()) {
            vendored.bytes += archive.keyring_bytes.as_deref().unwrap_or_default().len() as u64;
        }
        let Some(served) = served_in(directory, archive, suite) else {
            vendored.warnings.push(release_gone(archive, suite));
            unproven.insert(archive.name.as_str());
            continue;
        };
        vendored.bytes += (served.bytes.len() + served.detached.as_ref().map_or(0, Vec::len)) as u64;
        let keyring = keyring_of(archive)?;
        let judged = match release::judge(archive, &suite.name, &served, &keyring, now, Pinned::Release(suite)) {
            Ok(judged) => judged,
            Err(refusal) => {
                report.push(release::refused(archive, &suite.name, None, &refusal));
                continue;
            }
        };
        let place = format!("{}/dists/{}", archive.name, suite.name);
        for path in index::wanted(archive, &judged, architecture)? {
            let listings = index::listings(&judged, &path);
            let Some((name, file)) = kept_index(directory, &place, &listings) else {
                vendored.warnings.push(index_gone(&place, &path));
                unproven.insert(archive.name.as_str());
                continue;
            };
            let packed = files::read(&directory.join(format!("{place}/{name}"))).map_err(Diagnostic::from)?;
            match index::digests(&name, &packed) {
                Ok(digests) => vouched.extend(digests),
                Err(why) => {
                    report.push(Diagnostic::error(Kind::Trust, format!("`{place}/{name}` does not read: {why}")))
                }
            }
            vendored.bytes += file.size;
        }
    }
    for package in packages(lock).into_values() {
        if !vouched.contains(&package.sha256) && !unproven.contains(package.archive.as_str()) {
            let message = format!("no signed Release here vouches for `{}` {}", package.name, package.version);
            report.push(
                Diagnostic::error(Kind::Trust, message).note(format!("the lock pins SHA-256 {}", package.sha256)),
            );
        }
    }
    if report.has_errors() { Err(report) } else { Ok(vendored) }
}

/// The packages of a lock, each file once.
fn packages(lock: &Lock) -> BTreeMap<(&str, &str), &LockedPackage> {
    let packages = lock.layers.iter().flat_map(|layer| &layer.packages);
    packages.map(|package| ((package.archive.as_str(), package.path.as_str()), package)).collect()
}

/// Every suite of a lock with its archive.
fn suites<'a>(
    lock: &'a Lock,
    archives: &'a BTreeMap<String, Archive>,
) -> Result<Vec<(&'a Archive, &'a LockedSuite)>, Report> {
    let mut suites = Vec::new();
    for locked in &lock.archives {
        let Some(archive) = archives.get(&locked.name) else {
            let message = format!("the lock names archive `{}`, which the image file does not have", locked.name);
            return Err(Diagnostic::error(Kind::Input, message).hint("make the lock anew: `rolecast lock`").into());
        };
        suites.extend(locked.suites.iter().map(|suite| (archive, suite)));
    }
    Ok(suites)
}

/// A package's path from the directory. The lock's reader refuses paths that lead out of an archive.
fn path_of(package: &LockedPackage) -> String {
    format!("{}/{}", package.archive, package.path)
}

fn is_there(path: &Path, size: u64, sha256: &Digest) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == size)
        && digest_of(path).is_ok_and(|digest| digest == *sha256)
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    Digest::of_reader(File::open(path)?, &|_| {})
}

/// What is wrong with a file of the directory.
fn fault(directory: &Path, wanted: &Wanted) -> Option<Diagnostic> {
    let path = directory.join(&wanted.path);
    if !path.is_file() {
        let message = format!("`{}` is missing", wanted.path);
        return Some(Diagnostic::error(Kind::World, message).hint("run `rolecast vendor` without `--check`"));
    }
    if is_there(&path, wanted.size, &wanted.sha256) {
        return None;
    }
    let message = format!("`{}` is not what the lock pins", wanted.path);
    let expected = format!("expected: {} bytes, SHA-256 {}", wanted.size, wanted.sha256);
    let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let got = digest_of(&path).map_or_else(|error| error.to_string(), |digest| digest.to_string());
    Some(
        Diagnostic::error(Kind::Trust, message)
            .note(expected)
            .note(format!("found:    {size} bytes, SHA-256 {got}"))
            .hint("run `rolecast vendor` without `--check`: it is fetched anew"),
    )
}

/// Copies a package from the store into the directory, hashed on the way.
fn copy_out(package: &LockedPackage, directory: &Path, access: &Access<'_>) -> Result<(), Report> {
    let path = directory.join(path_of(package));
    let parent = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    files::make_directory(&parent).map_err(Diagnostic::from)?;
    let mut pending = Pending::create(&path).map_err(Diagnostic::from)?;
    let mut object = access.store.open_verified(&package.sha256)?;
    io::copy(&mut object, &mut pending.file).on("write", &path).map_err(Diagnostic::from)?;
    pending.publish().map_err(Diagnostic::from)?;
    if is_there(&path, package.size, &package.sha256) {
        return Ok(());
    }
    // Not believed, not left.
    std::fs::remove_file(&path).on("remove", &path).map_err(Diagnostic::from)?;
    Err(crate::store::StoreError::Altered(package.sha256).into())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Report> {
    if let Some(parent) = path.parent() {
        files::make_directory(parent).map_err(Diagnostic::from)?;
    }
    files::write_atomically(path, bytes).map_err(|error| Diagnostic::from(error).into())
}

/// Writes a file of the directory, unless it lies there.
fn keep(
    directory: &Path,
    path: &str,
    bytes: &[u8],
    sums: &mut BTreeMap<String, Digest>,
    vendored: &mut Vendored,
) -> Result<(), Report> {
    let sha256 = Digest::of(bytes);
    if sums.insert(path.to_owned(), sha256).is_none() {
        vendored.bytes += bytes.len() as u64;
    }
    if !is_there(&directory.join(path), bytes.len() as u64, &sha256) {
        vendored.brought += 1;
        write(&directory.join(path), bytes)?;
    }
    Ok(())
}

/// The Release that the lock pins, judged: from the directory, the store or the mirror; none when all have another.
fn release_of(
    archive: &Archive,
    suite: &LockedSuite,
    directory: &Path,
    access: &Access<'_>,
) -> Result<Option<(Served, Suite)>, Report> {
    let pinned = |served: &Served| Digest::of(&served.bytes) == suite.release;
    let kept = served_in(directory, archive, suite).or_else(|| release::kept(archive, suite, access).filter(pinned));
    let served = match (kept, mirror_of(archive, access)?) {
        (Some(served), _) => Some(served),
        (None, Some(mirror)) => match release::served(&suite.name, &mirror, access) {
            Ok(served) => Some(served).filter(pinned),
            Err(TransferError::NotFound { .. }) => None,
            Err(error) => return Err(error.diagnostic(&archive.name).into()),
        },
        (None, None) => None,
    };
    let Some(served) = served else { return Ok(None) };
    let keyring = keyring_of(archive)?;
    match release::judge(archive, &suite.name, &served, &keyring, access.now, Pinned::Release(suite)) {
        Ok(judged) => Ok(Some((served, judged))),
        Err(refusal) => Err(release::refused(archive, &suite.name, None, &refusal).into()),
    }
}

/// The pinned Release as it lies in the directory.
fn served_in(directory: &Path, archive: &Archive, suite: &LockedSuite) -> Option<Served> {
    let place = directory.join(&archive.name).join("dists").join(&suite.name);
    let read = |name: &str| files::read(&place.join(name)).ok();
    let pinned = |bytes: &Vec<u8>| Digest::of(bytes) == suite.release;
    match read("InRelease").filter(pinned) {
        Some(bytes) => Some(Served { bytes, detached: None }),
        None => Some(Served { bytes: read("Release").filter(pinned)?, detached: Some(read("Release.gpg")?) }),
    }
}

/// The form of an index that lies in the directory, as the Release lists it.
fn kept_index(directory: &Path, place: &str, listings: &[(String, IndexFile)]) -> Option<(String, IndexFile)> {
    let mut there = listings.iter();
    let found = there.find(|(name, file)| is_there(&directory.join(place).join(name), file.size, &file.sha256));
    found.cloned()
}

/// Where an archive is fetched from; none when offline, unless its mirror is a directory.
fn mirror_of(archive: &Archive, access: &Access<'_>) -> Result<Option<Mirror>, Report> {
    if let Some(mirror) = access.mirrors.found(&archive.name) {
        return Ok(Some(mirror));
    }
    match access.mirrors.candidates(archive)? {
        Candidates::Named(mirror) if !access.offline || mirror.is_local() => Ok(Some(mirror)),
        Candidates::Host(mirrors) if !access.offline => {
            // The first that serves a Release of the suite; whether it is the pinned one is seen later.
            let suite = archive.suites.first().map_or("", String::as_str);
            let serves = |mirror: &Mirror| release::served(suite, mirror, access).is_ok();
            let found = mirrors.into_iter().find(serves);
            if let Some(mirror) = &found {
                access.mirrors.remember(&archive.name, mirror);
            }
            Ok(found)
        }
        _ => Ok(None),
    }
}

fn release_gone(archive: &Archive, suite: &LockedSuite) -> Diagnostic {
    let message = format!(
        "the Release of `{}` in archive `{}` that the lock pins is to be had no more",
        suite.name, archive.name
    );
    Diagnostic::warning(message)
        .note(format!("it is of {}, SHA-256 {}", super::time::date(suite.date), suite.release))
        .note("the packages are pinned by digest: a build from this directory works, but no signature says why")
        .hint("name a snapshot of that day as the mirror, or make the lock anew and vendor at once")
}

fn index_gone(place: &str, path: &str) -> Diagnostic {
    Diagnostic::warning(format!("the index `{place}/{path}` that the pinned Release lists is to be had no more"))
        .note("a build from this directory works; a new lock cannot be made from it")
        .hint("name a snapshot of that day as the mirror, or make the lock anew and vendor at once")
}
