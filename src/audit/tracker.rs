//! The data of Debian's security tracker: source package → advisory → suite → what is known.
//!
//! Read as a stream: of 70 MB, only the packages that are audited are kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::{Finding, SourcePackage, State, Subject};
use crate::deb::version::Version;

/// One advisory of one package.
#[derive(Deserialize)]
struct Advisory {
    #[serde(default)]
    releases: BTreeMap<String, Known>,
}

/// What is known of it in one suite.
#[derive(Deserialize)]
struct Known {
    status: String,
    #[serde(default)]
    fixed_version: Option<String>,
    #[serde(default)]
    urgency: Option<String>,
    /// Why there is no advisory of its own.
    #[serde(default)]
    nodsa: Option<String>,
}

/// The suite's name alone: read of the packages that are not audited until it has been seen once.
#[derive(Deserialize)]
struct Suites {
    #[serde(default)]
    releases: BTreeMap<String, IgnoredAny>,
}

/// The findings; none when the data never mentions the suite.
pub fn read(data: impl Read, subject: &Subject) -> Result<Option<Vec<Finding>>, serde_json::Error> {
    let mut wanted: HashMap<&str, Vec<&SourcePackage>> = HashMap::new();
    for source in &subject.sources {
        wanted.entry(&source.name).or_default().push(source);
    }
    // The tracker is Debian's; an Ubuntu suite's name never stands in it.
    let mut deserializer = serde_json::Deserializer::from_reader(data);
    let (found, seen) = deserializer.deserialize_map(Packages { wanted, suite: &subject.suite })?;
    deserializer.end()?;
    Ok(seen.then_some(found))
}

struct Packages<'a> {
    wanted: HashMap<&'a str, Vec<&'a SourcePackage>>,
    suite: &'a str,
}

impl<'de> Visitor<'de> for Packages<'_> {
    type Value = (Vec<Finding>, bool);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("packages with their advisories, as Debian's security tracker has them")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut packages: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut seen) = (Vec::new(), false);
        while let Some(name) = packages.next_key::<String>()? {
            match self.wanted.get(name.as_str()) {
                Some(sources) => {
                    let advisories: BTreeMap<String, Advisory> = packages.next_value()?;
                    for (id, advisory) in &advisories {
                        let Some(known) = advisory.releases.get(self.suite) else { continue };
                        seen = true;
                        found.extend(sources.iter().filter_map(|source| finding(source, id, known)));
                    }
                }
                None if !seen => {
                    let advisories: BTreeMap<String, Suites> = packages.next_value()?;
                    seen = advisories.values().any(|advisory| advisory.releases.contains_key(self.suite));
                }
                None => _ = packages.next_value::<IgnoredAny>()?,
            }
        }
        Ok((found, seen))
    }
}

fn finding(source: &SourcePackage, id: &str, known: &Known) -> Option<Finding> {
    // `0` stands for a suite that was never affected, and no version is older.
    let fixed = known.fixed_version.as_deref().filter(|_| known.status == "resolved");
    let state = match (known.status.as_str(), fixed.map(Version::parse)) {
        ("resolved", Some(Ok(fixed))) if source.version >= fixed => return None,
        ("resolved", Some(Ok(_))) => State::Fixed,
        ("open", _) => State::Open,
        // What does not read is not taken for harmless.
        _ => State::Undetermined,
    };
    let urgency = known.urgency.as_deref().map(|urgency| urgency.trim_end_matches('*'));
    let state = match urgency {
        Some("unimportant") if state != State::Undetermined => State::Unimportant,
        _ => state,
    };
    let mut finding = Finding::of(source, id, state);
    if let Some(urgency) = urgency.filter(|urgency| !matches!(*urgency, "" | "not yet assigned")) {
        finding.severity = urgency.to_owned();
    }
    finding.fixed = fixed.map(str::to_owned);
    finding.note = known.nodsa.clone().filter(|note| !note.is_empty());
    Some(finding)
}
