//! Releases: fetched, verified, judged by their dates, and kept.
//!
//! Owns the question whether a suite's Release may be believed today. What was believed is kept in the store, by
//! archive and suite, so that a later build can work offline; it is verified again each time, because a key may have
//! been dropped from the keyring since. Specification: the repository format of the Debian wiki.

use serde::{Deserialize, Serialize};

use super::keyring::Keyring;
use super::mirror::{Candidates, Mirror, ways_to_name};
use super::signature::{self, CLOCK_SKEW, Policy, SignatureError, Vouched};
use super::transfer_error::TransferError;
use super::{Access, read_object, time};
use crate::deb::control::Stanzas;
use crate::deb::release::{Release, ReleaseError};
use crate::digest::{Digest, Key};
use crate::lock::{LockedArchive, LockedSuite};
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::Archive;

/// Largest Release that is read, in bytes; the largest of today's archives have half a megabyte.
const MOST_BYTES: u64 = 8 << 20;

/// A verified Release.
#[derive(Clone, Debug)]
pub struct Suite {
    /// What it says.
    pub release: Release,
    /// Whether packages of architecture `all` have an index of their own, and are not in that of each architecture.
    pub separate_all: bool,
    /// What a lock records of it.
    pub locked: LockedSuite,
}

/// Why a Release is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It did not come.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Nothing vouches for it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Its text does not read.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// Its validity is over.
    #[error("its validity ended on {}", time::date(*.0))]
    Expired(i64),
    /// It is from the future.
    #[error("it is dated {}, which is in the future", time::date(*.0))]
    Future(i64),
    /// It is another suite's.
    #[error("it is the Release of another suite: {0}")]
    OtherSuite(String),
}

/// A Release as served: InRelease, or Release with its signature beside it.
pub(super) struct Served {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    /// Release.gpg.
    pub(super) detached: Option<Vec<u8>>,
}

/// What a lock pins already. A pinned Release was believed while it was valid, and is believed as long as it has the
/// pinned digest: neither the end of its validity nor of its signature's counts again.
#[derive(Clone, Copy, Debug)]
pub enum Pinned<'a> {
    /// Nothing: every Release has to be valid now.
    Nothing,
    /// This one.
    Release(&'a LockedSuite),
    /// All of these archives.
    Archives(&'a [LockedArchive]),
}

impl Pinned<'_> {
    fn holds(self, archive: &str, suite: &str, release: &Digest) -> bool {
        match self {
            Self::Nothing => false,
            Self::Release(pinned) => pinned.name == suite && pinned.release == *release,
            Self::Archives(archives) => {
                let suites = archives.iter().filter(|locked| locked.name == archive).flat_map(|locked| &locked.suites);
                suites.into_iter().any(|pinned| pinned.name == suite && pinned.release == *release)
            }
        }
    }
}

/// What the store keeps of a Release.
#[derive(Serialize, Deserialize)]
struct Kept {
    release: Digest,
    detached: Option<Digest>,
    date: i64,
}

/// What an archive has to offer, and where.
pub struct Reached {
    /// The mirror; none when working offline.
    pub mirror: Option<Mirror>,
    /// The suites, in the order of the image file.
    pub suites: Vec<Suite>,
    /// What was noticed on the way.
    pub warnings: Report,
}

/// Finds a mirror of `archive`, and its Releases there.
///
/// # Errors
/// When no mirror serves them all, verified.
pub fn reach(archive: &Archive, keyring: &Keyring, access: &Access<'_>) -> Result<Reached, Report> {
    if access.offline && !access.mirrors.is_local(archive)? {
        return from_store(archive, keyring, access);
    }
    let first = archive.suites.first().map_or("", String::as_str);
    let (mirror, mut served) = match access.mirrors.candidates(archive)? {
        Candidates::Named(mirror) => (mirror, Vec::new()),
        Candidates::Host(mirrors) => {
            let mut tried = Vec::new();
            let found = mirrors.into_iter().find_map(|mirror| match fetch(archive, first, &mirror, keyring, access) {
                Ok(suite) => Some((mirror, vec![suite])),
                Err(refusal) => {
                    tried.push((mirror, refusal));
                    None
                }
            });
            found.ok_or_else(|| no_mirror(archive, first, &tried))?
        }
    };
    let mut report = Report::new();
    for suite in &archive.suites[served.len().min(archive.suites.len())..] {
        match fetch(archive, suite, &mirror, keyring, access) {
            Ok(suite) => served.push(suite),
            Err(refusal) => report.push(refused(archive, suite, Some(&mirror), &refusal)),
        }
    }
    if report.has_errors() {
        return Err(report);
    }
    let mut warnings = Report::new();
    let mut suites = Vec::new();
    for (suite, served) in served {
        warnings.extend(keep(archive, &suite, &served, access)?);
        suites.push(suite);
    }
    access.mirrors.remember(&archive.name, &mirror);
    Ok(Reached { mirror: Some(mirror), suites, warnings })
}

