//! A cluster as the model has it: machines, links, etcd's quorums, Patroni's lock, what is in the data directories.
//!
//! It behaves as the real parts promise to, no better: etcd answers with a quorum only, a leader lock ends by itself,
//! Patroni bootstraps wherever nothing is claimed, a power failure leaves half of what was being written. It notes every
//! breach of the three absolute rules.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::super::testing;
use super::super::world::{Record, SchemaVersion};
use crate::ticket::{Kind, Ticket};

/// The system identifier of a database of another site, on a disk that was used before.
pub(super) const ELSEWHERE: &str = "elsewhere";

/// Ticks that a leader lock lives.
const TTL: u64 = 120;

/// Numbers that look random, the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `sides`.
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap_or(0)
    }

    pub(super) fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }
}

/// What MAAS has in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) exists: bool,
    pub(super) generation: Option<u64>,
    pub(super) schema: Steps,
    pub(super) secret: bool,
    pub(super) administrator: bool,
    pub(super) dhcp: bool,
    pub(super) racks: BTreeSet<usize>,
    pub(super) rows: u64,
}

/// MAAS's schema: which image's it is, and which image has begun to migrate it to its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) ended: Option<usize>,
    pub(super) begun: Option<usize>,
}

impl Steps {
    /// How it stands to an image.
    pub(super) fn seen_by(self, image: usize) -> SchemaVersion {
        let other = |number: usize| version(number).to_owned();
        match (self.begun, self.ended) {
            (Some(begun), ended) if ended != Some(begun) && image < begun => SchemaVersion::Newer(other(begun)),
            (Some(begun), ended) if ended != Some(begun) => SchemaVersion::CutOff,
            (_, None) => SchemaVersion::Absent,
            (_, Some(ended)) if ended == image => SchemaVersion::Same,
            (_, Some(ended)) if ended > image => SchemaVersion::Newer(other(ended)),
            (_, Some(ended)) => SchemaVersion::Older(other(ended)),
        }
    }
}

/// The versions of the image, oldest first.
pub(super) fn version(image: usize) -> &'static str {
    ["2026.9.1", "2026.11.1", "2026.12.1"][image]
}

/// The image that machines begin with.
pub(super) const FIRST: usize = 1;
/// The image that MAAS's schema is upgraded to.
pub(super) const NEWEST: usize = 2;

/// A data directory of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Directory {
    Empty,
    /// Patroni is at it, or was when it was cut off.
    Bootstrapping,
    Cloning,
    Cluster(String, Content),
}

/// One machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) ticket: Rc<Ticket>,
    pub(super) on: bool,
    // On state.
    pub(super) record: Record,
    /// Number of the etcd cluster and of its own member in it.
    pub(super) etcd: Option<(usize, usize)>,
    pub(super) directory: Directory,
    pub(super) identity: bool,
    /// The image that it boots, and the oldest one that its boot loader still has.
    pub(super) image: usize,
    pub(super) oldest: usize,
    /// The image to which the operator has asked it to upgrade the schema.
    pub(super) wish: Option<usize>,
    // In memory.
    pub(super) laid: bool,
    pub(super) named: bool,
    pub(super) etcd_runs: bool,
    pub(super) patroni_runs: bool,
    /// Patroni itself is bootstrapping or cloning now.
    pub(super) at_it: bool,
    pub(super) postgres_runs: bool,
    pub(super) units: BTreeSet<String>,
    pub(super) reloaded: u64,
}

/// An etcd cluster: its members and what they hold together.
#[derive(Clone, Debug, Default)]
pub(super) struct Etcd {
    pub(super) members: Vec<Member>,
    pub(super) initialise: Option<String>,
    pub(super) leader: Option<(usize, u64)>,
    pub(super) paused: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: usize,
    pub(super) machine: usize,
    pub(super) started: bool,
    pub(super) learner: bool,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) dice: Dice,
    pub(super) now: u64,
    pub(super) machines: Vec<Machine>,
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) etcds: Vec<Etcd>,
    pub(super) members_made: usize,
    pub(super) databases_made: usize,
    /// Rows that clients were told are safe, by system identifier.
    pub(super) acknowledged: BTreeMap<String, u64>,
    pub(super) breaches: Vec<String>,
    /// Generation of the secrets that the operator has.
    pub(super) vault: u64,
}

