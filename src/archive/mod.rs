//! An apt archive as a place: mirrors, keyrings, verified indexes, the .debs themselves.
//!
//! Owns the chain of trust: keyring, InRelease signature, Packages digest, .deb digest. Nothing unverified leaves this
//! room. Solves nothing and unpacks nothing. Specification: the repository format of the Debian wiki, RFC 9580.

mod built;
mod cleartext;
mod fetch;
mod http;
mod index;
mod keyring;
mod mirror;
mod release;
mod signature;
mod sources;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod time;
mod transfer_error;
mod url;
mod vendor;

pub use built::built_from;
pub use fetch::{FetchError, Fetched, THREADS, borrow, fetch, missing};
pub use http::{Client, Patience};
pub use keyring::{KeyProblem, Keyring, KeyringError};
pub use mirror::{Mirror, Mirrors};
pub use release::Pinned;
pub use signature::{Policy, SignatureError, Vouched, verify_detached};
pub use transfer_error::TransferError;
pub use vendor::{Vendored, check as check_vendored, vendor};

use std::collections::BTreeMap;
use std::io::Read as _;

use crate::digest::Digest;
use crate::lock::LockedArchive;
use crate::report::{Diagnostic, Kind, Report};
use crate::solve::Universe;
use crate::spec::Archive;
use crate::store::Store;
use crate::sys::files::Context as _;

/// What the room works with: where bytes come from, where they go, what time it is.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// Where verified bytes are kept.
    pub store: &'a Store,
    /// Who fetches.
    pub client: &'a Client,
    /// From where.
    pub mirrors: &'a Mirrors<'a>,
    /// Seconds since the Epoch; judges expiry.
    pub now: i64,
    /// Use only what the store holds, and mirrors that are directories of this machine.
    pub offline: bool,
    /// Releases that a lock pins, and that may have outlived their validity.
    pub pinned: Pinned<'a>,
    /// Told of bytes as they come.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// What the archives offer.
#[derive(Debug)]
pub struct Loaded {
    /// Every package of every archive, verified up to the signature.
    pub universe: Universe,
    /// The Releases that vouched, by archive.
    pub archives: Vec<LockedArchive>,
    /// What was noticed and does not stop the work.
    pub warnings: Report,
}

/// Loads the archives for `architecture`, by name.
///
/// # Errors
/// With one diagnostic for each archive that cannot be loaded: a missing keyring, no mirror, a signature, a digest.
pub fn open(archives: &BTreeMap<String, Archive>, architecture: &str, access: &Access<'_>) -> Result<Loaded, Report> {
    let mut loaded = Loaded { universe: Universe::default(), archives: Vec::new(), warnings: Report::new() };
    let mut report = Report::new();
    for archive in archives.values() {
        if let Err(refused) = open_one(archive, architecture, access, &mut loaded) {
            report.extend(refused);
        }
    }
    if report.has_errors() { Err(report) } else { Ok(loaded) }
}

fn open_one(archive: &Archive, architecture: &str, access: &Access<'_>, loaded: &mut Loaded) -> Result<(), Report> {
    let reached = release::reach(archive, &keyring_of(archive)?, access)?;
    loaded.warnings.extend(reached.warnings);
    for suite in &reached.suites {
        let packages = index::load(archive, suite, reached.mirror.as_ref(), architecture, access)?;
        loaded.universe.candidates.extend(packages.candidates);
        loaded.warnings.extend(packages.warnings);
    }
    let mut suites: Vec<_> = reached.suites.into_iter().map(|suite| suite.locked).collect();
    suites.sort_by(|one, other| one.name.cmp(&other.name));
    loaded.archives.push(LockedArchive { name: archive.name.clone(), suites });
    Ok(())
}

/// The archive's keyring, read from the bytes in the Spec.
fn keyring_of(archive: &Archive) -> Result<Keyring, Diagnostic> {
    let refuse = |why: String| {
        let message = format!("the keyring `{}` of archive `{}` {why}", archive.keyring, archive.name);
        Diagnostic::error(Kind::Input, message)
            .at(&archive.span, "")
            .note("nothing is fetched from an archive whose signatures cannot be verified")
            .hint("put the archive's OpenPGP certificates there, binary or armored")
    };
    let bytes = archive.keyring_bytes.as_ref().ok_or_else(|| refuse("is not there".to_owned()))?;
    Keyring::parse(bytes).map_err(|error| refuse(format!("is of no use: {error}")))
}

/// The bytes of an object, verified.
fn read_object(store: &Store, digest: &Digest) -> Result<Vec<u8>, Diagnostic> {
    let mut file = store.open_object(digest)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).on("read", &store.object_path(digest))?;
    if Digest::of(&bytes) == *digest { Ok(bytes) } else { Err(store.discard(digest).into()) }
}
