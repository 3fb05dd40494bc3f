//! Whole readings of small projects held in memory.

mod bad;
mod documents;
mod good;
mod hostile;
pub mod project;
