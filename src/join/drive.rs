//! Drives the state machine: looks, acts and keeps, one thing at a time.
//!
//! Owns what lies between the pure machine and a [`World`]: which facts are still fresh (none are after an action or a
//! change of the record), that nothing is done twice in one round, and that the record is durable before it counts. One
//! call of [`Round::advance`] is one thing that happens outside, so a test can cut a machine off between any two. Knows
//! no clock and no file.

use super::machine::{self, Decision, Next, View, Wait};
use super::tables::Tables;
use super::world::{Action, Facts, Record, World};
use crate::ticket::{Node, Ticket};

/// What stays the same during a round.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    /// The accepted ticket.
    pub ticket: &'a Ticket,
    /// This machine in it.
    pub own: &'a Node,
    /// The image's tables.
    pub tables: &'a Tables,
    /// Whether the operator has asked for an upgrade.
    pub upgrade: bool,
}

/// From one look around to the next thing that has to be waited for.
#[derive(Clone, Debug, Default)]
pub struct Round {
    facts: Facts,
    done: Vec<Action>,
    kept: usize,
}

/// How a round ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Something is not there yet, or failed and is worth another try.
    Waiting(Wait),
    /// A person has to decide.
    Stopped {
        /// Why.
        why: String,
        /// What they can do.
        remedy: String,
    },
    /// The machine is a member.
    Joined,
}

/// More changes of the record than any round needs.
const MOST_KEPT: usize = 20;

impl Round {
    /// The next step and its decision; what is then done with it is [`Round::advance`]'s.
    pub fn next(&self, seat: &Seat<'_>, record: &Record) -> Next {
        machine::next(&self.view(seat, record))
    }

    /// What a person should know, of what was looked at.
    pub fn warnings(&self, seat: &Seat<'_>, record: &Record) -> Vec<String> {
        machine::warnings(&self.view(seat, record))
    }

    /// What was looked at since the last action.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Changes what was looked at, to break a rule on purpose.
    #[cfg(test)]
    pub(super) fn change_facts(&mut self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts);
    }

    fn view<'v>(&'v self, seat: &Seat<'v>, record: &'v Record) -> View<'v> {
        let Seat { ticket, own, tables, upgrade } = *seat;
        View { ticket, own, tables, record, facts: &self.facts, done: &self.done, upgrade }
    }

    /// Does what was decided; says how the round ended, if it did.
    pub fn advance(&mut self, next: &Next, record: &mut Record, world: &mut dyn World) -> Option<End> {
        let tried = match &next.decision {
            Decision::Look(question) => world.look(*question, &mut self.facts),
            Decision::Do(action) if self.done.contains(action) => {
                return Some(waiting(format!("what was done to show: {}", describe(action))));
            }
            Decision::Do(action) => {
                // Also an action that failed may have changed something.
                self.facts = Facts::default();
                world.act(action).map(|()| self.done.push(action.clone()))
            }
            Decision::Keep(_) if self.kept >= MOST_KEPT => return Some(waiting("its record to settle".to_owned())),
            Decision::Keep(changed) => {
                self.facts = Facts::default();
                self.kept += 1;
                world.keep(changed).map(|()| record.clone_from(changed))
            }
            Decision::Wait(wait) => return Some(End::Waiting(wait.clone())),
            Decision::Stop { why, remedy } => return Some(End::Stopped { why: why.clone(), remedy: remedy.clone() }),
            Decision::Joined => return Some(End::Joined),
        };
        tried.err().map(|trouble| waiting(trouble.to_string()))
    }
}

fn waiting(what: String) -> End {
    End::Waiting(Wait { what, soon: false })
}

/// An action as status shows it while it goes on.
pub fn describe(action: &Action) -> String {
    match action {
        Action::LayFiles => "lay the ticket's files".to_owned(),
        Action::SetHostName => "set the host name".to_owned(),
        Action::ReloadNetwork => "have the network's files read again".to_owned(),
        Action::BootstrapEtcd => "bootstrap etcd as its first member".to_owned(),
        Action::RemoveMember { id } => format!("remove member {id} of etcd, whose data is gone"),
        Action::AddMember => "be added to etcd".to_owned(),
        Action::StartEtcd => "start etcd".to_owned(),
        Action::PromoteMember => "get a vote in etcd".to_owned(),
        Action::YieldEtcdLead => "hand the lead of etcd to another voter".to_owned(),
        Action::Start { units } => format!("start {}", units.join(", ")),
        Action::Stop { units } => format!("stop {}", units.join(", ")),
        Action::StartPatroni => "start Patroni".to_owned(),
        Action::SetAsideBootstrap => "move aside what a cut-off bootstrap of the database left".to_owned(),
        Action::CloneAgain => "have Patroni copy the database again".to_owned(),
        Action::Resume => "lift Patroni's pause".to_owned(),
        Action::Pause => "pause Patroni".to_owned(),
        Action::PrepareDatabase => "make MAAS's database and roles, with the ticket's passwords".to_owned(),
        Action::InstallMaas => "install MAAS".to_owned(),
        Action::KeepVersion => "make this version the only one that can be booted".to_owned(),
        Action::Migrate => "migrate MAAS's schema".to_owned(),
        Action::PlaceSecret => "place MAAS's shared secret".to_owned(),
        Action::ReloadSecrets => "restart what reads the new secrets".to_owned(),
        Action::InitialiseMaas => "prepare MAAS for its first start".to_owned(),
        Action::CreateAdministrator => "create MAAS's administrator".to_owned(),
        Action::Register => "register this rack".to_owned(),
        Action::SetDhcp { subnet } => format!("switch DHCP on for {subnet}"),
    }
}
