//! The netboot set: kernel, the initrd of the disk, the root, and the scripts that boot them.
//!
//! The network loader passes the root as a second initrd that becomes `/root.img` in the initrd's file system; a
//! unit of ours attaches it as a loop device, and from there the boot is the disk's: same command line, same root
//! hash, no network code in the initrd.
//!
//! Network loaders verify nothing. So with a signer there is one more way: all of it as one signed program, which the
//! firmware verifies whoever loads it.

use std::collections::BTreeMap;

use crate::format::Recipe;
use crate::format::authenticode::Signer;
use crate::format::cpio::{self, Entry, Kind as EntryKind};
use crate::report::{Diagnostic, Kind, Report};
use crate::store::Store;
use crate::tree::TreePath;

use super::boot::{self, BootParts};
use super::disk;
use super::root::Root;

/// The root's name in the initrd's file system, where the unit of ours looks for it.
const ROOT: &str = "root.img";

/// The files of a netboot set: name and content, in order. `boot.efi` is there when there is a signer.
///
/// # Errors
/// When the root does not fit a GPT, or something cannot be signed.
pub fn files(
    root: &Root,
    parts: &BootParts,
    version: &str,
    command_line: &str,
    signer: Option<&Signer>,
    store: &Store,
) -> Result<Vec<(&'static str, Recipe)>, Report> {
    let network_root = disk::network_root(root, version)?;
    let text = |text: String, origin: &'static str| {
        let mut recipe = Recipe::new();
        recipe.literal(text.into_bytes(), origin);
        recipe
    };
    let mut files = vec![
        ("vmlinuz", parts.kernel(signer, store)?),
        ("initrd.img", parts.initrd.clone()),
        (ROOT, network_root.clone()),
        ("boot.ipxe", text(ipxe(command_line), "iPXE script")),
        ("grub.cfg", text(grub(command_line), "GRUB script")),
        ("cmdline", text(format!("{command_line}\n"), "kernel command line")),
    ];
    if signer.is_some() {
        let program = disk::uki(parts, &[parts.initrd.clone(), initrd_with(network_root)?], command_line)?;
        files.push(("boot.efi", boot::sign(program, "netboot program", signer, store)?));
    }
    Ok(files)
}

/// An initrd that holds nothing but the root.
fn initrd_with(root: Recipe) -> Result<Recipe, Report> {
    let path = TreePath::parse(ROOT).map_err(|error| Diagnostic::error(Kind::Internal, error.to_string()))?;
    let entry = Entry { mode: 0o644, kind: EntryKind::File(root) };
    let archive = cpio::archive(&BTreeMap::from([(path, entry)]));
    Ok(archive.map_err(|error| Diagnostic::error(Kind::Input, error.to_string()))?)
}

/// An iPXE script; names are relative to the script's own address.
fn ipxe(command_line: &str) -> String {
    format!(
        "#!ipxe\n\
         # Boots this directory: serve it over HTTP or TFTP and chain to this file.\n\
         kernel vmlinuz {command_line} || goto failed\n\
         initrd initrd.img || goto failed\n\
         initrd root.img /root.img mode=0644 || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         echo rolecast: a file of the netboot set could not be loaded; trying again in 10 seconds\n\
         sleep 10\n\
         reboot\n"
    )
}

/// A GRUB script; `$netboot` is the directory on the server that GRUB's `$root` names.
fn grub(command_line: &str) -> String {
    format!(
        "# Boots this directory: set `root` to the server and `netboot` to the directory, then source this file.\n\
         linux $netboot/vmlinuz {command_line}\n\
         initrd $netboot/initrd.img newc:root.img:$netboot/root.img\n\
         boot\n"
    )
}
