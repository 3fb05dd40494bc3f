//! What a scenario works with: the machines by name, faults, figures; what it waits for is in `waits`.
//!
//! Owns the words in which scenarios are written. Every fault and every mend is a mark in the timeline.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::lab::client::Client;
use crate::lab::cluster::Lab;
use crate::lab::machine::{BackEnd, Exec, Machine};
use crate::lab::timeline::{EntryKind, Figure, Recorder};
use crate::report::{Diagnostic, Report};
use crate::seed::{Planted, Terms};
use crate::spec::{OptionValue, Spec};

use super::cast::Cast;

/// Why a scenario failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        let mut text = diagnostic.message;
        for note in diagnostic.notes {
            text.push('\n');
            text.push_str(&note);
        }
        Self(text)
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        let failures = report.diagnostics.into_iter().map(|diagnostic| Self::from(diagnostic).0);
        Self(failures.collect::<Vec<_>>().join("\n"))
    }
}

/// How a scenario's function ends.
pub type Outcome = Result<(), Failure>;

/// A lab with its clients and its recording, for one scenario.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The scenario's name.
    pub name: &'a str,
    /// Who is who.
    pub cast: &'a Cast,
    /// What the images were built from.
    pub spec: &'a Spec,
    /// The lab.
    pub lab: &'a Arc<Lab>,
    /// The recording.
    pub recorder: &'a Recorder,
    /// When the scenario began.
    pub began: Duration,
    /// What was measured so far.
    pub figures: Vec<Figure>,
    /// The clients, the first one started by the suite.
    pub clients: Vec<Client>,
    /// When the last fault had taken effect: what was sent after a fault's mark and before this may still have come through.
    pub(super) in_effect: Cell<Duration>,
}

