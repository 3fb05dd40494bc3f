//! The running join against a machine that is healthy, or nearly so: what it says, keeps and waits for.

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
    std::fs::write(&table, std::fs::read_to_string(&table).unwrap().replace("\"rack\"", "\"region-primary\"")).unwrap();
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
            assert!(!std::fs::read_to_string(entry.path()).unwrap().contains("hunter2"), "{}", entry.path().display());
        }
    }
}
