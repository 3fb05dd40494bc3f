//! Steps of a region: MAAS on the database.
//!
//! Owns the order after the database: roles, schema, shared secret, MAAS itself, its administrator, and the virtual address
//! last. What changes the database is the leader's alone, and a schema that is
//! older than the image waits for an operator. Starts nothing beside the units that `maas.toml` names, HAProxy and keepalived.

use super::database;
use super::machine::{Decision, Turn, View, list, stop, wait, wait_briefly};
use super::release;
use super::world::{Action, Peer, SchemaVersion};

/// The database has MAAS's roles, with the ticket's passwords.
pub(super) fn roles(view: &View<'_>) -> Turn {
    let database = view.database()?;
    if !database.writable {
        let leader = database.leader.as_deref().unwrap_or("nobody");
        return Err(wait(format!("a database that can be written; {leader} leads")));
    }
    let schema = view.schema()?;
    let wants = view.ticket.generation;
    let has = schema.secrets_generation.unwrap_or(0);
    if schema.database_exists && has >= wants {
        return Ok(());
    }
    if !view.leads()? {
        return Err(wait_briefly(match schema.database_exists {
            false => format!("{} to make MAAS's database", leader(view)),
            true => format!("{} to change the database's passwords (generation {wants})", leader(view)),
        }));
    }
    // From the moment of the change, who has the old passwords gets no new connection. So all have the new ones at hand.
    if schema.database_exists && has > 0 {
        let old = |peer: &&Peer| {
            let accepted = peer.says.as_ref().map(|says| says.generation);
            view.cluster().regions().any(|node| node.name == peer.name) && accepted.is_some_and(|it| it < wants)
        };
        let old: Vec<&str> = view.peers()?.iter().filter(old).map(|peer| peer.name.as_str()).collect();
        if !old.is_empty() {
            let commands = old.iter().map(|name| format!("`rolecast apply {name}`")).collect::<Vec<_>>();
            return Err(wait_briefly(format!(
                "the new secrets (generation {wants}) to be on {}, before the passwords change; run {}",
                list(old),
                list(commands.iter().map(String::as_str))
            )));
        }
    }
    Err(Decision::Do(Action::PrepareDatabase))
}

fn leader<'a>(view: &View<'a>) -> &'a str {
    view.facts.database.as_ref().and_then(|database| database.leader.as_deref()).unwrap_or("the leader")
}

/// The schema is this image's.
pub(super) fn schema(view: &View<'_>) -> Turn {
    let leads = view.leads()?;
    let image = &view.image().version;
    match &view.schema()?.version {
        SchemaVersion::Same => Ok(()),
        SchemaVersion::Absent | SchemaVersion::CutOff if leads => {
            alone(view)?;
            release::no_way_back(view)?;
            Err(Decision::Do(Action::Migrate))
        }
        SchemaVersion::Absent | SchemaVersion::CutOff => {
            Err(wait(format!("{} to migrate MAAS's schema", leader(view))))
        }
        SchemaVersion::Half if leads => Err(stop(
            "a migration of MAAS's schema was begun and failed",
            "look at the journal of rolecast-join.service on the machine that led; mend the database, or restore it",
        )),
        SchemaVersion::Half => {
            Err(wait(format!("a person to mend MAAS's schema on {}: a migration failed", leader(view))))
        }
        SchemaVersion::Newer(version) => {
            // It may have been cut off, and served, when the migration began.
            view.stopped(&view.maas()?.units.region)?;
            Err(stop(
                format!("MAAS's schema in the database ({version}) is newer than image {image} brings"),
                "boot the newer image here",
            ))
        }
        SchemaVersion::Older(version) if !leads => Err(wait(format!(
            "an upgrade: MAAS's schema is of {version} and image {image} is newer; run `rolecast-join upgrade` on {}",
            leader(view)
        ))),
        SchemaVersion::Older(version) if !view.upgrade => Err(wait(format!(
            "an upgrade: MAAS's schema is of {version} and image {image} is newer; boot the new image on all regions, \
             then run `rolecast-join upgrade` here"
        ))),
        SchemaVersion::Older(_) => {
            alone(view)?;
            release::no_way_back(view)?;
            Err(Decision::Do(Action::Migrate))
        }
    }
}

