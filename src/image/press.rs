//! Pressing a role: every output asked for, and the manifest beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::deb::date::format_rfc3339;
use crate::digest::{Digest, Key};
use crate::format::authenticode::Signer;
use crate::format::{Recipe, qcow2};
use crate::lock::Lock;
use crate::plan::materials::Material;
use crate::plan::{Format, Late};
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::store::{Poured, Store, StoreError, Wanted};
use crate::sys::files;
use crate::tree::{Content, Kind as NodeKind, Tree};

use super::boot::{self, BootParts};
use super::disk::{self, Identity};
use super::manifest::{BootFacts, Document, Manifest, Output, PackageFacts, RootFacts, SignerFacts, TreeFacts};
use super::root::{self, Root};
use super::{lint, netboot, parts, provenance, sbom, sums, superseded, tarball, update};

/// Version of everything that is pressed: changes with any change to what the same root becomes (a format break).
pub const VERSION: u32 = 4;

/// Version of the manifest's format.
const MANIFEST_FORMAT: u32 = 1;

/// What is pressed.
#[derive(Debug)]
pub struct Request<'a> {
    /// Name of the image file.
    pub image: &'a str,
    /// Its `version`.
    pub version: &'a str,
    /// The role.
    pub role: &'a str,
    /// Names of its layers, lowest first.
    pub layers: &'a [String],
    /// Distribution, suite and architecture.
    pub distribution: &'a str,
    /// Digest of the lock's text.
    pub lock: Digest,
    /// The lock.
    pub locked: &'a Lock,
    /// Every input, for provenance.
    pub materials: &'a [Material],
    /// The image file's options: name and value.
    pub options: Vec<(String, String)>,
    /// Time of what is said about the image, in seconds since the Epoch: the newest Release of the lock.
    pub released: i64,
    /// The finished root.
    pub tree: &'a Tree,
    /// Its digest ([`Tree::digest`]): what the image shows.
    pub shown: Digest,
    /// The stored tree, with places and origins.
    pub stored: Digest,
    /// The stored configured tree that it was laid over.
    pub base: Digest,
    /// The tool layer's tree: stub and boot loader.
    pub tools: &'a Tree,
    /// The initrd; none when no output boots.
    pub initrd: Option<Content>,
    /// Who signs what firmware starts, if anybody does.
    pub signer: Option<&'a Signer>,
    /// Words of the kernel command line beside the root hash.
    pub kernel_arguments: &'a [String],
    /// Outputs to make.
    pub formats: &'a [Format],
    /// Bytes of a root slot on the machines' disks, where the image file says them.
    pub slot: Option<u64>,
    /// Files that a seed renders.
    pub late: Vec<Late>,
    /// Paths that survive a reboot.
    pub state: Vec<String>,
    /// The packages.
    pub packages: Vec<PackageFacts>,
    /// Time of what is made, in seconds since the Epoch.
    pub epoch: i64,
}

/// What was pressed.
#[derive(Clone, Debug)]
pub struct Pressed {
    /// The manifest, as it lies beside the outputs.
    pub manifest: Manifest,
    /// What each output is made of, by its path from the role's directory: says what a byte of it is.
    pub recipes: BTreeMap<String, Recipe>,
}

/// An output before it is written: its format, its path from the role's directory, its content.
type Planned = (Format, String, Recipe);

/// A role whose outputs are ready to be written: what they are made of is in the store.
pub struct Prepared<'a> {
    request: &'a Request<'a>,
    sealed: Option<Sealed>,
    planned: Vec<Planned>,
    bills: Vec<sbom::Document>,
}

/// Lints the root, and brings everything into the store that the outputs are made of.
///
/// # Errors
/// When a lint finds something, or a part is missing.
pub fn prepare<'a>(request: &'a Request<'a>, store: &Store, progress: &dyn Progress) -> Result<Prepared<'a>, Report> {
    let for_maas = request.formats.contains(&Format::Tar);
    lint::check(request.role, request.tree, store, for_maas)?;
    parts::take(store, &request.base, request.formats)?;
    let plan = || -> Result<_, Report> {
        let sealed = request.initrd.map(|initrd| seal(request, initrd, store, progress)).transpose()?;
        let planned = plan_outputs(request, sealed.as_ref(), store, progress)?;
        Ok((sealed, planned))
    };
    let describe = || {
        let _task = progress.begin(&format!("describe {}", request.role), 0, Unit::Things);
        sbom::documents(request, store)
    };
    let (planned, bills) = rayon::join(plan, describe);
    let ((sealed, planned), bills) = (planned?, bills?);
    parts::tell(store, &request.base)?;
    Ok(Prepared { request, sealed, planned, bills })
}

