//! The on-machine half: makes a machine a member of its cluster, and keeps it one.
//!
//! Three parts. `machine` decides: a pure function from what is known to what comes next, as named steps (`prelude`,
//! `etcd`, `database`, `region`, `rack`). `world` is what it can ask and have done, and `adapters` do it. `run` goes round
//! with both, takes in tickets (`accept`, `lay`), remembers (`record`) and says where it stands (`status`).
//! `docs/joining.md` tells it to operators. Beside them `health` says whether a version that an update
//! brought may stay, and `release` from when there is no way back to the one before.

pub mod accept;
pub mod adapters;
mod board;
mod database;
mod doorstep;
pub mod drive;
mod durable;
mod etcd;
pub mod health;
pub mod kill;
pub mod lay;
pub mod leave;
pub mod machine;
#[cfg(test)]
mod model;
pub mod operate;
mod pace;
mod prelude;
mod rack;
pub mod record;
mod region;
mod release;
pub mod run;
pub mod status;
pub mod tables;
#[cfg(test)]
mod testing;
pub mod world;

pub use crate::ticket::Ticket;
pub use status::Status;
