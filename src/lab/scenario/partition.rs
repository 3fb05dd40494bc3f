//! Proof 6: the network is cut in every way that splits regions and witness, with clients on both sides.
//!
//! That never two databases take writes is the suite's check, after every scenario; what each of these adds is who still
//! serves, and that it heals by itself.

use std::time::Duration;

use crate::lab::machine::Exec;
use crate::lab::timeline::measure::{self, Of};

use super::stage::{Failure, Stage};
use super::suite::OTHER_STATION;
use super::{Begins, CONTAINERS, Outcome, Scenario};

/// How long a cut lasts where a lead can change: longer than Patroni's `ttl` of 20 s with all that follows it.
const LONG: Duration = Duration::from_secs(30);

/// How long a cut lasts where none should.
const SHORT: Duration = Duration::from_secs(12);

/// Seconds after which every voter is part of etcd's quorum again. TCP that was left to its own retransmissions would be silent
/// for as long again as the cut lasted.
const QUORUM_WITHIN: u64 = 20;

/// The leader alone on one side.
pub const LEADER_ALONE: Scenario = Scenario {
    name: "partition-leader",
    number: 6,
    proves: "A leader that is cut off stops taking writes before the other side begins to, and becomes a replica",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let leader = stage.leader()?;
        let rest = everyone_but(stage, &[&leader]);
        stage.add_client(OTHER_STATION)?;
        let with_leader = [leader.as_str(), "c1"];
        let mut majority = refs(&rest);
        majority.push(OTHER_STATION);
        let fault = stage.partition(&[&majority, &with_leader])?;
        let other = stage.client(1, true)?;
        let write = stage.wait_success("the first write of the majority", other, fault, stage.patience(90))?;
        let requests = stage.recorder.read().requests.clone();
        let last = measure::last_success(&requests, stage.writes(), fault);
        if let Some(last) = last {
            stage.seconds("last write that the cut-off leader acknowledged", last, None);
        }
        stage.seconds("first write of the majority", write, Some(25.0));
        stage.pass(LONG.saturating_sub(stage.recorder.now() - fault));
        stage.check(!stage.writers().contains(&leader), || format!("{leader} takes writes while it is cut off"))?;
        heal(stage)
    },
};

/// The standby alone on one side.
pub const STANDBY_ALONE: Scenario = Scenario {
    name: "partition-standby",
    number: 6,
    proves: "When a standby is cut off the leader goes on leading, and the standby promotes nothing",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let leader = stage.leader()?;
        let standby = stage.cast.other_regions(&leader)[0].to_owned();
        let rest = everyone_but(stage, &[&standby]);
        stage.add_client(OTHER_STATION)?;
        let mut majority = refs(&rest);
        majority.push("c1");
        let fault = stage.partition(&[&majority, &[&standby, OTHER_STATION]])?;
        stage.wait_success("the first write of the majority", stage.writes(), fault, stage.patience(90))?;
        stage.pass(LONG.saturating_sub(stage.recorder.now() - fault));
        leads_still(stage, &leader)?;
        let gap = measure::longest_gap(&stage.recorder.read().requests, stage.writes(), (fault, stage.recorder.now()));
        stage.seconds("longest gap of writes on the leader's side", gap, Some(25.0));
        heal(stage)
    },
};

/// The witness alone on one side.
pub const WITNESS_ALONE: Scenario = Scenario {
    name: "partition-witness",
    number: 6,
    proves: "When the witness is cut off nobody notices",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let leader = stage.leader()?;
        let witness = witness(stage)?;
        let rest = everyone_but(stage, &[&witness]);
        stage.add_client(OTHER_STATION)?;
        let mut majority = refs(&rest);
        majority.push("c1");
        let fault = stage.partition(&[&majority, &[&witness, OTHER_STATION]])?;
        stage.pass(SHORT);
        leads_still(stage, &leader)?;
        let failed = measure::failures(&stage.recorder.read().requests, stage.writes(), fault, stage.recorder.now());
        stage.figure("writes that failed", (failed.in_flight + failed.new) as f64, "requests", Some(0.0));
        heal(stage)
    },
};

