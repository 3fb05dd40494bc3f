//! One .deb, decompressed once and for ever.
//!
//! Owns the reading of a data tar as an attacker may have written it, and what is kept of a package: one stored
//! object (its control files, then its data tar as decompressed) of which every file is a range, its nodes, and what
//! dpkg's database needs of it. Lays nothing: [`super::lay`] does. Formats: deb(5), tar(5), deb-conffiles(5).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Write as _};
use std::sync::Arc;

use md5::Digest as _;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::deb::compression::BoundExceeded;
use crate::deb::file::{DebError, DebFile, data_bound};
use crate::deb::package::Package;
use crate::digest::{Digest, Hasher, Key};
use crate::plan::LockedPackage;
use crate::report::{Diagnostic, Kind, Report};
use crate::store::{ObjectWriter, Store, StoreError};
use crate::tree::{Content, File, Kind as NodeKind, Meta, Node, Origin, Place, Tree, TreePath};

use super::leaves::Asked;

/// No package unpacks to more than this, whatever it says of itself.
const MOST_BYTES: u64 = 16 << 30;
/// Entries of a data tar at most; the largest real ones have some 80 000.
const MOST_ENTRIES: usize = 1_000_000;
/// Ids below this are all that a namespace maps.
const IDS: u64 = 65536;

/// A package as unpacked.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// The layer that asks for it.
    pub layer: String,
    /// The stanza of its file `control`, as written.
    pub stanza: String,
    /// The same, read.
    pub package: Package,
    /// Its other control files, by name.
    pub control: BTreeMap<String, Member>,
    /// Its configuration files with what their contents' MD5 is.
    pub conffiles: Vec<Conffile>,
    /// The text of its file `triggers`.
    pub triggers: String,
    /// Its files under the names that it gives them; origins name no layer yet.
    pub tree: Tree,
}

/// A control file, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Permission bits.
    pub mode: u16,
    /// Its bytes.
    pub content: Content,
}

/// A line of `conffiles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conffile {
    /// Absolute path as written.
    pub path: String,
    /// MD5 of the shipped file, as dpkg records it; none where the package ships no such file.
    pub md5: Option<String>,
    /// The file is one to be removed on upgrade (`remove-on-upgrade`).
    pub removed: bool,
}

/// What the store keeps of a package, by the .deb's digest.
#[derive(Serialize, Deserialize)]
struct Kept {
    stanza: String,
    payload: Digest,
    control: BTreeMap<String, KeptMember>,
    conffiles: Vec<Conffile>,
    triggers: String,
    tree: Digest,
}

#[derive(Serialize, Deserialize)]
struct KeptMember {
    mode: u16,
    offset: u64,
    size: u64,
    digest: Digest,
}