impl Machine {
    fn new(name: &str) -> Self {
        let mut ticket = testing::ticket(name);
        ticket.issued = 0;
        ticket.cluster.dhcp = vec![crate::ticket::Dhcp {
            subnet: "10.77.0.0/24".into(),
            first: std::net::Ipv4Addr::new(10, 77, 0, 100),
            last: std::net::Ipv4Addr::new(10, 77, 0, 200),
            primary: "rack-1".into(),
            secondary: Some("rack-2".into()),
        }];
        Self {
            ticket: Rc::new(ticket),
            on: false,
            record: Record::default(),
            etcd: None,
            directory: Directory::Empty,
            identity: false,
            image: FIRST,
            oldest: 0,
            wish: None,
            laid: false,
            named: false,
            etcd_runs: false,
            patroni_runs: false,
            at_it: false,
            postgres_runs: false,
            units: BTreeSet::new(),
            reloaded: 0,
        }
    }

    /// As a power failure leaves it.
    pub(super) fn power_off(&mut self) {
        self.on = false;
        self.laid = false;
        self.named = false;
        self.etcd_runs = false;
        self.patroni_runs = false;
        self.at_it = false;
        self.postgres_runs = false;
        self.units.clear();
    }

    pub(super) fn kind(&self) -> Kind {
        self.ticket.own().map_or(Kind::Other, |node| node.kind)
    }

    /// Whether a whole database in its directory may be the one that it is making for the cluster.
    pub(super) fn bootstraps(&self) -> bool {
        self.record.database_begun && !self.record.database_joined
    }
}

