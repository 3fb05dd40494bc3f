//! What a machine says of itself: to people, to programs, to its console.
//!
//! Owns the form of `/run/rolecast/status.json`, which `rolecast-join run` writes at every change and anyone on the
//! machine may read. Holds no secret. Works nothing out: the state machine says what it waits for.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::durable::{self, Belongs};
use super::prelude::time;
use super::tables::Image;
use crate::report::{Diagnostic, Kind};
use crate::sys::{FileError, process};

/// Where the running join writes it, mode 0644.
pub const PATH: &str = "/run/rolecast/status.json";

/// What a machine is and where its join stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the image file that it was built from.
    pub image: String,
    /// Version of the image.
    pub version: String,
    /// Its role.
    pub role: String,
    /// dm-verity's root hash; none on a machine with a writable root.
    pub root_hash: Option<String>,
    /// Its name in the cluster; none before a ticket was accepted.
    pub node: Option<String>,
    /// The cluster's name; none before a ticket was accepted.
    pub cluster: Option<String>,
    /// Where its join stands.
    pub state: State,
    /// The step that it is at.
    pub step: Option<String>,
    /// What it is doing, or what completes `waiting for …`; none when it has joined.
    pub what: Option<String>,
    /// Since when it is at this step in this state, seconds since the Epoch.
    pub since: u64,
    /// What a person can do about a stop.
    pub remedy: Option<String>,
    /// Since when it is joined, seconds since the Epoch; none while it is not.
    pub joined_since: Option<u64>,
    /// The generation of the accepted ticket.
    pub generation: Option<u64>,
    /// Days until its certificate ends; negative when it has.
    pub certificate_days: Option<i64>,
    /// Fingerprint of its SSH host key, by which `rolecast apply` knows it; none until the key is made.
    pub host_key: Option<String>,
    /// What a person should know although nothing waits for it.
    pub warnings: Vec<String>,
    /// Why the ticket that arrived last is refused; none when it is not.
    pub refused: Option<String>,
    /// Files that a seed has to bring and that are not there.
    pub missing: Vec<String>,
    /// The process that says so; none where none has spoken since boot.
    pub writer: Option<Writer>,
}

/// A process, as nothing else that may later have its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// Its number.
    pub process: u32,
    /// When it started, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub started: u64,
}

impl Writer {
    /// This process.
    pub fn own() -> Option<Self> {
        let process = std::process::id();
        started(process).map(|started| Self { process, started })
    }

    /// Whether it still runs.
    pub fn runs(self) -> bool {
        started(self.process) == Some(self.started)
    }
}

