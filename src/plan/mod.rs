//! From Spec and Lock to steps, each with its key. No I/O.
//!
//! Owns the order of the work and what each step's output depends on, and nothing else: a step whose key a store
//! knows is not run. What the steps do is in `layer` and `image`.

mod draw;
pub mod materials;
pub mod model;

pub use draw::draw;
pub use model::*;

/// Whether an output of these formats boots: all do but the tarball.
pub fn boots(formats: &[Format]) -> bool {
    formats.iter().any(|format| *format != Format::Tar)
}

/// A format's name, as written in an image file.
pub fn format_name(format: &Format) -> String {
    match format {
        Format::Disk => "disk",
        Format::Qcow2 => "qcow2",
        Format::Netboot => "netboot",
        Format::Tar => "tar",
        Format::Update => "update",
    }
    .to_owned()
}
