//! Packages indexes: chosen, fetched, verified and read.
//!
//! Owns the link from a Release to the packages that it vouches for. An index is verified as it was compressed,
//! before a decoder sees it, and again as what it unpacks to. It is kept unpacked in the store by its digest, so that
//! the next run neither fetches nor unpacks it. Specification: the repository format of the Debian wiki.

use std::borrow::Cow;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rayon::prelude::*;

use super::mirror::Mirror;
use super::release::Suite;
use super::transfer_error::TransferError;
use super::{Access, read_object};
use crate::deb::compression::Compression;
use crate::deb::control::Stanzas;
use crate::deb::package::Package;
use crate::deb::release::IndexFile;
use crate::digest::{Digest, Key};
use crate::report::{Diagnostic, Kind, Report};
use crate::solve::Candidate;
use crate::spec::Archive;
use crate::sys::files::Context as _;

/// Largest index that is taken, compressed or not, in bytes; Debian's `main` has 57 MB.
const MOST_BYTES: u64 = 1 << 30;

/// How an index may be compressed, the preferred first: the fewest bytes to fetch.
const EXTENSIONS: [&str; 4] = [".xz", ".zst", ".gz", ""];

/// Roughly how much of an index one task reads.
const PART: usize = 2 << 20;

/// The packages of one suite, and what was left out of them.
pub struct Packages {
    /// In the order of components, indexes and stanzas.
    pub candidates: Vec<Candidate>,
    /// Stanzas that do not read.
    pub warnings: Report,
}

/// One index of one suite.
struct Index<'a> {
    archive: &'a Archive,
    suite: &'a Suite,
    mirror: Option<&'a Mirror>,
    /// Path from the suite's directory, without an extension: `main/binary-amd64/Packages`.
    path: String,
}

/// All packages of a suite for `architecture` and `all`.
///
/// # Errors
/// When the Release has no such component, or an index cannot be had or is not what the Release says.
pub fn load(
    archive: &Archive,
    suite: &Suite,
    mirror: Option<&Mirror>,
    architecture: &str,
    access: &Access<'_>,
) -> Result<Packages, Report> {
    let mut packages = Packages { candidates: Vec::new(), warnings: Report::new() };
    for path in wanted(archive, suite, architecture)? {
        let index = Index { archive, suite, mirror, path };
        let bytes = index.bytes(access)?;
        index.parse(&bytes, architecture, &mut packages);
    }
    Ok(packages)
}

/// The indexes of a suite for `architecture` and `all`: paths from the suite's directory, without extensions.
///
/// # Errors
/// When the Release has no such component.
pub fn wanted(archive: &Archive, suite: &Suite, architecture: &str) -> Result<Vec<String>, Report> {
    let mut wanted = Vec::new();
    for component in &archive.components {
        let mut architectures = vec![architecture];
        if suite.separate_all {
            architectures.push("all");
        }
        let paths = architectures.iter().map(|name| format!("{component}/binary-{name}/Packages"));
        let listed: Vec<String> = paths.filter(|path| !listings(suite, path).is_empty()).collect();
        if listed.is_empty() {
            return Err(not_offered(archive, suite, component, architecture).into());
        }
        wanted.extend(listed);
    }
    Ok(wanted)
}

/// An index as one of its listed forms: from the mirror, or unpacked from the store. None when both have another.
pub fn as_served(
    archive: &Archive,
    suite: &Suite,
    path: &str,
    mirror: Option<&Mirror>,
    access: &Access<'_>,
) -> Option<(String, Vec<u8>)> {
    let index = Index { archive, suite, mirror, path: path.to_owned() };
    let listings = listings(suite, path);
    let served = mirror.and_then(|mirror| {
        listings.iter().find_map(|(name, file)| {
            let bytes = index.fetch(mirror, name, file, access).ok()?;
            (Digest::of(&bytes) == file.sha256).then(|| (name.clone(), bytes))
        })
    });
    served.or_else(|| {
        let (name, file) = listings.iter().find(|(name, _)| name == path)?;
        Some((name.clone(), read_object(access.store, &file.sha256).ok()?))
    })
}

/// The digests of all packages in an index of this name, verified by the caller as it is packed.
///
/// # Errors
/// When it does not unpack, in words.
pub fn digests(name: &str, packed: &[u8]) -> Result<Vec<Digest>, String> {
    let (_, compression) = Compression::of_name(name);
    let mut bytes = Vec::new();
    let unpacked = compression.decoder(packed, MOST_BYTES).and_then(|mut decoder| decoder.read_to_end(&mut bytes));
    unpacked.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter_map(|line| Digest::parse(line.strip_prefix("SHA256: ")?).ok()).collect())
}