/// When a process started; none where it has ended.
fn started(process: u32) -> Option<u64> {
    process::started(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// Where a machine's join stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does not run.
    Idle,
    /// It is doing something.
    Working,
    /// Something is not there yet.
    Waiting,
    /// A person has to decide.
    Stopped,
    /// The machine is a member.
    Joined,
}

impl Status {
    /// A machine that nothing has told who it is.
    pub fn seedless(image: &Image, command_line: &str) -> Self {
        let root_hash = command_line.split_whitespace().find_map(|word| word.strip_prefix("roothash="));
        Self {
            image: image.image.clone(),
            version: image.version.clone(),
            role: image.role.clone(),
            root_hash: root_hash.map(str::to_owned),
            node: None,
            cluster: None,
            state: State::Idle,
            step: None,
            what: Some("a seed: nothing has told this machine who it is".to_owned()),
            since: 0,
            remedy: None,
            joined_since: None,
            generation: None,
            certificate_days: None,
            host_key: None,
            warnings: vec![],
            refused: None,
            missing: image.late.iter().map(|late| late.path.clone()).collect(),
            writer: None,
        }
    }

    /// What is true now: the join may have ended since it wrote this, and what it waits for is then nobody's wait.
    #[must_use]
    pub fn now(self) -> Self {
        if self.writer.is_none_or(Writer::runs) {
            return self;
        }
        Self {
            what: Some(format!("rolecast-join.service to run again; it said last: {}", self.headline())),
            state: State::Idle,
            step: None,
            joined_since: None,
            remedy: Some("`systemctl start rolecast-join`".to_owned()),
            ..self
        }
    }

    /// Reads what the join wrote last; none when it has not run since boot.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(root: &Path) -> Result<Option<Self>, Diagnostic> {
        let trouble = |why: String| Diagnostic::error(Kind::World, format!("cannot read `{PATH}`: {why}"));
        match std::fs::read(root.join(PATH.trim_start_matches('/'))) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| trouble(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(trouble(error.to_string())),
        }
    }

    /// Writes it for everyone on the machine to read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, root: &Path) -> Result<(), FileError> {
        let belongs = Belongs { mode: 0o644, ..Belongs::mine() };
        durable::write(root, Path::new(PATH), self.to_json().as_bytes(), belongs)
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        // A value of plain fields always serializes.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}: {} {} of {}\n", self.name(), self.role, self.version, self.image);
        // Writing to a string cannot fail.
        let _ = match &self.root_hash {
            Some(hash) => writeln!(text, "root:         sealed, root hash {hash}"),
            None => writeln!(text, "root:         writable, not sealed"),
        };
        let _ = writeln!(text, "join:         {}", self.headline());
        if let Some(remedy) = &self.remedy {
            let _ = writeln!(text, "what to do:   {remedy}");
        }
        if self.since > 0 {
            let _ = writeln!(text, "since:        {}", time(self.since));
        }
        if let Some(since) = self.joined_since.filter(|since| *since != self.since) {
            let _ = writeln!(text, "joined since: {}", time(since));
        }
        if let Some(generation) = self.generation {
            let _ = writeln!(text, "secrets:      generation {generation}");
        }
        if let Some(days) = self.certificate_days {
            let _ = writeln!(text, "certificate:  {days} days left");
        }
        if let Some(key) = &self.host_key {
            let _ = writeln!(text, "host key:     {key}");
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning:      {warning}");
        }
        if let Some(refused) = &self.refused {
            let _ = writeln!(text, "refused:      {refused}");
        }
        text
    }

    /// One line, as the journal and the console get it at every change.
    pub fn to_line(&self) -> String {
        let mut line = format!("{}: {}", self.name(), self.headline());
        if let Some(remedy) = &self.remedy {
            line += &format!("; {remedy}");
        }
        if self.state != State::Working && self.since > 0 {
            line += &format!(" (since {}", time(self.since));
            if let Some(days) = self.certificate_days {
                line += &format!(", certificate {days} days left");
            }
            line += ")";
        }
        if let Some(refused) = &self.refused {
            line += &format!("; {refused}");
        }
        line
    }

    /// What the machine calls itself.
    pub(super) fn name(&self) -> &str {
        self.node.as_deref().unwrap_or(&self.role)
    }

    fn headline(&self) -> String {
        let what = self.what.as_deref().unwrap_or_default();
        let step = self.step.as_ref().map(|step| format!("[{step}] ")).unwrap_or_default();
        match self.state {
            State::Joined => "joined".to_owned(),
            State::Working => format!("{step}{what}"),
            State::Stopped => format!("{step}stopped: {what}"),
            State::Waiting => format!("{step}waiting for {what}"),
            State::Idle => format!("does not run; waiting for {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_machine_says_what_it_is_and_what_it_waits_for() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Status::read(root.path()).unwrap(), None);
        let seedless = Status::seedless(&testing::image("rack"), "roothash=abc console=ttyS0\n");
        assert_eq!(seedless.root_hash.as_deref(), Some("abc"));
        assert!(seedless.to_text().contains("rack 2026.11.1 of lab"), "{}", seedless.to_text());
        let waiting = Status {
            node: Some("rack-1".into()),
            state: State::Waiting,
            step: Some("etcd-member".into()),
            what: Some("a quorum of etcd".into()),
            since: 951_782_400,
            certificate_days: Some(364),
            ..seedless
        };
        waiting.write(root.path()).unwrap();
        assert_eq!(Status::read(root.path()).unwrap().as_ref(), Some(&waiting));
        assert_eq!(
            waiting.to_line(),
            "rack-1: [etcd-member] waiting for a quorum of etcd (since 2000-02-29 00:00:00 UTC, certificate 364 days left)"
        );
        let stopped = Status { state: State::Stopped, remedy: Some("decide".into()), ..waiting };
        assert_eq!(stopped.clone().now(), stopped);
        for part in ["stopped: a quorum", "what to do:   decide", "certificate:  364 days left"] {
            assert!(stopped.to_text().contains(part), "{part} in\n{}", stopped.to_text());
        }
    }

    #[test]
    fn what_a_join_said_that_runs_no_more_is_not_taken_for_the_present() {
        let writer = Writer::own().unwrap();
        let joined = Status {
            state: State::Joined,
            step: Some("joined".into()),
            what: None,
            joined_since: Some(7),
            writer: Some(writer),
            ..Status::seedless(&testing::image("rack"), "")
        };
        assert_eq!(joined.clone().now().state, State::Joined);
        // Another process has its number now, or none has.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let ended = Writer { process: child.id(), ..writer };
        child.wait().unwrap();
        for gone in [Writer { started: writer.started + 1, ..writer }, ended] {
            let status = Status { writer: Some(gone), ..joined.clone() }.now();
            assert_eq!((status.state, status.joined_since), (State::Idle, None));
            assert!(status.to_text().contains("does not run; waiting for rolecast-join.service to run again"));
            assert!(status.to_text().contains("it said last: joined") && status.to_text().contains("systemctl start"));
        }
    }
}
