//! GUID partition tables: a whole disk image, and reading one back.
//!
//! Owns the protective MBR, both headers and both entry arrays of a disk with 512-byte sectors, and the GUIDs that
//! name disks and partitions. Every GUID is given or derived from a digest, none is random. What is in a partition is
//! its content's business. Specifications: UEFI 2.10 chapter 5, the UAPI Group's Discoverable Partitions
//! Specification (types and attribute bits).

mod guid;
mod read;

pub use guid::{Guid, ParseGuidError};
pub use read::{Found, ReadGptError, Table, read};

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Bytes, Recipe};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Partitions begin at multiples of this many bytes.
pub const ALIGNMENT: u64 = 1024 * 1024;
/// Entries of the partition array.
const ENTRIES: usize = 128;
/// Bytes of an entry.
const ENTRY: usize = 128;
/// Bytes of the header that its checksum covers.
const HEADER: u32 = 92;
/// Sectors that the array takes.
const ARRAY_SECTORS: u64 = (ENTRIES * ENTRY) as u64 / SECTOR;
/// Sectors before the first that a partition may use: MBR, header, array.
const FIRST_USABLE: u64 = 2 + ARRAY_SECTORS;
/// UTF-16 units of a partition's name.
const NAME: usize = 36;

/// Types of partitions.
pub mod partition_type {
    use super::Guid;

    /// EFI system partition.
    pub const ESP: Guid = Guid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
    /// Root file system of an x86-64 system.
    pub const ROOT_X86_64: Guid = Guid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
    /// dm-verity hash tree of such a root.
    pub const ROOT_X86_64_VERITY: Guid = Guid::from_u128(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5);
    /// Any Linux file system.
    pub const LINUX_GENERIC: Guid = Guid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);
}

/// Attribute bits of partitions, as the Discoverable Partitions Specification defines them.
pub mod attribute {
    /// The partition is mounted read-only.
    pub const READ_ONLY: u64 = 1 << 60;
    /// The partition is not mounted unasked.
    pub const NO_AUTO: u64 = 1 << 63;
}

/// A partition to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition<'a> {
    /// What it is for; see [`partition_type`].
    pub type_guid: Guid,
    /// Which one it is.
    pub guid: Guid,
    /// Its label, of at most 36 UTF-16 units.
    pub name: &'a str,
    /// See [`attribute`].
    pub attributes: u64,
    /// What it holds, from its first byte.
    pub content: Recipe,
    /// Its size in bytes, a multiple of 512; what `content` leaves is zeros.
    pub size: u64,
}

/// A partitioned disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpt {
    /// The image; it ends with the backup header behind the last partition.
    pub recipe: Recipe,
    /// Where each partition begins, in bytes.
    pub offsets: Vec<u64>,
}

/// Partitions that make no disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GptError {
    /// More partitions than the table has entries.
    #[error("{0} partitions do not fit in a table of 128")]
    TooMany(usize),
    /// A label that does not fit.
    #[error("the partition name `{0}` is longer than 36 UTF-16 units or holds a NUL")]
    Name(String),
    /// A size of none, inside a sector, or smaller than the content.
    #[error("the partition `{name}` cannot have {size} bytes: its content has {content}, and sectors have 512")]
    Size {
        /// The partition's name.
        name: String,
        /// The size that was asked for, in bytes.
        size: u64,
        /// Bytes of its content.
        content: u64,
    },
    /// Disk and partitions have to be told apart, and the nil GUID marks an entry as unused.
    #[error("the GUID {0} is nil or given twice")]
    Guid(Guid),
}