impl Prepared<'_> {
    /// Writes every output and the manifest into `directory`.
    ///
    /// # Errors
    /// When the directory cannot be written, or an object of the store was altered. Files that were whole before stay whole.
    pub fn deliver(self, directory: &Path, store: &Store, progress: &dyn Progress) -> Result<Pressed, Report> {
        let Self { request, sealed, planned, bills } = self;
        let wanted: Vec<Wanted<'_>> = planned
            .iter()
            .map(|(_, file, recipe)| Wanted { recipe, path: directory.join(file), expected: None })
            .collect();
        let poured = pour(request.role, &wanted, directory, store, progress)?;
        let outputs: Vec<Output> = planned
            .iter()
            .zip(&poured)
            .map(|((format, file, _), Poured { digest, size })| Output {
                format: *format,
                file: file.clone(),
                size: *size,
                sha256: *digest,
            })
            .collect();
        let root = sealed.as_ref().map(root_facts);
        let boot = sealed.as_ref().map(|sealed| boot_facts(request, sealed, store)).transpose()?;
        let documents = documents(request, &bills, &outputs, directory)?;
        let manifest = manifest(request, root, boot, outputs, documents);
        let text = manifest.to_text().map_err(|error| Diagnostic::error(Kind::Internal, error.to_string()))?;
        list(&manifest, text.as_bytes(), directory)?;
        let key = origins_key(&manifest.tree.digest);
        store.record(&key, vec![request.stored, request.base], &request.stored)?;
        let recipes = planned.into_iter().map(|(_, file, recipe)| (file, recipe)).collect();
        Ok(Pressed { manifest, recipes })
    }
}

