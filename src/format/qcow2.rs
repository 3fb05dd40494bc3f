//! qcow2 images, version 3: a raw image with its zeros left out.
//!
//! Lays out header, refcounts, mapping tables and the clusters that hold anything. No compression, no snapshots, no
//! backing file, no extension. Never reads one. Specification: QEMU's `docs/interop/qcow2`.

use super::{Bytes, Recipe};

/// Bytes of a cluster.
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BITS: u32 = 16;
/// Entries of a table of 64-bit numbers that fills a cluster.
const ENTRIES: u64 = CLUSTER / 8;
/// Refcounts of 16 bits that fill a cluster.
const REFCOUNTS: u64 = CLUSTER / 2;
/// Marks a table or cluster with a refcount of exactly one.
const COPIED: u64 = 1 << 63;
/// Guests see disks in sectors.
const SECTOR: u64 = 512;
/// QEMU takes an L1 table of 32 MiB, but no more than this is ever asked for: 16 TiB.
const MOST_CLUSTERS: u64 = 1 << 28;

/// A raw image that no qcow2 image can show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Qcow2Error {
    /// It ends inside a sector.
    #[error("a disk of {0} bytes ends inside a sector of 512")]
    Sector(u64),
    /// It is larger than this writer lays out.
    #[error("a disk of {0} bytes is larger than the 16 TiB that are laid out")]
    TooLarge(u64),
}

/// The qcow2 image that shows the disk `raw`, with clusters of 64 KiB. A cluster that is zeros in the recipe is not
/// allocated.
///
/// # Errors
/// When the disk ends inside a sector, or is over 16 TiB.
pub fn image(raw: &Recipe) -> Result<Recipe, Qcow2Error> {
    let size = raw.length();
    if !size.is_multiple_of(SECTOR) {
        return Err(Qcow2Error::Sector(size));
    }
    if size > MOST_CLUSTERS * CLUSTER {
        return Err(Qcow2Error::TooLarge(size));
    }
    let runs = runs(raw);
    let layout = Layout::new(size.div_ceil(CLUSTER), &runs);

    let mut image = Recipe::new();
    image.literal(layout.header(size), "qcow2 header");
    image.pad_to(CLUSTER, "qcow2 header");
    image.literal(layout.refcount_table(), "qcow2 refcount table");
    image.pad_to(CLUSTER, "qcow2 refcount table");
    image.literal(layout.refcounts(), "qcow2 refcounts");
    image.pad_to(CLUSTER, "qcow2 refcounts");
    image.literal(layout.l1_table(), "qcow2 L1 table");
    image.pad_to(CLUSTER, "qcow2 L1 table");
    image.literal(layout.l2_tables(&runs), "qcow2 L2 tables");
    for run in &runs {
        let (start, end) = (run.first * CLUSTER, (run.end * CLUSTER).min(size));
        let data = if end - start == size { raw.clone() } else { raw.slice(start, end - start) };
        image.push(Bytes::Recipe(data.into()), "disk");
        image.pad_to(CLUSTER, "after the end of the disk");
    }
    Ok(image)
}

/// Neighbouring clusters of the disk that hold something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    /// One after the last.
    end: u64,
}

/// The allocated clusters of `raw`, in order.
fn runs(raw: &Recipe) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for leaf in raw.leaves() {
        let length = match leaf.bytes {
            Bytes::Zeros(_) => continue,
            // A table's unused end is no reason to allocate a cluster.
            Bytes::Literal(bytes) if bytes.iter().all(|byte| *byte == 0) => continue,
            bytes => bytes.length(),
        };
        let (first, end) = (leaf.offset / CLUSTER, (leaf.offset + length).div_ceil(CLUSTER));
        match runs.last_mut() {
            Some(run) if run.end >= first => run.end = run.end.max(end),
            _ => runs.push(Run { first, end }),
        }
    }
    runs
}

/// How many clusters each part takes. They lie in the order of the fields, behind one cluster of header.
struct Layout {
    refcount_table: u64,
    refcount_blocks: u64,
    /// Entries of the L1 table, one for each 512 MiB of disk.
    l1_entries: u64,
    l1: u64,
    /// L1 entries that have an L2 table.
    l2: Vec<u64>,
    data: u64,
}

