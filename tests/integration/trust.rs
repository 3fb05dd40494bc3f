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
