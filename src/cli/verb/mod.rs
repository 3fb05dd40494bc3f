//! One file a verb: settings in, [`super::Done`] or a report out.

pub mod apply;
pub mod audit;
pub mod build;
pub mod check;
mod cluster;
pub mod diff;
mod differences;
pub mod enter;
pub mod generate;
pub mod inspect;
pub mod lab;
mod lab_test;
pub mod lock;
pub mod plan;
mod project;
pub mod publish;
pub mod secrets;
mod secure_boot;
pub mod seed;
mod shown;
pub mod sign;
pub mod store;
pub mod vendor;
pub mod verify;
pub mod verify_signature;
mod world;
