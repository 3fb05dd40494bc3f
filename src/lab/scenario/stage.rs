//! What a scenario works with: the machines by name, faults, waits that end, figures.
//!
//! Owns the words in which scenarios are written. Every fault and every mend is a mark in the timeline. Every wait has a
//! limit, and says when it was in vain what it waited for and how the machines were then.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::lab::client::{Client, Enter, Pace};
use crate::lab::cluster::Lab;
use crate::lab::machine::{BackEnd, Exec, Machine};
use crate::lab::timeline::measure::{self, Of};
use crate::lab::timeline::{EntryKind, Figure, Machine as State, Recorder, Seen};
use crate::report::{Diagnostic, Report};
use crate::seed::{Planted, Terms};
use crate::spec::{OptionValue, Spec};

use super::cast::Cast;

/// Between two looks of a wait.
const LOOK: Duration = Duration::from_millis(100);

/// … on emulated machines, where a look takes half a second of the machine that is waited for.
const EMULATED_LOOK: Duration = Duration::from_secs(3);

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

/// Waits.
impl Stage<'_> {
    /// Looks again and again until `ready` gives something.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&Self) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let since = self.recorder.now();
        loop {
            let trouble = match ready(self) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => None,
                // A machine that is just going down or coming up cannot be asked; that is no failure before its time.
                Err(failure) => Some(failure),
            };
            if self.recorder.now() - since > limit {
                let last = trouble.map(|trouble| format!("\nlast: {trouble}")).unwrap_or_default();
                let seconds = limit.as_secs_f64();
                return Err(Failure(format!("waited {seconds:.0} s for {what}, in vain\n{}{last}", self.situation())));
            }
            std::thread::sleep(self.between_looks());
        }
    }

    fn between_looks(&self) -> Duration {
        if self.is_emulated() { EMULATED_LOOK } else { LOOK }
    }

    /// Waits for a condition. Gives how long it took.
    pub fn expect_within(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&Self) -> Result<bool, Failure>,
    ) -> Result<Duration, Failure> {
        let since = self.recorder.now();
        self.wait(what, limit, |stage| Ok(holds(stage)?.then_some(())))?;
        Ok(self.recorder.now() - since)
    }

    /// Fails unless a condition holds for the whole of `time`.
    pub fn expect_for(
        &self,
        what: &str,
        time: Duration,
        mut holds: impl FnMut(&Self) -> Result<bool, Failure>,
    ) -> Outcome {
        let since = self.recorder.now();
        while self.recorder.now() - since < time {
            if !holds(self)? {
                let after = (self.recorder.now() - since).as_secs_f64();
                return Err(Failure(format!("{what}: no longer after {after:.1} s\n{}", self.situation())));
            }
            std::thread::sleep(self.between_looks());
        }
        Ok(())
    }

    /// Lets time pass: the clients go on.
    pub fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Waits until machines say that they are members (none named: all that are on).
    pub fn wait_joined(&self, names: &[&str], limit: Duration) -> Result<Duration, Failure> {
        let names: Vec<&str> = match names {
            [] => self.cast.everyone().into_iter().filter(|name| self.is_on(name)).collect(),
            names => names.to_vec(),
        };
        self.expect_within(&format!("{} to join", names.join(", ")), limit, |stage| {
            for name in &names {
                if let State::Stopped(why) = stage.state(name)? {
                    return Err(Failure(format!("the join of {name} has stopped: {why}")));
                }
                if stage.state(name)? != State::Joined {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Whether a machine is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.lab.machine(name).is_ok_and(|machine| machine.is_running())
    }

    /// What a machine's join says now.
    pub fn state(&self, name: &str) -> Result<State, Failure> {
        Ok(match self.machine(name)?.status()? {
            Some(status) => crate::lab::observe::state(&status),
            None => State::Booting,
        })
    }

    /// All machines in a few lines, for messages.
    pub fn situation(&self) -> String {
        let recording = self.recorder.read();
        let mut lines = Vec::new();
        for (index, name) in recording.nodes.iter().enumerate() {
            let is = |seen: Seen| recording.last(index, &seen) == Some(&seen);
            let mut words = match recording.last(index, &Seen::Machine(State::Off)) {
                Some(Seen::Machine(state)) => vec![state.text()],
                _ => vec!["not seen".to_owned()],
            };
            words.extend(is(Seen::Leads(true)).then(|| "leads".to_owned()));
            words.extend(is(Seen::Writable(true)).then(|| "takes writes".to_owned()));
            words.extend(is(Seen::Address(true)).then(|| "holds the virtual address".to_owned()));
            lines.push(format!("{name}: {}", words.join(", ")));
        }
        lines.join("\n")
    }
}

/// Who does what.
impl Stage<'_> {
    /// The machines of which something was seen last.
    fn those(&self, wanted: &Seen) -> Vec<String> {
        let recording = self.recorder.read();
        let nodes = recording.nodes.iter().enumerate();
        nodes
            .filter(|(index, _)| recording.last(*index, wanted) == Some(wanted))
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// The machines whose Patroni says that it leads.
    pub fn leaders(&self) -> Vec<String> {
        self.those(&Seen::Leads(true))
    }

    /// The machines that carry the virtual address.
    pub fn holders(&self) -> Vec<String> {
        self.those(&Seen::Address(true))
    }

    /// The machines whose database takes writes.
    pub fn writers(&self) -> Vec<String> {
        self.those(&Seen::Writable(true))
    }

    /// The one that leads; waits for it.
    pub fn leader(&self) -> Result<String, Failure> {
        self.wait("a leader", self.patience(60), |stage| Ok(single(stage.leaders())))
    }

    /// The one that holds the virtual address; waits for it.
    pub fn holder(&self) -> Result<String, Failure> {
        self.wait("a holder of the virtual address", self.patience(60), |stage| Ok(single(stage.holders())))
    }
}

/// The clients.
impl Stage<'_> {
    /// Puts another client on the network, asking the virtual address until the scenario ends.
    pub fn add_client(&mut self, station: &str) -> Outcome {
        let network = self.lab.network().clone();
        let inside = station.to_owned();
        let enter: Enter = Arc::new(move |work| {
            network.enter(&inside).map_err(|diagnostic| diagnostic.message)?;
            work();
            Ok(())
        });
        let name = format!("{}/{station}", self.name);
        let target = (self.cast.virtual_address, 80).into();
        self.clients.push(Client::start(&name, target, self.pace(), enter, self.recorder));
        Ok(())
    }

    fn pace(&self) -> Pace {
        if self.is_emulated() { Pace::EMULATED } else { Pace::BRISK }
    }

    /// The first client's reads.
    pub fn reads(&self) -> Of {
        Of { client: self.clients.first().map_or(usize::MAX, Client::index), writes: false }
    }

    /// The first client's writes.
    pub fn writes(&self) -> Of {
        Of { client: self.clients.first().map_or(usize::MAX, Client::index), writes: true }
    }

    /// Waits for the first success of a request that was sent when `fault` had taken effect. Gives how long after the
    /// fault's mark that was.
    pub fn wait_success(&self, what: &str, of: Of, fault: Duration, limit: Duration) -> Result<Duration, Failure> {
        let effect = self.in_effect.get().max(fault);
        let success = |stage: &Self| measure::first_success(&stage.recorder.read().requests, of, effect);
        Ok(self.wait(what, limit, |stage| Ok(success(stage)))? + effect - fault)
    }

    /// Waits until reads and writes of the first client have come through for a while ([`Pace::settled`]) without a
    /// failure, at least every second one of those that were due.
    pub fn wait_served(&self, limit: Duration) -> Result<Duration, Failure> {
        let Pace { period, settled, .. } = self.pace();
        let enough = settled.as_millis() / period.as_millis() / 2;
        let what = format!("{} s of reads and writes without a failure", settled.as_secs());
        self.expect_within(&what, limit, |stage| {
            let now = stage.recorder.now();
            let since = now.saturating_sub(settled);
            let recording = stage.recorder.read();
            let served = |of: Of| {
                let mut recent = recording
                    .requests
                    .iter()
                    .rev()
                    .take_while(|one| one.ended >= since)
                    .filter(|one| one.client == of.client && one.kind.is_write() == of.writes);
                let failed = recent.clone().any(|request| request.failure.is_some());
                !failed && recent.by_ref().count() as u128 >= enough
            };
            Ok(served(stage.reads()) && served(stage.writes()))
        })
    }
}

/// The only one.
fn single(mut names: Vec<String>) -> Option<String> {
    (names.len() == 1).then(|| names.remove(0))
}

fn comma(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", {text}") }
}
