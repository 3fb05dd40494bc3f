//! What a lock pins.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A lock. Layers come parents first; packages within a layer by name and architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The digest of the Spec that it answers.
    pub spec: Digest,
    /// Distribution, suite and architecture: `debian trixie amd64`.
    pub distribution: String,
    /// The archives, by name, with the Releases that vouched.
    pub archives: Vec<LockedArchive>,
    /// The layers of the Spec, in its order, and last the tool layer.
    pub layers: Vec<LockedLayer>,
}

/// One archive and what vouched for its packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedArchive {
    /// Name: `debian`.
    pub name: String,
    /// Its suites, by name.
    pub suites: Vec<LockedSuite>,
}

/// A verified Release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedSuite {
    /// Name in `dists/`.
    pub name: String,
    /// Digest of InRelease as served.
    pub release: Digest,
    /// `Date:` of the Release, seconds since the Epoch.
    pub date: i64,
    /// Fingerprints of the certificates whose signatures were good, sorted, upper-case hexadecimal.
    pub signed_by: Vec<String>,
}

/// The packages that one layer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedLayer {
    /// Name of the layer's profile; `tools` for the tool layer.
    pub name: String,
    /// What its profile wanted, as relations in the order written: a stale lock can say what changed.
    pub wants: Vec<String>,
    /// Whether `Recommends` were followed.
    pub recommends: bool,
    /// Its packages.
    pub packages: Vec<LockedPackage>,
}

/// One .deb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedPackage {
    /// Package name.
    pub name: String,
    /// Version as in the control file.
    pub version: String,
    /// Architecture as in the control file: `amd64`, `all`.
    pub architecture: String,
    /// Archive that served it.
    pub archive: String,
    /// Size of the .deb in bytes.
    pub size: u64,
    /// SHA-256 of the .deb.
    pub sha256: Digest,
    /// Path from the archive's root: `pool/main/…`.
    pub path: String,
}
