//! What boots a root: kernel, initrd, stub and boot loader, all from the locked suite's own packages.

use crate::format::Recipe;
use crate::report::{Diagnostic, Kind, Report};
use crate::store::Store;
use crate::tree::{Content, Tree, TreePath};

use super::kernel::{self, Kernel};

/// Where systemd's packages put the UEFI stub and the boot loader.
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const BOOT_LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// The parts of a boot.
#[derive(Clone, Debug)]
pub struct BootParts {
    /// The kernel.
    pub kernel: Kernel,
    /// Its bytes, for its header.
    pub kernel_bytes: Vec<u8>,
    /// The initrd.
    pub initrd: Recipe,
    /// Its digest.
    pub initrd_digest: crate::digest::Digest,
    /// `linuxx64.efi.stub`.
    pub stub: Vec<u8>,
    /// `systemd-bootx64.efi`.
    pub boot_loader: Vec<u8>,
    /// The root's `os-release(5)`.
    pub os_release: String,
}

/// Collects the parts: kernel and `os-release` from the root, stub and boot loader from the tool layer's tree.
///
/// # Errors
/// When a part is missing, at the package that should bring it.
pub fn collect(root: &Tree, tools: &Tree, initrd: Content, store: &Store) -> Result<BootParts, Report> {
    let kernel = kernel::find(root)?;
    let kernel_bytes = store.read(&kernel.content).map_err(Diagnostic::from)?;
    let mut recipe = Recipe::new();
    recipe.push(super::disk::content_bytes(&initrd), "initrd");
    let os_release = read(root, "usr/lib/os-release", "base-files", store)?;
    Ok(BootParts {
        kernel,
        kernel_bytes,
        initrd: recipe,
        initrd_digest: initrd.digest,
        stub: read(tools, STUB, "systemd-boot-efi", store)?,
        boot_loader: read(tools, BOOT_LOADER, "systemd-boot-efi", store)?,
        os_release: String::from_utf8_lossy(&os_release).into_owned(),
    })
}

fn read(tree: &Tree, path: &str, package: &str, store: &Store) -> Result<Vec<u8>, Report> {
    let place = TreePath::parse(path).ok().and_then(|path| tree.resolve(&path).ok());
    let Some(content) = place.and_then(|path| tree.get(&path)?.content().copied()) else {
        return Err(Diagnostic::error(Kind::Input, format!("there is no `/{path}` to boot with"))
            .hint(format!("add the package `{package}` to the profile"))
            .into());
    };
    Ok(store.read(&content).map_err(Diagnostic::from)?)
}
