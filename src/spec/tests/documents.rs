//! The generated documents in `docs/` are what the code would write today.

use std::path::{Path, PathBuf};

use crate::report::{Style, render};
use crate::spec::{Sources, read, reference, schema};

/// Set to write the documents instead of comparing them.
const BLESS: &str = "ROLECAST_BLESS";

fn compare(path: &Path, expected: &str) {
    if std::env::var_os(BLESS).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{} is old: run `{BLESS}=1 cargo test --lib spec::` and commit it", path.display());
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_reference_is_current() {
    let sources = Sources::read(&root()).unwrap();
    compare(&root().join("docs/reference.md"), &reference(&sources));
}

#[test]
fn the_schemas_are_current() {
    for (name, schema) in [("image", schema::image()), ("profile", schema::profile())] {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        compare(&root().join(format!("docs/schema/{name}.json")), &text);
    }
}

#[test]
fn the_project_s_own_image_files_check_clean() {
    let sources = Sources::read(&root()).unwrap();
    let images: Vec<_> = sources.images().collect();
    assert!(images.contains(&"images/ha-lab.toml") && images.contains(&"images/ha-noble.toml"), "{images:?}");
    for image in images {
        let report = read(&sources, image).map_or_else(|report| report, |(_, warnings)| warnings);
        assert_eq!(render(&report, Style::Plain), "", "{image}");
    }
}
