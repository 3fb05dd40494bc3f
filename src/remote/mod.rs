//! A store that several machines share: results and objects in a registry, a bucket or behind a web server.
//!
//! Owns how a result travels (`envelope`), who is believed, and how the three kinds of places are spoken to. Believes no
//! server: a record counts when a key of the user's signed it, a blob when its digest is the one that the record names. Blobs
//! are put before the record that names them, and a name that is taken stays as it is, so writers need not know of each
//! other. Knows no step, no package and no image. A place that cannot be reached is a notice and a miss; one that hands out
//! something else than was signed is an error.
//! Specifications: OCI distribution and image 1.1; Amazon S3 with Signature Version 4; RFC 9110. `ureq` is the one client:
//! `oci-spec` would bring builders for two structs, and `rusty-s3` 33 crates to sign three kinds of requests.
//!
//! ```text
//! blobs/ab/cdef…        an object, or its zstd frame where that is smaller, by its own SHA-256
//! results/STEP/KEY      the signed record of a result: value and blobs
//! ```
//! In a registry the same two are blobs of a repository, and a manifest with the tag `STEP-KEY` holds them together.

mod borrow;
mod bucket;
mod envelope;
mod files;
mod login;
mod oci;
mod place;
mod push;
#[cfg(test)]
mod tests;
mod wire;

pub use borrow::{Remote, Tally};
pub use envelope::Trust;
pub use place::open;
pub use push::{Pushed, push};

/// Reads a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;
