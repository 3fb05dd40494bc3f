//! Release files: what an archive says of its indexes.
//!
//! Reads the text that a signature covers; verifying is the archive room's. Dates become seconds since the Epoch, and
//! whether one has passed is for the caller who has a clock. Specification: the repository format of the Debian wiki.

use std::collections::BTreeMap;

use super::control::{ControlError, ControlProblem, Stanzas};
use super::date::parse_release_date;
use crate::digest::Digest;

/// An index that a Release vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexFile {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Digest,
}

/// A Release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// `Origin`.
    pub origin: Option<String>,
    /// `Label`.
    pub label: Option<String>,
    /// `Suite`: `stable`.
    pub suite: Option<String>,
    /// `Codename`: `trixie`.
    pub codename: Option<String>,
    /// `Version`.
    pub version: Option<String>,
    /// `Date`, seconds since the Epoch.
    pub date: i64,
    /// `Valid-Until`, seconds since the Epoch.
    pub valid_until: Option<i64>,
    /// `Architectures`.
    pub architectures: Vec<String>,
    /// `Components`.
    pub components: Vec<String>,
    /// `Acquire-By-Hash: yes`: indexes are also at `by-hash/SHA256/…`, where an update cannot change them.
    pub acquire_by_hash: bool,
    /// The indexes, by path from the Release's directory.
    pub files: BTreeMap<String, IndexFile>,
}

/// Why a text is no Release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// No text.
    #[error("the Release is empty")]
    Empty,
    /// A line that is no field.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// No `Date`.
    #[error("the Release has no `Date`")]
    NoDate,
    /// A date that is none.
    #[error("line {line}: `{text}` is not a date like `Sat, 09 Aug 2025 11:30:24 UTC`")]
    Date {
        /// The field's line, from 1.
        line: usize,
        /// The value, shortened.
        text: String,
    },
    /// No `SHA256`: only digests that are broken, or none.
    #[error("the Release has no `SHA256` table; weaker digests are not accepted")]
    NoSha256,
    /// A line of the table that is not digest, size and path.
    #[error("line {line}: `{text}` is not a digest, a size and a path")]
    File {
        /// The line, from 1.
        line: usize,
        /// The line's text, shortened.
        text: String,
    },
    /// One path with two digests.
    #[error("line {line}: `{path}` is here twice")]
    FileTwice {
        /// The line, from 1.
        line: usize,
        /// The path.
        path: String,
    },
}

impl Release {
    /// Reads the text of a Release, or of an InRelease without its armour.
    ///
    /// # Errors
    /// A broken line, no or a broken date, no SHA256 table or a broken line in it, a field twice.
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        let stanza = Stanzas::new(text).next().ok_or(ReleaseError::Empty)?;
        let mut release = Self::default();
        let mut date = None;
        let mut sha256 = None;
        let mut seen = std::collections::BTreeSet::new();
        for field in stanza.fields() {
            let field = field?;
            let name = field.name.to_ascii_lowercase();
            let value = || Some(field.value.to_owned());
            let words = || field.value.split_ascii_whitespace().map(str::to_owned).collect();
            let time = || {
                let error = || ReleaseError::Date { line: field.line, text: field.value.chars().take(80).collect() };
                parse_release_date(field.value).ok_or_else(error)
            };
            match name.as_str() {
                "origin" => release.origin = value(),
                "label" => release.label = value(),
                "suite" => release.suite = value(),
                "codename" => release.codename = value(),
                "version" => release.version = value(),
                "date" => date = Some(time()?),
                "valid-until" => release.valid_until = Some(time()?),
                "architectures" => release.architectures = words(),
                "components" => release.components = words(),
                "acquire-by-hash" => release.acquire_by_hash = field.value == "yes",
                "sha256" => sha256 = Some(field),
                _ => {}
            }
            if !seen.insert(name) {
                let problem = ControlProblem::Duplicate(field.name.to_owned());
                return Err(ControlError { line: field.line, problem }.into());
            }
        }
        release.date = date.ok_or(ReleaseError::NoDate)?;
        let table = sha256.ok_or(ReleaseError::NoSha256)?;
        // The field's own line is empty, so the first row stands on the next one.
        let first = table.line + usize::from(!table.value.is_empty());
        for (row, text) in table.lines().enumerate().filter(|(_, text)| !text.is_empty()) {
            let line = first + row;
            let (path, file) =
                parse_row(text).ok_or_else(|| ReleaseError::File { line, text: text.chars().take(120).collect() })?;
            if release.files.insert(path.to_owned(), file).is_some_and(|before| before != file) {
                return Err(ReleaseError::FileTwice { line, path: path.to_owned() });
            }
        }
        Ok(release)
    }
}

fn parse_row(text: &str) -> Option<(&str, IndexFile)> {
    let mut words = text.split_ascii_whitespace();
    let (digest, size, path) = (words.next()?, words.next()?, words.next()?);
    let plain = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(|byte| byte.is_ascii_graphic());
    if words.next().is_some() || path.len() > 4096 || !path.split('/').all(plain) {
        return None;
    }
    Some((path, IndexFile { size: size.parse().ok()?, sha256: Digest::parse(digest).ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn text(extra: &str) -> String {
        format!(
            "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 06 Sep 2025 11:30:24 UTC\n{extra}\
             Acquire-By-Hash: yes\nArchitectures: all amd64\nComponents: main contrib\nMD5Sum:\n abc 1 x\nSHA256:\n \
             {EMPTY}        0 main/binary-amd64/Packages\n {EMPTY} 12 main/binary-amd64/Packages.xz\n"
        )
    }

    #[test]
    fn a_release_is_read() {
        let release = Release::parse(&text("Valid-Until: Sat, 13 Sep 2025 11:30:24 UTC\n")).expect("a release");
        assert_eq!(release.codename.as_deref(), Some("trixie"));
        assert_eq!(release.date, 1_757_158_224);
        assert_eq!(release.valid_until, Some(1_757_158_224 + 7 * 86_400));
        assert!(release.acquire_by_hash);
        assert_eq!(release.architectures, ["all", "amd64"]);
        let file = release.files["main/binary-amd64/Packages.xz"];
        assert_eq!((file.size, file.sha256), (12, Digest::of(b"")));
    }

    #[test]
    fn broken_releases_are_refused() {
        let good = text("");
        for (from, to) in [
            ("Date: Sat, 06 Sep 2025 11:30:24 UTC", "Other: x"),
            ("Date: Sat,", "Date: "),
            ("SHA256:", "SHA1:"),
            ("Packages.xz", "../../Packages.xz"),
            ("main/binary-amd64/Packages.xz", "/etc/passwd"),
            (" 12 ", " twelve "),
            (" 12 main/binary-amd64/Packages.xz", " 12 main/binary-amd64/Packages"),
            ("Suite: stable", "Codename: stable"),
            ("Origin: Debian", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nOrigin: Debian"),
        ] {
            assert!(good.contains(from), "{from}");
            assert!(Release::parse(&good.replace(from, to)).is_err(), "{to}");
        }
        let row = good.lines().count();
        let error = Release::parse(&good.replace(" 12 ", " x ")).expect_err("a broken row");
        assert!(error.to_string().starts_with(&format!("line {row}:")), "{error}");
        assert_eq!(Release::parse(""), Err(ReleaseError::Empty));
    }
}