/// Why a package is not unpacked.
#[derive(Debug, thiserror::Error)]
enum UnpackError {
    #[error(transparent)]
    Deb(#[from] DebError),
    #[error("its data: {0}")]
    Data(io::Error),
    #[error("`{member}`: {problem}")]
    Member { member: String, problem: Problem },
    #[error("{0} bytes of data are more than its `Installed-Size` allows")]
    Bomb(u64),
    #[error("more than {MOST_ENTRIES} entries")]
    TooMany,
    #[error("`conffiles` is not as deb-conffiles(5) has it: `{0}`")]
    Conffiles(String),
    #[error("its control file says {found}")]
    Another { found: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with a member of a data tar.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Path(#[from] crate::tree::PathError),
    #[error("is there twice")]
    Twice,
    #[error("is a device; packages must not ship devices")]
    Device,
    #[error("is of a kind that packages must not ship (tar type `{0}`)")]
    Type(char),
    #[error("is a hard link to `{0}`, which the package does not ship before it")]
    HardLink(String),
    #[error("has a link target that is empty or longer than 4095 bytes")]
    Target,
    #[error("lies under `{0}`, which is no directory of the package")]
    Parent(String),
    #[error("belongs to user {0} and group {1}; ids end at 65535")]
    Owner(u64, u64),
    #[error("has a number in its header that does not read")]
    Number,
}

/// Unpacks packages whose .debs the store has, several at once; in the given order. `done` is called as each is there.
///
/// # Errors
/// Every package that is no sound .deb, or not the one that was locked.
pub fn unpack_all(store: &Store, packages: &[Asked], done: &(dyn Fn() + Sync)) -> Result<Vec<Unpacked>, Report> {
    let results: Vec<Result<Unpacked, Diagnostic>> = packages
        .par_iter()
        .map(|asked| {
            let unpacked = unpack(store, asked);
            done();
            unpacked
        })
        .collect();
    let mut report = Report::new();
    let mut unpacked = Vec::with_capacity(results.len());
    for result in results {
        match result {
            Ok(package) => unpacked.push(package),
            Err(diagnostic) => report.push(diagnostic),
        }
    }
    if report.has_errors() { Err(report) } else { Ok(unpacked) }
}

/// Unpacks one package, or finds it unpacked in the store.
///
/// # Errors
/// When it is no sound .deb, or not the one that was locked.
pub fn unpack(store: &Store, asked: &Asked) -> Result<Unpacked, Diagnostic> {
    let locked = &asked.package;
    let attempt = || -> Result<Unpacked, UnpackError> {
        let key = Key::new("layer.unpack", 2).input("deb", locked.sha256);
        if let Some(kept) = store.result::<Kept>(&key)? {
            return restore(store, kept, asked);
        }
        let kept = decompress(store, locked)?;
        store.record(&key, vec![kept.payload, kept.tree], &kept)?;
        restore(store, kept, asked)
    };
    attempt().map_err(|error| match error {
        UnpackError::Store(error) => error.into(),
        error => {
            let kind = if matches!(error, UnpackError::Another { .. }) { Kind::Trust } else { Kind::World };
            Diagnostic::error(kind, format!("the package {} {} is refused: {error}", locked.name, locked.version))
                .note(format!("its .deb is `{}`, SHA-256 {}", locked.path, locked.sha256))
                .hint("nothing of it was used; the archive that serves it has to be asked")
        }
    })
}

fn restore(store: &Store, kept: Kept, asked: &Asked) -> Result<Unpacked, UnpackError> {
    let locked = &asked.package;
    let stanza = crate::deb::control::Stanzas::new(&kept.stanza).next().ok_or(DebError::NoControl)?;
    let package = Package::parse(stanza).map_err(DebError::from)?;
    let found = (package.name.as_str(), package.version.as_str(), package.architecture.as_str());
    if found != (locked.name.as_str(), locked.version.as_str(), locked.architecture.as_str()) {
        return Err(UnpackError::Another { found: format!("{} {} {}", found.0, found.1, found.2) });
    }
    let member = |member: KeptMember| {
        let place = Place { object: kept.payload, offset: member.offset };
        Member { mode: member.mode, content: Content { digest: member.digest, size: member.size, place } }
    };
    let control = kept.control.into_iter().map(|(name, kept)| (name, member(kept))).collect();
    let tree = store.tree(&kept.tree)?;
    let layer = asked.layer.clone();
    Ok(Unpacked {
        layer,
        package,
        control,
        conffiles: kept.conffiles,
        triggers: kept.triggers,
        tree,
        stanza: kept.stanza,
    })
}

fn decompress(store: &Store, locked: &LockedPackage) -> Result<Kept, UnpackError> {
    let deb = store.open_verified(&locked.sha256)?;
    let mut deb = DebFile::open(BufReader::new(deb))?;
    let mut files = deb.control()?;
    let package = files.package()?;
    let stanza = files.control()?.trim_end().to_owned() + "\n";
    files.0.remove("control");

    let mut payload = store.writer()?;
    let mut control = BTreeMap::new();
    for (name, file) in &files.0 {
        let (offset, size) = (payload.size(), file.bytes.len() as u64);
        payload.write_all(&file.bytes).map_err(|error| store_error(store, error))?;
        control.insert(name.clone(), KeptMember { mode: file.mode, offset, size, digest: Digest::of(&file.bytes) });
    }
    let text =
        |name: &str| files.0.get(name).map_or(String::new(), |file| String::from_utf8_lossy(&file.bytes).into_owned());
    let mut conffiles = read_conffiles(&text("conffiles"))?;

    let bound = data_bound(package.installed_size, MOST_BYTES);
    let start = payload.size();
    let mut data = Data { source: deb.data(bound)?, payload, failed: None };
    // dpkg makes the list where a package has none, and its audit asks for it.
    let mut sums = (!files.0.contains_key("md5sums")).then(BTreeMap::new);
    let result = read_entries(&mut data, start, locked, &mut conffiles, &mut sums);
    if let Some(error) = data.failed {
        return Err(store_error(store, error));
    }
    let mut tree = result?;
    let mut payload = data.payload;
    if let Some(sums) = sums {
        let sums: String = sums.iter().map(|(path, md5)| format!("{md5}  {path}\n")).collect();
        let (offset, size) = (payload.size(), sums.len() as u64);
        payload.write_all(sums.as_bytes()).map_err(|error| store_error(store, error))?;
        let member = KeptMember { mode: 0o644, offset, size, digest: Digest::of(sums.as_bytes()) };
        control.insert("md5sums".to_owned(), member);
    }
    let (payload, _) = payload.finish()?;
    for (_, node) in tree.iter_mut() {
        if let NodeKind::File(file) = &mut node.kind {
            file.content.place.object = payload;
        }
    }
    let tree = store.put_tree(&tree)?;
    Ok(Kept { stanza, payload, control, conffiles, triggers: text("triggers"), tree })
}

fn store_error(store: &Store, source: io::Error) -> UnpackError {
    let error = crate::sys::FileError { doing: "write", path: store.root().join("objects"), source };
    UnpackError::Store(error.into())
}

fn read_conffiles(text: &str) -> Result<Vec<Conffile>, UnpackError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (removed, path) = match line.split_once(' ') {
                Some(("remove-on-upgrade", path)) => (true, path.trim()),
                _ => (false, line),
            };
            if !path.starts_with('/') || TreePath::parse(path).is_err() {
                return Err(UnpackError::Conffiles(line.chars().take(120).collect()));
            }
            Ok(Conffile { path: path.to_owned(), md5: None, removed })
        })
        .collect()
}

