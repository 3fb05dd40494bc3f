//! The digest that a lock answers: what decides which packages are chosen, and nothing else.
//!
//! Distribution, archives without their mirrors, and each layer's relations. The order in which relations are written
//! does not matter, nor do overlays, units, options (beyond the packages they bring) or the cluster: none of them can
//! make a lock stale. Changing what goes in is a format break: every lock becomes stale once.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Archive, Distribution, Layer};
use crate::digest::{Digest, Key};

/// The digest.
pub fn digest(
    distribution: &Distribution,
    archives: &BTreeMap<String, Archive>,
    layers: &[Layer],
    tools: &Layer,
) -> Digest {
    let mut key = Key::new("spec.wanted", 1)
        .input("id", &distribution.id)
        .input("suite", &distribution.suite)
        .input("architecture", &distribution.architecture);
    for archive in archives.values() {
        key =
            key.input("archive", &archive.name).input("priority", archive.priority).input("keyring", &archive.keyring);
        for (name, list) in
            [("suite", &archive.suites), ("component", &archive.components), ("fingerprint", &archive.fingerprints)]
        {
            key = list.iter().fold(key, |key, item| key.input(name, item));
        }
    }
    for layer in layers.iter().chain([tools]) {
        let parent = layer.parent.and_then(|index| layers.get(index)).map_or("", |parent| &parent.name);
        key = key.input("layer", &layer.name).input("parent", parent).input("recommends", layer.recommends);
        let wants: BTreeSet<String> = layer.wants.iter().map(|want| want.relation.to_string()).collect();
        key = wants.iter().fold(key, |key, want| key.input("want", want));
    }
    key.digest()
}
