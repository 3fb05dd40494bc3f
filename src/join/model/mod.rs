//! Thousands of clusters that are cut, killed, powered off and re-imaged at random, to break the three rules.
//!
//! Every machine runs the real state machine through the real [`Round`], one thing at a time, in any order; between any
//! two things anything may fail. No rule may ever be broken, and when the faults stop every machine has joined, unless
//! what clients were told is safe is really gone. The same seed gives the same run: a failure names it.

mod cluster;
mod seat;

use std::cell::RefCell;
use std::rc::Rc;

use self::cluster::{Cluster, Content, Directory, ELSEWHERE};
use self::seat::Place;
use super::drive::{End, Round, Seat};
use super::machine::{Decision, Next};
use super::tables::{Failover, Tables};
use super::testing;
use super::world::{Answer, Data, EtcdRecord, Facts, Record, Says, SchemaVersion};
use crate::ticket::Kind;

/// A rule that is broken on purpose, to see that the test finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    /// None.
    None,
    /// Who does not answer is taken for new.
    SilenceIsNew,
    /// A machine without data forgets that it was a member.
    DataIsMemory,
    /// The record is not durable when the action follows.
    RecordIsLate,
    /// Every region thinks that it leads.
    EverybodyLeads,
    /// A database that is there is started, whatever etcd knows.
    AnyDatabase,
    /// Every peer is taken for one that has the newest secrets at hand.
    AllAreTold,
    /// Every peer is taken for one that runs this machine's version.
    AllRunThis,
    /// A schema that a newer version has begun is taken for this one's.
    NoneIsNewer,
}

/// How much may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// Links, power, the join itself; one machine at a time is re-imaged, when the others are whole.
    Rough,
    /// Anything, also more than the cluster can bear.
    Hopeless,
}

/// One run.
struct Run {
    cluster: Rc<RefCell<Cluster>>,
    rounds: Vec<Round>,
    places: Vec<Place>,
    tables: Vec<Tables>,
    ends: Vec<Option<(Next, End)>>,
    /// What a running join remembers, where a mutation writes it down too late.
    memory: Vec<Option<Record>>,
    mutation: Mutation,
    /// What was done and what went wrong, for the report of a failure.
    trace: Vec<String>,
}

impl Run {
    fn new(seed: u64, failover: Failover, mutation: Mutation) -> Self {
        let cluster = Rc::new(RefCell::new(Cluster::new(seed)));
        let names = ["region-1", "region-2", "rack-1", "rack-2"];
        let tables = names.map(|name| {
            let mut tables = testing::tables(name);
            if let Some(database) = &mut tables.database {
                database.failover = failover;
            }
            tables
        });
        let place = |machine| Place {
            cluster: cluster.clone(),
            machine,
            told: Facts::default(),
            forgets: mutation == Mutation::RecordIsLate,
        };
        Self {
            places: (0..names.len()).map(place).collect(),
            rounds: vec![Round::default(); names.len()],
            tables: tables.into(),
            ends: vec![None; names.len()],
            memory: vec![None; names.len()],
            cluster,
            mutation,
            trace: vec![],
        }
    }

    /// One thing that `machine`'s join does.
    fn step(&mut self, machine: usize) {
        let (ticket, mut record) = {
            let cluster = self.cluster.borrow();
            if !cluster.machines[machine].on {
                return;
            }
            (cluster.machines[machine].ticket.clone(), cluster.machines[machine].record.clone())
        };
        if let Some(remembered) = &self.memory[machine] {
            record = remembered.clone();
        }
        let own = ticket.own().unwrap();
        self.mutate(machine, &mut record);
        let (image, wish) = {
            let cluster = self.cluster.borrow();
            (cluster.machines[machine].image, cluster.machines[machine].wish)
        };
        let mut tables = self.tables[machine].clone();
        cluster::version(image).clone_into(&mut tables.image.version);
        let seat = Seat { ticket: &ticket, own, tables: &tables, upgrade: wish == Some(image) };
        let next = self.rounds[machine].next(&seat, &record);
        if matches!(next.decision, Decision::Do(_) | Decision::Keep(_)) {
            let now = self.cluster.borrow().now;
            self.trace.push(format!("tick {now}: {} [{}] {:?}", ticket.node, next.step, next.decision));
        }
        let end = self.rounds[machine].advance(&next, &mut record, &mut self.places[machine]);
        if self.mutation == Mutation::RecordIsLate {
            if end.is_some() {
                self.cluster.borrow_mut().machines[machine].record = record.clone();
            }
            self.memory[machine] = Some(record);
        }
        if let Some(end) = end {
            self.leaves_nothing_old(machine);
            if end == End::Joined {
                self.cluster.borrow_mut().machines[machine].wish = None;
            }
            self.rounds[machine] = Round::default();
            self.ends[machine] = Some((next, end));
        }
    }

