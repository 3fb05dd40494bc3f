//! The tree that a TFTP and HTTP server hands out: images, boot scripts by MAC address, seeds.
//!
//! ```text
//! updates/ROLE/          what installed machines fetch to become another version, with its SHA256SUMS
//! images/VERSION/ROLE/   vmlinuz, initrd.img, root.img, boot.efi when signed (hard links to the build's own, or copies)
//! boot/MAC.ipxe          what each machine boots, for iPXE
//! grub/grub.cfg-01-MAC   the same for GRUB
//! seed/NODE/             user-data, meta-data, network-config; vendor-data, empty
//! dnsmasq.conf           DHCP and TFTP for the listed machines only
//! ```

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::plant::{Planted, Terms, late_files, plant};
use super::serve::{Booted, ServerUrl, dnsmasq};
use super::updates;
use super::vault::Vault;
use crate::image::manifest::Manifest;
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::{Cluster, Format, Role, Spec};
use crate::sys::files::{self, Context as _, FileError, Pending};
use crate::sys::private;

/// What a machine loads.
const LOADED: [&str; 3] = ["vmlinuz", "initrd.img", "root.img"];

/// What firmware that enforces Secure Boot loads in place of them all; there when the set is signed.
const SIGNED: &str = "boot.efi";

/// Where cloud-init (25.1) asks a server for it and finds none, it asks ten times more, a second apart.
const VENDOR_DATA: (&str, &str) = ("vendor-data", "");

/// What is to be published.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The image file.
    pub spec: &'a Spec,
    /// Whose machines boot it.
    pub cluster: &'a Cluster,
    /// Their secrets.
    pub vault: &'a Vault,
    /// Where `build` put the images.
    pub images: &'a Path,
    /// Where machines find the tree.
    pub url: &'a ServerUrl,
    /// Whether seeds carry secrets where anyone can read them.
    pub secrets_over_http: bool,
    /// As [`Terms::memory_state`].
    pub memory_state: bool,
}

/// What was published.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Nodes that boot from the tree.
    pub nodes: Vec<String>,
    /// Nodes without a MAC address, which it cannot tell apart.
    pub left_out: Vec<String>,
    /// Roles whose installed machines find an update, each with when its packages were released (RFC 3339).
    pub updates: BTreeMap<String, String>,
    /// Whether the seeds carry secrets.
    pub secrets: bool,
}

/// A role as it was built.
struct Built {
    directory: PathBuf,
    manifest: Manifest,
    /// None where the image file asks for none.
    netboot: Option<Netboot>,
}

/// A role's netboot set as it was built.
struct Netboot {
    directory: PathBuf,
    /// Where it goes, from the tree's top.
    to: String,
    command_line: String,
}

