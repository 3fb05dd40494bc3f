//! A volume as a recipe.

use std::sync::Arc;

use super::super::{Bytes, Recipe};
use super::layout::Layout;
use super::names::{self, ShortName};
use super::{
    CLUSTER_MASK, Directory, END_OF_CHAIN, ENTRY, Entry, FIRST_CLUSTER, FatError, MOST_ENTRIES, SECTOR, attribute,
};

/// Where the copy of the boot sector lies, in sectors.
const BACKUP_BOOT_SECTOR: u16 = 6;
/// Entries of the root directory that stand for no name under it: the volume label.
const ROOT_ENTRIES: u64 = 1;
/// Entries of any other directory that stand for no name under it: `.` and `..`.
const OWN_ENTRIES: u64 = 2;
/// `EB 58 90`: a jump over the parameters to the code behind them.
const JUMP: [u8; 3] = [0xeb, 0x58, 0x90];
/// For a BIOS that runs the boot sector: `int 18h` (nothing to boot here, try the next), then halt for ever.
const BOOT_CODE: [u8; 5] = [0xcd, 0x18, 0xf4, 0xeb, 0xfd];

/// The FAT32 volume of `size` bytes that holds `root`. Its label is `label` (1 to 11 upper-case characters), its
/// serial number `volume_id`, and every time on it is `epoch`, in seconds since the Epoch, as UTC (FAT begins in
/// 1980, ends in 2107 and counts in steps of two seconds).
///
/// # Errors
/// When the label is not allowed, a directory is too large, or the content does not fit (see [`minimum_size`]).
pub fn volume(size: u64, volume_id: u32, label: &str, root: &Directory, epoch: i64) -> Result<Recipe, FatError> {
    let label = checked_label(label)?;
    let layout = match Layout::of(size) {
        Some(layout) if clusters_needed(root, layout.cluster_size())? <= u64::from(layout.clusters) => layout,
        _ => return Err(FatError::Size { size, least: minimum_size(root)? }),
    };
    let writer = Writer { layout, label, stamp: Stamp::of(epoch) };
    let data = writer.data(root)?;
    let used = data.chains.len() as u32;

    let mut recipe = Recipe::new();
    recipe.literal(writer.boot_sectors(volume_id, used), "FAT boot sectors");
    recipe.push(Bytes::Zeros(u64::from(layout.reserved) * SECTOR - recipe.length()), "FAT reserved sectors");
    let fat = table(&data.chains);
    for copy in ["first FAT", "second FAT"] {
        recipe.push(Bytes::Literal(Arc::clone(&fat)), copy);
        recipe.push(Bytes::Zeros(u64::from(layout.fat_sectors) * SECTOR - fat.len() as u64), copy);
    }
    debug_assert_eq!(recipe.length(), layout.data_start());
    recipe.push(Bytes::Recipe(data.recipe.into()), "FAT data region");
    recipe.push(Bytes::Zeros(size - recipe.length()), "FAT free space");
    Ok(recipe)
}

/// The size of the smallest volume, in bytes and a multiple of 4096, that holds `root`: never under the 33 MiB below
/// which a volume is not FAT32.
///
/// # Errors
/// When a directory is too large, or more than 1 TiB are needed.
pub fn minimum_size(root: &Directory) -> Result<u64, FatError> {
    const UNIT: u64 = 4096;
    const MOST_UNITS: u64 = 1 << 28;
    let fits = |units: u64| match Layout::of(units * UNIT) {
        Some(layout) => Ok(clusters_needed(root, layout.cluster_size())? <= u64::from(layout.clusters)),
        None => Ok(false),
    };
    let (mut small, mut enough) = (0, 1);
    while !fits(enough)? {
        (small, enough) = (enough, enough * 2);
        if enough > MOST_UNITS {
            return Err(FatError::TooLarge);
        }
    }
    // Halving keeps the two ends as they are: `small` does not fit, `enough` does.
    while enough - small > 1 {
        let middle = small.midpoint(enough);
        if fits(middle)? { enough = middle } else { small = middle }
    }
    Ok(enough * UNIT)
}

