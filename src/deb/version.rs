//! Versions and their order, as deb-version(7) has them.

/// A version: `[epoch:]upstream[-revision]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);
