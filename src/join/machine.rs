//! The state machine: what is known, what comes next.
//!
//! A pure function of values. A machine's role gives it a sequence of named steps; the first step that is not satisfied
//! decides. A step that needs a fact asks for it; what it has done is seen in the facts that are looked at afresh, so a
//! step never trusts that something worked. Owns [`View`], [`Decision`] and the sequences; what each step demands is in
//! `prelude`, `etcd`, `database`, `region` and `rack`. Touches nothing. `docs/joining.md` tells it to people.

use super::tables::{DatabaseTable, Image, Maas, Tables};
use super::world::{
    Action, Database, DhcpPair, Etcd, Facts, Local, Namesake, Peer, Question, Rack, Record, Region, Schema,
};
use super::{database, etcd, prelude, rack, region, release};
use crate::ticket::{Cluster, Kind, Node, Ticket};

/// Everything that a step may look at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The accepted ticket.
    pub ticket: &'a Ticket,
    /// This machine in it.
    pub own: &'a Node,
    /// The image's tables.
    pub tables: &'a Tables,
    /// What this machine remembers.
    pub record: &'a Record,
    /// What was looked at since the last action.
    pub facts: &'a Facts,
    /// What was done in this round, oldest first: an action that is there succeeded.
    pub done: &'a [Action],
    /// Whether the operator has asked for an upgrade of MAAS's schema to this image's version.
    pub upgrade: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A fact is needed.
    Look(Question),
    /// Something is to be done. All facts are old afterwards.
    Do(Action),
    /// The record changes; it has to be durable before anything else is done. All facts are old afterwards.
    Keep(Record),
    /// What is not there yet, as words that complete `waiting for …`.
    Wait(Wait),
    /// A person has to decide.
    Stop {
        /// Why, one line.
        why: String,
        /// What they can do, one line.
        remedy: String,
    },
    /// The machine is a member. Look again later.
    Joined,
}

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Words that complete `waiting for …`.
    pub what: String,
    /// Whether others wait for this machine too, so that looking again soon shortens an outage.
    pub soon: bool,
}

/// What a step says: nothing more is needed, or what is.
pub type Turn = Result<(), Decision>;

/// A named part of a sequence.
pub struct Step {
    /// Its name, as `status`, the kill hook and the documentation use it.
    pub name: &'static str,
    /// What it demands.
    pub demand: fn(&View<'_>) -> Turn,
}

/// A decision and the step that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Name of the step.
    pub step: &'static str,
    /// What it decided.
    pub decision: Decision,
}

/// The name under which [`Decision::Joined`] is reported.
pub const JOINED: &str = "joined";

/// Every machine.
const PRELUDE: &[Step] = &[
    Step { name: "version", demand: release::not_refused },
    Step { name: "secrets", demand: prelude::secrets },
    Step { name: "state", demand: prelude::state },
    Step { name: "files", demand: prelude::files },
    Step { name: "host-name", demand: prelude::host_name },
    Step { name: "address", demand: prelude::address },
    Step { name: "clock", demand: prelude::clock },
    Step { name: "certificate", demand: prelude::certificate },
    Step { name: "own-name", demand: rack::own_name },
    Step { name: "generation", demand: prelude::generation },
];

/// Voters of etcd.
const ETCD: &[Step] = &[
    Step { name: "etcd-member", demand: etcd::member },
    Step { name: "etcd-start", demand: etcd::start },
    Step { name: "etcd-vote", demand: etcd::vote },
];

/// Regions.
const REGION: &[Step] = &[
    Step { name: "proxy", demand: database::proxy },
    Step { name: "database-identity", demand: database::identity },
    Step { name: "database-start", demand: database::start },
    Step { name: "database-failover", demand: database::failover },
    Step { name: "database-roles", demand: region::roles },
    Step { name: "maas-install", demand: prelude::maas_installed },
    Step { name: "schema", demand: region::schema },
    Step { name: "maas-secret", demand: region::secret },
    Step { name: "maas-initialise", demand: region::initialise },
    Step { name: "rotation", demand: prelude::rotation },
    Step { name: "region-start", demand: region::start },
    Step { name: "region-healthy", demand: region::healthy },
    Step { name: "administrator", demand: region::administrator },
    Step { name: "virtual-address", demand: region::virtual_address },
    Step { name: "dhcp", demand: region::dhcp },
    Step { name: "etcd-lead", demand: etcd::lead },
];

/// Racks.
const RACK: &[Step] = &[
    Step { name: "rotation", demand: prelude::rotation },
    Step { name: "maas-install", demand: prelude::maas_installed },
    Step { name: "rack-regions", demand: rack::regions },
    Step { name: "rack-register", demand: rack::register },
    Step { name: "rack-start", demand: rack::start },
    Step { name: "rack-registered", demand: rack::registered },
];

/// Voters that are neither.
const OTHER: &[Step] = &[Step { name: "rotation", demand: prelude::rotation }];

/// Every machine, last.
const END: &[Step] = &[Step { name: JOINED, demand: prelude::joined }];

/// The steps of a machine, in order.
pub fn sequence(kind: Kind, voter: bool) -> impl Iterator<Item = &'static Step> {
    let role = match kind {
        Kind::Region => REGION,
        Kind::Rack => RACK,
        Kind::Other => OTHER,
    };
    let etcd = if voter { ETCD } else { &[] };
    PRELUDE.iter().chain(etcd).chain(role).chain(END)
}

