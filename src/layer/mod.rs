//! Plan and objects become a tree: unpack, configure, overlay, settle.
//!
//! Owns the laying of .debs with dpkg's database, running maintainer scripts in the sandbox, laying overlays and units, and
//! the one place where times, owners, caches and logs are normalised. Knows no output format.

pub mod accounts;
mod agent;
mod capture;
mod checkout;
pub mod configure;
pub mod database;
mod deb_systemd_helper;
pub mod initrd;
mod inside;
pub mod lay;
mod leaves;
pub mod overlay;
mod permits;
mod place;
pub mod root;
mod scripts;
pub mod settle;
pub mod units;
pub mod unpack;
mod workshop;

#[cfg(test)]
mod tests;

pub use agent::Agent;
pub use configure::{Core, Purpose, core, whole_tree};
pub use inside::helper_main;
pub use workshop::{Job, Laid, Listener, Progress, Workshop, enter};
