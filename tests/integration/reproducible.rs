//! The same bytes on any machine: what `builds` does not vary already (user, directory, locale, time zone, umask, jobs,
//! being killed), and the images of `images/ha-lab.toml` rebuilt from nothing. Needs root.

use std::fs;
use std::path::{Path, PathBuf};

use super::builds::{Tmpfs, assert_undisturbed, manifest, undisturbed};
use crate::support::command::{Outcome, run};
use crate::support::host::World;
use crate::support::images::{self, ROLES, onto_disk, outputs};
use crate::support::machine::Machine;
use crate::support::namespace::Namespace;
use crate::support::server::Server;
use crate::support::turn;

const IMAGE: &str = "images/test.toml";

/// Where that clock stands: a decade on, after every date in the tests' archives.
const YEARS_AHEAD: &str = "2037-02-28T23:59:00";

#[test]
fn neither_host_name_nor_mirror_nor_processors_nor_a_warm_store_reach_a_byte() {
    let world = World::new();
    let project = world.project();
    let servers = [("debian", &world.debian), ("debian-security", &world.security)]
        .map(|(name, archive)| (name, Server::start(archive.root())));
    let other = "hostname another.example.test; exec \"$@\"";
    let mut rolecast =
        world.rolecast(&project).under(["unshare", "--uts", "sh", "-c", other, "sh", "taskset", "--cpu-list", "0"]);
    for (name, server) in &servers {
        rolecast = rolecast.mirror(name, &server.url());
    }
    rolecast.build(IMAGE, &["--jobs", "5"]).succeeds();
    assert_undisturbed(&rolecast.output);
    // A store that made something else meanwhile: what it takes up again is what it would make.
    let motd = fs::read(project.root().join("overlays/base/etc/motd.tera")).expect("a file of the project");
    project.write("overlays/base/etc/motd.tera", "something else\n").write("overlays/base/etc/extra", "more\n");
    rolecast.build(IMAGE, &[]).succeeds();
    assert_ne!(manifest(&rolecast.output), undisturbed());
    project.write("overlays/base/etc/motd.tera", motd);
    fs::remove_file(project.root().join("overlays/base/etc/extra")).expect("just written");
    fs::remove_dir_all(&rolecast.output).expect("just built");
    rolecast.build(IMAGE, &[]).succeeds();
    assert_undisturbed(&rolecast.output);
}

/// Directories list their names in the order in which a file system likes them: a memory file system in that of their
/// making, ext4 in that of a hash.
#[test]
fn the_order_of_a_file_system_reaches_no_byte() {
    let world = World::new();
    let project = world.project();
    let place = project.root().with_file_name("memory");
    let _mounted = Tmpfs::new(&place, "size=3g");
    let copy = place.join("project");
    let mut paths = files(project.root());
    paths.reverse();
    for path in &paths {
        let to = copy.join(path.strip_prefix(project.root()).expect("found there"));
        fs::create_dir_all(to.parent().expect("a file has a parent")).expect("room in memory");
        fs::copy(path, to).expect("room in memory");
    }
    let listed = |directory: &Path| -> Vec<_> {
        fs::read_dir(directory.join("profiles"))
            .expect("it is there")
            .flatten()
            .map(|entry| entry.file_name())
            .collect()
    };
    assert_ne!(listed(project.root()), listed(&copy), "both list alike: nothing is tested");
    let mut rolecast = crate::support::command::Rolecast::at(&copy, &place.join("store"), &place.join("out"));
    for (name, archive) in [("debian", &world.debian), ("debian-security", &world.security)] {
        rolecast = rolecast.mirror(name, &archive.url());
    }
    rolecast.build(IMAGE, &[]).succeeds();
    assert_undisturbed(&rolecast.output);
}

/// The tool that the field compares builds with, on two that share neither project nor store nor output. It looks into
/// archives and at texts, and stops at equal bytes.
#[test]
fn diffoscope_finds_nothing_between_two_builds() {
    let world = World::new();
    let built = [(), ()].map(|()| {
        let project = world.project();
        let rolecast = world.rolecast(&project);
        rolecast.build(IMAGE, &["--format", "tar"]).succeeds();
        (project, rolecast.output.join("small"))
    });
    let compare = |one: &Path, two: &Path| {
        // When files were written on this machine is no part of them.
        let words = ["--no-progress", "--exclude-directory-metadata=recursive", "--text", "-"].map(AsRef::as_ref);
        run("diffoscope", words.into_iter().chain([one.as_os_str(), two.as_os_str()]))
    };
    let [(_first, one), (_second, two)] = &built;
    assert!(one.join("small.tar.gz").is_file(), "no tarball in {}", one.display());
    let told = compare(one, two);
    eprintln!("diffoscope, two builds: {:.1} s", told.took.as_secs_f64());
    assert_eq!(told.succeeds(), "");
    // And it does find what differs.
    let list = two.join("SHA256SUMS");
    let text = fs::read_to_string(&list).expect("it was built");
    fs::write(&list, text.replacen("small.tar.gz", "other.tar.gz", 1)).expect("it was built");
    let told = compare(one, two);
    assert!(told.code == Some(1) && told.stdout.contains("other.tar.gz"), "{told}");
}

