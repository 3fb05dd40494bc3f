//! The nodes of a tree.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::digest::Digest;

use super::TreePath;

/// Owner, mode, time and extended attributes of a node, as `inode(7)` has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, set-user-ID, set-group-ID and sticky bit: the low twelve bits of `st_mode`.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of last modification, in seconds since the Epoch.
    pub mtime: i64,
    /// Extended attributes by full name (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Meta {
    /// Owned by root, with the permission bits `mode`, at the Epoch, without attributes.
    pub fn root_owned(mode: u16) -> Self {
        Self { mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
    }
}

/// Where a store holds the bytes of a file: a range of an object (a package's files lie in its payload).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The object.
    pub object: Digest,
    /// First byte of the file in it.
    pub offset: u64,
}

/// The bytes of a file, by name.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// Digest of the file's bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Where a store holds them. Not part of what the content is: two contents are equal when their bytes are.
    pub place: Place,
}

impl Content {
    /// Content that is a stored object of its own.
    pub fn whole(digest: Digest, size: u64) -> Self {
        Self { digest, size, place: Place { object: digest, offset: 0 } }
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.size == other.size
    }
}

impl Eq for Content {}

/// A regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its bytes.
    pub content: Content,
    /// The name of its hard-link group where it has more than one name: the group's first path. All members of a
    /// group have the same content and [`Meta`].
    pub group: Option<TreePath>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(File),
    /// A symbolic link and its target's bytes.
    Symlink(Vec<u8>),
    /// A character device: major, minor.
    Character(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }

    /// A file with one name.
    pub fn file(content: Content) -> Self {
        Self::File(File { content, group: None })
    }
}

/// Who put a node where it is. Shown by `rolecast inspect`, never part of an image's bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Shipped by a package of the layer.
    Package {
        /// Layer that installs it.
        layer: String,
        /// Package name.
        name: String,
        /// Package version.
        version: String,
    },
    /// Made or changed by the maintainer scripts of a layer.
    Configure {
        /// The layer.
        layer: String,
    },
    /// A file of an overlay.
    Overlay {
        /// Layer that lays it.
        layer: String,
        /// The file, from the project's root.
        file: String,
    },
    /// Asked for by a line of a profile or image file.
    Written {
        /// Layer it belongs to.
        layer: String,
        /// The file, from the project's root.
        file: String,
        /// Line, from 1.
        line: usize,
    },
    /// Made by rolecast itself; the text says which part and why.
    Built(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package { layer, name, version } => write!(formatter, "package {name} {version} (layer {layer})"),
            Self::Configure { layer } => write!(formatter, "maintainer scripts of layer {layer}"),
            Self::Overlay { layer, file } => write!(formatter, "{file} (layer {layer})"),
            Self::Written { layer, file, line } => write!(formatter, "{file}:{line} (layer {layer})"),
            Self::Built(part) => write!(formatter, "rolecast: {part}"),
        }
    }
}

/// One node of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Owner, mode, time, attributes.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
    /// Who put it here.
    pub origin: Arc<Origin>,
}

impl Node {
    /// A node.
    pub fn new(meta: Meta, kind: Kind, origin: impl Into<Arc<Origin>>) -> Self {
        Self { meta, kind, origin: origin.into() }
    }

    /// The content, for a regular file.
    pub fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::File(file) => Some(&file.content),
            _ => None,
        }
    }
}
