//! What a plan holds.

use crate::digest::Key;
use crate::lock::LockedPackage;
use crate::spec::Before;

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
    /// Everything that decides the configured tree: the parent's key, the packages' digests, the *before* files,
    /// the step's version.
    pub key: Key,
}