/// No region runs other code than this image's, or is about to.
fn alone(view: &View<'_>) -> Turn {
    let image = view.image().version.as_str();
    let region = |peer: &&Peer| view.cluster().regions().any(|node| node.name == peer.name);
    let other = |peer: &&Peer| match &peer.says {
        Some(says) => says.version != image,
        None => peer.serves,
    };
    let others = view.peers()?.iter().filter(region).filter(other);
    let others: Vec<&str> = others.map(|peer| peer.name.as_str()).collect();
    match others.is_empty() {
        true => Ok(()),
        false => Err(wait(format!(
            "{} to run other code no more: nothing is migrated beside it; boot image {image} there",
            list(others)
        ))),
    }
}

/// MAAS's shared secret is the ticket's, before a region makes up its own. Where it is a file, each region has one.
pub(super) fn secret(view: &View<'_>) -> Turn {
    if view.schema()?.secret_right {
        Ok(())
    } else if view.maas()?.keeps_secret_in_file() || view.leads()? {
        Err(Decision::Do(Action::PlaceSecret))
    } else {
        Err(wait_briefly(format!("{} to place MAAS's shared secret", leader(view))))
    }
}

/// What is done once before MAAS's units start has been done.
pub(super) fn initialise(view: &View<'_>) -> Turn {
    if view.record.maas_initialised {
        Ok(())
    } else if view.done.contains(&Action::InitialiseMaas) {
        view.remember(|record| record.maas_initialised = true)
    } else {
        Err(Decision::Do(Action::InitialiseMaas))
    }
}

/// MAAS's units run.
pub(super) fn start(view: &View<'_>) -> Turn {
    view.running(&view.maas()?.units.region)
}

/// MAAS answers here, and is itself.
pub(super) fn healthy(view: &View<'_>) -> Turn {
    let region = view.region()?;
    if let Some(other) = &region.merged_with {
        return Err(wait(format!(
            "a host name of its own: MAAS takes this machine and {other} for one; name one of them otherwise, and \
             delete the merged controller in MAAS"
        )));
    }
    match (&region.trouble, region.healthy) {
        (_, true) => Ok(()),
        (Some(trouble), false) => Err(wait(format!("MAAS to answer here: {trouble}"))),
        (None, false) => Err(wait("MAAS to answer here, with event loops")),
    }
}

/// MAAS has its administrator.
pub(super) fn administrator(view: &View<'_>) -> Turn {
    if view.leads()? && !view.schema()?.administrator { Err(Decision::Do(Action::CreateAdministrator)) } else { Ok(()) }
}

/// keepalived runs, the last of all: before this, nothing here is worth an address that clients use.
pub(super) fn virtual_address(view: &View<'_>) -> Turn {
    view.running(&["keepalived.service".to_owned()])
}

/// DHCP that is off gets the ticket's pair, once both racks see the subnet. What is on is a person's.
pub(super) fn dhcp(view: &View<'_>) -> Turn {
    if view.cluster().dhcp.is_empty() || !view.leads()? {
        return Ok(());
    }
    match view.dhcp()?.iter().find(|pair| pair.ready && !pair.on) {
        Some(pair) => Err(Decision::Do(Action::SetDhcp { subnet: pair.subnet.clone() })),
        None => Ok(()),
    }
}

