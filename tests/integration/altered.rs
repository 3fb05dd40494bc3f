//! A store whose files were altered on disk: noticed, made anew, never in an output. Offline; needs root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::builds::assert_undisturbed;
use crate::support::command::Rolecast;
use crate::support::host::World;

const IMAGE: &str = "images/test.toml";
/// A signature, a digest, or another user's store.
const UNTRUSTED: i32 = 4;

/// Every file below `directory`, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a store is readable").flatten() {
            let path = entry.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Flips one bit in the middle of a file, as a disk does: owner, mode and length stay.
fn spoil(path: &Path) {
    let mode = fs::metadata(path).expect("just listed").permissions();
    let mut bytes = fs::read(path).expect("just listed");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("ours");
    fs::write(path, bytes).expect("ours");
    fs::set_permissions(path, mode).expect("ours");
}

/// The objects that each step's results name.
fn objects_by_step(store: &Path) -> BTreeMap<String, BTreeSet<PathBuf>> {
    let mut steps: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for path in files(&store.join("results")) {
        let text = fs::read_to_string(&path).expect("results are text");
        let (_, json) = text.split_once('\n').expect("a digest comes first");
        let result: serde_json::Value = serde_json::from_str(json).expect("JSON follows");
        let names = result["objects"].as_array().expect("a list").iter().filter_map(|name| name.as_str());
        let places = names.map(|name| store.join("objects").join(&name[..2]).join(&name[2..]));
        let whole = places.filter(|path| fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0));
        steps.entry(result["step"].as_str().expect("a name").to_owned()).or_default().extend(whole);
    }
    steps
}

/// What outputs are made of, kept: they are written from it without a look at what lies below.
const RECIPES: &str = "role.recipes";

/// Builds with the outputs gone, so that their bytes have to come from the store; through every step, but where the recipes
/// are what is tried.
#[track_caller]
fn rebuild(rolecast: &Rolecast, step: &str) -> crate::support::command::Outcome {
    let _ = fs::remove_dir_all(&rolecast.output);
    if step != RECIPES {
        let _ = fs::remove_dir_all(rolecast.store.join("results").join(RECIPES));
    }
    rolecast.build(IMAGE, &["--locked"])
}

#[test]
fn an_object_of_any_step_that_was_altered_is_made_anew() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    rolecast.build(IMAGE, &[]).succeeds();
    let steps = objects_by_step(&rolecast.store);
    let known = ["archive.deb", "layer.configure", "role.root", "squashfs.segment", "verity.leaves", "tar.member"];
    for step in known.into_iter().chain([RECIPES]) {
        assert!(steps.contains_key(step), "no `{step}` among {:?}", steps.keys());
    }
    // All objects of a step at once: of each, the first thing that reads it has to notice.
    for (step, objects) in &steps {
        objects.iter().filter(|path| path.exists()).for_each(|path| spoil(path));
        let outcome = rebuild(&rolecast, step);
        eprintln!("{step}: {} objects altered: exit code {:?}", objects.len(), outcome.code);
        outcome.succeeds();
        assert_undisturbed(&rolecast.output);
    }
}

#[test]
fn results_that_were_altered_are_made_anew() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    rolecast.build(IMAGE, &[]).succeeds();
    files(&rolecast.store.join("results")).iter().for_each(|path| spoil(path));
    rebuild(&rolecast, RECIPES).succeeds();
    assert_undisturbed(&rolecast.output);
}

#[test]
fn another_users_store_is_not_opened() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    fs::create_dir(&rolecast.store).expect("in a temporary folder");
    std::os::unix::fs::chown(&rolecast.store, Some(4711), None).expect("root can");
    let outcome = rolecast.build(IMAGE, &[]);
    assert_eq!(outcome.code, Some(UNTRUSTED), "{outcome}");
    assert!(outcome.stderr.contains("belongs to user 4711") && outcome.stderr.contains("--store"), "{outcome}");
    std::os::unix::fs::chown(&rolecast.store, Some(0), None).expect("root can");
    fs::set_permissions(&rolecast.store, fs::Permissions::from_mode(0o777)).expect("root can");
    let outcome = rolecast.build(IMAGE, &[]);
    assert_eq!(outcome.code, Some(UNTRUSTED), "{outcome}");
    assert!(outcome.stderr.contains("chmod go-w"), "{outcome}");
}
