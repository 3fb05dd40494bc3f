//! Objects by digest, results of steps by key, pouring of recipes.
//!
//! Owns the directory that outlives a build: what is written there, how it is shared between builds at once, and
//! what may be collected. Never trusts a name: an object is what its digest says. Knows no package and no image.
//!
//! ```text
//! format                     one line: the layout's version
//! lock                       locked shared by builds, alone by a collection
//! objects/ab/cdef…           an object, named by its SHA-256, mode 0444
//! results/STEP/KEY           a step's result: a line with the digest of the rest; its inputs, the objects
//!                            it needs, its value
//! scratch/NAME/              a running build's working directory, locked by it
//! ```

mod collect;
mod elsewhere;
mod integrity;
mod object;
mod pour;
mod result;
mod scratch;

pub use collect::{Collected, Stats};
pub use elsewhere::{CONNECTIONS, Elsewhere, at_once};
pub use integrity::ContentReader;
pub use object::{ObjectWriter, ReadRange};
pub use pour::{Poured, Wanted};
pub use result::{Miss, Parcel};
pub use scratch::Scratch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind, Report};
use crate::sys::files::{self, Context as _, FileError};

/// The layout's version; a store of another one is refused.
const FORMAT: &str = "rolecast-store 1\n";

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system.
    #[error(transparent)]
    File(#[from] FileError),
    /// A directory that holds something else, or a newer layout.
    #[error("`{}` is no rolecast store of this version", .0.display())]
    NotAStore(PathBuf),
    /// A place that belongs to another user.
    #[error("`{}` belongs to user {owner}, and this is user {user}", path.display())]
    Foreign {
        /// The place.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// A place that other users can write to.
    #[error("other users can write to `{}`: its mode is {mode:04o}", path.display())]
    Open {
        /// The place.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// An object that should be there.
    #[error("the store lacks the object {0}")]
    Missing(Digest),
    /// An object whose bytes are not what its name says.
    #[error("the object {0} in the store was altered: its bytes do not match its name")]
    Altered(Digest),
    /// A file that comes out otherwise than it was, of objects that are what their names say.
    #[error("a file comes out otherwise than it was when its recipe was kept")]
    Unlike,
    /// A tree that does not read.
    #[error("the stored tree {0} cannot be read: {1}")]
    Tree(Digest, crate::tree::ParseDumpError),
    /// What came from elsewhere may not be believed.
    #[error("{}", .0.message)]
    Elsewhere(Box<Diagnostic>),
}

impl From<StoreError> for Report {
    fn from(error: StoreError) -> Self {
        Diagnostic::from(error).into()
    }
}

impl From<StoreError> for Diagnostic {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::File(error) => error.into(),
            StoreError::NotAStore(_) => {
                Self::error(Kind::World, message).hint("name an empty directory or an existing store with `--store`")
            }
            StoreError::Foreign { .. } => Self::error(Kind::Trust, message)
                .note("the results of another user's builds are not trusted: they would become your images")
                .hint("name a store of your own with `--store`, or make this one yours: `chown --recursive`"),
            StoreError::Open { ref path, .. } => Self::error(Kind::Trust, message)
                .note("what is built from a store is only as trustworthy as everybody who can write there")
                .hint(format!("take that away, when you trust what is in it: `chmod go-w {}`", path.display()))
                .hint("or name another store with `--store`"),
            StoreError::Missing(_) => {
                Self::error(Kind::World, message).hint("run the build again: what is missing is made or fetched anew")
            }
            StoreError::Altered(_) => Self::error(Kind::Trust, message)
                .note("a disk fault or another program changed it; it was taken away")
                .hint("run the build again: it is made or fetched anew"),
            StoreError::Tree(..) | StoreError::Unlike => Self::error(Kind::Internal, message),
            StoreError::Elsewhere(diagnostic) => *diagnostic,
        }
    }
}

/// An open store. While it is open, nothing that it holds is collected.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    lock: File,
    /// Objects that this process wrote or hashed.
    verified: Mutex<BTreeSet<Digest>>,
    /// Objects that were found altered and taken away.
    discarded: Mutex<BTreeSet<Digest>>,
    /// Results that this process found or recorded: step and key.
    used: Mutex<BTreeSet<(String, Digest)>>,
    /// Where what is not here may be had.
    elsewhere: Option<Arc<dyn Elsewhere>>,
    /// Objects on their way from there, each held by who brings it.
    coming: Mutex<BTreeMap<Digest, Arc<Mutex<()>>>>,
}

impl Store {
    /// Opens the store at `root`, or makes one where there is nothing or an empty directory. Waits while another
    /// process collects.
    ///
    /// # Errors
    /// When the place cannot be written, holds something else, or is another user's.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        integrity::make_room(root)?;
        let root = fs::canonicalize(root).on("find", root)?;
        integrity::check_owner(&root)?;
        let stamp = root.join("format");
        match fs::read_to_string(&stamp) {
            Ok(format) if format == FORMAT => {}
            Ok(_) => return Err(StoreError::NotAStore(root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut entries = fs::read_dir(&root).on("read", &root)?;
                // Another build may be making the same store right now: its pending files start with a dot.
                let foreign = |name: std::ffi::OsString| {
                    !matches!(name.to_str(), Some("lock" | "objects" | "results" | "scratch"))
                        && !name.to_string_lossy().starts_with(".format.")
                };
                if entries.any(|entry| entry.is_ok_and(|entry| foreign(entry.file_name()))) {
                    return Err(StoreError::NotAStore(root));
                }
                files::write_atomically(&stamp, FORMAT.as_bytes())?;
            }
            Err(error) => return Err(error).on("read", &stamp)?,
        }
        for room in ["objects", "results", "scratch"] {
            integrity::make_room(&root.join(room))?;
            integrity::check_owner(&root.join(room))?;
        }
        files::spread(&root.join("scratch"));
        let path = root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).on("open", &path)?;
        lock.lock_shared().on("lock", &path)?;
        let store = Self {
            root,
            lock,
            verified: Mutex::default(),
            discarded: Mutex::default(),
            used: Mutex::default(),
            elsewhere: None,
            coming: Mutex::default(),
        };
        store.sweep_scratch()?;
        Ok(store)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The default place: `$XDG_CACHE_HOME/rolecast`, else `~/.cache/rolecast`; of `root` without a home,
    /// `/var/cache/rolecast` (XDG Base Directory Specification).
    pub fn default_root(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
        let set = |name| variable(name).filter(|value| value.starts_with('/'));
        match (set("XDG_CACHE_HOME"), set("HOME")) {
            (Some(cache), _) => PathBuf::from(cache).join("rolecast"),
            (None, Some(home)) => PathBuf::from(home).join(".cache/rolecast"),
            (None, None) => PathBuf::from("/var/cache/rolecast"),
        }
    }
}
