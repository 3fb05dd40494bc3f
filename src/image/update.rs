//! What an installed machine fetches to become the next version: root, hash area and UKI, each a file of its own.
//!
//! The names are those that the image's `sysupdate.d` looks for (`sysupdate.d(5)`, *match patterns*): role, version, and
//! for a partition the GUID that it gets.

use crate::format::Recipe;

use super::disk::{self, Identity};
use super::root::Root;

/// The files of a version, by name.
pub fn files(root: &Root, uki: &Recipe, identity: Identity<'_>) -> Vec<(String, Recipe)> {
    let Identity { role, version } = identity;
    let (data, hash) = disk::root_guids(&root.root_hash);
    vec![
        (format!("{role}_{version}_{hash}.verity"), disk::nested(&root.hash_area, "hash area")),
        (format!("{role}_{version}_{data}.root"), disk::nested(&root.squashfs, "root")),
        (format!("{role}_{version}.efi"), uki.clone()),
    ]
}
