//! Where the layers of one build are configured, and programs are run over them.
//!
//! Owns the sandbox of a build, its working directory, which checkouts are on disk, and what is asked of the sandbox's
//! inside. Which step needs what is `configure`'s.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::digest::{Digest, Key};
use crate::report::{Diagnostic, Kind as Problem, Report};
use crate::store::{Scratch, Store, StoreError};
use crate::sys::files::Context as _;
use crate::sys::sandbox::{Helper, Mode, Sandbox};
use crate::tree::Tree;

use super::inside::{Answer, Request, Run, Stored, Task};
use super::permits::Permits;

/// How many layers are laid or configured at once: each has some 20 MB of packages and trees in memory.
const AT_ONCE: usize = 8;

/// A configured layer.
#[derive(Clone, Debug)]
pub struct Laid {
    /// Digest of the stored tree (of its dump with places).
    pub digest: Digest,
    /// The tree: parents' layers and this one.
    pub tree: Arc<Tree>,
    /// A tree that it differs little from, of which a checkout may be on disk.
    pub(super) over: Option<Digest>,
}

/// What a workshop is doing, for whoever shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many packages of the layer are unpacked.
    Unpacked {
        /// How many.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// A step begins.
    Step(String),
    /// A program in the sandbox wrote a line.
    Line(String),
    /// A step is over; CPU time of it and all that it ran.
    Took(String, Duration),
}

/// Takes progress; called from several threads.
pub type Listener<'a> = &'a (dyn Fn(Progress) + Sync);

/// A program to run over a laid tree.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Names the result in the store: everything that decides it.
    pub key: Key,
    /// For `SOURCE_DATE_EPOCH`.
    pub epoch: i64,
    /// Files to lay first: path without leading `/` into a directory that is there (`run` and `tmp` are), permission
    /// bits, bytes.
    pub files: &'a [(&'a str, u16, &'a [u8])],
    /// Program and arguments.
    pub command: &'a [&'a str],
    /// Paths of files to store afterwards.
    pub outputs: &'a [&'a str],
}

/// Where the layers of one build are configured.
#[derive(Debug)]
pub struct Workshop<'a> {
    pub(super) store: &'a Store,
    helper: Helper,
    /// Found when it is first needed: a build that finds everything in the store starts nothing.
    sandbox: OnceLock<Sandbox>,
    scratch: Scratch,
    /// Directories of the checkouts on disk, the uppermost first, by their trees. The inner lock is held while one is
    /// made, so that two children of one parent wait for one checkout.
    checkouts: Mutex<BTreeMap<Digest, Slot>>,
    /// Trees that somebody has: many layers of an image file stand on the same one.
    trees: Mutex<BTreeMap<Digest, Arc<Mutex<Weak<Tree>>>>>,
    pub(super) permits: Permits,
    next: AtomicUsize,
    /// Where the working directory goes when something failed in it.
    kept: Mutex<Option<PathBuf>>,
}

/// The directories of one checkout, once it is made.
type Slot = Arc<Mutex<Option<Vec<String>>>>;

impl<'a> Workshop<'a> {
    /// A workshop over `store`; `helper` starts our own executable.
    ///
    /// # Errors
    /// When the store does not take a working directory.
    pub fn new(store: &'a Store, helper: Helper) -> Result<Self, Report> {
        let scratch = store.scratch("layers").map_err(Diagnostic::from)?;
        let workshop = Self {
            store,
            helper,
            sandbox: OnceLock::new(),
            scratch,
            checkouts: Mutex::default(),
            trees: Mutex::default(),
            permits: Permits::new(AT_ONCE),
            next: AtomicUsize::new(0),
            kept: Mutex::default(),
        };
        workshop.sweep();
        Ok(workshop)
    }

    /// The way to isolate programs here, tried once. Asked for before anything is downloaded, it tells a person in time.
    ///
    /// # Errors
    /// When there is none: why not, and what to do about it.
    pub fn sandbox(&self) -> Result<&Sandbox, Report> {
        if let Some(sandbox) = self.sandbox.get() {
            return Ok(sandbox);
        }
        let sandbox = Sandbox::probe(self.helper.clone(), self.scratch.path())?;
        Ok(self.sandbox.get_or_init(|| sandbox))
    }

