//! Packages: what is installed, and what changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// A package that dpkg says is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Name.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Version.
    pub version: String,
}

/// A package that one side has and the other has not, or in another version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Layer that installs it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Name.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Version before; none when it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Version after; none when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The installed packages of a text like `/var/lib/dpkg/status` (dpkg(1), deb-control(5)).
pub fn installed(status: &str) -> Vec<Installed> {
    let stanza = |text: &str| {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if !field("Status:")?.ends_with(" installed") {
            return None;
        }
        Some(Installed {
            name: field("Package:")?.to_owned(),
            architecture: field("Architecture:")?.to_owned(),
            version: field("Version:")?.to_owned(),
        })
    };
    status.split("\n\n").filter_map(stanza).collect()
}

/// What a package is known by on one side: its version, and its digest where there is one.
pub type Known = (String, String);

/// The packages of one side, by layer, name and architecture.
pub type Keyed = BTreeMap<(Option<String>, String, String), Known>;

/// The packages whose versions or digests differ, in order.
pub fn changes(before: &Keyed, after: &Keyed) -> Vec<PackageChange> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    changed
        .map(|key| PackageChange {
            layer: key.0.clone(),
            name: key.1.clone(),
            architecture: key.2.clone(),
            before: before.get(key).map(|known| known.0.clone()),
            after: after.get(key).map(|known| known.0.clone()),
        })
        .collect()
}

/// As [`changes`] takes them.
pub fn keyed(packages: &[Installed]) -> Keyed {
    let entry = |package: &Installed| {
        ((None, package.name.clone(), package.architecture.clone()), (package.version.clone(), String::new()))
    };
    packages.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_read_and_compared() {
        let status = |version: &str| {
            format!(
                "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\nDescription: x\n y\n\n\
                 Package: b\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n"
            )
        };
        let (before, after) = (installed(&status("1")), installed(&status("2")));
        assert_eq!(before.len(), 1, "{before:?}");
        let changes = changes(&keyed(&before), &keyed(&after));
        assert_eq!(changes.len(), 1);
        assert_eq!((changes[0].before.as_deref(), changes[0].after.as_deref()), (Some("1"), Some("2")));
    }
}
