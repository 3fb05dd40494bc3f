//! The steps below the outputs: which of them a build needs, their packages, and running them.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::archive;
use crate::digest::{Digest, Key};
use crate::layer::{self, Core, Laid, Purpose, Workshop, initrd};
use crate::lock::Lock;
use crate::plan::{self, Plan, RolePlan};
use crate::report::{Diagnostic, Report, Unit};
use crate::spec::OverlayFile;
use crate::sys::sandbox::Helper;
use crate::tree::Content;

use super::super::shown::Shown;
use super::{Build, Built};

/// What a build needs of something that the store may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// To read it: the store has it.
    Read,
    /// To have it made.
    Made,
}

/// What a build needs of the steps before the roles.
pub(super) struct Needed {
    /// The layers' cores, by their places in the plan.
    cores: Vec<Need>,
    /// Their whole trees.
    wholes: Vec<Need>,
    /// The initrd.
    initrd: Need,
}

impl Needed {
    /// Whether programs have to be run.
    pub(super) fn is_work(&self) -> bool {
        self.initrd == Need::Made || self.cores.iter().chain(&self.wholes).any(|need| *need == Need::Made)
    }
}

/// What the steps before the roles gave.
pub(super) struct Steps {
    /// The whole trees that are needed, by their layers' places in the plan.
    pub(super) laid: Vec<Option<Laid>>,
    /// The initrd, where an output boots.
    pub(super) initrd: Option<Content>,
}

