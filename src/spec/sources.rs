//! The written files of a project: path to bytes and digest, read once.
//!
//! The only part of the room that touches the disk. Takes plain files, directories and (in overlays) symbolic links;
//! refuses devices, sockets, too large files and names that no image can carry. Everything after works on this value.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind, Report};

/// Largest file that a project may hold. Overlays are configuration; a package carries what is larger.
const LARGEST_FILE: u64 = 16 << 20;
/// Most bytes of all files.
const LARGEST_PROJECT: u64 = 256 << 20;
/// Most files, links and directories.
const MOST_ENTRIES: usize = 50_000;

/// One file or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A plain file.
    File {
        /// Its bytes.
        content: Arc<[u8]>,
        /// SHA-256 of the bytes.
        digest: Digest,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Its target.
        target: String,
    },
}

/// The written files: `images/*.toml`, `images/keyrings/**`, `profiles/*.toml`, `overlays/**`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    entries: BTreeMap<String, Entry>,
    directories: BTreeSet<String>,
}

impl Sources {
    /// Finds the project of an image file and reads it. Also returns the image file's path from the project's root.
    ///
    /// The root is the directory above the `images/` that holds the file.
    ///
    /// # Errors
    /// When the file is not in an `images/` directory, or as [`Sources::read`].
    pub fn of_image(image: &Path) -> Result<(Self, String), Report> {
        let absolute = std::path::absolute(image).map_err(|error| unreadable(&image.display().to_string(), &error))?;
        let parent = absolute.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "images"));
        let (Some(root), Some(name)) =
            (parent.and_then(Path::parent), absolute.file_name().and_then(|name| name.to_str()))
        else {
            let message = format!("`{}` is not in a directory `images`", image.display());
            return Err(Diagnostic::error(Kind::Input, message)
                .note("the directory above `images` is the project; `profiles` and `overlays` are beside it")
                .hint("give a file such as `images/ha-lab.toml`")
                .into());
        };
        let sources = Self::read(root)?;
        let path = format!("images/{name}");
        if !sources.entries.contains_key(&path) {
            let mut diagnostic =
                Diagnostic::error(Kind::Input, format!("there is no image file `{}`", image.display()));
            if let Some(advice) = super::suggest::advice(&path, sources.images()) {
                diagnostic = diagnostic.hint(advice);
            }
            return Err(diagnostic.into());
        }
        Ok((sources, path))
    }

    /// Reads the project whose root is `root`.
    ///
    /// # Errors
    /// All files that cannot be read or taken, together.
    pub fn read(root: &Path) -> Result<Self, Report> {
        let mut reading = Reading { root: root.to_owned(), sources: Self::default(), bytes: 0, report: Report::new() };
        for (directory, depth, keep) in [
            ("images", 1, (|path| path.ends_with(".toml")) as fn(&str) -> bool),
            ("images/keyrings", usize::MAX, |_| true),
            ("profiles", 1, |path| path.ends_with(".toml")),
            ("overlays", usize::MAX, |_| true),
        ] {
            if !reading.directory(directory, depth, keep) {
                break;
            }
        }
        if reading.report.has_errors() { Err(reading.report) } else { Ok(reading.sources) }
    }

    /// Sources that never were on a disk: for tests and for other readers.
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Entry)>) -> Self {
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        let mut directories = BTreeSet::new();
        for path in entries.keys() {
            let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
            directories.extend(parents);
        }
        Self { entries, directories }
    }

    /// The file or link at `path`, from the project's root.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The bytes of the plain file at `path`.
    pub fn bytes(&self, path: &str) -> Option<&Arc<[u8]>> {
        match self.entries.get(path)? {
            Entry::File { content, .. } => Some(content),
            Entry::Link { .. } => None,
        }
    }

    /// Whether there is a directory at `path`.
    pub fn has_directory(&self, path: &str) -> bool {
        self.directories.contains(path)
    }

    /// Everything under the directory `path`, sorted, with paths from the project's root.
    pub fn under(&self, path: &str) -> impl Iterator<Item = (&str, &Entry)> {
        let prefix = format!("{path}/");
        let from = prefix.clone();
        self.entries
            .range(from..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, entry)| (path.as_str(), entry))
    }

    /// Paths of the image files.
    pub fn images(&self) -> impl Iterator<Item = &str> + Clone {
        let paths = self.entries.keys().map(String::as_str);
        paths.filter(|path| {
            path.strip_prefix("images/").is_some_and(|name| !name.contains('/') && name.ends_with(".toml"))
        })
    }

    /// Names of the profiles.
    pub fn profiles(&self) -> impl Iterator<Item = &str> + Clone {
        let paths = self.entries.keys().map(String::as_str);
        paths.filter_map(|path| path.strip_prefix("profiles/")?.strip_suffix(".toml"))
    }

    /// Names of the overlays.
    pub fn overlays(&self) -> impl Iterator<Item = &str> + Clone {
        let names = self.directories.iter().filter_map(|path| path.strip_prefix("overlays/"));
        names.filter(|name| !name.contains('/'))
    }
}

