//! Which packages are said to have holes, on data in the forms that Debian's tracker and OSV publish.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::digest::Digest;
use crate::lock;
use crate::report::{Diagnostic, Source};

fn source(name: &str, version: &str) -> SourcePackage {
    let packages = [format!("{name}-tools"), name.to_owned()].into();
    SourcePackage { name: name.to_owned(), version: Version::parse(version).unwrap(), certain: true, packages }
}

fn subject(sources: &[(&str, &str)]) -> Subject {
    let sources = sources.iter().map(|(name, version)| source(name, version)).collect();
    Subject { distribution: "debian".to_owned(), suite: "trixie".to_owned(), sources }
}

fn findings(data: impl AsRef<[u8]>, subject: &Subject) -> Result<Vec<Finding>, Diagnostic> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.json");
    fs::write(&path, data).unwrap();
    Advisories::at(&path)?.findings(subject)
}

/// As `ID STATE SEVERITY FIXED`.
fn shown(findings: &[Finding]) -> Vec<String> {
    let line = |finding: &Finding| {
        let fixed = finding.fixed.as_deref().unwrap_or("-");
        format!("{} {} {:?} {} {fixed}", finding.source, finding.id, finding.state, finding.severity)
    };
    findings.iter().map(line).collect()
}

/// An advisory of the tracker for trixie, and another suite that says the opposite.
fn advisory(trixie: Value) -> Value {
    json!({
        "description": "text", "scope": "remote", "debianbug": 1,
        "releases": {
            "bookworm": { "status": "open", "repositories": { "bookworm": "1" }, "urgency": "high" },
            "trixie": trixie,
        },
    })
}

fn tracker() -> Value {
    json!({
        "acme": {
            "CVE-2025-0001": advisory(json!({ "status": "resolved", "fixed_version": "1:2.0-1", "urgency": "high" })),
            "CVE-2025-0002": advisory(json!({ "status": "resolved", "fixed_version": "0", "urgency": "low" })),
            "CVE-2025-0003": advisory(json!({
                "status": "open", "repositories": { "trixie": "1:1.9-1" }, "urgency": "not yet assigned",
                "nodsa": "Minor issue", "nodsa_reason": "",
            })),
            "CVE-2025-0004": advisory(json!({ "status": "open", "urgency": "unimportant" })),
            "CVE-2025-0005": advisory(json!({ "status": "undetermined", "urgency": "medium**" })),
            "TEMP-0000006-ABCDEF": { "releases": { "bookworm": { "status": "open", "urgency": "high" } } },
        },
        "other": { "CVE-2025-0007": advisory(json!({ "status": "open", "urgency": "high" })) },
    })
}

#[test]
fn the_tracker_s_states_become_findings() {
    let found = findings(tracker().to_string(), &subject(&[("acme", "1:1.9-1"), ("unknown", "1")])).unwrap();
    assert_eq!(
        shown(&found),
        [
            "acme CVE-2025-0001 Fixed high 1:2.0-1",
            "acme CVE-2025-0003 Open unknown -",
            "acme CVE-2025-0005 Undetermined medium -",
            "acme CVE-2025-0004 Unimportant unimportant -",
        ]
    );
    assert_eq!(found[1].note.as_deref(), Some("Minor issue"));
    assert_eq!(found.iter().filter(|finding| finding.counts()).count(), 2);
    assert!(found[0].packages.contains("acme-tools"));
}

#[test]
fn versions_are_compared_as_dpkg_does() {
    let cases = [
        ("1:2.0-1", false),
        ("1:2.0-1~deb13u1", true),
        ("1:2.0-1+deb13u1", false),
        ("1:10.0-1", false),
        ("9.9-9", true),
        ("1:2.00-1", false),
        ("1:2.0~rc1-5", true),
    ];
    for (version, is_affected) in cases {
        let found = findings(tracker().to_string(), &subject(&[("acme", version)])).unwrap();
        let has = found.iter().any(|finding| finding.id == "CVE-2025-0001");
        assert_eq!(has, is_affected, "{version}");
    }
}

