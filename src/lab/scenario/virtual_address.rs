//! Proof 2: the region that holds the virtual address dies.

use std::time::Duration;

use crate::lab::timeline::measure;

use super::stage::Stage;
use super::{BOTH, Begins, Scenario, leader};

/// The holder dies while another region leads: what is measured is the address, not the database.
pub const HOLDER_DIES: Scenario = Scenario {
    name: "address-holder-dies",
    number: 2,
    proves: "When the region that holds the virtual address dies, another takes it and the API answers again",
    on: BOTH,
    begins: Begins::Formed,
    run: |stage| {
        let holder = stage.holder()?;
        if stage.leader()? == holder {
            let successor = stage.cast.other_regions(&holder)[0].to_owned();
            leader::switch_over(stage, &holder, &successor)?;
            stage.wait_whole()?;
        }
        let fault = stage.kill(&holder, "which holds the virtual address")?;
        let read = stage.wait_success("the first read", stage.reads(), fault, stage.patience(60))?;
        let write = stage.wait_success("the first write", stage.writes(), fault, stage.patience(60))?;
        stage.wait_served(stage.patience(90))?;
        tell(stage, fault);
        stage.seconds("until the first read", read, None);
        stage.seconds("until the first write", write, None);
        let new = stage.holder()?;
        stage.check(new != holder, || format!("{holder} is off and still holds the virtual address"))?;
        stage.start(&[&holder])?;
        stage.wait_joined(&[&holder], stage.patience(180))?;
        // It comes back without taking the address: a failover moves it once.
        stage.expect_for("the address to stay", Duration::from_secs(5), |stage| Ok(stage.holders() == [new.clone()]))
    },
};

fn tell(stage: &mut Stage<'_>, fault: Duration) {
    let (reads, now) = (stage.reads(), stage.recorder.now());
    let requests = stage.recorder.read().requests.clone();
    let effect = stage.in_effect.get();
    if let Some(contact) = measure::first_contact(&requests, reads, effect) {
        let without = contact + effect - fault;
        stage.seconds("without the virtual address: until the first connection", without, Some(2.0));
    }
    if let Some(last) = measure::outage(&requests, reads, fault, now) {
        stage.seconds("until no read fails any more", last, None);
    }
    let failed = measure::failures(&requests, reads, fault, now);
    stage.figure("reads that failed in flight", failed.in_flight as f64, "requests", None);
    stage.figure("new reads that failed", failed.new as f64, "requests", None);
}
