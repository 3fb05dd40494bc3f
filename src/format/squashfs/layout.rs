//! The fixed structures of squashfs 4.0: superblock, type numbers, references into metadata.
//!
//! Everything is little-endian. Source: the kernel's `fs/squashfs/squashfs_fs.h` and
//! `Documentation/filesystems/squashfs.rst`.

/// `hsqs`, as a number.
pub(super) const MAGIC: u32 = 0x7371_7368;
/// Length of the superblock.
pub(super) const SUPERBLOCK_LENGTH: usize = 96;
/// Uncompressed length of every metadata block but a table's last.
pub(super) const METADATA_LENGTH: usize = 8192;
/// The superblock's number for zstd.
pub(super) const COMPRESSOR_ZSTD: u16 = 6;
/// In a data block's or fragment block's size: the block is stored as it is.
pub(super) const STORED_BLOCK: u32 = 1 << 24;
/// In a metadata block's header: the block is stored as it is.
pub(super) const STORED_METADATA: u16 = 1 << 15;
/// An index that points nowhere: no fragment, no extended attributes.
pub(super) const NO_INDEX: u32 = u32::MAX;
/// A table that is not there.
pub(super) const NO_TABLE: u64 = u64::MAX;
/// What a directory's recorded size has more than its listing: the entries `.` and `..`, which are not stored.
pub(super) const DIRECTORY_EXTRA: u32 = 3;
/// Most entries that one directory header leads.
pub(super) const HEADER_ENTRIES: usize = 256;
/// Prefixes of the extended attributes that squashfs can hold; the place in the list is the type number.
pub(super) const XATTR_PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// In an extended attribute's type number: the value is a reference to a value elsewhere.
pub(super) const XATTR_OUT_OF_LINE: u16 = 1 << 8;
/// Most extended attributes of one node, and their most bytes together, that this module writes and reads. The format
/// has no such bound.
pub(super) const XATTR_COUNT_LIMIT: usize = 1024;
pub(super) const XATTR_BYTES_LIMIT: usize = 1 << 20;

/// Superblock flags.
pub(super) mod flag {
    /// Equal files share their blocks.
    pub(in super::super) const DUPLICATES: u16 = 0x0040;
    /// There is an export table (inode number to inode).
    pub(in super::super) const EXPORTABLE: u16 = 0x0080;
    /// The compressor's options follow the superblock in a metadata block.
    pub(in super::super) const COMPRESSOR_OPTIONS: u16 = 0x0400;
}

/// Type numbers of inodes. An extended inode has the basic one's number and [`inode::EXTENDED`] more.
pub(super) mod inode {
    pub(in super::super) const DIRECTORY: u16 = 1;
    pub(in super::super) const FILE: u16 = 2;
    pub(in super::super) const SYMLINK: u16 = 3;
    pub(in super::super) const BLOCK: u16 = 4;
    pub(in super::super) const CHARACTER: u16 = 5;
    pub(in super::super) const FIFO: u16 = 6;
    pub(in super::super) const SOCKET: u16 = 7;
    /// Added to a type number for the form with room for more.
    pub(in super::super) const EXTENDED: u16 = 7;
}

/// A place in a table of metadata blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Where the metadata block starts, in bytes from the start of its table.
    pub block: u32,
    /// Byte inside the uncompressed block.
    pub offset: u16,
}

impl Position {
    /// The 64-bit form that superblock, export table and attribute table use.
    pub(super) fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }

    /// Reads the 64-bit form; none when it points further than 4 GiB into a table.
    pub(super) fn from_reference(reference: u64) -> Option<Self> {
        Some(Self { block: u32::try_from(reference >> 16).ok()?, offset: (reference & 0xffff) as u16 })
    }
}

/// The superblock, without the magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub inodes: u32,
    pub time: u32,
    pub block_size: u32,
    pub fragments: u32,
    pub compressor: u16,
    pub block_log: u16,
    pub flags: u16,
    pub ids: u16,
    pub version: (u16, u16),
    pub root: u64,
    pub bytes_used: u64,
    pub id_table: u64,
    pub xattr_table: u64,
    pub inode_table: u64,
    pub directory_table: u64,
    pub fragment_table: u64,
    pub export_table: u64,
}

impl Superblock {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut record = Record::default();
        record.u32(MAGIC).u32(self.inodes).u32(self.time).u32(self.block_size).u32(self.fragments);
        record.u16(self.compressor).u16(self.block_log).u16(self.flags).u16(self.ids);
        record.u16(self.version.0).u16(self.version.1).u64(self.root).u64(self.bytes_used);
        record.u64(self.id_table).u64(self.xattr_table).u64(self.inode_table);
        record.u64(self.directory_table).u64(self.fragment_table).u64(self.export_table);
        record.0
    }

    /// Reads a superblock; none when the magic number is another.
    pub(super) fn decode(bytes: &[u8; SUPERBLOCK_LENGTH]) -> Option<Self> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        (u32_at(0) == MAGIC).then(|| Self {
            inodes: u32_at(4),
            time: u32_at(8),
            block_size: u32_at(12),
            fragments: u32_at(16),
            compressor: u16_at(20),
            block_log: u16_at(22),
            flags: u16_at(24),
            ids: u16_at(26),
            version: (u16_at(28), u16_at(30)),
            root: u64_at(32),
            bytes_used: u64_at(40),
            id_table: u64_at(48),
            xattr_table: u64_at(56),
            inode_table: u64_at(64),
            directory_table: u64_at(72),
            fragment_table: u64_at(80),
            export_table: u64_at(88),
        })
    }
}

/// Bytes of one on-disk structure, field by field.
#[derive(Clone, Debug, Default)]
pub(super) struct Record(pub Vec<u8>);

impl Record {
    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_reads_back_and_another_magic_is_none() {
        let superblock = Superblock {
            inodes: 1,
            time: 2,
            block_size: 1 << 20,
            fragments: 4,
            compressor: COMPRESSOR_ZSTD,
            block_log: 20,
            flags: flag::EXPORTABLE,
            ids: 8,
            version: (4, 0),
            root: 9,
            bytes_used: 10,
            id_table: 11,
            xattr_table: NO_TABLE,
            inode_table: 12,
            directory_table: 13,
            fragment_table: 14,
            export_table: 15,
        };
        let mut bytes: [u8; SUPERBLOCK_LENGTH] = superblock.encode().try_into().unwrap();
        assert!(bytes.starts_with(b"hsqs"));
        assert_eq!(Superblock::decode(&bytes), Some(superblock));
        bytes[0] ^= 1;
        assert_eq!(Superblock::decode(&bytes), None);
    }

    #[test]
    fn a_position_keeps_its_halves() {
        let position = Position { block: 0x1234_5678, offset: 0x1fff };
        assert_eq!(position.reference(), 0x1234_5678_1fff);
        assert_eq!(Position::from_reference(position.reference()), Some(position));
        assert_eq!(Position::from_reference(1 << 60), None);
    }
}
