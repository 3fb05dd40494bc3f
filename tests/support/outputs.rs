//! What a build leaves in its output folder: the one place that knows the names.

use std::path::{Path, PathBuf};

/// The outputs of one role.
pub struct Outputs {
    folder: PathBuf,
    role: String,
}

impl Outputs {
    /// Those of `role` in the output folder `output`.
    pub fn new(output: &Path, role: &str) -> Self {
        Self { folder: output.join(role), role: role.to_owned() }
    }

    /// Raw disk image.
    pub fn disk(&self) -> PathBuf {
        self.folder.join(format!("{}.raw", self.role))
    }

    /// The disk image as qcow2.
    pub fn qcow2(&self) -> PathBuf {
        self.folder.join(format!("{}.qcow2", self.role))
    }

    /// Folder of the netboot set.
    pub fn netboot(&self) -> PathBuf {
        self.folder.join(format!("{}.netboot", self.role))
    }

    /// The netboot set's GPT image of root and verity.
    pub fn netboot_root(&self) -> PathBuf {
        self.netboot().join("root.img")
    }

    /// The netboot set's iPXE script, from the set's folder.
    pub const IPXE_SCRIPT: &str = "boot.ipxe";

    /// Root tarball.
    pub fn tarball(&self) -> PathBuf {
        self.folder.join(format!("{}.tar.gz", self.role))
    }

    /// The manifest, read.
    #[track_caller]
    pub fn manifest(&self) -> serde_json::Value {
        let path = self.folder.join("manifest.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The root hash, 64 hexadecimal digits, from the manifest.
    #[track_caller]
    pub fn root_hash(&self) -> String {
        let manifest = self.manifest();
        let hash = manifest["root"]["hash"].as_str().unwrap_or_else(|| panic!("no root.hash in {manifest:#}"));
        assert_eq!(hash.len(), 64, "{hash}");
        hash.to_owned()
    }
}
