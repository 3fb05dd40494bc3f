//! What happened in the lab and when: the data that every report is made of.
//!
//! Owns the recording: events, what was seen of the nodes, the clients' requests, the scenarios' verdicts and figures.
//! `recorder` is how many threads write it, `text` its rendering for a terminal, `measure` what is counted in it. Never
//! looks at a machine: the observer and the clients do.

pub mod measure;
mod recorder;
mod text;

use std::time::Duration;

pub use recorder::{Live, Recorder};

/// Everything that was recorded, by one clock that starts with the recording.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// What was tested: image file, version, back end.
    pub subject: String,
    /// When it began, UTC, `YYYY-MM-DDThh:mm:ss`; shown, never calculated with.
    pub began: String,
    /// The nodes, in the order of the image file. Others refer to them by index.
    pub nodes: Vec<String>,
    /// The clients. Others refer to them by index.
    pub clients: Vec<String>,
    /// Events, as they came.
    pub entries: Vec<Entry>,
    /// Changes of what was seen of the nodes, as they came.
    pub changes: Vec<Change>,
    /// The clients' requests, in the order in which they ended.
    pub requests: Vec<Request>,
    /// The scenarios, as they were played.
    pub scenarios: Vec<Played>,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Duration,
    /// What kind of thing.
    pub kind: EntryKind,
    /// What, as a sentence's remainder: `region-1 leads`.
    pub text: String,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A scenario begins.
    Scenario,
    /// Something was broken on purpose.
    Fault,
    /// Something was put right.
    Mend,
    /// Something was seen: who leads, a step of a join.
    Seen,
    /// A figure was taken.
    Figure,
    /// A scenario's verdict.
    Verdict,
}

impl EntryKind {
    /// The word in the timeline's second column.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Scenario => "scenario",
            Self::Fault => "fault",
            Self::Mend => "mend",
            Self::Seen => "seen",
            Self::Figure => "figure",
            Self::Verdict => "verdict",
        }
    }
}

/// What was seen of a node from a moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Since when.
    pub at: Duration,
    /// Index of the node.
    pub node: usize,
    /// What.
    pub seen: Seen,
}

/// What can be seen of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Whether Patroni on it says that it leads.
    Leads(bool),
    /// Whether it carries the virtual address.
    Address(bool),
    /// Whether its database takes writes.
    Writable(bool),
    /// How it is.
    Machine(Machine),
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Off.
    Off,
    /// On, and its join has said nothing yet.
    Booting,
    /// On its way: the step or what it waits for, in the join's words.
    Joining(String),
    /// The join has stopped and a person must decide: its reason.
    Stopped(String),
    /// A member.
    Joined,
}

impl Machine {
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::Off => "off".into(),
            Self::Booting => "booting".into(),
            Self::Joining(step) => format!("joining: {step}"),
            Self::Stopped(reason) => format!("stopped: {reason}"),
            Self::Joined => "joined".into(),
        }
    }
}

/// Which of a client's two kinds of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Asks for MAAS's version.
    Read,
    /// Commits a row with this number.
    Write(u64),
}

impl RequestKind {
    /// Whether it commits.
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Write(_))
    }
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Index of the client.
    pub client: usize,
    /// Read or write.
    pub kind: RequestKind,
    /// When it was sent.
    pub sent: Duration,
    /// When the answer was there, or the client gave up.
    pub ended: Duration,
    /// None: the right answer came whole. Else why not.
    pub failure: Option<String>,
}

/// A scenario that was played.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// Its name on the command line.
    pub name: String,
    /// Its number in the list of the project's proof.
    pub number: u8,
    /// What it proves, one sentence.
    pub proves: String,
    /// When it began.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
    /// How it ended.
    pub verdict: Verdict,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Where journals and status of all nodes were kept, when it failed.
    pub kept: Option<String>,
}

/// How a scenario ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that it expects held.
    Passed,
    /// Something did not: what.
    Failed(String),
    /// It was not played: why.
    Skipped(String),
}

impl Verdict {
    /// One word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }
}

/// A number that a scenario measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Of what.
    pub name: String,
    /// How much.
    pub value: f64,
    /// In what: `s`, `rows`, `boots`.
    pub unit: String,
    /// What it should not exceed. Missing an aim is shown and fails nothing; what must hold is a scenario's to check.
    pub aim: Option<f64>,
}

impl Figure {
    /// `1.3 s (aim: at most 2.0 s, met)`.
    pub fn text(&self) -> String {
        let shown = |value: f64| match self.unit.as_str() {
            "s" => format!("{value:.1} s"),
            unit if value.fract() == 0.0 => format!("{value:.0} {unit}"),
            unit => format!("{value:.2} {unit}"),
        };
        match (self.aim, self.met()) {
            (Some(aim), Some(met)) => {
                let verdict = if met { "met" } else { "missed" };
                format!("{} (aim: at most {}, {verdict})", shown(self.value), shown(aim))
            }
            _ => shown(self.value),
        }
    }

    /// Whether the aim was met, where there is one.
    pub fn met(&self) -> Option<bool> {
        self.aim.map(|aim| self.value <= aim)
    }
}

impl Recording {
    /// What was seen last of a node, of the same kind as `like`.
    pub fn last(&self, node: usize, like: &Seen) -> Option<&Seen> {
        let same = |seen: &Seen| std::mem::discriminant(seen) == std::mem::discriminant(like);
        self.changes.iter().rev().find(|change| change.node == node && same(&change.seen)).map(|change| &change.seen)
    }

