//! Reading a partition table back, one that anybody may have written.

use std::io;

use super::super::ReadAt;
use super::{ENTRY, Guid, HEADER, NAME, SECTOR, crc32};

/// Begins a header.
pub(super) const SIGNATURE: [u8; 8] = *b"EFI PART";
/// A larger array of entries is not read; 16 KiB are usual.
const LARGEST_ARRAY: u64 = 256 * 1024;

/// A disk without a whole partition table.
#[derive(Debug, thiserror::Error)]
pub enum ReadGptError {
    /// There is no table.
    #[error("no GUID partition table")]
    None,
    /// A checksum or field is wrong.
    #[error("the GUID partition table is broken: {0}")]
    Broken(&'static str),
    /// The medium failed, or ended early.
    #[error("the GUID partition table cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A partition table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which disk it is.
    pub disk_guid: Guid,
    /// The partitions, in the order of the entries.
    pub partitions: Vec<Found>,
}

/// A partition that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Number of its entry, from 1.
    pub number: u32,
    /// What it is for.
    pub type_guid: Guid,
    /// Which one it is.
    pub guid: Guid,
    /// Its label.
    pub name: String,
    /// See [`super::attribute`].
    pub attributes: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Reads the table of a disk with 512-byte sectors. Both headers and both arrays have to be whole and agree.
///
/// # Errors
/// When there is no table, or a damaged one.
pub fn read<R: ReadAt + ?Sized>(disk: &R) -> Result<Table, ReadGptError> {
    let primary = Header::read(disk, 1)?;
    if primary.other <= primary.last_usable {
        return Err(ReadGptError::Broken("the backup header lies among the partitions"));
    }
    let backup = Header::read(disk, primary.other)?;
    if backup.other != 1 || backup.common() != primary.common() {
        return Err(ReadGptError::Broken("the backup header is another disk's"));
    }
    let array = primary.array(disk)?;
    backup.array(disk)?;
    let mut partitions = Vec::new();
    for (entry, number) in array.chunks_exact(primary.entry_size as usize).zip(1..) {
        partitions.extend(found(entry, number, &primary)?);
    }
    let mut places: Vec<_> = partitions.iter().map(|found| (found.offset, found.offset + found.size)).collect();
    places.sort_unstable();
    if places.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err(ReadGptError::Broken("two partitions overlap"));
    }
    Ok(Table { disk_guid: primary.disk_guid, partitions })
}

struct Header {
    other: u64,
    first_usable: u64,
    last_usable: u64,
    disk_guid: Guid,
    array: u64,
    entries: u32,
    entry_size: u32,
    array_checksum: u32,
}

impl Header {
    fn read<R: ReadAt + ?Sized>(disk: &R, sector: u64) -> Result<Self, ReadGptError> {
        let mut bytes = [0; SECTOR as usize];
        let place = sector.checked_mul(SECTOR).ok_or(ReadGptError::Broken("a header lies beyond any disk"))?;
        disk.read_exact_at(place, &mut bytes)?;
        if !bytes.starts_with(&SIGNATURE) {
            return Err(ReadGptError::None);
        }
        let size = u32_at(&bytes, 12);
        if !(u64::from(HEADER)..=SECTOR).contains(&size.into()) {
            return Err(ReadGptError::Broken("a header's size is impossible"));
        }
        let checksum = u32_at(&bytes, 16);
        bytes[16..20].fill(0);
        if crc32(&bytes[..size as usize]) != checksum || u64_at(&bytes, 24) != sector {
            return Err(ReadGptError::Broken("a header's checksum or place is wrong"));
        }
        let header = Self {
            other: u64_at(&bytes, 32),
            first_usable: u64_at(&bytes, 40),
            last_usable: u64_at(&bytes, 48),
            disk_guid: guid_at(&bytes, 56),
            array: u64_at(&bytes, 72),
            entries: u32_at(&bytes, 80),
            entry_size: u32_at(&bytes, 84),
            array_checksum: u32_at(&bytes, 88),
        };
        let entry_size = header.entry_size as usize;
        if !entry_size.is_power_of_two() || entry_size < ENTRY || header.array_size() > LARGEST_ARRAY {
            return Err(ReadGptError::Broken("the array of entries has an impossible size"));
        }
        // The last byte of the last sector has to have a number.
        if header.last_usable >= u64::MAX / SECTOR || header.array > u64::MAX / SECTOR {
            return Err(ReadGptError::Broken("its sectors lie beyond any disk"));
        }
        Ok(header)
    }

    fn array_size(&self) -> u64 {
        u64::from(self.entries) * u64::from(self.entry_size)
    }

    /// What both headers have to agree in.
    fn common(&self) -> (Guid, u64, u64, u32, u32, u32) {
        let Self { disk_guid, first_usable, last_usable, entries, entry_size, array_checksum, .. } = *self;
        (disk_guid, first_usable, last_usable, entries, entry_size, array_checksum)
    }

