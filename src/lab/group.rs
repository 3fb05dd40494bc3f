//! A control group that holds every process of one machine.
//!
//! Owns finding the unified hierarchy, making, emptying and removing a group. It is how a machine's power is cut: all
//! its processes end at once, whoever started them. Reference: the kernel's Documentation/admin-guide/cgroup-v2.rst.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::report::{Diagnostic, Kind};
use crate::sys::files::{self, Context as _};

use super::tools;

/// Longest wait for killed processes to be gone; milliseconds, unless a disk stands still.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// A group, there or not.
#[derive(Clone, Debug)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// The group `name` under the root of the unified hierarchy.
    ///
    /// # Errors
    /// When this host has none mounted.
    pub fn at(name: &str) -> Result<Self, Diagnostic> {
        let mounts = files::read(Path::new("/proc/mounts"))?;
        let mounts = String::from_utf8_lossy(&mounts).into_owned();
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let unified = fields.into_iter().find(|fields| fields.get(2) == Some(&"cgroup2"));
        let root = unified.and_then(|fields| fields.get(1).map(PathBuf::from)).ok_or_else(|| {
            Diagnostic::error(Kind::World, "no unified control group hierarchy is mounted")
                .hint("`mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified`")
        })?;
        Ok(Self { path: root.join(name) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn make(&self) -> Result<(), Diagnostic> {
        files::make_directory(&self.path).map_err(Diagnostic::from)
    }

    /// Ends every process in it and under it, waits until they are gone, and removes it.
    ///
    /// # Errors
    /// When something is left.
    pub fn remove(&self) -> Result<(), Diagnostic> {
        if !self.path.exists() {
            return Ok(());
        }
        let kill = self.path.join("cgroup.kill");
        tools::wait_for(&format!("the processes of `{}` to end", self.path.display()), GONE_WITHIN, || {
            match fs::write(&kill, "1") {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).on("write", &kill)?,
                _ if self.is_populated() => return Ok(None),
                _ => {}
            }
            match remove_tree(&self.path) {
                Ok(()) => Ok(Some(())),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(())),
                // Someone who was about to join has joined.
                Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(None),
                Err(error) => Err(error).on("remove", &self.path)?,
            }
        })
    }

    /// Whether any process is in it or under it.
    pub fn is_populated(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "populated 1")
    }

    /// The processes in the group under it, as the host numbers them.
    pub fn processes(&self, under: &str) -> Vec<i32> {
        let listed = fs::read_to_string(self.path.join(under).join("cgroup.procs")).unwrap_or_default();
        listed.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// User and system seconds of everything that ever ran in it and under it.
    pub fn processor_seconds(&self) -> f64 {
        let stat = fs::read_to_string(self.path.join("cpu.stat")).unwrap_or_default();
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse::<f64>().ok());
        usage.unwrap_or_default() / 1e6
    }
}

/// Removes a group and those under it, deepest first. Only empty ones can be removed.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
