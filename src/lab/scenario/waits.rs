//! What a scenario waits for: a condition, machines that join, whoever leads, clients that get through.
//!
//! Every wait has a limit, and says when it was in vain what it waited for and how the machines were then.

use std::sync::Arc;
use std::time::Duration;

use crate::lab::client::{Client, Enter, Pace};
use crate::lab::timeline::measure::{self, Of};
use crate::lab::timeline::{Machine as State, Seen};

use super::stage::{Failure, Outcome, Stage};

/// Between two looks of a wait.
const LOOK: Duration = Duration::from_millis(100);

/// … on emulated machines, where a look takes half a second of the machine that is waited for.
const EMULATED_LOOK: Duration = Duration::from_secs(3);

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

    /// Waits until reads and writes of every client have come through for a while ([`Pace::settled`]) without a
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
            let mut clients = stage.clients.iter().map(Client::index);
            Ok(clients.all(|client| served(Of { client, writes: false }) && served(Of { client, writes: true })))
        })
    }
}

/// The only one.
fn single(mut names: Vec<String>) -> Option<String> {
    (names.len() == 1).then(|| names.remove(0))
}
