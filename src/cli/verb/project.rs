//! What several verbs begin with: the project read, the lock read.

use std::path::Path;
use std::sync::Arc;

use crate::cli::settings::ImagePath;
use crate::lock::{self, Lock};
use crate::report::{Report, Source};
use crate::spec::{self, Spec, sources::Sources};
use crate::sys::files;

/// A project and one of its image files, read and checked.
pub struct Project {
    /// Where it is.
    pub path: ImagePath,
    /// What is written.
    pub spec: Spec,
    /// Warnings of the check.
    pub warnings: Report,
}

impl Project {
    /// Reads and checks the image file at `image` with all that it uses.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn read(image: &Path) -> Result<Self, Report> {
        let path = ImagePath::resolve(image)?;
        let sources = Sources::read(&path.project)?;
        let (spec, warnings) = spec::read(&sources, &path.file)?;
        Ok(Self { path, spec, warnings })
    }

    /// The lock beside the image file, when there is one.
    ///
    /// # Errors
    /// When it cannot be read, or is no lock.
    pub fn lock(&self) -> Result<Option<Lock>, Report> {
        let path = self.path.lock();
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::read(&path).map_err(crate::report::Diagnostic::from)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        lock::read(&Arc::new(Source { path: self.path.lock_name(), text })).map(Some)
    }
}
