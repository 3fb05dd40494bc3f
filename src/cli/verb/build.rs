//! `rolecast build`: from an image file to images.

mod outputs;
mod steps;
mod told;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::cli::args::BuildArguments;
use crate::cli::settings::{self, Settings};
use crate::cli::{Done, progress};
use crate::format::Recipe;
use crate::format::authenticode::Signer;
use crate::image::manifest::Manifest;
use crate::layer::{Agent, Laid};
use crate::lock::{self, Lock, Update};
use crate::plan::{self, Plan, RolePlan};
use crate::remote::Remote;
use crate::report::{Diagnostic, Kind, Progress, Report};

use super::cluster::now;
use super::project::Project;
use super::remote;
use super::secure_boot;
use super::sign;
use super::world::World;
use steps::Steps;
pub(super) use told::{boot_signature, shown};

/// Builds the images of an image file.
///
/// # Errors
/// When anything on the way fails; what was finished is kept, and the next run goes on from it.
pub fn run(arguments: &BuildArguments, settings: &Settings) -> Result<Done, Report> {
    let begun = Instant::now();
    settings::use_processors(arguments.jobs)?;
    // A key that cannot sign is told before anything is built.
    let boot_signer = secure_boot::signer(&arguments.secure_boot, Some(now()))?;
    let signer = sign::signer(&arguments.signer)?;
    let remote = remote::of_build(&arguments.remote, arguments.mirrors.offline)?;
    let (built, mut warnings) = make(arguments, boot_signer.as_ref(), remote.as_ref(), settings, Explain::Nothing)?;
    if let Some(signer) = &signer {
        for role in &built {
            crate::sign::sign(&role.directory, signer)?;
        }
    }
    remote.iter().flat_map(|remote| remote.notices()).for_each(|notice| warnings.push(notice));
    Ok(told::done(&built, signer.map(|signer| signer.fingerprint()), remote.as_deref(), warnings, begun))
}

/// Builds the roles; also what `verify` does once more.
///
/// # Errors
/// As [`run`].
pub(super) fn make(
    arguments: &BuildArguments,
    signer: Option<&Signer>,
    remote: Option<&Arc<Remote>>,
    settings: &Settings,
    explain: Explain,
) -> Result<(Vec<Built>, Report), Report> {
    let progress = progress::for_run(settings.json);
    let mut build = Build { explain, ..Build::new(arguments, signer, remote, settings, progress.as_ref())? };
    let lock = build.fresh_lock()?;
    let mut repairs = REPAIRS;
    loop {
        let outcome = build.roles(lock.clone());
        // What it is about may have been told on the way as something else.
        if let Some(lie) = remote.and_then(|remote| remote.lie()) {
            return Err(lie.into());
        }
        match outcome {
            Ok(built) => return Ok((built, build.warnings)),
            Err(report) => {
                let lost = remote.is_some_and(|remote| remote.take_lost());
                if repairs == 0 || !(build.repaired() || lost) {
                    return Err(report);
                }
                repairs -= 1;
                if let Some(remote) = remote.filter(|_| repairs == 0) {
                    remote.give_up();
                }
            }
        }
    }
}

/// How often a build is run again because an object of the store was found altered, or a remote had not what it promised.
/// All that are go at the first time.
const REPAIRS: usize = 2;

/// A build that is going on.
pub(super) struct Build<'a> {
    project: Project,
    pub(super) world: World,
    progress: &'a dyn Progress,
    agent: Agent,
    pub(super) warnings: Report,
    arguments: &'a BuildArguments,
    signer: Option<&'a Signer>,
    explain: Explain,
}

/// What of the outputs is to be explained afterwards: what they are made of takes some MB a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Explain {
    /// Nothing: they are there.
    Nothing,
    /// Where a byte comes from.
    Bytes,
}

/// A role that was built.
pub(super) struct Built {
    /// Where its outputs are.
    pub(super) directory: PathBuf,
    /// What they are.
    pub(super) manifest: Manifest,
    /// What each of them is made of, by its path from the directory; nothing where they were not pressed, or nobody asks.
    pub(super) recipes: BTreeMap<String, Recipe>,
    /// Whether nothing had to be done.
    reused: bool,
}