/// The data tar as it is read: every byte goes into the payload on its way.
struct Data<'a, R> {
    source: R,
    payload: ObjectWriter<'a>,
    /// What the payload's file said: not the package's fault.
    failed: Option<io::Error>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        if let Err(error) = self.payload.write_all(&buffer[..length]) {
            self.failed = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        Ok(length)
    }
}

/// A bomb is told apart from a broken stream.
fn data_error(error: io::Error) -> UnpackError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = source {
        if let Some(bound) = inner.downcast_ref::<BoundExceeded>() {
            return UnpackError::Bomb(bound.bound);
        }
        // The tar reader wraps what the stream said.
        source = match inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as _),
            None => inner.source(),
        };
    }
    UnpackError::Data(error)
}

fn read_entries<R: Read>(
    data: &mut Data<'_, R>,
    start: u64,
    locked: &LockedPackage,
    conffiles: &mut [Conffile],
    sums: &mut Option<BTreeMap<TreePath, String>>,
) -> Result<Tree, UnpackError> {
    let origin = Origin::Package { layer: String::new(), name: locked.name.clone(), version: locked.version.clone() };
    let origin = Arc::new(origin);
    let mut tree = Tree::new(Node::new(Meta::root_owned(0o755), NodeKind::Directory, origin.clone()));
    let mut archive = tar::Archive::new(BufReader::with_capacity(128 << 10, data));
    // Directories that no entry has named yet: the root, and parents that the tar left out.
    let mut implied = BTreeSet::from([TreePath::root()]);
    for (index, entry) in archive.entries().map_err(data_error)?.enumerate() {
        let mut entry = entry.map_err(data_error)?;
        if index == MOST_ENTRIES {
            return Err(UnpackError::TooMany);
        }
        let shown = String::from_utf8_lossy(&entry.path_bytes()).chars().take(200).collect::<String>();
        let fail = |problem: Problem| UnpackError::Member { member: shown.clone(), problem };
        let path = TreePath::parse(entry.path_bytes()).map_err(|error| fail(error.into()))?;
        let meta = meta_of(entry.header()).map_err(fail)?;
        let kind = match entry.header().entry_type() {
            tar::EntryType::Directory => NodeKind::Directory,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let conffile = conffiles.iter_mut().find(|conffile| {
                    !conffile.removed && TreePath::parse(&conffile.path).is_ok_and(|other| other == path)
                });
                let offset = start + entry.raw_file_position();
                let (content, md5) = read_file(&mut entry, offset, conffile.is_some() || sums.is_some())?;
                if let (Some(sums), Some(md5)) = (sums.as_mut(), &md5) {
                    sums.insert(path.clone(), md5.clone());
                }
                if let Some(conffile) = conffile {
                    conffile.md5 = md5;
                }
                NodeKind::file(content)
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                if target.is_empty() || target.len() > 4095 || target.contains(&0) {
                    return Err(fail(Problem::Target));
                }
                NodeKind::Symlink(target)
            }
            tar::EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let (first, file) = hard_link(&mut tree, &target).map_err(fail)?;
                if let Some(sums) = sums {
                    sums.extend(sums.get(&first).cloned().map(|md5| (path.clone(), md5)));
                }
                NodeKind::File(file)
            }
            tar::EntryType::Char | tar::EntryType::Block => return Err(fail(Problem::Device)),
            other => return Err(fail(Problem::Type(char::from(other.as_byte())))),
        };
        if tree.get(&path).is_some() && !(implied.remove(&path) && kind.is_directory()) {
            return Err(fail(Problem::Twice));
        }
        // All names of a hard-link group have one inode, and so one owner and mode: its first name's.
        let meta = match &kind {
            NodeKind::File(File { group: Some(group), .. }) => tree.get(group).map_or(meta, |node| node.meta.clone()),
            _ => meta,
        };
        implied.extend(add_parents(&mut tree, &path, &origin).map_err(fail)?);
        let node = Node::new(meta, kind, origin.clone());
        tree.insert(path.clone(), node).map_err(|_| fail(Problem::Parent(path.to_string())))?;
    }
    // What follows the tar's end belongs to the payload as well: its digest is that of all that came out.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(data_error)?;
    Ok(tree)
}

