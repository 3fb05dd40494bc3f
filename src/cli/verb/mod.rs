//! One file a verb: settings in, [`super::Done`] or a report out.

pub mod build;
pub mod check;
pub mod diff;
mod differences;
pub mod enter;
pub mod generate;
pub mod inspect;
pub mod lock;
pub mod plan;
mod project;
mod shown;
pub mod store;
pub mod vendor;
pub mod verify;
mod world;