/// Every file below `directory`, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let found = run("find", [directory.as_os_str(), "-type".as_ref(), "f".as_ref()]).succeeds();
    let mut found: Vec<PathBuf> = found.lines().map(PathBuf::from).collect();
    found.sort();
    found
}

/// No name space has a real-time clock of its own, and a static program takes no preloaded library. So the build runs
/// on a machine whose clock is years ahead: another kernel, other processors, memory, file system and host name too.
#[test]
#[ignore = "seven minutes of a processor: tests/run --test integration -- --ignored reproducible::"]
fn a_machine_whose_clock_is_years_ahead_makes_the_same_bytes() {
    let _turn = turn::beside_another();
    let world = World::new();
    let project = world.project();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).expect("a folder in the temporary folder");
    let programs = ["rolecast", "rolecast-join"];
    for program in programs {
        let built = Path::new(env!("CARGO_BIN_EXE_rolecast")).with_file_name(program);
        fs::copy(built, tree.join(program)).expect("the programs were built");
    }
    for (from, to) in
        [(world.debian.root(), "debian"), (world.security.root(), "debian-security"), (project.root(), "project")]
    {
        let to = tree.join(to);
        run("cp", ["--recursive".as_ref(), from.as_os_str(), to.as_os_str()]).succeeds();
    }
    let disk = folder.path().join("world.raw");
    let words = ["-q", "-L", "world", "-E", "lazy_itable_init=1", "-d"].map(AsRef::as_ref);
    let more = [tree.as_os_str(), disk.as_os_str(), "3G".as_ref()];
    run("mkfs.ext4", words.into_iter().chain(more)).succeeds();

    let script = "\
section() { echo \"@@ $1\"; }
section state
section clock; date --utc +%Y
mkdir /run/world && mount /dev/vdb /run/world && cd /run/world/project
section build
export HOME=/run/world NO_COLOR=1 ROLECAST_STORE=/run/world/store
../rolecast build images/test.toml --output /run/world/out \
    --mirror debian=file:///run/world/debian --mirror debian-security=file:///run/world/debian-security
echo exit code $?
section manifest; cat /run/world/out/small/manifest.json
section end
";
    let root = onto_disk(&outputs("rack").disk(), folder.path(), 8 << 30);
    let report = Machine::from_disk(&root).running(script, &disk, YEARS_AHEAD).report(&Namespace::new());
    eprintln!("a build on a machine of {}: {:.0} CPU s to boot", YEARS_AHEAD, report.processor_seconds);
    assert_eq!(report.section("clock").trim(), "2037", "the clock was not ahead");
    assert!(report.section("build").contains("exit code 0"), "{}", report.section("build"));
    let made = report.section("manifest");
    let differing: Vec<_> =
        made.lines().zip(undisturbed().lines()).filter(|(made, expected)| made != expected).collect();
    assert!(differing.is_empty() && made.len() == undisturbed().len(), "lines of the manifest differ: {differing:#?}");
}

/// Beside the tests: where the sources ask for the time at all.
#[test]
fn no_clock_is_read_where_bytes_are_made() {
    /// Expiry of Releases; ages in the store; how long a run or a step took; how long an answer may take; the date that S3
    /// wants in a request's signature.
    const MAY: [&str; 11] = [
        "archive/",
        "store/",
        "cli/",
        "join/",
        "lab/",
        "seed/",
        "sys/",
        "bin/",
        "layer/tests/",
        "relay/",
        "remote/bucket.rs",
    ];
    let mut asking = Vec::new();
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let name = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("found there");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let asks = ["SystemTime", "UNIX_EPOCH", "clock_gettime", "Instant::"].iter().any(|word| text.contains(word));
        if asks && !MAY.iter().any(|place| name.to_string_lossy().starts_with(place)) {
            asking.push(name.to_owned());
        }
    }
    assert!(asking.is_empty(), "these ask for the time: {asking:?}");
}

#[test]
#[ignore = "builds all images twice: tests/run --test integration -- --ignored reproducible::"]
fn every_role_and_format_of_the_lab_is_rebuilt_from_nothing_byte_for_byte() {
    let made = outputs(ROLES[0]).disk();
    assert!(made.is_file(), "no {}", made.display());
    let (_project, rolecast) = images::rolecast();
    let against = rolecast.output.to_string_lossy().into_owned();
    // One after another: what a role is rebuilt in is gone before the next, and three at once want 4 GB of disk.
    for role in ROLES {
        let outcome = rolecast.run(&["verify", "images/ha-lab.toml", "--against", &against, "--role", role]);
        tell(role, &outcome);
        let text = outcome.succeeds();
        for file in [
            format!("= {role}.raw"),
            format!("= {role}.tar.gz"),
            format!("= {role}.netboot/"),
            format!("= {role}.update/"),
        ] {
            assert!(text.contains(&file), "no `{file}` in:\n{text}");
        }
    }
    let against = rolecast.output.join("qcow2").to_string_lossy().into_owned();
    let outcome = rolecast.run(&["verify", "images/ha-lab.toml", "--against", &against]);
    tell("qcow2", &outcome);
    assert!(outcome.succeeds().contains(".qcow2"));
}

fn tell(what: &str, outcome: &Outcome) {
    eprintln!("verify, {what}: {:.0} s\n{}", outcome.took.as_secs_f64(), outcome.stdout);
}
