//! The source packages of a lock or of a bill of materials.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{SourcePackage, Subject};
use crate::deb::relation::is_package_name;
use crate::deb::version::Version;
use crate::digest::Digest;
use crate::lock::Lock;
use crate::report::{Diagnostic, Kind};

/// Largest bill that is read, in bytes: one of 3000 packages and all their files has 60 MB.
pub const LARGEST: usize = 512 << 20;

/// The part that both kinds of bills have in common, and each one's own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bill {
    #[serde(default)]
    spdx_version: Option<String>,
    #[serde(default)]
    bom_format: Option<String>,
    #[serde(default)]
    packages: Vec<SpdxPackage>,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpdxPackage {
    #[serde(default)]
    external_refs: Vec<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    reference_type: String,
    reference_locator: String,
}

#[derive(Deserialize)]
struct Component {
    #[serde(default)]
    purl: Option<String>,
}

/// Collects packages under their sources.
#[derive(Default)]
struct Sources(BTreeMap<(String, String), SourcePackage>);

impl Sources {
    /// Adds a package; what cannot be a source's name or version is left out and said.
    fn add(&mut self, name: &str, version: &str, certain: bool, package: &str) -> Result<(), String> {
        let parsed = Version::parse(version).map_err(|error| format!("{name}: {error}"))?;
        if !is_package_name(name) {
            return Err(format!("`{}` is no name of a package", name.escape_debug()));
        }
        let entry = self.0.entry((name.to_owned(), version.to_owned())).or_insert_with(|| SourcePackage {
            name: name.to_owned(),
            version: parsed,
            certain: true,
            packages: std::collections::BTreeSet::new(),
        });
        entry.certain &= certain;
        entry.packages.insert(package.to_owned());
        Ok(())
    }

    fn subject(self, distribution: &str, suite: &str) -> Subject {
        let (distribution, suite) = (distribution.to_owned(), suite.to_owned());
        Subject { distribution, suite, sources: self.0.into_values().collect() }
    }
}

