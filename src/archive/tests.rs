//! The whole chain against a server that lies: each link that breaks is named, and nothing unverified is kept.

mod packages;
mod vendor;

use std::collections::BTreeMap;
use std::path::PathBuf;

use pgp::crypto::hash::HashAlgorithm;

use super::testing::{Answer, Content, DAY, Make, NOW, Server, Signer, archive, impatient};
use super::*;
use crate::lock::LockedPackage;
use crate::report::Style;

const IN_RELEASE: &str = "dists/stable/InRelease";
const PACKAGES: &str = "dists/stable/main/binary-amd64/Packages.xz";

/// An archive `ours` on a server, and a store to load it into.
struct World {
    server: Server,
    signer: Signer,
    store: Store,
    archives: BTreeMap<String, Archive>,
    _directory: tempfile::TempDir,
}

impl World {
    fn new(content: &Content) -> Self {
        let signer = Signer::new(1);
        let server = Server::new(content.signed(&signer));
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let mut ours = archive("ours", &content.suite);
        ours.keyring_bytes = Some(signer.keyring());
        ours.mirror = Some(server.url());
        Self { server, signer, store, archives: BTreeMap::from([("ours".to_owned(), ours)]), _directory: directory }
    }

    fn ours(&mut self) -> &mut Archive {
        self.archives.get_mut("ours").unwrap()
    }