/// The forms in which the Release lists an index, the preferred first.
pub fn listings(suite: &Suite, path: &str) -> Vec<(String, IndexFile)> {
    let named = EXTENSIONS.iter().map(|extension| format!("{path}{extension}"));
    named.filter_map(|name| suite.release.files.get(&name).map(|file| (name, *file))).collect()
}

fn not_offered(archive: &Archive, suite: &Suite, component: &str, architecture: &str) -> Diagnostic {
    let message = format!(
        "suite `{}` of archive `{}` offers no component `{component}` for `{architecture}`",
        suite.locked.name, archive.name
    );
    Diagnostic::error(Kind::Input, message)
        .at(&archive.span, "")
        .note(format!("its components: {}", suite.release.components.join(", ")))
        .note(format!("its architectures: {}", suite.release.architectures.join(", ")))
}

impl Index<'_> {
    /// The verified bytes, unpacked: from the store, or fetched and then kept there.
    fn bytes(&self, access: &Access<'_>) -> Result<Vec<u8>, Report> {
        let listings = listings(self.suite, &self.path);
        let unpacked = listings.iter().find(|(name, _)| *name == self.path).map(|(_, file)| *file);
        if unpacked.is_some_and(|file| file.size == 0) {
            return Ok(Vec::new());
        }
        for (_, file) in &listings {
            let kept: Option<Digest> = access.store.result(&key_of(file)).map_err(Diagnostic::from)?;
            if let Some(digest) = kept {
                return Ok(read_object(access.store, &digest)?);
            }
        }
        let Some(mirror) = self.mirror else {
            let message = format!("the store lacks the index {}", self.name());
            return Err(Diagnostic::error(Kind::World, message).hint("run once without `--offline`").into());
        };
        if let Some((name, file)) = listings.iter().find(|(_, file)| file.size > MOST_BYTES) {
            let message = format!("the index `{name}` has {} bytes, which is more than is taken", file.size);
            return Err(Diagnostic::error(Kind::Trust, message).into());
        }
        let mut missing = Report::new();
        for (name, file) in &listings {
            match self.fetch(mirror, name, file, access) {
                Ok(packed) => {
                    let digest = Digest::of(&packed);
                    if digest != file.sha256 {
                        let got = format!("{} bytes, SHA-256 {digest}", packed.len());
                        return Err(self.blame(wrong(name, file, &got), mirror).into());
                    }
                    return self.unpack(name, &packed, file, unpacked, mirror, access);
                }
                // Archives list forms that they do not serve.
                Err(error @ TransferError::NotFound { .. }) => {
                    missing = self.blame(error.diagnostic(&self.archive.name), mirror).into();
                }
                Err(TransferError::TooLong { limit, .. }) => {
                    return Err(self.blame(wrong(name, file, &format!("more than {limit} bytes")), mirror).into());
                }
                Err(error) => return Err(self.blame(error.diagnostic(&self.archive.name), mirror).into()),
            }
        }
        Err(missing)
    }

    fn fetch(
        &self,
        mirror: &Mirror,
        name: &str,
        file: &IndexFile,
        access: &Access<'_>,
    ) -> Result<Vec<u8>, TransferError> {
        let directory = format!("dists/{}", self.suite.locked.name);
        let get = |path: &str| {
            let mut packed = Vec::new();
            access.client.download(&mirror.url_of(path), file.size, &mut packed, access.progress).map(|()| packed)
        };
        let plain = format!("{directory}/{name}");
        if self.suite.release.acquire_by_hash {
            let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
            match get(&format!("{directory}/{parent}/by-hash/SHA256/{}", file.sha256)) {
                // A partial mirror may lack the directory.
                Err(TransferError::NotFound { .. }) => {}
                outcome => return outcome,
            }
        }
        get(&plain)
    }

    /// Unpacks verified bytes, verifies what comes out where the Release lists that too, and keeps it.
    fn unpack(
        &self,
        name: &str,
        packed: &[u8],
        file: &IndexFile,
        unpacked: Option<IndexFile>,
        mirror: &Mirror,
        access: &Access<'_>,
    ) -> Result<Vec<u8>, Report> {
        let (_, compression) = Compression::of_name(name);
        let bound = unpacked.map_or(MOST_BYTES, |file| file.size);
        let mut bytes = Vec::with_capacity(unpacked.map_or(0, |file| usize::try_from(file.size).unwrap_or(0)));
        let outcome = compression.decoder(packed, bound).and_then(|mut decoder| decoder.read_to_end(&mut bytes));
        if let Err(error) = outcome {
            let message = format!("the index `{name}` cannot be unpacked: {error}");
            return Err(self.blame(Diagnostic::error(Kind::Trust, message), mirror).into());
        }
        let mut writer = access.store.writer().map_err(Diagnostic::from)?;
        writer.write_all(&bytes).on("write", access.store.root()).map_err(Diagnostic::from)?;
        let (digest, size) = writer.finish().map_err(Diagnostic::from)?;
        if let Some(listed) = unpacked.filter(|listed| listed.sha256 != digest) {
            let got = format!("{size} bytes, SHA-256 {digest}");
            return Err(self.blame(wrong(&self.path, &listed, &got), mirror).into());
        }
        access.store.record(&key_of(file), vec![digest], &digest).map_err(Diagnostic::from)?;
        Ok(bytes)
    }

    /// Reads the stanzas, in parts at once. One that does not read is left out, with a warning.
    fn parse(&self, bytes: &[u8], architecture: &str, packages: &mut Packages) {
        // Nearly always it is UTF-8, and whether it is takes a fraction of what replacing would.
        let text = std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
        let read: Vec<Packages> =
            parts(&text).into_par_iter().map(|part| self.parse_part(part, architecture)).collect();
        for part in read {
            packages.candidates.extend(part.candidates);
            packages.warnings.extend(part.warnings);
        }
    }

    fn parse_part(&self, part: &str, architecture: &str) -> Packages {
        let mut packages = Packages { candidates: Vec::new(), warnings: Report::new() };
        for stanza in Stanzas::new(part) {
            let problem = match Package::parse(stanza) {
                Ok(package) if package.architecture != architecture && package.architecture != "all" => continue,
                Ok(package) if package.sha256.is_none() || package.filename.is_empty() || package.size == 0 => {
                    "it has no `Filename`, `Size` or `SHA256`".to_owned()
                }
                Ok(package) => {
                    packages.candidates.push(Candidate {
                        package: Arc::new(package),
                        archive: self.archive.name.clone(),
                        priority: self.archive.priority,
                    });
                    continue;
                }
                Err(error) => error.to_string(),
            };
            let name = stanza.get("Package").map_or("a package", |field| field.value);
            let message = format!("`{name}` in the index {} is left out", self.name());
            packages.warnings.push(Diagnostic::warning(message).note(problem));
        }
        packages
    }

    /// As told to people.
    fn name(&self) -> String {
        format!("`dists/{}/{}` of archive `{}`", self.suite.locked.name, self.path, self.archive.name)
    }

    fn blame(&self, diagnostic: Diagnostic, mirror: &Mirror) -> Diagnostic {
        let url = super::url::shown(&mirror.url);
        diagnostic
            .note(format!("wanted for suite `{}` of archive `{}`", self.suite.locked.name, self.archive.name))
            .note(format!("the mirror is `{url}`, named by {}", mirror.origin))
    }
}

