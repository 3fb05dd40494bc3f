//! What a mirror or a package does wrong: refused with one clear message, and nothing is left half-written.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::archive::{Archive, DATE};
use crate::support::command::{Outcome, Rolecast, command, run};
use crate::support::deb::{Compression, Entry, PACKED, Package, ar, tarball};
use crate::support::host::World;
use crate::support::project::Project;
use crate::support::server::{Manner, Server};
use crate::support::signing::Key;

use tar::EntryType;

const IMAGE: &str = "images/test.toml";
const LOCK: &str = "images/test.lock";
/// Exit codes: what was written, the world, a signature or digest.
const WRITTEN: i32 = 1;
const WORLD: i32 = 3;
const UNTRUSTED: i32 = 4;

/// A tiny archive behind a server, and a project that wants `one` of it.
struct Site {
    archive: Archive,
    server: Server,
    project: Project,
    _folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut archive = Archive::new(folder.path(), "trixie", 7);
        archive
            .add(&Package::new("one", "1.0").field("Depends", "two (>= 2)"))
            .add(&Package::new("two", "2.0"))
            .add(&Package::new("enemy", "1.0").field("Conflicts", "two"))
            .add(&Package::new("kernel-stub", "1.0"))
            .publish();
        let server = Server::start(folder.path());
        let project = Project::new();
        let url = server.url();
        project
            .write("images/keyrings/test.pgp", archive.key.certificate())
            .write(
                IMAGE,
                format!(
                    "version = \"1\"\n\n[distribution]\nid = \"debian\"\nsuite = \"trixie\"\n\n\
                     [archive.debian]\nsuites = [\"trixie\"]\nkeyring = \"images/keyrings/test.pgp\"\nmirror = \"{url}\"\n\n\
                     [archive.debian-security]\nsuites = [\"trixie\"]\nkeyring = \"images/keyrings/test.pgp\"\n\
                     mirror = \"{url}\"\n\n[role.small]\nformats = [\"tar\"]\n"
                ),
            )
            .write("profiles/small.toml", "description = \"of a test\"\npackages = [\n    \"one\",\n]\n")
            .write("profiles/tools.toml", "packages = [\"kernel-stub\"]\n");
        Self { archive, server, project, _folder: folder }
    }

    fn lock(&self) -> Outcome {
        Rolecast::new(&self.project).run(&["lock", IMAGE])
    }

    fn lock_text(&self) -> String {
        fs::read_to_string(self.project.root().join(LOCK)).expect("a lock")
    }
}

/// The outcome has this exit code and its message these words; no lock was left.
#[track_caller]
fn refused(site: &Site, outcome: &Outcome, code: i32, says: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{outcome}");
    for part in says {
        assert!(outcome.stderr.contains(part), "no `{part}` in:\n{outcome}");
    }
    assert!(!site.project.root().join(LOCK).exists(), "a lock was left");
}

#[test]
fn an_honest_mirror_is_locked_without_its_name() {
    let site = Site::new();
    site.lock().succeeds();
    let lock = site.lock_text();
    assert!(lock.contains("\"one\"") && lock.contains("\"two\""), "{lock}");
    assert!(lock.contains(&site.archive.key.fingerprint()), "{lock}");
    assert!(!lock.contains("127.0.0.1") && !lock.contains("http"), "the lock names a mirror:\n{lock}");
    // A redirect is a mirror's good right.
    let elsewhere = Server::start(site.archive.root());
    let index = "dists/trixie/main/binary-amd64/Packages.xz";
    site.server.behave(index, Manner::Redirect(format!("{}/{index}", elsewhere.url())));
    fs::remove_file(site.project.root().join(LOCK)).expect("just made");
    site.lock().succeeds();
    assert_eq!(site.lock_text(), lock);
}

#[test]
fn unknown_and_unsolvable_wishes_are_told_with_their_line() {
    let mut site = Site::new();
    site.project.write("profiles/small.toml", "packages = [\n    \"one\",\n    \"onne\",\n]\n");
    refused(&site, &site.lock(), WRITTEN, &["onne", "profiles/small.toml:3"]);
    site.project.write("profiles/small.toml", "packages = [\n    \"one\",\n    \"enemy\",\n]\n");
    refused(&site, &site.lock(), WRITTEN, &["enemy", "two", "profiles/small.toml"]);
    site.archive.add(&Package::new("needy", "1.0").field("Depends", "absent (>= 3)")).publish();
    site.project.write("profiles/small.toml", "packages = [\"needy\"]\n");
    refused(&site, &site.lock(), WRITTEN, &["needy", "absent", "profiles/small.toml:1"]);
}

