//! What differs between two locks, for the person who updates one.

use std::collections::BTreeMap;
use std::fmt;

use super::{Lock, LockedPackage};

/// What differs between two locks; empty when nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// By layer: the new lock's layers in its order, then those that are gone. Layers without a change are left out.
    pub layers: Vec<LayerDiff>,
    /// Suites whose Release changed, as `archive suite`: the dates before and after, in seconds since the Epoch.
    pub suites: Vec<(String, Option<i64>, Option<i64>)>,
}

/// What differs in one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDiff {
    /// The layer's name.
    pub name: String,
    /// Changes, by package name.
    pub changes: Vec<Change>,
}

/// What happened to one package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added(LockedPackage),
    /// It is gone.
    Removed(LockedPackage),
    /// Its bytes are others: before, after.
    Changed(LockedPackage, LockedPackage),
}

/// What a change from `old` to `new` is.
pub fn diff(old: &Lock, new: &Lock) -> Diff {
    let mut layers = Vec::new();
    let gone = old.layers.iter().filter(|layer| !new.layers.iter().any(|other| other.name == layer.name));
    for layer in new.layers.iter().chain(gone) {
        let changes = changes(packages(old, &layer.name), packages(new, &layer.name));
        if !changes.is_empty() {
            layers.push(LayerDiff { name: layer.name.clone(), changes });
        }
    }
    let (before, after) = (suites(old), suites(new));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let date = |of: &BTreeMap<String, (i64, crate::digest::Digest)>, name: &String| of.get(name).map(|(date, _)| *date);
    let suites = changed.map(|name| (name.clone(), date(&before, name), date(&after, name))).collect();
    Diff { layers, suites }
}

fn packages<'l>(lock: &'l Lock, layer: &str) -> BTreeMap<&'l str, &'l LockedPackage> {
    let layer = lock.layers.iter().find(|other| other.name == layer);
    layer.iter().flat_map(|layer| &layer.packages).map(|package| (package.name.as_str(), package)).collect()
}

fn suites(lock: &Lock) -> BTreeMap<String, (i64, crate::digest::Digest)> {
    let suites = lock.archives.iter().flat_map(|archive| archive.suites.iter().map(move |suite| (archive, suite)));
    suites.map(|(archive, suite)| (format!("{} {}", archive.name, suite.name), (suite.date, suite.release))).collect()
}

fn changes(before: BTreeMap<&str, &LockedPackage>, after: BTreeMap<&str, &LockedPackage>) -> Vec<Change> {
    let names: std::collections::BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let change = |name| match (before.get(name), after.get(name)) {
        (None, Some(after)) => Some(Change::Added((*after).clone())),
        (Some(before), None) => Some(Change::Removed((*before).clone())),
        (Some(before), Some(after)) if before.sha256 != after.sha256 => {
            Some(Change::Changed((*before).clone(), (*after).clone()))
        }
        _ => None,
    };
    names.into_iter().filter_map(change).collect()
}

impl Diff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.suites.is_empty()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(package) => write!(formatter, "+ {} {}", package.name, package.version),
            Self::Removed(package) => write!(formatter, "- {} {}", package.name, package.version),
            Self::Changed(before, after) if before.version == after.version => {
                write!(formatter, "~ {} {} (other bytes)", after.name, after.version)
            }
            Self::Changed(before, after) => {
                write!(formatter, "~ {} {} -> {}", after.name, before.version, after.version)
            }
        }
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for layer in &self.layers {
            writeln!(formatter, "{}:", layer.name)?;
            for change in &layer.changes {
                writeln!(formatter, "  {change}")?;
            }
        }
        Ok(())
    }
}
