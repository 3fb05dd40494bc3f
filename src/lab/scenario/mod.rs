//! The scenarios: what the built images have to withstand together.
//!
//! A scenario is a function that breaks something on a [`Stage`] and says what must hold; everything around it (the lab,
//! clients that commit rows the whole time, the observer, the count of lost rows, the search for two writers) is the
//! stage's and the suite's. To add one: write a function in a file here, describe it with a [`Scenario`], and name it in
//! [`ALL`]. `docs/lab.md` tells how. The numbers are those of the list of proofs there.

mod cast;
mod checks;
mod stage;
mod suite;
mod waits;

mod api;
mod cold_start;
mod departed;
mod dhcp;
mod first_boot;
mod killed;
mod leader;
mod mistakes;
mod operator;
mod partition;
mod reboot;
mod replaced;
mod returns;
mod rotation;
mod virtual_address;

pub use cast::Cast;
pub use stage::{Failure, Outcome, Stage};
pub use suite::{Orders, play, select};

use super::machine::BackEnd;

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line and in reports: short, lower case, hyphens.
    pub name: &'static str,
    /// Its number in the list of proofs.
    pub number: u8,
    /// What it proves, one sentence without a full stop.
    pub proves: &'static str,
    /// What it can be played on.
    pub on: &'static [BackEnd],
    /// How it finds the lab.
    pub begins: Begins,
    /// The play.
    pub run: fn(&mut Stage<'_>) -> Outcome,
}

/// How a scenario finds the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// All machines are off and have never been on.
    Empty,
    /// All machines are members, the standby is in sync, the clients get through.
    Formed,
}

/// Played on containers only.
const CONTAINERS: &[BackEnd] = &[BackEnd::Container];
/// Played on both.
const BOTH: &[BackEnd] = &[BackEnd::Container, BackEnd::Qemu];

/// All scenarios, in the order in which they are played. The first cold start gives the others their cluster; the other
/// cold starts are last, because each begins with empty machines.
pub const ALL: &[Scenario] = &[
    cold_start::COLD_START,
    first_boot::FIRST_BOOT,
    first_boot::NETWORK_BOOT,
    leader::SWITCHOVER,
    virtual_address::HOLDER_DIES,
    api::API_DIES,
    dhcp::LEASES,
    leader::LEADER_DIES,
    leader::MANUAL_FAILOVER,
    returns::OLD_LEADER_CUT_OFF,
    returns::OLD_LEADER_REIMAGED,
    partition::LEADER_ALONE,
    partition::STANDBY_ALONE,
    partition::WITNESS_ALONE,
    partition::ALL_APART,
    partition::REGIONS_APART,
    replaced::RACK_REPLACED,
    replaced::REGIONS_REPLACED,
    mistakes::WRONG_SECRET,
    mistakes::DUPLICATE_ADDRESS,
    mistakes::DUPLICATE_HOST_NAME,
    mistakes::TWO_RACKS_OF_ONE_NAME,
    mistakes::FULL_STATE,
    mistakes::UNREACHABLE_PEERS,
    mistakes::WRONG_ROLE,
    mistakes::WRONG_CLOCK,
    operator::APPLY,
    rotation::ROTATION,
    reboot::REBOOTS,
    rotation::NO_SECRET_SHOWS,
    // Leaves a cluster of another name; those that follow begin with empty machines.
    departed::REGION_DEPARTS,
    cold_start::STANDBY_FIRST,
    killed::JOIN_KILLED,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_said_once_and_can_be_typed() {
        let mut names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        assert!(names.iter().all(|name| name.chars().all(|one| one.is_ascii_lowercase() || one == '-')), "{names:?}");
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "two scenarios have one name");
        assert!(ALL.iter().all(|scenario| (1..=13).contains(&scenario.number) && !scenario.proves.ends_with('.')));
    }

    #[test]
    fn nobody_waits_for_a_cluster_that_has_another_name_by_now() {
        let mut later = ALL.iter().skip_while(|scenario| scenario.name != departed::REGION_DEPARTS.name).skip(1);
        assert!(later.all(|scenario| scenario.begins == Begins::Empty));
    }
}