/// Why none of the host's mirrors will do. One that serves the right Release at the wrong time is the one meant.
fn no_mirror(archive: &Archive, suite: &str, tried: &[(Mirror, Refusal)]) -> Report {
    let untimely = tried.iter().find(|(_, refusal)| {
        matches!(refusal, Refusal::Expired(_) | Refusal::Future(_) | Refusal::Signature(SignatureError::Future(_)))
    });
    if let Some((mirror, refusal)) = untimely {
        return refused(archive, suite, Some(mirror), refusal).into();
    }
    let message = format!("no mirror of archive `{}` was found", archive.name);
    let mut diagnostic = Diagnostic::error(Kind::World, message).at(&archive.span, "");
    diagnostic = diagnostic.note(if tried.is_empty() {
        "none was named, and this machine has no apt sources to look at".to_owned()
    } else {
        format!("none was named, and none of this machine's apt sources serves a Release of `{suite}` that verifies")
    });
    for (mirror, refusal) in tried {
        let reasons = match refusal {
            Refusal::Signature(SignatureError::NoneGood(reasons)) => format!(" ({})", reasons.join("; ")),
            _ => String::new(),
        };
        diagnostic = diagnostic.note(format!("tried `{}`: {refusal}{reasons}", super::url::shown(&mirror.url)));
    }
    ways_to_name(&archive.name, diagnostic).into()
}

fn fetch(
    archive: &Archive,
    suite: &str,
    mirror: &Mirror,
    keyring: &Keyring,
    access: &Access<'_>,
) -> Result<(Suite, Served), Refusal> {
    let served = served(suite, mirror, access)?;
    Ok((judge(archive, suite, &served, keyring, access.now, access.pinned)?, served))
}

/// The Release of `suite` as the mirror serves it: believed by nobody yet.
pub(super) fn served(suite: &str, mirror: &Mirror, access: &Access<'_>) -> Result<Served, TransferError> {
    let get = |name: &str| access.client.get(&mirror.url_of(&format!("dists/{suite}/{name}")), MOST_BYTES);
    match get("InRelease") {
        Ok(bytes) => Ok(Served { bytes, detached: None }),
        Err(missing @ TransferError::NotFound { .. }) => match (get("Release"), get("Release.gpg")) {
            (Ok(bytes), Ok(detached)) => Ok(Served { bytes, detached: Some(detached) }),
            // That InRelease is missing says more than that its predecessors are.
            _ => Err(missing),
        },
        Err(error) => Err(error),
    }
}

/// Whether a Release may be believed: signature, name, dates.
pub(super) fn judge(
    archive: &Archive,
    suite: &str,
    served: &Served,
    keyring: &Keyring,
    now: i64,
    pinned: Pinned<'_>,
) -> Result<Suite, Refusal> {
    let pinned = pinned.holds(&archive.name, suite, &Digest::of(&served.bytes));
    let policy = Policy { keyring, pins: &archive.fingerprints, now, outlived: pinned };
    let Vouched { text, signed_by } = match &served.detached {
        None => signature::verify_clear_signed(&served.bytes, policy)?,
        Some(detached) => signature::verify_detached(&served.bytes, detached, policy)?,
    };
    let release = Release::parse(&text)?;
    if !names(&release, suite) {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let found = format!("suite `{}`, code name `{}`", name(&release.suite), name(&release.codename));
        return Err(Refusal::OtherSuite(found));
    }
    if release.date > now + CLOCK_SKEW {
        return Err(Refusal::Future(release.date));
    }
    if let Some(end) = release.valid_until.filter(|end| now > *end && !archive.allow_expired && !pinned) {
        return Err(Refusal::Expired(end));
    }
    let locked =
        LockedSuite { name: suite.to_owned(), release: Digest::of(&served.bytes), date: release.date, signed_by };
    Ok(Suite { separate_all: has_separate_all(&release, &text), release, locked })
}

/// Whether the Release is that of `suite`: one key signs many suites, and a mirror could serve one for another. Ubuntu
/// names all pockets of a release by its code name, so `noble` is not the one whose suite is `noble-updates`.
fn names(release: &Release, suite: &str) -> bool {
    match (release.suite.as_deref(), release.codename.as_deref()) {
        (None, None) => true,
        (Some(name), _) if name == suite => true,
        (name, Some(code)) if code == suite => {
            !name.and_then(|name| name.strip_prefix(code)).is_some_and(|pocket| pocket.starts_with('-'))
        }
        _ => false,
    }
}

