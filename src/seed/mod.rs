//! An image and one node's facts and secrets become a seed for that machine.
//!
//! Owns the secrets file, the tickets, and their forms of travel: a NoCloud directory, a `CIDATA` volume, user data for
//! a deployment by MAAS, and the tree that a network server hands out. Never puts a secret into the store or an image.
//!
//! The way through: [`Vault`] (made once, kept in a file) → [`plant`] → [`Planted`], whose [`Ticket`] is what the
//! machine is told → [`NoCloud`], which is how it gets there.
//!
//! [`Ticket`]: crate::ticket::Ticket

pub mod certificate;
mod deliver;
pub mod file;
mod known;
mod meet;
mod nocloud;
pub mod operator;
mod plant;
mod publish;
mod random;
mod serve;
mod updates;
mod vault;

pub use deliver::{Courier, Standing};
pub use file::SecretsFile;
pub use known::KnownHosts;
pub use meet::{Shown, shown};
pub use nocloud::NoCloud;
pub use plant::{LateFile, Planted, Terms, find, fits, late_files, plant};
pub use publish::{Publication, Published};
pub use serve::ServerUrl;
pub use updates::DIRECTORY as UPDATES;
pub use vault::{FORMAT, Kept, Step, Vault};

#[cfg(test)]
mod tests;
