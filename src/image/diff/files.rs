//! Files that differ between two trees, as told to a person.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::report::Report;
use crate::tree::{self, Change, Node, TreePath, difference};

use super::capability;
use super::contents::{BootFile, Contents};
use super::origins::Origins;
use super::text;

/// Bytes of a file that is compared line by line at most.
const MOST_TEXT_BYTES: u64 = 128 << 10;

/// Files that are compared line by line at most.
const MOST_TEXTS: usize = 500;

/// Which changed files are shown line by line, when they are small texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// Configuration: what lies under `/etc`, units and their like, and what overlays brought.
    Configuration,
    /// Every one.
    All,
}

/// A file, directory or link that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Absolute path in the root; in the ESP, `ESP:` and the path there.
    pub path: String,
    /// What it was; none when it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<FileFacts>,
    /// What it is; none when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<FileFacts>,
    /// The names of the facts that differ, when it is on both sides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<&'static str>,
    /// The differing lines of a text, as a unified diff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// `file`, `directory`, `link`, ….
    pub kind: &'static str,
    /// Permission bits, octal.
    pub mode: String,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of last modification, seconds since the Epoch.
    pub time: i64,
    /// Bytes of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Their digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// A link's target, or a device's numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The file's first name, when it has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links_to: Option<String>,
    /// Extended attributes, each as text: capabilities by their names, other values as hexadecimal digits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Who put it there.
    pub origin: String,
}

impl FileFacts {
    fn of(path: &TreePath, node: &Node, origins: &Origins) -> Self {
        let bytes = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (kind, target) = match &node.kind {
            tree::Kind::Directory => ("directory", None),
            tree::Kind::File(_) => ("file", None),
            tree::Kind::Symlink(target) => ("link", Some(bytes(target))),
            tree::Kind::Character(major, minor) => ("character device", Some(format!("{major}:{minor}"))),
            tree::Kind::Block(major, minor) => ("block device", Some(format!("{major}:{minor}"))),
            tree::Kind::Fifo => ("pipe", None),
            tree::Kind::Socket => ("socket", None),
        };
        let group = match &node.kind {
            tree::Kind::File(file) => file.group.as_ref().filter(|first| *first != path),
            _ => None,
        };
        Self {
            kind,
            mode: format!("{:04o}", node.meta.mode),
            uid: node.meta.uid,
            gid: node.meta.gid,
            time: node.meta.mtime,
            size: node.content().map(|content| content.size),
            sha256: node.content().map(|content| content.digest.to_string()),
            target,
            links_to: group.map(|first| format!("/{first}")),
            attributes: node.meta.xattrs.iter().map(|(name, value)| capability::shown(name, value)).collect(),
            origin: origins.of(path),
        }
    }

    fn of_boot(file: &BootFile) -> Self {
        Self {
            kind: "file",
            mode: String::new(),
            uid: 0,
            gid: 0,
            time: 0,
            size: Some(file.size),
            sha256: Some(file.sha256.to_string()),
            target: None,
            links_to: None,
            attributes: BTreeMap::new(),
            origin: "the ESP".to_owned(),
        }
    }

    fn differs(&self, other: &Self) -> Vec<&'static str> {
        let pairs = [
            ("kind", self.kind == other.kind),
            ("mode", self.mode == other.mode),
            ("owner", (self.uid, self.gid) == (other.uid, other.gid)),
            ("content", self.sha256 == other.sha256 && self.size == other.size),
            ("target", self.target == other.target),
            ("links", self.links_to == other.links_to),
            ("attributes", self.attributes == other.attributes),
            ("time", self.time == other.time),
        ];
        pairs.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

impl FileChange {
    /// Whether nothing but the time of last modification differs.
    pub fn is_time_alone(&self) -> bool {
        self.differs == ["time"]
    }

    /// Who put it there: after, or before when it is gone.
    pub fn origin(&self) -> &str {
        self.after.as_ref().or(self.before.as_ref()).map_or("", |facts| &facts.origin)
    }
}

/// One side of a comparison.
pub struct Side<'a> {
    /// What the image holds.
    pub contents: &'a mut Contents,
    /// Where that comes from.
    pub origins: &'a Origins,
}

