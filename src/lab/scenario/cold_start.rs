//! Proof 1: empty machines are powered on, in any order, and become a cluster without a hand.

use std::time::Duration;

use super::stage::{Failure, Outcome, Stage};
use super::{BOTH, Begins, CONTAINERS, Scenario};

/// All machines at once.
pub const COLD_START: Scenario = Scenario {
    name: "cold-start",
    number: 1,
    proves: "Empty machines that are powered on at once become a cluster without a hand",
    on: BOTH,
    begins: Begins::Empty,
    run: |stage| {
        let everyone = stage.cast.everyone();
        let on = stage.mend("power all machines on");
        stage.lab.start_all()?;
        let joined = stage.wait_joined(&everyone, stage.patience(300))?;
        stage.seconds("power on to all joined", joined, Some(60.0));
        let boot = slowest_boot(stage)?;
        stage.seconds("the slowest machine's bare boot in it, to multi-user.target", boot, None);
        stage.figure("all joined, in bare boots", joined.as_secs_f64() / boot.as_secs_f64().max(0.1), "boots", None);
        let served = stage.wait_success("the first write", stage.writes(), on, stage.patience(60))?;
        stage.seconds("power on to the first write through the virtual address", served, None);
        is_complete(stage)?;
        stage.weigh_agents()
    },
};

/// Against the grain: the standby and the racks wait for a primary that comes late.
pub const STANDBY_FIRST: Scenario = Scenario {
    name: "cold-start-primary-late",
    number: 1,
    proves: "A standby and racks that are on before the primary wait for it, visibly, and then join",
    on: CONTAINERS,
    begins: Begins::Empty,
    run: |stage| {
        let (first, rest) = stage.cast.regions.split_first().ok_or_else(|| Failure("no region".into()))?;
        let mut early: Vec<&str> = rest.iter().map(String::as_str).collect();
        early.extend(stage.cast.racks.iter().map(String::as_str));
        stage.start(&early)?;
        stage.expect_within("all of them to say what they wait for", stage.patience(120), |stage| {
            let states: Result<Vec<_>, _> = early.iter().map(|name| stage.state(name)).collect();
            Ok(states?.iter().all(|state| state.text().contains("waiting for")))
        })?;
        stage.pass(Duration::from_secs(5));
        stage.check(stage.writers().is_empty(), || "a standby bootstrapped a database by itself".into())?;
        stage.start(&[first])?;
        let joined = stage.wait_joined(&stage.cast.everyone(), stage.patience(300))?;
        stage.seconds("the primary's power on to all joined", joined, Some(60.0));
        is_complete(stage)
    },
};

/// What a whole cluster has beyond what the suite looks at: both APIs, the racks, and of two racks the DHCP pair.
pub fn is_complete(stage: &mut Stage<'_>) -> Outcome {
    stage.wait_whole()?;
    let leader = stage.leader()?;
    for region in &stage.cast.regions {
        for port in [5240, 80] {
            let limit = stage.patience(5).as_secs();
            let url = format!("http://127.0.0.1:{port}/MAAS/api/2.0/version/");
            stage.shell(region, &format!("curl -sf --max-time {limit} -o /dev/null {url}"))?;
        }
    }
    let racks = "SELECT string_agg(DISTINCT hostname, ',' ORDER BY hostname) FROM maasserver_node JOIN \
                 maasserver_regionrackrpcconnection ON rack_controller_id = maasserver_node.id;\n";
    let mut expected = stage.cast.racks.clone();
    expected.sort();
    stage.wait("the racks to be connected", stage.patience(60), |stage| {
        Ok((stage.sql(&leader, "maasdb", racks)? == expected.join(",")).then_some(()))
    })?;
    for rack in &stage.cast.racks {
        // Registering enables it; the join starts it when its turn comes, and nothing else does.
        let said = stage.shell(rack, "systemctl is-enabled maas-rackd.service || true")?;
        stage.check(said.trim() == "disabled", || format!("maas-rackd.service of {rack} is {}", said.trim()))?;
    }
    if expected.len() < 2 {
        return Ok(());
    }
    let pair = "SELECT dhcp_on, one.hostname, two.hostname FROM maasserver_vlan \
                LEFT JOIN maasserver_node one ON one.id = primary_rack_id \
                LEFT JOIN maasserver_node two ON two.id = secondary_rack_id WHERE dhcp_on;\n";
    stage.wait("the DHCP pair to be set", stage.patience(60), |stage| {
        let told = stage.sql(&leader, "maasdb", pair)?;
        let fields: Vec<&str> = told.lines().next().unwrap_or_default().split('|').collect();
        Ok((fields.len() == 3 && fields[1..].iter().all(|name| expected.iter().any(|rack| rack == name))).then_some(()))
    })
}

/// The longest time that a machine's own boot took: from its systemd's start to `multi-user.target`.
fn slowest_boot(stage: &Stage<'_>) -> Result<Duration, Failure> {
    let mut longest = 0_u64;
    for name in stage.cast.everyone() {
        // Microseconds of the monotonic clock (org.freedesktop.systemd1(5)).
        let script = "systemctl show --property UserspaceTimestampMonotonic --value; \
                      systemctl show multi-user.target --property ActiveEnterTimestampMonotonic --value";
        let said = stage.shell(name, script)?;
        let mut moments = said.lines().filter_map(|line| line.trim().parse::<u64>().ok());
        if let (Some(start), Some(reached)) = (moments.next(), moments.next()) {
            longest = longest.max(reached.saturating_sub(start));
        }
    }
    Ok(Duration::from_micros(longest))
}