    /// The spans within `from..to` in which `holds` was true of what was seen of a node, of the kind of `like`.
    pub fn spans(
        &self,
        node: usize,
        like: &Seen,
        holds: impl Fn(&Seen) -> bool,
        (from, to): (Duration, Duration),
    ) -> Vec<(Duration, Duration)> {
        let same = |seen: &Seen| std::mem::discriminant(seen) == std::mem::discriminant(like);
        let mut spans = Vec::new();
        let mut since = None;
        for change in self.changes.iter().filter(|change| change.node == node && same(&change.seen)) {
            match (since, holds(&change.seen)) {
                (None, true) => since = Some(change.at),
                (Some(start), false) => {
                    spans.push((start, change.at));
                    since = None;
                }
                _ => {}
            }
        }
        spans.extend(since.map(|start| (start, to)));
        spans.retain(|(start, end)| *end > from && *start < to);
        spans.iter().map(|(start, end)| ((*start).max(from), (*end).min(to))).collect()
    }

    /// Moments within `window` at which two databases took writes, with the length of the overlap.
    pub fn two_writers(&self, window: (Duration, Duration)) -> Vec<(Duration, Duration)> {
        let writes = |node| self.spans(node, &Seen::Writable(true), |seen| *seen == Seen::Writable(true), window);
        let all: Vec<Vec<_>> = (0..self.nodes.len()).map(writes).collect();
        let mut found = Vec::new();
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                for (from, to) in one {
                    for (start, end) in other {
                        let (both, apart) = (*from.max(start), *to.min(end));
                        if both < apart {
                            found.push((both, apart - both));
                        }
                    }
                }
            }
        }
        found.sort();
        found
    }

    /// Whether any scenario failed.
    pub fn failed(&self) -> bool {
        self.scenarios.iter().any(|played| matches!(played.verdict, Verdict::Failed(_)))
    }
}

#[cfg(test)]
pub mod sample;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn seconds(value: f64) -> Duration {
        Duration::from_secs_f64(value)
    }

    fn writable(changes: &[(f64, usize, bool)]) -> Recording {
        let change = |(at, node, writes): &(f64, usize, bool)| Change {
            at: seconds(*at),
            node: *node,
            seen: Seen::Writable(*writes),
        };
        Recording {
            nodes: vec!["a".into(), "b".into()],
            changes: changes.iter().map(change).collect(),
            ..Recording::default()
        }
    }

    #[test]
    fn two_writers_are_found_with_the_length_of_the_overlap() {
        let window = (seconds(0.0), seconds(100.0));
        let apart = writable(&[(0.0, 0, true), (10.0, 0, false), (10.0, 1, true)]);
        assert_eq!(apart.two_writers(window), []);
        let both = writable(&[(0.0, 0, true), (8.0, 1, true), (10.0, 0, false)]);
        assert_eq!(both.two_writers(window), [(seconds(8.0), seconds(2.0))]);
        assert_eq!(both.two_writers((seconds(0.0), seconds(5.0))), [], "outside the window");
        let open = writable(&[(0.0, 0, true), (90.0, 1, true)]);
        assert_eq!(open.two_writers(window), [(seconds(90.0), seconds(10.0))], "still going on at the end");
    }

    #[test]
    fn only_changes_are_recorded() {
        let nodes = vec!["a".to_owned()];
        let recorder = Recorder::start(Recording { nodes, ..Recording::default() }, Box::new(|_| {}));
        let told = [true, true, false].map(|leads| recorder.see(0, Seen::Leads(leads)));
        assert_eq!(told, [true, false, true]);
        assert!(recorder.see(0, Seen::Address(false)), "another kind is another history");
        assert_eq!(recorder.read().changes.len(), 3);
    }

    #[test]
    fn lines_are_shown_when_they_come() {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&shown);
        let live = Box::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()));
        let recorder = Recorder::start(Recording::default(), live);
        recorder.note(EntryKind::Fault, "kill region-1");
        assert!(shown.lock().unwrap()[0].ends_with("s  fault     kill region-1"), "{:?}", shown.lock().unwrap());
    }

    #[test]
    fn the_text_names_verdicts_figures_and_where_to_look() {
        let text = sample::recording().text();
        for part in [
            "scenario  leader-dies",
            "fault     kill region-1",
            "passed   4 leader-dies",
            "first write after the leader's death: 18.4 s (aim: at most 20.0 s, met)",
            "failed   6 partitions",
            "two databases took writes",
            "journals and status of all nodes: out/lab/partitions",
            "1 passed, 1 failed, 1 skipped",
        ] {
            assert!(text.contains(part), "`{part}` is not in\n{text}");
        }
    }

    #[test]
    fn figures_say_whether_their_aim_was_met() {
        let figure = |value, unit: &str, aim| Figure { name: "x".into(), value, unit: unit.into(), aim };
        let cases = [
            (figure(1.26, "s", None), "1.3 s"),
            (figure(2.4, "s", Some(2.0)), "2.4 s (aim: at most 2.0 s, missed)"),
            (figure(0.0, "rows", Some(0.0)), "0 rows (aim: at most 0 rows, met)"),
            (figure(4.125, "boots", None), "4.12 boots"),
        ];
        for (figure, text) in cases {
            assert_eq!(figure.text(), text);
        }
    }
}
