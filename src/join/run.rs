//! The join as a service: rounds of the state machine, for as long as the machine runs.
//!
//! Owns the loop around [`Round`]: it takes in tickets that arrive, says at every change where it stands (status file,
//! journal, console), waits longer the longer nothing changes, and does nothing more where a person must decide, but still
//! answers its peers. What this machine and its peers are is behind [`World`]; what is to be done is the machine's.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::accept::{self, Verdict};
use super::board::Board;
use super::doorstep::{self, Doorstep, GLANCE, UPGRADE};
use super::drive::{End, Round, Seat, describe};
use super::kill::{Hook, Side};
use super::machine::{Decision, JOINED, Next};
use super::pace::{Pace, jitter};
use super::record;
use super::status::{State, Status};
use super::tables::{Tables, patience};
use super::world::World;
use crate::report::{Diagnostic, Kind};
use crate::sys::Program;
use crate::ticket::{self, Ticket};

/// Makes the world of a ticket: `root` is `/`.
pub type Open<'a> = dyn FnMut(&Ticket, &Tables) -> Result<Box<dyn World>, Diagnostic> + 'a;

/// The running join.
pub struct Join<'a> {
    root: PathBuf,
    tables: Tables,
    open: &'a mut Open<'a>,
    hook: Hook,
    board: Board<'a>,
    arrived: Option<Vec<u8>>,
    seat: Option<(Ticket, Box<dyn World>)>,
    pace: Pace,
    /// The doorstep as it was when tickets and wishes were last taken in.
    seen: Doorstep,
}

impl<'a> Join<'a> {
    /// A join on `root`; `say` gets a line at every change.
    ///
    /// # Errors
    /// When the machine does not run an image of rolecast, or its status cannot be written.
    pub fn new(root: &Path, open: &'a mut Open<'a>, say: &'a mut dyn FnMut(&str)) -> Result<Self, Diagnostic> {
        let tables = Tables::read(root)?;
        let command_line = std::fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
        let mut board = Board::new(Status::seedless(&tables.image, &command_line), root, say);
        board.open()?;
        let root = root.to_owned();
        Ok(Self {
            root,
            tables,
            open,
            hook: Hook::new(),
            board,
            arrived: None,
            seat: None,
            pace: Pace::default(),
            seen: Doorstep::default(),
        })
    }

    /// Joins and stays joined. Where a person must decide, status says why and what they can do, and nothing is done until
    /// a ticket or a wish arrives.
    ///
    /// # Errors
    /// When the machine cannot even say where it stands.
    pub fn run(&mut self) -> Result<Infallible, Diagnostic> {
        loop {
            match self.round()? {
                Some(pause) => self.seen.wait(&self.root, Some(pause)),
                None => self.hold(),
            }
        }
    }

    /// Waits for a ticket or a wish. This machine's peers still get their answers, which some of them wait for: that it
    /// never was a member, that it holds a database, which image it runs.
    fn hold(&self) {
        self.seen.wait(&self.root, None);
    }

    /// One round; says how long to wait before the next, or nothing when a person must decide.
    fn round(&mut self) -> Result<Option<Duration>, Diagnostic> {
        match self.take_in() {
            Ok(true) => {}
            Ok(false) => {
                self.board.show(State::Waiting, None, "a seed: nothing has told this machine who it is")?;
                return Ok(Some(self.pause("seed", false)));
            }
            Err(diagnostic) => return self.troubled(&diagnostic),
        }
        let mut record = match record::read(&self.root) {
            Ok(record) => record,
            Err(diagnostic) => {
                self.board.status.remedy = diagnostic.hints.first().cloned();
                self.board.show(State::Stopped, Some("record"), &diagnostic.message)?;
                return Ok(None);
            }
        };
        let mut round = Round::default();
        let mut acted = false;
        loop {
            // A round's questions may take seconds each; whoever brings a ticket meanwhile does not wait for all of them.
            if self.seen.changed(&self.root) {
                return Ok(Some(Duration::ZERO));
            }
            let Some((ticket, world)) = &mut self.seat else { return Ok(Some(GLANCE)) };
            // `Ticket::read` saw to it that the machine is among the nodes.
            let Some(own) = ticket.own() else { return Ok(Some(GLANCE)) };
            let upgrade = doorstep::wished(&self.root).is_some_and(|version| version == self.tables.image.version);
            let seat = Seat { ticket, own, tables: &self.tables, upgrade };
            let next = round.next(&seat, &record);
            if let Some(days) = round.facts().local.as_ref().and_then(|local| local.certificate_days) {
                self.board.status.certificate_days = Some(days);
            }
            let acts = matches!(next.decision, Decision::Do(_) | Decision::Keep(_));
            if let Decision::Do(action) = &next.decision {
                self.board.show(State::Working, Some(next.step), &describe(action))?;
            }
            if acts {
                self.hook.pass(next.step, Side::Before);
            }
            let end = round.advance(&next, &mut record, world.as_mut());
            if acts {
                self.hook.pass(next.step, Side::After);
                acted = true;
            }
            if let Some(end) = end {
                self.board.status.warnings = round.warnings(&seat, &record);
                return self.ended(&next, end, acted);
            }
        }
    }

