//! Steps of a region's database: one cluster, under Patroni alone.
//!
//! Owns which data directory may be started, and when Patroni is paused. Who leads is Patroni's leader lock and nobody
//! else's; PostgreSQL itself is never started here. A directory that does not belong to the cluster that etcd knows stops
//! the machine, and nothing is deleted: of what this machine's own cut-off bootstrap or clone left, which no client ever
//! wrote to, the one is moved aside and the other is cloned again by Patroni.

use super::etcd;
use super::machine::{Decision, Turn, View, list, stop, wait, wait_briefly};
use super::tables::Failover;
use super::world::{Action, Data, Database};

/// HAProxy stands before the database, so that it is only ever looked at where its leader is.
pub(super) fn proxy(view: &View<'_>) -> Turn {
    view.running(&["haproxy.service".to_owned()])
}

/// What is in the data directory may be started.
pub(super) fn identity(view: &View<'_>) -> Turn {
    let database = view.database()?;
    match database.initialised.as_deref() {
        None => unclaimed(view, database),
        Some("") => claimed(view, database),
        Some(identifier) => known(view, database, identifier),
    }
}

/// etcd knows of no database.
fn unclaimed(view: &View<'_>, database: &Database) -> Turn {
    let record = view.record;
    let bootstrapper = view.cluster().bootstrapper().map_or("", |node| node.name.as_str());
    if record.database_joined {
        return Err(stop(
            "this machine has had the cluster's database, but etcd knows of none",
            "bring etcd's data back; nothing is bootstrapped, and nothing here was touched",
        ));
    }
    match &database.data {
        Data::Empty if bootstrapper != view.own.name => Err(wait(format!("{bootstrapper} to bootstrap the database"))),
        Data::Empty => {
            etcd::no_database_elsewhere(view)?;
            view.remember(|record| record.database_begun = true)
        }
        // Its own bootstrap, cut off between initdb and the claim's end: Patroni takes it over.
        Data::Cluster(_) if record.database_begun => etcd::no_database_elsewhere(view),
        Data::Broken(_) if record.database_begun => set_aside(view, database),
        Data::Cluster(identifier) => Err(foreign(&format!("a database ({identifier})"))),
        Data::Broken(what) => Err(foreign(what)),
    }
}

/// Somebody's bootstrap is under way, or was cut off.
fn claimed(view: &View<'_>, database: &Database) -> Turn {
    let record = view.record;
    if !record.database_begun || record.database_joined {
        return match &database.data {
            Data::Empty => Err(wait("the database to be bootstrapped, which has begun")),
            Data::Cluster(identifier) => Err(foreign(&format!("a database ({identifier})"))),
            Data::Broken(what) => Err(foreign(what)),
        };
    }
    match &database.data {
        Data::Cluster(_) => Ok(()),
        Data::Empty | Data::Broken(_) => set_aside(view, database),
    }
}

/// This machine's own bootstrap: under way while Patroni runs, else cut off before anything was written to it.
fn set_aside(view: &View<'_>, database: &Database) -> Turn {
    match database.running {
        true => Err(wait(format!("Patroni to bootstrap the database{}", state(database)))),
        false => {
            etcd::no_database_elsewhere(view)?;
            Err(Decision::Do(Action::SetAsideBootstrap))
        }
    }
}

/// etcd knows the database by its system identifier.
fn known(view: &View<'_>, database: &Database, identifier: &str) -> Turn {
    match &database.data {
        Data::Cluster(here) if here == identifier => Ok(()),
        Data::Cluster(here) => Err(stop(
            format!("the database here ({here}) is not the cluster's ({identifier})"),
            format!("if it is not wanted any more, move {} away; nothing was deleted", place(view)),
        )),
        Data::Empty => view.remember(|record| record.database_cloning = true),
        // Patroni first says what it is at; then a clone that it is not at is one that was cut off.
        Data::Broken(_) if view.record.database_cloning && !database.running => Ok(()),
        Data::Broken(_) if view.record.database_cloning => match database.state.as_deref() {
            None => Err(wait("Patroni to answer")),
            Some("creating replica" | "starting") => Err(wait("a copy of the leader's database, which is being made")),
            Some(_) if database.leader.is_none() => Err(wait("a leader of the database, to copy it from")),
            Some(_) => Err(Decision::Do(Action::CloneAgain)),
        },
        Data::Broken(what) => Err(foreign(what)),
    }
}