/// The source packages of a lock. `known` says by a .deb's digest what it was built from: name and version. Else the name
/// is that of the directory in the pool, and the version the package's own without the number of a rebuild.
pub fn of_lock(lock: &Lock, known: &BTreeMap<Digest, (String, String)>) -> Subject {
    let mut sources = Sources::default();
    for package in lock.layers.iter().flat_map(|layer| &layer.packages) {
        // The lock's reader checked names and versions; what an index says of a source is checked here.
        let told = known.get(&package.sha256);
        let told = told.is_some_and(|(name, version)| sources.add(name, version, true, &package.name).is_ok());
        if !told {
            let directory = package.path.rsplit('/').nth(1).filter(|name| is_package_name(name));
            let name = directory.unwrap_or(&package.name);
            let _ = sources.add(name, without_rebuild(&package.version), false, &package.name);
        }
    }
    let mut words = lock.distribution.split(' ');
    sources.subject(words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// A version without `+bN`, which Debian's rebuilds append to that of the source.
fn without_rebuild(version: &str) -> &str {
    match version.rsplit_once("+b") {
        Some((before, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => version,
    }
}

/// The source packages of an SPDX or CycloneDX bill in JSON, by the package URLs in it.
///
/// # Errors
/// When it is neither, names no Debian package, or packages of several suites.
pub fn of_bill(text: &[u8]) -> Result<Subject, Diagnostic> {
    let refuse = |why: String| Diagnostic::error(Kind::Input, why);
    if text.len() > LARGEST {
        return Err(refuse(format!("the bill has more than {LARGEST} bytes")));
    }
    let bill: Bill =
        serde_json::from_slice(text).map_err(|error| refuse(format!("the bill does not read: {error}")))?;
    if bill.spdx_version.is_none() && bill.bom_format.as_deref() != Some("CycloneDX") {
        return Err(refuse("it is neither an SPDX nor a CycloneDX bill of materials".to_owned()));
    }
    let spdx = bill.packages.into_iter().flat_map(|package| package.external_refs);
    let spdx = spdx.filter(|reference| reference.reference_type == "purl").map(|reference| reference.reference_locator);
    let mut sources = Sources::default();
    let mut of: Option<(String, String)> = None;
    for purl in spdx.chain(bill.components.into_iter().filter_map(|component| component.purl)) {
        let Some(package) = Purl::parse(&purl) else { continue };
        let suite = (package.distribution.clone(), package.suite.clone());
        if of.get_or_insert_with(|| suite.clone()) != &suite {
            return Err(refuse("the bill names packages of several distributions or suites".to_owned()));
        }
        sources.add(&package.source, &package.source_version, true, &package.name).map_err(&refuse)?;
    }
    match of {
        Some((distribution, suite)) => Ok(sources.subject(&distribution, &suite)),
        None => Err(refuse("the bill names no package of a distribution by a package URL (`pkg:deb/…`)".to_owned())),
    }
}

/// A package URL of type `deb`.
#[derive(Debug, PartialEq, Eq)]
struct Purl {
    distribution: String,
    suite: String,
    name: String,
    source: String,
    source_version: String,
}

impl Purl {
    /// `pkg:deb/DISTRIBUTION/NAME@VERSION?distro=SUITE&upstream=SOURCE[@VERSION]`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("pkg:deb/")?;
        let (path, qualifiers) = text.split_once('?').unwrap_or((text, ""));
        let (distribution, rest) = path.split_once('/')?;
        let (name, version) = rest.split_once('@')?;
        let (name, version) = (decode(name)?, decode(version)?);
        let qualifier = |wanted: &str| {
            let mut pairs = qualifiers.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == wanted).and_then(|(_, value)| decode(value))
        };
        let upstream = qualifier("upstream").unwrap_or_else(|| name.clone());
        let (source, source_version) = match upstream.split_once('@') {
            Some((source, version)) => (source.to_owned(), version.to_owned()),
            None => (upstream, version),
        };
        // Other tools write `debian-13` or the like; what it is compared with is said in an error.
        let suite = qualifier("distro").unwrap_or_default();
        Some(Self { distribution: distribution.to_owned(), suite, name, source, source_version })
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high << 4 | low).ok()?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_say_what_a_package_was_built_from() {
        let purl = |text| {
            Purl::parse(text).map(|purl| (purl.distribution, purl.suite, purl.name, purl.source, purl.source_version))
        };
        let of = |parts: [&str; 5]| Some(parts.map(str::to_owned).into());
        let full = "pkg:deb/debian/dmsetup@2:1.02.205-2?arch=amd64&distro=trixie&upstream=lvm2%402.03.31-2";
        assert_eq!(purl(full), of(["debian", "trixie", "dmsetup", "lvm2", "2.03.31-2"]));
        let same = "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=trixie&upstream=gcc-14";
        assert_eq!(purl(same), of(["debian", "trixie", "libstdc++6", "gcc-14", "14.2.0-19"]));
        assert_eq!(
            purl("pkg:deb/debian/adduser@3.152?arch=all&distro=trixie"),
            of(["debian", "trixie", "adduser", "adduser", "3.152"])
        );
        for other in [
            "pkg:npm/left-pad@1",
            "pkg:deb/debian/x",
            "pkg:deb/x@1",
            "pkg:deb/debian/x%2@1",
            "",
            "pkg:deb/debian/%ff@1",
        ] {
            assert_eq!(purl(other), None, "{other}");
        }
    }

    #[test]
    fn numbers_of_rebuilds_are_not_the_source_s() {
        for (version, source) in
            [("1.0-1+b12", "1.0-1"), ("1.0-1", "1.0-1"), ("1.0+beta-1", "1.0+beta-1"), ("1+b", "1+b")]
        {
            assert_eq!(without_rebuild(version), source);
        }
    }
}
