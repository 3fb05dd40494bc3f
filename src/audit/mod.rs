//! Advisories against what was locked or built: which source packages have known holes, and whether an update mends them.
//!
//! Owns what is read of a lock, an SPDX or CycloneDX bill and of advisory data, and the comparison, which is Debian's own:
//! by source package and its version. Fetches nothing: advisory data is a file that somebody brought. Speaks of what the data
//! says, never of what it does not know. Specifications: the `data/json` of Debian's security tracker, OSV schema 1.7,
//! purl-spec type `deb`.

mod bill;
mod osv;
mod read;
#[cfg(test)]
mod tests;
mod tracker;

pub use bill::{of_bill, of_lock};
pub use read::Advisories;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::deb::version::Version;

/// What is audited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The distribution's id: `debian`.
    pub distribution: String,
    /// Its suite: `trixie`.
    pub suite: String,
    /// The source packages, by name and version.
    pub sources: Vec<SourcePackage>,
}

/// A source package that packages were built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePackage {
    /// Name.
    pub name: String,
    /// Version.
    pub version: Version,
    /// Whether name and version were written somewhere; else they are guessed from the package's own.
    pub certain: bool,
    /// The packages.
    pub packages: BTreeSet<String>,
}

/// What is known of a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A version without it is there.
    Fixed,
    /// None is yet.
    Open,
    /// The data does not know whether the suite is affected.
    Undetermined,
    /// The distribution holds it to be of no consequence.
    Unimportant,
}

/// A hole in a source package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Source package.
    pub source: String,
    /// Its version.
    pub version: String,
    /// The packages that were built from it.
    pub packages: BTreeSet<String>,
    /// Name of the advisory: `CVE-2025-1234`.
    pub id: String,
    /// Other names of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What is known.
    pub state: State,
    /// How severe, in the words of the data; `unknown` where it does not say.
    pub severity: String,
    /// The first version without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// Why the distribution does not hurry: `Minor issue`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Finding {
    /// Whether somebody has to look at it.
    pub fn counts(&self) -> bool {
        matches!(self.state, State::Fixed | State::Open)
    }

    fn of(source: &SourcePackage, id: &str, state: State) -> Self {
        Self {
            source: source.name.clone(),
            version: source.version.as_str().to_owned(),
            packages: source.packages.clone(),
            id: id.to_owned(),
            aliases: Vec::new(),
            state,
            severity: "unknown".to_owned(),
            fixed: None,
            note: None,
        }
    }
}

/// Sorts findings: by state, source package, version and advisory; each once.
fn ordered(mut findings: Vec<Finding>) -> Vec<Finding> {
    let key = |finding: &Finding| (finding.state, finding.source.clone(), finding.version.clone(), finding.id.clone());
    findings.sort_by_cached_key(key);
    findings.dedup_by(|one, other| key(one) == key(other));
    findings
}
