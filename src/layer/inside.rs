//! The inside of a build's sandbox: the requests that a workshop sends to it, and serving them.
//!
//! Owns what has to happen where root of the namespace owns every id: laying trees on disk, mounting overlays, running
//! maintainer scripts and capturing what they changed. Decides nothing: a request says it all.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind};
use crate::store::{Store, StoreError};
use crate::sys::files::{self, Context as _, FileError};
use crate::sys::sandbox::{self, Connection, Overlay, Program, Room, RunError};
use crate::tree::Content;

use super::accounts::{self, Accounts};
use super::lay::Preinst;
use super::{capture, checkout, scripts};

/// What a workshop asks for. Directories are named relative to its working directory.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Lay a whole tree, or what differs from `base` over it.
    Checkout { tree: Digest, base: Option<Digest>, directory: String },
    /// Configure a laid layer.
    Configure(Configure),
    /// Run a program over a laid tree.
    Run(Run),
    /// Open a shell over what a failed step left in `scratch`.
    Enter { directory: String },
    /// Remove a directory whose files may belong to any id.
    Remove { directory: PathBuf },
}

/// A request with where it is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// The store's root.
    pub store: PathBuf,
    /// The workshop's working directory.
    pub scratch: PathBuf,
    /// Objects that the workshop's process has hashed: they are not hashed again.
    pub hashed: Vec<Digest>,
    /// What to do.
    pub request: Request,
}

/// Configuring one layer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Configure {
    /// The layer's name.
    pub layer: String,
    /// Where to work.
    pub directory: String,
    /// The parent's checkout, the uppermost directory first; empty for the root layer.
    pub lower: Vec<String>,
    /// The parent's tree.
    pub parent: Option<Digest>,
    /// The tree to configure.
    pub laid: Digest,
    /// For `SOURCE_DATE_EPOCH`.
    pub epoch: i64,
    /// Preinsts to run, in order.
    pub preinsts: Vec<Preinst>,
    /// Users and groups that have to be there.
    pub accounts: Accounts,
    /// Input of `debconf-set-selections`.
    pub debconf: String,
}

/// Running one program over a tree.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run {
    /// Where to work.
    pub directory: String,
    /// The tree's checkout, the uppermost directory first.
    pub lower: Vec<String>,
    /// For `SOURCE_DATE_EPOCH`.
    pub epoch: i64,
    /// Files to lay first: path, permission bits, content.
    pub files: Vec<(String, u16, Stored)>,
    /// The command.
    pub command: Vec<String>,
    /// Files to store afterwards.
    pub outputs: Vec<String>,
}

/// A whole object's digest and size.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    pub digest: Digest,
    pub size: u64,
}

/// What comes back, `Done` or `Failed` last.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// What is being done.
    Step(String),
    /// A line of a program's output.
    Line(String),
    /// CPU time that a step took, its programs included, in milliseconds.
    Took { step: String, milliseconds: u64 },
    /// Done: digests that the request's kind defines.
    Done(Vec<(Digest, u64)>),
    /// A step failed.
    Failed { message: String, notes: Vec<String>, hints: Vec<String>, keep: bool },
}

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum InsideError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{message}")]
    Script { message: String, notes: Vec<String> },
    #[error("{0}")]
    Accounts(String),
}

/// The first thing that the program does: serves a build's sandbox where it was started as one.
pub fn helper_main(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    sandbox::helper_main(arguments).map(answer)
}

