//! What a person wrote: image file, profiles, overlays and options, read, composed and checked as one.
//!
//! Owns the written language (TOML files, template variables, early and late binding) and every check that can be
//! made before anything is fetched. All mistakes are gathered and reported together, each at its place. Reads no
//! file itself beyond [`Sources`], fetches nothing, renders no secret.

pub mod model;

pub use model::*;
