//! The on-machine half: makes this machine a member of its cluster, and says where that stands.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use rolecast::archive::{Client, Patience};
use rolecast::join::accept::{self, Verdict};
use rolecast::join::adapters::Machine;
use rolecast::join::run::{self, Join};
use rolecast::join::status::Status;
use rolecast::join::tables::Tables;
use rolecast::join::world::World;
use rolecast::join::{Ticket, health, lay, leave, machine, operate, record};
use rolecast::relay::{self, Relay};
use rolecast::report::{Diagnostic, Kind, Report, Style, render};

const USAGE: &str = "\
usage: rolecast-join COMMAND

  status [--json]   where this machine's join stands: what it waits for, since when
  run               join and stay joined (rolecast-join.service runs this)
  accept            take a ticket from standard input: `rolecast apply NODE` does
  lay               lay the accepted ticket's files (rolecast-seed.service runs this)
  switchover [--to NODE]
                    hand the lead of the database over, in good order
  promote [--to NODE] [--yes]
                    make a region the leader where nobody leads; says what may be lost, and asks
  leave [--force]   take this machine out of etcd, Patroni and MAAS; its database stays
  leave --node NODE take another machine that is gone out of etcd, Patroni and MAAS (on a region)
  upgrade           let MAAS's schema be migrated to what this image brings
  health [--settle]
                    whether this version is healthy on this machine; --settle waits until that is certain
                    (rolecast-health.service runs this on the boots that the boot loader counts)
  relay             answer a request for a file of an update, on standard input and output, with what this machine
                    has already and what the server of updates has beside that (rolecast-updates.socket runs this)
  steps             names of this machine's steps, in order

examples:
  rolecast-join status
  rolecast-join status --json | grep '\"state\"'
  journalctl --unit rolecast-join

exit codes: 0 done, 1 refused input, 2 wrong usage, 3 the machine or its peers
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let root = Path::new("/");
    let done = match words.as_slice() {
        ["status"] => status(root).map(|status| status.to_text()),
        ["status", "--json"] => status(root).map(|status| status.to_json()),
        ["run"] => join(root).map(|never| match never {}),
        ["accept"] => accept(root),
        ["lay"] => lay(root),
        ["switchover"] => accepted(root).and_then(|ticket| operate::switchover(&ticket, None)),
        ["switchover", "--to", to] => accepted(root).and_then(|ticket| operate::switchover(&ticket, Some(to))),
        ["promote", options @ ..] if promotion(options).is_some() => promote(root, options),
        ["leave"] => depart(root, false),
        ["leave", "--force"] => depart(root, true),
        ["leave", "--node", node] => remove(root, node),
        ["health"] => health(root),
        ["health", "--settle"] => settle(root),
        ["upgrade"] => run::upgrade(root),
        ["relay"] => relay(root),
        ["steps"] => steps(root),
        ["--help" | "-h" | "help"] => Ok(USAGE.to_owned()),
        [] => return misused("no command is named"),
        words => return misused(&format!("`{}` is no command of rolecast-join", words.join(" "))),
    };
    match done {
        Ok(text) => say(&text),
        Err(diagnostic) => {
            let report = Report::from(diagnostic);
            let _ = std::io::stderr().write_all(render(&report, Style::Plain).as_bytes());
            ExitCode::from(report.exit_code())
        }
    }
}

/// What the running join wrote last and is still true, or what the image alone says.
fn status(root: &Path) -> Result<Status, Diagnostic> {
    if let Some(status) = Status::read(root)? {
        return Ok(status.now());
    }
    let tables = Tables::read(root)?;
    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    Ok(Status::seedless(&tables.image, &command_line))
}

/// What is wrong with the command line, and what can be typed.
fn misused(why: &str) -> ExitCode {
    let _ = std::io::stderr().write_all(format!("error: {why}\n\n{USAGE}").as_bytes());
    ExitCode::from(Kind::Usage.exit_code())
}

fn join(root: &Path) -> Result<Infallible, Diagnostic> {
    let mut open = |ticket: &Ticket, tables: &Tables| -> Result<Box<dyn World>, Diagnostic> {
        Ok(Box::new(Machine::new(ticket, tables)?))
    };
    let mut line = |text: &str| {
        let _ = say(&format!("{text}\n"));
    };
    Join::new(root, &mut open, &mut line)?.run()
}