fn checked_label(label: &str) -> Result<ShortName, FatError> {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'_');
    if label.trim().is_empty() || label.len() > 11 || label.starts_with(' ') || !label.bytes().all(allowed) {
        return Err(FatError::Label(label.chars().take(80).collect()));
    }
    let mut padded = [b' '; 11];
    padded[..label.len()].copy_from_slice(label.as_bytes());
    Ok(padded)
}

/// Clusters that the volume of `root` uses.
fn clusters_needed(root: &Directory, cluster_size: u64) -> Result<u64, FatError> {
    fn below(directory: &Directory, cluster_size: u64) -> Result<u64, FatError> {
        let mut clusters = 0;
        for (_, entry) in directory.iter() {
            clusters += match entry {
                Entry::Directory(directory) => {
                    directory_length(directory, OWN_ENTRIES)?.div_ceil(cluster_size) + below(directory, cluster_size)?
                }
                Entry::File(content) => content.length().div_ceil(cluster_size),
            };
        }
        Ok(clusters)
    }
    Ok(directory_length(root, ROOT_ENTRIES)?.div_ceil(cluster_size) + below(root, cluster_size)?)
}

/// Bytes of a directory's entries, `own` of them its own.
fn directory_length(directory: &Directory, own: u64) -> Result<u64, FatError> {
    let short = names::short_names(directory.iter().map(|(name, _)| name));
    let entries = directory.iter().zip(&short).map(|((name, _), short)| names::entries(name, short));
    let entries = own + entries.sum::<u64>();
    if entries > MOST_ENTRIES { Err(FatError::DirectoryFull) } else { Ok(entries * ENTRY as u64) }
}

/// The FAT: `chains` holds the next cluster for every cluster from number 2 on.
fn table(chains: &[u32]) -> Arc<[u8]> {
    // The first two entries repeat the media byte and say that the volume was unmounted cleanly.
    let reserved = [CLUSTER_MASK & 0xffff_fff8, END_OF_CHAIN];
    reserved.iter().chain(chains).flat_map(|entry| entry.to_le_bytes()).collect()
}

/// A moment in FAT's fields.
#[derive(Clone, Copy)]
struct Stamp {
    date: u16,
    time: u16,
    /// Hundredths of a second over the two-second step.
    hundredths: u8,
}

impl Stamp {
    fn of(epoch: i64) -> Self {
        /// 1980-01-01T00:00:00Z and 2107-12-31T23:59:59Z.
        const RANGE: (i64, i64) = (315_532_800, 4_354_819_199);
        let epoch = epoch.clamp(RANGE.0, RANGE.1);
        let (year, month, day) = civil(epoch.div_euclid(86_400));
        let second = epoch.rem_euclid(86_400);
        Self {
            date: (((year - 1980) << 9) | (month << 5) | day) as u16,
            time: (((second / 3600) << 11) | ((second / 60 % 60) << 5) | (second % 60 / 2)) as u16,
            hundredths: if second % 2 == 1 { 100 } else { 0 },
        }
    }
}

/// Year, month and day of the `days`th day after 1970-01-01, not before it: 400 years of the Gregorian calendar have
/// 146097 days, and a year that begins in March has its leap day last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + i64::from(month <= 2), month, day)
}

struct Writer {
    layout: Layout,
    label: ShortName,
    stamp: Stamp,
}

/// The data region and the chains through it.
struct Data {
    /// What follows each cluster from number 2 on.
    chains: Vec<u32>,
    recipe: Recipe,
}

/// A directory that has its place.
struct Placed<'a> {
    directory: &'a Directory,
    path: String,
    cluster: u32,
    parent: u32,
}