/// The image of a disk named `disk_guid` that holds `partitions` in their order, each at the next free multiple of
/// 1 MiB. It is as small as it can be; whoever writes it on a larger medium moves the backup header
/// (`systemd-repart` does on first boot).
///
/// # Errors
/// When a partition's size, name or GUID is not possible.
pub fn disk(disk_guid: Guid, partitions: &[Partition<'_>]) -> Result<Gpt, GptError> {
    if partitions.len() > ENTRIES {
        return Err(GptError::TooMany(partitions.len()));
    }
    let mut guids = BTreeSet::from([Guid::NIL]);
    if !guids.insert(disk_guid) {
        return Err(GptError::Guid(disk_guid));
    }
    let mut array = vec![0; ENTRIES * ENTRY];
    let mut offsets = Vec::with_capacity(partitions.len());
    let mut end = FIRST_USABLE * SECTOR;
    for (partition, entry) in partitions.iter().zip(array.chunks_exact_mut(ENTRY)) {
        check(partition)?;
        if partition.type_guid == Guid::NIL || !guids.insert(partition.guid) {
            return Err(GptError::Guid(partition.guid));
        }
        let start = end.next_multiple_of(ALIGNMENT);
        end = start + partition.size;
        offsets.push(start);
        fill_entry(entry, partition, start / SECTOR, end / SECTOR - 1);
    }

    let geometry = Geometry { disk_guid, sectors: end / SECTOR + ARRAY_SECTORS + 1, array_checksum: crc32(&array) };
    let array: Arc<[u8]> = array.into();
    let mut recipe = Recipe::new();
    recipe.literal(geometry.protective_mbr(), "protective MBR");
    recipe.literal(geometry.header(Copy::Primary), "GPT header");
    recipe.push(Bytes::Literal(Arc::clone(&array)), "GPT entries");
    for partition in partitions {
        recipe.pad_to(ALIGNMENT, "space before a partition");
        let origin: Arc<str> = format!("partition {}", partition.name).into();
        recipe.push(Bytes::Recipe(partition.content.clone().into()), Arc::clone(&origin));
        recipe.push(Bytes::Zeros(partition.size - partition.content.length()), origin);
    }
    recipe.push(Bytes::Literal(array), "backup GPT entries");
    recipe.literal(geometry.header(Copy::Backup), "backup GPT header");
    Ok(Gpt { recipe, offsets })
}

fn check(partition: &Partition<'_>) -> Result<(), GptError> {
    let Partition { name, size, ref content, .. } = *partition;
    if name.encode_utf16().count() > NAME || name.contains('\0') {
        return Err(GptError::Name(name.chars().take(80).collect()));
    }
    // 128 partitions of 2^55 bytes still add up in 64 bits.
    if size == 0 || !size.is_multiple_of(SECTOR) || size > 1 << 55 || content.length() > size {
        return Err(GptError::Size { name: name.to_owned(), size, content: content.length() });
    }
    Ok(())
}

fn fill_entry(entry: &mut [u8], partition: &Partition<'_>, first: u64, last: u64) {
    entry[..16].copy_from_slice(&partition.type_guid.to_disk());
    entry[16..32].copy_from_slice(&partition.guid.to_disk());
    entry[32..40].copy_from_slice(&first.to_le_bytes());
    entry[40..48].copy_from_slice(&last.to_le_bytes());
    entry[48..56].copy_from_slice(&partition.attributes.to_le_bytes());
    for (place, unit) in entry[56..].chunks_exact_mut(2).zip(partition.name.encode_utf16()) {
        place.copy_from_slice(&unit.to_le_bytes());
    }
}

/// Which of the two headers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copy {
    Primary,
    Backup,
}

/// What headers and MBR say of the disk.
struct Geometry {
    disk_guid: Guid,
    sectors: u64,
    array_checksum: u32,
}

impl Geometry {
    /// An MBR whose one partition covers the disk, so that tools which know no GPT see no free space.
    fn protective_mbr(&self) -> Vec<u8> {
        let mut mbr = vec![0; SECTOR as usize];
        let sectors = u32::try_from(self.sectors - 1).unwrap_or(u32::MAX);
        // Not bootable; from cylinder 0, head 0, sector 2; type EEh; to the last that can be named.
        mbr[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
        mbr[454..458].copy_from_slice(&1_u32.to_le_bytes());
        mbr[458..462].copy_from_slice(&sectors.to_le_bytes());
        mbr[510..].copy_from_slice(&[0x55, 0xaa]);
        mbr
    }

    fn header(&self, copy: Copy) -> Vec<u8> {
        let last = self.sectors - 1;
        let (mine, other, array) = match copy {
            Copy::Primary => (1, last, 2),
            Copy::Backup => (last, 1, last - ARRAY_SECTORS),
        };
        let mut header = Vec::with_capacity(SECTOR as usize);
        header.extend(read::SIGNATURE);
        header.extend(0x0001_0000_u32.to_le_bytes()); // Revision
        header.extend(HEADER.to_le_bytes()); // HeaderSize
        header.extend([0; 8]); // HeaderCRC32, Reserved
        header.extend(u64::to_le_bytes(mine)); // MyLBA
        header.extend(u64::to_le_bytes(other)); // AlternateLBA
        header.extend(FIRST_USABLE.to_le_bytes()); // FirstUsableLBA
        header.extend((last - ARRAY_SECTORS - 1).to_le_bytes()); // LastUsableLBA
        header.extend(self.disk_guid.to_disk()); // DiskGUID
        header.extend(u64::to_le_bytes(array)); // PartitionEntryLBA
        header.extend((ENTRIES as u32).to_le_bytes()); // NumberOfPartitionEntries
        header.extend((ENTRY as u32).to_le_bytes()); // SizeOfPartitionEntry
        header.extend(self.array_checksum.to_le_bytes()); // PartitionEntryArrayCRC32
        let checksum = crc32(&header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header.resize(SECTOR as usize, 0);
        header
    }
}

/// The checksum of headers and arrays: the CRC-32 that gzip uses too.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};
    use std::process::Command;

    use super::super::recipe::testing::Objects;
    use super::*;
    use crate::digest::Digest;

    pub(super) fn guid(purpose: &str) -> Guid {
        Guid::from_digest(&Digest::of(b"test"), purpose)
    }

    /// A disk as rolecast lays it out, with small contents; and its bytes.
    pub(super) fn sample() -> (Gpt, Vec<u8>) {
        let mut objects = Objects::default();
        let mut partition = |type_guid, name: &'static str, attributes, content: &[u8], size| Partition {
            type_guid,
            guid: guid(name),
            name,
            attributes,
            content: objects.keep(content),
            size,
        };
        let partitions = [
            partition(partition_type::ESP, "esp", 0, b"esp content", 3 * ALIGNMENT),
            partition(partition_type::ROOT_X86_64, "root-a", attribute::READ_ONLY, &[5; 5000], 5 * 1024),
            partition(partition_type::ROOT_X86_64_VERITY, "vérité", attribute::READ_ONLY, &[6; 512], 512),
        ];
        let gpt = disk(guid("disk"), &partitions).unwrap();
        let image = objects.pour(&gpt.recipe);
        (gpt, image)
    }

