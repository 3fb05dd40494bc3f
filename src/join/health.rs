//! Is the version that was booted healthy on this machine?
//!
//! A version that an update brought is on trial: the boot loader counts its tries, and only `rolecast-health.service`
//! being content makes it good (`systemd-bless-boot.service(8)`). Owns what counts: the seal, state, the join and its
//! ticket, and services that crash. What lies outside the machine never does, so one that waits for its cluster is
//! healthy. Looks by itself; restarts nothing, that is the unit's.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::status::{State, Status};
use super::tables::Image;
use super::world::Record;
use super::{accept, adapters, record, release};
use crate::report::{Diagnostic, Kind};
use crate::ticket::Ticket;

/// How long a machine has to be without trouble to be healthy.
const QUIET: Duration = Duration::from_secs(30);

/// How long trouble may take to pass.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(3);

/// How many crashes of a service since boot are one too many, the last being no older than [`FRESH`].
const CRASHES: usize = 3;

/// How long a crash counts as one of now.
const FRESH: Duration = Duration::from_secs(60);

/// The unit that joins.
const JOIN: &str = "rolecast-join.service";

/// Units whose failure tells of the network, or of an earlier verdict, and not of the version.
const OUTSIDE: &[&str] = &["systemd-networkd-wait-online.service", "rolecast-health.service"];

/// What a look at the machine found.
#[derive(Clone, Debug)]
pub struct Look {
    /// Why the root is not the sealed one, where it should be.
    pub seal: Option<String>,
    /// Why state does not last or cannot be written.
    pub state: Option<String>,
    /// The accepted ticket; none when the machine has none.
    pub ticket: Result<Option<Ticket>, String>,
    /// The join's record.
    pub record: Result<Record, String>,
    /// What the join said last.
    pub status: Result<Option<Status>, String>,
    /// Whether the join runs.
    pub joins: bool,
    /// Units that failed and stay so.
    pub failed: Vec<String>,
    /// Failures since boot that are not for lack of time: unit, and seconds since boot.
    pub crashes: Vec<(String, u64)>,
    /// Seconds since boot.
    pub uptime: u64,
}

/// What is wrong; nothing when the machine is healthy as far as one look can tell.
pub fn troubles(look: &Look, image: &Image) -> Vec<String> {
    // There is no way back from a schema that was begun, so a restart would help nobody.
    if look.record.as_ref().is_ok_and(|record| release::keeps(record, image)) {
        return vec![];
    }
    let mut found: Vec<String> = look.seal.iter().chain(&look.state).cloned().collect();
    match &look.ticket {
        Err(why) => found.push(why.clone()),
        Ok(Some(ticket)) if ticket.image != image.image || ticket.role != image.role => found.push(format!(
            "the accepted ticket is for role `{}` of `{}`, and this is role `{}` of `{}`",
            ticket.role, ticket.image, image.role, image.image
        )),
        Ok(_) => {}
    }
    found.extend(look.record.as_ref().err().cloned());
    match &look.status {
        Err(why) => found.push(why.clone()),
        Ok(None) => found.push("the join has not said where it stands".to_owned()),
        Ok(Some(status)) if status.state == State::Stopped => {
            found.push(format!("the join has stopped: {}", status.what.as_deref().unwrap_or("it does not say why")));
        }
        Ok(Some(_)) if !look.joins => found.push(format!("{JOIN} does not run")),
        Ok(Some(_)) => {}
    }
    let inside = |unit: &str| !OUTSIDE.contains(&unit);
    let failed = look.failed.iter().filter(|unit| inside(unit) && *unit != JOIN);
    found.extend(failed.map(|unit| format!("{unit} has failed")));
    let mut crashes: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (unit, when) in look.crashes.iter().filter(|(unit, _)| inside(unit)) {
        crashes.entry(unit).or_default().push(*when);
    }
    for (unit, times) in crashes {
        let last = times.iter().max().copied().unwrap_or_default();
        if times.len() >= CRASHES && last + FRESH.as_secs() >= look.uptime {
            // Without the number, which would be news at every look.
            found.push(format!("{unit} crashes again and again"));
        }
    }
    found
}

/// Looks at the machine once; `root` is `/` but in tests.
///
/// # Errors
/// When systemd or the image's tables cannot be asked.
pub fn look(root: &Path) -> Result<Look, Diagnostic> {
    let message = |diagnostic: Diagnostic| diagnostic.message;
    let asked = |trouble: super::world::Trouble| Diagnostic::error(Kind::World, trouble.to_string());
    Ok(Look {
        seal: adapters::health::seal_trouble(),
        state: adapters::health::state_trouble(),
        ticket: accept::accepted(root).map_err(message),
        record: record::read(root).map_err(message),
        status: Status::read(root).map_err(message),
        joins: !adapters::units::running(&[JOIN.to_owned()]).map_err(asked)?.is_empty(),
        failed: adapters::health::failed().map_err(asked)?,
        crashes: adapters::health::crashes().map_err(asked)?,
        uptime: adapters::health::uptime(),
    })
}

