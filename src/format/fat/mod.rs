//! FAT32 file systems that are written once: the EFI system partition and seed media.
//!
//! Owns the layout of a whole volume as a recipe (every file in one run, entries in sorted order, every time the
//! same) and a reader for it. FAT32 alone, with 512-byte sectors: firmware reads no other sector size everywhere, and
//! with a fixed kind the number of clusters is no surprise. Never changes a volume that exists.
//! Specification: Microsoft's *FAT: General Overview of On-Disk Format*, version 1.03.

mod layout;
mod names;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Found, ReadFatError, Reader};
pub use write::{minimum_size, volume};

use std::collections::BTreeMap;

use super::Recipe;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Bytes of a directory entry.
const ENTRY: usize = 32;
/// The most entries that a directory can have: its size is kept below 2 MiB.
const MOST_ENTRIES: u64 = 65_536;
/// A volume with fewer clusters is FAT16 to whoever reads it.
const FEWEST_CLUSTERS: u64 = 65_525;
/// Cluster numbers from here on have meanings of their own.
const BAD_CLUSTER: u32 = 0x0fff_fff7;
/// Ends a chain of clusters.
const END_OF_CHAIN: u32 = 0x0fff_ffff;
/// The two high nibbles of a FAT entry are reserved.
const CLUSTER_MASK: u32 = 0x0fff_ffff;
/// The first cluster of the data region has this number.
const FIRST_CLUSTER: u32 = 2;

/// Attribute bits of a directory entry.
mod attribute {
    pub(super) const VOLUME_LABEL: u8 = 0x08;
    pub(super) const DIRECTORY: u8 = 0x10;
    pub(super) const ARCHIVE: u8 = 0x20;
    /// All four low bits together mark a piece of a long name.
    pub(super) const LONG_NAME: u8 = 0x0f;
}

/// Something that FAT32 cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FatError {
    /// A name that FAT does not allow.
    #[error("FAT cannot hold the name `{name}`: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// Two names in one directory that differ in case only, or a path through a file.
    #[error("`{0}` is on the FAT volume already (FAT does not tell upper from lower case)")]
    Exists(String),
    /// FAT32 counts a file's bytes in 32 bits.
    #[error("`{name}` has {size} bytes; a file on FAT32 has at most 4294967295")]
    FileTooLarge {
        /// Its name.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// More names than a directory can hold.
    #[error("a FAT directory holds at most 65536 entries (a long name takes several)")]
    DirectoryFull,
    /// A label that FAT does not allow.
    #[error("the volume label `{0}` has to be 1 to 11 upper-case letters, digits, spaces, `-` or `_`")]
    Label(String),
    /// The volume is too small for its content, too small for FAT32, too large, or ends inside a sector.
    #[error("a FAT32 volume with this content cannot have {size} bytes: at least {least} are needed, in units of 512")]
    Size {
        /// What was asked for, in bytes.
        size: u64,
        /// What is needed, in bytes; see [`minimum_size`].
        least: u64,
    },
    /// More than the 1 TiB that this writer lays out.
    #[error("the content needs more than the 1 TiB that a FAT32 volume can have here")]
    TooLarge,
}

/// A directory: names and what is under them. Names are kept as written and compared without case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// By the name in upper case, which is also the order on the volume.
    entries: BTreeMap<String, (String, Entry)>,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Directory(Directory),
    File(Recipe),
}

impl Directory {
    /// A directory without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file at `path` (components joined by `/`) and makes the directories on the way.
    ///
    /// # Errors
    /// When FAT does not allow a name, the path is taken, or the file is too large.
    pub fn file(&mut self, path: &str, content: Recipe) -> Result<(), FatError> {
        if u32::try_from(content.length()).is_err() {
            return Err(FatError::FileTooLarge { name: path.to_owned(), size: content.length() });
        }
        let (parent, name) = match path.rsplit_once('/') {
            Some((parent, name)) => (self.directory(parent)?, name),
            None => (self, path),
        };
        names::check(name)?;
        let key = names::fold(name);
        if parent.entries.contains_key(&key) {
            return Err(FatError::Exists(path.to_owned()));
        }
        parent.entries.insert(key, (name.to_owned(), Entry::File(content)));
        Ok(())
    }

    /// The directory at `path`, made if it is missing with those on the way.
    ///
    /// # Errors
    /// When FAT does not allow a name, or a file is in the way.
    pub fn directory(&mut self, path: &str) -> Result<&mut Self, FatError> {
        let mut place = self;
        for name in path.split('/') {
            names::check(name)?;
            let entry = place.entries.entry(names::fold(name));
            let (written, entry) = entry.or_insert_with(|| (name.to_owned(), Entry::Directory(Self::new())));
            match entry {
                Entry::Directory(directory) if written == name => place = directory,
                _ => return Err(FatError::Exists(path.to_owned())),
            }
        }
        Ok(place)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.values().map(|(name, entry)| (name.as_str(), entry))
    }
}
