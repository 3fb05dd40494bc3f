//! The built images booted together as machines of one private network, broken on purpose, and measured.
//!
//! Owns machines (containers and QEMU), the network that they share, faults, the client that watches, scenarios and
//! their report. Never talks to anything outside the network that it made.

mod boot_server;
pub mod client;
mod cluster;
mod container;
mod group;
pub mod junit;
mod ledger;
pub mod machine;
mod markup;
mod network;
mod observe;
mod qemu;
pub mod report;
mod role;
pub mod scenario;
pub mod timeline;
mod tools;
mod watch;

pub use boot_server::BootServer;
pub use cluster::{Lab, LabPlan};
pub use machine::{BackEnd, Exec, Identity, Machine, Outcome};
pub use network::Network;
pub use qemu::EMULATED_PROCESSOR;
pub use tools::wait_for;
pub use watch::Step;
