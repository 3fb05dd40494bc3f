//! The frozen answer: every byte that goes into the images, by digest.
//!
//! Owns the lock's model, its canonical text, whether it still answers a Spec, and what differs between two. Names
//! no mirror, knows no time of its own, and touches no file.

pub mod diff;
pub mod fresh;
pub mod model;
mod purl;
mod read;
mod resolve;
#[cfg(test)]
mod tests;
mod write;

pub use model::*;
pub use purl::encode as encode_purl;
pub use read::read;
pub use resolve::{Update, resolve};
pub use write::write;

/// The number in a lock's first field; a lock of another one is refused.
pub const FORMAT: u32 = 1;
