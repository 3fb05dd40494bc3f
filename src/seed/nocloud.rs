//! The forms in which a seed travels: cloud-init's NoCloud files, as a directory or a `CIDATA` volume, and one file of
//! user data for a deployment by MAAS. Format: cloud-init's documentation, "NoCloud" and "Cloud config".

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::plant::Planted;
use crate::digest::Digest;
use crate::format::Recipe;
use crate::format::fat::{self, Directory};
use crate::format::recipe::Bytes;
use crate::report::{Diagnostic, Kind, Report};
use crate::sys::files::Context as _;
use crate::sys::private;
use crate::ticket;

/// The label by which cloud-init knows a volume.
const LABEL: &str = "CIDATA";

/// The files of a NoCloud seed.
#[derive(Clone, PartialEq, Eq)]
pub struct NoCloud {
    /// `user-data`: the ticket and the operator's key.
    pub user_data: String,
    /// `meta-data`: who the machine is.
    pub meta_data: String,
    /// `network-config`: its own address.
    pub network_config: String,
    /// When its secrets were last changed, seconds since the Epoch: the time of all that a volume holds.
    pub issued: u64,
}

impl std::fmt::Debug for NoCloud {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NoCloud").field("meta_data", &self.meta_data).finish_non_exhaustive()
    }
}

impl Planted {
    /// As NoCloud files.
    pub fn nocloud(&self) -> NoCloud {
        let user_data = self.user_data("[]");
        let network_config = self.network_config();
        // Another content is another instance, so that cloud-init applies it also where it remembers the last one.
        let digest = Digest::of(format!("{user_data}{network_config}").as_bytes()).to_string();
        let node = &self.ticket.node;
        let meta_data = format!("instance-id: {node}-{}\nlocal-hostname: {node}\n", &digest[..16]);
        NoCloud { user_data, meta_data, network_config, issued: self.ticket.issued }
    }

    /// As user data of a deployment by MAAS, which brings network and keys of its own for the distribution's user.
    pub fn maas_user_data(&self) -> String {
        self.user_data("[default]")
    }

    /// `users` are those beside root, as YAML.
    fn user_data(&self, users: &str) -> String {
        let ticket = STANDARD.encode(self.ticket.write());
        let others = users.trim_matches(['[', ']']);
        let others = if others.is_empty() { String::new() } else { format!("  - {others}\n") };
        let whole = self.ticket.withheld.is_empty();
        let secrets = if whole { "secrets too" } else { "but no secrets: `rolecast apply` brings them" };
        format!(
            "#cloud-config\n\
             # Seed of {node} for the image {image}, made by rolecast. It holds what this machine is told, {secrets}.\n\
             hostname: {node}\n\
             prefer_fqdn_over_hostname: false\n\
             disable_root: false\n\
             users:\n\
             {others}\
             \x20 - name: root\n\
             \x20   ssh_authorized_keys:\n\
             \x20     - {operator:?}\n\
             write_files:\n\
             \x20 - path: {path}\n\
             \x20   owner: root:root\n\
             \x20   permissions: \"0600\"\n\
             \x20   encoding: b64\n\
             \x20   content: {ticket}\n",
            node = self.ticket.node,
            image = self.ticket.image,
            operator = self.operator,
            path = ticket::ARRIVED,
        )
    }

    /// The machine's own address, so that it needs no DHCP server.
    ///
    /// cloud-init's networkd renderer (25.1) writes `[Match] Name=` with the name of the card that it finds by the MAC
    /// address, which may be about to change, and in a container is looked for among the host's cards; only where it
    /// finds none does it take the entry's own name. So the address is written with hyphens, which networkd reads
    /// (systemd.network(5), `MACAddress=`) and cloud-init does not find, and the entry is named by a pattern.
    /// The route is to `0.0.0.0/0` because that renderer fails on `default`.
    fn network_config(&self) -> String {
        let mut text = "version: 2\nethernets:\n".to_owned();
        match &self.mac {
            Some(mac) => {
                let mac = mac.replace(':', "-");
                let _ = write!(text, "  \"*\":\n    match:\n      macaddress: \"{mac}\"\n");
            }
            // As 05-rolecast.network does: a machine without a known card has one.
            None => text.push_str("  \"e*\":\n"),
        }
        if let Some(node) = self.ticket.own() {
            let _ = write!(text, "    addresses:\n      - {}/{}\n", node.address, self.ticket.cluster.prefix);
        }
        if let Some(gateway) = self.gateway {
            let _ = write!(text, "    routes:\n      - to: 0.0.0.0/0\n        via: {gateway}\n");
        }
        text
    }
}

impl NoCloud {
    /// Names and contents.
    pub fn files(&self) -> [(&'static str, &str); 3] {
        [("user-data", &self.user_data), ("meta-data", &self.meta_data), ("network-config", &self.network_config)]
    }

    /// Writes the files into the directory, which is made and closed to others.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_directory(&self, directory: &Path) -> Result<(), Report> {
        private::directory(directory).map_err(Diagnostic::from)?;
        for (name, content) in self.files() {
            private::write(&directory.join(name), content.as_bytes()).map_err(Diagnostic::from)?;
        }
        Ok(())
    }

    /// As a FAT volume labelled `CIDATA`.
    ///
    /// # Errors
    /// When the files do not fit FAT, which is a bug.
    pub fn volume(&self) -> Result<Recipe, Report> {
        let bug = |error: fat::FatError| Diagnostic::error(Kind::Internal, error.to_string());
        let mut directory = Directory::new();
        for (name, content) in self.files() {
            let mut recipe = Recipe::new();
            recipe.literal(content.as_bytes(), name);
            directory.file(name, recipe).map_err(bug)?;
        }
        let identifier = Digest::of(self.meta_data.as_bytes()).to_string();
        let serial = u32::from_str_radix(&identifier[..8], 16).unwrap_or_default();
        let size = fat::minimum_size(&directory).map_err(bug)?;
        Ok(fat::volume(size, serial, LABEL, &directory, self.issued.cast_signed()).map_err(bug)?)
    }

    /// Writes the volume, mode 0600, with zeros left as holes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_volume(&self, path: &Path) -> Result<(), Report> {
        let recipe = self.volume()?;
        private::write(path, b"").map_err(Diagnostic::from)?;
        let pour = || {
            let mut file = File::options().write(true).open(path)?;
            // A seed is bytes and zeros: it has nothing in the store, and must not.
            for piece in recipe.leaves() {
                match &piece.bytes {
                    Bytes::Literal(bytes) => file.write_all(bytes)?,
                    other => file.seek(SeekFrom::Current(other.length().cast_signed())).map(drop)?,
                }
            }
            file.set_len(recipe.length())
        };
        Ok(pour().on("write", path).map_err(Diagnostic::from)?)
    }
}
