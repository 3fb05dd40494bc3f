//! What maintainer scripts changed, read off the upper directory of an overlay. Runs inside the sandbox's namespaces.
//!
//! Owns the meaning of an upper directory: whiteouts, opaque directories, copied-up files, hard links, attributes. All
//! new contents become one stored object. Reads nothing but the upper directory: what is not there did not change.
//! Format: the kernel's Documentation/filesystems/overlayfs.rst.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{lgetxattr, llistxattr};

use crate::digest::{Digest, Hasher};
use crate::store::{ObjectWriter, Store, StoreError};
use crate::sys::files::{Context as _, FileError};
use crate::tree::{Content, File, Kind, Meta, Node, Origin, Place, Tree, TreePath};

use super::place::repair_groups;
use super::settle::removes;

/// `lower` with the changes that `upper` holds, and the object of the new contents. What changed in kind or content
/// comes from the maintainer scripts of `layer`; the rest keeps its origin.
///
/// # Errors
/// When a file cannot be read or stored.
pub fn capture(store: &Store, lower: &Tree, upper: &Path, layer: &str) -> Result<(Tree, Digest), StoreError> {
    let origin = Arc::new(Origin::Configure { layer: layer.to_owned() });
    let mut work = Work {
        store,
        lower,
        tree: lower.clone(),
        payload: store.writer()?,
        links: BTreeMap::new(),
        fresh: Vec::new(),
        origin,
        buffer: Vec::new(),
    };
    work.directory(&TreePath::root(), upper)?;
    let Work { mut tree, payload, fresh, .. } = work;
    let (object, _) = payload.finish()?;
    for path in &fresh {
        if let Some(Kind::File(file)) = tree.get_mut(path).map(|node| &mut node.kind) {
            file.content.place.object = object;
        }
    }
    repair_groups(&mut tree);
    Ok((tree, object))
}

struct Work<'a> {
    store: &'a Store,
    lower: &'a Tree,
    tree: Tree,
    payload: ObjectWriter<'a>,
    /// First name and content of an inode with several names.
    links: BTreeMap<u64, (TreePath, Content)>,
    /// Files whose content is in the new object, whose name is known at the end only.
    fresh: Vec<TreePath>,
    origin: Arc<Origin>,
    buffer: Vec<u8>,
}

