//! What a person wrote: image file, profiles, overlays and options, read, composed and checked as one.
//!
//! Owns the written language (TOML files, template variables, early and late binding) and every check that can be
//! made before anything is fetched. All mistakes are gathered and reported together, each at its place. Reads no
//! file itself beyond [`Sources`], fetches nothing, renders no secret.
//!
//! The way through: [`Sources`] → tables checked against the key table → chains of profiles and their options →
//! layers → [`Spec`] → checks of cluster, machines and templates.

mod binding;
mod cluster;
mod compose;
mod conform;
pub mod facts;
mod image;
mod keys;
mod layers;
mod machine;
pub mod matrix;
pub mod model;
mod names;
mod options;
mod overlay;
mod profiles;
mod reference;
pub mod schema;
pub mod secrets;
mod section;
mod shape;
pub mod sources;
mod suggest;
pub mod template;
mod value;
mod wanted;

pub use compose::{read, read_text};
pub use model::*;
pub use reference::reference;
pub use secrets::Secrets;
pub use sources::Sources;

#[cfg(test)]
mod tests;