impl Entry {
    /// A plain file.
    pub fn file(content: impl Into<Arc<[u8]>>, executable: bool) -> Self {
        let content = content.into();
        Self::File { digest: Digest::of(&content), content, executable }
    }
}

struct Reading {
    root: PathBuf,
    sources: Sources,
    bytes: u64,
    report: Report,
}

impl Reading {
    /// Reads what is under `directory`, at most `depth` deep. False when the project is too large to go on.
    fn directory(&mut self, directory: &str, depth: usize, keep: fn(&str) -> bool) -> bool {
        let start = self.root.join(directory);
        match std::fs::symlink_metadata(&start) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                self.refuse(directory, "is not a directory");
                return true;
            }
            // What misses it says so where it is wanted: `overlay = ["x"]` has a line, an absent directory has none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return true,
            Err(error) => {
                self.report.extend(unreadable(directory, &error));
                return true;
            }
        }
        self.sources.directories.insert(directory.to_owned());
        let walk = walkdir::WalkDir::new(&start).min_depth(1).max_depth(depth).follow_links(false).sort_by_file_name();
        for item in walk {
            let item = match item {
                Ok(item) => item,
                Err(error) => {
                    let path = error.path().map_or_else(|| directory.to_owned(), |path| path.display().to_string());
                    self.report.extend(unreadable(&path, &error.into()));
                    continue;
                }
            };
            let Some(path) = item.path().strip_prefix(&self.root).ok().and_then(Path::to_str) else {
                self.refuse(&item.path().display().to_string(), "has a name that is not UTF-8");
                continue;
            };
            let path = path.to_owned();
            if path.chars().any(char::is_control) {
                self.refuse(&path.escape_debug().to_string(), "has a control character in its name");
                continue;
            }
            if self.sources.entries.len() + self.sources.directories.len() >= MOST_ENTRIES {
                self.refuse(directory, &format!("makes the project larger than {MOST_ENTRIES} files"));
                return false;
            }
            let kind = item.file_type();
            if kind.is_dir() {
                if depth > 1 {
                    self.sources.directories.insert(path);
                }
            } else if keep(&path) {
                if kind.is_symlink() && directory == "overlays" {
                    self.link(path, item.path());
                } else if kind.is_file() {
                    if !self.file(path, item.path()) {
                        return false;
                    }
                } else if kind.is_symlink() {
                    self.refuse(&path, "is a symbolic link; only overlays may hold links");
                } else {
                    self.refuse(&path, "is neither a file, a directory nor a symbolic link");
                }
            }
        }
        true
    }

    fn link(&mut self, path: String, place: &Path) {
        match std::fs::read_link(place).map(|target| target.to_str().map(str::to_owned)) {
            Ok(Some(target)) if !target.chars().any(char::is_control) => {
                self.sources.entries.insert(path, Entry::Link { target });
            }
            Ok(_) => self.refuse(&path, "is a link whose target is not plain UTF-8 text"),
            Err(error) => self.report.extend(unreadable(&path, &error)),
        }
    }

    /// Reads one file. False when the project is too large to go on.
    fn file(&mut self, path: String, place: &Path) -> bool {
        use std::io::Read as _;
        let mut content = Vec::new();
        let read = std::fs::File::open(place).and_then(|file| {
            let executable = file.metadata()?.permissions().mode() & 0o100 != 0;
            // The limit holds for what is read, not for what a size claims: the file may grow meanwhile.
            file.take(LARGEST_FILE + 1).read_to_end(&mut content)?;
            Ok(executable)
        });
        let executable = match read {
            Ok(executable) => executable,
            Err(error) => {
                self.report.extend(unreadable(&path, &error));
                return true;
            }
        };
        if content.len() as u64 > LARGEST_FILE {
            self.refuse(&path, &format!("is larger than {} MiB", LARGEST_FILE >> 20));
            return true;
        }
        self.bytes += content.len() as u64;
        if self.bytes > LARGEST_PROJECT {
            self.refuse(&path, &format!("makes the project larger than {} MiB", LARGEST_PROJECT >> 20));
            return false;
        }
        self.sources.entries.insert(path, Entry::file(content, executable));
        true
    }

    fn refuse(&mut self, path: &str, why: &str) {
        self.report.push(Diagnostic::error(Kind::Input, format!("`{path}` {why}")));
    }
}

