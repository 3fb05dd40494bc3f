//! File formats: squashfs, dm-verity, cpio, FAT, GPT, UKI, Authenticode, tar.gz, qcow2, casync's index, and their
//! read-back.
//!
//! A format does not write: it returns a [`Recipe`], ordered pieces that say what a file is made of. It knows no
//! time, no file system and no thread count; everything that reaches its bytes is a parameter. Each file names
//! the specification that it follows.

pub mod authenticode;
pub mod caibx;
pub mod cpio;
pub mod fat;
pub mod gpt;
pub mod pe;
pub mod qcow2;
pub mod read_at;
pub mod recipe;
pub mod squashfs;
pub mod targz;
pub mod uki;
pub mod verity;

pub use read_at::{ReadAt, Window};
pub use recipe::{Bytes, Leaf, Piece, Recipe};
