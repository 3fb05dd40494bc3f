//! Proof 4: the machine of the leader dies, or gives the lead away.

use std::time::Duration;

use crate::lab::timeline::measure;

use super::stage::{Outcome, Stage};
use super::{BOTH, Begins, CONTAINERS, Scenario};

/// Patroni's own floor: the leader lock lives 20 s (`ttl`), and the others look every 5 s (`loop_wait`).
const FLOOR: f64 = 20.0;

/// Automatic failover.
pub const LEADER_DIES: Scenario = Scenario {
    name: "leader-dies",
    number: 4,
    proves: "When the leader's machine dies, writes resume by themselves and no acknowledged row is gone",
    on: BOTH,
    begins: Begins::Formed,
    run: |stage| {
        let leader = stage.leader()?;
        let fault = stage.kill(&leader, "which leads")?;
        stage.wait_success("the first write", stage.writes(), fault, stage.patience(90))?;
        stage.wait_served(stage.patience(90))?;
        tell(stage, "the leader's death", fault, FLOOR);
        stage.start(&[&leader])?;
        returns_as_replica(stage, &leader)
    },
};

/// Nothing is promoted while the image leaves failover to the operator, who promotes with open eyes.
pub const MANUAL_FAILOVER: Scenario = Scenario {
    name: "leader-dies-manual",
    number: 4,
    proves: "With `postgresql.failover = \"manual\"` nothing is promoted until the operator says so, and then writes resume",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let leader = stage.leader()?;
        let played = fail_over_by_hand(stage, &leader);
        stage.mend("failover is Patroni's again: every region's image says so");
        for region in stage.cast.regions.iter().filter(|region| stage.is_on(region)) {
            declare(stage, region, "automatic")?;
        }
        played?;
        paused(stage, &leader, false)?;
        stage.wait_whole().map(drop)
    },
};

fn fail_over_by_hand(stage: &mut Stage<'_>, leader: &str) -> Outcome {
    stage.fault("failover is the operator's: every region's image says so");
    for region in &stage.cast.regions {
        declare(stage, region, "manual")?;
    }
    paused(stage, leader, true)?;
    let survivor = stage.cast.other_regions(leader)[0].to_owned();
    stage.kill(leader, "which leads")?;
    // Longer than an automatic failover takes: ttl, and a look of the others.
    stage.expect_for("no database to take writes", Duration::from_secs(30), |stage| {
        Ok(stage.writers().iter().all(|name| *name == leader))
    })?;
    let promoted = stage.mend(&format!("promote {survivor}"));
    let said = stage.shell(&survivor, "rolecast-join promote --yes 2>&1")?;
    stage.check(said.contains("lost") || said.contains("lose"), || {
        format!("`promote` does not say what may be lost:\n{said}")
    })?;
    stage.wait_success("the first write", stage.writes(), promoted, stage.patience(60))?;
    tell(stage, "the promotion", promoted, 5.0);
    stage.start(&[leader])?;
    // Its root is new, and its join reads the table in some seconds.
    declare(stage, leader, "manual")?;
    returns_as_replica(stage, leader)?;
    paused(stage, &survivor, true)
}

/// Gives a region the table that an image with this `postgresql.failover` has, until its next boot: the option is in no
/// other file of an image (`database.toml`, `failover`). A join that runs begins again with it.
fn declare(stage: &Stage<'_>, region: &str, failover: &str) -> Outcome {
    let script = format!(
        "set -e; table=/usr/lib/rolecast/database.toml; sed -i 's/^failover = .*/failover = \"{failover}\"/' $table; \
         grep -q '^failover = \"{failover}\"$' $table; \
         systemctl --quiet try-restart rolecast-join.service 2>/dev/null || true"
    );
    stage.shell(region, &script).map(drop)
}