fn foreign(what: &str) -> Decision {
    stop(
        format!("in the database's directory is {what}, which this cluster did not put there"),
        "if it is not wanted any more, move it away; nothing was deleted",
    )
}

fn place(view: &View<'_>) -> String {
    view.tables.database.as_ref().map_or_else(String::new, |table| table.data.display().to_string())
}

fn state(database: &Database) -> String {
    database.state.as_ref().map_or_else(String::new, |state| format!(" (it says: {state})"))
}

/// Patroni runs, and PostgreSQL under it.
pub(super) fn start(view: &View<'_>) -> Turn {
    let database = view.database()?;
    if !database.running {
        return Err(Decision::Do(Action::StartPatroni));
    }
    let runs = matches!(database.state.as_deref(), Some("running" | "streaming"));
    if runs && let Data::Cluster(here) = &database.data {
        // PostgreSQL runs a moment before Patroni ends its bootstrap and the claim in etcd gets the database's name. Who
        // remembered it before that would take the database for a stranger's.
        if database.initialised.as_ref() != Some(here) {
            return Err(wait_briefly("Patroni to end the bootstrap of the database"));
        }
        return view.remember(|record| {
            record.database_joined = true;
            record.database_cloning = false;
        });
    }
    if database.paused {
        paused(view, database)?;
    }
    Err(match (&database.state, &database.leader) {
        (None, _) => wait("Patroni to answer"),
        (Some(state), None) => wait(format!("a leader of the database; Patroni here says: {state}")),
        (Some(state), Some(leader)) => wait(format!("the database to run; Patroni here says: {state}; {leader} leads")),
    })
}

/// A paused Patroni starts and clones nothing. The pause is lifted where that promotes nobody: while another machine
/// leads, or after an outage of all, when Patroni is back everywhere and no PostgreSQL runs.
fn paused(view: &View<'_>, database: &Database) -> Turn {
    let stopped =
        |name: &str| database.members.get(name).is_some_and(|state| state != "running" && state != "streaming");
    match &database.leader {
        Some(leader) if leader != &view.own.name => Err(Decision::Do(Action::Resume)),
        None if view.cluster().regions().all(|node| stopped(&node.name)) => Err(Decision::Do(Action::Resume)),
        None => Err(wait(
            "a leader of the database: failover is manual; run `rolecast-join promote` on the region that is to lead",
        )),
        Some(_) => Ok(()),
    }
}

/// With manual failover Patroni is paused whenever all regions stream. A pause that an earlier image declared ends where
/// this one wants automatic failover; one that an operator made is the operator's.
pub(super) fn failover(view: &View<'_>) -> Turn {
    let database = view.database()?;
    if database.paused && database.leader.is_none() {
        return paused(view, database);
    }
    let leads = view.leads()?;
    if view.database_table()?.failover == Failover::Automatic {
        // The leader alone, because it may run the newer image of the two; and where somebody leads, nobody is promoted.
        return match leads {
            true if view.record.manual && database.paused => Err(Decision::Do(Action::Resume)),
            true => view.remember(|record| record.manual = false),
            false => Ok(()),
        };
    }
    view.remember(|record| record.manual = true)?;
    let follows = |name: &str| database.members.get(name).is_some_and(|state| state == "streaming");
    let complete = view.cluster().regions().all(|node| node.name == view.own.name || follows(&node.name));
    if leads && complete && !database.paused { Err(Decision::Do(Action::Pause)) } else { Ok(()) }
}

