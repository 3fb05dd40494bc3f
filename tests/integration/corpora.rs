//! What the fuzzer begins with, replayed without one: whole, and cut at some places.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/targets.rs"]
mod targets;

/// In how many places a seed is cut.
const CUTS: usize = 16;

/// What of the project itself the fuzzer takes as seeds, as `fuzz/run` has it.
const OWN: &[(&str, &[&str])] = &[
    ("spec", &["images", "profiles"]),
    ("template", &["overlays"]),
    ("keyring", &["images/keyrings"]),
    ("lock", &["images"]),
];

#[test]
fn no_seed_of_the_corpora_makes_a_target_panic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in targets::ALL {
        let mut seeds = Vec::new();
        collect(&root.join("fuzz/corpus").join(name), &mut seeds);
        assert!(!seeds.is_empty(), "no seed in fuzz/corpus/{name}");
        for place in OWN.iter().filter(|(target, _)| *target == name).flat_map(|(_, places)| *places) {
            collect(&root.join(place), &mut seeds);
        }
        for seed in &seeds {
            let bytes = fs::read(seed).expect("a seed can be read");
            let cuts: BTreeSet<usize> = (0..=CUTS).map(|cut| bytes.len() * cut / CUTS).collect();
            for cut in cuts {
                let run = std::panic::catch_unwind(|| targets::run(name, &bytes[..cut]));
                assert!(run.is_ok(), "{name}: the first {cut} bytes of {}", seed.display());
            }
        }
        eprintln!("corpora: {name}: {} seeds", seeds.len());
    }
}

/// Files below `folder`, in an order.
fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<fs::DirEntry> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        // A link of an overlay leads to where it will lie.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}
