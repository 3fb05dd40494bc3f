//! What goes wrong in a run: machines are killed, switched off, cut off, re-imaged, booted with another version; and how
//! that ends.

use super::super::drive::Round;
use super::super::world::{Facts, Record};
use super::cluster::{self, Content, Directory, ELSEWHERE};
use super::run::Run;
use crate::ticket::Kind;

/// How much may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    /// Links, power, the join itself; one machine at a time is re-imaged, when the others are whole.
    Rough,
    /// Anything, also more than the cluster can bear.
    Hopeless,
}

impl Run {
    pub(super) fn fault(&mut self, weather: Weather, machine: usize) {
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
    pub(super) fn calm(&mut self) {
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
}
