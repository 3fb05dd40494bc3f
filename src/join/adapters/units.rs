//! systemd's units: which run, starting them, and what their journal says.

use std::time::Duration;

use crate::join::world::Trouble;
use crate::sys::Program;

/// How long a unit may take to start before the join says so and tries again.
const START: Duration = Duration::from_secs(90);

/// Those of `units` that run or are on their way; one that waits to be restarted after it failed is not.
///
/// # Errors
/// When systemd does not answer.
pub fn running(units: &[String]) -> Result<Vec<String>, Trouble> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let arguments = ["show", "--property=Id,ActiveState,SubState", "--"].map(str::to_owned);
    let said = systemctl(arguments.into_iter().chain(units.iter().cloned()), Duration::from_secs(10))?;
    Ok(running_in(&said, units))
}

/// Units are shown in the order in which they were asked for, an empty line between two. `Id` is not compared: an alias
/// is shown under its real name.
fn running_in(shown: &str, units: &[String]) -> Vec<String> {
    let runs = |text: &str| {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        match field("ActiveState=") {
            "active" | "reloading" => true,
            "activating" => field("SubState=") != "auto-restart",
            _ => false,
        }
    };
    shown.split("\n\n").zip(units).filter(|(text, _)| runs(text)).map(|(_, unit)| unit.clone()).collect()
}

/// Starts units, one after the other, each when the one before it runs.
///
/// # Errors
/// At the first that does not start.
pub fn start(units: &[String]) -> Result<(), Trouble> {
    for unit in units {
        // What failed too often is not started again without this.
        let _ = systemctl(["reset-failed", unit], Duration::from_secs(10));
        systemctl(["start", unit], START)?;
    }
    Ok(())
}

/// Starts a unit that may wait for its peers, and does not wait with it.
///
/// # Errors
/// When systemd does not take the job.
pub fn begin(unit: &str) -> Result<(), Trouble> {
    let _ = systemctl(["reset-failed", unit], Duration::from_secs(10));
    systemctl(["start", "--no-block", unit], Duration::from_secs(10)).map(drop)
}

/// Has units that run read their configuration again, or restarts those that cannot.
///
/// # Errors
/// When one does not.
pub fn reload(units: &[&str]) -> Result<(), Trouble> {
    systemctl([&["try-reload-or-restart"], units].concat(), START).map(drop)
}

/// Restarts those of `units` that run.
///
/// # Errors
/// When one does not come back.
pub fn restart(units: &[String]) -> Result<(), Trouble> {
    systemctl(["try-restart".to_owned()].into_iter().chain(units.iter().cloned()), START).map(drop)
}

/// Has units not start by themselves at the next boot.
///
/// # Errors
/// When systemd cannot write its links.
pub fn disable(units: &[String]) -> Result<(), Trouble> {
    systemctl(["disable".to_owned()].into_iter().chain(units.iter().cloned()), START).map(drop)
}

/// Stops units.
///
/// # Errors
/// When one does not stop.
pub fn stop(units: &[String]) -> Result<(), Trouble> {
    systemctl(["stop".to_owned()].into_iter().chain(units.iter().cloned()), Duration::from_secs(150)).map(drop)
}

/// Has networkd and the firewall read their files again.
///
/// # Errors
/// When one does not.
pub fn reload_network() -> Result<(), Trouble> {
    Program::new("networkctl", ["reload"]).run().map_err(|error| Trouble(error.to_string()))?;
    reload(&["nftables.service"])
}

/// The last lines that a unit said since it was last started, oldest first.
///
/// # Errors
/// When the journal cannot be read.
pub fn journal(unit: &str) -> Result<String, Trouble> {
    let invocation = systemctl(["show", "--property=InvocationID", "--value", unit], Duration::from_secs(10))?;
    let invocation = invocation.trim();
    if invocation.is_empty() {
        return Ok(String::new());
    }
    let matching = format!("_SYSTEMD_INVOCATION_ID={invocation}");
    Program::new("journalctl", ["--output=cat", "--lines=200", "--quiet", &matching])
        .run()
        .map_err(|error| Trouble(error.to_string()))
}

fn systemctl<I: IntoIterator<Item = S>, S: Into<std::ffi::OsString>>(
    arguments: I,
    limit: Duration,
) -> Result<String, Trouble> {
    run("systemctl", arguments, limit)
}

/// What a program of systemd says, within `limit`.
///
/// # Errors
/// When it fails, or takes longer.
pub(super) fn run<I: IntoIterator<Item = S>, S: Into<std::ffi::OsString>>(
    program: &str,
    arguments: I,
    limit: Duration,
) -> Result<String, Trouble> {
    Program::new(program, arguments).limit(limit).run().map_err(|error| Trouble(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_known() {
        let shown = "Id=etcd.service\nActiveState=activating\nSubState=start\n\n\
                     Id=patroni.service\nActiveState=active\nSubState=running\n\n\
                     Id=bind.service\nActiveState=activating\nSubState=auto-restart\n\n\
                     Id=keepalived.service\nActiveState=failed\nSubState=failed\n";
        let units = ["etcd.service", "patroni.service", "named.service", "keepalived.service"].map(str::to_owned);
        assert_eq!(running_in(shown, &units), ["etcd.service", "patroni.service"]);
        assert!(running_in("", &units).is_empty());
    }
}
