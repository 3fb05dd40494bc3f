//! The frozen answer: every byte that goes into the images, by digest.
//!
//! Owns the lock's model, its canonical text, whether it still answers a Spec, and what differs between two. Names
//! no mirror, knows no time of its own, and touches no file.

mod difference;
mod fresh;
pub mod model;
mod read;
mod resolve;
mod write;

pub use difference::{Difference, difference};
pub use fresh::freshness;
pub use model::*;
pub use read::parse;
pub use resolve::{Update, resolve};
pub use write::write;

/// Version of the lock's text.
const FORMAT: i64 = 1;