fn meta_of(header: &tar::Header) -> Result<Meta, Problem> {
    let (uid, gid) = (header.uid().map_err(|_| Problem::Number)?, header.gid().map_err(|_| Problem::Number)?);
    if uid >= IDS || gid >= IDS {
        return Err(Problem::Owner(uid, gid));
    }
    let id = |id: u64| u32::try_from(id).map_err(|_| Problem::Number);
    let mode = header.mode().map_err(|_| Problem::Number)?;
    let mtime = header.mtime().ok().and_then(|time| i64::try_from(time).ok()).ok_or(Problem::Number)?;
    // Twelve bits fit sixteen.
    let mode = u16::try_from(mode & 0o7777).map_err(|_| Problem::Number)?;
    Ok(Meta { uid: id(uid)?, gid: id(gid)?, mtime, ..Meta::root_owned(mode) })
}

/// The content of a file, and its MD5 where it is wanted.
fn read_file(entry: &mut impl Read, offset: u64, with_md5: bool) -> Result<(Content, Option<String>), UnpackError> {
    let mut hasher = Hasher::new();
    let mut md5 = with_md5.then(md5::Md5::new);
    let mut size = 0;
    let mut buffer = [0; 32 << 10];
    loop {
        let length = entry.read(&mut buffer).map_err(data_error)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        if let Some(md5) = &mut md5 {
            md5.update(&buffer[..length]);
        }
        size += length as u64;
    }
    let md5 = md5.map(|md5| md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
    // The payload's digest is known at its end only.
    let place = Place { object: Digest::from_bytes([0; 32]), offset };
    Ok((Content { digest: hasher.finish(), size, place }, md5))
}

/// The file that a hard link names, and the name.
fn hard_link(tree: &mut Tree, target: &[u8]) -> Result<(TreePath, File), Problem> {
    let shown = || String::from_utf8_lossy(&target[..target.len().min(200)]).into_owned();
    if target.first() == Some(&b'/') {
        return Err(Problem::HardLink(shown()));
    }
    let first = TreePath::parse(target)?;
    match tree.get_mut(&first).map(|node| &mut node.kind) {
        Some(NodeKind::File(file)) => {
            let group = file.group.get_or_insert_with(|| first.clone()).clone();
            Ok((first, File { content: file.content, group: Some(group) }))
        }
        _ => Err(Problem::HardLink(shown())),
    }
}

/// Some tars leave out directories that every root has: these are made and returned. What a package puts under a
/// file or link is refused.
fn add_parents(tree: &mut Tree, path: &TreePath, origin: &Arc<Origin>) -> Result<Vec<TreePath>, Problem> {
    let mut missing = Vec::new();
    let mut parent = path.parent();
    while let Some(directory) = parent {
        match tree.get(&directory).map(|node| node.kind.is_directory()) {
            Some(true) => break,
            Some(false) => return Err(Problem::Parent(directory.to_string())),
            None => {
                parent = directory.parent();
                missing.push(directory);
            }
        }
    }
    for directory in missing.iter().rev() {
        let node = Node::new(Meta::root_owned(0o755), NodeKind::Directory, origin.clone());
        let _ = tree.insert(directory.clone(), node);
    }
    Ok(missing)
}
