//! What boots a root: kernel, initrd, stub and boot loader, all from the locked suite's own packages; and how it is
//! signed.

use crate::digest::{Digest, Key};
use crate::format::authenticode::{Program, Signer};
use crate::format::uki::measure;
use crate::format::{Recipe, pe};
use crate::report::{Diagnostic, Kind, Report};
use crate::store::Store;
use crate::tree::{Content, Tree, TreePath};

use super::disk::content_bytes;
use super::kernel::{self, Kernel};
use super::manifest::PcrFacts;

/// Where systemd's packages put the UEFI stub and the boot loader.
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const BOOT_LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// Version of what is taken of a kernel.
const KERNEL_VERSION: u32 = 1;

/// The parts of a boot.
#[derive(Clone, Debug)]
pub struct BootParts {
    /// The kernel.
    pub kernel: Kernel,
    /// The memory that it wants to run in, in bytes.
    pub kernel_image_size: u32,
    /// The initrd.
    pub initrd: Recipe,
    /// Its digest.
    pub initrd_digest: Digest,
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
    let (kernel, kernel_image_size) = take(kernel::find(root)?, store)?;
    let mut recipe = Recipe::new();
    recipe.push(content_bytes(&initrd), "initrd");
    let os_release = read(root, "usr/lib/os-release", "base-files", store)?;
    Ok(BootParts {
        kernel,
        kernel_image_size,
        initrd: recipe,
        initrd_digest: initrd.digest,
        stub: read(tools, STUB, "systemd-boot-efi", store)?,
        boot_loader: read(tools, BOOT_LOADER, "systemd-boot-efi", store)?,
        os_release: String::from_utf8_lossy(&os_release).into_owned(),
    })
}

impl BootParts {
    /// The boot loader as a file, signed when there is a signer.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn boot_loader(&self, signer: Option<&Signer>, store: &Store) -> Result<Recipe, Report> {
        let mut file = Recipe::new();
        file.literal(self.boot_loader.as_slice(), "boot loader");
        sign(file, "boot loader", signer, store)
    }

    /// The kernel as a file, signed when there is a signer; Debian's own signature stays beside it.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn kernel(&self, signer: Option<&Signer>, store: &Store) -> Result<Recipe, Report> {
        let mut file = Recipe::new();
        match signer {
            Some(_) => file.literal(store.read(&self.kernel.content)?, "kernel"),
            None => file.push(content_bytes(&self.kernel.content), "kernel"),
        }
        sign(file, "kernel", signer, store)
    }
}

/// The kernel as an object of its own, which is hashed with what it is poured into, and the memory that it asks for; of each
/// kernel taken once.
fn take(kernel: Kernel, store: &Store) -> Result<(Kernel, u32), Report> {
    let key = Key::new("kernel", KERNEL_VERSION).input("kernel", kernel.content.digest);
    let image_size = match store.result(&key)? {
        Some(image_size) => image_size,
        None => {
            let bytes = store.read(&kernel.content)?;
            let image_size = pe::image_size(bytes.as_slice())
                .map_err(|error| Diagnostic::error(Kind::Input, format!("the kernel cannot be started: {error}")))?;
            store.record(&key, vec![store.put(&bytes)?], &image_size)?;
            image_size
        }
    };
    Ok((Kernel { content: Content::whole(kernel.content.digest, kernel.content.size), ..kernel }, image_size))
}

/// The UEFI program `file` with a signature, when there is a signer.
///
/// # Errors
/// When it is no UEFI program, or the signature cannot be made.
pub fn sign(file: Recipe, what: &str, signer: Option<&Signer>, store: &Store) -> Result<Recipe, Report> {
    let Some(signer) = signer else { return Ok(file) };
    let refuse = |why: String| Diagnostic::error(Kind::Input, format!("the {what} cannot be signed: {why}"));
    let program = Program::new(&file).map_err(|error| refuse(error.to_string()))?;
    let digest = store.digest_of(&program.signed_bytes())?.digest;
    Ok(program.sign(&digest, signer).map_err(|error| refuse(error.to_string()))?)
}

/// What PCR 11 of a TPM holds when the unified kernel image `uki` has been measured, and after each phase of its boot.
///
/// # Errors
/// When the store cannot be read.
pub fn predict(uki: &Recipe, store: &Store) -> Result<Vec<PcrFacts>, Report> {
    let internal = |error: crate::format::pe::PeError| Diagnostic::error(Kind::Internal, error.to_string());
    let mut sections = Vec::new();
    for (name, content) in measure::measured(uki).map_err(internal)? {
        sections.push((name, store.digest_of(&content)?.digest));
    }
    let measured = measure::pcr11(&sections);
    let phases = std::iter::once(("", measured)).chain(measure::phases(measured));
    Ok(phases.map(|(phase, sha256)| PcrFacts { phase: phase.to_owned(), sha256 }).collect())
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