#[test]
fn data_that_says_nothing_of_the_suite_is_not_taken_for_all_is_well() {
    let mut forky = subject(&[("acme", "1")]);
    forky.suite = "forky".to_owned();
    for data in [tracker().to_string(), "{}".to_owned(), "[]".to_owned(), osv("Debian:13").to_string()] {
        let refused = findings(&data, &forky).unwrap_err();
        assert!(refused.message.contains("says nothing about debian forky"), "{}", refused.message);
    }
    // What is not audited shows that the data knows the suite.
    assert_eq!(findings(tracker().to_string(), &subject(&[("zzz", "1")])).unwrap(), []);
}

fn osv(ecosystem: &str) -> Value {
    json!({
        "schema_version": "1.7.0", "id": "DEBIAN-CVE-2025-0001", "modified": "2025-08-09T11:30:24Z",
        "upstream": ["CVE-2025-0001"], "aliases": ["CVE-2025-0001"],
        "severity": [{ "type": "CVSS_V3", "score": "CVSS:3.1/AV:N" }],
        "affected": [{
            "package": { "ecosystem": ecosystem, "name": "acme", "purl": "pkg:deb/debian/acme?arch=source" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": "1.5-1" }] }],
        }],
    })
}

#[test]
fn osv_records_count_for_their_ecosystem() {
    let old = subject(&[("acme", "1.0-1")]);
    let found = findings(osv("Debian:13").to_string(), &old).unwrap();
    assert_eq!(shown(&found), ["acme DEBIAN-CVE-2025-0001 Fixed CVSS:3.1/AV:N 1.5-1"]);
    assert_eq!(found[0].aliases, ["CVE-2025-0001"]);
    assert_eq!(findings(osv("Debian").to_string(), &old).unwrap().len(), 1);
    assert_eq!(findings(osv("Debian:13").to_string(), &subject(&[("acme", "1.5-1")])).unwrap(), []);
    for other in ["Debian:12", "Ubuntu:24.04:LTS", "npm", "Debian:131"] {
        assert!(findings(osv(other).to_string(), &old).is_err(), "{other}");
    }
    let noble = Subject { distribution: "ubuntu".to_owned(), suite: "noble".to_owned(), ..old };
    assert_eq!(findings(osv("Ubuntu:24.04:LTS").to_string(), &noble).unwrap().len(), 1);
    assert!(findings(osv("Ubuntu:Pro:24.04:LTS").to_string(), &noble).is_err());
}

#[test]
fn osv_ranges_are_read_event_by_event() {
    let with = |affected: Value| {
        let mut record = osv("Debian:13");
        for (name, value) in affected.as_object().unwrap() {
            record["affected"][0][name] = value.clone();
        }
        json!([record])
    };
    let events = |events: Value| with(json!({ "ranges": [{ "type": "ECOSYSTEM", "events": events }] }));
    let twice =
        events(json!([{ "fixed": "1.2" }, { "introduced": "1.0" }, { "introduced": "2.0" }, { "fixed": "2.5" }]));
    let last = events(json!([{ "introduced": "0" }, { "last_affected": "1.1" }]));
    let open = events(json!([{ "introduced": "1.1" }]));
    let listed = with(json!({ "ranges": [], "versions": ["1.1", "2.0"] }));
    let git = with(json!({ "ranges": [{ "type": "GIT", "events": [{ "introduced": "0" }] }] }));
    let unimportant = with(json!({ "ecosystem_specific": { "urgency": "unimportant" } }));
    let broken = events(json!([{ "introduced": "0" }, { "fixed": "no version!" }]));
    let mut withdrawn = osv("Debian:13");
    withdrawn["withdrawn"] = json!("2025-08-09T11:30:24Z");
    let cases = [
        (&twice, "0.9", None),
        (&twice, "1.0", Some("Fixed 1.2")),
        (&twice, "1.2", None),
        (&twice, "2.4", Some("Fixed 2.5")),
        (&last, "1.1", Some("Open -")),
        (&last, "1.2", None),
        (&open, "1.0", None),
        (&open, "7", Some("Open -")),
        (&listed, "1.1", Some("Open -")),
        (&listed, "1.2", None),
        (&git, "1", None),
        (&unimportant, "1", Some("Unimportant 1.5-1")),
        (&broken, "1", Some("Undetermined -")),
        (&withdrawn, "1", None),
    ];
    for (record, version, expected) in cases {
        let found = findings(record.to_string(), &subject(&[("acme", version)])).unwrap();
        let line = |finding: &Finding| format!("{:?} {}", finding.state, finding.fixed.as_deref().unwrap_or("-"));
        assert_eq!(found.first().map(line).as_deref(), expected, "{version} of {record}");
    }
}

#[test]
fn a_directory_of_records_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &Path| Advisories::at(path).unwrap().findings(&subject(&[("acme", "1.0-1")]));
    assert!(Advisories::at(folder.path()).unwrap_err().message.contains("no `.json` file"));
    fs::write(folder.path().join("a.json"), osv("npm").to_string()).unwrap();
    fs::write(folder.path().join("b.json"), osv("Debian:13").to_string()).unwrap();
    fs::write(folder.path().join("README"), "no record").unwrap();
    assert_eq!(at(folder.path()).unwrap().len(), 1);
    fs::write(folder.path().join("c.json"), "{").unwrap();
    let refused = at(folder.path()).unwrap_err();
    assert!(refused.message.contains("c.json"), "{}", refused.message);
}

