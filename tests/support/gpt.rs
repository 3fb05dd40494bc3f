//! A reader of GPT (UEFI specification 2.10, section 5.3) that shares no code with the writer.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Partition type of an EFI system partition.
pub const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// Partition type of an x86-64 root file system (Discoverable Partitions Specification).
pub const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
/// Partition type of its verity hashes.
pub const ROOT_VERITY: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";

const SECTOR: u64 = 512;

/// One used entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Type, lower case.
    pub kind: String,
    /// Unique identifier, lower case.
    pub identifier: String,
    /// Name.
    pub label: String,
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub length: u64,
}

/// The used entries of the image at `path`.
#[track_caller]
pub fn partitions(path: &Path) -> Vec<Partition> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut header = [0; 92];
    file.read_exact_at(&mut header, SECTOR).expect("an image is longer than its header");
    assert_eq!(&header[..8], b"EFI PART", "{} has no GPT", path.display());
    let number = |bytes: &[u8], at: usize, width: usize| {
        bytes[at..at + width].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (table, count, width) = (number(&header, 72, 8), number(&header, 80, 4), number(&header, 84, 4));
    let mut found = Vec::new();
    for index in 0..count {
        let mut entry = [0; 128];
        file.read_exact_at(&mut entry, table * SECTOR + index * width).expect("the table lies in the image");
        if entry[..16] == [0; 16] {
            continue;
        }
        let (first, last) = (number(&entry, 32, 8), number(&entry, 40, 8));
        let units: Vec<u16> = entry[56..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        found.push(Partition {
            kind: guid(&entry[..16]),
            identifier: guid(&entry[16..32]),
            label: String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned(),
            start: first * SECTOR,
            length: (last + 1 - first) * SECTOR,
        });
    }
    found
}

/// The first partition of type `kind`.
#[track_caller]
pub fn find(path: &Path, kind: &str) -> Partition {
    let all = partitions(path);
    let found = all.iter().find(|partition| partition.kind == kind);
    found.unwrap_or_else(|| panic!("{} has no partition {kind}: {all:#?}", path.display())).clone()
}

/// Copies a partition's bytes to `NAME` in `folder`.
#[track_caller]
pub fn extract(image: &Path, partition: &Partition, folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let source = File::open(image).expect("just read");
    let mut target = File::create(&path).expect("the folder takes files");
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    while done < partition.length {
        let part = (partition.length - done).min(buffer.len() as u64) as usize;
        source.read_exact_at(&mut buffer[..part], partition.start + done).expect("the partition lies in the image");
        target.write_all(&buffer[..part]).expect("there is space");
        done += part as u64;
    }
    path
}

/// Mixed-endian text form (UEFI specification, appendix A).
fn guid(bytes: &[u8]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text: String = order.map(|index: usize| format!("{:02x}", bytes[index])).concat();
    for position in [8, 13, 18, 23] {
        text.insert(position, '-');
    }
    text
}
