//! What must stay secret.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::digest::{Digest, Hasher, Key};
use crate::store::StoreError;
use crate::tree::{Content, Origin, TreePath};

use super::{Finding, Subject};

/// Version of what is taken for a private key (a format break of what a store remembers).
const VERSION: u32 = 1;

/// Where programs keep keys; `/usr` holds only what packages ship to everyone.
const PLACES: &[&str] = &["etc", "home", "opt", "root", "srv", "var"];

/// Private keys in PEM or OpenSSH form (RFC 7468; PROTOCOL.key of OpenSSH), and the snake-oil pair.
pub fn private_keys(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = subject.forbidden(&[
        ("etc/ssl/private/ssl-cert-snakeoil.key", "a generated private key"),
        ("etc/ssl/certs/ssl-cert-snakeoil.pem", "the certificate of a generated key"),
    ]);
    // By origin: a store remembers what was looked through, and a build looks again only where something changed.
    let mut looked_at: BTreeMap<&Origin, Vec<(&TreePath, &Content)>> = BTreeMap::new();
    for (path, node) in PLACES.iter().flat_map(|place| subject.below(place)) {
        if let Some(content) = node.content().filter(|content| (64..=256 * 1024).contains(&content.size)) {
            looked_at.entry(&node.origin).or_default().push((path, content));
        }
    }
    let lists: Vec<_> = looked_at.into_values().collect();
    let keys: Result<Vec<_>, StoreError> = lists.par_iter().map(|files| keys_among(files, subject)).collect();
    let keys: BTreeSet<Digest> = keys?.into_iter().flatten().collect();
    for (path, content) in lists.into_iter().flatten() {
        let seen = findings.iter().any(|finding| finding.path == *path);
        if keys.contains(&content.digest) && !seen {
            findings.push(Finding { path: path.clone(), what: "a private key" });
        }
    }
    Ok(findings)
}

/// The contents that are private keys.
fn keys_among(files: &[(&TreePath, &Content)], subject: &Subject<'_>) -> Result<Vec<Digest>, StoreError> {
    let mut named = Hasher::new();
    files.iter().for_each(|(_, content)| named.update(content.digest.as_bytes()));
    let key = Key::new("lint.private-key", VERSION).input("contents", named.finish());
    if let Some(known) = subject.store.result(&key)? {
        return Ok(known);
    }
    let mut keys = Vec::new();
    for (_, content) in files {
        if holds_private_key(&subject.read(content)?) {
            keys.push(content.digest);
        }
    }
    subject.store.record(&key, Vec::new(), &keys)?;
    Ok(keys)
}

/// A PEM line that begins a private key. A program that merely mentions the words has no such line.
fn holds_private_key(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii();
        line.starts_with(b"-----BEGIN ") && line.ends_with(b"PRIVATE KEY-----") && line.len() < 64
    })
}

/// Password hashes in `shadow(5)`, and passwords in configuration that packages generate.
pub fn passwords(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = Vec::new();
    for file in ["etc/shadow", "etc/shadow-", "etc/gshadow", "etc/gshadow-"] {
        let Some(bytes) = subject.bytes(file)? else { continue };
        let hashed = bytes.split(|byte| *byte == b'\n').any(|line| {
            let field = line.split(|byte| *byte == b':').nth(1).unwrap_or_default();
            !matches!(field.first(), None | Some(b'*' | b'!' | b'x'))
        });
        if hashed {
            findings.extend(subject.forbidden(&[(file, "the hash of a password")]));
        }
    }
    findings.extend(subject.forbidden_below(&[("etc/dbconfig-common", "a generated database password")]));
    for file in ["etc/maas/regiond.conf", "var/snap/maas/current/regiond.conf"] {
        let Some(bytes) = subject.bytes(file)? else { continue };
        let with_password = bytes.split(|byte| *byte == b'\n').any(|line| {
            line.trim_ascii().strip_prefix(b"database_pass:").is_some_and(|value| !value.trim_ascii().is_empty())
        });
        if with_password {
            findings.extend(subject.forbidden(&[(file, "MAAS's database password")]));
        }
    }
    Ok(findings)
}

/// Shared secrets and seeds of random numbers.
pub fn credentials(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = subject.forbidden(&[
        ("var/lib/maas/secret", "MAAS's shared secret"),
        ("etc/bind/rndc.key", "a control key of BIND"),
        ("var/lib/systemd/random-seed", "a seed of random numbers"),
        ("var/lib/systemd/credential.secret", "the key of systemd's credentials"),
        ("var/lib/urandom/random-seed", "a seed of random numbers"),
    ]);
    findings.extend(subject.forbidden_below(&[
        ("etc/bind/maas", "control keys of MAAS's BIND"),
        ("root/.ssh", "SSH keys or authorisations of root"),
        ("etc/credstore", "a credential"),
        ("etc/wireguard", "a WireGuard key"),
    ]));
    Ok(findings)
}
