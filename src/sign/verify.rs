//! Verifying a role's directory, or one file in it: the signature over the list, then the files against the list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::archive::{Keyring, Policy, verify_detached};
use crate::digest::Digest;
use crate::image::sums::{SIGNATURE, SUMS};
use crate::report::{Diagnostic, Kind, Report};
use crate::sys::files::{self, Context as _};

use super::outputs::{list, read};

/// How deep below a role's directory files are looked for; `build` makes two levels.
const DEEPEST: usize = 16;

/// Most files that are looked at.
const MOST: usize = 100_000;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The role's directory.
    pub directory: PathBuf,
    /// Fingerprints of the certificates whose signatures are good; empty when no signature was asked for.
    pub signed_by: Vec<String>,
    /// Files whose bytes are those that the list names.
    pub good: Vec<String>,
    /// What is wrong with others.
    pub problems: Vec<Problem>,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase", tag = "problem", content = "file")]
pub enum Problem {
    /// Its bytes are others.
    Altered(String),
    /// The list names it, and it is not there.
    Missing(String),
    /// It is there, and the list does not name it.
    Unlisted(String),
}

/// Verifies everything in a role's directory. Without a keyring, files are only compared with the list. `now` is in seconds
/// since the Epoch; `advance` is told of bytes as they are hashed.
///
/// # Errors
/// When the signature is missing or not good, or something cannot be read.
pub fn check_directory(
    directory: &Path,
    keyring: Option<&Keyring>,
    now: i64,
    advance: &dyn Fn(u64),
) -> Result<Checked, Report> {
    let (signed_by, listed) = vouched(directory, keyring, now)?;
    let mut checked = Checked { directory: directory.to_owned(), signed_by, good: Vec::new(), problems: Vec::new() };
    for (name, digest) in &listed {
        compare(&mut checked, name, digest, advance)?;
    }
    let mut there = BTreeSet::new();
    walk(directory, "", DEEPEST, &mut there)?;
    let expected = |name: &String| listed.contains_key(name) || name == SUMS || name == SIGNATURE;
    checked.problems.extend(there.into_iter().filter(|name| !expected(name)).map(Problem::Unlisted));
    Ok(checked)
}

/// Verifies one file of a role's directory, which may lie deeper in it.
///
/// # Errors
/// As [`check_directory`], or when no directory above holds a list.
pub fn check_file(path: &Path, keyring: Option<&Keyring>, now: i64, advance: &dyn Fn(u64)) -> Result<Checked, Report> {
    let path = std::path::absolute(path).on("find", path).map_err(Diagnostic::from)?;
    let Some(directory) = path.ancestors().skip(1).take(2).find(|directory| directory.join(SUMS).is_file()) else {
        let message = format!("there is no `{SUMS}` beside `{}`, nor above it", path.display());
        return Err(Diagnostic::error(Kind::Input, message)
            .hint("fetch it and its signature from where the file came")
            .into());
    };
    let (signed_by, listed) = vouched(directory, keyring, now)?;
    let mut checked = Checked { directory: directory.to_owned(), signed_by, good: Vec::new(), problems: Vec::new() };
    let name = path.strip_prefix(directory).unwrap_or(&path).to_string_lossy().into_owned();
    match listed.get(&name) {
        Some(digest) => compare(&mut checked, &name, digest, advance)?,
        None if name == SUMS => checked.good.push(name),
        None => checked.problems.push(Problem::Unlisted(name)),
    }
    Ok(checked)
}

/// The list, and who vouches for it.
fn vouched(
    directory: &Path,
    keyring: Option<&Keyring>,
    now: i64,
) -> Result<(Vec<String>, BTreeMap<String, Digest>), Report> {
    let Some(keyring) = keyring else { return Ok((Vec::new(), list(directory)?.1)) };
    let path = directory.join(SIGNATURE);
    if matches!(fs::metadata(&path), Err(error) if error.kind() == ErrorKind::NotFound) {
        let message = format!("`{}` is not signed: there is no `{SIGNATURE}`", directory.display());
        return Err(Diagnostic::error(Kind::Trust, message).into());
    }
    // The bytes that are verified are those that are read as a list: never those of a second look.
    let (signature, bytes) = (read(&path)?, read(&directory.join(SUMS))?);
    let policy = Policy { keyring, pins: &[], now, outlived: false };
    let vouched = verify_detached(&bytes, &signature, policy).map_err(|error| {
        let message = format!("the signature `{}` is not good", path.display());
        error.reasons().into_iter().fold(Diagnostic::error(Kind::Trust, message), Diagnostic::note)
    })?;
    let listed = crate::image::sums::parse(&vouched.text).map_err(|error| {
        let message = format!("`{}` is no list of digests: {error}", directory.join(SUMS).display());
        Diagnostic::error(Kind::Input, message)
    })?;
    Ok((vouched.signed_by, listed))
}

fn compare(checked: &mut Checked, name: &str, expected: &Digest, advance: &dyn Fn(u64)) -> Result<(), Report> {
    match digest(&checked.directory.join(name), advance)? {
        Some(found) if found == *expected => checked.good.push(name.to_owned()),
        Some(_) => checked.problems.push(Problem::Altered(name.to_owned())),
        None => checked.problems.push(Problem::Missing(name.to_owned())),
    }
    Ok(())
}

/// The digest of a file's bytes; none when there is no regular file.
fn digest(path: &Path, advance: &dyn Fn(u64)) -> Result<Option<Digest>, Report> {
    // Asked first: opening a pipe would wait for its writer.
    let metadata = match fs::metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        looked => looked.on("look at", path).map_err(Diagnostic::from)?,
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    let file = files::open(path).map_err(Diagnostic::from)?;
    Ok(Some(Digest::of_reader(file, advance).on("read", path).map_err(Diagnostic::from)?))
}

/// The names of everything below `directory` that is no directory, from there; links are not followed.
fn walk(directory: &Path, prefix: &str, deeper: usize, found: &mut BTreeSet<String>) -> Result<(), Report> {
    for entry in fs::read_dir(directory).on("read", directory).map_err(Diagnostic::from)? {
        let entry = entry.on("read", directory).map_err(Diagnostic::from)?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        match is_directory && deeper > 0 {
            true => walk(&entry.path(), &format!("{name}/"), deeper - 1, found)?,
            false => _ = found.insert(name),
        }
        if found.len() > MOST {
            let message = format!("`{}` holds more than {MOST} files: it is no role's directory", directory.display());
            return Err(Diagnostic::error(Kind::Input, message).into());
        }
    }
    Ok(())
}
