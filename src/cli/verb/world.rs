//! What a verb that fetches works with: store, network, mirrors, clock; and locking with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::archive::{self, Access, Client, Mirrors, Patience, Pinned};
use crate::cli::args::MirrorArguments;
use crate::cli::settings::{self, Settings};
use crate::lock::{self, Lock, Update};
use crate::remote::Remote;
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::spec::Archive;
use crate::store::Store;
use crate::sys::files;

use super::project::Project;

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The world outside of a project.
pub struct World {
    /// The store.
    pub store: Store,
    client: Client,
    mirrors: Mirrors<'static>,
    /// Seconds since the Epoch.
    pub now: i64,
    offline: bool,
}

impl World {
    /// Opens the store and learns the mirrors of `archives`, which are an image file's.
    ///
    /// # Errors
    /// When the store cannot be opened, a mirror or the file of certificate authorities is not written as one, a mirror is
    /// of no archive, or there is no such vendored directory.
    pub fn open(
        settings: &Settings,
        arguments: &MirrorArguments,
        archives: &BTreeMap<String, Archive>,
    ) -> Result<Self, Report> {
        let given = settings::mirrors(arguments)?;
        if let Some((id, url)) = given.iter().find(|(id, _)| !archives.contains_key(*id)) {
            let names: Vec<&str> = archives.keys().map(String::as_str).collect();
            let message = format!("`--mirror {id}={url}` is for no archive of this image file");
            return Err(Diagnostic::error(Kind::Usage, message)
                .note(format!("its archives: {}", names.join(", ")))
                .into());
        }
        if let Some(directory) = arguments.vendor.as_deref().filter(|directory| !directory.is_dir()) {
            let message = format!("`--vendor {}` names no directory", directory.display());
            return Err(Diagnostic::error(Kind::Usage, message)
                .hint("fill one with `rolecast vendor DIR IMAGE`, where mirrors can be reached")
                .into());
        }
        let store = Store::open(&settings.store).map_err(Diagnostic::from)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        let patience = Patience::default();
        let client = match settings::authorities()? {
            Some(bundle) => Client::trusting(patience, &bundle),
            None => Client::new(patience),
        };
        Ok(Self {
            store,
            client,
            mirrors: Mirrors::new(given, Box::new(settings::variable), PathBuf::from("/etc/apt"))
                .vendored(arguments.vendor.as_deref().map(absolute)),
            now,
            offline: arguments.offline,
        })
    }

    /// The same world, whose store borrows from a remote.
    pub fn borrowing(self, remote: Option<&Arc<Remote>>) -> Self {
        match remote {
            Some(remote) => Self { store: self.store.borrowing(remote.clone()), ..self },
            None => self,
        }
    }

    /// What the archive room works with; `progress` is told of bytes as they come.
    pub fn access<'a>(&'a self, progress: &'a (dyn Fn(u64) + Sync)) -> Access<'a> {
        self.access_pinned(progress, Pinned::Nothing)
    }

    /// As [`World::access`], with Releases that a lock pins believed after their validity too.
    pub fn access_pinned<'a>(&'a self, progress: &'a (dyn Fn(u64) + Sync), pinned: Pinned<'a>) -> Access<'a> {
        Access {
            store: &self.store,
            client: &self.client,
            mirrors: &self.mirrors,
            now: self.now,
            offline: self.offline,
            pinned,
            progress,
        }
    }

    /// Answers the project's Spec with a lock, and writes it beside the image file.
    ///
    /// # Errors
    /// When an archive cannot be verified, or there is no selection.
    pub fn relock(
        &self,
        project: &Project,
        previous: Option<&Lock>,
        update: &Update,
        progress: &dyn Progress,
    ) -> Result<(Lock, Report), Report> {
        let task = progress.begin("read the archives", 0, Unit::Bytes);
        let advance = |bytes| task.advance(bytes);
        let spec = &project.spec;
        // Who asks for newer packages wants a Release that is valid now.
        let pinned = match (previous, update) {
            (Some(previous), Update::Nothing) => Pinned::Archives(&previous.archives),
            _ => Pinned::Nothing,
        };
        let access = self.access_pinned(&advance, pinned);
        let loaded = archive::open(&spec.archives, &spec.distribution.architecture, &access)?;
        drop(task);
        let task = progress.begin("choose the packages", 0, Unit::Things);
        let lock = lock::resolve(spec, &loaded.universe, loaded.archives, previous, update)?;
        drop(task);
        // A million pieces of memory: whoever only locks has ended before they are given back.
        rayon::spawn(move || drop(loaded.universe));
        files::write_atomically(&project.path.lock(), lock::write(&lock).as_bytes()).map_err(Diagnostic::from)?;
        Ok((lock, loaded.warnings))
    }
}
