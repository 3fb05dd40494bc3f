//! Proof 3: the API process of a region dies alone; its machine, database and proxy live on.

use std::time::Duration;

use crate::lab::timeline::measure;

use super::stage::{Outcome, Stage};
use super::{Begins, CONTAINERS, Scenario};

/// HAProxy asks every 2 s and believes the third failure; the check itself may take up to 3 s.
const NOTICED: Duration = Duration::from_secs(2 * 3);

/// The unit that is killed, of the holder of the virtual address.
pub const API_DIES: Scenario = Scenario {
    name: "api-dies",
    number: 3,
    proves: "When only the API process of the address's holder dies, no new request fails after HAProxy's check interval \
             times fall, and the address moves to a region whose API lives",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        // HAProxy gives a client to one region by its address; one of the two deaths is of that region's API.
        let holder = stage.holder()?;
        for region in stage.cast.other_regions(&holder).into_iter().map(str::to_owned).chain([holder.clone()]) {
            dies(stage, &region, region == holder)?;
        }
        Ok(())
    },
};

fn dies(stage: &mut Stage<'_>, region: &str, holds: bool) -> Outcome {
    let fault = stage.fault(&format!("kill the API process of {region}, and keep it from coming back"));
    stage.shell(region, "systemctl mask --runtime --quiet maas-regiond && systemctl kill -s KILL maas-regiond")?;
    if holds {
        stage.expect_within("the address to move", stage.patience(60), |stage| {
            Ok(stage.holders().iter().all(|name| name != region) && !stage.holders().is_empty())
        })?;
        let moved = stage.recorder.now() - fault;
        stage.seconds("until the virtual address moved", moved, None);
    }
    stage.pass((fault + 2 * NOTICED).saturating_sub(stage.recorder.now()));
    let now = stage.recorder.now();
    let mut late = 0;
    for (of, name) in [(stage.reads(), "reads"), (stage.writes(), "writes")] {
        let requests = stage.recorder.read().requests.clone();
        let soon = measure::failures(&requests, of, fault, fault + NOTICED);
        let when = if holds { "the holder's API died" } else { "another region's API died" };
        stage.figure(&format!("{name} that failed in flight when {when}"), soon.in_flight as f64, "requests", None);
        stage.figure(&format!("new {name} that failed until HAProxy noticed"), soon.new as f64, "requests", None);
        let new = measure::failures(&requests, of, fault + NOTICED, now).new;
        stage.figure(&format!("new {name} that failed after that"), new as f64, "requests", Some(0.0));
        late += new;
    }
    stage.mend(&format!("let the API process of {region} come back"));
    stage.shell(region, "systemctl unmask --runtime --quiet maas-regiond && systemctl start maas-regiond")?;
    stage.check(late == 0, || format!("{late} new requests failed after HAProxy should have noticed"))?;
    stage.wait_whole().map(drop)
}
