//! Proof 3: the API process of a region dies alone; its machine, database and proxy live on.

use std::time::Duration;

use crate::lab::timeline::measure;

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
        let holder = stage.holder()?;
        let fault = stage.fault(&format!("kill the API process of {holder}, and keep it from coming back"));
        stage.shell(&holder, "systemctl mask --runtime --quiet maas-regiond && systemctl kill -s KILL maas-regiond")?;
        stage.expect_within("the address to move", stage.patience(60), |stage| {
            Ok(stage.holders().iter().all(|name| *name != holder) && !stage.holders().is_empty())
        })?;
        let moved = stage.recorder.now() - fault;
        stage.seconds("until the virtual address moved", moved, None);
        stage.pass(NOTICED);
        let now = stage.recorder.now();
        let mut late = 0;
        for (of, name) in [(stage.reads(), "reads"), (stage.writes(), "writes")] {
            let requests = stage.recorder.read().requests.clone();
            let soon = measure::failures(&requests, of, fault, fault + NOTICED);
            stage.figure(&format!("{name} that failed in flight"), soon.in_flight as f64, "requests", None);
            stage.figure(&format!("new {name} that failed until HAProxy noticed"), soon.new as f64, "requests", None);
            let new = measure::failures(&requests, of, fault + NOTICED, now).new;
            stage.figure(&format!("new {name} that failed after that"), new as f64, "requests", Some(0.0));
            late += new;
        }
        stage.mend(&format!("let the API process of {holder} come back"));
        stage.shell(&holder, "systemctl unmask --runtime --quiet maas-regiond && systemctl start maas-regiond")?;
        stage.check(late == 0, || format!("{late} new requests failed after HAProxy should have noticed"))?;
        stage.wait_whole().map(drop)
    },
};
