//! Where the running join shows how far it is.
//!
//! Owns when something is said: the status file is written whenever it changes, and a line is given to the journal and
//! the console when it says something that this step has not said yet, so that a machine that tries again and again does
//! not fill either.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::status::{State, Status, Writer};
use crate::report::Diagnostic;
use crate::sys::HostKey;

/// The status of a running join.
pub(super) struct Board<'a> {
    /// What is shown; [`Board::show`] makes changes of it visible.
    pub(super) status: Status,
    root: PathBuf,
    say: &'a mut dyn FnMut(&str),
    written: String,
    said: BTreeSet<String>,
}

impl<'a> Board<'a> {
    /// A board of a machine on `root`; `say` gets the lines.
    pub(super) fn new(status: Status, root: &Path, say: &'a mut dyn FnMut(&str)) -> Self {
        Self { status, root: root.to_owned(), say, written: String::new(), said: BTreeSet::new() }
    }

    /// Begins to speak for this process: what an earlier one said is not true any more.
    ///
    /// # Errors
    /// When the status file cannot be written.
    pub(super) fn open(&mut self) -> Result<(), Diagnostic> {
        self.status.writer = Writer::own();
        self.status.state = State::Working;
        self.status.what = Some("look where this machine stands".to_owned());
        Ok(self.status.write(&self.root)?)
    }

    /// Shows that the join is at `step` in `state`.
    ///
    /// # Errors
    /// When the status file cannot be written.
    pub(super) fn show(&mut self, state: State, step: Option<&str>, what: &str) -> Result<(), Diagnostic> {
        self.show_host_key();
        let status = &mut self.status;
        let settled = |state: State| matches!(state, State::Joined | State::Stopped);
        // To work and to wait at one step is one stay there.
        if status.step.as_deref() != step || settled(status.state) != settled(state) || status.since == 0 {
            status.since = now();
            self.said.clear();
        }
        if matches!(state, State::Working | State::Joined) {
            status.remedy = None;
        }
        match state {
            State::Joined => status.joined_since = status.joined_since.or(Some(status.since)),
            State::Working => {}
            State::Idle | State::Waiting | State::Stopped => status.joined_since = None,
        }
        status.state = state;
        status.step = step.map(str::to_owned);
        status.what = Some(what.to_owned()).filter(|what| !what.is_empty());
        let text = status.to_json();
        if text != self.written {
            status.write(&self.root)?;
            self.written = text;
        }
        let line = status.to_line();
        if self.said.insert(line.clone()) {
            (self.say)(&line);
        }
        Ok(())
    }
}

impl Board<'_> {
    /// Says once by which key the machine is known, for whoever brings it a ticket and can see its console.
    fn show_host_key(&mut self) {
        if self.status.host_key.is_some() {
            return;
        }
        if let Some(key) = HostKey::own(&self.root) {
            let fingerprint = key.fingerprint();
            (self.say)(&format!("{}: SSH host key {fingerprint}", self.status.name()));
            self.status.host_key = Some(fingerprint);
        }
    }
}

/// Seconds since the Epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_step_says_each_thing_once_and_the_file_has_every_change() {
        let root = tempfile::tempdir().unwrap();
        let mut lines = vec![];
        let mut say = |line: &str| lines.push(line.to_owned());
        let mut board = Board::new(Status::seedless(&testing::image("rack"), ""), root.path(), &mut say);
        for _ in 0..3 {
            board.show(State::Working, Some("etcd-member"), "be added").unwrap();
            board.show(State::Waiting, Some("etcd-member"), "a quorum").unwrap();
        }
        board.show(State::Joined, Some("joined"), "").unwrap();
        board.status.warnings.push("drift".to_owned());
        board.show(State::Joined, Some("joined"), "").unwrap();
        assert_eq!(Status::read(root.path()).unwrap().unwrap().warnings, ["drift"]);
        board.show(State::Waiting, Some("etcd-member"), "a quorum").unwrap();
        assert_eq!(lines.len(), 4, "{lines:#?}");
    }
}