impl Cluster {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            now: 0,
            machines: ["region-1", "region-2", "rack-1", "rack-2"].map(Machine::new).into(),
            cut: BTreeSet::new(),
            etcds: vec![],
            members_made: 0,
            databases_made: 0,
            acknowledged: BTreeMap::new(),
            breaches: vec![],
            vault: 1,
        }
    }

    /// The operator brings a machine its ticket, with the secrets as they are now.
    pub(super) fn apply(&mut self, machine: usize) {
        let generation = self.vault;
        let machine = &mut self.machines[machine];
        if machine.on && machine.ticket.generation != generation {
            machine.ticket = Rc::new(Ticket { generation, ..(*machine.ticket).clone() });
            machine.laid = false;
        }
    }

    pub(super) fn breach(&mut self, what: impl Into<String>) {
        self.breaches.push(format!("tick {}: {}", self.now, what.into()));
    }

    /// Whether two machines are on and the link between them is whole.
    pub(super) fn linked(&self, one: usize, other: usize) -> bool {
        let pair = (one.min(other), one.max(other));
        self.machines[one].on && self.machines[other].on && (one == other || !self.cut.contains(&pair))
    }

    /// The cluster of which `machine`'s etcd is a voting part with a quorum.
    pub(super) fn quorum_of(&self, machine: usize) -> Option<usize> {
        let (cluster, id) = self.machines[machine].etcd.filter(|_| self.machines[machine].etcd_runs)?;
        let members = &self.etcds[cluster].members;
        members.iter().find(|member| member.id == id && !member.learner)?;
        let voters = members.iter().filter(|member| !member.learner);
        let alive = voters.clone().filter(|member| {
            let other = &self.machines[member.machine];
            other.etcd_runs && other.etcd == Some((cluster, member.id)) && self.linked(machine, member.machine)
        });
        (alive.count() * 2 > voters.count()).then_some(cluster)
    }

    /// A cluster with a quorum that `machine` can reach through some voter.
    pub(super) fn reachable_quorum(&self, machine: usize) -> Option<usize> {
        let all = 0..self.machines.len();
        all.filter(|other| self.linked(machine, *other)).find_map(|other| self.quorum_of(other))
    }

    /// Who holds the leader lock of an etcd cluster.
    pub(super) fn leader(&self, etcd: usize) -> Option<usize> {
        self.etcds[etcd].leader.filter(|(_, until)| *until > self.now).map(|(leader, _)| leader)
    }

    /// Where `machine`'s local endpoint leads: a machine that leads, and runs PostgreSQL.
    pub(super) fn writable(&self, machine: usize) -> Option<usize> {
        if !self.machines[machine].units.contains("haproxy.service") {
            return None;
        }
        (0..self.machines.len()).find(|other| self.linked(machine, *other) && self.leads(*other))
    }

    /// Whether `machine` is a primary that would be written to.
    pub(super) fn leads(&self, machine: usize) -> bool {
        let here = &self.machines[machine];
        let holds = |etcd: &Etcd| etcd.leader.is_some_and(|(leader, until)| leader == machine && until > self.now);
        here.on && here.postgres_runs && here.patroni_runs && self.etcds.iter().any(holds)
    }

    pub(super) fn content(&self, machine: usize) -> Option<&Content> {
        match &self.machines[machine].directory {
            Directory::Cluster(_, content) => Some(content),
            _ => None,
        }
    }

    pub(super) fn content_mut(&mut self, machine: usize) -> Option<&mut Content> {
        match &mut self.machines[machine].directory {
            Directory::Cluster(_, content) => Some(content),
            _ => None,
        }
    }

    /// People wiped disks: what no machine holds any more and no quorum knows of is not missed either.
    pub(super) fn forget_the_wiped(&mut self) {
        let holds = |machine: &Machine, wanted: &String| matches!(&machine.directory, Directory::Cluster(identifier, _) if identifier == wanted);
        let machines = &self.machines;
        self.acknowledged.retain(|identifier, _| {
            let etcd = machines.iter().any(|machine| machine.etcd.is_some());
            etcd || machines.iter().any(|machine| holds(machine, identifier))
        });
    }

    /// A client writes a row where a leader is.
    pub(super) fn write(&mut self) {
        let Some(leader) = (0..self.machines.len()).find(|machine| self.leads(*machine)) else { return };
        if let Directory::Cluster(identifier, content) = &mut self.machines[leader].directory {
            content.rows += 1;
            let rows = content.rows;
            // In synchronous mode a row is acknowledged when the other has it; the model lets it have it at once.
            self.acknowledged.insert(identifier.clone(), rows);
        }
        if self.acknowledged.values().filter(|rows| **rows > 0).count() > 1 {
            self.breach("rows are acknowledged in two databases");
        }
        self.replicate(leader);
    }

    /// Replicas that run and reach the leader follow it.
    fn replicate(&mut self, leader: usize) {
        let source = self.machines[leader].directory.clone();
        let Directory::Cluster(identifier, _) = &source else { return };
        for other in 0..self.machines.len() {
            let here = &self.machines[other];
            let follows =
                here.postgres_runs && matches!(&here.directory, Directory::Cluster(own, _) if own == identifier);
            if other != leader && follows && self.linked(leader, other) {
                self.machines[other].directory = source.clone();
            }
        }
    }

    /// One turn of `machine`'s Patroni.
    pub(super) fn patroni(&mut self, machine: usize) {
        if !self.machines[machine].on || !self.machines[machine].patroni_runs {
            return;
        }
        let Some(etcd) = self.reachable_quorum(machine) else {
            // It cannot renew its lock, and demotes itself before the lock ends.
            return;
        };
        let leader = self.leader(etcd);
        let claim = self.etcds[etcd].initialise.clone();
        match self.machines[machine].directory.clone() {
            Directory::Empty if claim.is_none() && leader.is_none() => {
                self.etcds[etcd].initialise = Some(String::new());
                self.machines[machine].directory = Directory::Bootstrapping;
                self.machines[machine].at_it = true;
            }
            Directory::Bootstrapping if self.machines[machine].at_it => {
                self.databases_made += 1;
                let identifier = format!("database-{}", self.databases_made);
                self.machines[machine].directory = Directory::Cluster(identifier, Content::new());
            }
            Directory::Empty => {
                if leader.is_some_and(|leader| self.linked(machine, leader)) && !self.etcds[etcd].paused {
                    self.machines[machine].directory = Directory::Cloning;
                    self.machines[machine].at_it = true;
                }
            }
            Directory::Cloning if self.machines[machine].at_it => {
                let source =
                    leader.filter(|leader| self.linked(machine, *leader) && self.machines[*leader].postgres_runs);
                if let Some(leader) = source {
                    self.machines[machine].directory = self.machines[leader].directory.clone();
                    self.machines[machine].at_it = false;
                    self.machines[machine].postgres_runs = true;
                }
            }
            Directory::Bootstrapping | Directory::Cloning => {}
            Directory::Cluster(identifier, content) => self.run_postgres(machine, etcd, &identifier, &content),
        }
    }

    fn run_postgres(&mut self, machine: usize, etcd: usize, identifier: &str, content: &Content) {
        let claim = self.etcds[etcd].initialise.clone();
        let leader = self.leader(etcd);
        match claim.as_deref() {
            None | Some("") if leader.is_none() && !self.etcds[etcd].paused => {
                // The end of its bootstrap, or a directory that Patroni adopts. Either way it claims the cluster.
                self.etcds[etcd].initialise = Some(identifier.to_owned());
                self.etcds[etcd].leader = Some((machine, self.now + TTL));
                self.machines[machine].at_it = false;
                self.machines[machine].postgres_runs = true;
            }
            Some(known) if known == identifier => {
                if !self.machines[machine].postgres_runs {
                    if self.etcds[etcd].paused {
                        return;
                    }
                    self.machines[machine].postgres_runs = true;
                }
                self.machines[machine].at_it = false;
                let best = self.acknowledged.get(identifier).is_none_or(|rows| content.rows >= *rows);
                if leader == Some(machine) || (leader.is_none() && best && !self.etcds[etcd].paused) {
                    self.etcds[etcd].leader = Some((machine, self.now + TTL));
                    self.replicate(machine);
                }
            }
            _ => {}
        }
    }

    /// The operator promotes the best replica where Patroni is paused and nobody leads.
    pub(super) fn promote(&mut self) {
        let best = (0..self.machines.len()).find(|machine| match &self.machines[*machine].directory {
            Directory::Cluster(identifier, content) => {
                self.machines[*machine].postgres_runs
                    && self.acknowledged.get(identifier).is_none_or(|rows| content.rows >= *rows)
            }
            _ => false,
        });
        let Some(best) = best else { return };
        if let Some(etcd) = self.reachable_quorum(best)
            && self.etcds[etcd].paused
            && self.leader(etcd).is_none()
        {
            self.etcds[etcd].leader = Some((best, self.now + TTL));
        }
    }

    /// Whether no sequence of steps can bring back what clients were told is safe, or etcd's quorum, or a person has to
    /// say what becomes of a strange database.
    pub(super) fn lost(&self) -> bool {
        let known = |etcd: &Etcd| etcd.initialise.clone().filter(|identifier| !identifier.is_empty());
        let held = |identifier: &String| {
            let holds =
                |machine: &Machine| matches!(&machine.directory, Directory::Cluster(own, _) if own == identifier);
            self.machines.iter().any(holds)
        };
        let complete = |identifier: &String, rows: u64| {
            let holds = |machine: &Machine| matches!(&machine.directory, Directory::Cluster(own, content) if own == identifier && content.rows >= rows);
            self.machines.iter().any(holds)
        };
        let quorum = self.etcds.iter().enumerate().any(|(number, etcd)| {
            let voters = etcd.members.iter().filter(|member| !member.learner);
            let whole = voters.clone().filter(|member| self.machines[member.machine].etcd == Some((number, member.id)));
            whole.count() * 2 > voters.count()
        });
        let has_data = |number: usize| {
            self.machines.iter().any(|machine| machine.etcd.is_some_and(|(cluster, _)| cluster == number))
        };
        let mut alive = self.etcds.iter().enumerate().filter(|(number, _)| has_data(*number));
        let strange = |machine: &Machine| matches!(&machine.directory, Directory::Cluster(identifier, _) if identifier == ELSEWHERE);
        self.machines.iter().any(strange)
            || (!self.etcds.is_empty() && !quorum)
            || alive.any(|(_, etcd)| known(etcd).is_some_and(|identifier| !held(&identifier)))
            || self.acknowledged.iter().any(|(identifier, rows)| !complete(identifier, *rows))
    }
}

impl Content {
    pub(super) fn new() -> Self {
        Self {
            exists: false,
            generation: None,
            schema: Steps::default(),
            secret: false,
            administrator: false,
            dhcp: false,
            racks: BTreeSet::new(),
            rows: 0,
        }
    }
}
