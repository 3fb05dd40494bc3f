//! From wants and a universe to a selection, or an explanation of why there is none.
//!
//! Owns Debian's dependency semantics (policy chapter 7, deb-src-control(5), Multi-Arch specification) and their
//! encoding for a SAT core. Knows no network, no file and no version order of its own.

pub mod universe;

pub use universe::{Candidate, Universe};
