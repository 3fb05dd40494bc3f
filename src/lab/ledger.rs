//! What a lab has made, on disk: enough for another process to go on with it, and to remove it after a crash.
//!
//! Owns `lab.json` in the lab's directory. Everything that a lab makes outside of that directory has a name, and each
//! name follows from this file, which is written before the thing is made: network namespaces, and one control group a
//! machine, which holds all of its processes. Mounts and loop devices belong to a mount namespace that ends with the
//! machine's processes, so they need no entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind};
use crate::sys::files::{self, Context as _};

use super::machine::{BackEnd, Identity};

/// The version of the form.
const FORMAT: u32 = 1;

/// A lab as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// [`FORMAT`].
    format: u32,
    /// Begins the name of everything outside of the directory: `rolecast-`, the cluster's name, `-` and what tells this lab
    /// from others of it.
    pub id: String,
    /// The cluster's name.
    pub cluster: String,
    /// The image file, absolute.
    pub image: PathBuf,
    /// Where the role images are.
    pub outputs: PathBuf,
    /// What machines are made of.
    pub back_end: BackEnd,
    /// Prefix length of the network.
    pub prefix: u8,
    /// Machines, in the order of the image file.
    pub nodes: Vec<Node>,
    /// Who is plugged into the network, by name: machines and stations.
    pub ports: BTreeMap<String, Port>,
    /// Clients on the network, by name.
    pub stations: BTreeMap<String, Ipv4Addr>,
}

/// A machine as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What it is.
    pub identity: Identity,
    /// Size of its state file system in bytes.
    pub state_size: u64,
    /// Size of its database's file system in bytes; none on a machine without a database.
    pub database_size: Option<u64>,
}

/// A port of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its number; names the interface.
    pub number: u32,
    /// The segment that it is plugged into; 0 is where everyone begins.
    pub segment: u32,
    /// Ports with this mark do not hear one another.
    pub isolated: bool,
}

/// The file, and the value that it holds.
#[derive(Debug)]
pub struct Ledger {
    directory: PathBuf,
    written: Mutex<Arc<Written>>,
}

impl Written {
    /// A lab of nothing yet.
    pub fn new(
        directory: &Path,
        cluster: &str,
        image: PathBuf,
        outputs: PathBuf,
        back_end: BackEnd,
        prefix: u8,
    ) -> Self {
        // Two labs of one cluster may run beside each other: the directory tells them apart.
        let place = Digest::of(directory.as_os_str().as_encoded_bytes()).to_string();
        Self {
            format: FORMAT,
            id: format!("rolecast-{cluster}-{}", &place[..6]),
            cluster: cluster.to_owned(),
            image,
            outputs,
            back_end,
            prefix,
            nodes: Vec::new(),
            ports: BTreeMap::new(),
            stations: BTreeMap::new(),
        }
    }

    /// The control group of a machine, under the root of the unified hierarchy.
    pub fn group(&self, node: &str) -> String {
        format!("{}/{node}", self.id)
    }

    /// The network namespace that holds the bridges.
    pub fn switch_namespace(&self) -> String {
        self.id.clone()
    }

    /// The network namespace of a machine.
    pub fn node_namespace(&self, node: &str) -> String {
        format!("{}-n-{node}", self.id)
    }

    /// The network namespace of a client.
    pub fn station_namespace(&self, station: &str) -> String {
        format!("{}-s-{station}", self.id)
    }

    /// Every network namespace that it may have made.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let nodes = self.nodes.iter().map(|node| self.node_namespace(&node.identity.name));
        let stations = self.stations.keys().map(|station| self.station_namespace(station));
        nodes.chain(stations).chain([self.switch_namespace()]).collect()
    }
}

impl Ledger {
    /// Writes down a lab that is about to be made in `directory`, which must not hold one.
    ///
    /// # Errors
    /// When there is one, or the directory cannot be written.
    pub fn create(directory: &Path, written: Written) -> Result<Self, Diagnostic> {
        if path(directory).exists() {
            return Err(Diagnostic::error(Kind::World, format!("there is a lab in `{}`", directory.display()))
                .hint("end it with `rolecast lab down`, or name another place with `--directory`"));
        }
        // `down` removes what a lab keeps there: it must not be anybody else's.
        if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Diagnostic::error(Kind::World, format!("`{}` is not empty", directory.display()))
                .hint("remove what an earlier lab kept there, or name another place with `--directory`"));
        }
        if let Some(parent) = directory.parent() {
            files::make_directory(parent)?;
        }
        // Secrets and the images' own files lie under it.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.on("make the directory", directory)?;
        let ledger = Self { directory: directory.to_owned(), written: Mutex::new(Arc::new(written)) };
        ledger.save(&ledger.read())?;
        Ok(ledger)
    }

    /// Reads the lab in `directory`; none when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(directory: &Path) -> Result<Option<Self>, Diagnostic> {
        let path = path(directory);
        if !path.exists() {
            return Ok(None);
        }
        let written: Written = serde_json::from_slice(&files::read(&path)?).map_err(|error| {
            Diagnostic::error(Kind::World, format!("`{}` cannot be understood: {error}", path.display()))
                .note("another version of rolecast may have written it")
        })?;
        Ok(Some(Self { directory: directory.to_owned(), written: Mutex::new(Arc::new(written)) }))
    }

    /// The lab's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory of a machine.
    pub fn node_directory(&self, node: &str) -> PathBuf {
        self.directory.join("nodes").join(node)
    }

    /// What is written now.
    pub fn read(&self) -> Arc<Written> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Written>> {
        self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes what is written, on disk first.
    ///
    /// # Errors
    /// When it cannot be written; nothing is changed then.
    pub fn change<T>(&self, change: impl FnOnce(&mut Written) -> T) -> Result<T, Diagnostic> {
        let mut written = self.lock();
        let mut next = Written::clone(&written);
        let result = change(&mut next);
        if next != **written {
            self.save(&next)?;
            *written = Arc::new(next);
        }
        Ok(result)
    }

    fn save(&self, written: &Written) -> Result<(), Diagnostic> {
        // A value of plain fields always serializes.
        let text = serde_json::to_string_pretty(written).unwrap_or_default();
        files::write_atomically(&path(&self.directory), (text + "\n").as_bytes()).map_err(Diagnostic::from)
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("lab.json")
}
