//! What differs between two locks.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Lock, LockedPackage};

/// One package that differs, in one layer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PackageChange {
    /// The layer.
    pub layer: String,
    /// Name and architecture.
    pub package: String,
    /// Version before; none when it is new.
    pub before: Option<String>,
    /// Version now; none when it is gone.
    pub now: Option<String>,
}

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Packages, by layer and name.
    pub packages: Vec<PackageChange>,
}

impl Difference {
    /// Whether every package is the same.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// For people: a line a package.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for PackageChange { layer, package, before, now } in &self.packages {
            let _ = match (before, now) {
                (None, Some(now)) => writeln!(text, "  + {layer}: {package} {now}"),
                (Some(before), None) => writeln!(text, "  - {layer}: {package} {before}"),
                (Some(before), Some(now)) if before == now => {
                    writeln!(text, "  ~ {layer}: {package} {now}, other bytes")
                }
                (Some(before), Some(now)) => writeln!(text, "  ~ {layer}: {package} {before} -> {now}"),
                (None, None) => Ok(()),
            };
        }
        text
    }
}

/// What differs from `before` to `now`.
pub fn difference(before: &Lock, now: &Lock) -> Difference {
    let (old, new) = (pins(before), pins(now));
    let mut packages = Vec::new();
    for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
        let (was, is) = (old.get(key), new.get(key));
        if was.map(|pin| pin.sha256) != is.map(|pin| pin.sha256) {
            packages.push(PackageChange {
                layer: key.0.to_owned(),
                package: format!("{}:{}", key.1, key.2),
                before: was.map(|pin| pin.version.clone()),
                now: is.map(|pin| pin.version.clone()),
            });
        }
    }
    packages.sort_by(|one, other| (&one.layer, &one.package).cmp(&(&other.layer, &other.package)));
    Difference { packages }
}

/// Pins by layer, name and architecture.
fn pins(lock: &Lock) -> BTreeMap<(&str, &str, &str), &LockedPackage> {
    let layers = lock.layers.iter();
    layers
        .flat_map(|layer| {
            layer.packages.iter().map(|pin| ((layer.name.as_str(), pin.name.as_str(), pin.architecture.as_str()), pin))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::digest::Digest;

    use super::super::read::tests::sample;
    use super::*;

    #[test]
    fn added_removed_and_changed_packages_are_told() {
        let before = sample();
        let mut now = sample();
        assert!(difference(&before, &now).is_empty());
        let mut moved = now.layers[0].packages.remove(1);
        now.layers[0].packages[0].version = "5.3".to_owned();
        now.layers[0].packages[0].sha256 = Digest::of(b"bash 5.3");
        moved.name = "zsh".to_owned();
        now.layers[1].packages.push(moved);
        assert_eq!(
            difference(&before, &now).to_text(),
            "  ~ base: bash:amd64 5.2 -> 5.3\n  - base: dash:amd64 0.5~\"1\n  + rack: zsh:amd64 0.5~\"1\n"
        );
    }
}