    /// A round has ended: a region that has seen that the schema is newer runs no MAAS any more.
    fn leaves_nothing_old(&mut self, machine: usize) {
        let told = self.places[machine].told.schema.as_ref().map(|schema| &schema.version);
        let mut cluster = self.cluster.borrow_mut();
        let runs = cluster.machines[machine].units.contains("maas-regiond.service");
        if runs && matches!(told, Some(SchemaVersion::Newer(_))) {
            let name = cluster.machines[machine].ticket.node.clone();
            cluster.breach(format!("{name} runs an older MAAS than has begun to change the schema"));
        }
    }

    /// Breaks a rule, where the run is to be broken: changes what the machine sees or remembers.
    fn mutate(&mut self, machine: usize, record: &mut Record) {
        let cluster = self.cluster.borrow();
        if self.mutation == Mutation::DataIsMemory && cluster.machines[machine].etcd.is_none() {
            record.etcd = EtcdRecord::Bootstrapping;
        }
        let mutation = self.mutation;
        self.rounds[machine].change_facts(|facts| match mutation {
            Mutation::SilenceIsNew => {
                for peer in facts.peers.iter_mut().flatten().filter(|peer| matches!(peer.answer, Answer::Nothing(_))) {
                    peer.answer = Answer::NeverMember;
                    peer.says = Some(new_machine());
                }
            }
            Mutation::EverybodyLeads => {
                if let Some(database) = &mut facts.database {
                    database.leader = Some(cluster.machines[machine].ticket.node.clone());
                }
            }
            Mutation::AnyDatabase => {
                if let Some(database) = &mut facts.database
                    && let Data::Cluster(identifier) = &database.data
                {
                    database.initialised = Some(identifier.clone());
                }
            }
            Mutation::AllRunThis => {
                let own = cluster::version(cluster.machines[machine].image);
                for says in facts.peers.iter_mut().flatten().filter_map(|peer| peer.says.as_mut()) {
                    own.clone_into(&mut says.version);
                }
            }
            Mutation::NoneIsNewer => {
                if let Some(schema) = &mut facts.schema
                    && matches!(schema.version, SchemaVersion::Newer(_))
                {
                    schema.version = SchemaVersion::Same;
                }
            }
            Mutation::AllAreTold => {
                for says in facts.peers.iter_mut().flatten().filter_map(|peer| peer.says.as_mut()) {
                    says.generation = u64::MAX;
                }
            }
            _ => {}
        });
    }

    /// One thing that happens in the cluster.
    fn happen(&mut self, weather: Option<Weather>) {
        let dice = |sides| self.cluster.borrow_mut().dice.roll(sides);
        let machine = dice(4);
        match dice(100) {
            0..70 => self.step(machine),
            70..86 => self.cluster.borrow_mut().patroni(machine),
            86..90 => self.cluster.borrow_mut().write(),
            90..94 => seat::rack_turn(&mut self.cluster.borrow_mut(), machine),
            _ => {
                if let Some(weather) = weather {
                    self.fault(weather, machine);
                }
            }
        }
        self.cluster.borrow_mut().now += 1;
    }

    fn fault(&mut self, weather: Weather, machine: usize) {
        let kind = self.cluster.borrow_mut().dice.roll(20);
        let what = [
            "killed",
            "killed",
            "killed",
            "killed",
            "off",
            "off",
            "on",
            "on",
            "on",
            "cut",
            "healed",
            "told",
            "told",
            "told",
            "there while secrets are rotated",
            "re-imaged",
            "booted with the newest version",
            "booted with the newest version",
            "booted with an older version",
            "asked to upgrade the schema",
        ];
        self.trace.push(format!("tick {}: machine {machine} is {}", self.cluster.borrow().now, what[kind]));
        match kind {
            // The join is killed: it forgets what it was at.
            0..=3 => self.kill(machine),
            4 | 5 => {
                self.kill(machine);
                self.cluster.borrow_mut().machines[machine].power_off();
            }
            6..=8 => self.cluster.borrow_mut().machines[machine].on = true,
            9 => {
                let mut cluster = self.cluster.borrow_mut();
                let other = cluster.dice.roll(4);
                if other != machine {
                    cluster.cut.insert((machine.min(other), machine.max(other)));
                }
            }
            10 => self.cluster.borrow_mut().cut.clear(),
            11..=13 => self.apply(machine),
            14 => self.cluster.borrow_mut().vault += 1,
            15 => self.reimage(weather, machine),
            16 | 17 => self.boot(machine, cluster::NEWEST),
            18 => self.boot(machine, cluster::FIRST),
            _ => {
                let mut cluster = self.cluster.borrow_mut();
                cluster.machines[machine].wish = Some(cluster.machines[machine].image);
            }
        }
    }

