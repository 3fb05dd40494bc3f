//! Watching machines become members.
//!
//! Owns what is seen of a machine's way from power-on to joined, in one line. Never helps it along.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::report::{Diagnostic, Kind};

use super::cluster::Lab;
use super::machine::{BackEnd, Machine};

/// How often machines are asked. Reading a container's status costs less than a millisecond …
const PAUSE: Duration = Duration::from_millis(250);
/// … and an emulated machine's a noticeable part of its processor.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// How far a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is off.
    Off,
    /// It is on, and its join has said nothing yet.
    Booting,
    /// Its join is at work or waits: in its own words.
    Joining(String),
    /// Its join says that a person must decide: in its own words.
    Stopped(String),
    /// It is a member.
    Joined,
}

impl Step {
    /// How far `machine` is.
    pub fn of(machine: &dyn Machine) -> Self {
        if !machine.is_running() {
            return Self::Off;
        }
        // A machine that cannot be reached yet has said nothing.
        let Ok(Some(status)) = machine.status() else { return Self::Booting };
        let text = |name: &str| status.get(name).and_then(serde_json::Value::as_str);
        let what = text("what").unwrap_or("at work");
        let step = text("step").map(|step| format!("[{step}] ")).unwrap_or_default();
        match text("state") {
            Some("joined") => Self::Joined,
            Some("stopped") => Self::Stopped(format!("{step}{what}")),
            Some("waiting" | "idle") => Self::Joining(format!("{step}waiting for {what}")),
            _ => Self::Joining(format!("{step}{what}")),
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::Booting => formatter.write_str("boots"),
            Self::Joining(words) => formatter.write_str(words),
            Self::Stopped(words) => write!(formatter, "stopped: {words}"),
            Self::Joined => formatter.write_str("joined"),
        }
    }
}

impl Lab {
    /// Watches the machines `names` (none: all of them) until all have joined; tells each change of a machine's step.
    ///
    /// # Errors
    /// When they have not joined `within` that time, one stopped because a person must decide, or one is off: what each
    /// waits for.
    pub fn watch(
        &self,
        names: &[&str],
        within: Duration,
        changed: &mut dyn FnMut(&str, &Step),
    ) -> Result<Duration, Diagnostic> {
        let since = Instant::now();
        let mut seen: BTreeMap<String, Step> = BTreeMap::new();
        let watched: Vec<&dyn Machine> = match names {
            [] => self.machines().collect(),
            names => names.iter().map(|name| self.machine(name)).collect::<Result<_, _>>()?,
        };
        let pause = if self.back_end() == BackEnd::Qemu { LONG_PAUSE } else { PAUSE };
        loop {
            for machine in &watched {
                let (name, step) = (machine.identity().name.as_str(), Step::of(*machine));
                if seen.get(name) != Some(&step) {
                    changed(name, &step);
                    seen.insert(name.to_owned(), step);
                }
            }
            if seen.values().all(|step| *step == Step::Joined) {
                return Ok(since.elapsed());
            }
            // Nobody switches a machine off while it is watched: it ended by itself.
            let stopped = seen.values().any(|step| matches!(step, Step::Stopped(_) | Step::Off));
            if stopped || since.elapsed() >= within {
                return Err(not_joined(&seen, since.elapsed()));
            }
            std::thread::sleep(pause);
        }
    }
}

fn not_joined(seen: &BTreeMap<String, Step>, after: Duration) -> Diagnostic {
    let message = format!("after {:.0} s, not every machine has joined", after.as_secs_f64());
    let waiting = seen.iter().filter(|(_, step)| **step != Step::Joined);
    waiting.fold(Diagnostic::error(Kind::World, message), |diagnostic, (name, step)| {
        diagnostic.note(format!("{name}: {step}"))
    })
}
