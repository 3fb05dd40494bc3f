//! Running programs with another root directory, without network, as root or as an ordinary user.
//!
//! Owns the namespaces, the id maps, what is mounted around a root, the environment that programs see, and their
//! ends: bounded output, time limits, nothing left running. Knows no package: what is run is the caller's business.
//! References: namespaces(7), user_namespaces(7), newuidmap(1), subuid(5), pivot_root(2), capabilities(7).
//!
//! A [`Sandbox`] says *how* isolation is had here. [`Sandbox::start`] starts our own executable once more as process
//! 1 of fresh namespaces: the [`Inside`]. There, root of the namespace owns ids 0 to 65535 whoever started the
//! build, so a tree laid or captured inside has the same owners in both modes. The inside program calls
//! [`helper_main`] first, answers requests over its standard input, and runs programs with [`Room`].

mod identity;
mod inside;
mod root;
mod spawn;
#[cfg(test)]
mod tests;

pub use identity::{IdRange, Mode};
pub use inside::{Connection, Inside, helper_main};
pub use root::{Ended, Overlay, Program, Room, RunError};

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::report::{Diagnostic, Kind};

/// How to start our own executable as a helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// The executable.
    pub program: PathBuf,
    /// What stands before the helper's own arguments.
    pub arguments: Vec<OsString>,
}

impl Helper {
    /// The running executable.
    ///
    /// # Errors
    /// When the kernel does not tell where it is.
    pub fn own() -> Result<Self, Diagnostic> {
        let program = std::env::current_exe().map_err(|error| {
            Diagnostic::error(Kind::World, format!("cannot find rolecast's own executable: {error}"))
        })?;
        Ok(Self { program, arguments: Vec::new() })
    }
}

/// A way to isolate programs that works on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    mode: Mode,
    helper: Helper,
}

impl Sandbox {
    /// Finds the mode that works here and tries it once, overlay mount in `scratch` included.
    ///
    /// # Errors
    /// When none does: why not, and what to do about it.
    pub fn probe(helper: Helper, scratch: &Path) -> Result<Self, Diagnostic> {
        let mode = Mode::of_this_process()?;
        let sandbox = Self { mode, helper };
        inside::probe(&sandbox, scratch)?;
        Ok(sandbox)
    }

    /// The mode.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Starts our executable as process 1 of fresh namespaces. `purpose` is told to it.
    ///
    /// # Errors
    /// When a namespace or an id map is refused.
    pub fn start(&self, purpose: &str) -> Result<Inside, Diagnostic> {
        Inside::start(self, purpose)
    }
}