    /// Another version is booted, where the boot loader has it.
    fn boot(&mut self, machine: usize, image: usize) {
        self.kill(machine);
        let mut cluster = self.cluster.borrow_mut();
        let machine = &mut cluster.machines[machine];
        machine.power_off();
        machine.on = true;
        machine.image = image.max(machine.oldest);
    }

    /// A ticket arrives; the join leaves the round that it is in.
    fn apply(&mut self, machine: usize) {
        self.rounds[machine] = Round::default();
        self.places[machine].told = Facts::default();
        self.cluster.borrow_mut().apply(machine);
    }

    fn kill(&mut self, machine: usize) {
        self.rounds[machine] = Round::default();
        self.places[machine].told = Facts::default();
        self.memory[machine] = None;
    }

    /// A machine's state is lost, or a part of it.
    fn reimage(&mut self, weather: Weather, machine: usize) {
        if weather == Weather::Rough && !self.others_whole(machine) {
            return;
        }
        self.kill(machine);
        let mut cluster = self.cluster.borrow_mut();
        let part = if weather == Weather::Hopeless { cluster.dice.roll(12) } else { 12 };
        let machine = &mut cluster.machines[machine];
        machine.power_off();
        match part {
            0..3 => machine.etcd = None,
            3..6 if machine.kind() == Kind::Region => machine.directory = Directory::Empty,
            // Not into a machine that is at its bootstrap: for those minutes nothing tells a strange whole database from its own,
            // and a whole one is never moved. docs/joining.md says so.
            6 if machine.kind() == Kind::Region && !machine.bootstraps() => {
                machine.directory = Directory::Cluster(ELSEWHERE.to_owned(), Content::new());
            }
            _ => {
                machine.record = Record::default();
                machine.etcd = None;
                machine.directory = Directory::Empty;
                machine.identity = false;
                // A person may have the older image at hand.
                machine.oldest = 0;
                machine.wish = None;
            }
        }
        cluster.forget_the_wiped();
    }

    /// Whether the cluster can spare a machine: every other voter is a full member, and the other regions have all rows.
    fn others_whole(&self, machine: usize) -> bool {
        let cluster = self.cluster.borrow();
        // Nothing has been promised yet.
        if cluster.etcds.is_empty() {
            return true;
        }
        let Some(etcd) = cluster.etcds.len().checked_sub(1) else { return true };
        let others = (0..4).filter(|other| *other != machine);
        let member = |other: usize| {
            let voter = cluster.machines[other].ticket.own().is_some_and(|node| node.voter);
            let listed = cluster.etcds[etcd].members.iter().find(|member| member.machine == other && !member.learner);
            !voter || listed.is_some_and(|member| cluster.machines[other].etcd == Some((etcd, member.id)))
        };
        let rows = |other: usize| match &cluster.machines[other].directory {
            Directory::Cluster(identifier, content) => {
                cluster.acknowledged.get(identifier).is_none_or(|rows| content.rows >= *rows)
            }
            _ => false,
        };
        let region = |other: &usize| cluster.machines[*other].kind() == Kind::Region;
        let spare = cluster.etcds[etcd].members.iter().filter(|member| !member.learner).count() == 3;
        spare && others.clone().all(member) && others.filter(region).all(rows)
    }

    /// The faults stop: everything is switched on and linked, and has the secrets as they are now. Where an upgrade was
    /// begun, the operator brings it to its end.
    fn calm(&mut self) {
        let begun = self.cluster.borrow().machines.iter().any(|machine| machine.image == cluster::NEWEST);
        for machine in (0..4).filter(|_| begun) {
            self.boot(machine, cluster::NEWEST);
            self.cluster.borrow_mut().machines[machine].wish = Some(cluster::NEWEST);
        }
        {
            let mut cluster = self.cluster.borrow_mut();
            cluster.cut.clear();
            for machine in &mut cluster.machines {
                machine.on = true;
            }
        }
        for machine in 0..4 {
            self.apply(machine);
        }
        self.ends = vec![None; 4];
    }

