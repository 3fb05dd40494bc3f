//! What an image holds, read back from its bytes: its root as a tree, and the files of its ESP.
//!
//! The image may come from anywhere. The formats' readers bound what they believe; this file bounds how much is
//! hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::{Digest, Hasher};
use crate::format::squashfs::read::{EntryKind, FileData};
use crate::format::targz::read::{self as tarball, ReadTarError};
use crate::format::{Window, fat, pe};
use crate::image::opened::Opened;
use crate::report::{Diagnostic, Kind, Report};
use crate::sys::files::{self, Context as _};
use crate::tree::{self, Content, Meta, Node, Origin, Tree, TreePath};

/// Bytes of all files of an image together that are hashed at most: a hostile image can claim holes of any size.
const MOST_BYTES: u64 = 64 << 30;

/// Bytes of a file of an ESP that are read at most; a unified kernel image has some tens of megabytes.
const MOST_BOOT_BYTES: u32 = 1 << 30;

/// Bytes of a section of a unified kernel image that are shown as text at most.
const MOST_TEXT_BYTES: u32 = 64 << 10;

/// The first bytes of a gzip member (RFC 1952) and of a qcow2 image.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const QCOW2: [u8; 4] = *b"QFI\xfb";

/// An image's contents.
pub struct Contents {
    /// The root. Contents are digests; their places mean nothing.
    pub tree: Tree,
    /// The files of the ESP and the sections of its unified kernel images, by path; none in an image without an ESP.
    pub boot: BTreeMap<String, BootFile>,
    source: Source,
}

/// A file of the ESP, or a section of a unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// Bytes.
    pub size: u64,
    /// Their digest.
    pub sha256: Digest,
    /// The bytes themselves, where they are small.
    pub text: Option<Vec<u8>>,
}

/// Where bytes can be read once more.
enum Source {
    Squashfs { opened: Box<Opened>, files: BTreeMap<TreePath, FileData> },
    Tarball(PathBuf),
}

impl Contents {
    /// Reads and hashes everything that the image at `path` holds: a disk image, a network root, a squashfs or a
    /// root tarball. `progress` is told of bytes of contents.
    ///
    /// # Errors
    /// When it is none of these, or broken.
    pub fn read(path: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<Self, Report> {
        let mut head = [0; 4];
        let mut file = files::open(path).map_err(Diagnostic::from)?;
        let _ = file.read(&mut head).on("read", path).map_err(Diagnostic::from)?;
        if head == QCOW2 {
            let message = format!("`{}` is a qcow2 image, which is not opened", path.display());
            return Err(Diagnostic::error(Kind::Input, message)
                .hint("name the raw image, or convert it: `qemu-img convert -O raw IMAGE.qcow2 IMAGE.raw`")
                .into());
        }
        if head[..2] == GZIP { from_tarball(path, progress) } else { from_squashfs(path, progress) }
    }

    /// The bytes of some of its files, each of at most `limit` bytes; larger ones are left out.
    ///
    /// # Errors
    /// When the image is broken, or changed since it was read.
    pub fn bytes(&mut self, wanted: &BTreeSet<TreePath>, limit: u64) -> Result<BTreeMap<TreePath, Vec<u8>>, Report> {
        let small = |path: &TreePath| self.tree.get(path).and_then(Node::content).is_some_and(|one| one.size <= limit);
        let mut wanted: BTreeSet<TreePath> = wanted.iter().filter(|path| small(path)).cloned().collect();
        let mut found = BTreeMap::new();
        match &mut self.source {
            Source::Squashfs { opened, files } => {
                for path in wanted {
                    let Some(data) = files.get(&path) else { continue };
                    let mut bytes = Vec::new();
                    opened.root.read_file(data, &mut bytes).map_err(|error| broken(&error))?;
                    found.insert(path, bytes);
                }
            }
            Source::Tarball(path) => {
                // A hard link's bytes stand with the first name.
                let first = |path: &TreePath| match self.tree.get(path).map(|node| &node.kind) {
                    Some(tree::Kind::File(tree::File { group: Some(first), .. })) => first.clone(),
                    _ => path.clone(),
                };
                let asked: BTreeMap<TreePath, TreePath> =
                    wanted.iter().map(|path| (first(path), path.clone())).collect();
                let mut reader = tarball::Reader::new(files::open(path).map_err(Diagnostic::from)?);
                while !wanted.is_empty() {
                    let Some(entry) = reader.next_entry().map_err(|error| broken(&error))? else { break };
                    let Some(path) = asked.get(&entry.path).filter(|path| wanted.remove(*path)) else { continue };
                    let mut bytes = Vec::new();
                    let read = reader.content().take(limit).read_to_end(&mut bytes);
                    read.map_err(|error| broken(&error))?;
                    found.insert(path.clone(), bytes);
                }
            }
        }
        Ok(found)
    }
}

fn broken(error: &dyn std::error::Error) -> Report {
    Diagnostic::error(Kind::Trust, format!("the image is broken: {error}")).into()
}

fn too_much() -> Report {
    Diagnostic::error(Kind::Trust, "the image claims more than 64 GiB of files, which no root of ours has").into()
}

/// The origin of what is read back: nobody knows yet.
fn unknown() -> Arc<Origin> {
    Arc::new(Origin::Built("read back".to_owned()))
}

/// Hashes what is written, and tells how much.
struct Counter<'a> {
    hasher: Hasher,
    size: u64,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Counter<'a> {
    fn new(progress: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { hasher: Hasher::new(), size: 0, progress }
    }

