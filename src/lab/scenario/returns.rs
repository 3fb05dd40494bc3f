//! Proof 5: the old leader comes back. (That it does so plainly is part of proof 4.)

use std::time::Duration;

use super::leader::{returns_as_replica, wrote};
use super::replaced::JOINED_WITHIN;
use super::{Begins, CONTAINERS, Scenario};

/// It is powered on while the network is still cut: it cannot know that another leads by now.
pub const OLD_LEADER_CUT_OFF: Scenario = Scenario {
    name: "old-leader-cut-off",
    number: 5,
    proves: "An old leader that comes back behind a cut network takes no write, and becomes a replica once the cut heals",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let old = stage.leader()?;
        let fault = stage.kill(&old, "which leads")?;
        stage.cut(&old, "so that it comes back alone")?;
        stage.start(&[&old])?;
        let since = stage.recorder.now();
        stage.wait_success("the first write", stage.writes(), fault, stage.patience(90))?;
        stage.expect_for("the old leader to take no write", Duration::from_secs(8), |stage| {
            Ok(!wrote(stage, &old, since))
        })?;
        stage.heal()?;
        returns_as_replica(stage, &old)
    },
};

/// It was installed anew: an empty database must not become a second cluster, an empty etcd not a second quorum.
pub const OLD_LEADER_REIMAGED: Scenario = Scenario {
    name: "old-leader-reimaged",
    number: 5,
    proves: "An old leader that was re-imaged finds the cluster, replaces its member of etcd and becomes a replica",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let old = stage.leader()?;
        let identity = "SELECT system_identifier FROM pg_control_system();\n";
        let before = stage.sql(&old, "postgres", identity)?;
        let fault = stage.kill(&old, "which leads")?;
        stage.reimage(&old)?;
        let on = stage.recorder.now();
        stage.start(&[&old])?;
        stage.wait_success("the first write", stage.writes(), fault, stage.patience(90))?;
        let led = stage.recorder.now();
        stage.wait_joined(&[&old], stage.patience(180))?;
        let joined = stage.recorder.now();
        // Nobody leads when it comes on: Patroni has no one to copy the database from before the dead leader's lock ends.
        stage.seconds("power on to joined, the failover in it", joined - on, None);
        stage.seconds("the first write after the failover to joined", joined - led, Some(JOINED_WITHIN));
        returns_as_replica(stage, &old)?;
        stage.check_members()?;
        let after = stage.sql(&old, "postgres", identity)?;
        stage.check(before == after, || format!("the database is another one: {after}, and it was {before}"))
    },
};
