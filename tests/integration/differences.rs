//! `rolecast diff` and `rolecast verify` on the small world. Offline; needs root.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::support::command::Rolecast;
use crate::support::deb::Package;
use crate::support::host::World;
use crate::support::outputs::Outputs;

const IMAGE: &str = "images/test.toml";
const ROLE: &str = "small";
/// Bytes that should be equal are not.
const UNEQUAL: i32 = 5;

/// `verify` of what `rolecast` built.
fn verify(rolecast: &Rolecast, more: &[&str]) -> crate::support::command::Outcome {
    let against = rolecast.output.to_string_lossy().into_owned();
    rolecast.run(&[&["verify", IMAGE, "--against", &against], more].concat())
}

#[test]
fn verify_rebuilds_from_nothing_and_finds_the_same_bytes() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    rolecast.build(IMAGE, &[]).succeeds();
    let outcome = verify(&rolecast, &["--offline"]);
    eprintln!("small verify: {:.1} s", outcome.took.as_secs_f64());
    let text = outcome.succeeds();
    assert!(text.contains("every byte is the same") && text.contains("= small.raw"), "{text}");
    // A manifest is enough to compare with.
    let manifest = rolecast.output.join(ROLE).join("manifest.json");
    fs::remove_file(Outputs::new(&rolecast.output, ROLE).disk()).expect("just built");
    let text = rolecast.run(&["--json", "verify", IMAGE, "--against", &manifest.to_string_lossy()]).succeeds();
    let result: serde_json::Value = serde_json::from_str(&text).expect("JSON on standard output");
    assert_eq!(result["equal"], true, "{text}");
    assert_eq!(result["roles"][0]["outputs"].as_array().map(Vec::len), Some(9), "{text}");
    // Nothing of it stays.
    let left = fs::read_dir(rolecast.store.join("scratch")).expect("a store has scratch space");
    let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).filter(|name| *name != "lock").collect();
    assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".lock")), "{left:?}");
}

#[test]
fn verify_names_the_file_its_origin_and_the_lines_that_differ() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    rolecast.build(IMAGE, &[]).succeeds();
    project.write("overlays/base/etc/motd.tera", "{{ option.greeting }} from somebody else\n");
    let outcome = verify(&rolecast, &[]);
    assert_eq!(outcome.code, Some(UNEQUAL), "{outcome}");
    for part in [
        "! small.raw",
        "! small.tar.gz",
        "bytes differ, the first at",
        "/etc/motd  size",
        "from overlays/base/etc/motd.tera (layer base)",
        "-good day from small",
        "+good day from somebody else",
    ] {
        assert!(outcome.stdout.contains(part), "no `{part}` in:\n{outcome}");
    }
    assert!(!outcome.stdout.contains("/usr/bin/dpkg"), "{outcome}");
    assert!(outcome.stderr.contains("not what was built before"), "{outcome}");
}

#[test]
fn verify_says_what_a_flipped_byte_lies_in() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    rolecast.build(IMAGE, &["--format", "disk", "--format", "tar"]).succeeds();
    let disk = Outputs::new(&rolecast.output, ROLE).disk();
    // Somewhere in the compressed files of the root, which is the last partition.
    let place = fs::metadata(&disk).expect("just built").len() / 20 * 19;
    let file = File::options().read(true).write(true).open(&disk).expect("just built");
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).expect("inside the image");
    file.write_all_at(&[byte[0] ^ 1], place).expect("inside the image");
    let outcome = verify(&rolecast, &[]);
    assert_eq!(outcome.code, Some(UNEQUAL), "{outcome}");
    for part in [
        "! small.raw",
        "= small.tar.gz",
        "is not what its own manifest says",
        &format!("1 bytes differ, the first at {place}, in: partition root_1.0 / root / "),
    ] {
        assert!(outcome.stdout.contains(part), "no `{part}` in:\n{outcome}");
    }
}

#[test]
fn verify_refuses_to_compare_what_cannot_be_equal() {
    let mut world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    let outcome = verify(&rolecast, &[]);
    assert_eq!(outcome.code, Some(1), "no lock: {outcome}");
    rolecast.build(IMAGE, &["--format", "tar"]).succeeds();
    let empty = project.root().join("empty").to_string_lossy().into_owned();
    let outcome = rolecast.run(&["verify", IMAGE, "--against", &empty]);
    assert_eq!(outcome.code, Some(2), "{outcome}");
    assert!(outcome.stderr.contains("nothing to compare with"), "{outcome}");
    world.debian.add(&Package::new("new", "1.0")).publish();
    project.write("profiles/small.toml", "extends = \"base\"\npackages = [\"new\"]\n");
    rolecast.run(&["lock", IMAGE]).succeeds();
    let outcome = verify(&rolecast, &[]);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    assert!(outcome.stderr.contains("another lock"), "{outcome}");
}

