//! Reading a FAT32 volume back, one that anybody may have written.

use std::collections::BTreeSet;
use std::io;

use super::super::ReadAt;
use super::names::{LongName, ShortName, shown};
use super::{BAD_CLUSTER, CLUSTER_MASK, ENTRY, FEWEST_CLUSTERS, FIRST_CLUSTER, SECTOR, attribute};

/// A volume of ours has a handful of names; one with more than this is not listed.
const MOST_FOUND: usize = 65_536;
/// Bytes of all directories together that are read at most.
const MOST_DIRECTORY_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of all paths together that are kept at most.
const MOST_PATH_BYTES: usize = 16 * 1024 * 1024;
/// Levels of directories that are entered at most.
const DEEPEST: usize = 32;

/// A volume that is no FAT32, or a broken one.
#[derive(Debug, thiserror::Error)]
pub enum ReadFatError {
    /// The boot sector is none of FAT32.
    #[error("not a FAT32 volume: {0}")]
    NotFat(&'static str),
    /// The structures contradict each other.
    #[error("the FAT volume is broken: {0}")]
    Broken(&'static str),
    /// More than the reader is ready to hold.
    #[error("the FAT volume holds more than the reader takes: {0}")]
    OverLimit(&'static str),
    /// No file of that path.
    #[error("there is no file `{0}` on the FAT volume")]
    Missing(String),
    /// The medium failed, or ended early.
    #[error("the FAT volume cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A file or directory that a volume holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path from the root of the volume, without a leading `/`.
    pub path: String,
    /// Whether it is a directory.
    pub directory: bool,
    /// A file's size in bytes.
    pub size: u32,
    cluster: u32,
}

/// A FAT32 volume that is read.
#[derive(Debug)]
pub struct Reader<'a, R: ?Sized> {
    medium: &'a R,
    label: String,
    volume_id: u32,
    cluster_size: u64,
    /// Where the FAT in use lies, in bytes.
    table: u64,
    /// Where the data region lies, in bytes.
    data: u64,
    clusters: u32,
    root: u32,
}

impl<'a, R: ReadAt + ?Sized> Reader<'a, R> {
    /// Opens the volume on `medium`, a [`super::super::Window`] where it is a partition.
    ///
    /// # Errors
    /// [`ReadFatError::NotFat`] when its boot sector is none of FAT32 with 512-byte sectors.
    pub fn open(medium: &'a R) -> Result<Self, ReadFatError> {
        let mut sector = [0; SECTOR as usize];
        medium.read_exact_at(0, &mut sector)?;
        let word = |at: usize| u16::from_le_bytes([sector[at], sector[at + 1]]);
        let double = |at: usize| u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]]);
        let (per_cluster, reserved, tables) = (sector[13], word(14), sector[16]);
        let (sectors, table_sectors) = (double(32), double(36));
        if word(510) != 0xaa55 || u64::from(word(11)) != SECTOR {
            return Err(ReadFatError::NotFat("no boot sector of 512 bytes"));
        }
        if word(17) != 0 || word(19) != 0 || word(22) != 0 || !per_cluster.is_power_of_two() || reserved == 0 {
            return Err(ReadFatError::NotFat("its parameters are FAT12's or FAT16's, or nobody's"));
        }
        if !(1..=2).contains(&tables) {
            return Err(ReadFatError::NotFat("it has neither one FAT nor two"));
        }
        let data_sector = u64::from(reserved) + u64::from(tables) * u64::from(table_sectors);
        let data_sectors = u64::from(sectors).checked_sub(data_sector);
        let clusters = data_sectors.ok_or(ReadFatError::NotFat("it ends inside its FATs"))? / u64::from(per_cluster);
        let capacity = u64::from(table_sectors) * SECTOR / 4;
        if clusters < FEWEST_CLUSTERS || clusters >= u64::from(BAD_CLUSTER) || clusters + 2 > capacity {
            return Err(ReadFatError::NotFat("its number of clusters is not FAT32's"));
        }
        let mut label: ShortName = [0; 11];
        label.copy_from_slice(&sector[71..82]);
        Ok(Self {
            medium,
            label: String::from_utf8_lossy(&label).trim_end().to_owned(),
            volume_id: double(67),
            cluster_size: u64::from(per_cluster) * SECTOR,
            table: u64::from(reserved) * SECTOR,
            data: data_sector * SECTOR,
            clusters: clusters as u32,
            root: double(44),
        })
    }

    /// The volume's label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The volume's serial number.
    pub fn volume_id(&self) -> u32 {
        self.volume_id
    }

    /// All files and directories, each directory before what is in it.
    ///
    /// # Errors
    /// When the volume is broken, or holds more than a reader of hostile input takes.
    pub fn list(&self) -> Result<Vec<Found>, ReadFatError> {
        let mut found = Vec::new();
        self.list_into(&mut found, &mut Walk::default(), self.root, "", 0)?;
        Ok(found)
    }

    /// The bytes of the file at `path`, of at most `limit`. Names are compared without the case of ASCII letters.
    ///
    /// # Errors
    /// When there is no such file, it is larger, or the volume is broken.
    pub fn read(&self, path: &str, limit: u32) -> Result<Vec<u8>, ReadFatError> {
        let mut found = self.list()?.into_iter();
        let file = found.find(|found| !found.directory && found.path.eq_ignore_ascii_case(path));
        self.read_found(&file.ok_or_else(|| ReadFatError::Missing(path.chars().take(200).collect()))?, limit)
    }

    /// The bytes of a file that [`Reader::list`] found, of at most `limit`.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_found(&self, file: &Found, limit: u32) -> Result<Vec<u8>, ReadFatError> {
        if file.size > limit {
            return Err(ReadFatError::OverLimit("a file is larger than expected"));
        }
        let mut content = vec![0; file.size as usize];
        let mut cluster = file.cluster;
        for chunk in content.chunks_mut(self.cluster_size as usize) {
            self.medium.read_exact_at(self.place(cluster)?, chunk)?;
            cluster = self.next(cluster)?.unwrap_or(0);
        }
        Ok(content)
    }

    fn list_into(
        &self,
        list: &mut Vec<Found>,
        walk: &mut Walk,
        cluster: u32,
        path: &str,
        depth: usize,
    ) -> Result<(), ReadFatError> {
        if depth > DEEPEST {
            return Err(ReadFatError::OverLimit("directories lie too deep"));
        }
        for entry in self.directory(walk, cluster, path)? {
            list.push(entry.clone());
            if entry.directory {
                self.list_into(list, walk, entry.cluster, &entry.path, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The entries of the directory that starts at `cluster`.
    fn directory(&self, walk: &mut Walk, cluster: u32, path: &str) -> Result<Vec<Found>, ReadFatError> {
        let mut entries = Vec::new();
        let mut long = LongName::default();
        let mut buffer = vec![0; self.cluster_size as usize];
        let mut place = Some(cluster);
        while let Some(cluster) = place {
            if !walk.seen.insert(cluster) {
                return Err(ReadFatError::Broken("a cluster belongs to two directories, or to one twice"));
            }
            walk.read += self.cluster_size;
            if walk.read > MOST_DIRECTORY_BYTES {
                return Err(ReadFatError::OverLimit("its directories are too large"));
            }
            self.medium.read_exact_at(self.place(cluster)?, &mut buffer)?;
            for entry in buffer.as_chunks::<ENTRY>().0 {
                match (entry[0], entry[11]) {
                    (0, _) => return Ok(entries),
                    (0xe5, _) => long = LongName::default(),
                    (_, attributes) if attributes & 0x3f == attribute::LONG_NAME => long.take(entry),
                    (_, attributes) if attributes & attribute::VOLUME_LABEL != 0 => long = LongName::default(),
                    _ => {
                        let found = found(entry, &mut long, path)?;
                        found.iter().try_for_each(|found| walk.count(found))?;
                        entries.extend(found);
                    }
                }
            }
            place = self.next(cluster)?;
        }
        Ok(entries)
    }

    /// Where `cluster` lies, in bytes.
    fn place(&self, cluster: u32) -> Result<u64, ReadFatError> {
        let index = cluster.checked_sub(FIRST_CLUSTER).filter(|index| *index < self.clusters);
        let index = index.ok_or(ReadFatError::Broken("a chain leads out of the volume or ends early"))?;
        Ok(self.data + u64::from(index) * self.cluster_size)
    }

    /// The cluster that follows `cluster`, none at the end of the chain.
    fn next(&self, cluster: u32) -> Result<Option<u32>, ReadFatError> {
        let mut entry = [0; 4];
        self.medium.read_exact_at(self.table + u64::from(cluster) * 4, &mut entry)?;
        let next = u32::from_le_bytes(entry) & CLUSTER_MASK;
        Ok(if next > BAD_CLUSTER { None } else { Some(next) })
    }
}

/// What one listing has done so far.
#[derive(Default)]
struct Walk {
    /// Clusters of directories that were read.
    seen: BTreeSet<u32>,
    /// Bytes of them.
    read: u64,
    /// Files and directories that were found.
    found: usize,
    /// Bytes of their paths.
    paths: usize,
}

impl Walk {
    fn count(&mut self, found: &Found) -> Result<(), ReadFatError> {
        self.found += 1;
        self.paths += found.path.len();
        if self.found > MOST_FOUND || self.paths > MOST_PATH_BYTES {
            return Err(ReadFatError::OverLimit("too many names"));
        }
        Ok(())
    }
}

/// The file or directory of a short-name entry; none for `.` and `..`.
fn found(entry: &[u8; ENTRY], long: &mut LongName, directory: &str) -> Result<Option<Found>, ReadFatError> {
    let mut short: ShortName = [0; 11];
    short.copy_from_slice(&entry[..11]);
    let long = long.finish(&short);
    if short[0] == b'.' {
        return Ok(None);
    }
    let name = long.unwrap_or_else(|| shown(&short));
    if matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(ReadFatError::Broken("a name is none that a path can hold"));
    }
    let word = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
    Ok(Some(Found {
        path: if directory.is_empty() { name } else { format!("{directory}/{name}") },
        directory: entry[11] & attribute::DIRECTORY != 0,
        size: u32::from_le_bytes([entry[28], entry[29], entry[30], entry[31]]),
        cluster: u32::from(word(20)) << 16 | u32::from(word(26)),
    }))
}
