//! The suite: plays scenarios one after another in one lab, and keeps what a failed one leaves.
//!
//! Owns what happens between scenarios: everything is put right and the cluster has to become whole before the next one;
//! a scenario that wants empty machines gets them wiped. A lab that does not become whole again is wiped too, so that
//! one failure does not become many.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::lab::cluster::Lab;
use crate::lab::machine::Exec;
use crate::lab::observe::Observer;
use crate::lab::timeline::{EntryKind, Figure, Live, Played, Recorder, Recording, Verdict};
use crate::report::{Diagnostic, Kind};
use crate::seed::Terms;
use crate::spec::Spec;
use crate::sys::files;

use super::cast::Cast;
use super::checks::REPAIRED_WITHIN;
use super::stage::{Failure, Outcome, Stage};
use super::{ALL, Begins, Scenario};

/// The client that every scenario has.
pub const STATION: &str = "c1";

/// The client on the other side of a partition.
pub const OTHER_STATION: &str = "c2";

/// How many of the free addresses those two take.
pub const CLIENTS: usize = 2;

/// What to play, and where.
pub struct Orders<'a> {
    /// The scenarios, in order.
    pub scenarios: Vec<&'a Scenario>,
    /// The lab, its machines off.
    pub lab: Arc<Lab>,
    /// What the images were built from.
    pub spec: &'a Spec,
    /// Who is who.
    pub cast: Cast,
    /// What is tested, for the reports.
    pub subject: String,
    /// The time of day, UTC, `YYYY-MM-DDThh:mm:ss`, for the reports.
    pub began: String,
    /// Where what failed scenarios leave is kept.
    pub output: PathBuf,
    /// Where lines of the timeline go as they come.
    pub live: Live,
}

impl std::fmt::Debug for Orders<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Orders").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// The scenarios of these names, in the order of the list; none named: all.
///
/// # Errors
/// When there is none of a name.
pub fn select(names: &[String]) -> Result<Vec<&'static Scenario>, Diagnostic> {
    let known = |name: &String| ALL.iter().any(|one| one.name == *name || one.number.to_string() == *name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        return Err(Diagnostic::error(Kind::Usage, format!("there is no scenario `{unknown}`"))
            .hint(format!("the scenarios: {}", all.join(", ")))
            .hint("a number stands for all scenarios of that number"));
    }
    let wanted = |one: &&Scenario| {
        names.is_empty() || names.iter().any(|name| one.name == *name || one.number.to_string() == *name)
    };
    Ok(ALL.iter().filter(wanted).collect())
}

/// Plays. The lab is left as the last scenario left it.
///
/// # Errors
/// When the clients or the recording cannot be made; a failed scenario is part of the recording.
pub fn play(orders: Orders<'_>) -> Result<Recording, Diagnostic> {
    let nodes = orders.lab.machines().map(|machine| machine.identity().name.clone()).collect();
    let recording =
        Recording { subject: orders.subject.clone(), began: orders.began.clone(), nodes, ..Recording::default() };
    let Orders { scenarios, lab, spec, cast, output, live, .. } = orders;
    let recorder = Recorder::start(recording, live);
    for (station, address) in [STATION, OTHER_STATION].iter().zip(&cast.free) {
        lab.network().add_station(station, *address)?;
    }
    let observer = Observer::start(&lab, &cast.regions, cast.virtual_address, &recorder);
    let mut company =
        Company { spec, lab: &lab, cast: &cast, recorder: &recorder, output: &output, cluster: Cluster::Unmade };
    for scenario in scenarios {
        company.play(scenario);
    }
    drop(observer);
    let recording = recorder.read().clone();
    Ok(recording)
}

/// What became of the cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cluster {
    /// There is none yet.
    Unmade,
    /// The last scenario left it whole, or failed to.
    Made {
        /// Whether that scenario passed.
        passed: bool,
    },
}

/// Everyone who plays.
struct Company<'a> {
    spec: &'a Spec,
    lab: &'a Arc<Lab>,
    cast: &'a Cast,
    recorder: &'a Recorder,
    output: &'a Path,
    /// What became of the cluster.
    cluster: Cluster,
}

