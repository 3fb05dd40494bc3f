//! Proof 7: a rack dies and a new one takes its place. (That a rack boots before any region is part of proof 1.)

use super::stage::Failure;
use super::{Begins, CONTAINERS, Scenario};

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
        stage.kill(&rack, "which votes")?;
        stage.reimage(&rack)?;
        stage.start(&[&rack])?;
        let joined = stage.wait_joined(&[&rack], stage.patience(120))?;
        stage.seconds("power on to joined", joined, None);
        stage.check_members()?;
        let after = stage.sql(&leader, "maasdb", racks)?;
        stage.check(before == after, || format!("MAAS knew {before} racks, and now knows {after}"))?;
        stage.wait_whole().map(drop)
    },
};
