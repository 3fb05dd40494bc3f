//! The lab's scenarios on containers: the built images as a cluster, broken in every way that it has to withstand.
//!
//! One test, because the scenarios share a cluster. Its figures and timeline are told on standard error.

use std::fs;
use std::path::Path;

use crate::support::browser::Browser;
use crate::support::command::{Outcome, Rolecast};
use crate::support::images::{folder, one_at_a_time};
use crate::support::project::Project;

#[test]
fn the_cluster_withstands_every_scenario() {
    let _alone = one_at_a_time();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab");
    let (images, report) = (folder().to_string_lossy(), place.to_string_lossy());
    let played = lab_test(&["--output", &images, "--report", &report]);
    eprintln!("{played}");
    let page = fs::canonicalize(place.join("report.html")).expect("a report, whatever the verdicts are");
    let browser = Browser::open(&page);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console of the report is not empty");
    let pictures = browser.evaluate("document.querySelectorAll('svg.picture path.done').length");
    assert!(
        pictures.as_u64().is_some_and(|count| count > 10),
        "the report shows {pictures} lanes of answered requests"
    );
    played.succeeds();
}

#[test]
fn the_scenarios_can_be_listed_by_anyone() {
    let listed = lab_test(&["--list"]).succeeds();
    for name in ["cold-start", "leader-dies", "partition-all", "join-killed", "rotation"] {
        assert!(listed.contains(name), "`{name}` is not in\n{listed}");
    }
    let refused = lab_test(&["no-such-scenario"]).fails();
    assert!(
        refused.contains("there is no scenario `no-such-scenario`") && refused.contains("leader-dies"),
        "{refused}"
    );
}

fn lab_test(more: &[&str]) -> Outcome {
    let project = Project::of_this_repository();
    Rolecast::new(&project).run(&[&["lab", "test", "images/ha-lab.toml"], more].concat())
}
