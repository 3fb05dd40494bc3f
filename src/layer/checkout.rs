//! A tree on disk: written once, then changed by what differs. Runs inside the sandbox's namespaces.
//!
//! Owns the files of a checkout: contents copied out of the store (never linked: nothing written in a checkout reaches
//! an object), owners, modes, times, attributes, hard links, and the marks by which an upper directory of an overlay
//! hides what is under it. Every parent of a node is a directory of the tree, so no link is ever followed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, lsetxattr,
    makedev, mknodat, openat, utimensat,
};

use crate::digest::Digest;
use crate::store::{Store, StoreError};
use crate::sys::files::{Context as _, FileError};
use crate::tree::{Change, Content, Kind, Meta, Node, Tree, TreePath, difference};

/// Files up to this size are copied through memory at once.
const SMALL: u64 = 1 << 20;

/// From this size on it is quicker when the kernel copies, which goes where nothing is left to hash.
const WORTH: u64 = 32 << 10;

/// Writes all of `tree` into the empty directory `directory`.
///
/// # Errors
/// When a file cannot be written or the store lacks a content.
pub fn write_all(store: &Store, tree: &Tree, directory: &Path) -> Result<(), StoreError> {
    let nodes: Vec<_> = tree.iter().collect();
    write(store, &nodes, directory)?;
    set_directories(tree, tree.iter().map(|(path, _)| path), directory)
}

/// Turns a checkout of `from` into one of `to`. With `base`, `directory` is not the whole of it but lies over a
/// checkout of `base` in an overlay: what is gone from `base` is hidden.
///
/// # Errors
/// As [`write_all`].
pub fn change(store: &Store, from: &Tree, to: &Tree, base: Option<&Tree>, directory: &Path) -> Result<(), StoreError> {
    let mut touched: BTreeSet<TreePath> = BTreeSet::new();
    let mut written: BTreeMap<&TreePath, &Node> = BTreeMap::new();
    let mut hidden: Vec<&TreePath> = Vec::new();
    for (path, change) in difference(from, to) {
        match change {
            Change::Added(node) => {
                clear(&place(directory, path))?;
                written.insert(path, node);
            }
            Change::Changed(old, node) => {
                let place = place(directory, path);
                if old.kind == node.kind && old.meta.xattrs == node.meta.xattrs && fs::symlink_metadata(&place).is_ok()
                {
                    // Owner, mode or time alone: in place, directories once all is written.
                    let is_link = matches!(node.kind, Kind::Symlink(_));
                    set_meta(&place, &node.meta, is_link)?;
                    if node.kind.is_directory() {
                        written.insert(path, node);
                    }
                } else {
                    if !(old.kind.is_directory() && node.kind.is_directory()) {
                        clear(&place)?;
                    }
                    written.insert(path, node);
                }
            }
            Change::Removed(_) => {
                clear(&place(directory, path))?;
                let parent_stays = path.parent().is_some_and(|parent| is_directory(to, &parent));
                if parent_stays && base.is_some_and(|base| base.get(path).is_some()) {
                    hidden.push(path);
                }
            }
        }
        let mut parent = path.parent();
        while let Some(directory) = parent {
            parent = directory.parent();
            if !touched.insert(directory) {
                break;
            }
        }
    }
    // Over a base, the directories on the way may not be here yet.
    let mut nodes: BTreeMap<&TreePath, &Node> = BTreeMap::new();
    for path in &touched {
        if let Some(node) = to.get(path).filter(|node| node.kind.is_directory()) {
            nodes.insert(path, node);
        }
    }
    nodes.extend(&written);
    let all: Vec<_> = nodes.iter().map(|(path, node)| (*path, *node)).collect();
    write(store, &all, directory)?;
    for path in hidden {
        let place = place(directory, path);
        mknodat(CWD, &place, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).on("hide", &place)?;
    }
    set_directories(to, nodes.keys().copied(), directory)
}

fn is_directory(tree: &Tree, path: &TreePath) -> bool {
    tree.get(path).is_some_and(|node| node.kind.is_directory())
}

fn place(directory: &Path, path: &TreePath) -> PathBuf {
    directory.join(OsStr::from_bytes(path.as_bytes()))
}

/// Removes what is at `path`, if anything.
fn clear(path: &Path) -> Result<(), FileError> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    result.on("remove", path)
}

