//! Which results are shared, and opening the place where they are.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::archive::Keyring;
use crate::cli::args::{RemoteArguments, TrustArguments};
use crate::cli::output::size;
use crate::cli::settings::variable;
use crate::image::{kept, parts};
use crate::remote::{self, Remote, Tally, Trust};
use crate::report::{Diagnostic, Kind, Report};

use super::cluster::now;
use super::verify_signature;

/// The steps whose results are shared: what takes minutes, or saves it. Packages are not: mirrors have them.
pub(super) const SHARED: &[&str] =
    &["layer.configure", "layer.core", "layer.whole", "initrd", "role.root", kept::STEP, parts::STEP];

/// Those that only save asking.
pub(super) const GUIDES: &[&str] = &[parts::STEP];

/// The remote of a build, if there is one.
///
/// # Errors
/// When it is none, or nobody is named whose results are believed.
pub(super) fn of_build(arguments: &RemoteArguments, offline: bool) -> Result<Option<Arc<Remote>>, Report> {
    let named = arguments.remote.as_deref().filter(|text| !text.is_empty() && !offline);
    named.map(|text| open(text, trust(&arguments.trust, None)?).map(Arc::new)).transpose()
}

/// A remote; nobody is asked yet.
///
/// # Errors
/// When the text means none.
pub(super) fn open(text: &str, trust: Trust) -> Result<Remote, Report> {
    Ok(Remote::new(remote::open(text, &variable)?, trust, SHARED))
}

/// Whose results are believed: those of the keyring, and the caller's own.
///
/// # Errors
/// When nobody is named.
pub(super) fn trust(arguments: &TrustArguments, own: Option<&Keyring>) -> Result<Trust, Report> {
    let now = i64::try_from(now()).unwrap_or(i64::MAX);
    let named = arguments.remote_keyring.as_deref().map(verify_signature::keyring).transpose()?;
    let keyring = match (named, own) {
        (Some(named), Some(own)) => Some(named.and(own)),
        (named, own) => named.or_else(|| own.cloned()),
    };
    match keyring {
        Some(keyring) => Ok(Trust::Keyring(Box::new(keyring), now)),
        None if arguments.remote_unsigned => Ok(Trust::Anybody),
        None => Err(Diagnostic::error(Kind::Usage, "nobody is named whose results in the remote are believed")
            .note("what is taken from there becomes your images")
            .hint("name their certificates with `--remote-keyring` or ROLECAST_REMOTE_KEYRING")
            .hint("or say `--remote-unsigned`, where nobody can write there whom you do not trust with your images")
            .into()),
    }
}

/// What a remote was good for, as a line.
pub(super) fn told(place: &str, tally: &Tally) -> String {
    let Tally { results, objects, requests, received, sent } = tally;
    let mut text = String::new();
    let _ = write!(text, "{place}: {results} results and {objects} objects taken; {requests} requests");
    let _ = writeln!(text, ", {} received, {} sent", size(*received), size(*sent));
    text
}