#[test]
fn signatures_that_do_not_vouch_are_refused() {
    let mut site = Site::new();
    site.server.behave("InRelease", Manner::Flipped(200));
    refused(&site, &site.lock(), UNTRUSTED, &["altered", "images/keyrings/test.pgp"]);
    site.server.forgive();

    let own = std::mem::replace(&mut site.archive.key, Key::new(8));
    site.archive.publish();
    refused(&site, &site.lock(), UNTRUSTED, &[&Key::new(8).fingerprint()[24..], "images/keyrings/test.pgp"]);
    site.archive.key = own;

    site.archive.manner.strong_digests = false;
    site.archive.publish();
    refused(&site, &site.lock(), UNTRUSTED, &["SHA256"]);
    site.archive.manner.strong_digests = true;

    site.archive.manner.valid_until = Some(DATE + 86_400);
    site.archive.publish();
    refused(&site, &site.lock(), UNTRUSTED, &["validity ended", "allow-expired"]);
    site.project.replace(IMAGE, "[archive.debian]\n", "[archive.debian]\nallow-expired = true\n");
    site.project.replace(IMAGE, "[archive.debian-security]\n", "[archive.debian-security]\nallow-expired = true\n");
    site.lock().succeeds();
}

#[test]
fn mirrors_that_fail_are_told_as_such() {
    let cases: [(&str, Manner, i32, &[&str]); 6] = [
        ("InRelease", Manner::Closed, WORLD, &["InRelease"]),
        ("InRelease", Manner::Status(503), WORLD, &["503"]),
        ("InRelease", Manner::Status(404), WORLD, &["InRelease"]),
        ("InRelease", Manner::Html, WORLD, &["InRelease", "web page"]),
        ("Packages", Manner::Flipped(20), UNTRUSTED, &["Packages"]),
        ("Packages", Manner::Truncated(20), WORLD, &["Packages"]),
    ];
    for (part, manner, code, says) in cases {
        let site = Site::new();
        eprintln!("{part}: {manner:?}");
        site.server.behave(part, manner);
        refused(&site, &site.lock(), code, says);
        // Nothing that was fetched wrongly stays: the same store works once the mirror does.
        site.server.forgive();
        site.lock().succeeds();
    }
}

#[test]
fn a_slow_mirror_is_waited_for() {
    let site = Site::new();
    site.server.behave("Packages", Manner::Slow(500));
    site.lock().succeeds();
}

#[test]
fn every_compression_of_an_index_is_read() {
    let mut site = Site::new();
    site.lock().succeeds();
    let lock = site.lock_text();
    for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
        for other in [".gz", ".xz", ".zst"] {
            let path = format!("dists/trixie/main/binary-amd64/Packages{other}");
            let _ = fs::remove_file(site.archive.root().join(path));
        }
        site.archive.indexes = vec![compression];
        site.archive.publish();
        let place = tempfile::tempdir().expect("a temporary folder");
        let mut rolecast = Rolecast::new(&site.project);
        rolecast.store = place.path().join("store");
        rolecast.run(&["lock", IMAGE, "--update"]).succeeds();
        let versions =
            |text: &str| text.lines().filter(|line| line.contains("pool/")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(versions(&site.lock_text()), versions(&lock), "{compression:?}");
    }
}