/// Writes nodes: directories first, then everything else, a stored object's files together, then further names.
fn write(store: &Store, nodes: &[(&TreePath, &Node)], directory: &Path) -> Result<(), StoreError> {
    let mut by_object: BTreeMap<Digest, Vec<(PathBuf, &Meta, &Content)>> = BTreeMap::new();
    let mut first_names: BTreeMap<&TreePath, PathBuf> = BTreeMap::new();
    let mut further_names: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (path, node) in nodes {
        let place = place(directory, path);
        match &node.kind {
            Kind::Directory => match fs::create_dir(&place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).on("create", &place)?;
                }
                _ => {}
            },
            Kind::File(file) => {
                if let Some(group) = &file.group {
                    if let Some(first) = first_names.get(group) {
                        further_names.push((first.clone(), place));
                        continue;
                    }
                    first_names.insert(group, place.clone());
                }
                let content = &file.content;
                by_object.entry(content.place.object).or_default().push((place, &node.meta, content));
            }
            Kind::Symlink(target) => {
                std::os::unix::fs::symlink(OsStr::from_bytes(target), &place).on("create", &place)?;
                set_meta(&place, &node.meta, true)?;
            }
            Kind::Character(major, minor) => {
                make_special(&place, &node.meta, FileType::CharacterDevice, *major, *minor)?
            }
            Kind::Block(major, minor) => make_special(&place, &node.meta, FileType::BlockDevice, *major, *minor)?,
            Kind::Fifo => make_special(&place, &node.meta, FileType::Fifo, 0, 0)?,
            Kind::Socket => make_special(&place, &node.meta, FileType::Socket, 0, 0)?,
        }
    }
    let objects: Vec<_> = by_object.into_iter().collect();
    objects.par_iter().try_for_each(|(object, files)| write_files(store, object, files))?;
    for (first, further) in further_names {
        fs::hard_link(&first, &further).on("create", &further)?;
    }
    Ok(())
}

fn make_special(place: &Path, meta: &Meta, kind: FileType, major: u32, minor: u32) -> Result<(), FileError> {
    mknodat(CWD, place, kind, Mode::from_raw_mode(u32::from(meta.mode)), makedev(major, minor)).on("create", place)?;
    set_meta(place, meta, false)
}

fn write_files(store: &Store, object: &Digest, files: &[(PathBuf, &Meta, &Content)]) -> Result<(), StoreError> {
    let source = Source { store, file: store.open_object(object)?, verified: store.is_verified(object) };
    let mut buffer = Vec::new();
    for (place, meta, content) in files {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = openat(CWD, place, flags, Mode::from_raw_mode(0o600)).on("create", place)?;
        let target = fs::File::from(target);
        source.copy(content, &target, place, &mut buffer)?;
        set_file_meta(&target, place, meta)?;
    }
    Ok(())
}

/// A stored object that files are copied from.
struct Source<'a> {
    store: &'a Store,
    file: fs::File,
    /// Whether its bytes are known to be what its name says.
    verified: bool,
}

impl Source<'_> {
    /// Copies a content into the new file at `place`, hashed on its way where its object was not before.
    fn copy(&self, content: &Content, target: &fs::File, place: &Path, buffer: &mut Vec<u8>) -> Result<(), StoreError> {
        let Self { store, file, verified } = self;
        // A kernel or a file system that cannot is no error: then it is read and written.
        if *verified && content.size >= WORTH && copy_by_kernel(file, content, target).is_ok() {
            return Ok(());
        }
        let object = &content.place.object;
        if content.size <= SMALL {
            buffer.resize(usize::try_from(content.size).unwrap_or_default(), 0);
            file.read_exact_at(buffer, content.place.offset).on("read", &store.object_path(object))?;
            if !verified && Digest::of(buffer) != content.digest {
                return Err(store.discard(object));
            }
            return Ok(target.write_all_at(buffer, 0).on("write", place)?);
        }
        let mut reader = store.reader(content)?;
        let copied = io::copy(&mut reader, &mut &*target).on("write", place)?;
        if copied == content.size { Ok(()) } else { Err(StoreError::Altered(*object)) }
    }
}

/// Copies a content within a file system (copy_file_range(2)).
fn copy_by_kernel(source: &fs::File, content: &Content, target: &fs::File) -> io::Result<()> {
    let (mut from, mut to) = (content.place.offset, 0);
    while to < content.size {
        let left = usize::try_from(content.size - to).unwrap_or(usize::MAX);
        if rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), left)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn set_file_meta(file: &fs::File, place: &Path, meta: &Meta) -> Result<(), FileError> {
    let (owner, group) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    // The owner first: a change of owner takes the set-user-ID bit and capabilities away.
    rustix::fs::fchown(file, Some(owner), Some(group)).on("give an owner to", place)?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(u32::from(meta.mode))).on("give a mode to", place)?;
    for (name, value) in &meta.xattrs {
        rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).on("give an attribute to", place)?;
    }
    rustix::fs::futimens(file, &times(meta)).on("give a time to", place)
}

fn set_meta(place: &Path, meta: &Meta, is_link: bool) -> Result<(), FileError> {
    let (owner, group) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    chownat(CWD, place, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW).on("give an owner to", place)?;
    if !is_link {
        let mode = Mode::from_raw_mode(u32::from(meta.mode));
        chmodat(CWD, place, mode, AtFlags::empty()).on("give a mode to", place)?;
        for (name, value) in &meta.xattrs {
            lsetxattr(place, name.as_slice(), value, XattrFlags::empty()).on("give an attribute to", place)?;
        }
    }
    utimensat(CWD, place, &times(meta), AtFlags::SYMLINK_NOFOLLOW).on("give a time to", place)
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Gives directories their owners, modes and times, the deepest first, once nothing is put into them any more.
fn set_directories<'a>(
    tree: &Tree,
    paths: impl DoubleEndedIterator<Item = &'a TreePath>,
    directory: &Path,
) -> Result<(), StoreError> {
    for path in paths.rev() {
        if let Some(node) = tree.get(path).filter(|node| node.kind.is_directory()) {
            set_meta(&place(directory, path), &node.meta, false)?;
        }
    }
    Ok(())
}