impl Writer {
    /// Boot sector, FSInfo, and their copies at sector 6.
    fn boot_sectors(&self, volume_id: u32, used: u32) -> Vec<u8> {
        let layout = &self.layout;
        let mut sectors = vec![0; (usize::from(BACKUP_BOOT_SECTOR) + 2) * SECTOR as usize];
        let mut put = |at: usize, bytes: &[u8]| sectors[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &JUMP);
        put(3, b"MSWIN4.1"); // BS_OEMName: what the specification recommends
        put(11, &(SECTOR as u16).to_le_bytes()); // BPB_BytsPerSec
        put(13, &[layout.sectors_per_cluster]); // BPB_SecPerClus
        put(14, &layout.reserved.to_le_bytes()); // BPB_RsvdSecCnt
        put(16, &[2]); // BPB_NumFATs
        put(21, &[0xf8]); // BPB_Media: a fixed disk
        put(24, &63_u16.to_le_bytes()); // BPB_SecPerTrk
        put(26, &255_u16.to_le_bytes()); // BPB_NumHeads
        put(32, &layout.sectors.to_le_bytes()); // BPB_TotSec32
        put(36, &layout.fat_sectors.to_le_bytes()); // BPB_FATSz32
        put(44, &FIRST_CLUSTER.to_le_bytes()); // BPB_RootClus
        put(48, &1_u16.to_le_bytes()); // BPB_FSInfo
        put(50, &BACKUP_BOOT_SECTOR.to_le_bytes()); // BPB_BkBootSec
        put(64, &[0x80, 0, 0x29]); // BS_DrvNum, BS_Reserved1, BS_BootSig
        put(67, &volume_id.to_le_bytes()); // BS_VolID
        put(71, &self.label); // BS_VolLab
        put(82, b"FAT32   "); // BS_FilSysType
        put(90, &BOOT_CODE);
        put(510, &[0x55, 0xaa]);
        let information = SECTOR as usize;
        put(information, b"RRaA"); // FSI_LeadSig
        put(information + 484, b"rrAa"); // FSI_StrucSig
        put(information + 488, &(layout.clusters - used).to_le_bytes()); // FSI_Free_Count
        let next_free = if used < layout.clusters { FIRST_CLUSTER + used } else { u32::MAX };
        put(information + 492, &next_free.to_le_bytes()); // FSI_Nxt_Free
        put(information + 510, &[0x55, 0xaa]);
        let (originals, copies) = sectors.split_at_mut(usize::from(BACKUP_BOOT_SECTOR) * SECTOR as usize);
        copies.copy_from_slice(&originals[..copies.len()]);
        sectors
    }

    /// Directories level by level, then the files in the directories' order, each in one run of clusters.
    fn data(&self, root: &Directory) -> Result<Data, FatError> {
        let mut data = Data { chains: Vec::new(), recipe: Recipe::new() };
        let cluster = self.chain(&mut data.chains, directory_length(root, ROOT_ENTRIES)?);
        let mut directories = vec![Placed { directory: root, path: String::new(), cluster, parent: 0 }];
        let mut next = 0;
        while let Some(&Placed { directory, cluster: parent, ref path, .. }) = directories.get(next) {
            let path = path.clone();
            for (name, entry) in directory.iter() {
                if let Entry::Directory(directory) = entry {
                    let cluster = self.chain(&mut data.chains, directory_length(directory, OWN_ENTRIES)?);
                    directories.push(Placed { directory, path: format!("{path}/{name}"), cluster, parent });
                }
            }
            next += 1;
        }

        // Tables first: they name the clusters that the files are about to get.
        let mut files = Vec::new();
        let mut below = directories.iter().skip(1).map(|placed| placed.cluster);
        for placed in &directories {
            let entries = self.entries(placed, &mut below, &mut data.chains, &mut files);
            data.recipe.literal(entries, format!("FAT directory {}/", placed.path));
            data.recipe.pad_to(self.layout.cluster_size(), "FAT directory padding");
        }
        for (path, content) in files {
            data.recipe.push(Bytes::Recipe(content.clone().into()), path);
            data.recipe.pad_to(self.layout.cluster_size(), "FAT file padding");
        }
        Ok(data)
    }