/// What comes next.
pub fn next(view: &View<'_>) -> Next {
    for step in sequence(view.own.kind, view.own.voter) {
        if let Err(decision) = (step.demand)(view) {
            return Next { step: step.name, decision };
        }
    }
    Next { step: JOINED, decision: Decision::Joined }
}

/// What a person should know although nothing waits for it. Only of facts that were looked at.
pub fn warnings(view: &View<'_>) -> Vec<String> {
    let mut warnings = prelude::warnings(view);
    warnings.extend(region::warnings(view));
    warnings.extend(rack::warnings(view));
    warnings
}

impl<'a> View<'a> {
    /// The cluster.
    pub(super) fn cluster(&self) -> &'a Cluster {
        &self.ticket.cluster
    }

    /// The image.
    pub(super) fn image(&self) -> &'a Image {
        &self.tables.image
    }

    /// The fact, or the wish to look at it.
    pub(super) fn local(&self) -> Result<&'a Local, Decision> {
        self.facts.local.as_ref().ok_or(Decision::Look(Question::Local))
    }

    /// The fact, or the wish to look at it.
    pub(super) fn namesake(&self) -> Result<Namesake, Decision> {
        self.facts.namesake.ok_or(Decision::Look(Question::Name))
    }

    /// The fact, or the wish to look at it.
    pub(super) fn etcd(&self) -> Result<Etcd, Decision> {
        self.facts.etcd.ok_or(Decision::Look(Question::Etcd))
    }

    /// The fact, or the wish to look at it.
    pub(super) fn peers(&self) -> Result<&'a [Peer], Decision> {
        self.facts.peers.as_deref().ok_or(Decision::Look(Question::Peers))
    }

    /// The fact, or the wish to look at it.
    pub(super) fn database(&self) -> Result<&'a Database, Decision> {
        self.facts.database.as_ref().ok_or(Decision::Look(Question::Database))
    }

    /// The fact, or the wish to look at it.
    pub(super) fn schema(&self) -> Result<&'a Schema, Decision> {
        self.facts.schema.as_ref().ok_or(Decision::Look(Question::Schema))
    }

    /// The fact, or the wish to look at it.
    pub(super) fn region(&self) -> Result<&'a Region, Decision> {
        self.facts.region.as_ref().ok_or(Decision::Look(Question::Region))
    }

    /// The fact, or the wish to look at it.
    pub(super) fn rack(&self) -> Result<&'a Rack, Decision> {
        self.facts.rack.as_ref().ok_or(Decision::Look(Question::Rack))
    }

    /// The fact, or the wish to look at it.
    pub(super) fn dhcp(&self) -> Result<&'a [DhcpPair], Decision> {
        self.facts.dhcp.as_deref().ok_or(Decision::Look(Question::Dhcp))
    }

    /// How MAAS is handled here.
    pub(super) fn maas(&self) -> Result<&'a Maas, Decision> {
        self.tables.maas.as_ref().ok_or_else(|| lacking("maas.toml"))
    }

    /// The database's table.
    pub(super) fn database_table(&self) -> Result<&'a DatabaseTable, Decision> {
        self.tables.database.as_ref().ok_or_else(|| lacking("database.toml"))
    }

    /// Whether this machine holds the leader lock.
    pub(super) fn leads(&self) -> Result<bool, Decision> {
        Ok(self.database()?.leader.as_ref() == Some(&self.ticket.node))
    }

    /// Starts those of `units` that do not run, in order; satisfied when all do.
    pub(super) fn running(&self, units: &[String]) -> Turn {
        let local = self.local()?;
        let missing: Vec<String> = units.iter().filter(|unit| !local.running.contains(unit)).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(Decision::Do(Action::Start { units: missing })) }
    }

    /// Stops those of `units` that run; satisfied when none does.
    pub(super) fn stopped(&self, units: &[String]) -> Turn {
        let local = self.local()?;
        let running: Vec<String> = units.iter().filter(|unit| local.running.contains(unit)).cloned().collect();
        if running.is_empty() { Ok(()) } else { Err(Decision::Do(Action::Stop { units: running })) }
    }

    /// Keeps the record with a change; satisfied when it is so already.
    pub(super) fn remember(&self, change: impl FnOnce(&mut Record)) -> Turn {
        let mut record = self.record.clone();
        change(&mut record);
        if &record == self.record { Ok(()) } else { Err(Decision::Keep(record)) }
    }
}

fn lacking(table: &str) -> Decision {
    stop(
        format!("this image has no `{table}`, which a machine of this role needs"),
        "boot the image of the ticket's role",
    )
}

/// Waits.
pub(super) fn wait(what: impl Into<String>) -> Decision {
    Decision::Wait(Wait { what: what.into(), soon: false })
}

/// Waits, and looks again every second at least.
pub(super) fn wait_briefly(what: impl Into<String>) -> Decision {
    Decision::Wait(Wait { what: what.into(), soon: true })
}

/// Stops.
pub(super) fn stop(why: impl Into<String>, remedy: impl Into<String>) -> Decision {
    Decision::Stop { why: why.into(), remedy: remedy.into() }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}