fn wrong(name: &str, listed: &IndexFile, got: &str) -> Diagnostic {
    Diagnostic::error(Kind::Trust, format!("the index `{name}` is not the one that the signed Release vouches for"))
        .note(format!("expected: {} bytes, SHA-256 {}", listed.size, listed.sha256))
        .note(format!("got:      {got}"))
        .hint("the mirror may be in the middle of an update: try again in some minutes, or name another")
}

pub(super) fn key_of(file: &IndexFile) -> Key {
    Key::new("archive.index", 1).input("file", file.sha256)
}

/// Cuts an index between stanzas.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > PART {
        let mut at = PART;
        while !rest.is_char_boundary(at) {
            at += 1;
        }
        let Some(end) = rest[at..].find("\n\n") else { break };
        let (part, after) = rest.split_at(at + end + 2);
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_between_stanzas_and_lose_nothing() {
        let stanza = format!("Package: a\nDescription: é{}\n\n", "x".repeat(1000));
        let text = stanza.repeat(3 * PART / stanza.len());
        let cut = parts(&text);
        assert!(cut.len() >= 3, "{}", cut.len());
        assert!(cut.iter().all(|part| part.starts_with("Package: a\n") && part.ends_with("\n\n")));
        assert_eq!(cut.concat(), text);
        assert_eq!(parts(""), [""]);
        let endless = "x".repeat(PART * 2);
        assert_eq!(parts(&endless), [endless.as_str()]);
    }
}
