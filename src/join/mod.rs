//! The on-machine half.
//!
//! Owns what a machine says of itself. In this version it says which image the machine runs and that no seed has
//! told it who it is; joining is not part of it yet. Never changes the machine.

pub mod adapters;
mod status;
pub mod world;

pub use status::{Facts, Status};