    /// Removes what killed builds left and the store could not: files that belong to ids of the namespace.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.store.root().join("scratch")) else { return };
        for lock in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let directory = lock.with_extension("");
            if lock.extension().is_none_or(|extension| extension != "held") || !directory.exists() {
                continue;
            }
            // A running build holds its lock.
            let held = fs::File::options().write(true).open(&lock).and_then(|file| Ok(file.try_lock()?).map(|()| file));
            if held.is_ok() {
                self.remove(&directory);
                let _ = fs::remove_file(&lock);
            }
        }
    }

    /// Runs a program over a laid tree, which stays as it is; returns digest and size of each output, in order.
    ///
    /// # Errors
    /// When the program fails, or an output is not there.
    pub fn run(&self, laid: &Laid, job: &Job<'_>, listener: Listener<'_>) -> Result<Vec<(Digest, u64)>, Report> {
        let remembered = || self.store.result::<Vec<(Digest, u64)>>(&job.key).map_err(Diagnostic::from);
        if let Some(outputs) = remembered()? {
            return Ok(outputs);
        }
        let _held = self.store.hold(&job.key).map_err(Diagnostic::from)?;
        if let Some(outputs) = remembered()? {
            return Ok(outputs);
        }
        let mut files = Vec::new();
        for (path, mode, bytes) in job.files {
            let digest = self.store.put(bytes).map_err(Diagnostic::from)?;
            files.push(((*path).to_owned(), *mode, Stored { digest, size: bytes.len() as u64 }));
        }
        let directory = self.directory();
        let request = Run {
            directory: directory.clone(),
            lower: self.checkout(laid, listener)?,
            epoch: job.epoch,
            files,
            command: job.command.iter().map(|&word| word.to_owned()).collect(),
            outputs: job.outputs.iter().map(|&path| path.to_owned()).collect(),
        };
        let outputs = self.ask(Request::Run(request), "run", &directory, listener)?;
        let objects = outputs.iter().map(|(digest, _)| *digest).collect();
        self.store.record(&job.key, objects, &outputs).map_err(Diagnostic::from)?;
        Ok(outputs)
    }

    /// The output that is noted for `key`.
    pub(super) fn known(&self, key: &Key) -> Result<Option<(Digest, u64)>, Report> {
        Ok(self.store.result(key).map_err(Diagnostic::from)?)
    }

    /// Notes an output of a run under another name.
    pub(super) fn note(&self, key: &Key, output: (Digest, u64)) -> Result<(), Report> {
        Ok(self.store.record(key, vec![output.0], &output).map_err(Diagnostic::from)?)
    }

    /// A stored tree as a layer, read where nobody has it.
    pub(super) fn laid(&self, digest: Digest) -> Result<Laid, Report> {
        self.shared(digest, || self.store.tree(&digest))
    }

    /// A tree as a layer: the one that somebody has, else what `tree` gives.
    pub(super) fn shared(
        &self,
        digest: Digest,
        tree: impl FnOnce() -> Result<Tree, StoreError>,
    ) -> Result<Laid, Report> {
        let slot = locked(&self.trees).entry(digest).or_default().clone();
        let mut shared = locked(&slot);
        let tree = match shared.upgrade() {
            Some(tree) => tree,
            None => Arc::new(tree().map_err(Diagnostic::from)?),
        };
        *shared = Arc::downgrade(&tree);
        Ok(Laid { digest, tree, over: None })
    }

    /// The directories of a tree's checkout, made where this build has none yet.
    pub(super) fn checkout(&self, laid: &Laid, listener: Listener<'_>) -> Result<Vec<String>, Report> {
        let slot = self.slot(&laid.digest);
        let mut checkout = locked(&slot);
        if let Some(lower) = &*checkout {
            return Ok(lower.clone());
        }
        self.store.bring_tree(&laid.tree).map_err(Diagnostic::from)?;
        let below = laid.over.and_then(|over| Some((over, locked(&self.slot(&over)).clone()?)));
        let (base, below) = below.map_or((None, Vec::new()), |(base, below)| (Some(base), below));
        let directory = self.directory();
        let request = Request::Checkout { tree: laid.digest, base, directory: directory.clone() };
        self.ask(request, "checkout", &directory, listener)?;
        Ok(checkout.insert(std::iter::once(directory).chain(below).collect()).clone())
    }

    /// Takes over directories that a step left, the uppermost first, as the checkout of `tree`.
    pub(super) fn keep_checkout(&self, tree: &Digest, lower: Vec<String>) {
        *locked(&self.slot(tree)) = Some(lower);
    }

    fn slot(&self, tree: &Digest) -> Slot {
        locked(&self.checkouts).entry(*tree).or_default().clone()
    }

    /// A name for a directory that no other step of this build has.
    pub(super) fn directory(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// Starts an inside for one request and waits for its end.
    pub(super) fn ask(
        &self,
        request: Request,
        layer: &str,
        directory: &str,
        listener: Listener<'_>,
    ) -> Result<Vec<(Digest, u64)>, Report> {
        let task = self.task(request);
        let mut inside = self.sandbox()?.start("layer")?;
        let lost = |error: io::Error| {
            Diagnostic::error(Problem::World, format!("the sandbox of the layer `{layer}` ended: {error}"))
                .hint("was it killed? The next run does this step again")
        };
        inside.connection.send(&task).map_err(lost)?;
        loop {
            match inside.connection.receive::<Answer>().map_err(lost)? {
                Answer::Step(step) => listener(Progress::Step(step)),
                Answer::Line(line) => listener(Progress::Line(line)),
                Answer::Took { step, milliseconds } => {
                    listener(Progress::Took(step, Duration::from_millis(milliseconds)));
                }
                Answer::Done(digests) => return Ok(digests),
                Answer::Failed { message, notes, hints, keep } => {
                    let mut diagnostic = Diagnostic { notes, hints, ..Diagnostic::error(Problem::World, message) };
                    diagnostic.notes.push(format!("in the layer `{layer}`"));
                    if keep {
                        let place = self.keep(layer).join(directory);
                        let hint = format!("look at what it left: `rolecast enter {}`", place.display());
                        diagnostic.hints.push(hint);
                    }
                    return Err(diagnostic.into());
                }
            }
        }
    }

    fn task(&self, request: Request) -> Task {
        let (store, scratch) = (self.store.root().to_owned(), self.scratch.path().to_owned());
        Task { store, scratch, hashed: self.store.hashed(), request }
    }

    /// Has the working directory kept when the workshop closes; returns where.
    fn keep(&self, layer: &str) -> PathBuf {
        let place = self.store.root().join("scratch").join(format!("failed-{layer}"));
        locked(&self.kept).get_or_insert(place).clone()
    }
}

