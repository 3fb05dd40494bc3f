//! Whole readings of small projects held in memory.

mod good;
mod project;
