//! The solver against apt itself, on the whole of Debian trixie's main, from the mirror of the host's apt sources.
//!
//! Each wish is put to `apt-get -s install --no-install-recommends` and to `rolecast::solve`; the packages and
//! versions must be the same, but for the differences that a case lists with their explanation. Roles are put as they are built:
//! a parent's packages are apt's installed ones. Needs apt, Debian's archive keyring, and the network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use rolecast::deb::control::Stanzas;
use rolecast::deb::package::Package;
use rolecast::deb::relation::Alternatives;
use rolecast::deb::release::Release;
use rolecast::report::{Source, Span, Style, render};
use rolecast::solve::{Candidate, Chosen, Index, Request, Universe, Want, solve_with};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Packages that need a list of alternatives or a virtual name, which apt's command line does not take: each line is
/// the `Depends` of a package of its own, in an archive of the test's own.
const WISHES: [&str; 12] = [
    "default-mta | mail-transport-agent",
    "mail-transport-agent",
    "awk",
    "awk, gawk",
    "postfix, default-mta | mail-transport-agent",
    "mail-transport-agent, postfix",
    "default-dbus-session-bus | dbus-session-bus",
    "httpd",
    "time-daemon",
    "www-browser",
    "python3:any, java-runtime-headless | default-jre-headless",
    "libpam-systemd, default-logind | logind, dbus-session-bus",
];

/// apt in a directory of its own.
struct Apt {
    place: tempfile::TempDir,
}

/// The archive as both sides see it.
struct Archive {
    apt: Apt,
    text: String,
    universe: Universe,
}

static ARCHIVE: LazyLock<Archive> = LazyLock::new(|| {
    let apt = Apt::new();
    let text = apt.packages();
    let universe = read(&text);
    assert!(universe.candidates.len() > 50_000, "{} packages in main", universe.candidates.len());
    Archive { apt, text, universe }
});

fn read(text: &str) -> Universe {
    let candidate = |stanza| Candidate {
        package: Arc::new(Package::parse(stanza).expect("Debian's stanzas are sound")),
        archive: "debian".into(),
        priority: 500,
    };
    Universe { candidates: Stanzas::new(text).map(candidate).collect() }
}

