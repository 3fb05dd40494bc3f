//! `rolecast apply`: brings tickets with secrets to machines, and drives a change of the authority to its end.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::args::ApplyArguments;
use crate::cli::settings::Settings;
use crate::cli::{Done, progress};
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::seed::{Courier, KnownHosts, Shown, Step, Terms, Vault};
use crate::spec::NodeFacts;

use super::cluster::{Named, now};

/// How long to wait before machines are asked again.
const PAUSE: Duration = Duration::from_secs(2);

/// Brings the tickets.
///
/// # Errors
/// When a machine cannot be reached, refuses, or does not follow in time. What was reached has its ticket; the next run
/// goes on from there.
pub fn run(arguments: &ApplyArguments, settings: &Settings) -> Result<Done, Report> {
    if arguments.nodes.is_empty() && !arguments.all {
        return Err(Diagnostic::error(Kind::Usage, "no node is named")
            .hint("name nodes, or bring their tickets to all of them with `--all`")
            .into());
    }
    let named = Named::read(&arguments.cluster)?;
    let nodes = named.nodes(&arguments.nodes)?;
    let (vault, added) = named.vault()?;
    let known = KnownHosts::at(named.file.path.with_extension("known-hosts"));
    let courier = Courier::new(&vault, vec![arguments.ssh.clone()], known)?;
    let progress = progress::for_run(settings.json);
    let accepted = courier.meet(&nodes, &shown(&arguments.host_keys, &nodes)?)?;
    let mut text = added.iter().chain(&accepted).fold(String::new(), |text, line| text + line + "\n");
    let round = Round { named: &named, nodes: &nodes, courier: &courier, arguments, progress: progress.as_ref() };
    round.bring(&vault, &mut text)?;
    let vault = if arguments.all { round.settle(vault, &mut text)? } else { vault };
    if vault.step != Step::Settled {
        text += "the authority is being changed: `rolecast apply --all` goes on\n";
    }
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let json = serde_json::json!({ "generation": vault.generation, "step": vault.step, "nodes": names });
    Ok(Done { text, json, warnings: named.project.warnings })
}

/// The fingerprints that were named, each of a machine of this run.
fn shown(named: &[(String, String)], nodes: &[&NodeFacts]) -> Result<Shown, Diagnostic> {
    match named.iter().find(|(name, _)| !nodes.iter().any(|node| node.name == *name)) {
        None => Ok(named.iter().cloned().collect()),
        Some((name, _)) => {
            Err(Diagnostic::error(Kind::Usage, format!("`--host-key` names `{name}`, and no ticket is brought there"))
                .hint("name the node too, or bring tickets to all of them with `--all`"))
        }
    }
}

/// One run's machines and the way to them.
struct Round<'a> {
    named: &'a Named,
    nodes: &'a [&'a NodeFacts],
    courier: &'a Courier,
    arguments: &'a ApplyArguments,
    progress: &'a dyn Progress,
}

impl Round<'_> {
    /// Brings every machine its ticket, all at once: a password that changed is wrong everywhere until it has arrived.
    /// The machines themselves see to the order in which services take it.
    fn bring(&self, vault: &Vault, text: &mut String) -> Result<(), Report> {
        let terms = Terms { open: false, memory_state: self.arguments.memory_state };
        // All rendered before the first is told.
        let planted = self.nodes.iter().map(|node| self.named.plant(&node.name, vault, terms));
        let planted = planted.collect::<Result<Vec<_>, Report>>()?;
        let task = self.progress.begin("bring the tickets", self.nodes.len() as u64, Unit::Things);
        let task = task.as_ref();
        let answers: Vec<Result<String, Diagnostic>> = thread::scope(|scope| {
            let bring = |(node, planted)| {
                scope.spawn(move || {
                    let answer = self.courier.bring(node, planted);
                    task.advance(1);
                    answer
                })
            };
            let started: Vec<_> = self.nodes.iter().copied().zip(&planted).map(bring).collect();
            let failed = || Err(Diagnostic::error(Kind::Internal, "a thread failed"));
            started.into_iter().map(|thread| thread.join().unwrap_or_else(|_| failed())).collect()
        });
        let mut report = Report::new();
        for (node, answer) in self.nodes.iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    let _ = writeln!(text, "{}: {}", node.name, answer.trim());
                }
                Err(problem) => report.push(problem),
            }
        }
        if report.has_errors() { Err(report) } else { Ok(()) }
    }

    /// Takes the steps that are left of a change of the authority, each when all machines run with the one before.
    fn settle(&self, mut vault: Vault, text: &mut String) -> Result<Vault, Report> {
        while vault.step != Step::Settled {
            self.follow(vault.generation)?;
            let old = vault.clone();
            let step = vault.advance_authority(&self.named.cluster.name, now())?;
            self.named.file.replace(&old, &vault)?;
            text.push_str(match step {
                Step::Introduced => "all machines are to trust the next authority too\n",
                Step::Replaced => "certificates now come from the new authority; the old one is still trusted\n",
                Step::Settled => "the old authority is dropped\n",
            });
            self.bring(&vault, text)?;
        }
        Ok(vault)
    }

    /// Waits until every machine runs with this generation.
    fn follow(&self, generation: u64) -> Result<(), Report> {
        let task = self.progress.begin("wait for the machines", self.nodes.len() as u64, Unit::Things);
        let patience = Duration::from_secs(self.arguments.patience);
        let began = Instant::now();
        let mut behind: Vec<&NodeFacts> = self.nodes.to_vec();
        loop {
            let mut report = Report::new();
            let mut left = Vec::new();
            for node in behind {
                let reason = match self.courier.standing(node) {
                    Ok(standing) if standing.runs_with(generation) => {
                        task.advance(1);
                        continue;
                    }
                    Ok(standing) => Diagnostic::error(
                        Kind::World,
                        format!("`{}` does not run with generation {generation} yet", node.name),
                    )
                    .note(format!("it says: {}", standing.to_text())),
                    Err(problem) => problem,
                };
                report.push(reason.hint("when it does, `rolecast apply --all` goes on where this ended"));
                left.push(node);
            }
            if left.is_empty() {
                return Ok(());
            }
            if began.elapsed() > patience {
                return Err(report);
            }
            behind = left;
            thread::sleep(PAUSE);
        }
    }
}
