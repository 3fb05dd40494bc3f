//! The software bill of materials of a root, in both forms that the field reads.
//!
//! Gathers what is known of the packages (lock, dpkg's database and copyright files in the root) and of the files
//! (the tree), and writes it down. Says nothing that it has not read: no licence is concluded, and where a package
//! does not say, neither does the bill. Its time is the lock's, never the clock's. Specifications: SPDX 2.3,
//! CycloneDX 1.6, package-url.

mod cyclonedx;
mod described;
mod files;
mod licence;
mod spdx;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::deb::copyright;
use crate::digest::{Digest, Hasher};
use crate::lock::{LockedPackage, encode_purl};
use crate::report::Report;
use crate::store::Store;
use crate::tree::{Tree, TreePath};

use super::press::Request;
use described::Described;
use files::Listed;

/// Version of the bills' content (a format break of theirs, not of the images).
const VERSION: u32 = 1;

/// Largest copyright file that is read, in bytes; the largest in Debian's archive has one and a half million.
const MOST_COPYRIGHT: u64 = 8 << 20;

/// A document beside the outputs: name and text.
pub type Document = (&'static str, Vec<u8>);

/// What both forms are written from.
struct Bill<'a> {
    request: &'a Request<'a>,
    /// A digest of what the bill is about, for names that have to be unique.
    identity: Digest,
    components: Vec<Component<'a>>,
    files: Vec<Listed<'a>>,
}

/// A package of the root.
struct Component<'a> {
    package: &'a LockedPackage,
    layer: &'a str,
    described: Described,
    licence: Licence,
    purl: String,
}

/// What a package says of its licence.
#[derive(Debug, PartialEq, Eq)]
enum Licence {
    /// An SPDX expression.
    Expression(String),
    /// The short names of its copyright file, at least one of which has no certain SPDX identifier.
    Names(Vec<String>),
    /// Nothing that a program can read.
    Unknown,
}

/// Writes both bills.
///
/// # Errors
/// When a file's bytes are missing from the store or altered.
pub fn documents(request: &Request<'_>, store: &Store) -> Result<Vec<Document>, Report> {
    let bill = gather(request, store)?;
    Ok(vec![("sbom.spdx.json", spdx::write(&bill)), ("sbom.cdx.json", cyclonedx::write(&bill))])
}

fn gather<'a>(request: &'a Request<'a>, store: &Store) -> Result<Bill<'a>, Report> {
    let status = text(request.tree, "var/lib/dpkg/status", u64::MAX, store)?.unwrap_or_default();
    let described = described::read(&status);
    let layers = request.locked.layers.iter().filter(|layer| request.layers.contains(&layer.name));
    let packages: Vec<_> =
        layers.flat_map(|layer| layer.packages.iter().map(move |package| (layer, package))).collect();
    let components: Result<Vec<Component<'_>>, Report> = packages
        .par_iter()
        .map(|(layer, package)| {
            let described = described.get(&(package.name.as_str(), package.architecture.as_str()));
            let described = described.cloned().unwrap_or_default();
            let copyright = format!("usr/share/doc/{}/copyright", package.name);
            let licence = text(request.tree, &copyright, MOST_COPYRIGHT, store)?
                .map_or(Licence::Unknown, |text| licence_of(&text));
            let purl = purl(package, &described, request.distribution);
            Ok(Component { package, layer: &layer.name, described, licence, purl })
        })
        .collect();
    let files = files::list(request, store)?;
    Ok(Bill { request, identity: identity(request), components: components?, files })
}

fn identity(request: &Request<'_>) -> Digest {
    let mut hasher = Hasher::new();
    let parts = [request.image, request.version, request.role, env!("CARGO_PKG_VERSION"), &VERSION.to_string()];
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(request.lock.as_bytes());
    hasher.update(request.shown.as_bytes());
    hasher.finish()
}

/// A text file of the root, links followed; none where it is not there or larger than `limit` bytes.
fn text(tree: &Tree, path: &str, limit: u64, store: &Store) -> Result<Option<String>, Report> {
    let place = TreePath::parse(path).ok().and_then(|path| tree.resolve(&path).ok());
    let content = place.and_then(|path| tree.get(&path)?.content().copied()).filter(|content| content.size <= limit);
    let Some(content) = content else { return Ok(None) };
    Ok(Some(String::from_utf8_lossy(&store.read(&content)?).into_owned()))
}

fn licence_of(text: &str) -> Licence {
    let Some(names) = copyright::licences(text) else { return Licence::Unknown };
    match licence::expression(&names) {
        Some(expression) => Licence::Expression(expression),
        None => Licence::Names(names.into_iter().map(|name| name.chars().take(200).collect()).collect()),
    }
}

/// The package's URL, with the source package where that has another name or version: advisories are about sources.
fn purl(package: &LockedPackage, described: &Described, distribution: &str) -> String {
    let mut purl = package.purl(distribution);
    if let Some(source) = &described.source {
        purl.push_str("&upstream=");
        purl.push_str(&encode_purl(source));
        if let Some(version) = &described.source_version {
            purl.push_str("%40");
            purl.push_str(&encode_purl(version));
        }
    }
    purl
}

/// Whether a maintainer's name is that of a group.
fn is_group(name: &str) -> bool {
    let words = ["team", "maintainers", "group", "developers", "project", "debian"];
    let name = name.to_lowercase();
    words.iter().any(|word| name.contains(word))
}

/// `Name <address>` in its parts.
fn name_and_address(maintainer: &str) -> (&str, Option<&str>) {
    match maintainer.split_once('<') {
        Some((name, rest)) => (name.trim().trim_matches('"'), rest.split('>').next().map(str::trim)),
        None => (maintainer.trim(), None),
    }
}

/// The distribution's name as its users know it, for the supplier.
fn distribution_name(distribution: &str) -> &str {
    match distribution.split(' ').next() {
        Some("debian") => "Debian",
        Some("ubuntu") => "Ubuntu",
        Some(other) => other,
        None => distribution,
    }
}

/// JSON with one line for each element of the outermost arrays, so that two bills can be compared line by line. Names
/// stand in the order in which they are added; inside of elements, in alphabetical order.
struct Lines(Vec<u8>);

impl Lines {
    fn new() -> Self {
        Self(b"{".to_vec())
    }

    fn field(mut self, name: &str, value: &impl Serialize) -> Self {
        self.name(name);
        self.value(value);
        self
    }

    fn list(mut self, name: &str, items: impl IntoIterator<Item: Serialize>) -> Self {
        self.name(name);
        self.0.push(b'[');
        let mut separator = "\n    ";
        for item in items {
            self.0.extend(separator.as_bytes());
            self.value(&item);
            separator = ",\n    ";
        }
        // An empty list stays on its line.
        self.0.extend(if separator.starts_with(',') { "\n  ]" } else { "]" }.as_bytes());
        self
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend(b"\n}\n");
        self.0
    }

    fn name(&mut self, name: &str) {
        self.0.extend(if self.0.len() > 1 { ",\n  " } else { "\n  " }.as_bytes());
        self.value(&name);
        self.0.extend(b": ");
    }

    fn value(&mut self, value: &impl Serialize) {
        // Memory takes everything, and nothing here refuses to be JSON.
        let _ = serde_json::to_writer(&mut self.0, value);
    }
}

/// The index of the component that a package's files belong to, by name and version.
fn by_name<'a>(components: &'a [Component<'a>]) -> BTreeMap<(&'a str, &'a str), usize> {
    let key = |component: &Component<'a>| (component.package.name.as_str(), component.package.version.as_str());
    components.iter().enumerate().map(|(index, component)| (key(component), index)).collect()
}
