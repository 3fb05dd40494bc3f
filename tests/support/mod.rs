//! What the tests stand on. Nothing here asserts anything about the product by itself.

pub mod archive;
pub mod browser;
pub mod command;
pub mod container;
pub mod deb;
pub mod gnupg;
pub mod gpt;
pub mod host;
pub mod images;
pub mod machine;
pub mod mounted;
pub mod namespace;
pub mod noise;
pub mod outputs;
pub mod project;
pub mod report;
pub mod server;
pub mod shared;
pub mod signing;
pub mod stand_ins;
pub mod turn;