    fn array<R: ReadAt + ?Sized>(&self, disk: &R) -> Result<Vec<u8>, ReadGptError> {
        let mut array = vec![0; self.array_size() as usize];
        disk.read_exact_at(self.array * SECTOR, &mut array)?;
        if crc32(&array) == self.array_checksum {
            Ok(array)
        } else {
            Err(ReadGptError::Broken("the checksum of the partition entries is wrong"))
        }
    }
}

/// The partition of an entry, none for an unused one.
fn found(entry: &[u8], number: u32, header: &Header) -> Result<Option<Found>, ReadGptError> {
    let type_guid = guid_at(entry, 0);
    if type_guid == Guid::NIL {
        return Ok(None);
    }
    let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
    if first < header.first_usable || first > last || last > header.last_usable {
        return Err(ReadGptError::Broken("a partition lies outside the usable sectors"));
    }
    let units = entry[56..56 + 2 * NAME].as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let name: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Ok(Some(Found {
        number,
        type_guid,
        guid: guid_at(entry, 16),
        name: String::from_utf16_lossy(&name),
        attributes: u64_at(entry, 48),
        offset: first * SECTOR,
        size: (last - first + 1) * SECTOR,
    }))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at + 4)) << 32 | u64::from(u32_at(bytes, at))
}

fn guid_at(bytes: &[u8], at: usize) -> Guid {
    let mut guid = [0; 16];
    guid.copy_from_slice(&bytes[at..at + 16]);
    Guid::from_disk(guid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::recipe::testing::Objects;
    use super::super::{ALIGNMENT, Partition, disk, tests::guid, tests::sample};
    use super::*;

    #[test]
    fn every_flipped_byte_of_the_tables_is_noticed() {
        let (_, image) = sample();
        assert_eq!(read(&image).unwrap().partitions.len(), 3);
        let tables = (512..512 + 92).chain(1024..1024 + 512).chain(image.len() - 512..image.len() - 420);
        for at in tables {
            let mut damaged = image.clone();
            damaged[at] ^= 0x10;
            assert!(read(&damaged).is_err(), "byte {at}");
        }
        assert!(matches!(read(&image[..image.len() - 512]), Err(ReadGptError::Io(_))));
        assert!(matches!(read(&vec![0; 4096]), Err(ReadGptError::None)));
    }

    #[test]
    fn a_hostile_header_with_a_right_checksum_is_refused() {
        let (_, image) = sample();
        for (what, at, bytes) in [
            ("entry count", 80, &[0xff; 4][..]),
            ("entry size", 84, &[0, 0, 0, 0x80]),
            ("small entries", 84, &[1, 0, 0, 0]),
            ("array", 72, &[0xff; 8]),
            ("last usable", 48, &[0xff; 8]),
            ("other header", 32, &[0xff; 8]),
            ("other header is this one", 32, &[1, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            let mut hostile = image.clone();
            hostile[512 + at..512 + at + bytes.len()].copy_from_slice(bytes);
            hostile[512 + 16..512 + 20].fill(0);
            let checksum = crc32(&hostile[512..512 + 92]);
            hostile[512 + 16..512 + 20].copy_from_slice(&checksum.to_le_bytes());
            assert!(matches!(read(&hostile), Err(ReadGptError::Broken(_))), "{what}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_back(
            parts in proptest::collection::vec((any::<u128>(), ".{0,18}", any::<u64>(), 1..3000_u64), 0..8)
        ) {
            let mut objects = Objects::default();
            let names: Vec<String> = parts.iter().map(|(_, name, ..)| name.replace('\0', "")).collect();
            let parts = parts.iter().zip(&names).enumerate();
            let partitions: Vec<_> = parts.map(|(index, ((type_guid, _, attributes, sectors), name))| Partition {
                type_guid: Guid::from_u128(type_guid | 1),
                guid: guid(&index.to_string()),
                name,
                attributes: *attributes,
                content: objects.keep(vec![index as u8; 100]),
                size: sectors * SECTOR,
            }).collect();
            let gpt = disk(guid("disk"), &partitions).unwrap();
            prop_assert_eq!(&gpt, &disk(guid("disk"), &partitions).unwrap());
            let image = objects.pour(&gpt.recipe);
            let table = read(&image).unwrap();
            prop_assert_eq!(table.disk_guid, guid("disk"));
            prop_assert_eq!(table.partitions.len(), partitions.len());
            for ((found, partition), offset) in table.partitions.iter().zip(&partitions).zip(&gpt.offsets) {
                prop_assert_eq!((found.type_guid, found.guid), (partition.type_guid, partition.guid));
                prop_assert_eq!((found.name.as_str(), found.attributes), (partition.name, partition.attributes));
                prop_assert_eq!((found.offset, found.size), (*offset, partition.size));
                prop_assert_eq!(found.offset % ALIGNMENT, 0);
                prop_assert_eq!(image[found.offset as usize], (found.number - 1) as u8);
            }
        }
    }
}
