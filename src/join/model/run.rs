//! One run: a cluster, the join of each of its machines, and what happens between any two things that they do.
//!
//! Owns the order of things, and what has to hold at the end. What goes wrong is `weather`'s, which rule is broken on
//! purpose `mutation`'s.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::drive::{End, Round, Seat};
use super::super::machine::{Decision, Next};
use super::super::tables::{Failover, Tables};
use super::super::testing;
use super::super::world::{Facts, Record, SchemaVersion};
use super::cluster::{self, Cluster, Directory};
use super::mutation::Mutation;
use super::seat::{self, Place};
use super::weather::Weather;

/// One run.
pub(super) struct Run {
    pub(super) cluster: Rc<RefCell<Cluster>>,
    pub(super) rounds: Vec<Round>,
    pub(super) places: Vec<Place>,
    tables: Vec<Tables>,
    pub(super) ends: Vec<Option<(Next, End)>>,
    /// What a running join remembers, where a mutation writes it down too late.
    pub(super) memory: Vec<Option<Record>>,
    pub(super) mutation: Mutation,
    /// What was done and what went wrong, for the report of a failure.
    pub(super) trace: Vec<String>,
}

impl Run {
    pub(super) fn new(seed: u64, failover: Failover, mutation: Mutation) -> Self {
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

    fn joined(&self) -> bool {
        self.ends.iter().all(|end| matches!(end, Some((_, End::Joined))))
    }

    /// Runs it; says what went wrong, and what led there.
    pub(super) fn go(mut self, weather: Weather) -> Result<bool, String> {
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
