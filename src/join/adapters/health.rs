//! What tells whether this version is healthy here: the seal, state, systemd's units and their failures.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{local, units};
use crate::join::world::Trouble;

/// `SD_MESSAGE_UNIT_FAILURE_RESULT` of `sd-messages.h`: the journal's entry for each failure of a unit.
const FAILURE: &str = "MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c";

/// How long a program of systemd may take to tell something.
const LONGEST: Duration = Duration::from_secs(30);

/// Why the root is not the sealed one, on a machine whose command line names one.
pub fn seal_trouble() -> Option<String> {
    if !sealed() {
        return None;
    }
    let read = |path: std::path::PathBuf| fs::read_to_string(path).unwrap_or_default();
    let devices = fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok);
    let root = devices.map(|device| device.path().join("dm")).find(|dm| read(dm.join("name")).trim() == "root");
    match root {
        Some(dm) if read(dm.join("uuid")).starts_with("CRYPT-VERITY-") => None,
        _ => Some("the root is not read through dm-verity".to_owned()),
    }
}

/// Why state does not last, where it should, or cannot be written.
pub fn state_trouble() -> Option<String> {
    // Started over the network, a machine has its state in memory on purpose.
    if sealed() && !in_memory() && local::state_in_memory() {
        return Some("the state partition is not mounted".to_owned());
    }
    local::state_trouble()
}

/// Whether the root is a sealed one of this machine's own, and not a container's.
pub fn sealed() -> bool {
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let named = command_line.split_whitespace().any(|word| word.starts_with("roothash="));
    named && !Path::new("/run/systemd/container").exists()
}

/// Whether the image came over the network and is in memory.
pub fn in_memory() -> bool {
    Path::new("/dev/loop0p1").exists()
}

/// Units that have failed.
///
/// # Errors
/// When systemd does not answer.
pub fn failed() -> Result<Vec<String>, Trouble> {
    let words = ["list-units", "--state=failed", "--plain", "--no-legend", "--no-pager", "--full"];
    let listed = units::run("systemctl", words, LONGEST)?;
    Ok(listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Failures of services since boot: unit, and seconds since boot. One that was only too slow waited for something.
///
/// # Errors
/// When the journal cannot be read.
pub fn crashes() -> Result<Vec<(String, u64)>, Trouble> {
    let words = ["--boot", "--quiet", "--no-pager", "--output=json", "--lines=1000", FAILURE];
    Ok(units::run("journalctl", words, LONGEST)?.lines().filter_map(crash).collect())
}

/// One entry of the journal, as `journalctl --output=json` prints it (systemd.journal-fields(7)).
fn crash(line: &str) -> Option<(String, u64)> {
    let entry: serde_json::Value = serde_json::from_str(line).ok()?;
    let field = |name: &str| entry.get(name)?.as_str();
    let microseconds: u64 = field("__MONOTONIC_TIMESTAMP")?.parse().ok()?;
    (field("UNIT_RESULT")? != "timeout").then_some((field("UNIT")?.to_owned(), microseconds / 1_000_000))
}

/// Seconds since boot.
pub fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_read_and_a_wait_that_was_too_long_is_none() {
        let entry = |result: &str| {
            format!(
                r#"{{"UNIT":"etcd.service","UNIT_RESULT":"{result}","__MONOTONIC_TIMESTAMP":"41500000","_PID":"1"}}"#
            )
        };
        assert_eq!(crash(&entry("exit-code")), Some(("etcd.service".to_owned(), 41)));
        assert_eq!(crash(&entry("timeout")), None);
        assert_eq!(crash("{}"), None);
        assert_eq!(crash("-- No entries --"), None);
    }
}
