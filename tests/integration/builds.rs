//! Whole builds of the small world: the same bytes whatever happens around and during a build. Offline; needs root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rolecast::digest::Digest;

use crate::support::command::run;
use crate::support::deb::Package;
use crate::support::host::World;
use crate::support::outputs::Outputs;
use crate::support::server::Server;

const IMAGE: &str = "images/test.toml";
const ROLE: &str = "small";

#[test]
fn a_build_makes_every_format_and_a_manifest_that_tells_the_truth() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    let outcome = rolecast.build(IMAGE, &[]);
    eprintln!("small build: {:.1} s", outcome.took.as_secs_f64());
    outcome.succeeds();
    let outputs = Outputs::new(&rolecast.output, ROLE);
    assert_manifest_is_true(&rolecast.output);
    for path in [outputs.disk(), outputs.qcow2(), outputs.netboot_root(), outputs.tarball()] {
        assert!(path.is_file(), "no {}", path.display());
    }
    let names = listed(&outputs.tarball());
    for name in ["etc/motd", "usr/local/bin/hello", "usr/bin/dpkg", "var/lib/dpkg/status"] {
        assert!(names.contains_key(name), "no {name} in the tarball");
    }
    assert!(names["usr/local/bin/hello"].starts_with("-rwxr-xr-x 0/0"), "{}", names["usr/local/bin/hello"]);
}

#[test]
fn neither_place_nor_locale_nor_umask_nor_jobs_reach_a_byte() {
    let world = World::new();
    let project = world.project();
    let rolecast = world
        .rolecast(&project)
        .under(["sh", "-c", "umask 077; exec \"$@\"", "sh"])
        .environment("TZ", "Asia/Tokyo")
        .environment("LC_ALL", "de_DE.UTF-8")
        .environment("HOME", "/nonexistent");
    rolecast.build(IMAGE, &["--jobs", "1"]).succeeds();
    assert_undisturbed(&rolecast.output);
}

#[test]
fn a_second_build_has_nothing_to_do() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    rolecast.build(IMAGE, &[]).succeeds();
    let disk = Outputs::new(&rolecast.output, ROLE).disk();
    let written = fs::metadata(&disk).and_then(|metadata| metadata.modified()).expect("just built");
    let outcome = rolecast.build(IMAGE, &[]);
    eprintln!("nothing changed: {:.2} s", outcome.took.as_secs_f64());
    outcome.succeeds();
    let still = fs::metadata(&disk).and_then(|metadata| metadata.modified()).expect("still there");
    assert_eq!(written, still, "the disk image was written again");

    project.write("overlays/base/etc/issue.net", "one changed overlay file\n");
    let outcome = rolecast.build(IMAGE, &["--format", "disk"]);
    eprintln!("one overlay file changed, one disk: {:.2} s", outcome.took.as_secs_f64());
    outcome.succeeds();
    assert_manifest_is_true(&rolecast.output);
    assert_ne!(manifest(&rolecast.output), undisturbed());
}

/// Once the manifest beside it answered for it, and the exit code was 0.
#[test]
fn an_image_that_is_not_there_is_not_inspected() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    rolecast.build(IMAGE, &["--format", "disk"]).succeeds();
    let missing = Outputs::new(&rolecast.output, ROLE).disk().with_file_name("none.raw");
    let outcome = rolecast.run(&["inspect", &missing.to_string_lossy()]);
    assert_eq!(outcome.code, Some(2), "{outcome}");
    assert!(outcome.stderr.contains("there is no image"), "{outcome}");
}

// The name was not in the key of the layer's step: its files kept the old one as their origin.
#[test]
fn a_renamed_profile_is_the_origin_of_what_it_brings() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    let origin = |layer: &str| {
        rolecast.build(IMAGE, &["--format", "disk"]).succeeds();
        let disk = Outputs::new(&rolecast.output, ROLE).disk().to_string_lossy().into_owned();
        for path in ["/usr/bin/dpkg", "/usr/local/bin/hello"] {
            let told = rolecast.run(&["inspect", &disk, path]).succeeds();
            assert!(told.contains(&format!("(layer {layer})")), "{told}");
        }
    };
    origin("base");
    let profiles = project.root().join("profiles");
    fs::rename(profiles.join("base.toml"), profiles.join("floor.toml")).expect("a profile of the project");
    project.replace("profiles/small.toml", "\"base\"", "\"floor\"");
    origin("floor");
}

/// An update's files bear identifiers of the root in their names. Once they stayed when the next build made others.
#[test]
fn an_update_that_was_built_anew_takes_the_place_of_the_former() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    let mut builds = Vec::new();
    for text in ["one\n", "another\n"] {
        project.write("overlays/base/etc/issue.net", text);
        rolecast.build(IMAGE, &["--format", "update", "--format", "tar"]).succeeds();
        let folder = rolecast.output.join(ROLE).join(format!("{ROLE}.update"));
        let entries = fs::read_dir(folder).expect("just built");
        let files: BTreeSet<String> =
            entries.map(|entry| format!("{ROLE}.update/{}", entry.expect("ours").file_name().display())).collect();
        let manifest = Outputs::new(&rolecast.output, ROLE).manifest();
        let outputs = manifest["outputs"].as_array().expect("a list of outputs");
        let named = outputs.iter().map(|output| output["file"].as_str().expect("a path").to_owned());
        assert_eq!(files, named.filter(|file| file.contains(".update/")).collect());
        builds.push(files);
    }
    assert_ne!(builds[0], builds[1], "the names are those of one root, so nothing was tried");
    rolecast.build(IMAGE, &["--format", "update"]).succeeds();
    assert!(
        Outputs::new(&rolecast.output, ROLE).tarball().is_file(),
        "a format that was not built again was taken away"
    );
}

