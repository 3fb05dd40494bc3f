//! Whole readings of small projects held in memory.

mod documents;
mod good;
pub mod project;
