//! The hook with which tests kill the join at a step.
//!
//! `ROLECAST_JOIN_KILL_AT` in the environment or the file [`FILE`] (root's, in memory) names `STEP` or `STEP:after`: the
//! process kills itself right before or right after what that step does first, once. A test then sees that the next run
//! finishes the job. Nothing else reads or writes it.

use std::path::{Path, PathBuf};

/// Where a step can be named; removed before the process dies.
pub const FILE: &str = "/run/rolecast/kill-at";

/// Which side of a step's act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Right before it.
    Before,
    /// Right after it.
    After,
}

/// The hook.
#[derive(Clone, Debug)]
pub struct Hook {
    environment: Option<String>,
    file: PathBuf,
}

impl Hook {
    /// The hook of this process.
    pub fn new() -> Self {
        Self { environment: std::env::var("ROLECAST_JOIN_KILL_AT").ok(), file: PathBuf::from(FILE) }
    }

    /// Kills the process if it is to die here.
    pub fn pass(&self, step: &str, side: Side) {
        if !self.names(step, side) {
            return;
        }
        let _ = std::fs::remove_file(&self.file);
        // As a power failure would: no destructor, no buffer written out.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }

    fn names(&self, step: &str, side: Side) -> bool {
        let wanted = match side {
            Side::Before => step.to_owned(),
            Side::After => format!("{step}:after"),
        };
        let file = read(&self.file);
        [self.environment.as_deref(), file.as_deref()].into_iter().flatten().any(|named| named.trim() == wanted)
    }
}

impl Default for Hook {
    fn default() -> Self {
        Self::new()
    }
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_named_by_file_or_environment() {
        let directory = tempfile::tempdir().unwrap();
        let hook = Hook { environment: None, file: directory.path().join("kill-at") };
        assert!(!hook.names("schema", Side::Before));
        std::fs::write(&hook.file, "schema:after\n").unwrap();
        assert!(hook.names("schema", Side::After) && !hook.names("schema", Side::Before));
        let hook = Hook { environment: Some("schema".into()), ..hook };
        assert!(hook.names("schema", Side::Before) && !hook.names("schem", Side::Before));
    }
}
