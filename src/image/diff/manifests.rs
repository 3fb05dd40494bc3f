//! What differs between two manifests.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::packages::{self, PackageChange};
use crate::image::manifest::{Manifest, Output};

/// What differs between two manifests; empty when they say the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ManifestDiff {
    /// Single facts: name, before, after.
    pub facts: Vec<FactChange>,
    /// Packages, by layer.
    pub packages: Vec<PackageChange>,
    /// Words of the kernel command line that are gone, without the root hash.
    pub words_removed: Vec<String>,
    /// Words that are new.
    pub words_added: Vec<String>,
    /// Files that a seed renders and state paths that differ, each with `+`, `-` or `~`.
    pub lists: Vec<String>,
    /// Outputs.
    pub outputs: Vec<OutputChange>,
}

/// A fact that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FactChange {
    /// Which one.
    pub name: &'static str,
    /// Before.
    pub before: String,
    /// After.
    pub after: String,
}

/// An output that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutputChange {
    /// Its path from the manifest's directory.
    pub file: String,
    /// Before; none when it is new.
    pub before: Option<Output>,
    /// After; none when it is gone.
    pub after: Option<Output>,
}

impl ManifestDiff {
    /// Compares two manifests.
    pub fn of(before: &Manifest, after: &Manifest) -> Self {
        let mut diff = Self { outputs: outputs(before, after), ..Self::default() };
        let (one, two) = (facts(before), facts(after));
        let changed = one.into_iter().zip(two).filter(|((_, before), (_, after))| before != after);
        diff.facts = changed.map(|((name, before), (_, after))| FactChange { name, before, after }).collect();
        diff.packages = packages::changes(&keyed(before), &keyed(after));
        let words = |manifest: &Manifest| -> BTreeSet<String> {
            let line = manifest.root.as_ref().map_or("", |root| &root.command_line);
            line.split_whitespace().filter(|word| !word.starts_with("roothash=")).map(str::to_owned).collect()
        };
        let (one, two) = (words(before), words(after));
        diff.words_removed = one.difference(&two).cloned().collect();
        diff.words_added = two.difference(&one).cloned().collect();
        diff.lists = lists(before, after);
        diff
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The single facts, always the same ones in the same order.
fn facts(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let root = manifest.root.as_ref();
    let of_root = |fact: &dyn Fn(&crate::image::manifest::RootFacts) -> String| root.map(fact).unwrap_or_default();
    let boot = manifest.boot.as_ref();
    let signed_by = boot.and_then(|boot| boot.secure_boot.as_ref());
    let measured = boot.and_then(|boot| boot.pcr11.last());
    vec![
        ("image", manifest.image.clone()),
        ("version", manifest.version.clone()),
        ("role", manifest.role.clone()),
        ("distribution", manifest.distribution.clone()),
        ("rolecast", manifest.rolecast.clone()),
        ("lock", manifest.lock.to_string()),
        ("tree", manifest.tree.digest.to_string()),
        ("files", manifest.tree.files.to_string()),
        ("bytes of files", manifest.tree.bytes.to_string()),
        ("kernel", of_root(&|root| root.kernel.clone())),
        ("root hash", of_root(&|root| root.hash.to_string())),
        ("bytes of the root", of_root(&|root| root.size.to_string())),
        ("initrd", of_root(&|root| root.initrd.to_string())),
        ("signed by", signed_by.map(|signer| signer.certificate.to_string()).unwrap_or_default()),
        ("PCR 11", measured.map(|pcr| pcr.sha256.to_string()).unwrap_or_default()),
    ]
}

fn keyed(manifest: &Manifest) -> packages::Keyed {
    let entries = manifest.packages.iter().map(|package| {
        let key = (Some(package.layer.clone()), package.name.clone(), package.architecture.clone());
        (key, (package.version.clone(), package.sha256.to_string()))
    });
    entries.collect()
}

fn outputs(before: &Manifest, after: &Manifest) -> Vec<OutputChange> {
    let by_file = |manifest: &Manifest| -> BTreeMap<String, Output> {
        manifest.outputs.iter().map(|output| (output.file.clone(), output.clone())).collect()
    };
    let (one, two) = (by_file(before), by_file(after));
    let files: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
    let changed = files.into_iter().filter(|file| one.get(*file) != two.get(*file));
    changed
        .map(|file| OutputChange { file: file.clone(), before: one.get(file).cloned(), after: two.get(file).cloned() })
        .collect()
}

fn lists(before: &Manifest, after: &Manifest) -> Vec<String> {
    let entries = |manifest: &Manifest| -> BTreeMap<String, String> {
        let late = manifest.late.iter().map(|late| {
            let facts =
                format!("{}:{} {} {} {}", late.owner, late.group, late.mode, late.source, late.variables.join(" "));
            (format!("for a seed: {}", late.path), facts)
        });
        late.chain(manifest.state.iter().map(|path| (format!("state: {path}"), String::new()))).collect()
    };
    let (one, two) = (entries(before), entries(after));
    let names: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
    let told = names.into_iter().filter_map(|name| match (one.get(name), two.get(name)) {
        (None, _) => Some(format!("+ {name}")),
        (_, None) => Some(format!("- {name}")),
        (before, after) if before != after => Some(format!("~ {name}")),
        _ => None,
    });
    told.collect()
}