impl Publication<'_> {
    /// Writes the tree at `top`. What is there is brought up to date; images of other versions stay.
    ///
    /// # Errors
    /// When an image was built neither for the network nor for updates, or from another version; when a seed does not
    /// render, or the tree cannot be written.
    pub fn write(&self, top: &Path) -> Result<Published, Report> {
        let mut roles: BTreeMap<&str, Built> = BTreeMap::new();
        for role in self.spec.roles.iter().filter(|role| self.cluster.nodes.iter().any(|node| node.role == role.name)) {
            roles.insert(&role.name, self.built(role)?);
        }
        let open = self.url.is_open() && !self.secrets_over_http;
        let terms = Terms { open, memory_state: self.memory_state };
        let planted =
            self.cluster.nodes.iter().map(|node| plant(self.spec, self.cluster, &node.name, self.vault, terms));
        let planted = planted.collect::<Result<Vec<Planted>, Report>>()?;

        files::make_directory(top).map_err(Diagnostic::from)?;
        let top = fs::canonicalize(top).on("find", top).map_err(Diagnostic::from)?;
        let mut published = Published { secrets: !open, ..Published::default() };
        for (name, built) in &roles {
            if let Some(set) = &built.netboot {
                set.publish(&top).map_err(Diagnostic::from)?;
            }
            if updates::publish(&built.manifest, &built.directory, &top)? {
                published.updates.insert((*name).to_owned(), built.manifest.released.clone());
            }
        }
        let mut machines = Vec::new();
        for (node, planted) in self.cluster.nodes.iter().zip(&planted) {
            let Some(set) = roles.get(node.role.as_str()).and_then(|built| built.netboot.as_ref()) else { continue };
            let Some(mac) = &node.mac else {
                published.left_out.push(node.name.clone());
                continue;
            };
            machines.push(Booted { node, mac, image: &set.to, command_line: &set.command_line });
            published.nodes.push(node.name.clone());
            self.seed(&top, planted, open).map_err(Diagnostic::from)?;
        }
        for machine in &machines {
            write(&top.join(machine.ipxe_path()), &machine.ipxe(self.url)).map_err(Diagnostic::from)?;
            write(&top.join(machine.grub_path()), &machine.grub(self.url)).map_err(Diagnostic::from)?;
        }
        let configuration = dnsmasq(self.cluster, &machines, self.url, &top);
        write(&top.join("dnsmasq.conf"), &configuration).map_err(Diagnostic::from)?;
        Ok(published)
    }

    /// Finds a role's netboot set and update, and makes sure that these seeds fit it.
    fn built(&self, role: &Role) -> Result<Built, Report> {
        let place = self.images.join(&role.name);
        let path = place.join("manifest.json");
        let build = format!("`rolecast build` the role `{}` with the format `netboot` or `update` first", role.name);
        let text = fs::read_to_string(&path).on("read", &path).map_err(|error| {
            Diagnostic::error(Kind::Input, format!("the role `{}` is not built: {error}", role.name))
                .hint(&build)
                .hint("or name where the images are with `--images`")
        })?;
        let manifest = Manifest::parse(&text).map_err(|error| {
            Diagnostic::error(Kind::Input, format!("`{}` is no manifest: {error}", path.display())).hint(&build)
        })?;
        let same = manifest.image == self.spec.name && manifest.version == self.spec.version;
        if !same || !waits_for_the_same(self.spec, role, &manifest) {
            let message = format!("`{}` was built from another state of the image file", place.display());
            return Err(Diagnostic::error(Kind::Input, message)
                .note("its table of files that a seed brings, or its name or version, is not the one of now")
                .hint("`rolecast build` it again")
                .into());
        }
        let directory = place.join(format!("{}.netboot", role.name));
        let whole = LOADED.iter().all(|name| directory.join(name).is_file());
        let netboot = manifest.root.as_ref().filter(|_| whole).map(|root| Netboot {
            directory: directory.clone(),
            to: format!("images/{}/{}", self.spec.version, role.name),
            command_line: root.command_line.clone(),
        });
        let updates = manifest.outputs.iter().any(|output| output.format == Format::Update);
        if netboot.is_none() && (role.formats.contains(&Format::Netboot) || !updates) {
            let message = format!("`{}` holds no whole netboot set", directory.display());
            return Err(Diagnostic::error(Kind::Input, message).hint(&build).into());
        }
        Ok(Built { directory: place, manifest, netboot })
    }

    /// Writes a node's seed. One that holds secrets is readable by the group of the tree's top alone: the server's.
    fn seed(&self, top: &Path, planted: &Planted, open: bool) -> Result<(), FileError> {
        let directory = top.join("seed").join(&planted.ticket.node);
        let nocloud = planted.nocloud();
        let mut files = nocloud.files().into_iter().chain([VENDOR_DATA]);
        if open {
            files.try_for_each(|(name, text)| write(&directory.join(name), text))?;
            // It may have held secrets before.
            return fs::set_permissions(&directory, Permissions::from_mode(0o755)).on("open to the server", &directory);
        }
        let group = fs::metadata(top).on("look at", top)?.gid();
        let give = |path: &Path, mode: u32| {
            chown(path, None, Some(group)).on("give to the server's group", path)?;
            fs::set_permissions(path, Permissions::from_mode(mode)).on("open to the server's group", path)
        };
        private::directory(&directory)?;
        for (name, text) in files {
            let path = directory.join(name);
            private::write(&path, text.as_bytes())?;
            give(&path, 0o640)?;
        }
        give(&directory, 0o750)
    }
}

/// Whether an image's table names the files that seeds of now bring.
fn waits_for_the_same(spec: &Spec, role: &Role, manifest: &Manifest) -> bool {
    let now = late_files(spec, role);
    now.len() == manifest.late.len()
        && now.iter().zip(&manifest.late).all(|(now, then)| {
            [&now.path, &now.owner, &now.group, &now.mode] == [&then.path, &then.owner, &then.group, &then.mode]
        })
}

impl Netboot {
    /// Brings the set's files to the tree.
    fn publish(&self, top: &Path) -> Result<(), FileError> {
        let to = top.join(&self.to);
        files::make_directory(&to)?;
        let signed = self.directory.join(SIGNED).is_file().then_some(&SIGNED);
        LOADED.iter().chain(signed).try_for_each(|name| place(&self.directory.join(name), &to.join(name)))
    }
}

/// Puts `from` at `to`: as a second name of the same file, or as a copy where that cannot be. `build` replaces its
/// files and never writes into them, so a published name keeps its bytes.
pub(super) fn place(from: &Path, to: &Path) -> Result<(), FileError> {
    let temporary = to.with_extension("part");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).on("remove", &temporary),
        _ => {}
    }
    if fs::hard_link(from, &temporary).is_ok() {
        let renamed = fs::rename(&temporary, to).on("write", to);
        // Two names of one file: rename(2) then leaves both.
        let _ = fs::remove_file(&temporary);
        return renamed;
    }
    let mut source = files::open(from)?;
    let mut pending = Pending::create(to)?;
    std::io::copy(&mut source, &mut pending.file).on("write", to)?;
    pending.publish()
}

/// Writes a file that the server's user can read.
fn write(path: &Path, text: &str) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        files::make_directory(parent)?;
    }
    files::write_atomically(path, text.as_bytes())
}
