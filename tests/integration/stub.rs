//! The MAAS stub's own tests, written in its language: see `tests/stub`.

use crate::support::command::run;

/// How many there are at least; fewer means that some were not found.
const LEAST: usize = 35;

#[test]
fn the_maas_stub_keeps_its_contract() {
    // Debian's own interpreter, which has Debian's psycopg2 and yaml.
    let outcome = run("/usr/bin/python3", [concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stub")]);
    // unittest reports on standard error.
    eprintln!("{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.code, Some(0), "{outcome}");
    let ran = outcome.stderr.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse().ok());
    assert!(ran >= Some(LEAST), "{ran:?} tests ran, not {LEAST}");
    assert!(!outcome.stderr.contains("skipped"), "none may be left out");
}