#[test]
fn hostile_data_is_an_error_and_no_more() {
    let acme = subject(&[("acme", "1")]);
    let deep = format!("{{\"acme\":{{\"CVE-1\":{{\"x\":{}", "[".repeat(100_000));
    let cases: [(&[u8], &str); 9] = [
        (b"", "no JSON"),
        (b"PK\x03\x04", "ZIP"),
        (b"no", "no JSON"),
        (b"[1]", "invalid type"),
        (b"{\"acme\": 7}", "invalid type"),
        (b"{\"acme\": {\"CVE-1\": {\"releases\": []}}}", "invalid type"),
        (b"{\"acme\": {\"CVE-1\": {\"releases\": {\"trixie\": {\"fixed_version\": \"1\"}}}}}", "status"),
        (b"{} {}", "trailing"),
        (deep.as_bytes(), "EOF"),
    ];
    for (data, expected) in cases {
        let refused = findings(data, &acme).unwrap_err();
        assert!(refused.message.contains(expected), "{expected}: {}", refused.message);
    }
    let odd = json!({ "acme": {
        "CVE-1": advisory(json!({ "status": "resolved" })),
        "CVE-2": advisory(json!({ "status": "resolved", "fixed_version": "not a version!" })),
        "CVE-3": advisory(json!({ "status": "something new" })),
    } });
    let found = findings(odd.to_string(), &acme).unwrap();
    assert!(found.len() == 3 && found.iter().all(|finding| finding.state == State::Undetermined), "{found:#?}");
    let folder = tempfile::tempdir().unwrap();
    let sparse = folder.path().join("sparse.json");
    fs::File::create(&sparse).unwrap().set_len(3 << 30).unwrap();
    assert!(Advisories::at(&sparse).unwrap_err().message.contains("are not read"));
}

const LOCK: &str = r#"format = 1
spec = "0000000000000000000000000000000000000000000000000000000000000000"
distribution = "debian trixie amd64"

[[archive]]
name = "debian"

