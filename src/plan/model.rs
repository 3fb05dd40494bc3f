//! What a plan holds.

use serde::{Deserialize, Serialize};

use crate::digest::Key;
pub use crate::lock::LockedPackage;
pub use crate::spec::{
    Before, BeforeFile, Body, Debconf, Format, Group, OverlayFile, Permission, State, Units, User, Written,
};

/// The time of everything that a build makes itself, in seconds since the Epoch: 2026-01-01T00:00:00Z. Programs are
/// told it as `SOURCE_DATE_EPOCH`, and no file of a root is newer. Changing it is a format break: it is constant so
/// that a new lock leaves alone what it did not change.
pub const EPOCH: i64 = 1_767_225_600;

/// Version of unpack, configure and settle: changes with any change to what they make of the same inputs (a format break).
pub const CONFIGURE_VERSION: u32 = 3;

/// Everything that has to be done, in an order in which it can be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Layers: parents first, the tool layer last.
    pub layers: Vec<LayerStep>,
    /// Index of the tool layer.
    pub tools: usize,
    /// Roles to build.
    pub roles: Vec<RolePlan>,
}

/// Unpacking and configuring one layer's packages over its parent.
#[derive(Clone, Debug)]
pub struct LayerStep {
    /// Name of the layer's profile; `tools` for the tool layer.
    pub name: String,
    /// Index of the parent's step in the plan.
    pub parent: Option<usize>,
    /// Packages to unpack and configure.
    pub packages: Vec<LockedPackage>,
    /// What has to be there first.
    pub before: Before,
    /// Seconds since the Epoch that programs are told for `SOURCE_DATE_EPOCH`, and that new files get.
    pub epoch: i64,
    /// What decides the configured tree beside its packages and its parent: the *before* files, the step's version.
    pub alone: Key,
    /// Everything that decides it: that, the parent's key and the packages' digests.
    pub key: Key,
}

impl LayerStep {
    /// Names the tree with the packages that come late or last, of this layer and of all below it.
    pub fn whole(&self) -> Key {
        Key::new("layer.whole", 1).input("layer", self.key.digest())
    }

    /// The step that configures packages over all layers, `layer` being the uppermost that asks for one of them: nothing
    /// decides what it makes but these and what they are laid over.
    #[must_use]
    pub fn late(&self, layer: &str) -> Self {
        let alone = Key::new("layer.late", CONFIGURE_VERSION).input("epoch", self.epoch).input("name", layer);
        Self {
            name: layer.to_owned(),
            parent: self.parent,
            packages: Vec::new(),
            before: Before::default(),
            epoch: self.epoch,
            key: alone.clone(),
            alone,
        }
    }
}

/// A role: the layers that make its root, what is laid over them, and its outputs.
#[derive(Clone, Debug)]
pub struct RolePlan {
    /// Index in the Spec's roles.
    pub role: usize,
    /// Its name.
    pub name: String,
    /// Indexes of its layers, lowest first; the last one's configured tree is where its root starts.
    pub layers: Vec<usize>,
    /// Outputs to make.
    pub formats: Vec<Format>,
    /// Paths removed after configure, before the files are laid.
    pub remove: Vec<Written<String>>,
    /// Files to lay, lowest layer first; a later one of the same path wins.
    pub files: Vec<PlannedFile>,
    /// Owners and modes, in the same order.
    pub permissions: Vec<Permission>,
    /// Units, one entry a layer.
    pub units: Vec<Units>,
    /// Words of the kernel command line, lowest layer first.
    pub kernel_arguments: Vec<String>,
    /// Paths that survive a reboot.
    pub state: Vec<State>,
    /// Everything that decides the role's root over its configured layers.
    pub key: Key,
}

/// A file that is laid over the configured root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// Layer that lays it.
    pub layer: String,
    /// Path in the root, no leading `/`.
    pub path: String,
    /// The overlay file, from the project's root.
    pub source: String,
    /// What it is.
    pub body: PlannedBody,
}

/// What a laid file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedBody {
    /// A regular file: its bytes, templates rendered, and permission bits.
    File {
        /// Bytes.
        content: Vec<u8>,
        /// Permission bits.
        mode: u16,
    },
    /// A symbolic link and its target.
    Link(String),
    /// Rendered by `seed`: not in the image. Variables that it waits for.
    Late {
        /// Permission bits.
        mode: u16,
        /// Top-level variables.
        variables: Vec<String>,
    },
}

/// A file that a seed brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// Absolute path on the machine.
    pub path: String,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
    /// Permission bits, octal.
    pub mode: String,
    /// The template, from the project's root.
    pub source: String,
    /// Top-level variables that it waits for.
    pub variables: Vec<String>,
}

impl RolePlan {
    /// The files that a seed brings, by path.
    pub fn late(&self) -> Vec<Late> {
        let mut late: Vec<Late> = self
            .files
            .iter()
            .filter_map(|file| {
                let PlannedBody::Late { mode, variables } = &file.body else { return None };
                let permission = self.permissions.iter().rev().find(|permission| permission.path == file.path);
                Some(Late {
                    path: format!("/{}", file.path),
                    owner: permission.map_or("root", |permission| &permission.owner).to_owned(),
                    group: permission.map_or("root", |permission| &permission.group).to_owned(),
                    mode: format!("{:04o}", permission.map_or(*mode, |permission| permission.mode)),
                    source: file.source.clone(),
                    variables: variables.clone(),
                })
            })
            .collect();
        late.sort_by(|one, other| one.path.cmp(&other.path));
        late
    }
}