impl Build<'_> {
    pub(super) fn workshop(&self) -> Result<Workshop<'_>, Report> {
        Workshop::new(&self.world.store, Helper::own()?)
    }

    /// The steps below the outputs.
    pub(in crate::cli::verb) fn steps(&self, plan: &Plan) -> Vec<Key> {
        let layers = plan.layers.iter().flat_map(|step| [step.key.clone(), step.whole()]);
        let roots = plan.roles.iter().map(|role| role.key.clone());
        layers.chain(roots).chain([initrd::key(plan, self.initrd_files())]).collect()
    }

    pub(super) fn initrd_files(&self) -> &[OverlayFile] {
        &self.project.spec.tools.files
    }

    /// Brings all packages of the layers that are not yet configured. Where some are gone from the mirrors and the
    /// lock may change, locks anew; says whether it did.
    pub(super) fn fetch(&mut self, plan: &Plan, needed: &Needed, lock: Lock) -> Result<(Lock, bool), Report> {
        match self.fetch_once(plan, needed) {
            Ok(()) => Ok((lock, false)),
            Err(error) if error.is_gone() && !self.arguments.locked => {
                let names: Vec<String> =
                    error.gone.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
                let message = format!("the mirrors no longer serve {}", names.join(", "));
                self.warnings.push(
                    Diagnostic::warning(message)
                        .note("newer versions were chosen for these, and the lock was written anew")
                        .hint("build with `--locked` to refuse instead"),
                );
                let lock = self.relock(Some(&lock))?;
                let plan = self.plan(&lock)?;
                let needed = self.needed(&plan, &self.ready(&plan, &lock)?)?;
                self.fetch_once(&plan, &needed).map_err(|error| error.report)?;
                Ok((lock, true))
            }
            Err(error) => Err(error.report),
        }
    }

    fn fetch_once(&self, plan: &Plan, needed: &Needed) -> Result<(), archive::FetchError> {
        let leaves = self.leaves(plan, needed)?;
        let wanted = plan.layers.iter().zip(&needed.cores).flat_map(|(layer, need)| {
            layer.packages.iter().filter(|package| *need == Need::Made || leaves.contains(&package.sha256))
        });
        let missing = archive::missing(wanted, &self.world.access(&|_| {}))?;
        if missing.is_empty() {
            return Ok(());
        }
        let total = missing.iter().map(|package| package.size).sum();
        let task = self.progress.begin(&format!("fetch {} packages", missing.len()), total, Unit::Bytes);
        let advance = |bytes| task.advance(bytes);
        let access = self.world.access(&advance);
        archive::fetch(missing, &self.project.spec.archives, &access, archive::THREADS).map(|_| ())
    }

    /// The packages that are still to be laid over cores which the store has.
    fn leaves(&self, plan: &Plan, needed: &Needed) -> Result<BTreeSet<Digest>, Report> {
        let mut leaves = BTreeSet::new();
        for (layer, _) in plan.layers.iter().zip(&needed.cores).filter(|(_, need)| **need == Need::Read) {
            leaves.extend(layer::core(&self.world.store, &layer.key)?.iter().flat_map(|core| core.leaves()));
        }
        Ok(leaves)
    }

    /// What the roles that are not ready stand on, and the tool layer when an output of theirs boots: a whole tree that has
    /// to be made needs its core, a core its parent's, and what is in the store nothing.
    pub(super) fn needed(&self, plan: &Plan, ready: &[Option<Built>]) -> Result<Needed, Report> {
        let waiting: Vec<&RolePlan> =
            plan.roles.iter().zip(ready).filter(|(_, ready)| ready.is_none()).map(|(role, _)| role).collect();
        let boots = waiting.iter().any(|role| plan::boots(&role.formats));
        let need = |key: &Key| -> Result<Need, Report> {
            Ok(if self.world.store.knows(key)? { Need::Read } else { Need::Made })
        };
        let (mut cores, mut wholes) = (vec![Need::Nothing; plan.layers.len()], vec![Need::Nothing; plan.layers.len()]);
        let tops = waiting.iter().filter_map(|role| role.layers.last().copied());
        for top in tops.chain(boots.then_some(plan.tools)) {
            wholes[top] = need(&plan.layers[top].whole())?;
            let mut next = Some(top).filter(|top| wholes[*top] == Need::Made);
            while let Some(index) = next.filter(|index| cores[*index] == Need::Nothing) {
                let step = &plan.layers[index];
                cores[index] = need(&step.key)?;
                next = step.parent.filter(|_| cores[index] == Need::Made);
            }
        }
        let initrd = if boots { need(&initrd::key(plan, self.initrd_files()))? } else { Need::Nothing };
        Ok(Needed { cores, wholes, initrd })
    }

    /// Makes what is needed of the layers and is not there, and reads the rest. Every layer has a thread of its own: it
    /// unpacks its packages while its parent is configured, and its children wait for nothing else.
    pub(super) fn layers(&self, plan: &Plan, needed: &Needed, workshop: &Workshop<'_>) -> Result<Steps, Report> {
        let mut children: Vec<Vec<Sender<Core>>> = plan.layers.iter().map(|_| Vec::new()).collect();
        let mut waits: Vec<Option<Receiver<Core>>> = Vec::new();
        for (step, need) in plan.layers.iter().zip(&needed.cores) {
            let parent = step.parent.filter(|_| *need == Need::Made);
            waits.push(parent.map(|parent| {
                let (sender, receiver) = mpsc::channel();
                children[parent].push(sender);
                receiver
            }));
        }
        let lanes = children.into_iter().zip(waits).enumerate();
        thread::scope(|scope| {
            let threads: Vec<_> = lanes
                .map(|(index, (children, parent))| {
                    scope.spawn(move || self.layer(plan, index, needed, workshop, parent, children))
                })
                .collect();
            let mut steps = Steps { laid: Vec::new(), initrd: None };
            let mut report = Report::new();
            for thread in threads {
                match thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                    Ok((laid, initrd)) => {
                        steps.laid.push(laid);
                        steps.initrd = steps.initrd.or(initrd);
                    }
                    Err(error) => report.extend(error),
                }
            }
            if report.has_errors() { Err(report) } else { Ok(steps) }
        })
    }

    /// One layer: its core, which its children wait for, its whole tree, and the initrd over the tool layer's.
    fn layer(
        &self,
        plan: &Plan,
        index: usize,
        needed: &Needed,
        workshop: &Workshop<'_>,
        parent: Option<Receiver<Core>>,
        children: Vec<Sender<Core>>,
    ) -> Result<(Option<Laid>, Option<Content>), Report> {
        let step = &plan.layers[index];
        let shown = Shown::new(self.progress, &step.name);
        let listener = |event| shown.take(event);
        if needed.wholes[index] == Need::Read || needed.cores[index] == Need::Read {
            self.progress.reused(&format!("layer {}", step.name));
        }
        let mut core = None;
        if needed.cores[index] != Need::Nothing {
            // A parent that failed tells it itself: nothing is left to say here.
            let parent = || parent.map(|parent| parent.recv().map_err(|_| Report::new())).transpose();
            let made = workshop.configured(step, parent, &listener)?;
            for child in children {
                let _ = child.send(made.clone());
            }
            core = Some(made);
        }
        if needed.wholes[index] == Need::Nothing {
            return Ok((None, None));
        }
        let purpose = if index == plan.tools { Purpose::Initrd } else { Purpose::Root };
        let laid = workshop.whole(step, core, purpose, &listener)?;
        if index != plan.tools {
            return Ok((Some(laid), None));
        }
        let files = self.initrd_files();
        if needed.initrd == Need::Read {
            self.progress.reused("initrd");
        }
        let shown = Shown::new(self.progress, "initrd");
        let initrd = initrd::make(plan, &laid, files, workshop, &|event| shown.take(event))?;
        Ok((Some(laid), Some(initrd)))
    }
}