[[layer]]
name = "base"
recommends = false
wants = []
packages = [
    { name = "dmsetup", version = "2:1.02.205-2+b1", architecture = "amd64", archive = "debian", size = 1, sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", path = "pool/main/l/lvm2/dmsetup_1.02.205-2+b1_amd64.deb" },
    { name = "libdevmapper", version = "2:1.02.205-2+b1", architecture = "amd64", archive = "debian", size = 1, sha256 = "1111111111111111111111111111111111111111111111111111111111111111", path = "pool/main/l/lvm2/libdevmapper_1.02.205-2+b1_amd64.deb" },
]
"#;

#[test]
fn a_lock_s_packages_come_under_their_sources() {
    let text = LOCK.replace("format = 1", &format!("format = {}", lock::FORMAT));
    let lock = lock::read(&Arc::new(Source { path: "x.lock".to_owned(), text })).unwrap();
    let guessed = of_lock(&lock, &BTreeMap::new());
    assert_eq!((guessed.distribution.as_str(), guessed.suite.as_str(), guessed.sources.len()), ("debian", "trixie", 1));
    let source = &guessed.sources[0];
    assert_eq!((source.name.as_str(), source.version.as_str(), source.certain), ("lvm2", "2:1.02.205-2", false));
    assert_eq!(source.packages.len(), 2);
    let told = (Digest::of(b"abc"), ("lvm2".to_owned(), "2.03.31-2".to_owned()));
    let known = of_lock(&lock, &[told].into());
    let versions: Vec<(&str, bool)> =
        known.sources.iter().map(|source| (source.version.as_str(), source.certain)).collect();
    assert_eq!(versions, [("2.03.31-2", true), ("2:1.02.205-2", false)]);
    let broken = (Digest::of(b"abc"), ("../x".to_owned(), "1".to_owned()));
    assert!(of_lock(&lock, &[broken].into()).sources.iter().all(|source| !source.certain));
}

#[test]
fn both_kinds_of_bills_name_the_same_sources() {
    let purls = [
        "pkg:deb/debian/dmsetup@2:1.02.205-2?arch=amd64&distro=trixie&upstream=lvm2%402.03.31-2",
        "pkg:deb/debian/adduser@3.152?arch=all&distro=trixie",
    ];
    let reference =
        |purl| json!({ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl });
    let mut packages: Vec<Value> =
        purls.iter().map(|purl| json!({ "name": "x", "externalRefs": [reference(purl)] })).collect();
    packages.push(json!({ "name": "the root" }));
    let spdx = json!({ "spdxVersion": "SPDX-2.3", "packages": packages, "files": [{ "fileName": "./x" }] });
    let components: Vec<Value> = purls.iter().map(|purl| json!({ "name": "x", "purl": purl })).collect();
    let cyclonedx = json!({ "bomFormat": "CycloneDX", "components": components });
    let subject = of_bill(spdx.to_string().as_bytes()).unwrap();
    assert_eq!(of_bill(cyclonedx.to_string().as_bytes()).unwrap(), subject);
    let named: Vec<String> =
        subject.sources.iter().map(|source| format!("{} {}", source.name, source.version)).collect();
    assert_eq!(named, ["adduser 3.152", "lvm2 2.03.31-2"]);
    let other = json!({ "bomFormat": "CycloneDX", "components": [
        { "purl": purls[1] }, { "purl": "pkg:deb/debian/adduser@3.134?arch=all&distro=bookworm" },
    ] });
    let cases = [
        (other, "several distributions"),
        (json!({ "bomFormat": "CycloneDX" }), "names no package"),
        (json!({ "format": 1 }), "neither"),
        (json!("text"), "does not read"),
        (json!({ "bomFormat": "CycloneDX", "components": [{ "purl": "pkg:deb/debian/x@%20" }] }), "version"),
    ];
    for (bill, expected) in cases {
        let refused = of_bill(bill.to_string().as_bytes()).unwrap_err();
        assert!(refused.message.contains(expected), "{expected}: {}", refused.message);
    }
}