/// Nobody has a majority.
pub const ALL_APART: Scenario = Scenario {
    name: "partition-all",
    number: 6,
    proves: "When nobody hears anybody, nobody takes writes; it heals by itself",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let (one, two) = (stage.cast.regions[0].clone(), stage.cast.regions[1].clone());
        let rest = everyone_but(stage, &[&one, &two]);
        stage.add_client(OTHER_STATION)?;
        stage.partition(&[&refs(&rest), &[&one, "c1"], &[&two, OTHER_STATION]])?;
        stage.expect_within("nobody to take writes", stage.patience(60), |stage| Ok(stage.writers().is_empty()))?;
        stage.expect_for("nobody to take writes", SHORT, |stage| Ok(stage.writers().is_empty()))?;
        heal(stage)
    },
};

/// The regions do not hear each other, and both hear the witness: a quorum for either, and the lock for one.
pub const REGIONS_APART: Scenario = Scenario {
    name: "partition-regions",
    number: 6,
    proves: "When the regions hear only the witness and not each other, the one that leads goes on",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let leader = stage.leader()?;
        stage.add_client(OTHER_STATION)?;
        let regions: Vec<String> = stage.cast.regions.clone();
        let fault = stage.sever(&refs(&regions))?;
        let (one, other) = (stage.writes(), stage.client(1, true)?);
        let effect = stage.recorder.now();
        // Both regions hold the virtual address now; a client that meets the one that leads gets through.
        stage.wait("a write of either client", stage.patience(60), |stage| {
            let requests = &stage.recorder.read().requests;
            Ok([one, other].iter().find_map(|of| measure::first_success(requests, *of, effect)))
        })?;
        stage.pass(LONG.saturating_sub(stage.recorder.now() - fault));
        leads_still(stage, &leader)?;
        heal(stage)
    },
};

fn heal(stage: &mut Stage<'_>) -> Outcome {
    let healed = stage.heal()?;
    stage.expect_within("every voter to be part of etcd's quorum", stage.patience(QUORUM_WITHIN), |stage| {
        stage.cast.voters.iter().try_fold(true, |all, voter| Ok(all && stage.votes(voter)?))
    })?;
    let quorum = stage.recorder.now() - healed;
    stage.seconds("heal to every voter in etcd's quorum", quorum, Some(8.0));
    stage.wait_whole()?;
    let whole = stage.recorder.now() - healed;
    stage.seconds("heal to whole", whole, Some(15.0));
    stage.check_members()
}

fn leads_still(stage: &Stage<'_>, leader: &str) -> Outcome {
    stage.check(stage.writers() == [leader.to_owned()], || {
        format!("{leader} led, and now these take writes: {}", stage.writers().join(", "))
    })
}

fn witness(stage: &Stage<'_>) -> Result<String, Failure> {
    stage.cast.witness().map(str::to_owned).ok_or_else(|| Failure("no rack votes".into()))
}

fn everyone_but(stage: &Stage<'_>, without: &[&str]) -> Vec<String> {
    stage.cast.everyone().into_iter().filter(|name| !without.contains(name)).map(str::to_owned).collect()
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

impl Stage<'_> {
    /// Whether a voter's own etcd answers with a quorum behind it.
    fn votes(&self, name: &str) -> Result<bool, Failure> {
        let asks = self.etcdctl(name, "--command-timeout 1s get rolecast")?;
        Ok(self.machine(name)?.exec(&Exec::shell(&asks))?.succeeded())
    }

    /// The requests of another client.
    fn client(&self, index: usize, writes: bool) -> Result<Of, Failure> {
        let client = self.clients.get(index).ok_or_else(|| Failure("there is no such client".into()))?;
        Ok(Of { client: client.index(), writes })
    }
}