impl Work<'_> {
    fn directory(&mut self, path: &TreePath, place: &Path) -> Result<(), StoreError> {
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(place).on("read", place)? {
            names.push(entry.on("read", place)?.file_name());
        }
        names.sort();
        for name in names {
            let place = place.join(&name);
            let Ok(component) = TreePath::parse(name.as_bytes()) else { continue };
            self.entry(&path.join(&component), &place)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &TreePath, place: &Path) -> Result<(), StoreError> {
        let metadata = fs::symlink_metadata(place).on("read", place)?;
        let file_type = metadata.file_type();
        if file_type.is_char_device() && metadata.rdev() == 0 {
            self.tree.remove(path);
            return Ok(());
        }
        let (meta, opaque) = read_meta(place, &metadata)?;
        let numbers = || (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        let kind = if file_type.is_dir() {
            Kind::Directory
        } else if file_type.is_symlink() {
            Kind::Symlink(fs::read_link(place).on("read", place)?.into_os_string().into_vec())
        } else if file_type.is_file() {
            Kind::File(self.file(path, place, &metadata)?)
        } else if file_type.is_char_device() {
            Kind::Character(numbers().0, numbers().1)
        } else if file_type.is_block_device() {
            Kind::Block(numbers().0, numbers().1)
        } else if file_type.is_fifo() {
            Kind::Fifo
        } else {
            Kind::Socket
        };
        let is_directory = kind.is_directory();
        if opaque || !is_directory {
            self.tree.remove(path);
        }
        let before = self.lower.get(path);
        let same = before.filter(|before| match (&before.kind, &kind) {
            (Kind::File(before), Kind::File(after)) => before.content == after.content,
            (before, after) => before == after,
        });
        let origin = same.map_or_else(|| self.origin.clone(), |before| before.origin.clone());
        // Its parent was visited before, and is a directory.
        let _ = self.tree.insert(path.clone(), Node::new(meta, kind, origin));
        if is_directory { self.directory(path, place) } else { Ok(()) }
    }

    fn file(&mut self, path: &TreePath, place: &Path, metadata: &fs::Metadata) -> Result<File, StoreError> {
        // Only inodes with several names are noted.
        if let Some((group, content)) = self.links.get(&metadata.ino()).cloned() {
            if self.fresh.contains(&group) {
                self.fresh.push(path.clone());
            }
            return Ok(File { content, group: Some(group) });
        }
        // Records of this very run, which the next step throws away: kept, they would make every run's object another one.
        if metadata.nlink() == 1 && removes(path, metadata.len()) {
            let place = Place { object: Digest::of(b""), offset: 0 };
            let content = Content { digest: Digest::of(b""), size: metadata.len(), place };
            return Ok(File { content, group: None });
        }
        let content = self.content(path, place)?;
        let group = (metadata.nlink() > 1).then(|| path.clone());
        if group.is_some() {
            self.links.insert(metadata.ino(), (path.clone(), content));
        }
        Ok(File { content, group })
    }

    /// The content of a file: that of the lower tree's file where it only was copied up, else stored anew.
    fn content(&mut self, path: &TreePath, place: &Path) -> Result<Content, StoreError> {
        let mut file = fs::File::open(place).on("read", place)?;
        let length = file.metadata().on("read", place)?.len();
        let offset = self.payload.size();
        let in_payload = |digest, size| {
            let place = Place { object: Digest::from_bytes([0; 32]), offset };
            Content { digest, size, place }
        };
        let failed = |source| FileError { doing: "write", path: self.store.root().join("objects"), source };
        if length <= 16 << 20 {
            self.buffer.clear();
            file.read_to_end(&mut self.buffer).on("read", place)?;
            let (digest, size) = (Digest::of(&self.buffer), self.buffer.len() as u64);
            let before = self.lower.get(path).and_then(Node::content);
            if let Some(before) = before.filter(|before| before.digest == digest && before.size == size) {
                return Ok(*before);
            }
            self.payload.write_all(&self.buffer).map_err(failed)?;
            self.fresh.push(path.clone());
            return Ok(in_payload(digest, size));
        }
        let mut tee = Tee { hasher: Hasher::new(), payload: &mut self.payload };
        let size = io::copy(&mut file, &mut tee).on("read", place)?;
        self.fresh.push(path.clone());
        Ok(in_payload(tee.hasher.finish(), size))
    }
}

struct Tee<'a, 'b> {
    hasher: Hasher,
    payload: &'a mut ObjectWriter<'b>,
}

impl io::Write for Tee<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.payload.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Owner, mode, time and the attributes that an image keeps, and whether the directory is opaque.
fn read_meta(place: &Path, metadata: &fs::Metadata) -> Result<(Meta, bool), FileError> {
    // Twelve bits fit sixteen.
    let mode = u16::try_from(metadata.mode() & 0o7777).unwrap_or_default();
    let mut meta = Meta { uid: metadata.uid(), gid: metadata.gid(), mtime: metadata.mtime(), ..Meta::root_owned(mode) };
    let mut opaque = false;
    let mut list = vec![0; 64 << 10];
    let length = match llistxattr(place, &mut list) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        other => other.on("read the attributes of", place)?,
    };
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let is_overlays = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
        opaque |= is_overlays && name.ends_with(b".opaque");
        // ACLs and labels are the build host's or are made anew at boot (systemd-tmpfiles).
        let is_kept = name == b"security.capability" || (name.starts_with(b"user.") && !is_overlays);
        if is_kept {
            let mut value = vec![0; 64 << 10];
            let length = lgetxattr(place, OsStr::from_bytes(name), &mut value).on("read the attributes of", place)?;
            value.truncate(length);
            meta.xattrs.insert(name.to_vec(), value);
        }
    }
    Ok((meta, opaque))
}