/// Names of the regions that do not follow, where some do not; for people.
pub(super) fn not_following(view: &View<'_>) -> Option<String> {
    let database = view.facts.database.as_ref()?;
    let leader = database.leader.as_ref()?;
    // One that runs and does not stream has its own history, or waits for log that is gone.
    let follows = |name: &str| database.members.get(name).is_some_and(|state| state == "streaming");
    let missing = view.cluster().regions().filter(|node| &node.name != leader && !follows(&node.name));
    let missing: Vec<&str> = missing.map(|node| node.name.as_str()).collect();
    (!missing.is_empty()).then(|| list(missing))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::super::world::Record;
    use super::*;

    /// A region with etcd and no database yet.
    fn bare(node: &str, data: Data, initialised: Option<&str>) -> Bench {
        let bench = Bench::joined(node).record(|record| {
            *record = Record { database_begun: false, database_joined: false, joined: false, ..record.clone() };
        });
        let bench = bench.peer("region-1", |peer| peer.says.as_mut().unwrap().database = false);
        let bench = bench.peer("region-2", |peer| peer.says.as_mut().unwrap().database = false);
        bench.database(|database| {
            database.data = data;
            database.initialised = initialised.map(str::to_owned);
            database.leader = None;
            database.running = false;
            database.state = None;
            database.members.clear();
            database.writable = false;
        })
    }

    #[test]
    fn the_database_is_bootstrapped_once_by_one_machine_that_remembers_it_first() {
        let first = bare("region-1", Data::Empty, None);
        assert!(first.keeps().database_begun);
        assert_eq!(first.record(|record| record.database_begun = true).action(), Action::StartPatroni);
        assert!(bare("region-2", Data::Empty, None).waits().1.contains("region-1 to bootstrap the database"));
        let held =
            bare("region-1", Data::Empty, None).peer("region-2", |peer| peer.says.as_mut().unwrap().database = true);
        assert!(held.stops().1.contains("region-2 holds a database"));
        let silent = bare("region-1", Data::Empty, None).peer("region-2", |peer| peer.says = None);
        assert!(silent.waits().1.contains("region-2 to say"));
        let lost = bare("region-1", Data::Empty, None).record(|record| record.database_joined = true);
        assert!(lost.stops().1.contains("etcd knows of none"));
    }

    #[test]
    fn a_database_that_is_not_the_clusters_stops_the_machine() {
        let here = || Data::Cluster("7002".into());
        for (node, data, initialised) in [
            ("region-1", here(), None),
            ("region-2", here(), None),
            ("region-1", here(), Some("")),
            ("region-2", here(), Some("7001")),
            ("region-1", here(), Some("7001")),
            ("region-2", Data::Broken("half a copy".into()), Some("7001")),
            ("region-1", Data::Broken("files".into()), None),
        ] {
            let case = format!("{node} {data:?} {initialised:?}");
            let bench = bare(node, data, initialised);
            assert_eq!(bench.next().step, "database-identity", "{case}");
            assert!(!bench.stops().1.is_empty(), "{case}");
        }
    }

    #[test]
    fn a_bootstrap_that_was_cut_off_goes_on_and_nothing_that_ran_is_moved() {
        let begun =
            |data, initialised| bare("region-1", data, initialised).record(|record| record.database_begun = true);
        let half = || Data::Broken("no pg_control".into());
        assert_eq!(begun(half(), Some("")).action(), Action::SetAsideBootstrap);
        assert_eq!(begun(half(), None).action(), Action::SetAsideBootstrap);
        assert_eq!(begun(Data::Empty, Some("")).action(), Action::SetAsideBootstrap);
        assert_eq!(begun(Data::Cluster("7001".into()), Some("")).action(), Action::StartPatroni);
        assert_eq!(begun(Data::Cluster("7001".into()), None).action(), Action::StartPatroni);
        let runs = begun(half(), Some("")).database(|database| database.running = true);
        assert!(runs.waits().1.contains("Patroni to bootstrap"));
        let ran = begun(half(), Some("")).record(|record| record.database_joined = true);
        assert_eq!(ran.stops().0, "database-identity");
    }

    #[test]
    fn a_database_whose_bootstrap_has_not_ended_is_not_taken_for_a_strangers() {
        let runs = |initialised| {
            let bench = bare("region-1", Data::Cluster("7001".into()), initialised);
            let bench = bench.record(|record| record.database_begun = true);
            bench.database(|database| (database.running, database.state) = (true, Some("running".into())))
        };
        for claim in [None, Some("")] {
            assert_eq!(runs(claim).next().step, "database-start", "{claim:?}");
            assert!(runs(claim).waits().1.contains("Patroni to end the bootstrap"), "{claim:?}");
        }
        assert!(runs(Some("7001")).keeps().database_joined);
    }

    #[test]
    fn a_copy_that_was_cut_off_is_made_again_by_patroni() {
        let fresh = bare("region-2", Data::Empty, Some("7001"));
        assert!(fresh.keeps().database_cloning);
        let cut = bare("region-2", Data::Broken("half a copy".into()), Some("7001"));
        let cut = cut.record(|record| record.database_cloning = true);
        assert_eq!(cut.action(), Action::StartPatroni);
        let cut = cut.database(|database| database.running = true);
        assert!(cut.waits().1.contains("Patroni to answer"));
        let cut = cut.database(|database| {
            database.state = Some("creating replica".into());
            database.leader = Some("region-1".into());
        });
        assert!(cut.waits().1.contains("being made"));
        assert_eq!(cut.database(|database| database.state = Some("stopped".into())).action(), Action::CloneAgain);
    }

    fn manual(node: &str) -> Bench {
        let mut bench = Bench::joined(node);
        bench.tables.database.as_mut().unwrap().failover = Failover::Manual;
        bench.record(|record| record.manual = true)
    }

    #[test]
    fn a_pause_ends_with_the_image_that_declared_it_and_an_operators_own_does_not() {
        assert!(manual("region-2").record(|record| record.manual = false).keeps().manual, "also on who does not lead");
        let automatic = |node: &str, declared| {
            let bench = Bench::joined(node).database(|database| database.paused = true);
            bench.record(|record| record.manual = declared)
        };
        assert_eq!(automatic("region-1", true).action(), Action::Resume);
        assert_eq!(automatic("region-2", true).next().step, "joined", "the leader may still run the image before");
        assert_eq!(automatic("region-1", false).next().step, "joined", "an operator's pause");
        let lifted = automatic("region-1", true).database(|database| database.paused = false);
        assert!(!lifted.keeps().manual);
        let leaderless = automatic("region-2", true).database(|database| database.leader = None);
        assert!(leaderless.waits().1.contains("rolecast-join promote"));
    }

    #[test]
    fn patroni_is_paused_once_all_stream_and_only_then() {
        assert_eq!(manual("region-1").action(), Action::Pause);
        assert_eq!(manual("region-2").next().step, "joined");
        let behind = manual("region-1").database(|database| drop(database.members.remove("region-2")));
        assert_eq!(behind.next().step, "joined");
        assert_eq!(behind.warnings(), ["the database is not replicated to region-2"]);
    }

    #[test]
    fn a_pause_is_lifted_only_where_that_promotes_nobody() {
        let stopped = |node: &str| {
            manual(node).database(|database| {
                database.paused = true;
                database.state = Some("stopped".into());
            })
        };
        assert_eq!(stopped("region-2").action(), Action::Resume, "another machine leads");
        let lost = stopped("region-2").database(|database| database.leader = None);
        assert!(lost.waits().1.contains("rolecast-join promote"), "a replica runs elsewhere");
        let alive = manual("region-2").database(|database| {
            database.paused = true;
            database.leader = None;
        });
        assert!(alive.waits().1.contains("rolecast-join promote"));
        let all = lost.database(|database| database.members.values_mut().for_each(|state| *state = "stopped".into()));
        assert_eq!(all.action(), Action::Resume, "all were off");
    }
}
