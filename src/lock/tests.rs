//! Locks made, written, read, found stale and compared, on a small universe.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::diff::{Change, diff};
use super::*;
use crate::deb::control::Stanzas;
use crate::deb::package::Package;
use crate::deb::relation::Alternatives;
use crate::digest::Digest;
use crate::report::{Report, Source, Span, Style, render};
use crate::solve::{Candidate, Universe};
use crate::spec::{Archive, Before, Distribution, Layer, Spec, Units, Want};

/// Stanzas such as `a 1; Depends: b`, one a line.
fn universe(lines: &[&str]) -> Universe {
    let candidates = lines.iter().map(|line| {
        let (head, fields) = line.split_once(';').unwrap_or((line, "Priority: optional"));
        let (name, version) = head.split_once(' ').expect("name and version");
        let digest = Digest::of(head.as_bytes());
        let stanza = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nSHA256: {digest}\nSize: 7\n\
             Filename: pool/{name}_{version}.deb\n{fields}\n"
        );
        let package = Package::parse(Stanzas::new(&stanza).next().expect("a stanza")).expect("a package");
        Candidate { package: Arc::new(package), archive: "debian".into(), priority: 500 }
    });
    Universe { candidates: candidates.collect() }
}

fn layer(name: &str, parent: Option<usize>, wants: &[&str]) -> Layer {
    let source = Arc::new(Source { path: format!("profiles/{name}.toml"), text: wants.join("\n") });
    let mut at = 0;
    let wants = wants.iter().map(|want| {
        let span = Span::new(&source, at..at + want.len());
        at += want.len() + 1;
        Want { relation: Alternatives::parse(want).expect("a relation"), span }
    });
    Layer {
        name: name.into(),
        parent,
        wants: wants.collect(),
        recommends: false,
        before: Before::default(),
        files: Vec::new(),
        permissions: Vec::new(),
        units: Units::default(),
        remove: Vec::new(),
        kernel_arguments: Vec::new(),
        state: Vec::new(),
        ports: Vec::new(),
        span: Span::new(&source, 0..0),
    }
}

/// `base`, `region` and `rack` on it, and the tools.
fn spec(base: &[&str], region: &[&str], rack: &[&str]) -> Spec {
    let source = Arc::new(Source { path: "images/x.toml".into(), text: "[distribution]\n".into() });
    let span = Span::new(&source, 0..14);
    let archive = Archive {
        name: "debian".into(),
        suites: vec!["trixie".into()],
        components: vec!["main".into()],
        keyring: String::new(),
        keyring_bytes: None,
        fingerprints: Vec::new(),
        priority: 500,
        mirror: None,
        allow_expired: false,
        span: span.clone(),
    };
    Spec {
        name: "x".into(),
        version: "1".into(),
        distribution: Distribution { id: "debian".into(), suite: "trixie".into(), architecture: "amd64".into(), span },
        archives: BTreeMap::from([("debian".into(), archive)]),
        options: BTreeMap::new(),
        layers: vec![layer("base", None, base), layer("region", Some(0), region), layer("rack", Some(0), rack)],
        tools: layer("tools", None, &["tool"]),
        roles: Vec::new(),
        cluster: None,
        digest: Digest::of(format!("{base:?}{region:?}{rack:?}").as_bytes()),
    }
}

fn archives() -> Vec<LockedArchive> {
    let suite = LockedSuite {
        name: "trixie".into(),
        release: Digest::of(b"InRelease"),
        date: 1_757_158_224,
        signed_by: vec!["41587F7DB8C774BCCF131416762F67A0B2C39DE4".into()],
    };
    vec![LockedArchive { name: "debian".into(), suites: vec![suite] }]
}

const LINES: [&str; 7] = [
    "a 1;Depends: b",
    "b 1",
    "c 1;Depends: b, d",
    "d 1",
    "dpkg 1;Essential: yes",
    "e 1;Conflicts: b",
    "tool 1;Depends: a, d",
];

fn resolved(spec: &Spec, lines: &[&str], previous: Option<&Lock>, update: &Update) -> Result<Lock, Report> {
    resolve(spec, &universe(lines), archives(), previous, update)
}

fn names(lock: &Lock) -> Vec<String> {
    let show = |layer: &LockedLayer| {
        let packages: Vec<String> =
            layer.packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
        format!("{}: {}", layer.name, packages.join(", "))
    };
    lock.layers.iter().map(show).collect()
}

#[test]
fn layers_add_to_their_parents() {
    let lock = resolved(&spec(&["a"], &["c"], &["d"]), &LINES, None, &Update::Nothing).expect("a lock");
    assert_eq!(names(&lock), ["base: a 1, b 1, dpkg 1", "region: c 1, d 1", "rack: d 1", "tools: d 1, tool 1"]);
}

