//! Debian's archive as it is served today, from the mirror in this machine's apt sources.
//!
//! Needs the network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rolecast::archive::{Access, Client, Mirrors, Patience, Pinned, fetch, open};
use rolecast::lock::LockedPackage;
use rolecast::report::{Report, Source, Span, Style, render};
use rolecast::spec::Archive;
use rolecast::store::Store;

fn debian(name: &str, suites: &[&str]) -> Archive {
    let source = Arc::new(Source { path: "images/test.toml".to_owned(), text: "[distribution]\n".to_owned() });
    let keyring = "images/keyrings/debian-archive.pgp";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(keyring);
    Archive {
        name: name.to_owned(),
        suites: suites.iter().map(|suite| (*suite).to_owned()).collect(),
        components: vec!["main".to_owned()],
        keyring: keyring.to_owned(),
        keyring_bytes: Some(std::fs::read(path).expect("the project has Debian's keyring")),
        fingerprints: Vec::new(),
        priority: 500,
        mirror: None,
        allow_expired: false,
        span: Span::new(&source, 0..14),
    }
}

fn told(report: &Report) -> String {
    render(report, Style::Plain)
}

#[test]
fn trixie_is_loaded_and_two_packages_are_fetched_once() {
    let archives: BTreeMap<String, Archive> =
        [("debian", ["trixie", "trixie-updates"].as_slice()), ("debian-security", &["trixie-security"])]
            .into_iter()
            .map(|(name, suites)| (name.to_owned(), debian(name, suites)))
            .collect();
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(&directory.path().join("store")).expect("a store");
    let client = Client::new(Patience::default());
    let mirrors = Mirrors::new(BTreeMap::new(), Box::new(|name| std::env::var(name).ok()), PathBuf::from("/etc/apt"));
    let come = AtomicU64::new(0);
    let count = |bytes| {
        come.fetch_add(bytes, Ordering::Relaxed);
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed();
    let access = Access {
        store: &store,
        client: &client,
        mirrors: &mirrors,
        now,
        offline: false,
        pinned: Pinned::Nothing,
        progress: &count,
    };

    let loaded = open(&archives, "amd64", &access).map_err(|report| told(&report)).expect("both archives load");
    assert_eq!(told(&loaded.warnings), "");
    assert_eq!(loaded.archives.len(), 2);
    let suites: Vec<_> = loaded.archives.iter().flat_map(|archive| &archive.suites).collect();
    assert!(suites.iter().all(|suite| !suite.signed_by.is_empty()));
    assert_eq!(
        suites.iter().map(|suite| suite.name.as_str()).collect::<Vec<_>>(),
        ["trixie", "trixie-updates", "trixie-security"]
    );
    let candidates = &loaded.universe.candidates;
    assert!(candidates.len() > 60_000, "{} packages", candidates.len());
    assert!(candidates.iter().any(|candidate| candidate.archive == "debian-security"));
    assert!(come.load(Ordering::Relaxed) > 1_000_000);

    // What was verified once is enough to work offline, and nothing is fetched then.
    let before = come.load(Ordering::Relaxed);
    let offline = open(&archives, "amd64", &Access { offline: true, ..access }).map_err(|report| told(&report));
    let offline = offline.expect("the store has it all");
    assert_eq!(offline.archives, loaded.archives);
    assert_eq!(offline.universe.candidates.len(), candidates.len());
    assert_eq!(come.load(Ordering::Relaxed), before);

    assert!(candidates.iter().any(|candidate| candidate.package.name == "chrony"));
    let wanted: Vec<LockedPackage> = ["hostname", "base-files"].iter().map(|name| locked(name, &loaded)).collect();
    let fetched = fetch(&wanted, &archives, &access, 2).map_err(|error| told(&error.report)).expect("two packages");
    assert_eq!((fetched.packages, fetched.bytes), (2, wanted.iter().map(|package| package.size).sum()));
    assert_eq!(come.load(Ordering::Relaxed), before + fetched.bytes);
    for package in &wanted {
        assert!(is_deb(&store.object_path(&package.sha256)), "{}", package.name);
    }
    let again = fetch(&wanted, &archives, &Access { offline: true, ..access }, 2).expect("nothing is missing");
    assert_eq!((again.packages, again.bytes), (0, 0));
}

fn locked(name: &str, loaded: &rolecast::archive::Loaded) -> LockedPackage {
    let mut candidates = loaded.universe.candidates.iter();
    let candidate = candidates.find(|candidate| candidate.package.name == name).expect("a package of Debian");
    LockedPackage {
        name: name.to_owned(),
        version: candidate.package.version.as_str().to_owned(),
        architecture: candidate.package.architecture.clone(),
        archive: candidate.archive.clone(),
        size: candidate.package.size,
        sha256: candidate.package.sha256.expect("an index has digests"),
        path: candidate.package.filename.clone(),
    }
}

fn is_deb(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"!<arch>\ndebian-binary"))
}
