//! Plan and objects become a tree: unpack, configure, overlay, settle.
//!
//! Owns the laying of .debs with dpkg's database, running maintainer scripts in the sandbox, laying overlays and units, and
//! the one place where times, owners, caches and logs are normalised. Knows no output format.

pub mod database;
pub mod initrd;
pub mod lay;
pub mod overlay;
pub mod root;
pub mod units;
pub mod unpack;