    /// Chains the clusters for `length` bytes and returns the first; 0 when there are none.
    fn chain(&self, chains: &mut Vec<u32>, length: u64) -> u32 {
        // The volume's size was checked against the sum of these.
        let count = length.div_ceil(self.layout.cluster_size()) as u32;
        if count == 0 {
            return 0;
        }
        let first = FIRST_CLUSTER + chains.len() as u32;
        chains.extend(first + 1..first + count);
        chains.push(END_OF_CHAIN);
        first
    }

    /// The bytes of a directory. `below` yields the first clusters of its directories in order.
    fn entries<'a>(
        &self,
        placed: &Placed<'a>,
        below: &mut impl Iterator<Item = u32>,
        chains: &mut Vec<u32>,
        files: &mut Vec<(String, &'a Recipe)>,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        if placed.path.is_empty() {
            bytes.extend(self.entry(&self.label, attribute::VOLUME_LABEL, 0, 0));
        } else {
            // The root is cluster 0 to those directly under it.
            let parent = if placed.parent == FIRST_CLUSTER { 0 } else { placed.parent };
            bytes.extend(self.entry(b".          ", attribute::DIRECTORY, placed.cluster, 0));
            bytes.extend(self.entry(b"..         ", attribute::DIRECTORY, parent, 0));
        }
        let short = names::short_names(placed.directory.iter().map(|(name, _)| name));
        for ((name, entry), short) in placed.directory.iter().zip(&short) {
            if names::needs_long_name(name, short) {
                bytes.extend(names::long_name(name, short).into_iter().flatten());
            }
            bytes.extend(match entry {
                Entry::Directory(_) => self.entry(short, attribute::DIRECTORY, below.next().unwrap_or(0), 0),
                Entry::File(content) => {
                    files.push((format!("{}/{name}", placed.path), content));
                    // `Directory::file` takes no file of 4 GiB or more.
                    let cluster = self.chain(chains, content.length());
                    self.entry(short, attribute::ARCHIVE, cluster, content.length() as u32)
                }
            });
        }
        bytes
    }

    fn entry(&self, name: &ShortName, attributes: u8, cluster: u32, size: u32) -> [u8; ENTRY] {
        let Stamp { date, time, hundredths } = self.stamp;
        let mut entry = [0; ENTRY];
        let mut put = |at: usize, bytes: &[u8]| entry[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name);
        put(11, &[attributes]);
        put(13, &[hundredths]); // DIR_CrtTimeTenth
        put(14, &time.to_le_bytes()); // DIR_CrtTime
        put(16, &date.to_le_bytes()); // DIR_CrtDate
        put(18, &date.to_le_bytes()); // DIR_LstAccDate
        put(20, &((cluster >> 16) as u16).to_le_bytes()); // DIR_FstClusHI
        put(22, &time.to_le_bytes()); // DIR_WrtTime
        put(24, &date.to_le_bytes()); // DIR_WrtDate
        put(26, &(cluster as u16).to_le_bytes()); // DIR_FstClusLO
        put(28, &size.to_le_bytes()); // DIR_FileSize
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_clamped_to_what_fat_can_say() {
        let fields = |epoch| {
            let Stamp { date, time, hundredths } = Stamp::of(epoch);
            let date = (1980 + (date >> 9), date >> 5 & 15, date & 31);
            (date, (time >> 11, time >> 5 & 63, (time & 31) * 2), hundredths)
        };
        // The expected ones are what `date --utc --date=@N` prints.
        assert_eq!(fields(1_763_993_875), ((2025, 11, 24), (14, 17, 54), 100));
        assert_eq!(fields(951_827_696), ((2000, 2, 29), (12, 34, 56), 0));
        assert_eq!(fields(0), ((1980, 1, 1), (0, 0, 0), 0));
        assert_eq!(fields(-5), fields(0));
        assert_eq!(fields(i64::MAX), ((2107, 12, 31), (23, 59, 58), 100));
    }

    #[test]
    fn labels_that_fat_forbids_are_refused() {
        for label in ["", " ", "cidata", "TWELVE-CHARS", "A/B", " A", "É"] {
            assert!(checked_label(label).is_err(), "{label:?}");
        }
        assert_eq!(checked_label("CIDATA"), Ok(*b"CIDATA     "));
    }
}
