//! Steps of every machine: it is who it should be, where it should be, and can remember.
//!
//! Owns these steps, and the rules of secrets that change: a machine that has not joined, or that
//! cannot reach its cluster, takes new secrets at once; on a live cluster the leader changes the database's passwords
//! once all regions that answer have the new ones at hand, and then one machine after another restarts what reads them.

use super::machine::{Decision, Turn, View, list, stop, wait, wait_briefly};
use super::world::{Action, EtcdRecord, Peer};
use crate::ticket::Kind;

/// How much earlier than the last change of the secrets a clock may stand, seconds.
const CLOCK_SLACK: u64 = 3600;

/// The ticket has all its files.
pub(super) fn secrets(view: &View<'_>) -> Turn {
    match view.ticket.withheld.as_slice() {
        [] => Ok(()),
        withheld => Err(wait(format!(
            "secrets: {} files have not travelled with the seed; run `rolecast apply {}`",
            withheld.len(),
            view.ticket.node
        ))),
    }
}

/// State is where it lasts, and can be written.
pub(super) fn state(view: &View<'_>) -> Turn {
    let local = view.local()?;
    if local.state_in_memory && view.own.kind == Kind::Region && !view.ticket.memory_state {
        return Err(stop(
            "this region's state is in memory only: at power-off its database would be gone",
            "boot it from disk, or allow it with `--memory-state` when its seed is made or its ticket applied",
        ));
    }
    match &local.state_trouble {
        None => Ok(()),
        Some(trouble) => Err(wait(format!("state that can be written: {trouble}"))),
    }
}

/// The ticket's files lie where they belong.
pub(super) fn files(view: &View<'_>) -> Turn {
    if view.local()?.files_laid { Ok(()) } else { Err(Decision::Do(Action::LayFiles)) }
}

/// The machine has its name before anything of MAAS runs: MAAS takes two machines of one name for one.
pub(super) fn host_name(view: &View<'_>) -> Turn {
    if view.local()?.host_name == view.ticket.node { Ok(()) } else { Err(Decision::Do(Action::SetHostName)) }
}

/// The machine has its address, alone.
pub(super) fn address(view: &View<'_>) -> Turn {
    let local = view.local()?;
    let address = view.own.address;
    if let Some(other) = &local.address_taken_by {
        return Err(wait(format!(
            "its address: {address} is also used by {other}; give one of the two another address"
        )));
    }
    if local.address_present {
        Ok(())
    } else if view.done.contains(&Action::ReloadNetwork) {
        Err(wait(format!("its address: no card carries {address}; is the card of the image file's `mac` connected?")))
    } else {
        Err(Decision::Do(Action::ReloadNetwork))
    }
}

/// The clock is not so wrong that certificates are not valid yet.
pub(super) fn clock(view: &View<'_>) -> Turn {
    let now = view.local()?.now;
    if now.saturating_add(CLOCK_SLACK) >= view.ticket.issued {
        return Ok(());
    }
    Err(wait(format!(
        "a right clock: it says {}, and the secrets were made {}; set it, or let the machine reach a time server",
        time(now),
        time(view.ticket.issued)
    )))
}

/// The machine's certificate is valid.
pub(super) fn certificate(view: &View<'_>) -> Turn {
    match view.local()?.certificate_days {
        Some(days) if days < 0 => Err(wait(format!(
            "a valid certificate: its own ended {} days ago; run `rolecast secrets rotate` and `rolecast apply {}`",
            -days, view.ticket.node
        ))),
        _ => Ok(()),
    }
}

/// Services that start from here on run with the ticket's secrets; those that do not matter yet take them at once.
pub(super) fn generation(view: &View<'_>) -> Turn {
    let (has, wants) = (view.record.secrets_generation, view.ticket.generation);
    if has >= wants {
        return Ok(());
    }
    let reloaded = view.done.contains(&Action::ReloadSecrets);
    if has == 0 || reloaded {
        return view.remember(|record| record.secrets_generation = wants);
    }
    // Without a quorum nothing that runs here can be hurt, and the old secrets may be why.
    let cut_off = view.own.voter && view.record.etcd == EtcdRecord::Member && {
        let etcd = view.etcd()?;
        etcd.running && !etcd.healthy
    };
    if !view.record.joined || cut_off { Err(Decision::Do(Action::ReloadSecrets)) } else { Ok(()) }
}

/// On a live cluster, this machine's turn to run with new secrets has come. The leader's turn is first: it has just
/// changed the database's passwords. Then the other regions, then the other voters, in the ticket's order.
pub(super) fn rotation(view: &View<'_>) -> Turn {
    let wants = view.ticket.generation;
    if view.record.secrets_generation >= wants {
        return Ok(());
    }
    if view.done.contains(&Action::ReloadSecrets) {
        return view.remember(|record| record.secrets_generation = wants);
    }
    // A rack that is no voter stands behind no one's back: the regions refuse it until it has what they have.
    if view.own.voter || view.own.kind == Kind::Region {
        let before = before(view)?;
        let behind = |peer: &&Peer| {
            let running = peer.says.as_ref().map(|says| says.secrets_generation);
            before.contains(&peer.name) && running.is_some_and(|generation| generation < wants)
        };
        let behind: Vec<&str> = view.peers()?.iter().filter(behind).map(|peer| peer.name.as_str()).collect();
        if !behind.is_empty() {
            return Err(wait_briefly(format!(
                "{} to run with the new secrets (generation {wants}) first",
                list(behind)
            )));
        }
    }
    Err(Decision::Do(Action::ReloadSecrets))
}

