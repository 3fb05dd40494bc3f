//! Proof 7: a machine dies and one with the same seed and an empty disk takes its place, its peers being up. (That a rack
//! boots before any region is part of proof 1.)

use super::leader::switch_over;
use super::stage::{Failure, Outcome, Stage};
use super::{Begins, CONTAINERS, Scenario};

/// Seconds from power on to joined, for whichever machine, when nothing else is amiss.
pub const JOINED_WITHIN: f64 = 15.0;

/// The rack that is also the witness.
pub const RACK_REPLACED: Scenario = Scenario {
    name: "rack-replaced",
    number: 7,
    proves: "A rack dies and a new one with the same seed takes its place, in MAAS and in etcd",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let rack = stage.cast.witness().ok_or_else(|| Failure("no rack votes".into()))?.to_owned();
        let leader = stage.leader()?;
        let racks = "SELECT count(*) FROM maasserver_node WHERE hostname NOT IN (SELECT hostname FROM \
                     maasserver_node JOIN maasserver_regioncontrollerprocess ON region_id = maasserver_node.id);\n";
        let before = stage.sql(&leader, "maasdb", racks)?;
        replace(stage, &rack)?;
        stage.check_members()?;
        let after = stage.sql(&leader, "maasdb", racks)?;
        stage.check(before == after, || format!("MAAS knew {before} racks, and now knows {after}"))?;
        stage.wait_whole().map(drop)
    },
};

/// Each region in turn, while another one leads.
pub const REGIONS_REPLACED: Scenario = Scenario {
    name: "regions-replaced",
    number: 7,
    proves: "Each region dies while it does not lead, and one with an empty disk takes its place within seconds",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        // The one that leads is the last: it gives the lead away once.
        let leader = stage.leader()?;
        let others: Vec<String> = stage.cast.other_regions(&leader).into_iter().map(str::to_owned).collect();
        for region in others.into_iter().chain([leader.clone()]) {
            if region == leader {
                let successor = stage.cast.other_regions(&region)[0].to_owned();
                switch_over(stage, &region, &successor)?;
                stage.wait_whole()?;
            }
            replace(stage, &region)?;
            stage.check_members()?;
            stage.wait_whole()?;
        }
        Ok(())
    },
};

/// Cuts a machine's power, empties its disk, powers it on, and says how long that took until it had joined.
fn replace(stage: &mut Stage<'_>, name: &str) -> Outcome {
    stage.kill(name, "")?;
    stage.reimage(name)?;
    let on = stage.recorder.now();
    stage.start(&[name])?;
    stage.wait_joined(&[name], stage.patience(120))?;
    let joined = stage.recorder.now() - on;
    let role = stage.machine(name)?.identity().role.clone();
    stage.seconds(&format!("power on to joined, {name} ({role})"), joined, Some(JOINED_WITHIN));
    Ok(())
}
