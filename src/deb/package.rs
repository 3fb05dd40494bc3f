//! A binary package's stanza, from a Packages index or a .deb's control file.

use super::relation::{Alternatives, Relation};
use super::version::Version;
use crate::digest::Digest;

/// The `Multi-Arch` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultiArch {
    /// Absent or `no`.
    #[default]
    No,
    /// `same`.
    Same,
    /// `foreign`.
    Foreign,
    /// `allowed`.
    Allowed,
}

/// What the solver and the lock need of a stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// `Package`.
    pub name: String,
    /// `Version`.
    pub version: Version,
    /// `Architecture`.
    pub architecture: String,
    /// `Essential: yes`.
    pub essential: bool,
    /// `Multi-Arch`.
    pub multi_arch: MultiArch,
    /// `Priority`: `required`, `important`, ….
    pub priority: String,
    /// `Depends`.
    pub depends: Vec<Alternatives>,
    /// `Pre-Depends`.
    pub pre_depends: Vec<Alternatives>,
    /// `Recommends`.
    pub recommends: Vec<Alternatives>,
    /// `Conflicts`.
    pub conflicts: Vec<Relation>,
    /// `Breaks`.
    pub breaks: Vec<Relation>,
    /// `Replaces`.
    pub replaces: Vec<Relation>,
    /// `Provides`; a version, where given, is with `=`.
    pub provides: Vec<Relation>,
    /// `Filename`: path from the archive's root; empty in a .deb's own control file.
    pub filename: String,
    /// `Size` in bytes; 0 in a .deb's own control file.
    pub size: u64,
    /// `SHA256`; none in a .deb's own control file.
    pub sha256: Option<Digest>,
    /// `Installed-Size` in KiB.
    pub installed_size: u64,
}
