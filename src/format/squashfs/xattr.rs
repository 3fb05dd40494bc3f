//! Extended attributes: each distinct set is stored once; an inode holds the number of its set.

use std::collections::BTreeMap;

use crate::tree::{Node, TreePath};

use super::SquashfsError;
use super::layout::{Position, Record, XATTR_BYTES_LIMIT, XATTR_COUNT_LIMIT, XATTR_PREFIXES};
use super::metadata::{MetadataWriter, lookup_table};

/// The longest name and value that Linux takes, `xattr(7)`.
const NAME_LIMIT: usize = 255;
const VALUE_LIMIT: usize = 65_536;

/// The attribute sets of an image.
pub(super) struct XattrTable {
    level: i32,
    writer: MetadataWriter,
    /// The number of each set, by its stored bytes.
    numbers: BTreeMap<Vec<u8>, u32>,
    /// Where each set is, how many attributes it has, and its length.
    sets: Vec<(Position, u32, u32)>,
}

impl XattrTable {
    pub(super) fn new(level: i32) -> Self {
        Self { level, writer: MetadataWriter::new(level), numbers: BTreeMap::new(), sets: Vec::new() }
    }

    /// The number of the set of `node`'s attributes; none when it has none.
    pub(super) fn add(&mut self, path: &TreePath, node: &Node) -> Result<Option<u32>, SquashfsError> {
        let xattrs = &node.meta.xattrs;
        if xattrs.is_empty() {
            return Ok(None);
        }
        let mut record = Record::default();
        for (name, value) in xattrs {
            let refuse = |why| SquashfsError::Xattr {
                path: path.clone(),
                name: String::from_utf8_lossy(name).into_owned(),
                why,
            };
            let (kind, rest) =
                split_prefix(name).ok_or_else(|| refuse("it knows user.*, trusted.* and security.* only"))?;
            if rest.is_empty() || name.len() > NAME_LIMIT {
                return Err(refuse("the name is empty after its prefix or longer than 255 bytes"));
            }
            if value.len() > VALUE_LIMIT {
                return Err(refuse("the value is longer than 65536 bytes"));
            }
            record.u16(kind).u16(rest.len() as u16).bytes(rest).u32(value.len() as u32).bytes(value);
        }
        if xattrs.len() > XATTR_COUNT_LIMIT || record.0.len() > XATTR_BYTES_LIMIT {
            let why = "it has over 1024 extended attributes, or over 1 MiB of them";
            return Err(SquashfsError::Node { path: path.clone(), why });
        }
        let length = record.0.len() as u32;
        if let Some(number) = self.numbers.get(&record.0) {
            return Ok(Some(*number));
        }
        let number = self.sets.len() as u32;
        self.sets.push((self.writer.position()?, xattrs.len() as u32, length));
        self.writer.write(&record.0)?;
        self.numbers.insert(record.0, number);
        Ok(Some(number))
    }

    /// The tables for an image in which they start at `base`, and where their head is; none without attributes.
    pub(super) fn finish(self, base: u64) -> Result<Option<(Vec<u8>, u64)>, SquashfsError> {
        if self.sets.is_empty() {
            return Ok(None);
        }
        let count = self.sets.len() as u32;
        let mut entries = Record::default();
        for (position, count, length) in &self.sets {
            entries.u64(position.reference()).u32(*count).u32(*length);
        }
        let (mut bytes, _) = self.writer.finish()?;
        let (sets, list) = lookup_table(&entries.0, base + bytes.len() as u64, self.level)?;
        // The head stands between the sets' blocks and the list of them.
        let (blocks, list_bytes) = sets.split_at((list - base) as usize - bytes.len());
        bytes.extend_from_slice(blocks);
        let mut head = Record(bytes);
        head.u64(base).u32(count).u32(0).bytes(list_bytes);
        Ok(Some((head.0, list)))
    }
}

/// The type number of an attribute's name and the name without the prefix.
fn split_prefix(name: &[u8]) -> Option<(u16, &[u8])> {
    (0..).zip(XATTR_PREFIXES).find_map(|(kind, prefix)| Some((kind, name.strip_prefix(prefix)?)))
}