/// Some formats of a role whose formats are all kept are written, not pressed: and are what they are when built alone.
#[test]
fn some_formats_of_a_built_role_are_written_from_what_was_kept() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    rolecast.build(IMAGE, &[]).succeeds();
    let built = |formats: &[&str]| {
        let _ = fs::remove_dir_all(&rolecast.output);
        let mut words = vec!["--locked", "--json"];
        words.extend(formats.iter().flat_map(|format| ["--format", *format]));
        rolecast.build(IMAGE, &words).succeeds();
        let listed = fs::read_to_string(rolecast.output.join(ROLE).join("SHA256SUMS")).expect("a build leaves a list");
        (listed, Outputs::new(&rolecast.output, ROLE).manifest())
    };
    let recipes = rolecast.store.join("results/role.recipes");
    let count = || fs::read_dir(&recipes).expect("recipes are kept").count();
    for formats in [&["disk"][..], &["tar"], &["netboot"], &["tar", "disk"], &["qcow2", "netboot"]] {
        let before = count();
        let written = built(formats);
        assert_eq!(count(), before, "{formats:?} was pressed");
        let aside = recipes.with_extension("aside");
        fs::rename(&recipes, &aside).expect("ours");
        let pressed = built(formats);
        assert_eq!(written, pressed, "{formats:?}");
        fs::remove_dir_all(&recipes).expect("ours");
        fs::rename(&aside, &recipes).expect("ours");
    }
}

#[test]
fn a_build_killed_at_any_moment_is_finished_by_the_next() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    let output = rolecast.output.to_string_lossy().into_owned();
    let mut delay = Duration::from_millis(10);
    let mut kills = 0;
    loop {
        let mut started = rolecast.start(&["build", IMAGE, "--output", &output]);
        std::thread::sleep(delay);
        if started.has_ended() {
            started.wait().succeeds();
            break;
        }
        started.kill();
        kills += 1;
        delay = delay * 3 / 2;
    }
    eprintln!("killed {kills} times, the last after {:.1} s", (delay * 2 / 3).as_secs_f64());
    assert!(kills > 3, "the build was too quick to be killed");
    assert_manifest_is_true(&rolecast.output);
    assert_undisturbed(&rolecast.output);
    assert_no_leftovers(&rolecast.output);
}

#[test]
fn two_builds_at_once_share_a_store() {
    let world = World::new();
    let project = world.project();
    let first = world.rolecast(&project);
    let mut second = first.clone();
    second.output = first.output.with_file_name("other");
    let started = [&first, &second]
        .map(|rolecast| rolecast.start(&["build", IMAGE, "--output", &rolecast.output.to_string_lossy()]));
    for outcome in started.map(crate::support::command::Started::wait) {
        outcome.succeeds();
    }
    for rolecast in [&first, &second] {
        assert_manifest_is_true(&rolecast.output);
        assert_undisturbed(&rolecast.output);
    }
}

#[test]
fn a_full_disk_is_told_and_the_store_stays_usable() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    // Enough for the packages, too little for their files.
    let mounted = Tmpfs::new(&rolecast.store, "size=48m,mode=0755");
    let error = rolecast.build(IMAGE, &[]).fails();
    assert!(error.contains("no space left on device"), "{error}");
    assert!(error.contains("[STORE]") && error.contains("free space"), "{error}");
    assert!(!rolecast.output.join(ROLE).join("manifest.json").exists());
    mounted.remount("size=2g");
    rolecast.build(IMAGE, &[]).succeeds();
    assert_undisturbed(&rolecast.output);
}

#[test]
fn a_place_that_takes_no_files_is_told() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    let _mounted = Tmpfs::new(&rolecast.output, "ro");
    let error = rolecast.build(IMAGE, &[]).fails();
    assert!(error.contains("read-only file system") && error.contains("[OUTPUT]"), "{error}");
    assert!(error.contains("--output") || error.contains("can be written"), "{error}");
}

#[test]
fn a_failing_maintainer_script_shows_what_it_said() {
    let mut world = World::new();
    let script = "#!/bin/sh\necho looking around\necho 'no flux capacitor' >&2\nexit 3\n";
    world.debian.add(&Package::new("delorean", "1.21").script("postinst", script)).publish();
    let project = world.project();
    project.write("profiles/small.toml", "extends = \"base\"\npackages = [\"delorean\"]\n");
    let rolecast = world.rolecast(&project);
    let error = rolecast.build(IMAGE, &[]).fails();
    for part in ["delorean", "no flux capacitor", "postinst"] {
        assert!(error.contains(part), "no `{part}` in:\n{error}");
    }
    assert!(!rolecast.output.join(ROLE).join("manifest.json").exists(), "a broken image was delivered");
}