fn unreadable(path: &str, error: &std::io::Error) -> Report {
    Diagnostic::error(Kind::World, format!("`{path}` cannot be read: {error}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_read_with_links_and_modes() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("overlays/base/usr/bin");
        std::fs::create_dir_all(&base).unwrap();
        std::fs::create_dir_all(root.path().join("images/keyrings")).unwrap();
        std::fs::write(root.path().join("images/lab.toml"), "version = \"1\"").unwrap();
        std::fs::write(root.path().join("images/lab.lock"), "not a source").unwrap();
        std::fs::write(base.join("tool"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(base.join("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("/dev/null", base.join("nothing")).unwrap();
        let (sources, path) = Sources::of_image(&root.path().join("images/lab.toml")).unwrap();
        assert_eq!(path, "images/lab.toml");
        let under: Vec<_> = sources.under("overlays/base").collect();
        let nothing = Entry::Link { target: "/dev/null".into() };
        let tool = Entry::file(&b"#!/bin/sh\n"[..], true);
        assert_eq!(under, [("overlays/base/usr/bin/nothing", &nothing), ("overlays/base/usr/bin/tool", &tool)]);
        assert_eq!(sources.overlays().collect::<Vec<_>>(), ["base"]);
        assert!(sources.get("images/lab.lock").is_none());
    }

    #[test]
    fn what_no_image_can_carry_is_refused_all_at_once() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("overlays/a")).unwrap();
        std::fs::create_dir_all(root.path().join("profiles")).unwrap();
        std::os::unix::fs::symlink("b.toml", root.path().join("profiles/a.toml")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("overlays/a/socket")).unwrap();
        std::fs::File::create(root.path().join("overlays/a/huge")).unwrap().set_len(LARGEST_FILE + 1).unwrap();
        let report = Sources::read(root.path()).unwrap_err();
        let messages: Vec<_> = report.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "`profiles/a.toml` is a symbolic link; only overlays may hold links",
                "`overlays/a/huge` is larger than 16 MiB",
                "`overlays/a/socket` is neither a file, a directory nor a symbolic link",
            ]
        );
    }

    #[test]
    fn a_file_outside_images_has_no_project() {
        let report = Sources::of_image(Path::new("/tmp/somewhere/lab.toml")).unwrap_err();
        assert_eq!(report.diagnostics[0].message, "`/tmp/somewhere/lab.toml` is not in a directory `images`");
    }
}
