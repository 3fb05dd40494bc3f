//! What a lab has to know of a role's disk image: where its root lies in it, and which paths are state.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::image::opened::Opened;
use crate::report::{Diagnostic, Kind};
use crate::seed;
use crate::spec::{Role, Spec};

/// A role's disk image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleImage {
    /// The raw disk.
    pub disk: PathBuf,
    /// Where the root begins in it, in bytes.
    pub offset: u64,
    /// The root's partition in bytes.
    pub size: u64,
    /// The paths that survive a reboot.
    pub state: Vec<String>,
    table: Table,
}

/// The part of the image's own table that is used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Table {
    image: String,
    late: Vec<Late>,
    state: Vec<String>,
}

/// A file that a seed brings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Late {
    path: String,
}

impl RoleImage {
    /// Opens the image of `role` in `outputs`.
    ///
    /// # Errors
    /// When it was not built, or is no image of rolecast.
    pub fn open(outputs: &Path, role: &str) -> Result<Self, Diagnostic> {
        let disk = outputs.join(role).join(format!("{role}.raw"));
        if !disk.is_file() {
            let message = format!("there is no disk image of role `{role}`: `{}`", disk.display());
            return Err(Diagnostic::error(Kind::Input, message)
                .hint(format!("build it: `rolecast build IMAGE --role {role} --format disk`"))
                .hint("or name the directory that holds it with `--output`"));
        }
        let broken = |why: String| {
            Diagnostic::error(Kind::Input, format!("`{}` is no disk image of rolecast", disk.display())).note(why)
        };
        let mut opened = Opened::open(&disk).map_err(|report| {
            let why = report.diagnostics.into_iter().next().map(|first| first.message);
            broken(why.unwrap_or_default())
        })?;
        let table = opened.bytes("usr/lib/rolecast/image.json").ok_or_else(|| broken("it has no table".to_owned()))?;
        let table: Table = serde_json::from_slice(&table).map_err(|error| broken(error.to_string()))?;
        let (offset, size) = opened.root_range;
        Ok(Self { offset, size, state: table.state.clone(), disk, table })
    }

    /// Makes sure that seeds planted from `spec` are for this image.
    ///
    /// # Errors
    /// When the image was built from another image file, or from another state of it.
    pub fn fits(&self, spec: &Spec, role: &Role) -> Result<(), Diagnostic> {
        let now = seed::late_files(spec, role).into_iter().map(|file| file.path);
        if self.table.image == spec.name && now.eq(self.table.late.iter().map(|late| late.path.clone())) {
            return Ok(());
        }
        let message = format!("`{}` was built from another state of the image file", self.disk.display());
        Err(Diagnostic::error(Kind::Input, message)
            .note(format!("it is of `{}`, and waits for other files than seeds bring now", self.table.image))
            .hint("`rolecast build` it again"))
    }
}