impl Apt {
    fn new() -> Self {
        assert!(Path::new(KEYRING).exists(), "install debian-archive-keyring");
        let place = tempfile::tempdir().expect("a directory");
        for directory in
            ["etc/preferences.d", "etc/apt.conf.d", "state/lists/partial", "cache/archives/partial", "wishes"]
        {
            fs::create_dir_all(place.path().join(directory)).expect("a directory");
        }
        let apt = Self { place };
        let sources = format!(
            "deb [signed-by={KEYRING}] {} trixie main\ndeb [trusted=yes] file:{} ./\n",
            mirror(),
            apt.path("wishes").display()
        );
        fs::write(apt.path("etc/sources.list"), sources).expect("a file");
        let mut wishes = String::new();
        for (number, wish) in WISHES.iter().enumerate() {
            writeln!(wishes, "Package: rolecast-wish-{number}\nVersion: 1\nArchitecture: all\nDepends: {wish}")
                .expect("text");
            writeln!(wishes, "Filename: ./w{number}.deb\nSize: 1\nSHA256: {:064}\n", number).expect("text");
        }
        fs::write(apt.path("wishes/Packages"), wishes).expect("a file");
        apt.install_status(&[], "");
        let output = apt.run(&["update"]);
        assert!(output.status.success(), "apt-get update: {}", String::from_utf8_lossy(&output.stderr));
        apt
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let at = self.place.path().display();
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", "/dev/null").env("LC_ALL", "C");
        for option in [
            format!("Dir={at}"),
            format!("Dir::Etc={at}/etc"),
            format!("Dir::State={at}/state"),
            format!("Dir::State::status={at}/status"),
            format!("Dir::Cache={at}/cache"),
            "APT::Architecture=amd64".into(),
            "APT::Architectures=amd64".into(),
            "APT::Sandbox::User=".into(),
            "APT::Install-Recommends=false".into(),
            "Acquire::Languages=none".into(),
            "Acquire::GzipIndexes=false".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Debug::NoLocking=true".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command.args(arguments).output().expect("apt-get runs")
    }

    /// The Packages of both archives, as apt verified them.
    fn packages(&self) -> String {
        let lists = fs::read_dir(self.path("state/lists")).expect("lists");
        let mut paths: Vec<_> = lists.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        let of = |path: &&PathBuf| path.to_string_lossy().ends_with("Packages");
        let texts = paths.iter().filter(of).map(|path| fs::read_to_string(path).expect("UTF-8"));
        let release =
            paths.iter().find(|path| path.to_string_lossy().ends_with("trixie_InRelease")).expect("InRelease");
        let verified = Command::new("gpgv").args(["--keyring", KEYRING, "--output", "-"]).arg(release).output();
        let release = String::from_utf8(verified.expect("gpgv runs").stdout).expect("UTF-8");
        let release = Release::parse(&release).expect("a Release");
        assert_eq!(release.codename.as_deref(), Some("trixie"));
        assert!(release.files.contains_key("main/binary-amd64/Packages.xz"));
        texts.collect()
    }

    /// Makes apt believe that these are installed.
    fn install_status(&self, installed: &[Chosen], text: &str) {
        let names: BTreeSet<&str> = installed.iter().map(|chosen| chosen.candidate.package.name.as_str()).collect();
        let mut status = String::new();
        for stanza in Stanzas::new(text) {
            if stanza.get("Package").is_some_and(|field| names.contains(field.value)) {
                writeln!(status, "{}\nStatus: install ok installed\n", stanza.text().trim_end()).expect("text");
            }
        }
        fs::write(self.path("status"), status).expect("a file");
    }

    /// What apt would install: name and version.
    fn install(&self, wanted: &[&str]) -> BTreeMap<String, String> {
        let output = self.run(&[&["-s", "install", "--no-install-recommends"], wanted].concat());
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(
            output.status.success(),
            "apt-get install {wanted:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let installed = text.lines().filter_map(|line| line.strip_prefix("Inst "));
        installed
            .filter_map(|line| {
                let (name, rest) = line.split_once(' ')?;
                let version = rest.split_once('(')?.1.split_once(' ')?.0;
                Some((name.to_owned(), version.to_owned()))
            })
            .collect()
    }
}

/// The mirror: as rolecast itself finds it.
fn mirror() -> String {
    if let Ok(mirror) = std::env::var("ROLECAST_MIRROR_DEBIAN") {
        return mirror;
    }
    let output =
        Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output().expect("apt-get runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mirror = text.lines().find(|line| line.trim_end_matches('/').ends_with("/debian"));
    mirror.expect("a Debian mirror in the host's apt sources, or in ROLECAST_MIRROR_DEBIAN").to_owned()
}

fn wants(texts: &[&str]) -> Vec<Want> {
    let source = Arc::new(Source { path: "wishes".into(), text: texts.join("\n") });
    let want = |text: &&str| Want {
        relation: Alternatives::parse(text).expect("a relation"),
        span: Span::new(&source, 0..text.len()),
    };
    texts.iter().map(want).collect()
}

fn ours(index: &Index<'_>, texts: &[&str], fixed: &[Chosen], essential: bool) -> Vec<Chosen> {
    let wants = wants(texts);
    let request = Request { wants: &wants, fixed, recommends: false, essential };
    let start = Instant::now();
    let result = solve_with(index, &request);
    eprintln!("solved in {:?} beside {}: {texts:?}", start.elapsed(), fixed.len());
    result.unwrap_or_else(|report| panic!("{}", render(&report, Style::Plain))).chosen
}

fn versions(chosen: &[Chosen]) -> BTreeMap<String, String> {
    chosen
        .iter()
        .map(|chosen| {
            let package = &chosen.candidate.package;
            (package.name.clone(), package.version.to_string())
        })
        .collect()
}

/// What stands on one side only, `-` apt's and `+` ours.
fn differences(apt: &BTreeMap<String, String>, ours: &BTreeMap<String, String>) -> Vec<String> {
    let only = |sign: &str, one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| -> Vec<String> {
        let missing = one.iter().filter(|(name, version)| other.get(*name) != Some(version));
        missing.map(|(name, _)| format!("{sign}{name}")).collect()
    };
    [only("-", apt, ours), only("+", ours, apt)].concat()
}

const BASE: [&str; 14] = [
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "linux-image-cloud-amd64",
    "chrony",
    "cloud-init",
    "openssh-server",
    "nftables",
    "iproute2",
    "ca-certificates",
    "locales",
    "netbase",
    "python3",
];

const REGION: [&str; 8] =
    ["postgresql-17", "patroni", "python3-etcd", "etcd-server", "etcd-client", "haproxy", "keepalived", "bind9"];

const RACK: [&str; 6] = ["isc-dhcp-server", "ipmitool", "freeipmi-tools", "tftpd-hpa", "nginx-light", "etcd-server"];

#[test]
fn all() {
    let archive = &*ARCHIVE;
    let start = Instant::now();
    let index = Index::new(&archive.universe, "amd64", &BTreeSet::new());
    eprintln!("index in {:?}", start.elapsed());
    for number in 0..WISHES.len() {
        let name = format!("rolecast-wish-{number}");
        let apt = archive.apt.install(&[&name]);
        let ours = versions(&ours(&index, &[&name], &[], false));
        eprintln!("{:?} {} {:?}", WISHES[number], apt.len(), differences(&apt, &ours));
    }
    for set in [&BASE[..], &REGION, &RACK] {
        let apt = archive.apt.install(set);
        let ours = versions(&ours(&index, set, &[], false));
        eprintln!("{:?} {} {:?}", set, apt.len(), differences(&apt, &ours));
        for one in set {
            let apt = archive.apt.install(&[one]);
            let ours = versions(&self::ours(&index, &[one], &[], false));
            eprintln!("{:?} {} {:?}", one, apt.len(), differences(&apt, &ours));
        }
    }
}