#[test]
fn all_layers_without_an_answer_are_told() {
    let report = resolved(&spec(&["a"], &["e"], &["nothing"]), &LINES, None, &Update::Nothing).expect_err("no lock");
    let told = render(&report, Style::Plain);
    for part in [
        "`e` cannot be installed",
        "profiles/region.toml:1:1",
        "profiles/base.toml:1:1",
        "`e` 1 excludes `b` 1",
        "profiles/rack.toml:1:1",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    let report = resolved(&spec(&["nothing"], &["c"], &["d"]), &LINES, None, &Update::Nothing).expect_err("no lock");
    assert_eq!(report.diagnostics.len(), 1, "children of a failed layer are not told of");
}

#[test]
fn an_update_changes_what_it_may() {
    let spec = spec(&["a"], &["c"], &["d"]);
    let old = resolved(&spec, &LINES, None, &Update::Nothing).expect("a lock");
    let mut lines = LINES.to_vec();
    lines.extend(["b 2", "d 2"]);
    let same = resolved(&spec, &lines, Some(&old), &Update::Nothing).expect("a lock");
    assert!(diff(&old, &same).is_empty());
    let one = resolved(&spec, &lines, Some(&old), &Update::Packages(vec!["d".into()])).expect("a lock");
    assert_eq!(diff(&old, &one).to_string(), "region:\n  ~ d 1 -> 2\nrack:\n  ~ d 1 -> 2\ntools:\n  ~ d 1 -> 2\n");
    let all = resolved(&spec, &lines, Some(&old), &Update::All).expect("a lock");
    assert_eq!(names(&all)[0], "base: a 1, b 2, dpkg 1");
    let gone: Vec<&str> = lines.iter().copied().filter(|line| *line != "b 1").collect();
    let kept = resolved(&spec, &gone, Some(&old), &Update::Nothing).expect("a lock");
    assert_eq!(diff(&old, &kept).to_string(), "base:\n  ~ b 1 -> 2\n", "only what is gone is replaced");
    let report = resolved(&spec, &lines, Some(&old), &Update::Packages(vec!["zz".into()])).expect_err("unknown");
    assert!(render(&report, Style::Plain).contains("`zz` is not in the lock"));
}

#[test]
fn differences_name_layers_packages_and_suites() {
    let old = resolved(&spec(&["a"], &["c"], &["d"]), &LINES, None, &Update::Nothing).expect("a lock");
    let mut new = resolved(&spec(&["a"], &["d"], &[]), &LINES, None, &Update::Nothing).expect("a lock");
    new.archives[0].suites[0].date += 60;
    new.layers.remove(2);
    let found = diff(&old, &new);
    assert!(matches!(found.layers[0].changes.as_slice(), [Change::Removed(package)] if package.name == "c"));
    assert_eq!(found.to_string(), "region:\n  - c 1\nrack:\n  - d 1\n");
    assert_eq!(found.suites, [("debian trixie".to_owned(), Some(1_757_158_224), Some(1_757_158_284))]);
}

#[test]
fn a_stale_lock_says_what_changed() {
    let old = spec(&["a"], &["c"], &["d"]);
    let lock = resolved(&old, &LINES, None, &Update::Nothing).expect("a lock");
    assert_eq!(fresh::check(&lock, "images/x.lock", &old), Ok(()));
    let mut new = spec(&["a"], &["d | b"], &["d"]);
    new.layers.push(layer("extra", Some(0), &[]));
    new.distribution.suite = "forky".into();
    new.archives.get_mut("debian").expect("it").suites = vec!["forky".into()];
    new.layers[2].recommends = true;
    let told = render(&fresh::check(&lock, "images/x.lock", &new).expect_err("stale"), Style::Plain);
    for part in [
        "`images/x.lock` does not answer the image file any more",
        "the distribution was `debian trixie amd64` and is `debian forky amd64`",
        "suite `forky` of archive `debian` is new",
        "suite `trixie` of archive `debian` is gone",
        "layer `region` now wants `d | b`",
        "profiles/region.toml:1:1",
        "layer `region` does not want `c` any more",
        "layer `rack` now follows recommended packages",
        "layer `extra` is new",
        "run `rolecast lock`",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    let other = Spec { digest: Digest::of(b"other"), ..old };
    let told = render(&fresh::check(&lock, "images/x.lock", &other).expect_err("stale"), Style::Plain);
    assert!(told.contains("though no want did"), "{told}");
}

fn parse(text: &str) -> Result<Lock, String> {
    let source = Arc::new(Source { path: "images/x.lock".into(), text: text.into() });
    read(&source).map_err(|report| render(&report, Style::Plain))
}

#[test]
fn a_lock_has_one_text() {
    let mut lock = resolved(&spec(&["a", "b (>= 0~1)"], &["c"], &[]), &LINES, None, &Update::Nothing).expect("a lock");
    let text = write(&lock);
    assert_eq!(parse(&text).as_ref(), Ok(&lock));
    let line = format!(
        "    {{ name = \"a\", version = \"1\", architecture = \"amd64\", archive = \"debian\", size = 7, sha256 = \"{}\", path = \"pool/a_1.deb\" }},\n",
        Digest::of(b"a 1")
    );
    assert_eq!(text.matches(&line).count(), 1, "{text}");
    for part in [
        "date = \"2025-09-06T11:30:24Z\"\n",
        "    \"b (>= 0~1)\",\n",
        "name = \"rack\"\nrecommends = false\nwants = []\npackages = []\n",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    lock.distribution = "a \"b\" \\ \u{1} \n é".into();
    assert_eq!(parse(&write(&lock)).as_ref(), Ok(&lock));
}

#[test]
fn broken_locks_are_refused_at_their_line() {
    let text = write(&resolved(&spec(&["a"], &["c"], &["d"]), &LINES, None, &Update::Nothing).expect("a lock"));
    for (from, to, parts) in [
        ("format = 1", "format = 2", &["the lock is of format 2, this rolecast reads 1", "images/x.lock:2:10"][..]),
        ("format = 1", "colour = 1\nformat = 1", &["unknown field `colour`", "images/x.lock:2:1"]),
        ("spec = \"", "spec = \"x", &["is not a SHA-256 digest", "images/x.lock:3:8"]),
        ("[[layer]]", "<<<<<<< HEAD\n[[layer]]", &["the lock cannot be read", "`rolecast lock`"]),
        ("name = \"a\"", "name = \"../a\"", &["`../a` is not a package name"]),
        ("name = \"a\"", "name = \"b\"", &["`b` is twice in layer `base`"]),
        ("name = \"rack\"", "name = \"region\"", &["layer `region` is here twice"]),
        ("path = \"pool/a_1.deb\"", "path = \"../../etc/passwd\"", &["is not a path inside an archive"]),
        ("path = \"pool/a_1.deb\"", "path = \"/etc/passwd\"", &["is not a path inside an archive"]),
        ("version = \"1\"", "version = \"1/2\"", &["`1/2` is not a version"]),
        ("archive = \"debian\"", "archive = \"other\"", &["`other` is not one of the lock's archives"]),
        ("size = 7", "size = -7", &["the lock cannot be read"]),
        ("2025-09-06T11:30:24Z", "yesterday", &["`yesterday` is not a time"]),
        ("packages = [", "packages = [ 1,", &["the lock cannot be read"]),
    ] {
        assert!(text.contains(from), "{from}");
        let told = parse(&text.replacen(from, to, 1)).expect_err(to);
        for part in parts {
            assert!(told.contains(part), "{part} in\n{told}");
        }
    }
    assert!(parse(&text[..text.len() / 2]).is_err());
    assert!(parse("").is_err());
}

fn locks() -> impl Strategy<Value = Lock> {
    let digest = || any::<[u8; 32]>().prop_map(Digest::from_bytes);
    let name = || "[a-z0-9][a-z0-9+.-]{1,20}";
    let text = || "[ -~é\\t\"\\\\]{0,30}";
    let version = "([0-9]:)?[0-9][0-9a-z.+~]{0,12}(-[0-9a-z.+~]{1,8})?";
    let package = (name(), version, any::<bool>(), 1..u64::MAX >> 1, digest(), "[a-zA-Z0-9+.~_-]{1,20}");
    let package = package.prop_map(|(name, version, all, size, sha256, file)| LockedPackage {
        name,
        version,
        architecture: if all { "all" } else { "amd64" }.to_owned(),
        archive: "debian".to_owned(),
        size,
        sha256,
        path: format!("pool/{file}x"),
    });
    let layer =
        (name(), any::<bool>(), proptest::collection::vec(text(), 0..4), proptest::collection::vec(package, 0..8));
    let layer = layer.prop_map(|(name, recommends, wants, mut packages)| {
        packages.sort_by(|one, two| (&one.name, &one.architecture).cmp(&(&two.name, &two.architecture)));
        packages.dedup_by(|one, two| (&one.name, &one.architecture) == (&two.name, &two.architecture));
        LockedLayer { name, wants, recommends, packages }
    });
    let suite = (name(), digest(), 0..4_000_000_000_i64, proptest::collection::vec("[0-9A-F]{40}", 1..3));
    let suite = suite.prop_map(|(name, release, date, signed_by)| LockedSuite { name, release, date, signed_by });
    let parts = (digest(), text(), proptest::collection::vec(suite, 1..4), proptest::collection::vec(layer, 0..5));
    parts.prop_map(|(spec, distribution, suites, mut layers)| {
        layers.sort_by(|one, two| one.name.cmp(&two.name));
        layers.dedup_by(|one, two| one.name == two.name);
        let archives = vec![LockedArchive { name: "debian".to_owned(), suites }];
        Lock { spec, distribution, archives, layers }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// A lock is read as it was written, has one text, and differs from itself in nothing.
    #[test]
    fn any_lock_reads_back_as_it_was_written(lock in locks()) {
        let text = write(&lock);
        let read = parse(&text).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&read, &lock);
        prop_assert_eq!(write(&read), text);
        prop_assert!(diff(&lock, &read).is_empty());
    }
}
