//! The lab's scenarios: the built images as a cluster, broken in every way that it has to withstand.
//!
//! One test for each back end, because scenarios share a cluster. Figures and timeline are told on standard error. They
//! play those below; `ROLECAST_TEST_SCENARIOS=all` (on virtual machines `ROLECAST_TEST_EMULATED=all`), or a list of names,
//! plays others.

use std::fs;
use std::path::Path;

use crate::support::browser::Browser;
use crate::support::command::{Outcome, Rolecast};
use crate::support::images::folder;
use crate::support::project::Project;
use crate::support::turn;

/// What every run plays. The others take half an hour more on two processors; `docs/lab.md` has their last results.
const PLAYED: &str = "cold-start switchover address-holder-dies leader-dies partition-leader rack-replaced wrong-secret \
                      dhcp-leases rotation no-secret-shows";

/// What every run plays on virtual machines: firmware, verity, seeds on volumes, and a join with nobody's help.
const EMULATED: &str = "cold-start first-boot";

/// Two regions and the rack that votes with them: what two processors can emulate.
const EMULATED_NODES: [&str; 6] = ["--nodes", "region-1", "--nodes", "region-2", "--nodes", "rack-1"];

/// How many times as long emulated machines take to answer each other.
const PATIENCE: &str = "\"cluster.patience\" = \"5\"\n";

const IMAGE: &str = "images/ha-lab.toml";

#[test]
fn the_cluster_withstands_its_scenarios() {
    // It waits more than it works: what fails it holds on a busy machine too, and its figures fail nothing.
    let _turn = turn::beside_another();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab");
    let project = Project::of_this_repository();
    let played = play(&Rolecast::new(&project), folder(), "ROLECAST_TEST_SCENARIOS", PLAYED, &place, &[]);
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
#[ignore = "a quarter of an hour with two processors for itself: tests/run --test integration -- --ignored virtual_machines"]
fn virtual_machines_become_a_cluster() {
    let _turn = turn::alone();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let images = place.join("patient-images");
    let project = Project::of_this_repository();
    project.replace(IMAGE, "[options]\n", &format!("[options]\n{PATIENCE}"));
    let rolecast = Rolecast::at(project.root(), &place.join("store"), &images);
    rolecast.build(IMAGE, &["--format", "disk"]).succeeds();
    let more = [&["--back-end", "qemu"][..], &EMULATED_NODES].concat();
    let report = place.join("lab-of-virtual-machines");
    play(&rolecast, &images, "ROLECAST_TEST_EMULATED", EMULATED, &report, &more).succeeds();
}

/// Plays the scenarios that `variable` names, or else `usual`, and tells what happened.
fn play(rolecast: &Rolecast, images: &Path, variable: &str, usual: &str, report: &Path, more: &[&str]) -> Outcome {
    let (images, report) = (images.to_string_lossy(), report.to_string_lossy());
    let chosen = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
    let names = chosen.split_whitespace().filter(|name| *name != "all");
    let words: Vec<&str> =
        names.chain(["--output", &images, "--report", &report]).chain(more.iter().copied()).collect();
    let played = lab_test(rolecast, &words);
    eprintln!("{played}");
    played
}

#[test]
fn the_scenarios_can_be_listed_by_anyone() {
    let project = Project::of_this_repository();
    let rolecast = Rolecast::new(&project);
    let listed = lab_test(&rolecast, &["--list"]).succeeds();
    for name in ["cold-start", "leader-dies", "partition-all", "join-killed", "rotation"] {
        assert!(listed.contains(name), "`{name}` is not in\n{listed}");
    }
    let refused = lab_test(&rolecast, &["no-such-scenario"]).fails();
    assert!(
        refused.contains("there is no scenario `no-such-scenario`") && refused.contains("leader-dies"),
        "{refused}"
    );
}

fn lab_test(rolecast: &Rolecast, more: &[&str]) -> Outcome {
    rolecast.run(&[&["lab", "test", IMAGE], more].concat())
}
