//! What stands beside the images: SBOMs that the official checkers accept, provenance that names every input, and
//! sums. Offline, on the small world; needs root, and the checkers that `tests/run` installs under `target/checkers`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rolecast::digest::Digest;
use serde_json::Value;

use crate::support::command::{Rolecast, run};
use crate::support::host::World;
use crate::support::project::Project;

const IMAGE: &str = "images/test.toml";

/// One build that all of these tests look at.
struct Built {
    world: World,
    project: Project,
    rolecast: Rolecast,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let world = World::new();
        let project = world.project();
        let rolecast = world.rolecast(&project);
        rolecast.build(IMAGE, &[]).succeeds();
        Built { world, project, rolecast }
    })
}

impl Built {
    fn folder(&self) -> PathBuf {
        self.rolecast.output.join("small")
    }

    fn json(&self, name: &str) -> Value {
        let path = self.folder().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

fn names(value: &Value, field: &str) -> BTreeSet<String> {
    let items = value.as_array().unwrap_or_else(|| panic!("no list: {value:.200}"));
    items.iter().map(|item| item[field].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_official_checkers_accept_both_sboms() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/checkers/bin/python");
    assert!(python.exists(), "no {}: `tests/run` installs the checkers", python.display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/check_sbom.py");
    let folder = built().folder();
    let said = run(&python.to_string_lossy(), [script.as_os_str(), folder.as_os_str()]).succeeds();
    eprintln!("checked: {said}");
    let manifest = built().json("manifest.json");
    let packages = names(&manifest["packages"], "name");
    let mut in_spdx = names(&built().json("sbom.spdx.json")["packages"], "name");
    assert!(in_spdx.remove("test-small-1.0"), "the root is a package of its own: {in_spdx:?}");
    assert_eq!(in_spdx, packages);
    assert_eq!(names(&built().json("sbom.cdx.json")["components"], "name"), packages);
}

#[test]
fn the_sbom_lists_every_file_by_its_digest() {
    let spdx = built().json("sbom.spdx.json");
    let files = spdx["files"].as_array().expect("a list");
    let manifest = built().json("manifest.json");
    assert_eq!(files.len() as u64, manifest["tree"]["files"].as_u64().expect("a number"));
    let hello = files.iter().find(|file| file["fileName"] == "./usr/local/bin/hello").expect("the overlay's program");
    let sha256 = Digest::of(b"#!/bin/sh\necho hello\n").to_string();
    assert_eq!(hello["checksums"][1]["checksumValue"], sha256.as_str());
}

#[test]
fn provenance_names_outputs_and_inputs_by_digest() {
    let provenance = built().json("provenance.json");
    assert_eq!(provenance["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(provenance["predicateType"], "https://slsa.dev/provenance/v1");
    for subject in provenance["subject"].as_array().expect("a list") {
        let path = built().folder().join(subject["name"].as_str().expect("a name"));
        let digest = Digest::of(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        assert_eq!(subject["digest"]["sha256"], digest.to_string().as_str(), "{}", path.display());
    }
    let manifest = built().json("manifest.json");
    let subjects = names(&provenance["subject"], "name");
    assert!(subjects.is_superset(&names(&manifest["outputs"], "file")), "{subjects:?}");
    let definition = &provenance["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["role"], "small");
    let dependencies = definition["resolvedDependencies"].as_array().expect("a list");
    // Written files by what lies in the project.
    for path in [IMAGE, "profiles/base.toml", "overlays/base/etc/motd.tera", "images/keyrings/debian-archive.pgp"] {
        let named = dependencies.iter().find(|one| one["name"] == path).unwrap_or_else(|| panic!("no {path}"));
        let bytes = fs::read(built().project.root().join(path)).expect("a file of the project");
        assert_eq!(named["digest"]["sha256"], Digest::of(&bytes).to_string().as_str(), "{path}");
    }
    let lock = fs::read_to_string(built().project.root().join("images/test.lock")).expect("the build wrote it");
    for line in lock.lines().filter(|line| line.contains("sha256 = ")) {
        let digest = line.split("sha256 = \"").nth(1).and_then(|rest| rest.get(..64)).expect("a package's digest");
        assert!(dependencies.iter().any(|one| one["digest"]["sha256"] == digest), "no input for {line}");
    }
    let text = provenance.to_string();
    assert!(!text.contains(&built().world.debian.url()), "provenance names a mirror");
}

#[test]
fn coreutils_checks_the_sums() {
    let folder = built().folder();
    let script = "cd \"$1\" && sha256sum --check --strict --quiet SHA256SUMS && cut -c67- SHA256SUMS | sort && echo -- \
                  && find . -type f ! -name 'SHA256SUMS*' | cut -c3- | sort";
    let said = run("sh", ["-c".as_ref(), script.as_ref(), "sh".as_ref(), folder.as_os_str()]).succeeds();
    let (listed, there) = said.split_once("--\n").expect("two lists");
    assert_eq!(listed, there, "every file is listed, and nothing else");
}

/// The lock by the indexes in the store, the bills by their package URLs: three ways to the same source packages.
#[test]
fn a_lock_and_both_bills_are_audited_alike() {
    let built = built();
    let components = built.json("sbom.cdx.json")["components"].clone();
    let purls = components.as_array().into_iter().flatten().filter_map(|component| component["purl"].as_str());
    let source = |purl: &str| Some(purl.split_once("&upstream=")?.1.split("%40").next()?.to_owned());
    let other = purls.clone().find_map(source).expect("a package that has another name than its source");
    let known = |status: &str, fixed: &str| {
        let release = serde_json::json!({ "status": status, "fixed_version": fixed, "urgency": "high" });
        serde_json::json!({ "releases": { "trixie": release } })
    };
    let tracker = serde_json::json!({
        (other.clone()): { "CVE-2030-0001": known("resolved", "999:1"), "CVE-2030-0002": known("resolved", "0") },
        "dpkg": { "CVE-2030-0003": { "releases": { "trixie": { "status": "open", "urgency": "low" } } } },
    });
    let (holes, none) = (built.project.root().join("tracker.json"), built.project.root().join("none.json"));
    fs::write(&holes, tracker.to_string()).expect("the project can be written");
    let harmless = serde_json::json!({ "dpkg": { "CVE-2030-0004": known("resolved", "0") } });
    fs::write(&none, harmless.to_string()).expect("the project can be written");
    let audit = |subject: &Path, against: &Path, more: &[&str]| {
        let (subject, against) = (subject.to_string_lossy(), against.to_string_lossy());
        built.rolecast.run(&[&["audit", &subject, "--against", &against], more].concat())
    };
    let lock = built.project.root().join("images/test.lock");
    let subjects = [lock, built.folder().join("sbom.spdx.json"), built.folder().join("sbom.cdx.json")];
    let mut all = Vec::new();
    for subject in &subjects {
        let outcome = audit(subject, &holes, &["--json"]);
        assert_eq!(outcome.code, Some(6), "{outcome}");
        let json: Value = serde_json::from_str(&outcome.stdout).expect("a result in JSON");
        assert_eq!(json["guessed"], serde_json::json!([]), "{}: sources are guessed", subject.display());
        let findings = json["findings"].as_array().cloned().unwrap_or_default();
        all.push(findings.iter().map(|finding| finding.to_string()).collect::<Vec<_>>());
        let fine = audit(subject, &none, &[]).succeeds();
        assert!(fine.contains("0 undetermined"), "{fine}");
    }
    assert!(all[0].len() >= 2 && all.iter().all(|found| *found == all[0]), "{all:#?}");
    let text = audit(&subjects[0], &holes, &[]).stdout;
    for line in [
        "an update mends: 1",
        &format!("  {other} "),
        "mended in 999:1",
        "not mended yet: 1",
        "CVE-2030-0003",
        "to update: ",
    ] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
    let suite = subjects[2].with_file_name("other.json");
    let renamed = fs::read_to_string(&subjects[2]).expect("it was built").replace("distro=trixie", "distro=forky");
    fs::write(&suite, renamed).expect("the output can be written");
    let refused = audit(&suite, &holes, &[]);
    fs::remove_file(&suite).expect("just written");
    assert!(refused.code == Some(1) && refused.stderr.contains("says nothing about debian forky"), "{refused}");
}
