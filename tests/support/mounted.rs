//! A file system in a file, mounted by the kernel. Needs root and a loop device.

use std::fs;
use std::path::{Path, PathBuf};

use super::command::{command, run};

/// One that is mounted; unmounted when dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts `image`, of the type `kind`, at `at`, which is made; `options` are mount(8)'s, `loop` among them.
    #[track_caller]
    pub fn new(image: &Path, kind: &str, options: &str, at: &Path) -> Self {
        fs::create_dir(at).expect("the temporary folder takes a folder");
        let options = ["-t", kind, "-o", options].map(AsRef::as_ref);
        run("mount", options.into_iter().chain([image.as_os_str(), at.as_os_str()])).succeeds();
        Self(at.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = command("umount").arg(&self.0).output();
    }
}
