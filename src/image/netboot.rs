//! The netboot set: kernel, the initrd of the disk, the root, and the scripts that boot them.
//!
//! The network loader passes the root as a second initrd that becomes `/root.img` in the initrd's file system; a
//! unit of ours attaches it as a loop device, and from there the boot is the disk's: same command line, same root
//! hash, no network code in the initrd.

use crate::format::Recipe;
use crate::report::Report;

use super::boot::BootParts;
use super::disk;
use super::root::Root;

/// The files of a netboot set: name and content, in order.
///
/// # Errors
/// When the root does not fit a GPT.
pub fn files(
    root: &Root,
    parts: &BootParts,
    kernel: Recipe,
    version: &str,
    command_line: &str,
) -> Result<Vec<(&'static str, Recipe)>, Report> {
    let text = |text: String, origin: &'static str| {
        let mut recipe = Recipe::new();
        recipe.literal(text.into_bytes(), origin);
        recipe
    };
    Ok(vec![
        ("vmlinuz", kernel),
        ("initrd.img", parts.initrd.clone()),
        ("root.img", disk::network_root(root, version)?),
        ("boot.ipxe", text(ipxe(command_line), "iPXE script")),
        ("grub.cfg", text(grub(command_line), "GRUB script")),
        ("cmdline", text(format!("{command_line}\n"), "kernel command line")),
    ])
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