#[test]
fn diff_tells_locks_manifests_and_images_apart() {
    let mut world = World::new();
    let project = world.project();
    let first = world.rolecast(&project);
    world
        .debian
        .add(&Package::new("tool", "1.0").file("usr/bin/tool", "one\n").file("etc/tool.conf", "colour = red\n"));
    world.debian.add(&Package::new("old", "1.0").file("usr/share/old", "old\n")).publish();
    project.write("profiles/small.toml", "extends = \"base\"\npackages = [\"tool\", \"old\"]\n");
    project.program("overlays/base/usr/local/bin/hello", "#!/bin/sh\necho hello\n");
    first.build(IMAGE, &["--format", "disk", "--format", "tar"]).succeeds();
    let lock = project.root().join("images/test.lock");
    let before = project.root().join("before.lock");
    fs::copy(&lock, &before).expect("a lock was written");

    let mut second = first.clone();
    second.output = first.output.with_file_name("second");
    world
        .debian
        .add(&Package::new("tool", "2.0").file("usr/bin/tool", "two\n").file("etc/tool.conf", "colour = blue\n"));
    world.debian.publish();
    project.write("profiles/small.toml", "extends = \"base\"\npackages = [\"tool\"]\n");
    project.write("overlays/base/usr/local/bin/hello", "#!/bin/sh\necho hello\n");
    let permission = "\n[file.\"/usr/local/bin/hello\"]\ngroup = \"mail\"\nmode = \"2755\"\n";
    let profile = fs::read_to_string(project.root().join("profiles/base.toml")).expect("a profile");
    project.write("profiles/base.toml", profile.replace("\n[option", &format!("{permission}\n[option")));
    second.run(&["lock", IMAGE, "--update"]).succeeds();
    second.build(IMAGE, &["--format", "disk", "--format", "tar"]).succeeds();

    let diff = |one: &Path, two: &Path, more: &[&str]| {
        first.run(&[&["diff", &one.to_string_lossy(), &two.to_string_lossy()], more].concat())
    };
    let locks = diff(&before, &lock, &[]).succeeds();
    assert!(
        locks.contains("layer small") && locks.contains("~ tool  1.0 -> 2.0") && locks.contains("- old"),
        "{locks}"
    );
    assert_eq!(diff(&before, &lock, &["--exit-code"]).code, Some(UNEQUAL));
    assert_eq!(diff(&lock, &lock, &["--exit-code"]).succeeds(), "equal\n");

    let manifest = |rolecast: &Rolecast| rolecast.output.join(ROLE).join("manifest.json");
    let manifests = diff(&manifest(&first), &manifest(&second), &[]).succeeds();
    for part in ["root hash", "packages of layer small", "~ tool  1.0 -> 2.0", "~ small.raw"] {
        assert!(manifests.contains(part), "no `{part}` in:\n{manifests}");
    }

    let images = [&first, &second].map(|rolecast| Outputs::new(&rolecast.output, ROLE));
    // The tarball of one and the disk of the other: what differs is the same.
    for (one, two) in [(images[0].disk(), images[1].disk()), (images[0].tarball(), images[1].tarball())] {
        let text = diff(&one, &two, &[]).succeeds();
        for part in [
            "~ tool  1.0 -> 2.0",
            "- old  1.0",
            "/usr/local/bin/hello  mode 0755 -> 2755, owner 0:0 -> 0:8",
            "/etc/tool.conf  size 13 -> 14 bytes",
            "-colour = red\n      +colour = blue",
            "from package tool 2.0 (layer small)",
            "more belong to package old 1.0 (layer small)",
        ] {
            assert!(text.contains(part), "no `{part}` in:\n{text}");
        }
    }
    let page = diff(&images[0].disk(), &images[1].disk(), &["--markdown"]).succeeds();
    assert!(page.contains("| packages | 1 gone, 1 changed |") && page.contains("```diff"), "{page}");
    let json = first.run(&["--json", "diff", &images[0].disk().to_string_lossy(), &images[1].disk().to_string_lossy()]);
    let json: serde_json::Value = serde_json::from_str(&json.succeeds()).expect("JSON");
    assert_eq!(json["equal"], false);
    let hello = json["files"].as_array().expect("files").iter().find(|file| file["path"] == "/usr/local/bin/hello");
    assert_eq!(hello.expect("it changed")["after"]["mode"], "2755");
    // Without the store that built it, dpkg's database in the image says where a file comes from.
    let mut stranger = first.clone();
    stranger.store = first.store.with_file_name("empty-store");
    let words = [images[0].tarball(), images[1].disk()].map(|path| path.to_string_lossy().into_owned());
    let text = stranger.run(&["diff", &words[0], &words[1]]).succeeds();
    assert!(text.contains("/etc/tool.conf") && text.contains("from package tool 2.0"), "{text}");
    let outcome = diff(&lock, &images[0].disk(), &[]);
    assert_eq!(outcome.code, Some(2), "{outcome}");
}