impl Layout {
    fn new(clusters: u64, runs: &[Run]) -> Self {
        let l1_entries = clusters.div_ceil(ENTRIES);
        let mut l2: Vec<u64> = runs.iter().flat_map(|run| run.first / ENTRIES..=(run.end - 1) / ENTRIES).collect();
        l2.dedup();
        let data = runs.iter().map(|run| run.end - run.first).sum();
        let mut layout = Self {
            refcount_table: 1,
            refcount_blocks: 1,
            l1_entries,
            l1: l1_entries.div_ceil(ENTRIES).max(1),
            l2,
            data,
        };
        // The refcounts count the clusters that they lie in too, and grow until they cover themselves.
        loop {
            let blocks = layout.clusters().div_ceil(REFCOUNTS);
            let table = blocks.div_ceil(ENTRIES);
            if (table, blocks) == (layout.refcount_table, layout.refcount_blocks) {
                return layout;
            }
            (layout.refcount_table, layout.refcount_blocks) = (table, blocks);
        }
    }

    /// All clusters of the file.
    fn clusters(&self) -> u64 {
        self.data_start() + self.data
    }

    fn l1_start(&self) -> u64 {
        1 + self.refcount_table + self.refcount_blocks
    }

    fn data_start(&self) -> u64 {
        self.l1_start() + self.l1 + self.l2.len() as u64
    }

    fn header(&self, size: u64) -> Vec<u8> {
        let mut header = Vec::with_capacity(112);
        header.extend(b"QFI\xfb");
        header.extend(3_u32.to_be_bytes()); // version
        header.extend([0; 12]); // backing_file_offset, backing_file_size
        header.extend(CLUSTER_BITS.to_be_bytes());
        header.extend(size.to_be_bytes());
        header.extend(0_u32.to_be_bytes()); // crypt_method
        header.extend((self.l1_entries as u32).to_be_bytes()); // l1_size
        header.extend((self.l1_start() * CLUSTER).to_be_bytes()); // l1_table_offset
        header.extend(CLUSTER.to_be_bytes()); // refcount_table_offset
        header.extend((self.refcount_table as u32).to_be_bytes()); // refcount_table_clusters
        header.extend([0; 12]); // nb_snapshots, snapshots_offset
        header.extend([0; 24]); // incompatible_features, compatible_features, autoclear_features
        header.extend(4_u32.to_be_bytes()); // refcount_order: 16 bits
        header.extend(112_u32.to_be_bytes()); // header_length
        header.extend([0; 8]); // compression_type: zlib, unused; padding
        header
    }

    fn refcount_table(&self) -> Vec<u8> {
        let first = 1 + self.refcount_table;
        (first..first + self.refcount_blocks).flat_map(|cluster| (cluster * CLUSTER).to_be_bytes()).collect()
    }

    fn refcounts(&self) -> Vec<u8> {
        [0, 1].repeat(self.clusters() as usize)
    }

    fn l1_table(&self) -> Vec<u8> {
        let mut table = vec![0; self.l1_entries as usize];
        for (entry, cluster) in self.l2.iter().zip(self.l1_start() + self.l1..) {
            table[*entry as usize] = COPIED | (cluster * CLUSTER);
        }
        table.into_iter().flat_map(u64::to_be_bytes).collect()
    }

