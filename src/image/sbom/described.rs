//! What dpkg's database in a root says of its packages beyond the lock: source, maintainer, home page, summary.

use std::collections::BTreeMap;

use crate::deb::control::Stanzas;

/// What a package's stanza says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Source package, where it has another name than the package.
    pub source: Option<String>,
    /// Its version, where it is another than the package's.
    pub source_version: Option<String>,
    /// `Maintainer`: name and address.
    pub maintainer: Option<String>,
    /// `Homepage`.
    pub homepage: Option<String>,
    /// First line of `Description`.
    pub summary: Option<String>,
}

/// The packages of a `status` file by name and architecture.
pub fn read(status: &str) -> BTreeMap<(&str, &str), Described> {
    let mut described = BTreeMap::new();
    for stanza in Stanzas::new(status) {
        let (mut name, mut architecture, mut facts) = ("", "", Described::default());
        for field in stanza.fields().map_while(Result::ok) {
            let value = || field.lines().next().filter(|line| !line.is_empty()).map(str::to_owned);
            match field.name {
                "Package" => name = field.value,
                "Architecture" => architecture = field.value,
                "Source" => (facts.source, facts.source_version) = source(field.value),
                "Maintainer" => facts.maintainer = value(),
                "Homepage" => facts.homepage = value(),
                "Description" => facts.summary = value(),
                _ => {}
            }
        }
        described.insert((name, architecture), facts);
    }
    described
}

/// `Source: name (version)`, the version only where it differs (deb-control(5)).
fn source(value: &str) -> (Option<String>, Option<String>) {
    let (name, version) = value.split_once(' ').unwrap_or((value, ""));
    let version = version.trim().strip_prefix('(').and_then(|version| version.strip_suffix(')'));
    (Some(name.to_owned()), version.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_their_absence_are_read() {
        let status = "Package: dmsetup\nStatus: install ok unpacked\nArchitecture: amd64\nMaintainer: LVM Team <l@d.o>\n\
                      Source: lvm2 (2.03.31-2)\nVersion: 2:1.02.205-2\nDescription: tools\n long\n\n\
                      Package: adduser\nArchitecture: all\nVersion: 3.152\n";
        let read = read(status);
        let dmsetup = &read[&("dmsetup", "amd64")];
        assert_eq!((dmsetup.source.as_deref(), dmsetup.source_version.as_deref()), (Some("lvm2"), Some("2.03.31-2")));
        assert_eq!(dmsetup.summary.as_deref(), Some("tools"));
        assert_eq!(read[&("adduser", "all")], Described::default());
    }
}
