//! Which MAAS goes with which PostgreSQL on which distribution.
//!
//! The table follows MAAS's supported-versions and PostgreSQL deprecation pages, and the packages that its PPAs hold.

use std::collections::BTreeMap;

use super::model::{Distribution, OptionValue};
use super::value::Table;
use crate::report::{Diagnostic, Kind, Report, Span};

/// One MAAS release.
#[derive(Debug)]
pub struct Release {
    /// MAAS's version, major and minor.
    pub maas: &'static str,
    /// Code name of the Ubuntu release that its debs are for; none for a release without debs.
    pub ubuntu: Option<&'static str>,
    /// Oldest PostgreSQL that it takes.
    pub oldest: u32,
    /// PostgreSQL that its documentation asks for; what is older is deprecated.
    pub recommended: u32,
    /// Newest PostgreSQL that it is documented with.
    pub newest: u32,
}

const fn release(
    maas: &'static str,
    ubuntu: Option<&'static str>,
    oldest: u32,
    recommended: u32,
    newest: u32,
) -> Release {
    Release { maas, ubuntu, oldest, recommended, newest }
}

/// The releases, oldest first.
pub static RELEASES: &[Release] = &[
    release("2.4", Some("bionic"), 9, 10, 10),
    release("2.8", Some("bionic"), 10, 10, 10),
    release("2.9", Some("focal"), 10, 12, 12),
    release("3.0", Some("focal"), 12, 12, 12),
    release("3.1", Some("focal"), 12, 12, 12),
    release("3.2", Some("focal"), 12, 12, 12),
    release("3.3", Some("jammy"), 12, 14, 14),
    release("3.4", Some("jammy"), 12, 14, 14),
    release("3.5", Some("jammy"), 14, 14, 14),
    release("3.6", Some("noble"), 14, 16, 16),
    release("3.7", Some("noble"), 16, 16, 16),
    release("3.8", None, 16, 16, 16),
];

/// Reports what does not go together. `maas.packaging = "stub"` runs no MAAS, so anything goes with it.
pub fn check(options: &BTreeMap<String, OptionValue>, distribution: &Distribution, image: &Table, report: &mut Report) {
    let value = |name: &str| options.get(name).map(ToString::to_string);
    let (Some(maas), Some(packaging)) = (value("maas.version"), value("maas.packaging")) else { return };
    if packaging == "stub" {
        return;
    }
    // The option may stand at its default; then the distribution is the place that decided.
    let place = |name: &str| {
        let entry = image.table("options").and_then(|table| table.entry(name));
        entry.map_or_else(|| distribution.span.clone(), |entry| entry.value.span.clone())
    };
    let Some(release) = RELEASES.iter().find(|release| release.maas == maas) else {
        let known: Vec<_> = RELEASES.iter().map(|release| release.maas).collect();
        let message = format!("MAAS {maas} is not in the table of supported versions");
        report.push(
            Diagnostic::error(Kind::Input, message)
                .at(&place("maas.version"), "unknown")
                .hint(format!("known are {}", known.join(", "))),
        );
        return;
    };
    if packaging == "deb" {
        check_distribution(release, distribution, &place("maas.version"), report);
    }
    if let Some(major) = value("postgresql.version").and_then(|version| major(&version)) {
        check_postgresql(release, major, &place("postgresql.version"), report);
    }
}

fn check_distribution(release: &Release, distribution: &Distribution, place: &Span, report: &mut Report) {
    let Distribution { id, suite, .. } = distribution;
    let maas = release.maas;
    match release.ubuntu {
        None => report.push(
            Diagnostic::error(Kind::Input, format!("MAAS {maas} has no debs"))
                .at(place, "this version")
                .hint("set `\"maas.packaging\" = \"snap\"`"),
        ),
        Some(ubuntu) if id != "ubuntu" || suite != ubuntu => report.push(
            Diagnostic::error(Kind::Input, format!("the debs of MAAS {maas} are not for {id} {suite}"))
                .at(&distribution.span, format!("{id} {suite}"))
                .note(format!("they are for ubuntu {ubuntu}"))
                .hint(format!(
                    "set `id = \"ubuntu\"` and `suite = \"{ubuntu}\"`, choose another `\"maas.version\"`, or `\"maas.packaging\" = \"snap\"`"
                )),
        ),
        Some(_) => {}
    }
}

fn check_postgresql(release: &Release, major: u32, place: &Span, report: &mut Report) {
    let Release { maas, oldest, recommended, newest, .. } = release;
    let range =
        if oldest == newest { format!("PostgreSQL {oldest}") } else { format!("PostgreSQL {oldest} to {newest}") };
    if major < *oldest {
        report.push(
            Diagnostic::error(Kind::Input, format!("MAAS {maas} does not run on PostgreSQL {major}"))
                .at(place, "too old")
                .note(format!("it takes {range}")),
        );
    } else if major > *newest {
        report.push(
            Diagnostic::warning(format!("MAAS {maas} is not documented with PostgreSQL {major}"))
                .at(place, "newer than any that it names")
                .note(format!("it names {range}")),
        );
    } else if major < *recommended {
        report.push(
            Diagnostic::warning(format!("PostgreSQL {major} is deprecated with MAAS {maas}"))
                .at(place, format!("PostgreSQL {recommended} is recommended")),
        );
    }
}

/// The major version of a text such as `16` or `9.5`.
fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_makes_sense() {
        for release in RELEASES {
            assert!(release.oldest <= release.recommended && release.recommended <= release.newest, "{release:?}");
        }
        let number = |release: &Release| release.maas.replace('.', "").parse::<u32>().unwrap();
        assert!(RELEASES.is_sorted_by_key(number));
    }
}
