//! Proof 12: a real DHCP client gets a lease and renews it with either rack dead.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::report::{Diagnostic, Kind};
use crate::sys::Program;

use super::stage::{Failure, Outcome, Stage};
use super::{Begins, CONTAINERS, Scenario};

/// The client's place on the network.
const STATION: &str = "guest";

/// udhcpc tells its script what it got (udhcpc(8): the event is the argument, the rest variables). The script gives the
/// card the address, or a renewal, which comes to that address alone, would find nobody; and it writes the lease down. A
/// client that is bound is told to renew (SIGUSR1), and one that has renewed is done.
const SCRIPT: &str = "#!/bin/sh\n\
    case \"$1\" in\n\
    deconfig) ip -4 addr flush dev \"$interface\" ;;\n\
    bound) ip addr add \"$ip/$mask\" dev \"$interface\"; echo \"bound $ip $serverid $lease\"; kill -USR1 $PPID ;;\n\
    renew) echo \"renew $ip $serverid $lease\"; kill $PPID ;;\n\
    esac\n";

/// How long a client tries before it begins anew.
const TRIES: Duration = Duration::from_secs(12);

/// With each rack dead in turn.
pub const LEASES: Scenario = Scenario {
    name: "dhcp-leases",
    number: 12,
    proves: "A real DHCP client obtains a lease and renews it with either rack dead",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let address = *stage.cast.free.last().ok_or_else(|| Failure("no free address".into()))?;
        stage.lab.network().add_station(STATION, address)?;
        let played = leases(stage);
        stage.lab.network().remove_station(STATION)?;
        // The lab's directory has to hold nothing but the lab's at its end; the file may not have been made.
        let _ = std::fs::remove_file(script(stage));
        played
    },
};

fn leases(stage: &mut Stage<'_>) -> Outcome {
    // Both racks serve before one dies: their fail-over has to have come to know each other.
    let first = obtain(stage, "with both racks", None)?;
    for rack in stage.cast.racks.clone() {
        stage.kill(&rack, "")?;
        let renewed = obtain(stage, &format!("without {rack}"), Some(&first))?;
        let dead = stage.machine(&rack)?.identity().address;
        stage.check(renewed.server != dead.to_string(), || format!("{rack} is off and has given a lease"))?;
        stage.start(&[&rack])?;
        stage.wait_joined(&[&rack], stage.patience(120))?;
    }
    Ok(())
}

/// A lease.
struct Lease {
    address: String,
    server: String,
}

/// Asks as a client that has `known` and wants to keep it, and then, bound, renews at once.
fn obtain(stage: &mut Stage<'_>, when: &str, known: Option<&Lease>) -> Result<Lease, Failure> {
    let since = stage.recorder.now();
    let lease = stage.wait(&format!("a lease {when}"), stage.patience(90), |stage| {
        let said = udhcpc(stage, known)?;
        let bound = said.lines().find_map(|line| line.strip_prefix("bound "));
        let renewed = said.lines().any(|line| line.starts_with("renew "));
        let mut words = bound.unwrap_or_default().split(' ').map(str::to_owned);
        Ok(match (words.next(), words.next(), renewed) {
            (Some(address), Some(server), true) if !address.is_empty() => Some(Lease { address, server }),
            _ => None,
        })
    })?;
    let took = stage.recorder.now() - since;
    stage.seconds(&format!("lease obtained and renewed {when}"), took, None);
    stage.tell(&format!("lease {when}: {} from {}", lease.address, lease.server));
    Ok(lease)
}

/// Runs the client until it has a lease and has renewed it. Gives what its script wrote.
fn udhcpc(stage: &Stage<'_>, known: Option<&Lease>) -> Result<String, Failure> {
    let script = script(stage);
    crate::sys::files::write_atomically(&script, SCRIPT.as_bytes()).map_err(Diagnostic::from)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700))
        .map_err(|error| Failure(format!("cannot make `{}` executable: {error}", script.display())))?;
    let namespace = stage.lab.network().station_namespace(STATION);
    let (tries, script) = (TRIES.as_secs().to_string(), script.to_string_lossy().into_owned());
    let mut words = vec!["netns", "exec", &namespace, "timeout", &tries, "udhcpc", "-f", "-i", "eth0"];
    words.extend(["-t", "5", "-T", "2", "-A", "2", "-s", &script]);
    if let Some(lease) = known {
        words.extend(["-r", &lease.address]);
    }
    let program = Program::new("ip", words);
    let said = program.limit(Duration::from_secs(60)).ask();
    let said =
        said.map_err(|error| Diagnostic::error(Kind::World, error.to_string()).hint("`apt-get install udhcpc`"))?;
    Ok(said.output)
}

fn script(stage: &Stage<'_>) -> PathBuf {
    stage.lab.directory().join("udhcpc-script")
}
