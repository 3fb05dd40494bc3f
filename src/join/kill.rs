//! The hook with which tests kill the join at a step.
//!
//! `ROLECAST_JOIN_KILL_AT` in the environment or the file [`FILE`] (root's, in memory) names `STEP` or `STEP:after`, in
//! the file one a line: the process kills itself right before or right after what that step does first, once for each
//! line. A test then sees that the next run finishes the job. Nothing else reads or writes it.

use std::path::PathBuf;

/// Where steps can be named, one a line; a line is removed before the process dies of it.
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
        if !self.takes(step, side) {
            return;
        }
        // As a power failure would: no destructor, no buffer written out.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }

    /// Whether a step is named; the file's line that named it is gone afterwards.
    fn takes(&self, step: &str, side: Side) -> bool {
        let wanted = match side {
            Side::Before => step.to_owned(),
            Side::After => format!("{step}:after"),
        };
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let others: Vec<&str> = text.lines().filter(|line| line.trim() != wanted).collect();
        if others.len() == text.lines().count() {
            return self.environment.as_deref().is_some_and(|named| named.trim() == wanted);
        }
        let _ = match others.as_slice() {
            [] => std::fs::remove_file(&self.file),
            others => std::fs::write(&self.file, others.join("\n") + "\n"),
        };
        true
    }
}

impl Default for Hook {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_named_by_file_or_environment() {
        let directory = tempfile::tempdir().unwrap();
        let hook = Hook { environment: None, file: directory.path().join("kill-at") };
        assert!(!hook.takes("schema", Side::Before));
        std::fs::write(&hook.file, "proxy\nschema:after\njoined\n").unwrap();
        assert!(!hook.takes("schema", Side::Before));
        assert!(hook.takes("schema", Side::After) && !hook.takes("schema", Side::After), "once");
        assert_eq!(std::fs::read_to_string(&hook.file).unwrap(), "proxy\njoined\n");
        assert!(hook.takes("proxy", Side::Before) && hook.takes("joined", Side::Before));
        assert!(!hook.file.exists());
        let hook = Hook { environment: Some("schema".into()), ..hook };
        assert!(hook.takes("schema", Side::Before) && !hook.takes("schem", Side::Before));
    }
}