    fn l2_tables(&self, runs: &[Run]) -> Vec<u8> {
        let mut tables = vec![0; self.l2.len() * ENTRIES as usize];
        let clusters = runs.iter().flat_map(|run| run.first..run.end);
        for (disk, file) in clusters.zip(self.data_start()..) {
            // Every allocated cluster has a table.
            let table = self.l2.binary_search(&(disk / ENTRIES)).unwrap_or_default();
            tables[table * ENTRIES as usize + (disk % ENTRIES) as usize] = COPIED | (file * CLUSTER);
        }
        tables.into_iter().flat_map(u64::to_be_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom};
    use std::process::Command;

    use super::super::recipe::testing::Objects;
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// A recipe of the given runs of bytes (not zero) and zeros, in turn.
    fn raw(objects: &mut Objects, lengths: &[u64]) -> Recipe {
        let mut raw = Recipe::new();
        for (index, length) in lengths.iter().enumerate() {
            if index % 2 == 0 {
                let bytes = objects.keep(vec![index as u8 + 1; *length as usize]);
                raw.push(Bytes::Recipe(bytes.into()), "data");
            } else {
                raw.push(Bytes::Zeros(*length), "gap");
            }
        }
        raw
    }

    fn qemu_img(arguments: &[&str]) -> String {
        let output = Command::new("qemu-img").args(arguments).output().expect("qemu-utils has to be installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    #[test]
    fn qemu_img_finds_no_error_and_converts_it_back() {
        for lengths in [
            &[512][..],
            &[0, 512],
            &[CLUSTER],
            &[100, CLUSTER - 100, 512],
            &[3 * CLUSTER - 10, 522, CLUSTER + 1, 5 * CLUSTER - 1, 10 * CLUSTER + 512],
            // Over 512 MiB there is more than one L2 table; one of them is not needed here.
            &[1000, 1100 * MIB - 1000, 1536, 300 * MIB],
        ] {
            let mut objects = Objects::default();
            let raw = raw(&mut objects, lengths);
            let recipe = image(&raw).unwrap();
            assert_eq!(recipe, image(&raw).unwrap());
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
            std::fs::write(path("qcow2"), objects.pour(&recipe)).unwrap();
            let checked = qemu_img(&["check", "-f", "qcow2", &path("qcow2")]);
            assert!(checked.contains("No errors were found"), "{checked}");
            qemu_img(&["convert", "-f", "qcow2", "-O", "raw", &path("qcow2"), &path("raw")]);
            let mut converted = std::fs::File::open(path("raw")).unwrap();
            assert_eq!(converted.metadata().unwrap().len(), raw.length(), "{lengths:?}");
            for leaf in raw.leaves() {
                let length = leaf.bytes.length().min(MIB);
                let mut part = vec![0; length as usize];
                converted.seek(SeekFrom::Start(leaf.offset)).unwrap();
                converted.read_exact(&mut part).unwrap();
                assert_eq!(part, objects.pour(&raw.slice(leaf.offset, length)), "{lengths:?} at {}", leaf.offset);
            }
        }
    }

    #[test]
    fn only_clusters_that_hold_something_are_allocated() {
        let mut objects = Objects::default();
        let mut raw = raw(&mut objects, &[CLUSTER, 100 * CLUSTER, 512, 50 * CLUSTER - 512]);
        raw.literal(vec![0; CLUSTER as usize], "an empty table");
        assert_eq!(runs(&raw), [Run { first: 0, end: 1 }, Run { first: 101, end: 102 }]);
        // Header, refcount table, refcounts, L1, L2, and two clusters of the disk.
        assert_eq!(image(&raw).unwrap().length(), 7 * CLUSTER);
    }

    #[test]
    fn refcounts_cover_themselves() {
        // One block counts 32768 clusters: the tables push this disk's clusters over it.
        let run = [Run { first: 0, end: REFCOUNTS - 8 }];
        let layout = Layout::new(REFCOUNTS - 8, &run);
        assert_eq!(layout.refcount_blocks, 1);
        assert_eq!(layout.clusters(), REFCOUNTS);
        let run = [Run { first: 0, end: REFCOUNTS - 7 }];
        let layout = Layout::new(REFCOUNTS - 7, &run);
        assert_eq!((layout.refcount_blocks, layout.clusters()), (2, REFCOUNTS + 2));
    }

    #[test]
    fn disks_that_it_cannot_show_are_refused() {
        let zeros = |length| {
            let mut recipe = Recipe::new();
            recipe.push(Bytes::Zeros(length), "zeros");
            recipe
        };
        assert_eq!(image(&zeros(1000)), Err(Qcow2Error::Sector(1000)));
        assert_eq!(image(&zeros(1 << 50)), Err(Qcow2Error::TooLarge(1 << 50)));
    }
}
