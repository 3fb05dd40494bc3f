//! The kinds of places, and which one a text means.

use std::path::Path;

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind};

use super::Environment;
use super::envelope::Blob;
use super::files::Files;
use super::login;
use super::oci::Registry;
use super::wire::{Body, Counts, Trouble};

/// Longest record that is read, in bytes: one that names 100,000 objects has some 30 MB.
pub const LONGEST_RECORD: u64 = 64 << 20;

/// The name of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The step.
    pub step: String,
    /// Digest of its key.
    pub key: Digest,
}

/// What became of a record that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there now.
    Done,
    /// Another one was there first, and stays.
    Taken,
}

/// A place that keeps blobs and records.
pub trait Place: std::fmt::Debug + Send + Sync {
    /// As a person wrote it.
    fn shown(&self) -> &str;

    /// What went over the wire so far.
    fn counts(&self) -> &Counts;

    /// The bytes of a record, which nobody has judged yet; none when there is none.
    fn record(&self, name: &Name) -> Result<Option<Vec<u8>>, Trouble>;

    /// Puts a record, whose blobs are all there. `replace` says that the one that is there is of no use.
    fn put_record(&self, name: &Name, bytes: &[u8], blobs: &[Blob], replace: bool) -> Result<Put, Trouble>;

    /// Whether a blob is there.
    fn has(&self, blob: &Digest) -> Result<bool, Trouble>;

    /// What follows the first `from` bytes of a blob; none when it is not there.
    fn blob(&self, blob: &Digest, from: u64) -> Result<Option<Body>, Trouble>;

    /// Puts a blob: the file at `path`, of `length` bytes.
    fn put_blob(&self, blob: &Digest, path: &Path, length: u64) -> Result<(), Trouble>;
}

/// The place that `text` means: `oci://HOST/REPOSITORY`, `s3://BUCKET/PREFIX`, `https://HOST/PATH`. Asks nobody yet.
///
/// # Errors
/// When it means none, or its credentials cannot be read.
pub fn open(text: &str, environment: Environment<'_>) -> Result<Box<dyn Place>, Diagnostic> {
    let refuse = |why: &str| {
        // What stands before an `@` may be a password.
        let shown = text.rsplit_once('@').map_or(text.to_owned(), |(_, rest)| format!("…@{rest}"));
        Diagnostic::error(Kind::Usage, format!("`{shown}` is no remote: {why}"))
            .hint("name one as `oci://HOST/REPOSITORY`, `s3://BUCKET/PREFIX` or `https://HOST/PATH`")
    };
    let Some((scheme, rest)) = text.split_once("://") else { return Err(refuse("it has no `://`")) };
    let rest = rest.trim_end_matches('/');
    if rest.split('/').next().is_none_or(|host| host.is_empty() || host.contains('@')) {
        let diagnostic = refuse("no host stands there, or a user does");
        return Err(diagnostic.hint("credentials come from the environment: every process can read an argument"));
    }
    if rest.contains(['?', '#', ' ', '\\'])
        || rest.contains(char::is_control)
        || rest.split('/').any(|part| part == "..")
    {
        return Err(refuse("there is a character in it that cannot be there"));
    }
    match scheme {
        "oci" => {
            let (host, repository) = rest.split_once('/').ok_or_else(|| refuse("no repository follows the host"))?;
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
            if !repository.bytes().all(plain) || repository.split('/').any(str::is_empty) {
                return Err(refuse("a repository has lower-case letters, digits and `.`, `_`, `-`, `/`"));
            }
            let login = login::of_registry(host, environment)?;
            Ok(Box::new(Registry::new(text, host, repository, login)))
        }
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            Ok(Box::new(Files::bucket(text, bucket, prefix, environment)?))
        }
        "http" | "https" => Ok(Box::new(Files::web(text, &format!("{scheme}://{rest}"), environment)?)),
        _ => Err(refuse("it begins with none of the three")),
    }
}