#[test]
fn a_ppa_with_its_own_key_wins_by_priority() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [ubuntu, ppa] = ["ubuntu", "ppa"].map(|name| folder.path().join(name));
    let mut distribution = Archive::new(&ubuntu, "noble", 3);
    for package in [
        Package::new("maas", "2:9.9"),
        Package::new("maas-common", "2:9.9"),
        Package::new("python3", "3.12"),
        Package::new("kernel-stub", "1"),
    ] {
        distribution.add(&package.compressed(Compression::Zstd));
    }
    distribution.publish();
    let mut team = Archive::new(&ppa, "noble", 4);
    for package in [
        Package::new("maas", "1:3.7.0").field("Depends", "maas-common (= 1:3.7.0), python3"),
        Package::new("maas-common", "1:3.7.0"),
    ] {
        team.add(&package.compressed(Compression::Zstd));
    }
    team.publish();
    let project = Project::new();
    let image = "version = \"1\"\n\n[distribution]\nid = \"ubuntu\"\nsuite = \"noble\"\n\n\
                 [archive.ubuntu]\nsuites = [\"noble\"]\ncomponents = [\"main\"]\n\n\
                 [archive.maas]\nsuites = [\"noble\"]\npriority = 700\n\n[role.small]\nformats = [\"tar\"]\n";
    project
        .write(IMAGE, image)
        .write("images/keyrings/ubuntu-archive.pgp", distribution.key.certificate())
        .write("images/keyrings/maas.pgp", team.key.certificate())
        .write("profiles/small.toml", "packages = [\"maas\"]\n")
        .write("profiles/tools.toml", "packages = [\"kernel-stub\"]\n");
    let rolecast = Rolecast::new(&project).mirror("ubuntu", &distribution.url()).mirror("maas", &team.url());
    rolecast.run(&["lock", IMAGE]).succeeds();
    let lock = fs::read_to_string(project.root().join(LOCK)).expect("a lock");
    assert!(lock.contains("maas_3.7.0_all.deb") && lock.contains("maas-common_3.7.0_all.deb"), "{lock}");
    assert!(lock.contains("python3_3.12_all.deb") && !lock.contains("9.9"), "{lock}");
    assert!(lock.contains(&distribution.key.fingerprint()) && lock.contains(&team.key.fingerprint()), "{lock}");
    // The PPA's key vouches for the PPA alone.
    project.write("images/keyrings/maas.pgp", distribution.key.certificate());
    let outcome = rolecast.run(&["lock", IMAGE, "--update"]);
    assert_eq!(outcome.code, Some(UNTRUSTED), "{outcome}");
    assert!(outcome.stderr.contains("maas"), "{outcome}");
}

#[test]
fn a_package_that_is_gone_is_replaced_or_named() {
    let mut site = Site::new();
    site.lock().succeeds();
    let locked = site.lock_text();
    site.archive.drop_package(&Package::new("two", "2.0")).add(&Package::new("two", "2.1")).publish();

    let outcome = Rolecast::new(&site.project).build(IMAGE, &["--locked"]);
    assert!(outcome.stderr.contains("two") && outcome.stderr.contains("2.0"), "{outcome}");
    outcome.fails();
    assert_eq!(site.lock_text(), locked, "`--locked` changed the lock");

    let outcome = site.lock();
    assert!(outcome.stderr.contains("two") || outcome.stdout.contains("two"), "the change is not told\n{outcome}");
    outcome.succeeds();
    let lock = site.lock_text();
    assert!(lock.contains("2.1") && !lock.contains("two_2.0"), "{lock}");
    assert!(lock.contains("one_1.0"), "{lock}");
}

#[test]
fn hostile_packages_are_refused_by_name() {
    let mut world = World::new();
    let outside = tempfile::tempdir().expect("a temporary folder");
    let target = outside.path().join("written");
    for (name, deb) in hostile(&target) {
        world.debian.add_bytes(&Package::new(name, "1.0"), &deb);
    }
    world.debian.publish();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    // The layer under them is built once; the store is shared.
    rolecast.build(IMAGE, &["--format", "tar"]).succeeds();
    let before = fs::read(rolecast.output.join("small/manifest.json")).expect("a build leaves a manifest");
    for (name, _) in hostile(&target) {
        project.write("profiles/small.toml", format!("extends = \"base\"\npackages = [\"{name}\"]\n"));
        let outcome = rolecast.build(IMAGE, &["--format", "tar"]);
        assert!(outcome.stderr.contains(name), "the message does not name the package\n{outcome}");
        assert!(outcome.took.as_secs() < 120, "{outcome}");
        outcome.fails();
        assert!(!target.exists(), "{name} wrote outside of the root");
        let after = fs::read(rolecast.output.join("small/manifest.json")).expect("still there");
        assert_eq!(before, after, "{name}: a refused build touched the outputs");
    }
}