fn has_separate_all(release: &Release, text: &str) -> bool {
    let field = Stanzas::new(text).next().and_then(|stanza| stanza.get("No-Support-for-Architecture-all"));
    release.architectures.iter().any(|name| name == "all")
        && !field.is_some_and(|field| field.value.split_ascii_whitespace().any(|index| index == "Packages"))
}

pub(super) fn refused(archive: &Archive, suite: &str, mirror: Option<&Mirror>, refusal: &Refusal) -> Diagnostic {
    let told = match refusal {
        Refusal::Transfer(error) => error.diagnostic(&archive.name),
        _ => Diagnostic::error(Kind::Trust, refusal.to_string()),
    };
    let message = format!("the Release of `{suite}` in archive `{}` is refused: {}", archive.name, told.message);
    let mut diagnostic = Diagnostic { message, ..told }.at(&archive.span, "");
    if let Some(mirror) = mirror {
        let url = super::url::shown(&mirror.url);
        diagnostic = diagnostic.note(format!("the mirror is `{url}`, named by {}", mirror.origin));
    }
    match refusal {
        Refusal::Future(_) | Refusal::Signature(SignatureError::Future(_)) => {
            diagnostic.hint("is this machine's clock right?")
        }
        Refusal::Signature(error) => {
            if let SignatureError::NoneGood(reasons) = error {
                for reason in reasons {
                    diagnostic = diagnostic.note(reason.clone());
                }
            }
            diagnostic.note(format!("the keyring is `{}`", archive.keyring))
        }
        Refusal::Expired(_) => diagnostic
            .note("an old Release hides later security updates")
            .hint("name a mirror that is up to date")
            .hint(format!("for a snapshot of the past: `allow-expired = true` in `[archive.{}]`", archive.name)),
        _ => diagnostic,
    }
}

fn key_of(archive: &Archive, suite: &str) -> Key {
    Key::new("archive.release", 1).input("archive", &archive.name).input("suite", suite)
}

/// Keeps a believed Release for working offline. Warns of one older than the last.
fn keep(archive: &Archive, suite: &Suite, served: &Served, access: &Access<'_>) -> Result<Report, Report> {
    let key = key_of(archive, &suite.locked.name);
    let mut warnings = Report::new();
    let before: Option<Kept> = access.store.result(&key).map_err(Diagnostic::from)?;
    if let Some(before) = before.filter(|before| before.date > suite.locked.date && !archive.allow_expired) {
        let message = format!(
            "the Release of `{}` in archive `{}` is older than the one seen before",
            suite.locked.name, archive.name
        );
        let note = format!("it is of {}, and that one of {}", time::date(suite.locked.date), time::date(before.date));
        warnings.push(Diagnostic::warning(message).note(note).hint("name a mirror that is up to date"));
    }
    let put = |bytes: &Vec<u8>| access.store.put(bytes).map_err(Diagnostic::from);
    let release = put(&served.bytes)?;
    let detached = served.detached.as_ref().map(put).transpose()?;
    let objects = [Some(release), detached].into_iter().flatten().collect();
    let kept = Kept { release, detached, date: suite.locked.date };
    access.store.record(&key, objects, &kept).map_err(Diagnostic::from)?;
    Ok(warnings)
}

/// The Release of a suite that the store keeps, as it was served.
pub(super) fn kept(archive: &Archive, suite: &LockedSuite, access: &Access<'_>) -> Option<Served> {
    let kept: Kept = access.store.result(&key_of(archive, &suite.name)).ok()??;
    let detached = kept.detached.map(|digest| read_object(access.store, &digest)).transpose().ok()?;
    Some(Served { bytes: read_object(access.store, &kept.release).ok()?, detached })
}

fn from_store(archive: &Archive, keyring: &Keyring, access: &Access<'_>) -> Result<Reached, Report> {
    let mut report = Report::new();
    let mut suites = Vec::new();
    for suite in &archive.suites {
        let kept: Option<Kept> = access.store.result(&key_of(archive, suite)).map_err(Diagnostic::from)?;
        let Some(kept) = kept else {
            let message = format!("the store has no Release of `{suite}` in archive `{}`", archive.name);
            report.push(Diagnostic::error(Kind::World, message).hint("run once without `--offline`"));
            continue;
        };
        let read = |digest: &Digest| read_object(access.store, digest);
        let detached = kept.detached.as_ref().map(read).transpose()?;
        let served = Served { bytes: read(&kept.release)?, detached };
        match judge(archive, suite, &served, keyring, access.now, access.pinned) {
            Ok(suite) => suites.push(suite),
            Err(refusal) => report.push(refused(archive, suite, None, &refusal)),
        }
    }
    if report.has_errors() { Err(report) } else { Ok(Reached { mirror: None, suites, warnings: Report::new() }) }
}