    #[test]
    fn sgdisk_finds_no_problem() {
        let (gpt, image) = sample();
        assert_eq!(gpt.offsets, [ALIGNMENT, 4 * ALIGNMENT, 5 * ALIGNMENT]);
        assert_eq!(gpt.recipe.length(), 5 * ALIGNMENT + 512 + 33 * 512);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&image).unwrap();
        let sgdisk = |arguments: &[&str]| {
            let output = Command::new("sgdisk").args(arguments).arg(file.path()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let verified = sgdisk(&["-v"]);
        assert!(verified.contains("No problems found"), "{verified}");
        let information = sgdisk(&["-i", "2"]);
        for expected in ["4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "'root-a'", "1000000000000000", "First sector: 8192"] {
            assert!(information.contains(expected), "{expected} in {information}");
        }
        assert!(information.contains(&guid("root-a").to_string().to_uppercase()), "{information}");
    }

    #[test]
    fn gptman_reads_the_same_table() {
        let (_, image) = sample();
        let table = gptman::GPT::read_from(&mut Cursor::new(&image), SECTOR).unwrap();
        assert_eq!(table.header.disk_guid, guid("disk").to_disk());
        assert_eq!(table.header.last_usable_lba, 5 * ALIGNMENT / 512);
        assert_eq!(table[3].partition_name.as_str(), "vérité");
        assert_eq!(table[3].unique_partition_guid, guid("vérité").to_disk());
        assert_eq!((table[2].starting_lba, table[2].ending_lba), (8192, 8201));
        // The backup alone is whole too.
        let mut damaged = image.clone();
        damaged[512..1024].fill(0);
        assert_eq!(gptman::GPT::read_from(&mut Cursor::new(&damaged), SECTOR).unwrap()[1], table[1]);
    }

    #[test]
    fn partitions_that_make_no_disk_are_refused() {
        let content = Objects::default().keep([1; 600]);
        let good = Partition {
            type_guid: partition_type::ESP,
            guid: guid("a"),
            name: "a",
            attributes: 0,
            content,
            size: 1024,
        };
        let refused = |partitions: &[Partition<'_>]| disk(guid("disk"), partitions).unwrap_err();
        for size in [0, 512, 1000, 1 << 60] {
            assert!(matches!(refused(&[Partition { size, ..good.clone() }]), GptError::Size { .. }), "{size}");
        }
        let name = "a".repeat(37);
        assert!(matches!(refused(&[Partition { name: &name, ..good.clone() }]), GptError::Name(_)));
        assert_eq!(refused(&[good.clone(), good.clone()]), GptError::Guid(guid("a")));
        assert_eq!(refused(&[Partition { guid: Guid::NIL, ..good.clone() }]), GptError::Guid(Guid::NIL));
        assert_eq!(refused(&vec![good; 129]), GptError::TooMany(129));
    }
}
