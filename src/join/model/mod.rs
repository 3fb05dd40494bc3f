//! Thousands of clusters that are cut, killed, powered off and re-imaged at random, to break the three rules.
//!
//! Every machine runs the real state machine through the real `Round`, one thing at a time, in any order; between any
//! two things anything may fail. No rule may ever be broken, and when the faults stop every machine has joined, unless
//! what clients were told is safe is really gone. The same seed gives the same run: a failure names it.

mod cluster;
mod mutation;
mod run;
mod seat;
mod weather;

use self::mutation::Mutation;
use self::run::Run;
use self::weather::Weather;
use super::tables::Failover;

/// Runs seeds until one fails; says how many joined.
fn runs(seeds: std::ops::Range<u64>, weather: Weather, failover: Failover, mutation: Mutation) -> Result<u64, String> {
    let mut joined = 0;
    for seed in seeds {
        match Run::new(seed, failover, mutation).go(weather) {
            Ok(all) => joined += u64::from(all),
            Err(why) => return Err(format!("seed {seed}, {weather:?}, {failover:?}: {why}")),
        }
    }
    Ok(joined)
}

#[test]
fn whatever_a_cluster_can_bear_it_joins_and_keeps_the_three_rules() {
    let joined =
        runs(0..1000, Weather::Rough, Failover::Automatic, Mutation::None).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(joined, 1000);
}

#[test]
fn also_where_failover_is_the_operators() {
    let joined = runs(0..300, Weather::Rough, Failover::Manual, Mutation::None).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(joined, 300);
}

#[test]
fn what_is_lost_is_said_and_nothing_is_made_up_in_its_place() {
    let joined =
        runs(5000..6000, Weather::Hopeless, Failover::Automatic, Mutation::None).unwrap_or_else(|why| panic!("{why}"));
    assert!((100..1000).contains(&joined), "{joined} of 1000 joined: the weather is not what it says");
}

#[test]
fn a_broken_rule_is_found() {
    for mutation in [
        Mutation::SilenceIsNew,
        Mutation::DataIsMemory,
        Mutation::RecordIsLate,
        Mutation::EverybodyLeads,
        Mutation::AnyDatabase,
        Mutation::AllAreTold,
        Mutation::AllRunThis,
        Mutation::NoneIsNewer,
    ] {
        // The rarest of them shows itself once in some thousand runs.
        let found = runs(5000..12_000, Weather::Hopeless, Failover::Automatic, mutation);
        assert!(found.is_err(), "{mutation:?} was not noticed");
    }
}
