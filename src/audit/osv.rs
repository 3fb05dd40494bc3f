//! OSV records: what is affected, as ranges of versions between events.
//!
//! Only what names an ecosystem of the audited suite counts, `Debian:13` or `Ubuntu:24.04:LTS`. Versions are compared by
//! Debian's rules, as the schema demands for these ecosystems.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};

use super::{Finding, SourcePackage, State, Subject};
use crate::deb::version::Version;

/// Suites and the numbers that OSV knows them by.
const RELEASES: [(&str, &str, &str); 11] = [
    ("debian", "bullseye", "Debian:11"),
    ("debian", "bookworm", "Debian:12"),
    ("debian", "trixie", "Debian:13"),
    ("debian", "forky", "Debian:14"),
    ("debian", "duke", "Debian:15"),
    ("ubuntu", "focal", "Ubuntu:20.04"),
    ("ubuntu", "jammy", "Ubuntu:22.04"),
    ("ubuntu", "noble", "Ubuntu:24.04"),
    ("ubuntu", "plucky", "Ubuntu:25.04"),
    ("ubuntu", "questing", "Ubuntu:25.10"),
    ("ubuntu", "resolute", "Ubuntu:26.04"),
];

#[derive(Deserialize)]
struct Record {
    id: String,
    #[serde(default)]
    aliases: Vec<String>,
    /// Names of what a distribution's record is about.
    #[serde(default)]
    upstream: Vec<String>,
    #[serde(default)]
    withdrawn: Option<String>,
    #[serde(default)]
    severity: Vec<Severity>,
    #[serde(default)]
    affected: Vec<Affected>,
}

#[derive(Deserialize)]
struct Severity {
    #[serde(rename = "type")]
    kind: String,
    score: String,
}

#[derive(Deserialize)]
struct Affected {
    #[serde(default)]
    package: Option<Package>,
    #[serde(default)]
    ranges: Vec<Range>,
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    severity: Vec<Severity>,
    #[serde(default)]
    ecosystem_specific: Option<Specific>,
}

#[derive(Deserialize)]
struct Package {
    ecosystem: String,
    name: String,
}

#[derive(Deserialize)]
struct Specific {
    #[serde(default)]
    urgency: Option<String>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    introduced: Option<String>,
    #[serde(default)]
    fixed: Option<String>,
    #[serde(default)]
    last_affected: Option<String>,
}

/// The findings; none when no record is about the suite.
pub fn read(data: impl Read, subject: &Subject) -> Result<Option<Vec<Finding>>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_reader(data);
    let release = RELEASES.iter().find(|(id, suite, _)| *id == subject.distribution && *suite == subject.suite);
    let records = Records { subject, ecosystem: release.map_or("", |(_, _, ecosystem)| ecosystem) };
    let (found, seen) = deserializer.deserialize_any(records)?;
    deserializer.end()?;
    Ok(seen.then_some(found))
}

/// One record, or a list of them, looked at one after the other.
struct Records<'a> {
    subject: &'a Subject,
    ecosystem: &'a str,
}

impl<'de> Visitor<'de> for Records<'_> {
    type Value = (Vec<Finding>, bool);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an OSV record or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let record = Record::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        let mut value = (Vec::new(), false);
        self.take(&record, &mut value);
        Ok(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<Self::Value, A::Error> {
        let mut value = (Vec::new(), false);
        while let Some(record) = records.next_element::<Record>()? {
            self.take(&record, &mut value);
        }
        Ok(value)
    }
}

impl Records<'_> {
    fn take(&self, record: &Record, (found, seen): &mut (Vec<Finding>, bool)) {
        for affected in &record.affected {
            let Some(package) = affected.package.as_ref().filter(|package| self.is_ours(&package.ecosystem)) else {
                continue;
            };
            *seen = true;
            if record.withdrawn.is_some() {
                continue;
            }
            // Sorted by name, so that a search finds the first of several versions.
            let from = self.subject.sources.partition_point(|source| source.name < package.name);
            let sources = self.subject.sources[from..].iter().take_while(|source| source.name == package.name);
            found.extend(sources.filter_map(|source| finding(source, record, affected)));
        }
    }

    /// Whether an ecosystem is the suite's, or the distribution's as a whole. `Ubuntu:Pro:24.04:LTS` is another archive.
    fn is_ours(&self, ecosystem: &str) -> bool {
        let Some((distribution, _)) = self.ecosystem.split_once(':') else { return false };
        let rest = ecosystem.strip_prefix(self.ecosystem);
        ecosystem == distribution || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }
}

fn finding(source: &SourcePackage, record: &Record, affected: &Affected) -> Option<Finding> {
    let listed =
        affected.versions.iter().any(|version| Version::parse(version).is_ok_and(|version| version == source.version));
    let (mut is_affected, mut fixed, mut readable) = (listed, None, true);
    for range in affected.ranges.iter().filter(|range| range.kind == "ECOSYSTEM") {
        match within(range, &source.version) {
            Some(true) => {
                is_affected = true;
                fixed = fixed.or_else(|| first_fix(range, &source.version));
            }
            Some(false) => {}
            None => readable = false,
        }
    }
    let urgency = affected.ecosystem_specific.as_ref().and_then(|specific| specific.urgency.as_deref());
    let state = match (is_affected, &fixed) {
        (false, _) if readable => return None,
        // What does not read is not taken for harmless.
        (false, _) => State::Undetermined,
        (true, _) if urgency == Some("unimportant") => State::Unimportant,
        (true, Some(_)) => State::Fixed,
        (true, None) => State::Open,
    };
    let mut finding = Finding::of(source, &record.id, state);
    finding.aliases = record.aliases.iter().chain(&record.upstream).cloned().collect();
    finding.aliases.sort();
    finding.aliases.dedup();
    let scores = affected.severity.iter().chain(&record.severity);
    // A word of the distribution says more to a person than a vector.
    let word = urgency.filter(|urgency| !matches!(*urgency, "" | "not yet assigned"));
    let score = || scores.clone().find(|severity| severity.kind == "Ubuntu").or(scores.clone().next());
    if let Some(severity) = word.map(str::to_owned).or_else(|| score().map(|severity| severity.score.clone())) {
        finding.severity = severity;
    }
    finding.fixed = fixed;
    Some(finding)
}

/// Whether `version` lies in a range: the last event at or before it decides. None when an event does not read.
fn within(range: &Range, version: &Version) -> Option<bool> {
    let mut events: Vec<(Version, u8)> = Vec::with_capacity(range.events.len());
    for event in &range.events {
        let (text, kind) = match (&event.introduced, &event.fixed, &event.last_affected) {
            (Some(text), None, None) => (text, 0),
            (None, Some(text), None) => (text, 1),
            (None, None, Some(text)) => (text, 2),
            // `limit`, which says nothing of these ecosystems.
            _ => continue,
        };
        events.push((Version::parse(text).ok()?, kind));
    }
    events.sort_by(|one, other| one.0.cmp(&other.0));
    let mut inside = false;
    for (at, kind) in events {
        inside = match kind {
            0 if *version >= at => true,
            1 if *version >= at => false,
            2 if *version > at => false,
            _ => inside,
        };
    }
    Some(inside)
}

/// The lowest version above `version` that a range names as fixed.
fn first_fix(range: &Range, version: &Version) -> Option<String> {
    let fixed = range.events.iter().filter_map(|event| Version::parse(event.fixed.as_ref()?).ok());
    let first = fixed.filter(|fixed| fixed > version).min_by(Version::cmp)?;
    Some(first.as_str().to_owned())
}
