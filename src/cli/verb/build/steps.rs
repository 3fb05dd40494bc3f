//! The steps below the outputs: which of them a build needs, their packages, and running them.

use crate::archive;
use crate::digest::Key;
use crate::layer::{Laid, Workshop, initrd};
use crate::lock::Lock;
use crate::plan::{self, Plan, RolePlan};
use crate::report::{Diagnostic, Report, Unit};
use crate::spec::OverlayFile;
use crate::sys::sandbox::Helper;
use crate::tree::Content;

use super::super::shown::Shown;
use super::{Build, Built};

/// What a build needs of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// Its tree, which the store has.
    Read,
    /// Its tree, which has to be made.
    Made,
}

/// What a build needs of the steps before the roles.
pub(super) struct Needed {
    /// By their places in the plan.
    layers: Vec<Need>,
    /// Whether the initrd has to be made.
    initrd: bool,
}

impl Needed {
    /// Whether programs have to be run.
    pub(super) fn is_work(&self) -> bool {
        self.initrd || self.layers.contains(&Need::Made)
    }
}

impl Build<'_> {
    pub(super) fn workshop(&self) -> Result<Workshop<'_>, Report> {
        Workshop::new(&self.world.store, Helper::own()?)
    }

    /// The steps below the outputs.
    pub(in crate::cli::verb) fn steps(&self, plan: &Plan) -> Vec<Key> {
        let layers = plan.layers.iter().map(|step| step.key.clone());
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
        let layers = plan.layers.iter().zip(&needed.layers).filter(|(_, need)| **need == Need::Made);
        let wanted = layers.flat_map(|(layer, _)| &layer.packages);
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

    /// What the roles that are not ready stand on, and the tool layer when an output of theirs boots: a layer that has to be
    /// made needs its parent, one that is in the store nothing.
    pub(super) fn needed(&self, plan: &Plan, ready: &[Option<Built>]) -> Result<Needed, Report> {
        let waiting: Vec<&RolePlan> =
            plan.roles.iter().zip(ready).filter(|(_, ready)| ready.is_none()).map(|(role, _)| role).collect();
        let boots = waiting.iter().any(|role| plan::boots(&role.formats));
        let mut layers = vec![Need::Nothing; plan.layers.len()];
        let tops = waiting.iter().filter_map(|role| role.layers.last().copied());
        for top in tops.chain(boots.then_some(plan.tools)) {
            let mut next = Some(top);
            while let Some(index) = next.filter(|index| layers[*index] == Need::Nothing) {
                let step = &plan.layers[index];
                let is_there = self.world.store.knows(&step.key)?;
                layers[index] = if is_there { Need::Read } else { Need::Made };
                next = step.parent.filter(|_| !is_there);
            }
        }
        let initrd = boots && !self.world.store.knows(&initrd::key(plan, self.initrd_files()))?;
        Ok(Needed { layers, initrd })
    }

    /// Configures the layers that are needed and not there, and reads the others.
    pub(super) fn layers(
        &self,
        plan: &Plan,
        needed: &Needed,
        workshop: &Workshop<'_>,
    ) -> Result<Vec<Option<Laid>>, Report> {
        let mut laid: Vec<Option<Laid>> = Vec::new();
        for (step, need) in plan.layers.iter().zip(&needed.layers) {
            if *need == Need::Nothing {
                laid.push(None);
                continue;
            }
            if *need == Need::Read {
                self.progress.reused(&format!("layer {}", step.name));
            }
            let parent = step.parent.and_then(|parent| laid[parent].as_ref());
            let shown = Shown::new(self.progress, &step.name);
            laid.push(Some(workshop.configured(step, parent, &|event| shown.take(event))?));
        }
        Ok(laid)
    }

    pub(super) fn initrd(&self, plan: &Plan, tools: &Laid, workshop: &Workshop<'_>) -> Result<Content, Report> {
        let files = self.initrd_files();
        if self.world.store.knows(&initrd::key(plan, files))? {
            self.progress.reused("initrd");
        }
        let shown = Shown::new(self.progress, "initrd");
        initrd::make(plan, tools, files, workshop, &|event| shown.take(event))
    }
}