/// The machines that take new secrets before this one.
fn before(view: &View<'_>) -> Result<Vec<String>, Decision> {
    let leader = match view.own.kind {
        Kind::Region if view.leads()? => return Ok(vec![]),
        Kind::Region => view.database()?.leader.clone(),
        _ => None,
    };
    let mut regions: Vec<String> = view.cluster().regions().map(|node| node.name.clone()).collect();
    if view.own.kind == Kind::Region {
        regions = regions.into_iter().take_while(|name| name != &view.own.name).collect();
        regions.extend(leader);
        return Ok(regions);
    }
    let voters = view.cluster().voters().filter(|node| node.kind != Kind::Region);
    regions.extend(voters.take_while(|node| node.name != view.own.name).map(|node| node.name.clone()));
    Ok(regions)
}

/// MAAS is on the machine.
pub(super) fn maas_installed(view: &View<'_>) -> Turn {
    if view.local()?.maas_installed { Ok(()) } else { Err(Decision::Do(Action::InstallMaas)) }
}

/// The machine remembers that it was once wholly joined.
pub(super) fn joined(view: &View<'_>) -> Turn {
    view.remember(|record| record.joined = true)
}

/// What a person should know of the machine.
pub(super) fn warnings(view: &View<'_>) -> Vec<String> {
    let Some(local) = &view.facts.local else { return vec![] };
    let mut warnings = vec![];
    if !local.synchronised {
        warnings.push("the clock follows no time server".to_owned());
    }
    if let Some(days @ 0..30) = local.certificate_days {
        warnings.push(format!("the machine's certificate ends in {days} days: run `rolecast secrets rotate`"));
    }
    warnings
}

/// Seconds since the Epoch as a person reads them, UTC.
pub(super) fn time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days, after Howard Hinnant's `civil_from_days`; years from March, in eras of 400.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, era * 400 + year) } else { (month - 9, era * 400 + year + 1) };
    format!("{year:04}-{month:02}-{date:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::super::world::{Etcd, Local};
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(time(1_795_554_329), "2026-11-24 21:05:29 UTC");
    }

    fn with(node: &str, change: impl FnOnce(&mut Local)) -> Bench {
        let mut bench = Bench::joined(node);
        change(bench.facts.local.as_mut().unwrap());
        bench
    }

    #[test]
    fn a_machine_is_who_and_where_it_should_be() {
        assert_eq!(with("rack-2", |local| local.files_laid = false).action(), Action::LayFiles);
        assert_eq!(with("rack-2", |local| local.host_name = "localhost".into()).action(), Action::SetHostName);
        let mut lost = with("rack-2", |local| local.address_present = false);
        assert_eq!(lost.action(), Action::ReloadNetwork);
        lost.done.push(Action::ReloadNetwork);
        assert!(lost.waits().1.contains("no card carries 10.77.0.22"));
        let taken = with("rack-2", |local| local.address_taken_by = Some("52:54:00:00:00:01".into()));
        assert!(taken.waits().1.contains("10.77.0.22 is also used by 52:54:00:00:00:01"));
        let mut bare = Bench::joined("rack-2");
        bare.ticket.withheld = vec!["/etc/x".into()];
        assert!(bare.waits().1.contains("run `rolecast apply rack-2`"));
    }

    #[test]
    fn a_wrong_clock_and_an_ended_certificate_are_waited_out() {
        let early = with("rack-2", |local| local.now = 1_000_000 - CLOCK_SLACK - 1);
        assert!(
            early.waits().1.contains("it says 1970-01-12 12:46:39 UTC, and the secrets were made 1970-01-12 13:46:40")
        );
        assert_eq!(with("rack-2", |local| local.now = 1_000_000 - CLOCK_SLACK).next().step, "joined");
        assert!(with("rack-2", |local| local.certificate_days = Some(-3)).waits().1.contains("ended 3 days ago"));
        let soon = with("rack-2", |local| (local.certificate_days, local.synchronised) = (Some(9), false));
        assert_eq!(soon.warnings().len(), 2);
    }

    #[test]
    fn a_region_keeps_its_state_and_a_full_one_is_waited_out() {
        let memory = |node: &str| with(node, |local| local.state_in_memory = true);
        assert!(memory("region-1").stops().1.contains("in memory only"));
        assert_eq!(memory("rack-2").next().step, "joined");
        let mut allowed = memory("region-1");
        allowed.ticket.memory_state = true;
        assert_eq!(allowed.next().step, "joined");
        let full = with("region-1", |local| local.state_trouble = Some("the state partition is full".into()));
        assert!(full.waits().1.contains("is full"));
    }

    #[test]
    fn new_secrets_are_taken_at_once_where_nothing_depends_on_the_old() {
        let newer = |bench: Bench| {
            let mut bench = bench;
            bench.ticket.generation = 2;
            bench
        };
        let first = newer(Bench::joined("rack-1").record(|record| record.secrets_generation = 0));
        assert_eq!(first.keeps().secrets_generation, 2);
        let joining = newer(Bench::joined("rack-1").record(|record| record.joined = false));
        assert_eq!(joining.action(), Action::ReloadSecrets);
        let mut cut_off = newer(Bench::joined("rack-1"));
        cut_off.facts.etcd = Some(Etcd { has_data: true, running: true, healthy: false, leads: false });
        assert_eq!(cut_off.action(), Action::ReloadSecrets);
        assert_eq!(newer(Bench::joined("rack-2")).action(), Action::ReloadSecrets, "no voter: nobody waits for it");
    }
}