    fn finish(self) -> Content {
        Content::whole(self.hasher.finish(), self.size)
    }
}

impl Write for Counter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        (self.progress)(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn from_squashfs(path: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<Contents, Report> {
    let mut opened = Opened::open(path)?;
    let origin = unknown();
    let mut tree: Option<Tree> = None;
    let mut files = BTreeMap::new();
    // Names of one file are hashed once: its first path and content, by inode number.
    let mut linked: BTreeMap<u32, (TreePath, Content)> = BTreeMap::new();
    let mut total = 0_u64;
    let mut walk = opened.root.walk();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(|error| broken(&error))?;
        let kind = match entry.kind {
            EntryKind::Directory(_) => tree::Kind::Directory,
            EntryKind::Symlink(target) => tree::Kind::Symlink(target),
            EntryKind::Character(major, minor) => tree::Kind::Character(major, minor),
            EntryKind::Block(major, minor) => tree::Kind::Block(major, minor),
            EntryKind::Fifo => tree::Kind::Fifo,
            EntryKind::Socket => tree::Kind::Socket,
            EntryKind::File(data) => {
                let group = |first: &TreePath| (entry.links > 1).then(|| first.clone());
                let known = linked.get(&entry.inode).filter(|_| entry.links > 1);
                let (content, group) = match known {
                    Some((first, content)) => (*content, group(first)),
                    None => {
                        total = total.saturating_add(data.size);
                        if total > MOST_BYTES {
                            return Err(too_much());
                        }
                        let mut counter = Counter::new(progress);
                        walk.image().read_file(&data, &mut counter).map_err(|error| broken(&error))?;
                        let content = counter.finish();
                        linked.insert(entry.inode, (entry.path.clone(), content));
                        (content, group(&entry.path))
                    }
                };
                files.insert(entry.path.clone(), data);
                tree::Kind::File(tree::File { content, group })
            }
        };
        let node = Node::new(entry.meta, kind, origin.clone());
        match &mut tree {
            None => tree = Some(Tree::new(node)),
            Some(tree) => tree.insert(entry.path, node).map_err(|error| broken(&error))?,
        }
    }
    let tree = tree.ok_or_else(|| broken(&io::Error::from(io::ErrorKind::UnexpectedEof)))?;
    let boot = boot_files(path, &opened)?;
    Ok(Contents { tree, boot, source: Source::Squashfs { opened: Box::new(opened), files } })
}

fn from_tarball(path: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<Contents, Report> {
    let origin = unknown();
    let directory = || Node::new(Meta::root_owned(0o755), tree::Kind::Directory, origin.clone());
    let mut tree = Tree::new(directory());
    let mut total = 0_u64;
    let mut reader = tarball::Reader::new(files::open(path).map_err(Diagnostic::from)?);
    let refuse = |error: &ReadTarError| broken(error);
    while let Some(entry) = reader.next_entry().map_err(|error| refuse(&error))? {
        let kind = match entry.kind {
            tarball::EntryKind::Directory => tree::Kind::Directory,
            tarball::EntryKind::Symlink(target) => tree::Kind::Symlink(target),
            tarball::EntryKind::Character(major, minor) => tree::Kind::Character(major, minor),
            tarball::EntryKind::Block(major, minor) => tree::Kind::Block(major, minor),
            tarball::EntryKind::Fifo => tree::Kind::Fifo,
            tarball::EntryKind::File(size) => {
                total = total.saturating_add(size);
                if total > MOST_BYTES {
                    return Err(too_much());
                }
                let mut counter = Counter::new(progress);
                io::copy(&mut reader.content(), &mut counter).map_err(|error| broken(&error))?;
                tree::Kind::file(counter.finish())
            }
            tarball::EntryKind::HardLink(first) => {
                let Some(node) = tree.get_mut(&first) else {
                    return Err(refuse(&ReadTarError::Broken("a hard link leads to nothing that came before")));
                };
                if let tree::Kind::File(file) = &mut node.kind {
                    file.group = Some(first);
                }
                let node = node.clone();
                tree.insert(entry.path, node).map_err(|error| broken(&error))?;
                continue;
            }
        };
        // Other tools leave out directories.
        let mut above = TreePath::root();
        for component in entry.path.parent().unwrap_or_default().components() {
            above = above.join(&TreePath::parse(component).map_err(|error| broken(&error))?);
            if tree.get(&above).is_none() {
                tree.insert(above.clone(), directory()).map_err(|error| broken(&error))?;
            }
        }
        tree.insert(entry.path, Node::new(entry.meta, kind, origin.clone())).map_err(|error| broken(&error))?;
    }
    Ok(Contents { tree, boot: BTreeMap::new(), source: Source::Tarball(path.to_owned()) })
}

/// The files of the image's ESP, when it has one.
fn boot_files(path: &Path, opened: &Opened) -> Result<BTreeMap<String, BootFile>, Report> {
    let mut boot = BTreeMap::new();
    let Some(esp) = opened.partitions.iter().find(|partition| partition.name == "esp") else { return Ok(boot) };
    let file: File = files::open(path).map_err(Diagnostic::from)?;
    let window = Window::new(&file, esp.offset, esp.size);
    let volume = fat::Reader::open(&window).map_err(|error| broken(&error))?;
    for found in volume.list().map_err(|error| broken(&error))?.iter().filter(|found| !found.directory) {
        let bytes = volume.read_found(found, MOST_BOOT_BYTES).map_err(|error| broken(&error))?;
        // Boot loaders have sections too; those of interest are a unified kernel image's.
        let sections = if found.path.ends_with(".efi") { pe::sections(&bytes).unwrap_or_default() } else { Vec::new() };
        if sections.iter().any(|section| section.name == ".linux") {
            for section in sections {
                let start = section.file_offset as usize;
                let length = section.size.min(section.file_size) as usize;
                let Some(inside) = bytes.get(start..).and_then(|rest| rest.get(..length)) else { continue };
                boot.insert(format!("{} {}", found.path, section.name), boot_file(inside));
            }
        }
        boot.insert(found.path.clone(), boot_file(&bytes));
    }
    Ok(boot)
}

fn boot_file(bytes: &[u8]) -> BootFile {
    let text = bytes.len() <= MOST_TEXT_BYTES as usize;
    BootFile { size: bytes.len() as u64, sha256: Digest::of(bytes), text: text.then(|| bytes.to_vec()) }
}