/// Machines, and what is done to them.
impl Stage<'_> {
    /// A machine.
    pub fn machine(&self, name: &str) -> Result<&dyn Machine, Failure> {
        Ok(self.lab.machine(name)?)
    }

    /// Whether the lab is made of virtual machines, which take longer for everything.
    pub fn is_emulated(&self) -> bool {
        self.lab.back_end() == BackEnd::Qemu
    }

    /// How many times as long as usual the machines of this cluster may take to answer each other, as its images say.
    fn slowness(&self) -> u32 {
        match self.spec.options.get("cluster.patience") {
            Some(OptionValue::Text(times)) => times.parse().unwrap_or(1),
            _ => 1,
        }
    }

    /// A time limit: longer for a cluster that has patience, and at least four times as long where machines are emulated.
    pub fn patience(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds) * self.slowness().max(if self.is_emulated() { 4 } else { 1 })
    }

    /// Powers machines on.
    pub fn start(&self, names: &[&str]) -> Outcome {
        for name in names {
            self.mend(&format!("power {name} on"));
            self.machine(name)?.start()?;
        }
        Ok(())
    }

    /// Cuts a machine's power. Returns when that was.
    pub fn kill(&self, name: &str, what: &str) -> Result<Duration, Failure> {
        let at = self.fault(&format!("cut the power of {name}{}", comma(what)));
        self.machine(name)?.kill()?;
        self.in_effect.set(self.recorder.now());
        Ok(at)
    }

    /// Shuts a machine down in good order.
    pub fn stop(&self, name: &str) -> Result<Duration, Failure> {
        let at = self.fault(&format!("shut {name} down"));
        self.machine(name)?.stop(self.patience(60))?;
        self.in_effect.set(self.recorder.now());
        Ok(at)
    }

    /// Makes a machine that is off forget everything, as if it were installed anew.
    pub fn reimage(&self, name: &str) -> Outcome {
        self.fault(&format!("re-image {name}: its state is empty"));
        Ok(self.machine(name)?.wipe_state()?)
    }

    /// Puts a machine's seed into its source, made from the lab's secrets as they are now and changed by `change`.
    pub fn seed(&self, name: &str, change: impl FnOnce(&mut Planted)) -> Outcome {
        self.seed_of(name, name, change)
    }

    /// Puts the seed of the node `whose` into the source of `name`.
    pub fn seed_of(&self, name: &str, whose: &str, change: impl FnOnce(&mut Planted)) -> Outcome {
        let mut planted = self.lab.plant(self.spec, whose, Terms::default())?;
        change(&mut planted);
        Ok(self.machine(name)?.set_seed(Some(&planted.nocloud()))?)
    }

    /// Cuts a machine or a client off from everyone.
    pub fn cut(&self, name: &str, what: &str) -> Result<Duration, Failure> {
        let at = self.fault(&format!("cut {name} off{}", comma(what)));
        self.lab.network().cut(name)?;
        self.in_effect.set(self.recorder.now());
        Ok(at)
    }

    /// Splits the network.
    pub fn partition(&self, groups: &[&[&str]]) -> Result<Duration, Failure> {
        let shown: Vec<String> = groups.iter().map(|group| group.join(" + ")).collect();
        let at = self.fault(&format!("split the network: {}", shown.join(" | ")));
        self.lab.network().partition(groups)?;
        self.in_effect.set(self.recorder.now());
        Ok(at)
    }

    /// Keeps machines from hearing one another, while all others hear each.
    pub fn sever(&self, names: &[&str]) -> Result<Duration, Failure> {
        let at = self.fault(&format!("keep {} from hearing one another", names.join(" and ")));
        self.lab.network().sever(names)?;
        self.in_effect.set(self.recorder.now());
        Ok(at)
    }

    /// Undoes every cut of the network.
    pub fn heal(&self) -> Result<Duration, Failure> {
        let at = self.mend("heal the network");
        self.lab.network().heal_all()?;
        Ok(at)
    }

    /// Runs a script on a machine, and fails unless it succeeds. Gives its output.
    pub fn shell(&self, name: &str, script: &str) -> Result<String, Failure> {
        let doing = format!("run `{}` on {name}", script.lines().next().unwrap_or_default());
        Ok(self.machine(name)?.exec(&Exec::shell(script).within(self.patience(60)))?.expect(&doing)?)
    }

    /// Asks a machine's own PostgreSQL, as its superuser.
    pub fn sql(&self, name: &str, database: &str, statement: &str) -> Result<String, Failure> {
        let arguments = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "psql", "-XAtq", "-d", database];
        let exec = Exec::new("setpriv", &arguments).input(statement).within(self.patience(20));
        Ok(self.machine(name)?.exec(&exec)?.expect(&format!("ask the database of {name}"))?.trim().to_owned())
    }
}

/// The timeline and the figures.
impl Stage<'_> {
    /// Marks that something was broken. Returns when.
    pub fn fault(&self, text: &str) -> Duration {
        let at = self.recorder.now();
        self.recorder.note(EntryKind::Fault, text);
        at
    }

    /// Marks that something was put right. Returns when.
    pub fn mend(&self, text: &str) -> Duration {
        let at = self.recorder.now();
        self.recorder.note(EntryKind::Mend, text);
        at
    }

    /// Tells of something that was seen.
    pub fn tell(&self, text: &str) {
        self.recorder.note(EntryKind::Seen, text);
    }

    /// Takes a figure.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, aim: Option<f64>) {
        let figure = Figure { name: name.to_owned(), value, unit: unit.to_owned(), aim };
        self.recorder.note(EntryKind::Figure, format!("{name}: {}", figure.text()));
        self.figures.push(figure);
    }

    /// Takes a figure of time. The aim is that of a cluster without patience.
    pub fn seconds(&mut self, name: &str, value: Duration, aim: Option<f64>) {
        let times = f64::from(self.slowness());
        self.figure(name, value.as_secs_f64(), "s", aim.map(|aim| aim * times));
    }

    /// Fails with `otherwise` unless `holds`.
    pub fn check(&self, holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
        if holds { Ok(()) } else { Err(Failure(otherwise())) }
    }
}

fn comma(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", {text}") }
}
