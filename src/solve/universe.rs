//! The packages that could be chosen.

use std::sync::Arc;

use crate::deb::package::Package;

/// One version of one package in one archive.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its stanza.
    pub package: Arc<Package>,
    /// Name of the archive that vouches for it.
    pub archive: String,
    /// The archive's priority: higher is preferred whatever the version.
    pub priority: i32,
}

/// Everything that the verified archives offer for one architecture.
#[derive(Clone, Debug, Default)]
pub struct Universe {
    /// All candidates, in the order of archives, suites and stanzas.
    pub candidates: Vec<Candidate>,
}
