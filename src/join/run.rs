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
mod tests {
    use super::super::testing::{self, Bench};
    use super::super::world::{Action, Facts, Question, Record, Trouble};
    use super::*;

    /// A healthy machine, in which laying files shows.
    struct Healthy {
        bench: Bench,
        root: PathBuf,
        trouble: Option<String>,
        /// A ticket that is accepted while the machine looks.
        brought: Option<Ticket>,
    }

    impl World for Healthy {
        fn look(&mut self, _: Question, facts: &mut Facts) -> Result<(), Trouble> {
            if let Some(ticket) = self.brought.take() {
                accept::keep(&self.root, &ticket).unwrap();
            }
            match self.trouble.take() {
                Some(trouble) => Err(Trouble(trouble)),
                None => {
                    facts.clone_from(&self.bench.facts);
                    Ok(())
                }
            }
        }

        fn act(&mut self, _: &Action) -> Result<(), Trouble> {
            self.bench = Bench::joined(&self.bench.ticket.node);
            Ok(())
        }

        fn keep(&mut self, record: &Record) -> Result<(), Trouble> {
            record::keep(&self.root, record).map_err(|error| Trouble(error.to_string()))
        }
    }

    /// A root with the image's table and a ticket that has arrived.
    fn root(ticket: &Ticket) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in ["usr/lib/rolecast", "run/rolecast", "var/lib/rolecast"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let table = r#"{"format":1,"image":"lab","version":"2026.11.1","role":"rack","late":[],"state":[]}"#;
        std::fs::write(root.path().join("usr/lib/rolecast/image.json"), table).unwrap();
        std::fs::write(root.path().join("usr/lib/rolecast/maas.toml"), MAAS).unwrap();
        std::fs::write(root.path().join("run/rolecast/ticket.json"), ticket.write()).unwrap();
        root
    }

    const MAAS: &str = r#"
        packaging = "deb"
        version = "3.7"
        [paths]
        regiond = "/etc/maas/regiond.conf"
        rackd = "/etc/maas/rackd.conf"
        secret = "/var/lib/maas/secret"
        identity = "/var/lib/maas/maas_id"
        [units]
        rack = ["maas-rackd.service"]
    "#;

    /// Goes `rounds` rounds on a healthy machine that has not laid its files; returns the lines and the last pause.
    fn go(root: &Path, rounds: usize, trouble: Option<&str>) -> (Vec<String>, Option<Duration>) {
        let mut lines = vec![];
        let mut say = |line: &str| lines.push(line.to_owned());
        let mut trouble = trouble.map(str::to_owned);
        let mut open = |ticket: &Ticket, _: &Tables| -> Result<Box<dyn World>, Diagnostic> {
            let mut bench = Bench::joined(&ticket.node);
            bench.facts.local.as_mut().unwrap().files_laid = false;
            Ok(Box::new(Healthy { bench, root: root.to_owned(), trouble: trouble.take(), brought: None }))
        };
        let mut join = Join::new(root, &mut open, &mut say).unwrap();
        let mut pause = None;
        for _ in 0..rounds {
            pause = join.round().unwrap();
        }
        (lines, pause)
    }

    #[test]
    fn a_ticket_that_arrives_is_taken_in_and_the_machine_joins() {
        let root = root(&testing::ticket("rack-2"));
        let (lines, pause) = go(root.path(), 3, Some("no route"));
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(lines[0].contains("waiting for no route"), "{lines:#?}");
        assert!(lines[1].contains("[files] lay the ticket's files") && lines[2].contains("joined"), "{lines:#?}");
        assert!(pause.unwrap() >= Duration::from_secs(4));
        let status = Status::read(root.path()).unwrap().unwrap();
        assert_eq!((status.state, status.node.as_deref(), status.generation), (State::Joined, Some("rack-2"), Some(1)));
        assert!(record::read(root.path()).unwrap().joined);
        assert!(!root.path().join("run/rolecast/ticket.json").exists(), "kept on state only");
    }