/// Looks until the machine has been without trouble for a while, or has had trouble for too long.
///
/// # Errors
/// What is wrong, at the end of patience.
pub fn settle(root: &Path, image: &Image, say: &mut dyn FnMut(&str)) -> Result<(), Diagnostic> {
    let begun = Instant::now();
    let mut quiet_since = None;
    let mut said = Vec::new();
    loop {
        let found = match look(root) {
            Ok(look) => troubles(&look, image),
            Err(diagnostic) => vec![diagnostic.message],
        };
        if found.is_empty() {
            if quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET {
                return Ok(());
            }
        } else {
            quiet_since = None;
            if begun.elapsed() >= PATIENCE {
                return Err(unhealthy(&found, image));
            }
        }
        if found != said {
            say(&match found.is_empty() {
                true => "no trouble now".to_owned(),
                false => format!("not healthy yet: {}", found.join("; ")),
            });
            said = found;
        }
        std::thread::sleep(PAUSE);
    }
}

/// A version that is not healthy, as an error.
pub fn unhealthy(found: &[String], image: &Image) -> Diagnostic {
    let message = format!("{} {} is not healthy on this machine: {}", image.role, image.version, found.join("; "));
    Diagnostic::error(Kind::World, message).hint("see `systemctl --failed` and `journalctl --boot --priority=warning`")
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    /// A machine that waits for its cluster.
    fn waiting() -> Look {
        let status = Status { state: State::Waiting, ..Status::seedless(&testing::image("rack"), "") };
        Look {
            seal: None,
            state: None,
            ticket: Ok(Some(testing::ticket("rack-1"))),
            record: Ok(Record::default()),
            status: Ok(Some(status)),
            joins: true,
            failed: vec![],
            crashes: vec![],
            uptime: 1000,
        }
    }

    fn wrong(change: impl FnOnce(&mut Look)) -> String {
        let mut look = waiting();
        change(&mut look);
        troubles(&look, &testing::image("rack")).join("; ")
    }

    #[test]
    fn a_machine_that_waits_for_others_is_healthy() {
        assert_eq!(wrong(|_| {}), "");
        assert_eq!(wrong(|look| look.ticket = Ok(None)), "", "it waits for a seed");
        assert_eq!(wrong(|look| look.failed = vec!["systemd-networkd-wait-online.service".into()]), "");
    }

    #[test]
    fn what_is_wrong_with_the_machine_itself_is_told() {
        assert_eq!(wrong(|look| look.seal = Some("no seal".into())), "no seal");
        assert_eq!(
            wrong(|look| look.state = Some("the state partition is full".into())),
            "the state partition is full"
        );
        assert_eq!(wrong(|look| look.ticket = Err("damaged".into())), "damaged");
        assert!(
            wrong(|look| look.ticket = Ok(Some(testing::ticket("region-1")))).contains("is for role `region-primary`")
        );
        assert_eq!(wrong(|look| look.record = Err("damaged".into())), "damaged");
        assert_eq!(wrong(|look| look.joins = false), "rolecast-join.service does not run");
        assert!(wrong(|look| look.status = Ok(None)).contains("has not said"));
        let stopped = |look: &mut Look| {
            let status = look.status.as_mut().unwrap().as_mut().unwrap();
            (status.state, status.what) = (State::Stopped, Some("a newer schema".into()));
            look.failed = vec![JOIN.into()];
        };
        assert_eq!(wrong(stopped), "the join has stopped: a newer schema");
        assert_eq!(wrong(|look| look.failed = vec!["ssh.service".into()]), "ssh.service has failed");
    }

    #[test]
    fn a_service_crashes_when_it_does_so_again_and_again() {
        let crashed = |times: &'static [u64]| {
            wrong(move |look| look.crashes = times.iter().map(|when| ("etcd.service".into(), *when)).collect())
        };
        assert_eq!(crashed(&[940, 960, 990]), "etcd.service crashes again and again");
        assert_eq!(crashed(&[960, 990]), "");
        assert_eq!(crashed(&[20, 30, 40]), "", "that was at start, and it runs");
    }

    #[test]
    fn a_version_that_has_begun_a_schema_is_kept_whatever_happens() {
        let begun = |version: &str| {
            let schema_begun = Some(version.to_owned());
            wrong(move |look| {
                look.record = Ok(Record { schema_begun, ..Record::default() });
                look.failed = vec!["maas-regiond.service".into()];
            })
        };
        assert_eq!(begun("2026.11.1"), "");
        assert_eq!(begun("2026.10.1"), "maas-regiond.service has failed");
    }
}
