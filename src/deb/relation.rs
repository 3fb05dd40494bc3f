//! Relations between packages, as Debian policy 7.1 writes them.

use super::version::Version;

/// How a version is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// One relation: `name:qualifier (>= version)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Package name.
    pub name: String,
    /// What follows the colon: `any`, `native`, an architecture.
    pub qualifier: Option<String>,
    /// The version asked for.
    pub version: Option<(Operator, Version)>,
}

/// `a | b | c`: any one of them will do; the first is preferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternatives(pub Vec<Relation>);
