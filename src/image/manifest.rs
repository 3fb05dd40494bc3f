//! `manifest.json`: what stands beside the outputs of a role and says what they are.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::plan::{Format, Late};

/// The manifest of one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Version of the rolecast that built it.
    pub rolecast: String,
    /// Name of the image file.
    pub image: String,
    /// The image file's `version`.
    pub version: String,
    /// The role.
    pub role: String,
    /// Distribution, suite and architecture.
    pub distribution: String,
    /// Digest of the lock's text.
    pub lock: Digest,
    /// Date of the newest Release of the lock (RFC 3339): the time that documents and signatures carry.
    #[serde(default)]
    pub released: String,
    /// The root as a tree.
    pub tree: TreeFacts,
    /// The sealed root; none when only a tarball was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<RootFacts>,
    /// What firmware checks and a TPM measures; none when only a tarball was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootFacts>,
    /// Files that a seed renders.
    pub late: Vec<Late>,
    /// Paths that survive a reboot.
    pub state: Vec<String>,
    /// The packages, by layer.
    pub packages: Vec<PackageFacts>,
    /// The outputs, as they lie beside this file.
    pub outputs: Vec<Output>,
    /// What is said about the outputs: SBOMs and provenance.
    #[serde(default)]
    pub documents: Vec<Document>,
}

/// What a root holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFacts {
    /// Digest of the tree's canonical text.
    pub digest: Digest,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of the regular files, each hard-link group once.
    pub bytes: u64,
}

/// The sealed root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFacts {
    /// dm-verity's root hash.
    pub hash: Digest,
    /// Bytes of the squashfs.
    pub size: u64,
    /// Bytes of the hash area.
    pub hash_area_size: u64,
    /// `uname -r` of its kernel.
    pub kernel: String,
    /// The kernel command line.
    pub command_line: String,
    /// Digest of the initrd.
    pub initrd: Digest,
}

/// What firmware checks and a TPM measures of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFacts {
    /// Whose signature boot loader, unified kernel image and netboot kernel carry; null when they carry none of ours.
    pub secure_boot: Option<SignerFacts>,
    /// PCR 11 in the SHA-256 bank, in the order of a boot; empty when no disk was built.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pcr11: Vec<PcrFacts>,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerFacts {
    /// SHA-256 of the certificate's DER.
    pub certificate: Digest,
    /// Its subject (RFC 4514).
    pub subject: String,
}

/// A PCR at one point of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcrFacts {
    /// The phase that was measured last, a word of `systemd-pcrphase.service(8)`; empty for the image alone.
    pub phase: String,
    /// The value.
    pub sha256: Digest,
}

/// A package of the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageFacts {
    /// Layer that installs it.
    pub layer: String,
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// SHA-256 of the .deb.
    pub sha256: Digest,
}

/// One output file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The format that it belongs to.
    pub format: Format,
    /// Its path from the manifest's directory.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// A document beside the outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its name.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
}

impl Manifest {
    /// Every file that the manifest vouches for, and its digest.
    pub fn files(&self) -> impl Iterator<Item = (&str, Digest)> {
        let outputs = self.outputs.iter().map(|output| (output.file.as_str(), output.sha256));
        outputs.chain(self.documents.iter().map(|document| (document.file.as_str(), document.sha256)))
    }

    /// The manifest's text: JSON, indented, fields in this order.
    ///
    /// # Errors
    /// When serialising fails, which it does not for these types.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When the text is no manifest of this format.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}