    /// Shows how a round ended, in which something was done if it `acted`.
    fn ended(&mut self, next: &Next, end: End, acted: bool) -> Result<Option<Duration>, Diagnostic> {
        self.board.status.remedy = None;
        match end {
            End::Joined => {
                let _ = std::fs::remove_file(self.root.join(UPGRADE.trim_start_matches('/')));
                self.board.show(State::Joined, Some(JOINED), "")?;
                let pause = self.pace.joined(acted);
                Ok(Some(self.spread(pause)))
            }
            End::Waiting(wait) => {
                self.board.show(State::Waiting, Some(next.step), &wait.what)?;
                Ok(Some(self.pause(next.step, wait.soon)))
            }
            End::Stopped { why, remedy } => {
                self.board.status.remedy = Some(remedy);
                self.board.show(State::Stopped, Some(next.step), &why)?;
                Ok(None)
            }
        }
    }

    /// Takes in a ticket that has arrived, and opens the accepted one's world. Says whether there is one.
    fn take_in(&mut self) -> Result<bool, Diagnostic> {
        // What comes while this is done is seen as a change later.
        loop {
            self.seen = Doorstep::look(&self.root);
            if !self.judge_arrived()? {
                break;
            }
        }
        let accepted = accept::accepted(&self.root)?;
        let Some(accepted) = accepted else { return Ok(false) };
        if self.seat.as_ref().is_none_or(|(ticket, _)| ticket != &accepted) {
            // The old world's listener makes room for the new one's.
            self.seat = None;
            let world = (self.open)(&accepted, &self.tables)?;
            self.board.status.node = Some(accepted.node.clone());
            self.board.status.cluster = Some(accepted.cluster.name.clone());
            self.board.status.generation = Some(accepted.generation);
            self.board.status.missing.clone_from(&accepted.withheld);
            self.pace.begin();
            self.seat = Some((accepted, world));
        }
        Ok(true)
    }

    /// Judges what a seed brought, once. Says whether it was taken away.
    fn judge_arrived(&mut self) -> Result<bool, Diagnostic> {
        let path = self.root.join(ticket::ARRIVED.trim_start_matches('/'));
        let Ok(bytes) = doorstep::read_bounded(&path) else { return Ok(false) };
        if self.arrived.as_ref() == Some(&bytes) {
            return Ok(false);
        }
        let accepted = accept::accepted(&self.root).unwrap_or(None);
        let record = record::read(&self.root).unwrap_or_default();
        match accept::judge(&bytes, &self.tables.image, accepted.as_ref(), &record) {
            Ok(verdict) => {
                if let Verdict::Take(ticket) = verdict {
                    accept::keep(&self.root, &ticket)?;
                }
                self.board.status.refused = None;
                self.arrived = None;
                Ok(std::fs::remove_file(&path).is_ok())
            }
            Err(refusal) => {
                self.board.status.refused =
                    Some(format!("the ticket of its seed is refused: {refusal}; {}", refusal.remedy()));
                self.arrived = Some(bytes);
                Ok(false)
            }
        }
    }

    /// What keeps the join from starting a round is waited for: a full state partition, a port that is taken.
    fn troubled(&mut self, diagnostic: &Diagnostic) -> Result<Option<Duration>, Diagnostic> {
        self.board.status.remedy = diagnostic.hints.first().cloned();
        self.board.show(State::Waiting, Some("ticket"), &format!("what it needs to start: {}", diagnostic.message))?;
        Ok(Some(self.pause("ticket", false)))
    }

    fn pause(&mut self, step: &str, soon: bool) -> Duration {
        let pause = self.pace.waiting(step, soon, patience());
        self.spread(pause)
    }

    fn spread(&self, pause: Duration) -> Duration {
        jitter(pause, self.board.status.node.as_deref().unwrap_or_default())
    }
}

/// Asks the running join to migrate MAAS's schema to this image's version.
///
/// # Errors
/// When the machine is no region, or state cannot be written.
pub fn upgrade(root: &Path) -> Result<String, Diagnostic> {
    let tables = Tables::read(root)?;
    if tables.database.is_none() {
        return Err(Diagnostic::error(Kind::Usage, "only a region migrates MAAS's schema")
            .hint("run `rolecast-join upgrade` on the region that leads the database"));
    }
    let version = &tables.image.version;
    super::durable::write(root, Path::new(UPGRADE), version.as_bytes(), super::durable::Belongs::mine())?;
    Ok(format!(
        "asked for: MAAS's schema is migrated to what image {version} brings, if this machine leads the database and no \
         region serves other code; see `rolecast-join status`\n"
    ))
}

/// Has the service look at a ticket that was just accepted, also where it had stopped for a person to decide.
pub fn wake() {
    let start = ["--no-block", "start", "rolecast-join.service"];
    // Where the service does not exist or systemd does not run, whoever runs the join sees the ticket by itself.
    let _ = Program::new("systemctl", start).limit(Duration::from_secs(10)).run();
}

#[cfg(test)]
mod tests;
