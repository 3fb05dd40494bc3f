//! rolecast turns a description of a highly available MAAS into bootable, immutable role images.
//!
//! One sentence is the whole program: a *Spec* is locked; a *Lock* is planned; a *Plan* is laid as a *Tree*; a Tree
//! is pressed into an *Image*; an Image is seeded for a *node*; a node *joins*. Each noun is a room below, each
//! value is built once, and a room imports only the rooms that `tests/architecture.rs` names for it.

pub mod archive;
pub mod audit;
pub mod cli;
pub mod deb;
pub mod digest;
pub mod format;
pub mod image;
pub mod join;
pub mod lab;
pub mod layer;
pub mod lock;
pub mod plan;
pub mod relay;
pub mod remote;
pub mod report;
pub mod seed;
pub mod sign;
pub mod solve;
pub mod spec;
pub mod store;
pub mod sys;
pub mod ticket;
pub mod tree;
