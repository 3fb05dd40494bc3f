//! The agent: the executable that is laid into every root.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind, Report};
use crate::store::Store;
use crate::sys::files::{self, Context as _, FileError};
use crate::tree::Content;

/// An executable for the machines, hashed and not yet in a store.
#[derive(Clone, Debug)]
pub struct Agent {
    path: PathBuf,
    digest: Digest,
    /// Bytes.
    size: u64,
}

impl Agent {
    /// The executable at `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn at(path: PathBuf) -> Result<Self, FileError> {
        let file = files::open(&path)?;
        let size = file.metadata().on("look at", &path)?.len();
        let digest = Digest::of_reader(&file, &|_| {}).on("read", &path)?;
        Ok(Self { path, digest, size })
    }

    /// Its SHA-256.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its bytes in `store`, put there when they are not.
    pub(super) fn content(&self, store: &Store) -> Result<Content, Report> {
        if !store.has(&self.digest) {
            let bytes = files::read(&self.path).map_err(Diagnostic::from)?;
            if store.put(&bytes)? != self.digest {
                let message = format!("`{}` was changed while it was used", self.path.display());
                return Err(Diagnostic::error(Kind::World, message).hint("build again").into());
            }
        }
        Ok(Content::whole(self.digest, self.size))
    }
}
