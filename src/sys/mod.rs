//! Files, processes, clock and sandbox: everything that asks the kernel; and what a processor can do that others cannot.
//!
//! The only room with `unsafe`. Used by both binaries. Decides nothing about images.

pub mod arp;
pub mod files;
pub mod host_key;
pub mod namespace;
pub mod private;
pub mod process;
pub mod program;
pub mod reflink;
pub mod sandbox;
pub mod sha256;

pub use files::FileError;
pub use host_key::HostKey;
pub use program::{Program, ProgramError, Said};
