//! The lab's scenarios on containers: the built images as a cluster, broken in every way that it has to withstand.
//!
//! One test, because the scenarios share a cluster. Its figures and timeline are told on standard error. It plays those
//! below, one of every kind of fault; `ROLECAST_TEST_SCENARIOS=all`, or a list of names, plays others.

use std::fs;
use std::path::Path;

use crate::support::browser::Browser;
use crate::support::command::{Outcome, Rolecast};
use crate::support::images::{folder, one_at_a_time};
use crate::support::project::Project;

/// What every run plays. The others take half an hour more on two processors; `docs/lab.md` has their last results.
const PLAYED: &str = "cold-start switchover address-holder-dies leader-dies partition-leader rack-replaced wrong-secret \
                      dhcp-leases rotation no-secret-shows";

#[test]
fn the_cluster_withstands_its_scenarios() {
    let _alone = one_at_a_time();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab");
    let (images, report) = (folder().to_string_lossy(), place.to_string_lossy());
    let chosen = std::env::var("ROLECAST_TEST_SCENARIOS").unwrap_or_else(|_| PLAYED.to_owned());
    let names = chosen.split_whitespace().filter(|name| *name != "all");
    let words: Vec<&str> = names.chain(["--output", &images, "--report", &report]).collect();
    let played = lab_test(&words);
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
