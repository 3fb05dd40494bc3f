//! Signing a role's directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::deb::date::parse_rfc3339;
use crate::digest::Digest;
use crate::image::manifest::Manifest;
use crate::image::sums::{self, SIGNATURE, SUMS};
use crate::report::{Diagnostic, Kind, Report};
use crate::sys::files::{self, Context as _};

use super::Signer;

/// Largest list of digests, manifest or signature that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The role's directory.
    pub directory: PathBuf,
    /// The role.
    pub role: String,
    /// How many files the list names.
    pub files: usize,
}

/// The directories of roles that `path` means: itself, or those in it. A role's directory is one that holds `SHA256SUMS`.
///
/// # Errors
/// When there is none.
pub fn directories(path: &Path) -> Result<Vec<PathBuf>, Report> {
    if path.join(SUMS).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let listed = fs::read_dir(path).on("read", path).map_err(Diagnostic::from)?;
    let mut found: Vec<PathBuf> =
        listed.flatten().map(|entry| entry.path()).filter(|inside| inside.join(SUMS).is_file()).collect();
    found.sort();
    if found.is_empty() {
        let message = format!("there is no `{SUMS}` in `{}`, nor in a directory in it", path.display());
        return Err(Diagnostic::error(Kind::Input, message)
            .hint("name the directory of a role that `rolecast build` made, or the one above")
            .into());
    }
    Ok(found)
}

/// Signs the list of a role's directory. The files themselves are not read: who calls knows that they are those that the
/// list names ([`super::check_directory`] tells).
///
/// # Errors
/// When list or manifest are missing or broken, the key does not sign, or the signature cannot be written.
pub fn sign(directory: &Path, signer: &Signer) -> Result<Signed, Report> {
    let (text, listed) = list(directory)?;
    let manifest = manifest(directory, &listed)?;
    sign_text(directory, &text, &manifest.released, signer)?;
    Ok(Signed { directory: directory.to_owned(), role: manifest.role, files: listed.len() })
}

/// Signs the list of any directory, with the date `released` (RFC 3339).
///
/// # Errors
/// When the list is missing or broken, the key does not sign, or the signature cannot be written.
pub fn sign_list(directory: &Path, released: &str, signer: &Signer) -> Result<(), Report> {
    let (text, _) = list(directory)?;
    sign_text(directory, &text, released, signer)
}

/// Signs the text of a directory's list.
fn sign_text(directory: &Path, text: &str, released: &str, signer: &Signer) -> Result<(), Report> {
    let released = parse_rfc3339(released).ok_or_else(|| {
        let message = format!("nothing says when the packages in `{}` were released", directory.display());
        Diagnostic::error(Kind::Input, message)
            .note("a signature is dated by that, so that signing again gives the same bytes")
            .hint("build it again with this rolecast")
    })?;
    let signature = signer.sign(text.as_bytes(), released)?;
    files::write_atomically(&directory.join(SIGNATURE), &signature).map_err(|error| Diagnostic::from(error).into())
}

/// The list of a directory: as text, and by name.
pub(super) fn list(directory: &Path) -> Result<(String, BTreeMap<String, Digest>), Report> {
    let path = directory.join(SUMS);
    let broken = |why: &dyn std::fmt::Display| {
        Report::from(Diagnostic::error(Kind::Input, format!("`{}` is no list of digests: {why}", path.display())))
    };
    let text = String::from_utf8(read(&path)?).map_err(|_| broken(&"it is not a text in UTF-8"))?;
    let listed = sums::parse(&text).map_err(|error| broken(&error))?;
    Ok((text, listed))
}

/// The manifest of a directory, which is the one that the list names.
fn manifest(directory: &Path, listed: &BTreeMap<String, Digest>) -> Result<Manifest, Report> {
    let path = directory.join("manifest.json");
    let bytes = read(&path)?;
    let refuse = |what: String| Report::from(Diagnostic::error(Kind::Input, format!("`{}` {what}", path.display())));
    if listed.get("manifest.json") != Some(&Digest::of(&bytes)) {
        return Err(refuse(format!("is not the one that `{SUMS}` beside it names")));
    }
    Manifest::parse(&String::from_utf8_lossy(&bytes))
        .map_err(|error| refuse(format!("is no manifest of rolecast: {error}")))
}

/// A small file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Report> {
    let mut bytes = Vec::new();
    let file = files::open(path).map_err(Diagnostic::from)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).on("read", path).map_err(Diagnostic::from)?;
    if bytes.len() as u64 > LARGEST {
        let message = format!("`{}` has more than {LARGEST} bytes", path.display());
        return Err(Diagnostic::error(Kind::Input, message).into());
    }
    Ok(bytes)
}
