//! What the packages of a lock were built from, as the indexes say that the lock's Releases vouch for.
//!
//! The chain is one of digests, from the lock on: its Release, the index that it lists, the package's own. So no signature is
//! looked at, and only what the store kept of the lock's making is read.

use std::collections::{BTreeMap, BTreeSet};

use super::cleartext;
use super::index::key_of;
use super::read_object;
use crate::deb::compression::Compression;
use crate::deb::control::Stanzas;
use crate::deb::release::Release;
use crate::digest::Digest;
use crate::lock::Lock;
use crate::report::Report;
use crate::store::Store;

/// Source package and version of each package that an index in the store knows, by the .deb's digest.
///
/// # Errors
/// When the store cannot be read. What it does not have is left out.
pub fn built_from(lock: &Lock, store: &Store) -> Result<BTreeMap<Digest, (String, String)>, Report> {
    let packages = lock.layers.iter().flat_map(|layer| &layer.packages);
    let wanted: BTreeSet<Digest> = packages.map(|package| package.sha256).collect();
    let mut found = BTreeMap::new();
    for suite in lock.archives.iter().flat_map(|archive| &archive.suites) {
        if !store.has(&suite.release) {
            continue;
        }
        let bytes = read_object(store, &suite.release)?;
        let text = match cleartext::parse(&bytes) {
            Ok(message) => message.text,
            Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        let Ok(release) = Release::parse(&text) else { continue };
        let mut seen = BTreeSet::new();
        for (name, file) in &release.files {
            let (plain, _) = Compression::of_name(name);
            if !plain.ends_with("/Packages") || seen.contains(plain) {
                continue;
            }
            let kept: Option<Digest> = store.result(&key_of(file))?;
            if let Some(digest) = kept.filter(|digest| store.has(digest)) {
                seen.insert(plain);
                let index = read_object(store, &digest)?;
                take(&String::from_utf8_lossy(&index), &wanted, &mut found);
            }
        }
    }
    Ok(found)
}

/// Takes from an index what it says of wanted packages.
fn take(index: &str, wanted: &BTreeSet<Digest>, found: &mut BTreeMap<Digest, (String, String)>) {
    for stanza in Stanzas::new(index) {
        let value = |name: &str| stanza.get(name).map(|field| field.value);
        let digest = value("SHA256").and_then(|text| Digest::parse(text).ok()).filter(|digest| wanted.contains(digest));
        let (Some(digest), Some(package), Some(version)) = (digest, value("Package"), value("Version")) else {
            continue;
        };
        // `Source: name (version)`, each only where it differs (deb-control(5)).
        let source = value("Source").unwrap_or(package);
        let (name, rest) = source.split_once(' ').unwrap_or((source, ""));
        let of_source = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        found.insert(digest, (name.to_owned(), of_source.unwrap_or(version).to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_says_what_packages_were_built_from() {
        let digest = |name: &str| Digest::of(name.as_bytes());
        let stanza = |name: &str, source: &str| {
            format!("Package: {name}\n{source}Version: 2:1.02.205-2\nArchitecture: amd64\nSHA256: {}\n\n", digest(name))
        };
        let index = [
            stanza("dmsetup", "Source: lvm2 (2.03.31-2)\n"),
            stanza("libdm", "Source: lvm2\n"),
            stanza("plain", ""),
            stanza("unwanted", "Source: x\n"),
        ];
        let wanted = ["dmsetup", "libdm", "plain"].map(digest).into();
        let mut found = BTreeMap::new();
        take(&index.concat(), &wanted, &mut found);
        let of = |name: &str| found.get(&digest(name)).map(|(name, version)| format!("{name} {version}"));
        assert_eq!(of("dmsetup").as_deref(), Some("lvm2 2.03.31-2"));
        assert_eq!(of("libdm").as_deref(), Some("lvm2 2:1.02.205-2"));
        assert_eq!(of("plain").as_deref(), Some("plain 2:1.02.205-2"));
        assert_eq!(found.len(), 3);
    }
}
