//! Proof 3: the API process of a region dies alone; its machine, database and proxy live on.

use std::time::Duration;

use crate::lab::timeline::measure;

use super::stage::{Outcome, Stage};
use super::{Begins, CONTAINERS, Scenario};

/// HAProxy asks every 2 s and believes the third failure; the check itself may take up to 3 s.
const NOTICED: Duration = Duration::from_secs(2 * 3);

/// The API process of each region in turn.
pub const API_DIES: Scenario = Scenario {
    name: "api-dies",
    number: 3,
    proves: "When only the API process of a region dies, whichever it is, no new request fails after HAProxy's check \
             interval times fall; from the virtual address's holder, and from no other, the address moves on",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        // HAProxy gives a client to one region by its address: one of the deaths is of that region's API. The holder is
        // the last, so that each region is what it was at the beginning when its turn comes.
        let holder = stage.holder()?;
        for region in stage.cast.other_regions(&holder).into_iter().map(str::to_owned).chain([holder.clone()]) {
            dies(stage, &region, &holder)?;
        }
        Ok(())
    },
};

fn dies(stage: &mut Stage<'_>, region: &str, holder: &str) -> Outcome {
    let holds = region == holder;
    let fault = stage.fault(&format!("kill the API process of {region}, and keep it from coming back"));
    stage.shell(region, "systemctl mask --runtime --quiet maas-regiond && systemctl kill -s KILL maas-regiond")?;
    // Requests that are under way when the address moves lose their connection, as at any failover of it.
    let mut moved = fault;
    if holds {
        stage.expect_within("the address to move", stage.patience(60), |stage| {
            Ok(stage.holders().iter().all(|name| name != region) && !stage.holders().is_empty())
        })?;
        moved = stage.recorder.now();
        stage.seconds("until the virtual address moved", moved - fault, None);
    }
    stage.pass((fault + 2 * NOTICED).saturating_sub(stage.recorder.now()));
    if !holds {
        let now = stage.holders();
        stage.check(now == [holder], || {
            format!("the address moved from {holder}, whose API lives, to {}", now.join(", "))
        })?;
    }
    let now = stage.recorder.now();
    let mut late = Vec::new();
    for (of, name) in [(stage.reads(), "reads"), (stage.writes(), "writes")] {
        let requests = stage.recorder.read().requests.clone();
        let soon = measure::failures(&requests, of, fault, fault + NOTICED);
        let after = measure::failures_around(&requests, of, (fault + NOTICED, now), moved);
        let whose = if holds { format!("{region}, the holder") } else { region.to_owned() };
        let mut count = |what: &str, count: usize, aim| {
            stage.figure(&format!("{whose}: {name} {what}"), count as f64, "requests", aim);
        };
        count("in flight at its death that failed", soon.in_flight, None);
        count("sent later that failed until HAProxy noticed", soon.new, None);
        if holds {
            count("in flight when the address moved that failed", after.in_flight, None);
        }
        count("that failed after that", after.new, Some(0.0));
        if after.new > 0 {
            let why = measure::reasons(&requests, of, (fault + NOTICED, now));
            late.extend(why.iter().map(|(why, count)| format!("{count} {name}: {why}")));
        }
    }
    stage.mend(&format!("let the API process of {region} come back"));
    stage.shell(region, "systemctl unmask --runtime --quiet maas-regiond && systemctl start maas-regiond")?;
    stage.check(late.is_empty(), || {
        format!("new requests failed after HAProxy should have noticed:\n{}", late.join("\n"))
    })?;
    stage.wait_whole().map(drop)
}