/// What a person should know of the region.
pub(super) fn warnings(view: &View<'_>) -> Vec<String> {
    let mut warnings = vec![];
    if let Some(missing) = database::not_following(view) {
        warnings.push(format!("the database is not replicated to {missing}"));
    }
    for wanted in &view.cluster().dhcp {
        let pairs = view.facts.dhcp.iter().flatten();
        let Some(pair) = pairs.into_iter().find(|pair| pair.subnet == wanted.subnet) else { continue };
        let subnet = &wanted.subnet;
        if !pair.on {
            let racks = [Some(wanted.primary.as_str()), wanted.secondary.as_deref()];
            warnings
                .push(format!("DHCP for {subnet} is off until MAAS sees it on {}", list(racks.into_iter().flatten())));
        } else if pair.primary.as_ref() != Some(&wanted.primary) || pair.secondary != wanted.secondary {
            let name = |rack: &Option<String>| rack.clone().unwrap_or_else(|| "no rack".to_owned());
            warnings.push(format!(
                "DHCP for {subnet} has drifted: {} and {} serve it, and the image file says {} and {}",
                name(&pair.primary),
                name(&pair.secondary),
                wanted.primary,
                name(&wanted.secondary)
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::super::world::DhcpPair;
    use super::*;
    use crate::ticket::Dhcp;

    /// A machine whose boot loader has no older version left.
    fn kept(mut bench: Bench) -> Bench {
        bench.done.push(Action::KeepVersion);
        bench
    }

    #[test]
    fn one_machine_migrates_the_one_that_leads() {
        for version in [SchemaVersion::Absent, SchemaVersion::CutOff] {
            let bench = |node: &str| kept(Bench::joined(node)).schema(|schema| schema.version = version.clone());
            let alone = |node: &str| bench(node).peer("region-2", |peer| peer.serves = false);
            assert_eq!(alone("region-1").action(), Action::Migrate);
            assert!(bench("region-2").waits().1.contains("region-1 to migrate"));
            let moved = bench("region-1").database(|database| database.leader = Some("region-2".into()));
            assert!(moved.waits().1.contains("region-2 to migrate"));
        }
    }

    #[test]
    fn a_schema_is_upgraded_when_an_operator_says_so_and_never_beside_other_code() {
        let older =
            |node: &str| kept(Bench::joined(node)).schema(|schema| schema.version = SchemaVersion::Older("3.6".into()));
        assert!(older("region-1").waits().1.contains("run `rolecast-join upgrade` here"));
        assert!(older("region-2").waits().1.contains("run `rolecast-join upgrade` on region-1"));
        let asked = |bench: Bench| Bench { upgrade: true, ..bench };
        assert_eq!(asked(older("region-1")).action(), Action::Migrate);
        assert!(asked(older("region-2")).waits().1.contains("on region-1"));
        let other = |peer: &mut Peer| peer.says.as_mut().unwrap().version = "2026.10.1".into();
        let waits = |bench: Bench| asked(bench).waits().1.contains("region-2 to run other code no more");
        assert!(waits(older("region-1").peer("region-2", other)));
        let mute = |peer: &mut Peer| peer.says = None;
        assert!(waits(older("region-1").peer("region-2", mute)), "who serves and says nothing is not trusted");
        let idle = |peer: &mut Peer| peer.serves = false;
        assert!(waits(older("region-1").peer("region-2", other).peer("region-2", idle)), "it may be about to serve");
        let down = asked(older("region-1").peer("region-2", mute).peer("region-2", idle));
        assert_eq!(down.action(), Action::Migrate);
        let rack = asked(older("region-1").peer("region-2", mute).peer("region-2", idle).peer("rack-1", other));
        assert_eq!(rack.action(), Action::Migrate, "a rack has no part in the schema");
    }

    #[test]
    fn a_failed_migration_and_a_newer_schema_are_a_persons() {
        let with = |node: &str, version| Bench::joined(node).schema(|schema| schema.version = version);
        assert!(with("region-1", SchemaVersion::Half).stops().1.contains("failed"));
        assert!(with("region-2", SchemaVersion::Half).waits().1.contains("a person"));
        for node in ["region-1", "region-2"] {
            let newer = || with(node, SchemaVersion::Newer("3.8".into()));
            assert_eq!(newer().action(), Action::Stop { units: vec!["maas-regiond.service".into()] });
            let mut stopped = newer();
            stopped.facts.local.as_mut().unwrap().running.retain(|unit| unit != "maas-regiond.service");
            assert!(stopped.stops().1.contains("newer"));
        }
    }

    #[test]
    fn the_secret_is_there_before_the_first_region_and_the_virtual_address_comes_last() {
        let bench = || {
            let mut bench = Bench::joined("region-1");
            let local = bench.facts.local.as_mut().unwrap();
            local.running.retain(|unit| unit != "maas-regiond.service" && unit != "keepalived.service");
            bench
        };
        assert_eq!(bench().schema(|schema| schema.secret_right = false).action(), Action::PlaceSecret);
        let follower = Bench::joined("region-2").schema(|schema| schema.secret_right = false);
        assert!(follower.waits().1.contains("region-1 to place"));
        assert_eq!(bench().action(), Action::Start { units: vec!["maas-regiond.service".into()] });
        let mut sick = Bench::joined("region-1");
        sick.facts.local.as_mut().unwrap().running.retain(|unit| unit != "keepalived.service");
        assert_eq!(sick.action(), Action::Start { units: vec!["keepalived.service".into()] });
        sick.facts.region.as_mut().unwrap().healthy = false;
        assert_eq!(sick.waits().0, "region-healthy");
        sick.facts.region.as_mut().unwrap().merged_with = Some("region-2".into());
        assert!(sick.waits().1.contains("MAAS takes this machine and region-2 for one"));
    }

    #[test]
    fn passwords_change_once_all_regions_that_answer_have_the_new_ones() {
        let newer = |node: &str| {
            let mut bench = Bench::joined(node);
            bench.ticket.generation = 2;
            bench
        };
        let (step, what) = newer("region-1").waits();
        assert_eq!(step, "database-roles");
        assert!(what.contains("run `rolecast apply region-2`"), "{what}");
        assert!(newer("region-2").waits().1.contains("region-1 to change the database's passwords"));
        let has = |peer: &mut Peer| peer.says.as_mut().unwrap().generation = 2;
        assert_eq!(newer("region-1").peer("region-2", has).action(), Action::PrepareDatabase);
        let silent = newer("region-1").peer("region-2", |peer| peer.says = None);
        assert_eq!(silent.action(), Action::PrepareDatabase, "who is off gets them later");
        // They have changed: the leader first, then one after another.
        let changed = |bench: Bench| bench.schema(|schema| schema.secrets_generation = Some(2));
        assert_eq!(changed(newer("region-1").peer("region-2", has)).action(), Action::ReloadSecrets);
        assert!(changed(newer("region-2")).waits().1.contains("region-1 to run with the new secrets"));
        let runs = |peer: &mut Peer| peer.says.as_mut().unwrap().secrets_generation = 2;
        assert_eq!(changed(newer("region-2")).peer("region-1", runs).action(), Action::ReloadSecrets);
        assert!(newer("rack-1").peer("region-1", runs).waits().1.contains("region-2 to run with the new secrets"));
        let mut reloaded = changed(newer("region-1"));
        reloaded.done.push(Action::ReloadSecrets);
        assert_eq!(reloaded.keeps().secrets_generation, 2);
    }

    #[test]
    fn dhcp_is_set_when_unset_and_drift_is_told() {
        let bench = |on, primary: Option<&str>| {
            let mut bench = Bench::joined("region-1");
            let subnet = "10.77.0.0/24".to_owned();
            bench.ticket.cluster.dhcp = vec![Dhcp {
                subnet: subnet.clone(),
                first: [10, 77, 0, 100].into(),
                last: [10, 77, 0, 200].into(),
                primary: "rack-1".into(),
                secondary: Some("rack-2".into()),
            }];
            let (primary, secondary) = (primary.map(str::to_owned), Some("rack-2".to_owned()));
            bench.facts.dhcp = Some(vec![DhcpPair { subnet, ready: true, on, primary, secondary }]);
            bench
        };
        assert_eq!(bench(false, None).action(), Action::SetDhcp { subnet: "10.77.0.0/24".into() });
        assert_eq!(bench(true, Some("rack-1")).next().step, "joined");
        assert!(bench(true, Some("rack-1")).warnings().is_empty());
        let drifted = bench(true, Some("rack-9"));
        assert_eq!(drifted.next().step, "joined");
        assert!(drifted.warnings()[0].contains("has drifted: rack-9 and rack-2"));
        let mut follower = bench(false, None);
        follower.facts.database.as_mut().unwrap().leader = Some("region-2".into());
        assert_eq!(follower.next().step, "joined");
    }
}
