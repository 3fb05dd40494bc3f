//! Making an apt archive: pool, indexes, Release and InRelease, signed with a key of its own. Offline, and the same
//! bytes for the same packages and seed, whatever the day.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rolecast::digest::Digest;

use crate::support::deb::{Compression, Package};
use crate::support::signing::Key;

/// `Date:` of every Release unless asked otherwise: 2025-06-01, after the keys and before any test run.
pub const DATE: i64 = 1_748_736_000;

/// An archive on disk.
pub struct Archive {
    root: PathBuf,
    suite: String,
    architecture: String,
    /// Its key.
    pub key: Key,
    /// What it says of itself, and how it signs; change it before [`Archive::publish`].
    pub manner: Signing,
    packages: BTreeMap<String, Vec<(String, String)>>,
    /// The compressions of its indexes.
    pub indexes: Vec<Compression>,
}

/// How a Release is dated and signed.
#[derive(Clone, Debug)]
pub struct Signing {
    /// `Date:`, seconds since the Epoch.
    pub date: i64,
    /// `Valid-Until:`, seconds since the Epoch.
    pub valid_until: Option<i64>,
    /// List digests as SHA-256; otherwise as MD5 only, as nobody should accept.
    pub strong_digests: bool,
}

impl Archive {
    /// An empty archive in `root` with one suite, signed by the key of `seed`.
    pub fn new(root: &Path, suite: &str, seed: u64) -> Self {
        Self {
            root: root.into(),
            suite: suite.to_owned(),
            architecture: "amd64".to_owned(),
            key: Key::new(seed),
            manner: Signing { date: DATE, valid_until: None, strong_digests: true },
            packages: BTreeMap::from([("main".to_owned(), Vec::new())]),
            indexes: vec![Compression::Xz, Compression::Gzip],
        }
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `file://` URL of its root.
    pub fn url(&self) -> String {
        format!("file://{}", self.root.display())
    }

    /// Puts a package into the component `main`.
    pub fn add(&mut self, package: &Package) -> &mut Self {
        self.add_bytes(package, &package.build())
    }

    /// Puts bytes into the pool as if they were `package`: for damaged .debs that the index vouches for.
    pub fn add_bytes(&mut self, package: &Package, deb: &[u8]) -> &mut Self {
        let file = self.pool_file(package);
        fs::write(&file, deb).expect("a file in the archive");
        self.list(package, deb)
    }

    /// Puts a .deb that lies on the same file system into the pool, without a copy.
    pub fn add_file(&mut self, package: &Package, deb: &Path) -> &mut Self {
        let bytes = fs::read(deb).expect("the .deb is there");
        fs::hard_link(deb, self.pool_file(package)).expect("a link in the archive");
        self.list(package, &bytes)
    }

    /// Path of a package's .deb, its folder made.
    fn pool_file(&self, package: &Package) -> PathBuf {
        let file = self.root.join(pool_path(package));
        fs::create_dir_all(file.parent().expect("a path under the root")).expect("a folder in the archive");
        file
    }

    fn list(&mut self, package: &Package, deb: &[u8]) -> &mut Self {
        let (path, mut stanza) = (pool_path(package), package.stanza());
        let _ = writeln!(stanza, "Filename: {path}\nSize: {}\nSHA256: {}", deb.len(), Digest::of(deb));
        self.packages.get_mut("main").expect("made with the archive").push((path, stanza));
        self
    }

    /// Takes a package out of index and pool, as a mirror does with superseded versions.
    pub fn drop_package(&mut self, package: &Package) -> &mut Self {
        let name = package.file_name();
        for list in self.packages.values_mut() {
            list.retain(|(path, _)| {
                !path.ends_with(&format!("/{name}")) || fs::remove_file(self.root.join(path)).is_err()
            });
        }
        self
    }

    /// Writes the indexes and the signed Release anew.
    pub fn publish(&mut self) -> &mut Self {
        let dists = self.root.join("dists").join(&self.suite);
        let mut files = BTreeMap::new();
        for (component, packages) in &mut self.packages {
            packages.sort();
            let stanzas: Vec<&str> = packages.iter().map(|(_, stanza)| stanza.as_str()).collect();
            let index = stanzas.join("\n");
            let name = format!("{component}/binary-{}/Packages", self.architecture);
            // A Release names the plain index too, although nobody serves it.
            files.insert(name.clone(), (Digest::of(index.as_bytes()), index.len()));
            fs::create_dir_all(dists.join(&name).parent().expect("a path under dists"))
                .expect("a folder in the archive");
            for compression in &self.indexes {
                let bytes = compression.compress(index.as_bytes());
                let name = format!("{name}{}", compression.suffix());
                fs::write(dists.join(&name), &bytes).expect("a file in the archive");
                files.insert(name, (Digest::of(&bytes), bytes.len()));
            }
        }
        let components = self.packages.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
        let mut release = format!(
            "Origin: rolecast tests\nLabel: rolecast tests\nSuite: {suite}\nCodename: {suite}\nDate: {date}\n",
            suite = self.suite,
            date = http_date(self.manner.date)
        );
        if let Some(until) = self.manner.valid_until {
            let _ = writeln!(release, "Valid-Until: {}", http_date(until));
        }
        let _ = writeln!(release, "Architectures: all {}\nComponents: {components}", self.architecture);
        let _ = writeln!(release, "{}:", if self.manner.strong_digests { "SHA256" } else { "MD5Sum" });
        for (name, (digest, size)) in &files {
            let digest = digest.to_string();
            let shown = if self.manner.strong_digests { &digest } else { &digest[..32] };
            let _ = writeln!(release, " {shown} {size} {name}");
        }
        let date = u32::try_from(self.manner.date).expect("a date of this century");
        let signed = self.key.clear_sign(&release, date);
        fs::write(dists.join("Release"), release).expect("a file in the archive");
        fs::write(dists.join("InRelease"), signed).expect("a file in the archive");
        self
    }

    /// Path of the suite's InRelease.
    pub fn in_release(&self) -> PathBuf {
        self.root.join("dists").join(&self.suite).join("InRelease")
    }
}

fn pool_path(package: &Package) -> String {
    let name = package.value("Package");
    format!("pool/main/{}/{name}/{}", &name[..1], package.file_name())
}

/// `Sun, 01 Jun 2025 00:00:00 UTC`, as Release files have it (RFC 7231's form with `UTC`).
fn http_date(seconds: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (mut day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let weekday = DAYS[day.rem_euclid(7) as usize];
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while day >= 365 + i64::from(leap(year)) {
        day -= 365 + i64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {:02} {} {year} {hour:02}:{minute:02}:{second:02} UTC", day + 1, MONTHS[month])
}

#[test]
fn debians_own_tools_accept_what_is_made_here() {
    use crate::support::command::run;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut archive = Archive::new(folder.path(), "trixie", 1);
    for (name, compression) in [
        ("plain", Compression::None),
        ("old", Compression::Gzip),
        ("debian", Compression::Xz),
        ("ubuntu", Compression::Zstd),
    ] {
        let long = format!("usr/share/{name}/{}/file", "long".repeat(30));
        let package = Package::new(name, "1:2.0-1")
            .file("etc/one.conf", "one\n")
            .file(&long, "far down\n")
            .hard_link(&format!("usr/share/{name}/again"), "etc/one.conf")
            .link("usr/bin/link", "../share")
            .control_file("conffiles", "/etc/one.conf\n")
            .compressed(compression);
        archive.add(&package);
        let deb = archive.root().join(pool_path(&package));
        let listed = run("dpkg-deb", ["--contents".as_ref(), deb.as_os_str()]).succeeds();
        assert!(listed.contains(&long) && listed.contains("link to ./etc/one.conf"), "{listed}");
        let control = run("dpkg-deb", ["--field".as_ref(), deb.as_os_str(), "Version".as_ref()]).succeeds();
        assert_eq!(control, "1:2.0-1\n");
    }
    archive.publish();
    let keyring = folder.path().join("keyring.pgp");
    fs::write(&keyring, archive.key.certificate()).expect("a file in the temporary folder");
    let in_release = archive.in_release();
    let checked = run("gpgv", ["--keyring".as_ref(), keyring.as_os_str(), in_release.as_os_str()]);
    assert!(checked.stderr.contains(&archive.key.fingerprint()), "{checked}");
    checked.succeeds();
    assert_eq!(http_date(DATE), "Sun, 01 Jun 2025 00:00:00 UTC");
    assert_eq!(http_date(1_709_208_000), "Thu, 29 Feb 2024 12:00:00 UTC");
}