/// Packages that attack who unpacks them; `target` is a path that nobody may write.
fn hostile(target: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let entry = |name: &str, kind, target: &str| Entry {
        name: name.to_owned(),
        kind,
        mode: 0o644,
        owner: (0, 0),
        content: if kind == EntryType::Regular { b"owned\n".to_vec() } else { Vec::new() },
        target: target.to_owned(),
        time: PACKED,
    };
    let up = format!("./{}{}", "../".repeat(40), target.strip_prefix("/").expect("absolute").display());
    let folder = target.parent().expect("in a folder").to_string_lossy().into_owned();
    let packed = |name: &'static str, entries: Vec<Entry>| {
        let package = entries.into_iter().fold(Package::new(name, "1.0"), Package::raw);
        (name, package.compressed(Compression::Zstd).build())
    };
    let control = Package::new("hostile-bomb", "1.0").stanza();
    let control = tarball(&[Entry { content: control.into_bytes(), ..entry("./control", EntryType::Regular, "") }]);
    vec![
        packed("hostile-up", vec![entry(&up, EntryType::Regular, "")]),
        packed(
            "hostile-through",
            vec![entry("./evil", EntryType::Symlink, &folder), entry("./evil/written", EntryType::Regular, "")],
        ),
        packed("hostile-hard-link", vec![entry("./evil", EntryType::Link, "../../../../etc/shadow")]),
        packed("hostile-device", vec![entry("./evil", EntryType::Block, "")]),
        (
            "hostile-bomb",
            ar(&[
                ("debian-binary".to_owned(), b"2.0\n".to_vec()),
                ("control.tar".to_owned(), control),
                ("data.tar.zst".to_owned(), bomb()),
            ]),
        ),
        ("hostile-noise", b"!<arch>\nthis is no archive at all".to_vec()),
    ]
}

/// A tar member that promises and brings 64 GiB of zeros in a few megabytes: frames of zstd repeat.
fn bomb() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").expect("a short path");
    header.set_mode(0o644);
    header.set_size(64 << 30);
    header.set_cksum();
    let mut bytes = Compression::Zstd.compress(header.as_bytes());
    let frame = Compression::Zstd.compress(&vec![0; 64 << 20]);
    for _ in 0..1024 {
        bytes.extend(&frame);
    }
    bytes
}

/// Serves a folder over `https` with a certificate of its own; ends with the value.
struct TlsServer {
    child: Child,
    port: u16,
}

impl TlsServer {
    fn start(folder: &Path, certificate: &Path) -> Self {
        // OpenSSL takes no port of the kernel's choice and tells it: one that was free a moment ago has to do.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let mut server = command("openssl");
        server.args(["s_server", "-WWW", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"]).arg(certificate);
        let child = server.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("openssl");
        let server = Self { child, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "openssl s_server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it was started here");
    }
}

#[test]
fn an_https_mirror_is_believed_by_the_authorities_that_were_named() {
    let site = Site::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let openssl =
        |words: &str| run("openssl", words.replace("AT", &folder.path().to_string_lossy()).split(' ')).succeeds();
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout AT/authority.key -out AT/authority.pem",
    );
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=mirror -CA AT/authority.pem -CAkey AT/authority.key \
         -addext basicConstraints=CA:FALSE -addext subjectAltName=IP:127.0.0.1 -keyout AT/mirror.key -out AT/mirror.pem",
    );
    let own = folder.path().join("own.pem");
    let halves = ["mirror.key", "mirror.pem"].map(|name| fs::read(folder.path().join(name)).expect("just made"));
    fs::write(&own, halves.concat()).expect("a temporary folder");
    let server = TlsServer::start(site.archive.root(), &own);
    let url = format!("https://127.0.0.1:{}", server.port);
    let rolecast = || Rolecast::new(&site.project).mirror("debian", &url).mirror("debian-security", &url);

    let stranger = rolecast().run(&["lock", IMAGE]);
    refused(&site, &stranger, WORLD, &["cannot reach", "certificate", "SSL_CERT_FILE"]);
    let nowhere = rolecast().environment("SSL_CERT_FILE", "/nowhere.pem").run(&["lock", IMAGE]);
    refused(&site, &nowhere, 2, &["SSL_CERT_FILE names no file: /nowhere.pem"]);
    rolecast().environment("SSL_CERT_FILE", folder.path().join("authority.pem")).run(&["lock", IMAGE]).succeeds();
    assert!(site.lock_text().contains("one"), "{}", site.lock_text());
}