/// Waits until Patroni is paused, or is no longer: the joins do that, once all regions stream.
fn paused(stage: &Stage<'_>, region: &str, wanted: bool) -> Outcome {
    let address = stage.machine(region)?.identity().address;
    let asks = format!("curl --silent --fail --cacert /etc/rolecast/ca.pem https://{address}:8008/config");
    let what = if wanted { "the joins to pause Patroni" } else { "the joins to lift Patroni's pause" };
    stage
        .expect_within(what, stage.patience(90), |stage| {
            Ok(stage.shell(region, &asks)?.contains("\"pause\": true") == wanted)
        })
        .map(drop)
}

/// Planned.
pub const SWITCHOVER: Scenario = Scenario {
    name: "switchover",
    number: 4,
    proves: "A planned switchover moves the lead within seconds and loses nothing",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let leader = stage.leader()?;
        let successor = stage.cast.other_regions(&leader)[0].to_owned();
        let fault = switch_over(stage, &leader, &successor)?;
        stage.wait_served(stage.patience(60))?;
        tell(stage, "the switchover's start", fault, 3.0);
        let now = stage.recorder.now();
        let longest = measure::longest_gap(&stage.recorder.read().requests, stage.writes(), (fault, now));
        stage.seconds("longest gap of writes in it", longest, Some(3.0));
        stage.wait_whole().map(drop)
    },
};

/// Moves the lead. Returns when that was asked for.
pub fn switch_over(stage: &Stage<'_>, from: &str, to: &str) -> Result<Duration, super::Failure> {
    stage.expect_within(&format!("{to} to be the synchronous standby"), stage.patience(60), |stage| {
        stage.may_lead(to)
    })?;
    let at = stage.fault(&format!("switch over from {from} to {to}"));
    stage.shell(from, &format!("rolecast-join switchover --to {to} 2>&1"))?;
    stage.expect_within(
        &format!("{to} to lead"),
        stage.patience(60),
        |stage| Ok(stage.leaders() == [to.to_owned()]),
    )?;
    Ok(at)
}

/// How long what was broken at `fault` was felt.
fn tell(stage: &mut Stage<'_>, what: &str, fault: Duration, aim: f64) {
    let (reads, writes, now) = (stage.reads(), stage.writes(), stage.recorder.now());
    let requests = stage.recorder.read().requests.clone();
    if let Some(write) = measure::first_success_after_failure(&requests, writes, fault) {
        stage.seconds(&format!("first write after {what}"), write, Some(aim));
    }
    if let Some(last) = measure::outage(&requests, writes, fault, now) {
        stage.seconds(&format!("until no write fails any more after {what}"), last, None);
    }
    if let Some(last) = measure::outage(&requests, reads, fault, now) {
        stage.seconds(&format!("until no read fails any more after {what}"), last, None);
    }
    let failed = measure::failures(&requests, writes, fault, now);
    stage.figure("writes that failed in flight", failed.in_flight as f64, "requests", None);
    stage.figure("new writes that failed", failed.new as f64, "requests", None);
}

/// An old leader that was powered on becomes a replica, and its database never takes a write on the way.
pub fn returns_as_replica(stage: &mut Stage<'_>, old: &str) -> Outcome {
    let since = stage.recorder.now();
    let joined = stage.wait_joined(&[old], stage.patience(180))?;
    stage.seconds(&format!("{old} joined again"), joined, None);
    stage.wait_whole()?;
    let took_writes = wrote(stage, old, since);
    stage.check(!took_writes, || format!("{old} took writes after it came back"))
}

/// Whether a database took writes at any time since `since`.
pub fn wrote(stage: &Stage<'_>, name: &str, since: Duration) -> bool {
    use crate::lab::timeline::Seen;
    let recording = stage.recorder.read();
    let Some(node) = recording.nodes.iter().position(|known| known == name) else { return false };
    let writable = Seen::Writable(true);
    !recording.spans(node, &writable, |seen| *seen == writable, (since, stage.recorder.now())).is_empty()
}
