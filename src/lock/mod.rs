//! The frozen answer: every byte that goes into the images, by digest.
//!
//! Owns the lock's model, its canonical text, whether it still answers a Spec, and what differs between two. Names
//! no mirror, knows no time of its own, and touches no file.

pub mod model;

pub use model::*;