impl<'a> Build<'a> {
    /// What is built, where and with what.
    pub(super) fn new(
        arguments: &'a BuildArguments,
        signer: Option<&'a Signer>,
        remote: Option<&Arc<Remote>>,
        settings: &Settings,
        progress: &'a dyn Progress,
    ) -> Result<Self, Report> {
        let mut project = Project::read(&arguments.image)?;
        let warnings = std::mem::take(&mut project.warnings);
        let agent = Agent::at(settings::agent(arguments.chosen.agent.as_deref())?).map_err(Diagnostic::from)?;
        let world = World::open(settings, &arguments.mirrors, &project.spec.archives)?.borrowing(remote);
        let explain = Explain::Nothing;
        Ok(Self { project, world, progress, agent, warnings, arguments, signer, explain })
    }

    /// The lock that answers the Spec: as it is, or made now.
    pub(super) fn fresh_lock(&mut self) -> Result<Lock, Report> {
        let stale = match self.project.lock()? {
            Some(lock) => match lock::fresh::check(&lock, &self.project.path.lock_name(), &self.project.spec) {
                Ok(()) => return Ok(lock),
                Err(stale) if self.arguments.locked => return Err(stale),
                Err(_) => Some(lock),
            },
            None if self.arguments.locked => {
                return Err(Diagnostic::error(Kind::Input, format!("`{}` has no lock", self.project.path.file))
                    .hint("write it with `rolecast lock`, or build without `--locked`")
                    .into());
            }
            None => None,
        };
        self.relock(stale.as_ref())
    }

    /// Whether the store took away altered objects, so that running again makes them anew; warns of them. Where one
    /// was altered others may be, so all are looked at.
    fn repaired(&mut self) -> bool {
        let mut discarded = self.world.store.take_discarded();
        if discarded.is_empty() || self.world.store.scrub().is_err() {
            return false;
        }
        discarded.extend(self.world.store.take_discarded());
        let message = format!("{} objects in the store were altered: they are made or fetched anew", discarded.len());
        let mut warning = Diagnostic::warning(message).note("a disk fault or another program changed them");
        for digest in discarded.iter().take(5) {
            warning = warning.note(format!("one is {digest}"));
        }
        self.warnings.push(warning);
        true
    }

    fn relock(&mut self, previous: Option<&Lock>) -> Result<Lock, Report> {
        let (lock, warnings) = self.world.relock(&self.project, previous, &Update::Nothing, self.progress)?;
        self.warnings.extend(warnings);
        Ok(lock)
    }

    fn roles(&mut self, lock: Lock) -> Result<Vec<Built>, Report> {
        let mut plan = self.plan(&lock)?;
        let mut ready = self.ready(&plan, &lock)?;
        if ready.iter().all(Option::is_some) {
            return Ok(ready.into_iter().flatten().collect());
        }
        self.world.store.ask(&self.steps(&plan))?;
        let mut needed = self.needed(&plan, &ready)?;
        if needed.is_work() {
            // Where the sandbox cannot work it is said now, before anything is downloaded.
            self.workshop()?.sandbox()?;
        }
        let lock = match self.fetch(&plan, &needed, lock)? {
            (lock, false) => lock,
            (lock, true) => {
                plan = self.plan(&lock)?;
                ready = self.ready(&plan, &lock)?;
                needed = self.needed(&plan, &ready)?;
                lock
            }
        };
        let workshop = self.workshop()?;
        let Steps { laid, initrd } = self.layers(&plan, &needed, &workshop)?;
        let waiting = plan.roles.iter().zip(&ready).filter(|(_, ready)| ready.is_none()).filter_map(|(role, _)| {
            let top = role.layers.last().and_then(|layer| laid[*layer].as_ref());
            top.map(|top| (role, top))
        });
        let waiting: Vec<(&RolePlan, &Laid)> = waiting.collect();
        let tools = laid[plan.tools].as_ref();
        let pressed: Vec<Vec<Built>> = thread::scope(|scope| {
            // What the layers were configured in is large, and takes the disk a while to forget: beside the outputs.
            scope.spawn(move || drop(workshop));
            let press = |some| self.press(&plan, &lock, some, tools, initrd.as_ref());
            waiting.chunks(outputs::AT_ONCE).map(press).collect::<Result<_, _>>()
        })?;
        let mut pressed = pressed.into_iter().flatten();
        Ok(ready.into_iter().filter_map(|ready| ready.or_else(|| pressed.next())).collect())
    }

    pub(super) fn plan(&self, lock: &Lock) -> Result<Plan, Report> {
        let chosen = &self.arguments.chosen;
        plan::draw(&self.project.spec, lock, self.agent.digest(), &chosen.roles, &settings::formats(chosen))
    }
}