    /// Runs `work` with access to the server; what fails is given back as people read it.
    fn with<T>(&self, offline: bool, work: impl FnOnce(&Access<'_>) -> T) -> T {
        let client = Client::new(impatient());
        let mirrors = Mirrors::new(BTreeMap::new(), Box::new(|_| None), PathBuf::from("/nonexistent"));
        let (store, progress) = (&self.store, &|_| {});
        work(&Access {
            store,
            client: &client,
            mirrors: &mirrors,
            now: NOW,
            offline,
            pinned: Pinned::Nothing,
            progress,
        })
    }

    fn open(&self) -> Result<Loaded, String> {
        self.with(false, |access| open(&self.archives, "amd64", access).map_err(|report| told(&report)))
    }

    fn open_offline(&self) -> Result<Loaded, String> {
        self.with(true, |access| open(&self.archives, "amd64", access).map_err(|report| told(&report)))
    }

    /// Opens, and expects a refusal that says all of `parts`.
    fn refuses(&self, parts: &[&str]) {
        let told = self.open().expect_err(parts[0]);
        for part in parts {
            assert!(told.contains(part), "no `{part}` in:\n{told}");
        }
        assert!(told.contains("[archive.ours]") || told.contains("archive `ours`"), "{told}");
        assert!(self.open_offline().is_err(), "what was refused was kept");
    }

    fn fetch(&self, packages: &[LockedPackage]) -> Result<Fetched, FetchError> {
        self.with(false, |access| fetch(packages, &self.archives, access, 3))
    }
}

fn told(report: &Report) -> String {
    crate::report::render(report, Style::Plain)
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.universe.candidates.iter().map(|candidate| candidate.package.name.as_str()).collect()
}

#[test]
fn an_archive_is_loaded_once_and_then_found_in_the_store() {
    let world = World::new(&Content::default());
    let loaded = world.open().unwrap();
    assert_eq!(names(&loaded), ["hello", "world"]);
    assert_eq!(loaded.universe.candidates[0].archive, "ours");
    let suite = &loaded.archives[0].suites[0];
    assert_eq!((suite.name.as_str(), &suite.signed_by), ("stable", &vec![world.signer.fingerprint()]));
    assert_eq!(world.server.take_requests(), [IN_RELEASE, PACKAGES]);

    assert_eq!(world.open().unwrap().archives, loaded.archives);
    assert_eq!(world.server.take_requests(), [IN_RELEASE]);
    let offline = world.open_offline().unwrap();
    assert_eq!((names(&offline), &offline.archives), (vec!["hello", "world"], &loaded.archives));
    assert!(world.server.take_requests().is_empty());
}

#[test]
fn every_form_of_an_index_is_read() {
    for (forms, asked) in [
        (vec!["", ".gz", ".zst", ".xz"], ".xz"),
        (vec!["", ".gz", ".zst"], ".zst"),
        (vec!["", ".gz"], ".gz"),
        (vec![".gz"], ".gz"),
        (vec![""], ""),
    ] {
        let world = World::new(&Content { forms, ..Content::default() });
        assert_eq!(names(&world.open().unwrap()), ["hello", "world"]);
        assert_eq!(world.server.take_requests()[1], format!("dists/stable/main/binary-amd64/Packages{asked}"));
        assert_eq!(names(&world.open_offline().unwrap()), ["hello", "world"]);
    }
    // A form that is listed but not served is passed over.
    let world = World::new(&Content::default());
    world.server.answer(PACKAGES, Answer::Status(404));
    assert_eq!(names(&world.open().unwrap()), ["hello", "world"]);
}

#[test]
fn indexes_are_taken_by_hash_where_the_archive_has_them() {
    let content = Content::default();
    let fields = format!("{}Acquire-By-Hash: yes\n", content.fields);
    let content = Content { fields, ..content };
    let world = World::new(&content);
    let packed = content.files().remove(PACKAGES).unwrap();
    let by_hash = format!("dists/stable/main/binary-amd64/by-hash/SHA256/{}", Digest::of(&packed));
    // A mirror without the directory still works; one with it need not have the plain name in step.
    world.open().unwrap();
    assert_eq!(world.server.take_requests(), [IN_RELEASE, &by_hash, PACKAGES]);
    let world = World::new(&content);
    world.server.answer(&by_hash, Answer::File(packed));
    world.server.answer(PACKAGES, Answer::File(b"of the next update".to_vec()));
    world.open().unwrap();
}

#[test]
fn packages_of_architecture_all_may_have_an_index_of_their_own() {
    let content = Content { fields: "Architectures: all amd64\nComponents: main\n".to_owned(), ..Content::default() };
    let index = "Package: everywhere\nVersion: 1\nArchitecture: all\nFilename: pool/e.deb\nSize: 1\nSHA256: "
        .to_owned()
        + &Digest::of(b"e").to_string();
    let all = "dists/stable/main/binary-all/Packages";
    let row = format!(" {} {} main/binary-all/Packages\n", Digest::of(index.as_bytes()), index.len());
    for (field, expected) in [
        ("", vec!["hello", "world", "everywhere"]),
        ("No-Support-for-Architecture-all: Packages\n", vec!["hello", "world"]),
    ] {
        let world = World::new(&content);
        let release = content.release().replace("SHA256:\n", &format!("{field}SHA256:\n{row}"));
        world.server.answer(IN_RELEASE, Answer::File(world.signer.clear_sign(&release, NOW - DAY)));
        world.server.answer(all, Answer::File(index.clone().into_bytes()));
        assert_eq!(names(&world.open().unwrap()), expected);
    }
}

#[test]
fn a_release_that_does_not_verify_is_refused() {
    let content = Content::default();
    let world = World::new(&content);
    let release = content.release();
    let when = NOW - DAY;
    let served = |bytes: Vec<u8>, parts: &[&str]| {
        world.server.answer(IN_RELEASE, Answer::File(bytes));
        world.refuses(parts);
    };
    let good = world.signer.clear_sign(&release, when);
    let altered = String::from_utf8(good.clone()).unwrap().replace("Components: main", "Components: evil");
    served(altered.into_bytes(), &["no signature on it is good", "was altered", "images/keyrings/ours.pgp"]);
    served(good[..good.len() / 2].to_vec(), &["it was cut"]);
    served(Signer::new(2).clear_sign(&release, when), &["not in the keyring", &Signer::new(2).fingerprint()]);
    served(release.clone().into_bytes(), &["does not begin with"]);
    served(Vec::new(), &["does not begin with"]);
    let expired = Signer::make(&Make { seed: 1, lives: 10, ..Make::default() });
    let mut dead = World::new(&content);
    dead.ours().keyring_bytes = Some(expired.keyring());
    dead.refuses(&["its key may not vouch", "it expired on 2024-"]);
    // The right key, but another suite, another day.
    let other = Content { suite: "unstable".to_owned(), ..content.clone() };
    served(world.signer.clear_sign(&other.release(), when), &["another suite", "`unstable`"]);
    let future = Content { date: "Mon, 08 Sep 2025 11:30:24 UTC".to_owned(), ..content.clone() };
    served(world.signer.clear_sign(&future.release(), when), &["in the future", "clock"]);
    served(world.signer.clear_sign("Suite: stable\n", when), &["no `Date`"]);
    let weak = release.replace("SHA256:", "SHA1:");
    served(world.signer.clear_sign(&weak, when), &["no `SHA256` table"]);
}

#[test]
fn weak_digests_of_a_signature_are_refused() {
    let content = Content::default();
    let mut world = World::new(&content);
    let rsa = Signer::make(&Make { kind: pgp::composed::KeyType::Rsa(2048), ..Make::default() });
    world.ours().keyring_bytes = Some(rsa.keyring());
    let weak = rsa.clear_sign_with(&content.release(), HashAlgorithm::Sha1, NOW - DAY, |_| {});
    world.server.answer(IN_RELEASE, Answer::File(weak));
    world.refuses(&["its digest SHA1 is too weak"]);
}

#[test]
fn an_expired_release_needs_a_word_from_the_user() {
    let content = Content::default();
    let fields = format!("{}Valid-Until: Fri, 05 Sep 2025 11:30:24 UTC\n", content.fields);
    let content = Content { fields, ..content };
    let mut world = World::new(&content);
    world.refuses(&["its validity ended on 2025-09-05 11:30:24 UTC", "allow-expired = true"]);
    world.ours().allow_expired = true;
    assert_eq!(names(&world.open().unwrap()), ["hello", "world"]);
}

#[test]
fn a_release_older_than_the_last_is_told() {
    let content = Content::default();
    let world = World::new(&content);
    assert!(world.open().unwrap().warnings.diagnostics.is_empty());
    let older = Content { date: "Thu, 04 Sep 2025 10:00:00 UTC".to_owned(), ..content };
    world.server.answer(IN_RELEASE, Answer::File(world.signer.clear_sign(&older.release(), NOW - DAY)));
    let warnings = told(&world.open().unwrap().warnings);
    assert!(warnings.contains("older than the one seen before") && warnings.contains("2025-09-04"), "{warnings}");
}

#[test]
fn a_detached_signature_will_do() {
    let content = Content::default();
    let world = World::new(&content);
    let release = content.release().into_bytes();
    world.server.answer(IN_RELEASE, Answer::Status(404));
    world.refuses(&["dists/stable/InRelease` is not there"]);
    world.server.answer("dists/stable/Release", Answer::File(release.clone()));
    world.server.answer("dists/stable/Release.gpg", Answer::File(world.signer.detached(b"other", NOW - DAY)));
    world.refuses(&["was altered"]);
    world.server.answer("dists/stable/Release.gpg", Answer::File(world.signer.detached(&release, NOW - DAY)));
    let loaded = world.open().unwrap();
    assert_eq!(loaded.archives[0].suites[0].release, Digest::of(&release));
    assert_eq!(names(&world.open_offline().unwrap()), ["hello", "world"]);
}

#[test]
fn an_index_that_the_release_does_not_vouch_for_is_refused() {
    let content = Content::default();
    let packed = content.files().remove(PACKAGES).unwrap();
    let mut altered = packed.clone();
    altered[packed.len() / 2] ^= 1;
    let longer = [packed.clone(), b"x".to_vec()].concat();
    for (answer, parts) in [
        (Answer::File(altered), ["is not the one that the signed Release vouches for", "expected:"]),
        (Answer::File(longer), ["is not the one that the signed Release vouches for", "got:      more than"]),
        (Answer::Breaking(packed[..50].to_vec(), 50), ["ended after 50 bytes", "try again"]),
        (Answer::Endless, ["is not the one that the signed Release vouches for", "got:      more than"]),
        (Answer::Page, ["a web page instead of a file", "captive portal"]),
        // Twice as many bytes as one answer brings: the second attempt went on after the first.
        (Answer::Stalling(packed.clone(), 20), ["stalled after 40 bytes", "try again"]),
        (Answer::Dripping(packed.clone()), ["stalled after", "timeout: per call"]),
        (Answer::Redirect(PACKAGES.to_owned()), ["redirected more than", "Packages.xz"]),
        (Answer::Status(500), ["status 500", "try again"]),
        (Answer::Status(403), ["status 403", "credentials"]),
    ] {
        let world = World::new(&content);
        world.server.answer(PACKAGES, answer);
        let blame = ["the mirror is `http://127.0.0.1:", "the image file (images/test.toml:1:1)"];
        world.refuses(&[parts, blame].concat());
    }
    // What unpacks to something else than the Release says is no better.
    let world = World::new(&content);
    let plain = Digest::of(content.index().as_bytes()).to_string();
    let release = content.release().replace(&plain, &Digest::of(b"").to_string());
    world.server.answer(IN_RELEASE, Answer::File(world.signer.clear_sign(&release, NOW - DAY)));
    world.refuses(&["is not the one that the signed Release vouches for"]);
}

#[test]
fn what_an_archive_does_not_offer_is_told_at_the_line_that_wants_it() {
    let mut world = World::new(&Content::default());
    world.ours().components = vec!["universe".to_owned()];
    world.refuses(&["offers no component `universe` for `amd64`", "its components: main", "images/test.toml:1:1"]);
    world.ours().keyring_bytes = None;
    world.refuses(&["the keyring `images/keyrings/ours.pgp` of archive `ours` is not there"]);
    world.ours().keyring_bytes = Some(b"<html>".to_vec());
    world.refuses(&["no OpenPGP certificate in it"]);
}

#[test]
fn a_mirror_that_is_down_is_told_with_the_ways_to_name_another() {
    let mut world = World::new(&Content::default());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.ours().mirror = Some(format!("http://user:secret@{closed}/debian"));
    let error = world.open().unwrap_err();
    assert!(
        error.contains("cannot reach") && error.contains("http_proxy") && error.contains("--mirror ours=URL"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
    world.ours().mirror = None;
    world.refuses(&["no mirror of archive `ours`", "--mirror ours=URL", "ROLECAST_MIRROR_OURS", "mirror = \"URL\""]);
}

#[test]
fn the_hosts_apt_sources_are_tried_until_one_verifies() {
    let content = Content::default();
    let mut world = World::new(&content);
    world.ours().mirror = None;
    let foreign = Server::new(content.signed(&Signer::new(2)));
    let directory = tempfile::tempdir().unwrap();
    let list = format!("deb {} stable main\ndeb {} sid main\n", foreign.url(), world.server.url());
    std::fs::write(directory.path().join("sources.list"), list).unwrap();
    let client = Client::new(impatient());
    let mirrors = Mirrors::new(BTreeMap::new(), Box::new(|_| None), directory.path().to_owned());
    let (store, progress) = (&world.store, &|_| {});
    let access = Access {
        store,
        client: &client,
        mirrors: &mirrors,
        now: NOW,
        offline: false,
        pinned: Pinned::Nothing,
        progress,
    };
    let loaded = open(&world.archives, "amd64", &access).map_err(|report| told(&report)).unwrap();
    assert_eq!(names(&loaded), ["hello", "world"]);
    assert_eq!(foreign.take_requests(), [IN_RELEASE]);
    // The mirror that was found serves the .debs too, and is not looked for again.
    world.server.take_requests();
    fetch(&packages::lock(&content), &world.archives, &access, 1).unwrap();
    assert_eq!(world.server.take_requests(), ["hello", "world"].map(Content::path_of));
    assert!(foreign.take_requests().is_empty());

    let mut archives = world.archives.clone();
    archives.get_mut("ours").unwrap().keyring_bytes = Some(Signer::new(3).keyring());
    let error = told(&open(&archives, "amd64", &access).unwrap_err());
    for part in ["serves a Release of `stable` that verifies", "tried `http://", "its key is not in the keyring"] {
        assert!(error.contains(part), "no `{part}` in:\n{error}");
    }
    // The right archive at the wrong time is not passed over as if it were another's.
    let late = Access { now: NOW - 30 * DAY, ..access };
    let error = told(&open(&world.archives, "amd64", &late).unwrap_err());
    assert!(error.contains("clock right") && error.contains(&world.server.url()), "{error}");
}
