//! Reading an image back: what it is, and what a path in it holds.
//!
//! The image may come from anywhere: the formats' readers bound what they believe.

use std::fs::File;
use std::path::Path;

use crate::digest::Hasher;
use crate::format::gpt::{self, partition_type};
use crate::format::squashfs::read::{Entry, EntryKind, Image};
use crate::report::{Diagnostic, Kind, Report};
use crate::store::ReadRange;
use crate::sys::files;
use crate::tree::TreePath;

/// A partition, as told to a person.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PartitionFacts {
    /// Label.
    pub name: String,
    /// Its GUID.
    pub guid: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// An image that was opened: a disk or network root with a partition table, or a bare squashfs.
pub struct Opened {
    /// The partitions; none for a bare squashfs.
    pub partitions: Vec<PartitionFacts>,
    /// Where the root's squashfs begins and how long it is, in bytes.
    pub root_range: (u64, u64),
    pub(super) root: Image<ReadRange<File>>,
}

/// A path in an image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PathFacts {
    /// The path as it is in the image, links of its parents followed.
    pub path: String,
    /// What it is: `file`, `directory`, `link`, ….
    pub kind: &'static str,
    /// Permission bits, octal.
    pub mode: String,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Size in bytes, of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Digest of a file's bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Target of a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Names of extended attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
}

impl Opened {
    /// Opens `path`.
    ///
    /// # Errors
    /// When it holds no root that can be read.
    pub fn open(path: &Path) -> Result<Self, Report> {
        let file = files::open(path).map_err(Diagnostic::from)?;
        let refuse = |why: String| {
            Report::from(
                Diagnostic::error(Kind::Input, format!("`{}` holds no root that can be read", path.display()))
                    .note(why)
                    .hint("name a manifest, a disk image, a network root or a squashfs"),
            )
        };
        let (partitions, offset, size) = match gpt::read(&file) {
            Ok(table) => {
                let root = table.partitions.iter().find(|found| found.type_guid == partition_type::ROOT_X86_64);
                let root = root.ok_or_else(|| refuse("its partition table has no root".to_owned()))?;
                let (offset, size) = (root.offset, root.size);
                let facts = table.partitions.iter().map(|found| PartitionFacts {
                    name: found.name.clone(),
                    guid: found.guid.to_string(),
                    offset: found.offset,
                    size: found.size,
                });
                (facts.collect(), offset, size)
            }
            Err(_) => {
                let metadata = file.metadata().map_err(|error| refuse(error.to_string()))?;
                (Vec::new(), 0, metadata.len())
            }
        };
        let root = Image::open(ReadRange::new(file, offset, size)).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { partitions, root_range: (offset, size), root })
    }

    /// What is at `path`, if anything is.
    ///
    /// # Errors
    /// When the image is broken there.
    pub fn path(&mut self, path: &TreePath) -> Result<Option<PathFacts>, Report> {
        let broken = |error: crate::format::squashfs::read::ReadError| {
            Report::from(Diagnostic::error(Kind::Trust, format!("the image is broken: {error}")))
        };
        let Some(entry) = self.root.find(path).map_err(broken)? else { return Ok(None) };
        let mut facts = facts(&entry);
        if let EntryKind::File(data) = &entry.kind {
            let mut sink = HashSink(Hasher::new(), 0);
            self.root.read_file(data, &mut sink).map_err(broken)?;
            facts.size = Some(sink.1);
            facts.sha256 = Some(sink.0.finish().to_string());
        }
        Ok(Some(facts))
    }

    /// The bytes of a small file; none when it is not there or cannot be read.
    pub fn bytes(&mut self, path: &str) -> Option<Vec<u8>> {
        let entry = self.root.find(&TreePath::parse(path).ok()?).ok()??;
        let EntryKind::File(data) = &entry.kind else { return None };
        let mut bytes = Vec::new();
        self.root.read_file(data, &mut bytes).ok()?;
        Some(bytes)
    }
}

struct HashSink(Hasher, u64);

impl std::io::Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        self.1 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn facts(entry: &Entry) -> PathFacts {
    let (kind, target) = match &entry.kind {
        EntryKind::Directory(_) => ("directory", None),
        EntryKind::File(_) => ("file", None),
        EntryKind::Symlink(target) => ("link", Some(String::from_utf8_lossy(target).into_owned())),
        EntryKind::Character(..) => ("character device", None),
        EntryKind::Block(..) => ("block device", None),
        EntryKind::Fifo => ("pipe", None),
        EntryKind::Socket => ("socket", None),
    };
    PathFacts {
        path: format!("/{}", entry.path),
        kind,
        mode: format!("{:04o}", entry.meta.mode),
        uid: entry.meta.uid,
        gid: entry.meta.gid,
        size: None,
        sha256: None,
        target,
        attributes: entry.meta.xattrs.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
    }
}
