//! `SHA256SUMS`: the digest of every file that was delivered, in the form of `sha256sum(1)`.
//!
//! This is what is signed (`SHA256SUMS.gpg` beside it), because it is the form that people check with coreutils and
//! GnuPG and that systemd-sysupdate and importctl look for.

use std::collections::BTreeMap;
use std::path::Path;

use crate::digest::Digest;
use crate::report::{Diagnostic, Report};
use crate::sys::files;

/// Name of the list.
pub const SUMS: &str = "SHA256SUMS";

/// Name of its signature.
pub const SIGNATURE: &str = "SHA256SUMS.gpg";

/// Longest list that is read, in bytes.
const LONGEST: usize = 1 << 20;

/// Why a text is no list of digests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SumsError {
    /// Not of the form `DIGEST  NAME`.
    #[error("line {0} is not a SHA-256 digest, two spaces and a name")]
    Line(usize),
    /// A name that leads out of the directory, or to nothing.
    #[error("line {0} names a file that is not inside the directory")]
    Name(usize),
    /// One name twice.
    #[error("line {0} names a file for the second time")]
    Twice(usize),
    /// No line, or far too many.
    #[error("it lists nothing, or far too much")]
    Size,
}

/// The list's text; files by name.
pub fn text(sums: &BTreeMap<String, Digest>) -> String {
    sums.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

/// Reads a list. Names lead only into the directory: no absolute path, no `..`, no control character.
///
/// # Errors
/// At the first line that is none.
pub fn parse(text: &str) -> Result<BTreeMap<String, Digest>, SumsError> {
    if text.len() > LONGEST {
        return Err(SumsError::Size);
    }
    let mut sums = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        // The second character between is `*` where a file was read as binary.
        let (digest, name) = line.split_once("  ").or_else(|| line.split_once(" *")).ok_or(SumsError::Line(number))?;
        let digest = Digest::parse(digest).map_err(|_| SumsError::Line(number))?;
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
        if !name.split('/').all(plain) || name.contains('\\') {
            return Err(SumsError::Name(number));
        }
        if sums.insert(name.to_owned(), digest).is_some() {
            return Err(SumsError::Twice(number));
        }
    }
    if sums.is_empty() { Err(SumsError::Size) } else { Ok(sums) }
}

/// Writes the list into `directory`. A signature over another list is removed: it would be over nothing.
///
/// # Errors
/// When the directory cannot be written.
pub fn write(directory: &Path, sums: &BTreeMap<String, Digest>) -> Result<(), Report> {
    let (path, text) = (directory.join(SUMS), text(sums));
    if std::fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes()) {
        return Ok(());
    }
    files::remove_if_there(&directory.join(SIGNATURE)).map_err(Diagnostic::from)?;
    files::write_remade(&path, text.as_bytes()).map_err(Diagnostic::from)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let names = ["rack.raw", "rack.netboot/vmlinuz", "manifest.json"];
        let sums: BTreeMap<String, Digest> =
            names.iter().map(|name| ((*name).to_owned(), Digest::of(name.as_bytes()))).collect();
        assert_eq!(parse(&text(&sums)), Ok(sums));
    }

    #[test]
    fn a_list_leads_nowhere_else() {
        let digest = Digest::of(b"");
        let cases = [
            (String::new(), SumsError::Size),
            ("x".repeat(LONGEST + 1), SumsError::Size),
            ("abc  name\n".to_owned(), SumsError::Line(1)),
            (format!("{digest} name\n"), SumsError::Line(1)),
            (format!("{digest}  /etc/passwd\n"), SumsError::Name(1)),
            (format!("{digest}  a\n{digest}  ../a\n"), SumsError::Name(2)),
            (format!("{digest}  a/./b\n"), SumsError::Name(1)),
            (format!("{digest}  a\u{1b}[2J\n"), SumsError::Name(1)),
            (format!("{digest}  a\\nb\n"), SumsError::Name(1)),
            (format!("{digest}  a\n{digest}  a\n"), SumsError::Twice(2)),
        ];
        for (text, error) in cases {
            assert_eq!(parse(&text), Err(error), "{text:.80}");
        }
    }
}