/// Serves one task.
pub(super) fn answer(mut connection: Connection) -> ExitCode {
    let Ok(task) = connection.receive::<Task>() else { return ExitCode::FAILURE };
    let answer = match serve(&mut connection, &task) {
        Ok(digests) => Answer::Done(digests),
        Err(error) => {
            let keep = matches!(error, InsideError::Script { .. });
            let diagnostic: Diagnostic = match error {
                InsideError::Store(error) => error.into(),
                InsideError::File(error) => error.into(),
                InsideError::Script { message, notes } => {
                    Diagnostic { notes, ..Diagnostic::error(Kind::World, message) }
                }
                other => Diagnostic::error(Kind::World, other.to_string()),
            };
            let Diagnostic { message, notes, hints, .. } = diagnostic;
            Answer::Failed { message, notes, hints, keep }
        }
    };
    if connection.send(&answer).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn serve(connection: &mut Connection, task: &Task) -> Result<Vec<(Digest, u64)>, InsideError> {
    if let Request::Remove { directory } = &task.request {
        fs::remove_dir_all(directory).on("remove", directory)?;
        return Ok(Vec::new());
    }
    let store = Store::open(&task.store)?.believing(&task.hashed);
    rustix::process::chdir(&task.scratch).on("enter", &task.scratch)?;
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let mut bench = Bench { store: &store, scratch: &task.scratch, connection, spent: cpu_time() };
    match &task.request {
        Request::Checkout { tree, base, directory } => {
            let tree = store.tree(tree)?;
            let directory = Path::new(directory);
            files::make_directory(directory)?;
            match base {
                None => checkout::write_all(&store, &tree, directory)?,
                Some(base) => {
                    let base = store.tree(base)?;
                    checkout::change(&store, &base, &tree, Some(&base), directory)?;
                }
            }
            bench.took("checkout");
            Ok(Vec::new())
        }
        Request::Configure(configure) => bench.configure(configure),
        Request::Run(run) => bench.run(run),
        Request::Enter { directory } => {
            let list = files::read(Path::new(&format!("{directory}/lower.json")))?;
            let lower: Vec<String> = serde_json::from_slice(&list).unwrap_or_default();
            // The mark of the mount that was never unmounted in order; a new one is refused over it.
            let work = PathBuf::from(format!("{directory}/work"));
            fs::remove_dir_all(&work).on("remove", &work)?;
            bench.open(directory, &lower, true)?.shell()?;
            Ok(Vec::new())
        }
        Request::Remove { .. } => Ok(Vec::new()),
    }
}

/// CPU time of this process and of all that it waited for: everything inside.
fn cpu_time() -> Duration {
    // Fields 14 to 17 of proc_pid_stat(5), in hundredths of a second on every Linux.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
    Duration::from_millis(fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// One request's work.
pub(super) struct Bench<'a> {
    store: &'a Store,
    scratch: &'a Path,
    connection: &'a mut Connection,
    spent: Duration,
}

impl Bench<'_> {
    fn took(&mut self, step: &str) {
        let now = cpu_time();
        let milliseconds = now.saturating_sub(self.spent).as_millis() as u64;
        self.spent = now;
        let _ = self.connection.send(&Answer::Took { step: step.to_owned(), milliseconds });
    }

    fn step(&mut self, step: impl Into<String>) {
        let _ = self.connection.send(&Answer::Step(step.into()));
    }

    /// Mounts the overlay of a step: `DIRECTORY/lay` and `lower` under `DIRECTORY/upper`, on `DIRECTORY/root`.
    fn open(&self, directory: &str, lower: &[String], has_lay: bool) -> Result<Room, InsideError> {
        let at = |name: &str| PathBuf::from(format!("{directory}/{name}"));
        for name in ["upper", "work", "root"] {
            files::make_directory(&at(name))?;
        }
        let own = has_lay.then(|| at("lay"));
        let lower: Vec<PathBuf> = own.into_iter().chain(lower.iter().map(PathBuf::from)).collect();
        let overlay = Overlay { lower, upper: at("upper"), work: at("work") };
        overlay.mount(&at("root"))?;
        Ok(Room::open(&self.scratch.join(at("root")))?)
    }

    fn configure(&mut self, request: &Configure) -> Result<Vec<(Digest, u64)>, InsideError> {
        let directory = &request.directory;
        let lay = PathBuf::from(format!("{directory}/lay"));
        let parent = request.parent.as_ref().map(|digest| self.store.tree(digest)).transpose()?;
        let laid = self.store.tree(&request.laid)?;
        self.step("laying files");
        files::make_directory(&lay)?;
        match &parent {
            None => checkout::write_all(self.store, &laid, &lay)?,
            Some(parent) => checkout::change(self.store, parent, &laid, Some(parent), &lay)?,
        }
        self.took("checkout");

        let lower_list = serde_json::to_vec(&request.lower).unwrap_or_default();
        files::write_atomically(Path::new(&format!("{directory}/lower.json")), &lower_list)?;
        let room = self.open(directory, &request.lower, true)?;
        self.step("configuring");
        let connection = &mut *self.connection;
        scripts::configure(&room, request, &mut |line| {
            let _ = connection.send(&Answer::Line(line.to_owned()));
        })?;
        drop(room);
        self.took("configure");

        self.step("capturing");
        let upper = PathBuf::from(format!("{directory}/upper"));
        let (tree, _) = capture::capture(self.store, &laid, &upper, &request.layer)?;
        let settled = super::settle::settle(tree.clone(), request.epoch, |bytes| {
            Ok::<_, StoreError>(Content::whole(self.store.put(bytes)?, bytes.len() as u64))
        })?;
        let digest = self.store.put_tree(&settled)?;
        self.took("capture");

        // From here on upper and lay together are a checkout of the settled tree: a child's lower directories.
        checkout::change(self.store, &tree, &settled, Some(&laid), &upper)?;
        let work = PathBuf::from(format!("{directory}/work"));
        fs::remove_dir_all(&work).on("remove", &work)?;
        self.took("checkout");
        let objects: BTreeSet<Digest> =
            settled.iter().filter_map(|(_, node)| node.content()).map(|content| content.place.object).collect();
        Ok(std::iter::once(digest).chain(objects).map(|digest| (digest, 0)).collect())
    }

    fn run(&mut self, request: &Run) -> Result<Vec<(Digest, u64)>, InsideError> {
        let room = self.open(&request.directory, &request.lower, false)?;
        for (path, mode, content) in &request.files {
            let bytes = self.store.read(&Content::whole(content.digest, content.size))?;
            room.write(path, *mode, &bytes)?;
        }
        self.step(format!("running {}", request.command.join(" ")));
        let program = Program {
            command: request.command.clone(),
            environment: BTreeMap::from([("SOURCE_DATE_EPOCH".to_owned(), request.epoch.to_string())]),
            limit: Duration::from_secs(1800),
        };
        let connection = &mut *self.connection;
        let ended = room.run(&program, &mut |line| {
            let _ = connection.send(&Answer::Line(line.to_owned()));
        })?;
        if let Some(failure) = ended.failure {
            let message = format!("`{}` failed: {failure}", request.command.join(" "));
            return Err(InsideError::Script { message, notes: scripts::tail(&ended.output) });
        }
        let mut outputs = Vec::new();
        for path in &request.outputs {
            let place = room.root().join(path);
            let mut writer = self.store.writer()?;
            let mut file = room.open_file(path, OFlags::RDONLY, 0)?;
            io::copy(&mut file, &mut writer).on("read", &place)?;
            outputs.push(writer.finish()?);
        }
        drop(room);
        self.took("run");
        Ok(outputs)
    }
}

/// Adds the accounts to the files of the root.
pub(super) fn add_accounts(room: &Room, wanted: &Accounts, epoch: i64) -> Result<(), InsideError> {
    if wanted.users.is_empty() && wanted.groups.is_empty() {
        return Ok(());
    }
    let read = |name: &str| -> Result<Option<String>, FileError> {
        let bytes = room.read(&format!("etc/{name}"))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let mut files = accounts::Files {
        passwd: read("passwd")?.unwrap_or_default(),
        group: read("group")?.unwrap_or_default(),
        shadow: read("shadow")?,
        gshadow: read("gshadow")?,
    };
    accounts::add(&mut files, wanted, epoch).map_err(InsideError::Accounts)?;
    room.write("etc/passwd", 0o644, files.passwd.as_bytes())?;
    room.write("etc/group", 0o644, files.group.as_bytes())?;
    for (name, text) in [("etc/shadow", files.shadow), ("etc/gshadow", files.gshadow)] {
        if let Some(text) = text {
            room.write(name, 0o640, text.as_bytes())?;
        }
    }
    Ok(())
}