impl Company<'_> {
    fn play(&mut self, scenario: &Scenario) {
        let skipped = if scenario.on.contains(&self.lab.back_end()) {
            None
        } else {
            Some(format!("not on the back end {}", self.lab.back_end()))
        };
        if skipped.is_none()
            && let Err(failure) = self.prepare(scenario)
        {
            let now = self.recorder.now();
            self.end(scenario, now, Err(failure), Vec::new());
            return;
        }
        let began = self.recorder.now();
        if let Some(why) = skipped {
            self.recorder.read().scenarios.push(played(
                scenario,
                began,
                began,
                Verdict::Skipped(why),
                Vec::new(),
                None,
            ));
            return;
        }
        self.recorder.note(EntryKind::Scenario, format!("{}: {}", scenario.name, scenario.proves));
        let mut stage = self.stage(scenario.name, began);
        let outcome = stage.add_client(STATION).and_then(|()| act(scenario, &mut stage));
        // Both are wanted, whatever the play says.
        let counted = if outcome.is_ok() { stage.count_rows() } else { Ok(()) };
        let single = stage.check_writers();
        let figures = std::mem::take(&mut stage.figures);
        drop(stage);
        let outcome = outcome.and(counted).and(single);
        self.cluster = Cluster::Made { passed: outcome.is_ok() };
        self.end(scenario, began, outcome, figures);
    }

    fn stage<'s>(&'s self, name: &'s str, began: Duration) -> Stage<'s> {
        Stage {
            name,
            cast: self.cast,
            spec: self.spec,
            lab: self.lab,
            recorder: self.recorder,
            began,
            figures: Vec::new(),
            clients: Vec::new(),
            in_effect: std::cell::Cell::new(Duration::ZERO),
        }
    }

    /// Brings the lab to where the scenario begins.
    fn prepare(&mut self, scenario: &Scenario) -> Outcome {
        match scenario.begins {
            Begins::Empty => self.wipe(),
            Begins::Formed => match self.cluster {
                Cluster::Unmade => self.form(),
                Cluster::Made { passed } => self.repair(passed).or_else(|failure| {
                    self.recorder.note(EntryKind::Seen, format!("not whole again: {failure}"));
                    self.form()
                }),
            },
        }
    }

    fn wipe(&self) -> Outcome {
        self.recorder.note(EntryKind::Mend, "all machines off and empty");
        self.lab.network().heal_all()?;
        for machine in self.lab.machines() {
            machine.kill()?;
            machine.wipe_state()?;
        }
        self.sow()
    }

    fn form(&mut self) -> Outcome {
        self.wipe()?;
        self.recorder.note(EntryKind::Mend, "all machines on");
        self.lab.start_all()?;
        self.between()?.wait_whole().map(drop)
    }

    /// Every machine's own seed, whatever a scenario put in its place.
    fn sow(&self) -> Outcome {
        for machine in self.lab.machines() {
            let seed = self.lab.plant(self.spec, &machine.identity().name, Terms::default())?.nocloud();
            machine.set_seed(Some(&seed))?;
        }
        Ok(())
    }

    fn repair(&self, passed: bool) -> Outcome {
        self.lab.network().heal_all()?;
        self.sow()?;
        self.lab.start_all()?;
        let stage = self.between()?;
        match passed {
            true => stage.wait_whole(),
            false => stage.wait_whole_within(stage.patience(REPAIRED_WITHIN)),
        }
        .map(drop)
    }

    /// A stage between two scenarios.
    fn between(&self) -> Result<Stage<'_>, Failure> {
        let mut stage = self.stage("between", self.recorder.now());
        stage.add_client(STATION)?;
        Ok(stage)
    }

    fn end(&self, scenario: &Scenario, began: Duration, outcome: Outcome, figures: Vec<Figure>) {
        let to = self.recorder.now();
        let (verdict, kept) = match outcome {
            Ok(()) => (Verdict::Passed, None),
            Err(Failure(why)) => (Verdict::Failed(why), Some(self.keep(scenario))),
        };
        let word = verdict.word();
        let mut text = format!("{} {word} after {:.1} s", scenario.name, (to - began).as_secs_f64());
        if let Verdict::Failed(why) = &verdict {
            text.push_str(": ");
            text.push_str(why);
        }
        if let Some(kept) = &kept {
            text.push_str("\njournals and status of all nodes: ");
            text.push_str(kept);
        }
        self.recorder.note(EntryKind::Verdict, text);
        self.recorder.read().scenarios.push(played(scenario, began, to, verdict, figures, kept));
    }

    /// Writes down what the machines say of themselves now; says where.
    fn keep(&self, scenario: &Scenario) -> String {
        let place = self.output.join(scenario.name);
        for machine in self.lab.machines() {
            let name = &machine.identity().name;
            let mut pieces: Vec<(String, Vec<u8>)> = Vec::new();
            if machine.is_running() {
                pieces.push((format!("{name}.journal"), machine.journal().map(String::into_bytes).unwrap_or_default()));
                pieces.push((
                    format!("{name}.status.json"),
                    machine.read(crate::lab::machine::STATUS).ok().flatten().unwrap_or_default(),
                ));
                let said = machine.exec(&Exec::shell(SITUATION).within(Duration::from_secs(20)));
                pieces.push((
                    format!("{name}.situation"),
                    said.map(|said| said.output + &said.errors).unwrap_or_default().into_bytes(),
                ));
            }
            pieces.push((format!("{name}.console"), files::read(&machine.console()).unwrap_or_default()));
            for (file, bytes) in pieces {
                let written =
                    files::make_directory(&place).and_then(|()| files::write_atomically(&place.join(&file), &bytes));
                if let Err(error) = written {
                    return error.to_string();
                }
            }
        }
        place.display().to_string()
    }
}

/// What a machine is asked after a failure.
const SITUATION: &str = "ip -4 -o addr; systemctl --no-pager --failed; \
    test -x /usr/bin/patronictl && timeout 10 patronictl -c /etc/patroni/rolecast list; \
    rolecast-join status; true";

/// Plays, and takes a panic for a failure: the other scenarios are still to be played.
fn act(scenario: &Scenario, stage: &mut Stage<'_>) -> Outcome {
    let acted = std::panic::catch_unwind(AssertUnwindSafe(|| (scenario.run)(stage)));
    acted.unwrap_or_else(|_| Err(Failure("a bug of rolecast ended it: see the message of the panic above".to_owned())))
}

fn played(
    scenario: &Scenario,
    from: Duration,
    to: Duration,
    verdict: Verdict,
    figures: Vec<Figure>,
    kept: Option<String>,
) -> Played {
    let (name, proves) = (scenario.name.to_owned(), scenario.proves.to_owned());
    Played { name, number: scenario.number, proves, from, to, verdict, figures, kept }
}
