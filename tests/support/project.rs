//! A project folder in a temporary place: images/, profiles/, overlays/ and keyrings, as a person would write them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A project; gone when dropped, with the store and outputs beside it.
pub struct Project {
    root: PathBuf,
    _folder: tempfile::TempDir,
}

impl Project {
    /// An empty one.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("project");
        for name in ["images/keyrings", "profiles", "overlays"] {
            fs::create_dir_all(root.join(name)).expect("a folder in the temporary folder");
        }
        Self { root, _folder: folder }
    }

    /// A copy of this repository's images/, profiles/ and overlays/.
    pub fn of_this_repository() -> Self {
        let project = Self::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["images", "profiles", "overlays"] {
            let from = source.join(name);
            let words = ["--recursive".as_ref(), from.as_os_str(), project.root.as_os_str()];
            crate::support::command::run("cp", words).succeeds();
        }
        project
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a path in the project")).expect("a folder in the project");
        fs::write(path, content).expect("a file in the project");
        self
    }

    /// Writes a file that may be executed.
    pub fn program(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        self.write(path, content);
        fs::set_permissions(self.root.join(path), fs::Permissions::from_mode(0o755)).expect("our own file");
        self
    }

    /// Replaces the one place where `from` stands in a file.
    #[track_caller]
    pub fn replace(&self, path: &str, from: &str, to: &str) -> &Self {
        let text = fs::read_to_string(self.root.join(path)).expect("a text file of the project");
        assert_eq!(text.matches(from).count(), 1, "`{from}` in {path}:\n{text}");
        self.write(path, text.replace(from, to))
    }
}
