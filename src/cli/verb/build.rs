//! `rolecast build`: from an image file to images.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::archive;
use crate::cli::args::BuildArguments;
use crate::cli::output::size;
use crate::cli::settings::{self, Settings};
use crate::cli::{Done, progress};
use crate::digest::{Digest, Key};
use crate::format::Recipe;
use crate::format::authenticode::Signer;
use crate::image::manifest::{BootFacts, Manifest, PackageFacts};
use crate::image::sums::{SIGNATURE, SUMS};
use crate::image::{self, Pressed, delivered, kept};
use crate::layer::root::{self, Image};
use crate::layer::{Laid, Workshop, initrd};
use crate::lock::{self, Lock, Update};
use crate::plan::materials::{Material, materials};
use crate::plan::{self, Plan, RolePlan};
use crate::remote::Remote;
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::spec::Format;
use crate::sys::files;
use crate::sys::sandbox::Helper;
use crate::tree::Content;

use super::cluster::now;
use super::project::Project;
use super::remote;
use super::secure_boot;
use super::shown::Shown;
use super::sign;
use super::world::World;

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
    let (built, mut warnings) = make(arguments, boot_signer.as_ref(), remote.as_ref(), settings)?;
    if let Some(signer) = &signer {
        for role in &built {
            crate::sign::sign(&role.directory, signer)?;
        }
    }
    remote.iter().flat_map(|remote| remote.notices()).for_each(|notice| warnings.push(notice));
    Ok(done(&built, signer.map(|signer| signer.fingerprint()), remote.as_deref(), warnings, begun))
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
) -> Result<(Vec<Built>, Report), Report> {
    let progress = progress::for_run(settings.json);
    let mut build = Build::new(arguments, signer, remote, settings, progress.as_ref())?;
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
    agent: Vec<u8>,
    pub(super) warnings: Report,
    arguments: &'a BuildArguments,
    signer: Option<&'a Signer>,
}

/// What a build needs of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing.
    Nothing,
    /// Its tree, which the store has.
    Read,
    /// Its tree, which has to be made.
    Made,
}

/// What a build needs of the steps before the roles.
struct Needed {
    /// By their places in the plan.
    layers: Vec<Need>,
    /// Whether the initrd has to be made.
    initrd: bool,
}

impl Needed {
    /// Whether programs have to be run.
    fn is_work(&self) -> bool {
        self.initrd || self.layers.contains(&Need::Made)
    }
}