/// Writes the files of a role's directory; returns digest and size of each, in order.
pub(super) fn pour(
    role: &str,
    wanted: &[Wanted<'_>],
    directory: &Path,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Vec<Poured>, Report> {
    let total = wanted.iter().map(|file| file.recipe.length()).sum();
    let task = progress.begin(&format!("write {role}"), total, Unit::Bytes);
    let mut folders: BTreeSet<PathBuf> = wanted.iter().map(|file| file.path.with_file_name("")).collect();
    folders.insert(directory.to_owned());
    for folder in &folders {
        files::make_directory(folder).map_err(Diagnostic::from)?;
        // A build that was killed while it wrote leaves half an image, which nobody else would remove.
        files::remove_abandoned(folder).map_err(Diagnostic::from)?;
    }
    Ok(store.pour(wanted, &|bytes| task.advance(bytes))?)
}

/// Writes the manifest, whose text is `text`, and the list of everything that it names; what the build before left beside
/// that is removed.
pub(super) fn list(manifest: &Manifest, text: &[u8], directory: &Path) -> Result<(), Report> {
    superseded::remove(directory, manifest).map_err(Diagnostic::from)?;
    files::write_remade(&directory.join("manifest.json"), text).map_err(Diagnostic::from)?;
    let mut listed: BTreeMap<String, Digest> =
        manifest.files().map(|(file, sha256)| (file.to_owned(), sha256)).collect();
    listed.insert("manifest.json".to_owned(), Digest::of(text));
    sums::write(directory, &listed)
}

/// Writes what is said about the outputs: the SBOMs `bills`, and provenance over them and the outputs.
fn documents(
    request: &Request<'_>,
    bills: &[sbom::Document],
    outputs: &[Output],
    directory: &Path,
) -> Result<Vec<Document>, Report> {
    let write = |name: &str, text: &[u8]| -> Result<Document, Report> {
        files::write_remade(&directory.join(name), text).map_err(Diagnostic::from)?;
        Ok(Document { file: name.to_owned(), size: text.len() as u64, sha256: Digest::of(text) })
    };
    let mut documents: Vec<Document> = bills.iter().map(|(name, text)| write(name, text)).collect::<Result<_, _>>()?;
    let outputs = outputs.iter().map(|output| (output.file.clone(), output.sha256));
    let bills = documents.iter().map(|document| (document.file.clone(), document.sha256));
    let subjects: Vec<(String, Digest)> = outputs.chain(bills).collect();
    documents.push(write(provenance::NAME, &provenance::write(request, &subjects))?);
    Ok(documents)
}

/// Names the stored tree, with origins, that an image's tree was. Where a store holds the contents is its own
/// business, so the manifest names the tree by what it shows.
fn origins_key(tree: &Digest) -> Key {
    Key::new("image.origins", VERSION).input("tree", tree)
}

/// The tree of an image with the origins of its nodes, when the store built it.
///
/// # Errors
/// When the store cannot be read.
pub fn origins(tree: &Digest, store: &Store) -> Result<Option<Tree>, StoreError> {
    match store.result::<Digest>(&origins_key(tree))? {
        Some(stored) => store.tree(&stored).map(Some),
        None => Ok(None),
    }
}

/// A sealed root with what boots it.
struct Sealed {
    root: Root,
    parts: BootParts,
    command_line: String,
    /// Signed when there is a signer; none when no disk is made.
    uki: Option<Recipe>,
}

fn seal(request: &Request<'_>, initrd: Content, store: &Store, progress: &dyn Progress) -> Result<Sealed, Report> {
    let parts = boot::collect(request.tree, request.tools, initrd, store)?;
    let root = root::press(&root::sealed_tree(request.tree), request.layers, request.epoch, store, progress)?;
    if let Some(slot) = request.slot.filter(|_| holds_uki(request.formats)) {
        disk::check_slot(&root, request.role, slot)?;
    }
    let words = std::iter::once(format!("roothash={}", root.root_hash)).chain(request.kernel_arguments.iter().cloned());
    let command_line = words.collect::<Vec<_>>().join(" ");
    let uki = match holds_uki(request.formats) {
        true => {
            let uki = disk::uki(&parts, std::slice::from_ref(&parts.initrd), &command_line)?;
            Some(boot::sign(uki, "unified kernel image", request.signer, store)?)
        }
        false => None,
    };
    Ok(Sealed { root, parts, command_line, uki })
}

/// Whether an output of these formats holds the unified kernel image of the disk.
pub(super) fn holds_uki(formats: &[Format]) -> bool {
    formats.iter().any(|format| matches!(format, Format::Disk | Format::Qcow2 | Format::Update))
}

fn plan_outputs(
    request: &Request<'_>,
    sealed: Option<&Sealed>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Vec<Planned>, Report> {
    let role = request.role;
    let wants = |format| request.formats.contains(&format);
    let mut planned = Vec::new();
    if let Some(Sealed { root, parts, command_line, uki }) = sealed {
        let identity = Identity { role, version: request.version };
        if let Some(uki) = uki.as_ref().filter(|_| wants(Format::Update)) {
            for (name, recipe) in update::files(root, uki, identity) {
                planned.push((Format::Update, format!("{role}.update/{name}"), recipe));
            }
        }
        if let Some(uki) = uki.as_ref().filter(|_| wants(Format::Disk) || wants(Format::Qcow2)) {
            let boot_loader = parts.boot_loader(request.signer, store)?;
            let raw = disk::disk(root, &boot_loader, uki, identity, request.slot, request.epoch)?;
            if wants(Format::Qcow2) {
                let image = qcow2::image(&raw).map_err(|error| Diagnostic::error(Kind::Internal, error.to_string()))?;
                planned.push((Format::Qcow2, format!("{role}.qcow2"), image));
            }
            if wants(Format::Disk) {
                planned.push((Format::Disk, format!("{role}.raw"), raw));
            }
        }
        if wants(Format::Netboot) {
            let signer = request.signer;
            for (name, recipe) in netboot::files(root, parts, request.version, command_line, signer, store)? {
                planned.push((Format::Netboot, format!("{role}.netboot/{name}"), recipe));
            }
        }
    }
    if wants(Format::Tar) {
        let tarball = tarball::press(request.tree, request.layers, store, progress)?;
        planned.push((Format::Tar, format!("{role}.tar.gz"), tarball));
    }
    Ok(planned)
}

fn root_facts(sealed: &Sealed) -> RootFacts {
    RootFacts {
        hash: sealed.root.root_hash,
        size: sealed.root.squashfs.length(),
        hash_area_size: sealed.root.hash_area.length(),
        kernel: sealed.parts.kernel.release.clone(),
        command_line: sealed.command_line.clone(),
        initrd: sealed.parts.initrd_digest,
    }
}

fn boot_facts(request: &Request<'_>, sealed: &Sealed, store: &Store) -> Result<BootFacts, Report> {
    let signed_by =
        |signer: &Signer| SignerFacts { certificate: signer.certificate_digest(), subject: signer.subject() };
    Ok(BootFacts {
        secure_boot: request.signer.map(signed_by),
        pcr11: match &sealed.uki {
            Some(uki) => boot::predict(uki, store)?,
            None => Vec::new(),
        },
    })
}

fn manifest(
    request: &Request<'_>,
    root: Option<RootFacts>,
    boot: Option<BootFacts>,
    outputs: Vec<Output>,
    documents: Vec<Document>,
) -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT,
        rolecast: env!("CARGO_PKG_VERSION").to_owned(),
        image: request.image.to_owned(),
        version: request.version.to_owned(),
        role: request.role.to_owned(),
        distribution: request.distribution.to_owned(),
        lock: request.lock,
        released: format_rfc3339(request.released),
        tree: tree_facts(request.tree, request.shown),
        root,
        boot,
        late: request.late.clone(),
        state: request.state.clone(),
        packages: request.packages.clone(),
        outputs,
        documents,
    }
}

fn tree_facts(tree: &Tree, digest: Digest) -> TreeFacts {
    let mut facts = TreeFacts { digest, files: 0, directories: 0, links: 0, bytes: 0 };
    for (path, node) in tree.iter() {
        match &node.kind {
            NodeKind::Directory => facts.directories += 1,
            NodeKind::Symlink(_) => facts.links += 1,
            NodeKind::File(file) => {
                facts.files += 1;
                if file.group.as_ref().is_none_or(|first| first == path) {
                    facts.bytes += file.content.size;
                }
            }
            _ => {}
        }
    }
    facts
}
