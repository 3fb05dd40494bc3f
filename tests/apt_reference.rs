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
use std::sync::{Arc, Mutex};

use rolecast::deb::control::Stanzas;
use rolecast::deb::package::Package;
use rolecast::deb::relation::Alternatives;
use rolecast::deb::release::Release;
use rolecast::report::{Source, Span, Style, render};
use rolecast::solve::{Candidate, Chosen, Index, Request, Universe, Want, solve_with};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A wish that apt's command line does not take: alternatives, virtual names. It is the `Depends` of a package of its
/// own, in an archive of the test's own.
struct Wish {
    depends: &'static str,
    /// `-` what only apt takes, `+` what only we take; empty where both agree.
    differs: &'static [&'static str],
}

const fn agreed(depends: &'static str) -> Wish {
    Wish { depends, differs: &[] }
}

const WISHES: [Wish; 12] = [
    agreed("default-mta | mail-transport-agent"),
    agreed("mail-transport-agent"),
    agreed("awk"),
    agreed("awk, gawk"),
    agreed("postfix, default-mta | mail-transport-agent"),
    // apt first takes sendmail, finds that postfix excludes it, and leaves part of what sendmail needed.
    Wish {
        depends: "mail-transport-agent, postfix",
        differs: &[
            "-libgdbm-compat4t64",
            "-libgdbm6t64",
            "-libperl5.40",
            "-make",
            "-perl",
            "-perl-base",
            "-perl-modules-5.40",
        ],
    },
    agreed("default-dbus-session-bus | dbus-session-bus"),
    agreed("httpd"),
    agreed("time-daemon"),
    agreed("www-browser"),
    agreed("python3:any, java-runtime-headless | default-jre-headless"),
    agreed("libpam-systemd, default-logind | logind, dbus-session-bus"),
];

/// apt in a directory of its own.
struct Apt {
    place: PathBuf,
}

/// The archive as both sides see it.
struct Archive {
    apt: Apt,
    text: String,
    universe: Universe,
}

/// One archive for all tests, one test at a time: apt's idea of what is installed is a file.
static ARCHIVE: Mutex<Option<Archive>> = Mutex::new(None);

fn with_archive(test: impl FnOnce(&Archive)) {
    let mut archive = ARCHIVE.lock().expect("no test has failed");
    test(archive.get_or_insert_with(|| {
        let apt = Apt::new();
        let text = apt.packages();
        let universe = read(&text);
        assert!(universe.candidates.len() > 50_000, "{} packages in main", universe.candidates.len());
        Archive { apt, text, universe }
    }));
}

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
        // Kept between runs, so that apt asks only whether anything changed.
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("apt-reference");
        for directory in
            ["etc/preferences.d", "etc/apt.conf.d", "state/lists/partial", "cache/archives/partial", "wishes"]
        {
            fs::create_dir_all(place.join(directory)).expect("a directory");
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
            let depends = wish.depends;
            writeln!(wishes, "Package: rolecast-wish-{number}\nVersion: 1\nArchitecture: all\nDepends: {depends}")
                .expect("text");
            writeln!(wishes, "Filename: ./w{number}.deb\nSize: 1\nSHA256: {:064}\n", number).expect("text");
        }
        fs::write(apt.path("wishes/Packages"), wishes).expect("a file");
        apt.configure();
        apt.install_status(&[], "");
        let output = apt.run(&["update"]);
        assert!(output.status.success(), "apt-get update: {}", String::from_utf8_lossy(&output.stderr));
        apt
    }

    /// Of the host's own configuration only what it says of HTTP holds: a proxy.
    fn configure(&self) {
        let at = self.place.display();
        let dump = Command::new("apt-config").arg("dump").output().expect("apt-config runs");
        let dump = String::from_utf8(dump.stdout).expect("UTF-8");
        let http: String = dump.split_inclusive('\n').filter(|line| line.starts_with("Acquire::http")).collect();
        let configuration = format!(
            "Dir \"{at}/\";\nDir::Etc \"etc\";\nDir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
             Dir::State \"state\";\nDir::State::status \"{at}/status\";\nDir::Cache \"cache\";\n\
             APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\nAPT::Sandbox::User \"\";\n\
             Acquire::Languages \"none\";\nDebug::NoLocking \"true\";\n{http}"
        );
        fs::write(self.path("apt.conf"), configuration).expect("a file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", self.path("apt.conf")).env("LC_ALL", "C");
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
    let result = solve_with(index, &request);
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

/// A lowest layer as profiles have it.
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
fn apt_chooses_the_same_for_alternatives_and_virtual_names() {
    with_archive(|archive| {
        let index = Index::new(&archive.universe, "amd64", &BTreeSet::new());
        for (number, wish) in WISHES.iter().enumerate() {
            let name = format!("rolecast-wish-{number}");
            let apt = archive.apt.install(&[&name]);
            let ours = versions(&ours(&index, &[&name], &[], false));
            assert_eq!(differences(&apt, &ours), wish.differs, "{}", wish.depends);
        }
    });
}

#[test]
fn apt_chooses_the_same_for_layers_over_layers() {
    with_archive(|archive| {
        let index = Index::new(&archive.universe, "amd64", &BTreeSet::new());
        let base = ours(&index, &BASE, &[], true);
        let essential = archive.universe.candidates.iter().filter(|candidate| candidate.package.essential);
        let essential: Vec<&str> = essential.map(|candidate| candidate.package.name.as_str()).collect();
        assert!(essential.contains(&"dpkg") && essential.len() > 15, "{essential:?}");
        let apt = archive.apt.install(&[&BASE[..], &essential].concat());
        assert_eq!(differences(&apt, &versions(&base)), [""; 0]);
        archive.apt.install_status(&base, &archive.text);
        for role in [&REGION[..], &RACK] {
            let apt = archive.apt.install(role);
            assert_eq!(differences(&apt, &versions(&ours(&index, role, &base, false))), [""; 0], "{role:?}");
        }
        archive.apt.install_status(&[], "");
    });
}