#[test]
fn an_ordinary_user_builds_the_same_root() {
    let world = World::new();
    let project = world.project();
    let place = project.root().parent().expect("in a temporary folder");
    // The packages over HTTP and the programs beside the project: the user need not see this repository.
    let servers = [("debian", &world.debian), ("debian-security", &world.security)]
        .map(|(name, archive)| (name, Server::start(archive.root())));
    for program in ["rolecast", "rolecast-join"] {
        let built = Path::new(env!("CARGO_BIN_EXE_rolecast")).with_file_name(program);
        fs::copy(built, place.join(program)).expect("the programs were built");
    }
    let user = User::new();
    run("chown", ["--recursive".as_ref(), user.0.as_ref(), place.as_os_str()]).succeeds();
    let mut rolecast =
        world.rolecast(&project).under(["setpriv", "--init-groups", "--regid"].map(str::to_owned).into_iter().chain([
            user.0.clone(),
            "--reuid".to_owned(),
            user.0.clone(),
        ]));
    rolecast.program = place.join("rolecast");
    for (name, server) in &servers {
        rolecast = rolecast.mirror(name, &server.url());
    }
    rolecast.build(IMAGE, &[]).succeeds();
    assert_undisturbed(&rolecast.output);
}

/// A user with a range of subordinate ids (useradd(8) gives one); removed when dropped.
struct User(String);

impl User {
    #[track_caller]
    fn new() -> Self {
        let name = format!("rolecast{}", std::process::id());
        run("useradd", ["--no-create-home", "--shell", "/bin/sh", &name]).succeeds();
        Self(name)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = crate::support::command::command("userdel").arg(&self.0).output();
    }
}

/// The manifest of one build that nothing disturbed, made by the first caller.
pub fn undisturbed() -> &'static str {
    static MANIFEST: OnceLock<String> = OnceLock::new();
    MANIFEST.get_or_init(|| {
        let world = World::new();
        let project = world.project();
        let rolecast = world.rolecast(&project);
        rolecast.build(IMAGE, &[]).succeeds();
        manifest(&rolecast.output)
    })
}

/// The outputs are those of the undisturbed build, to the byte: their digests are in the manifest.
#[track_caller]
pub fn assert_undisturbed(output: &Path) {
    let (made, expected) = (manifest(output), undisturbed());
    let differing: Vec<(&str, &str)> =
        made.lines().zip(expected.lines()).filter(|(made, expected)| made != expected).collect();
    assert!(differing.is_empty(), "lines of the manifest differ: {differing:#?}");
    assert_eq!(made.len(), expected.len());
}

#[track_caller]
pub fn manifest(output: &Path) -> String {
    fs::read_to_string(output.join(ROLE).join("manifest.json")).expect("a build leaves a manifest")
}

/// Every output has the size and digest that the manifest gives, and nothing else lies beside them.
#[track_caller]
fn assert_manifest_is_true(output: &Path) {
    let manifest = Outputs::new(output, ROLE).manifest();
    let listed = manifest["outputs"].as_array().expect("a list of outputs");
    assert!(!listed.is_empty());
    for entry in listed {
        let path = output.join(ROLE).join(entry["file"].as_str().expect("a path"));
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(entry["size"], bytes.len() as u64, "{}", path.display());
        assert_eq!(entry["sha256"], Digest::of(&bytes).to_string(), "{}", path.display());
    }
}

/// No half-written file is left in the output folder.
#[track_caller]
fn assert_no_leftovers(output: &Path) {
    let found = run("find", [output.as_os_str(), "-name".as_ref(), "*.part".as_ref()]).succeeds();
    assert_eq!(found, "", "half-written files were left");
}

/// Names in a tarball, each with its mode, owner and size as tar prints them.
#[track_caller]
fn listed(tarball: &Path) -> BTreeMap<String, String> {
    let arguments = ["--list", "--verbose", "--gzip", "--numeric-owner", "--file"].map(AsRef::as_ref);
    let text = run("tar", arguments.into_iter().chain([tarball.as_os_str()])).succeeds();
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.get(5)?.trim_start_matches("./").trim_end_matches('/');
        Some((name.to_owned(), words[..3].join(" ")))
    };
    text.lines().filter_map(entry).collect()
}

/// A memory file system; unmounted when dropped.
pub struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    /// Mounts one at `at`.
    #[track_caller]
    pub fn new(at: &'a Path, options: &str) -> Self {
        fs::create_dir_all(at).expect("a folder in the temporary folder");
        run(
            "mount",
            ["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), options.as_ref(), "tmpfs".as_ref(), at.as_os_str()],
        )
        .succeeds();
        Self(at)
    }

    #[track_caller]
    fn remount(&self, options: &str) {
        run("mount", ["-o".as_ref(), format!("remount,{options}").as_ref(), self.0.as_os_str()]).succeeds();
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = crate::support::command::command("umount").arg(self.0).output();
    }
}