    #[test]
    fn a_ticket_that_is_accepted_during_a_round_does_not_wait_for_its_end() {
        let root = root(&testing::ticket("rack-2"));
        let newer = |generation| Ticket { generation, ..testing::ticket("rack-2") };
        let mut say = |_: &str| {};
        let mut open = |ticket: &Ticket, _: &Tables| -> Result<Box<dyn World>, Diagnostic> {
            let brought = (ticket.generation < 3).then(|| newer(ticket.generation + 1));
            let bench = Bench::joined(&ticket.node);
            Ok(Box::new(Healthy { bench, root: root.path().to_owned(), trouble: None, brought }))
        };
        let mut join = Join::new(root.path(), &mut open, &mut say).unwrap();
        for generation in 1..3 {
            assert_eq!(join.round().unwrap(), Some(Duration::ZERO), "generation {generation}");
            assert_eq!(join.board.status.generation, Some(generation));
        }
        assert!(join.round().unwrap().unwrap() > Duration::ZERO, "nothing new lies there");
        assert_eq!(join.board.status.generation, Some(3));
        // And while it sleeps.
        accept::keep(root.path(), &newer(4)).unwrap();
        let began = std::time::Instant::now();
        join.seen.wait(root.path(), Some(Duration::from_secs(60)));
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_join_that_begins_again_does_not_say_what_the_one_before_it_said() {
        let root = root(&testing::ticket("rack-2"));
        go(root.path(), 3, None);
        let state = || Status::read(root.path()).unwrap().unwrap().state;
        assert_eq!(state(), State::Joined);
        let mut say = |_: &str| {};
        let mut open = |_: &Ticket, _: &Tables| -> Result<Box<dyn World>, Diagnostic> {
            Err(Diagnostic::error(Kind::World, "not yet"))
        };
        let _join = Join::new(root.path(), &mut open, &mut say).unwrap();
        assert_eq!(state(), State::Working);
    }

    #[test]
    fn a_refused_ticket_leaves_the_accepted_one_in_force_and_is_told_once() {
        let root = root(&testing::ticket("rack-2"));
        go(root.path(), 2, None);
        let strange = Ticket { role: "region-primary".into(), ..testing::ticket("rack-2") };
        std::fs::write(root.path().join("run/rolecast/ticket.json"), strange.write()).unwrap();
        let (lines, _) = go(root.path(), 3, None);
        let status = Status::read(root.path()).unwrap().unwrap();
        assert_eq!(status.state, State::Joined);
        assert!(status.refused.unwrap().contains("it is for a machine of role `region-primary`"));
        assert_eq!(lines.iter().filter(|line| line.contains("joined")).count(), 1, "{lines:#?}");
    }

    #[test]
    fn a_machine_without_a_ticket_waits_for_a_seed_and_one_with_a_damaged_record_stops() {
        let root = root(&testing::ticket("rack-2"));
        std::fs::remove_file(root.path().join("run/rolecast/ticket.json")).unwrap();
        let (lines, pause) = go(root.path(), 2, None);
        assert!(lines[0].contains("waiting for a seed") && pause.is_some() && lines.len() == 1, "{lines:#?}");
        accept::keep(root.path(), &testing::ticket("rack-2")).unwrap();
        std::fs::write(root.path().join("var/lib/rolecast/join.json"), "{").unwrap();
        let (lines, pause) = go(root.path(), 1, None);
        assert!(lines[0].contains("stopped") && lines[0].contains("is damaged") && pause.is_none(), "{lines:#?}");
    }

    #[test]
    fn a_stopped_machine_still_has_its_voice_and_goes_on_with_a_new_ticket() {
        let root = root(&testing::ticket("region-1"));
        let table = root.path().join("usr/lib/rolecast/image.json");
        std::fs::write(&table, std::fs::read_to_string(&table).unwrap().replace("\"rack\"", "\"region-primary\""))
            .unwrap();
        let mut say = |_: &str| {};
        let mut open = |ticket: &Ticket, _: &Tables| -> Result<Box<dyn World>, Diagnostic> {
            let mut bench = Bench::joined(&ticket.node);
            bench.facts.local.as_mut().unwrap().state_in_memory = true;
            Ok(Box::new(Healthy { bench, root: root.path().to_owned(), trouble: None, brought: None }))
        };
        let mut join = Join::new(root.path(), &mut open, &mut say).unwrap();
        assert_eq!(join.round().unwrap(), None);
        assert_eq!(join.board.status.state, State::Stopped);
        assert!(join.seat.is_some(), "the world, which answers peers, is still there");
        accept::keep(root.path(), &Ticket { memory_state: true, ..testing::ticket("region-1") }).unwrap();
        join.hold();
        join.round().unwrap();
        assert!(join.seat.as_ref().unwrap().0.memory_state);
    }

    #[test]
    fn what_is_secret_is_in_no_line_and_no_file_that_others_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = root(&testing::ticket("rack-2"));
        let (mut lines, _) = go(root.path(), 2, None);
        // The secret stands where a number belongs, and the parser would quote it.
        let broken = testing::ticket("rack-2").write().replace("\"generation\": 1", "\"generation\": \"hunter2\"");
        std::fs::write(root.path().join("run/rolecast/ticket.json"), broken).unwrap();
        lines.extend(go(root.path(), 2, None).0);
        assert!(lines.iter().any(|line| line.contains("refused")), "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains("hunter2")), "{lines:#?}");
        for entry in walkdir::WalkDir::new(root.path()).into_iter().map(Result::unwrap) {
            let mode = entry.metadata().unwrap().permissions().mode();
            let others_read = entry.file_type().is_file() && mode & 0o044 != 0;
            if others_read && !entry.path().ends_with("run/rolecast/ticket.json") {
                assert!(
                    !std::fs::read_to_string(entry.path()).unwrap().contains("hunter2"),
                    "{}",
                    entry.path().display()
                );
            }
        }
    }
}