impl Drop for Workshop<'_> {
    fn drop(&mut self) {
        let path = self.scratch.path();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(place) = kept {
            self.remove(&place);
            if fs::rename(path, &place).is_ok() {
                return;
            }
        }
        // As root the scratch removes itself; otherwise its files belong to ids that only the namespace owns.
        if matches!(self.sandbox.get().map(Sandbox::mode), Some(Mode::User { .. })) {
            self.remove(path);
        }
    }
}

impl Workshop<'_> {
    fn remove(&self, directory: &Path) {
        if !directory.exists() {
            return;
        }
        let task = self.task(Request::Remove { directory: directory.to_owned() });
        if let Ok(mut inside) = self.sandbox().and_then(|sandbox| Ok(sandbox.start("layer")?)) {
            let _ = inside.connection.send(&task);
            let _ = inside.connection.receive::<Answer>();
        }
    }
}

/// Opens a shell in what a failed step left: the directory that its message named.
///
/// # Errors
/// When the directory is none such, or there is no terminal.
pub fn enter(sandbox: &Sandbox, directory: &Path) -> Result<(), Report> {
    let whole = fs::canonicalize(directory).on("find", directory).map_err(Diagnostic::from)?;
    let parts = whole.parent().zip(whole.file_name());
    let Some((scratch, name)) = parts.filter(|_| whole.join("lower.json").exists()) else {
        let message = format!("`{}` is not what a failed step left", directory.display());
        return Err(Diagnostic::error(Problem::Usage, message)
            .hint("name the directory that the message named")
            .into());
    };
    // `STORE/scratch/failed-LAYER/NUMBER`.
    let store = scratch.ancestors().nth(2).unwrap_or(scratch).to_owned();
    let request = Request::Enter { directory: name.to_string_lossy().into_owned() };
    let mut inside = sandbox.start("layer")?;
    let lost = |error: io::Error| Diagnostic::error(Problem::World, format!("the sandbox ended: {error}"));
    let task = Task { store, scratch: scratch.to_owned(), hashed: Vec::new(), request };
    inside.connection.send(&task).map_err(lost)?;
    match inside.connection.receive::<Answer>().map_err(lost)? {
        Answer::Failed { message, notes, hints, .. } => {
            Err(Diagnostic { notes, hints, ..Diagnostic::error(Problem::World, message) }.into())
        }
        _ => Ok(()),
    }
}

/// A lock whose holder never leaves it half-changed.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
