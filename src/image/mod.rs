//! A tree becomes deliverables: root, disk, netboot set, tarball, manifest, SBOM, provenance; and the lints that
//! refuse a bad one.
//!
//! Reads the finished tree, kernel and boot loader included, and never changes it. What the outputs are made of is
//! said by `format`'s recipes; this room decides what goes where. Specifications: the UAPI Discoverable Partitions,
//! Boot Loader and Unified Kernel Image specifications.

pub mod boot;
pub mod delivered;
pub mod diff;
pub mod disk;
pub mod group;
pub mod kept;
pub mod kernel;
pub mod lint;
pub mod manifest;
pub mod netboot;
pub mod opened;
pub mod parts;
pub mod press;
pub mod provenance;
pub mod root;
pub mod sbom;
pub mod sums;
mod superseded;
pub mod tarball;
pub mod update;

pub use press::{Prepared, Pressed, Request, VERSION, origins, prepare};