    fn joined(&self) -> bool {
        self.ends.iter().all(|end| matches!(end, Some((_, End::Joined))))
    }

    /// Runs it; says what went wrong, and what led there.
    fn go(mut self, weather: Weather) -> Result<bool, String> {
        let gone = self.weather_it(weather);
        gone.map_err(|why| {
            let from = self.trace.len().saturating_sub(40);
            format!("{why}\n{}", self.trace[from..].join("\n"))
        })
    }

    fn weather_it(&mut self, weather: Weather) -> Result<bool, String> {
        let length = 200 + self.cluster.borrow_mut().dice.roll(800);
        for _ in 0..length {
            self.happen(Some(weather));
            self.check()?;
        }
        self.calm();
        for tick in 0..6000 {
            self.happen(None);
            self.check()?;
            if tick % 50 == 0 && self.joined() && self.settled() == Ok(()) {
                return Ok(true);
            }
            // The operator comes, and again where a leader's turns came too late for its lock.
            if tick >= 3000 && tick % 500 == 0 {
                if self.cluster.borrow().lost() {
                    break;
                }
                self.cluster.borrow_mut().promote();
            }
        }
        if self.joined() {
            return self.settled().map(|()| true);
        }
        let where_they_stand = format!("{:#?}", self.ends);
        match weather == Weather::Hopeless && self.cluster.borrow().lost() {
            // What is lost stays lost, with a reason that a person can read.
            true => {
                let said = |end: &Option<(Next, End)>| match end {
                    Some((_, End::Waiting(wait))) => !wait.what.is_empty(),
                    Some((_, End::Stopped { why, remedy })) => !why.is_empty() && !remedy.is_empty(),
                    Some((_, End::Joined)) => true,
                    None => false,
                };
                if self.ends.iter().all(said) { Ok(false) } else { Err(format!("no reason: {where_they_stand}")) }
            }
            false => Err(format!("not joined after the faults stopped: {where_they_stand}")),
        }
    }

    fn check(&self) -> Result<(), String> {
        match self.cluster.borrow().breaches.first() {
            None => Ok(()),
            Some(breach) => Err(breach.clone()),
        }
    }

    /// All have joined: it is one cluster, and all that was promised is there.
    fn settled(&self) -> Result<(), String> {
        let cluster = self.cluster.borrow();
        let clusters: std::collections::BTreeSet<_> =
            cluster.machines.iter().filter_map(|machine| machine.etcd.map(|(etcd, _)| etcd)).collect();
        let databases: std::collections::BTreeSet<_> = cluster
            .machines
            .iter()
            .filter_map(|machine| match &machine.directory {
                Directory::Cluster(identifier, _) => Some(identifier.clone()),
                _ => None,
            })
            .collect();
        let leaders = (0..4).filter(|machine| cluster.leads(*machine)).count();
        let behind =
            cluster.machines.iter().filter(|machine| machine.record.secrets_generation != cluster.vault).count();
        let passwords =
            (0..4).find(|machine| cluster.leads(*machine)).and_then(|leader| cluster.content(leader)?.generation);
        if behind > 0 || passwords.is_some_and(|generation| generation != cluster.vault) {
            return Err(format!("joined, and {behind} machines run with old secrets; the database has {passwords:?}"));
        }
        let images: std::collections::BTreeSet<_> = cluster.machines.iter().map(|machine| machine.image).collect();
        let leader = (0..4).find(|machine| cluster.leads(*machine));
        let schema = leader.and_then(|leader| cluster.content(leader)).map(|content| content.schema);
        if schema.is_some_and(|schema| images.iter().any(|image| schema.seen_by(*image) != SchemaVersion::Same)) {
            return Err(format!("joined, and the images are {images:?}, the schema {schema:?}"));
        }
        match (clusters.len(), databases.len(), leaders, cluster.lost()) {
            (1, 1, 1, false) => Ok(()),
            found => Err(format!("joined, but not one cluster with all rows: {found:?}")),
        }
    }
}

/// What a machine says that has never had a part in anything.
fn new_machine() -> Says {
    Says {
        etcd: EtcdRecord::Never,
        etcd_data: false,
        database: false,
        generation: 1,
        secrets_generation: 1,
        version: cluster::version(cluster::FIRST).to_owned(),
        racks: std::collections::BTreeMap::new(),
    }
}

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