/// Every file of the roots that differs, in tree order, and then those of the ESPs.
///
/// # Errors
/// When a file cannot be read once more for its text.
pub fn changes(before: Side<'_>, after: Side<'_>, texts: Texts) -> Result<Vec<FileChange>, Report> {
    let mut changes = Vec::new();
    let mut wanted = BTreeSet::new();
    for (path, change) in difference(&before.contents.tree, &after.contents.tree) {
        let (one, two) = match change {
            Change::Added(node) => (None, Some(node)),
            Change::Removed(node) => (Some(node), None),
            Change::Changed(one, two) => (Some(one), Some(two)),
        };
        let one = one.map(|node| FileFacts::of(path, node, before.origins));
        let two = two.map(|node| FileFacts::of(path, node, after.origins));
        let differs = one.as_ref().zip(two.as_ref()).map_or_else(Vec::new, |(one, two)| one.differs(two));
        let is_text = texts == Texts::All || is_configuration(path, two.as_ref().map_or("", |facts| &facts.origin));
        if differs.contains(&"content") && is_text && wanted.len() < MOST_TEXTS {
            wanted.insert(path.clone());
        }
        changes.push((
            path.clone(),
            FileChange { path: format!("/{path}"), before: one, after: two, differs, text: None },
        ));
    }
    let one = before.contents.bytes(&wanted, MOST_TEXT_BYTES)?;
    let two = after.contents.bytes(&wanted, MOST_TEXT_BYTES)?;
    for (path, change) in &mut changes {
        if let (Some(one), Some(two)) = (one.get(path), two.get(path)) {
            change.text = text::unified(&change.path, one, two);
        }
    }
    let mut changes: Vec<FileChange> = changes.into_iter().map(|(_, change)| change).collect();
    // A tarball has no ESP, which is no difference.
    if !before.contents.boot.is_empty() && !after.contents.boot.is_empty() {
        changes.extend(boot_changes(&before.contents.boot, &after.contents.boot));
    }
    Ok(changes)
}

fn boot_changes(before: &BTreeMap<String, BootFile>, after: &BTreeMap<String, BootFile>) -> Vec<FileChange> {
    // An image has one unified kernel image, named by role and version: it is compared whatever it is called.
    let before = &match (unified_kernel(before), unified_kernel(after)) {
        (Some(one), Some(two)) => {
            let renamed = |(name, file): (&String, &BootFile)| (name.replacen(one, two, 1), file.clone());
            before.iter().map(renamed).collect()
        }
        _ => before.clone(),
    };
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let change = |name: &String| {
        let (one, two) = (before.get(name), after.get(name));
        let path = format!("ESP:/{name}");
        let texts = one.and_then(|one| one.text.as_ref()).zip(two.and_then(|two| two.text.as_ref()));
        FileChange {
            text: texts.and_then(|(one, two)| text::unified(&path, one, two)),
            path,
            differs: if one.is_some() && two.is_some() { vec!["content"] } else { Vec::new() },
            before: one.map(FileFacts::of_boot),
            after: two.map(FileFacts::of_boot),
        }
    };
    changed.map(change).collect()
}

/// The name of the unified kernel image, when there is exactly one.
fn unified_kernel(boot: &BTreeMap<String, BootFile>) -> Option<&str> {
    let mut names = boot.keys().filter(|name| name.starts_with("EFI/Linux/") && name.ends_with(".efi"));
    names.next().filter(|_| names.next().is_none()).map(String::as_str)
}

/// Whether a file is configuration, by where it lies or who brought it.
fn is_configuration(path: &TreePath, origin: &str) -> bool {
    const PLACES: [&[u8]; 5] =
        [b"etc/", b"usr/lib/systemd/", b"usr/lib/tmpfiles.d/", b"usr/lib/sysusers.d/", b"usr/lib/repart.d/"];
    PLACES.iter().any(|place| path.as_bytes().starts_with(place)) || origin.contains("overlays/")
}