fn accept(root: &Path) -> Result<String, Diagnostic> {
    let mut bytes = Vec::new();
    let most = accept::LIMIT as u64 + 1;
    std::io::stdin()
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| Diagnostic::error(Kind::World, format!("cannot read standard input: {error}")))?;
    let tables = Tables::read(root)?;
    let verdict = accept::judge(&bytes, &tables.image, accept::accepted(root)?.as_ref(), &record::read(root)?)?;
    match verdict {
        Verdict::Known => Ok("the accepted ticket says the same\n".to_owned()),
        Verdict::Take(ticket) => {
            accept::keep(root, &ticket)?;
            run::wake();
            Ok(format!("accepted: {}, generation {}\n", ticket.node, ticket.generation))
        }
    }
}

fn lay(root: &Path) -> Result<String, Diagnostic> {
    let Some(ticket) = accept::accepted(root)? else { return Ok("no ticket was accepted yet\n".to_owned()) };
    let changed = lay::files(root, &ticket)?;
    lay::host_name(&ticket)?;
    Ok(format!("{}: {} files laid\n", ticket.node, changed.len()))
}

/// Candidate and whether the operator has agreed beforehand.
fn promotion<'a>(options: &[&'a str]) -> Option<(Option<&'a str>, bool)> {
    match options {
        [] => Some((None, false)),
        ["--yes"] => Some((None, true)),
        ["--to", to] => Some((Some(to), false)),
        ["--to", to, "--yes"] | ["--yes", "--to", to] => Some((Some(to), true)),
        _ => None,
    }
}

fn promote(root: &Path, options: &[&str]) -> Result<String, Diagnostic> {
    let (to, yes) = promotion(options).unwrap_or_default();
    let mut agrees = |loss: &str| {
        let _ = say(&format!("{loss}\n"));
        if yes {
            return true;
        }
        let _ = say("type `promote` to go on: ");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).is_ok() && line.trim() == "promote"
    };
    operate::promote(&accepted(root)?, to, &mut agrees)
}

fn depart(root: &Path, force: bool) -> Result<String, Diagnostic> {
    let mut line = |text: &str| {
        say(&format!("{text}\n"));
    };
    leave::leave(&accepted(root)?, &Tables::read(root)?, force, &mut line)
}

fn remove(root: &Path, node: &str) -> Result<String, Diagnostic> {
    let mut line = |text: &str| {
        say(&format!("{text}\n"));
    };
    leave::remove(&accepted(root)?, &Tables::read(root)?, node, &mut line)
}

/// One look, whatever the machine is about to become.
fn health(root: &Path) -> Result<String, Diagnostic> {
    let image = Tables::read(root)?.image;
    let found = health::troubles(&health::look(root)?, &image);
    match found.is_empty() {
        true => Ok("healthy\n".to_owned()),
        false => Err(health::unhealthy(&found, &image)),
    }
}

fn settle(root: &Path) -> Result<String, Diagnostic> {
    let image = Tables::read(root)?.image;
    let mut line = |text: &str| {
        say(&format!("{text}\n"));
    };
    health::settle(root, &image, &mut line)?;
    Ok(format!("{} {} is healthy on this machine\n", image.role, image.version))
}

/// One request of systemd-sysupdate's. The answer goes to standard output, and what was done to the journal.
fn relay(root: &Path) -> Result<String, Diagnostic> {
    let image = Tables::read(root)?.image;
    let upstream = relay::upstream(root)?;
    let own = |name: &str| relay::own(root, &image.role, &image.version, name);
    let client = Client::trusting(Patience::default(), &root.join(relay::AUTHORITIES));
    let mut say = |text: &str| {
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    Relay { upstream: &upstream, client: &client, own: &own }.answer(&mut input, &mut output, &mut say)?;
    Ok(String::new())
}

fn accepted(root: &Path) -> Result<Ticket, Diagnostic> {
    accept::accepted(root)?
        .ok_or_else(|| Diagnostic::error(Kind::World, "this machine is no member of a cluster: it has no ticket"))
}

fn steps(root: &Path) -> Result<String, Diagnostic> {
    let ticket = accept::accepted(root)?
        .ok_or_else(|| Diagnostic::error(Kind::World, "this machine has no ticket, so no sequence of steps"))?;
    let own = ticket.own().map(|node| (node.kind, node.voter));
    let steps = own.into_iter().flat_map(|(kind, voter)| machine::sequence(kind, voter));
    Ok(steps.map(|step| format!("{}\n", step.name)).collect())
}

fn say(text: &str) -> ExitCode {
    let mut output = std::io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