/// A role that was built.
pub(super) struct Built {
    /// Where its outputs are.
    pub(super) directory: PathBuf,
    /// What they are.
    pub(super) manifest: Manifest,
    /// What each of them is made of, by its path from the directory; nothing where nothing had to be done.
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
        let agent = files::read(&settings::agent(arguments.chosen.agent.as_deref())?).map_err(Diagnostic::from)?;
        let world = World::open(settings, &arguments.mirrors)?.borrowing(remote);
        Ok(Self { project, world, progress, agent, warnings, arguments, signer })
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
        let laid = self.layers(&plan, &needed, &workshop)?;
        let initrd = match laid.get(plan.tools).and_then(Option::as_ref) {
            Some(tools) => Some(self.initrd(&plan, tools, &workshop)?),
            None => None,
        };
        let mut built = Vec::new();
        for (role, ready) in plan.roles.iter().zip(ready) {
            let top = role.layers.last().and_then(|layer| laid[*layer].as_ref());
            let tools = laid[plan.tools].as_ref();
            match (ready, top) {
                (Some(ready), _) => built.push(ready),
                (None, Some(top)) => built.push(self.press(&plan, role, &lock, top, tools, initrd.as_ref())?),
                (None, None) => {}
            }
        }
        Ok(built)
    }

    fn workshop(&self) -> Result<Workshop<'_>, Report> {
        Workshop::new(&self.world.store, Helper::own()?)
    }

    /// The steps below the outputs.
    pub(super) fn steps(&self, plan: &Plan) -> Vec<Key> {
        let layers = plan.layers.iter().map(|step| step.key.clone());
        let roots = plan.roles.iter().map(|role| role.key.clone());
        layers.chain(roots).chain([initrd::key(plan, self.initrd_files())]).collect()
    }

    /// What is kept of the roles' outputs, in their order.
    pub(super) fn recipes(&self, plan: &Plan, lock: &Lock) -> Vec<Key> {
        plan.roles.iter().map(|role| kept::key(&self.outputs_key(plan, role, lock))).collect()
    }

    pub(super) fn plan(&self, lock: &Lock) -> Result<Plan, Report> {
        let chosen = &self.arguments.chosen;
        plan::draw(&self.project.spec, lock, Digest::of(&self.agent), &chosen.roles, &settings::formats(chosen))
    }

    /// The directory of a role's outputs.
    fn directory(&self, role: &RolePlan) -> PathBuf {
        let output = &self.arguments.output;
        std::path::absolute(output).unwrap_or_else(|_| output.clone()).join(&role.name)
    }

    /// The roles of which nothing has to be made: their outputs lie there, or are written again from what they are made of.
    fn ready(&self, plan: &Plan, lock: &Lock) -> Result<Vec<Option<Built>>, Report> {
        let store = &self.world.store;
        let mut lacking = Vec::new();
        let mut ready = Vec::new();
        for role in &plan.roles {
            let (key, directory) = (self.outputs_key(plan, role, lock), self.directory(role));
            match delivered::recall(store, &key, &directory)? {
                Some(manifest) => {
                    ready.push(Some(Built { directory, manifest, recipes: BTreeMap::new(), reused: true }));
                }
                None => {
                    lacking.push((ready.len(), key, directory));
                    ready.push(None);
                }
            }
        }
        let kept: Vec<Key> = lacking.iter().map(|(_, key, _)| kept::key(key)).collect();
        store.ask(&kept)?;
        for (index, key, directory) in lacking {
            let Some(Pressed { manifest, recipes }) = kept::write(store, &key, &directory, self.progress)? else {
                continue;
            };
            delivered::remember(store, &key, &directory, &manifest)?;
            self.progress.reused(&format!("outputs of {}", manifest.role));
            ready[index] = Some(Built { directory, manifest, recipes, reused: false });
        }
        Ok(ready)
    }

    /// What decides a role's outputs, byte by byte.
    fn outputs_key(&self, plan: &Plan, role: &RolePlan, lock: &Lock) -> Key {
        let formats: Vec<String> = role.formats.iter().map(plan::format_name).collect();
        // The same key and certificate sign the same bytes the same, and a certificate is of one key.
        let signed_by = self.signer.map_or_else(String::new, |signer| signer.certificate_digest().to_string());
        Key::new("role.outputs", image::VERSION)
            .input("rolecast", env!("CARGO_PKG_VERSION"))
            .input("root", role.key.digest())
            .input("initrd", initrd::key(plan, self.initrd_files()).digest())
            .input("kernel arguments", role.kernel_arguments.join(" "))
            .input("formats", formats.join(" "))
            .input("signed by", signed_by)
            .input("materials", self.materials_digest(role, lock))
            .input("lock", Digest::of(lock::write(lock).as_bytes()))
    }

    fn materials(&self, role: &RolePlan, lock: &Lock) -> Vec<Material> {
        materials(&self.project.spec, lock, role, Digest::of(&self.agent))
    }

    /// A digest of what provenance says of the inputs: a comment in a profile is an input too.
    fn materials_digest(&self, role: &RolePlan, lock: &Lock) -> Digest {
        let listed: Vec<String> = self
            .materials(role, lock)
            .iter()
            .map(|material| format!("{} {} {:?}\n", material.sha256, material.name, material.annotations))
            .collect();
        Digest::of(listed.concat().as_bytes())
    }

    fn initrd_files(&self) -> &[crate::spec::OverlayFile] {
        &self.project.spec.tools.files
    }

    /// Brings all packages of the layers that are not yet configured. Where some are gone from the mirrors and the
    /// lock may change, locks anew; says whether it did.
    fn fetch(&mut self, plan: &Plan, needed: &Needed, lock: Lock) -> Result<(Lock, bool), Report> {
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
    fn needed(&self, plan: &Plan, ready: &[Option<Built>]) -> Result<Needed, Report> {
        let waiting: Vec<&RolePlan> =
            plan.roles.iter().zip(ready).filter(|(_, ready)| ready.is_none()).map(|(role, _)| role).collect();
        let boots = waiting.iter().any(|role| role.formats.iter().any(|format| *format != Format::Tar));
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
    fn layers(&self, plan: &Plan, needed: &Needed, workshop: &Workshop<'_>) -> Result<Vec<Option<Laid>>, Report> {
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

    fn initrd(&self, plan: &Plan, tools: &Laid, workshop: &Workshop<'_>) -> Result<Content, Report> {
        let files = self.initrd_files();
        if self.world.store.knows(&initrd::key(plan, files))? {
            self.progress.reused("initrd");
        }
        let shown = Shown::new(self.progress, "initrd");
        initrd::make(plan, tools, files, workshop, &|event| shown.take(event))
    }

    fn press(
        &self,
        plan: &Plan,
        role: &RolePlan,
        lock: &Lock,
        top: &Laid,
        tools: Option<&Laid>,
        initrd: Option<&Content>,
    ) -> Result<Built, Report> {
        let spec = &self.project.spec;
        let directory = self.directory(role);
        let key = self.outputs_key(plan, role, lock);
        let layers: Vec<String> = role.layers.iter().map(|layer| plan.layers[*layer].name.clone()).collect();
        let names =
            Image { name: &spec.name, version: &spec.version, layers: &layers, agent: &self.agent, epoch: plan::EPOCH };
        let root = root::assemble(role, top, names, &self.world.store)?;
        if root.reused {
            self.progress.reused(&format!("root of {}", role.name));
        }
        let boots = role.formats.iter().any(|format| *format != Format::Tar);
        let options = spec.options.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
        let dates = lock.archives.iter().flat_map(|archive| &archive.suites).map(|suite| suite.date);
        let request = image::Request {
            image: &spec.name,
            version: &spec.version,
            role: &role.name,
            layers: &layers,
            distribution: &lock.distribution,
            lock: Digest::of(lock::write(lock).as_bytes()),
            locked: lock,
            materials: &self.materials(role, lock),
            options,
            released: dates.max().unwrap_or(plan::EPOCH),
            tree: &root.tree,
            shown: root.tree.digest(),
            stored: root.stored,
            base: top.digest,
            tools: tools.map_or(&root.tree, |tools| &tools.tree),
            initrd: initrd.copied().filter(|_| boots),
            signer: self.signer,
            kernel_arguments: &role.kernel_arguments,
            formats: &role.formats,
            late: role.late(),
            state: role.state.iter().map(|state| format!("/{}", state.path)).collect(),
            packages: packages(plan, role),
            epoch: plan::EPOCH,
        };
        files::make_directory(&directory).map_err(Diagnostic::from)?;
        let pressed = image::press(&request, &directory, &self.world.store, self.progress)?;
        kept::keep(&self.world.store, &key, &directory, &pressed)?;
        let Pressed { manifest, recipes } = pressed;
        delivered::remember(&self.world.store, &key, &directory, &manifest)?;
        Ok(Built { directory, manifest, recipes, reused: false })
    }
}

fn done(built: &[Built], signed_by: Option<String>, remote: Option<&Remote>, warnings: Report, begun: Instant) -> Done {
    let mut text = String::new();
    for role in built {
        let manifest = &role.manifest;
        let note = if role.reused { " (nothing changed)" } else { "" };
        let _ = writeln!(text, "{} {}{note}", manifest.role, manifest.version);
        if let Some(boot) = &manifest.boot {
            let _ = writeln!(text, "  {}", boot_signature(boot));
        }
        for output in &manifest.outputs {
            let path = shown(&role.directory.join(&output.file));
            let _ = writeln!(text, "  {path:<44} {:>10}  sha256 {}", size(output.size), output.sha256);
        }
        let names = manifest.documents.iter().map(|document| document.file.as_str());
        for name in names.chain(["manifest.json", SUMS]).chain(signed_by.is_some().then_some(SIGNATURE)) {
            let _ = writeln!(text, "  {}", shown(&role.directory.join(name)));
        }
    }
    if let Some(fingerprint) = &signed_by {
        let _ = writeln!(text, "signed by {fingerprint}");
    }
    let tally = remote.map(Remote::tally);
    if let (Some(remote), Some(tally)) = (remote, &tally) {
        text += &remote::told(remote.shown(), tally);
    }
    let _ = writeln!(text, "{} roles in {:.1} s", built.len(), begun.elapsed().as_secs_f64());
    let roles: Vec<_> = built
        .iter()
        .map(|role| {
            serde_json::json!({
                "directory": role.directory.display().to_string(),
                "reused": role.reused,
                "manifest": role.manifest,
            })
        })
        .collect();
    Done { text, json: serde_json::json!({ "roles": roles, "signed_by": signed_by, "remote": tally }), warnings }
}

/// Who signed what boots, as a person is told.
pub(super) fn boot_signature(boot: &BootFacts) -> String {
    match &boot.secure_boot {
        Some(signer) => {
            format!("signed for Secure Boot by {} (certificate sha256 {})", signer.subject, signer.certificate)
        }
        None => "not signed: boots where Secure Boot is off".to_owned(),
    }
}

/// A path as a person would type it: from the working directory when it lies below.
pub(super) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// The packages of a role's layers, for the manifest.
fn packages(plan: &Plan, role: &RolePlan) -> Vec<PackageFacts> {
    let layers = role.layers.iter().map(|layer| &plan.layers[*layer]);
    layers
        .flat_map(|layer| {
            layer.packages.iter().map(|package| PackageFacts {
                layer: layer.name.clone(),
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                sha256: package.sha256,
            })
        })
        .collect()
}
