//! An apt archive as a place: mirrors, keyrings, verified indexes, the .debs themselves.
//!
//! Owns the chain of trust: keyring, InRelease signature, Packages digest, .deb digest. Nothing unverified leaves this
//! room. Solves nothing and unpacks nothing. Specification: the repository format of the Debian wiki, RFC 9580.

pub mod cleartext;
pub mod http;
pub mod keyring;
pub mod signature;
pub mod sources;
mod time;
