//! The shape of a volume: how large its clusters are, and what lies where.

use super::{BAD_CLUSTER, FEWEST_CLUSTERS, FIRST_CLUSTER, SECTOR};

/// Sectors before the first FAT, at the least: what Microsoft's tools reserve for FAT32.
const RESERVED: u64 = 32;
/// The data region begins at a multiple of this many sectors (4 KiB), so that files lie as disks and pages do.
const ALIGNMENT: u64 = 8;
/// Some readers count clusters wrongly by a few; the specification asks to stay away from the borders.
const MARGIN: u64 = 16;
/// More is not laid out: 1 TiB, where clusters of 4 KiB still suffice.
const MOST_SECTORS: u64 = 1 << 31;

/// The shape of a volume of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// All sectors of the volume.
    pub(super) sectors: u32,
    /// A power of two, at most 8 (4 KiB).
    pub(super) sectors_per_cluster: u8,
    /// Sectors before the first FAT.
    pub(super) reserved: u16,
    /// Sectors of one of the two FATs.
    pub(super) fat_sectors: u32,
    /// Clusters of the data region.
    pub(super) clusters: u32,
}

impl Layout {
    /// The layout of a volume of `size` bytes; none where FAT32 does not go. The largest clusters up to 4 KiB are
    /// chosen with which the volume is still FAT32: firmware follows chains slowly.
    pub(super) fn of(size: u64) -> Option<Self> {
        let sectors = size / SECTOR;
        if !size.is_multiple_of(SECTOR) || sectors > MOST_SECTORS {
            return None;
        }
        [8, 4, 2, 1].into_iter().find_map(|per_cluster| Self::with_clusters(sectors, per_cluster))
    }

    fn with_clusters(sectors: u64, per_cluster: u8) -> Option<Self> {
        // As if the FATs took no room: a few entries too many, never one too few.
        let most = sectors.checked_sub(RESERVED)? / u64::from(per_cluster);
        let fat_sectors = ((most + u64::from(FIRST_CLUSTER)) * 4).div_ceil(SECTOR);
        let data_start = (RESERVED + 2 * fat_sectors).next_multiple_of(ALIGNMENT);
        let clusters = sectors.checked_sub(data_start)? / u64::from(per_cluster);
        let fat32 = FEWEST_CLUSTERS + MARGIN..u64::from(BAD_CLUSTER - FIRST_CLUSTER) - MARGIN;
        fat32.contains(&clusters).then_some(Self {
            sectors: u32::try_from(sectors).ok()?,
            sectors_per_cluster: per_cluster,
            reserved: u16::try_from(data_start - 2 * fat_sectors).ok()?,
            fat_sectors: u32::try_from(fat_sectors).ok()?,
            clusters: u32::try_from(clusters).ok()?,
        })
    }

    /// Bytes of a cluster.
    pub(super) fn cluster_size(&self) -> u64 {
        u64::from(self.sectors_per_cluster) * SECTOR
    }

    /// Bytes before the data region.
    pub(super) fn data_start(&self) -> u64 {
        (u64::from(self.reserved) + 2 * u64::from(self.fat_sectors)) * SECTOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_as_large_as_fat32_allows() {
        let mib = 1024 * 1024;
        for (size, per_cluster) in [(34, Some(1)), (128, Some(2)), (160, Some(4)), (512, Some(8)), (1 << 20, Some(8))] {
            let layout = Layout::of(size * mib);
            assert_eq!(layout.map(|layout| layout.sectors_per_cluster), per_cluster, "{size} MiB");
            let layout = layout.unwrap();
            assert_eq!(layout.data_start() % 4096, 0);
            assert!(u64::from(layout.fat_sectors) * SECTOR / 4 >= u64::from(layout.clusters) + 2);
            assert!(layout.data_start() + u64::from(layout.clusters) * layout.cluster_size() <= size * mib);
        }
        for size in [0, 512, 32 * mib, 64 * mib + 1, (1 << 20) * mib + 512, u64::MAX] {
            assert_eq!(Layout::of(size), None, "{size}");
        }
    }
}
