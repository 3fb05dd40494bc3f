//! Debian's nouns: version order, relations, control stanzas, ar, the .deb file, Release files.
//!
//! Pure parsers over bytes that a stranger may have written: they bound what they allocate and never panic. Imports
//! no other room but the digest. Specifications: Debian policy chapters 5 and 7, deb(5), deb-version(7),
//! deb-control(5), the repository format of the Debian wiki.

pub mod ar;
pub mod compression;
pub mod control;
pub mod file;
pub mod package;
pub mod relation;
pub mod release;
pub mod version;
