//! Reads tarballs, from whoever made them: ustar with pax or GNU headers, gzipped in any number of members.
//!
//! Entries come in the archive's order, each with its content as a stream. Names that no tree can hold, and headers
//! longer than any file system allows, are refused before they are kept. Specification: POSIX.1-2017 `pax`; GNU tar's
//! manual for long names and numbers in base 256.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::header::BLOCK;
use crate::tree::{Meta, PathError, TreePath};

/// Bytes of one entry's pax or long-name header: room for the attributes that a file can have.
const MOST_HEADER_BYTES: u64 = 1 << 20;

/// Entries of one tarball; a root file system has some tens of thousands.
const MOST_ENTRIES: usize = 4_000_000;

/// The prefix of pax records that hold extended attributes.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// Why a tarball cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadTarError {
    /// Reading or decompressing failed.
    #[error("the tarball cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A header that is none.
    #[error("the tarball is broken: {0}")]
    Broken(&'static str),
    /// Something that is not read here.
    #[error("the tarball cannot be read: it holds {0}")]
    Unsupported(&'static str),
    /// A name that no tree can hold.
    #[error("the tarball is refused: {0}")]
    Name(#[from] PathError),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub path: TreePath,
    /// Owner, mode, time, attributes.
    pub meta: Meta,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file of so many bytes.
    File(u64),
    /// Another name of an earlier entry.
    HardLink(TreePath),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device: major, minor.
    Character(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// A tarball that is read.
pub struct Reader<R: Read> {
    tar: MultiGzDecoder<BufReader<R>>,
    /// Bytes of the last entry's content that were not read yet, and the padding after them.
    left: u64,
    padding: u64,
    entries: usize,
}

/// What pax and GNU headers say of the next entry.
#[derive(Default)]
struct Extended {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Reads the gzipped tarball that `compressed` brings.
    pub fn new(compressed: R) -> Self {
        Self { tar: MultiGzDecoder::new(BufReader::new(compressed)), left: 0, padding: 0, entries: 0 }
    }

    /// The next entry; none at the end.
    ///
    /// # Errors
    /// As [`ReadTarError`] says.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadTarError> {
        let mut extended = Extended::default();
        loop {
            self.skip_content()?;
            let mut block = [0; BLOCK];
            self.tar.read_exact(&mut block)?;
            if block == [0; BLOCK] {
                return Ok(None);
            }
            check_sum(&block)?;
            let size = number(&block[124..136])?;
            match block[156] {
                b'x' => extended.add(&self.header_bytes(size)?)?,
                // Global headers hold comments.
                b'g' => drop(self.header_bytes(size)?),
                b'L' => drop(extended.records.insert(b"path".to_vec(), until_nul(&self.header_bytes(size)?))),
                b'K' => drop(extended.records.insert(b"linkpath".to_vec(), until_nul(&self.header_bytes(size)?))),
                _ => {
                    self.entries += 1;
                    if self.entries > MOST_ENTRIES {
                        return Err(ReadTarError::Unsupported("more entries than any root file system should"));
                    }
                    let entry = extended.entry(&block)?;
                    if let EntryKind::File(size) = entry.kind {
                        (self.left, self.padding) = (size, padding(size));
                    }
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// The content of the entry that came last; empty unless it is a file.
    pub fn content(&mut self) -> Body<'_, R> {
        Body(self)
    }

    fn skip_content(&mut self) -> Result<(), ReadTarError> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut (&mut self.tar).take(rest), &mut io::sink())?;
        (self.left, self.padding) = (0, 0);
        if skipped == rest { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
    }

    fn header_bytes(&mut self, size: u64) -> Result<Vec<u8>, ReadTarError> {
        if size > MOST_HEADER_BYTES {
            return Err(ReadTarError::Broken("a header is longer than the attributes of a file can be"));
        }
        (self.left, self.padding) = (size, padding(size));
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The content of an entry.
pub struct Body<'a, R: Read>(&'a mut Reader<R>);

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.0.left).unwrap_or(usize::MAX));
        let read = self.0.tar.read(&mut buffer[..length])?;
        if read == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.left -= read as u64;
        Ok(read)
    }
}

impl Extended {
    /// Adds the records of a pax header: `LENGTH KEY=VALUE`, each ended by a line break.
    fn add(&mut self, mut bytes: &[u8]) -> Result<(), ReadTarError> {
        const BROKEN: ReadTarError = ReadTarError::Broken("a pax header holds something else than records");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ').filter(|at| *at <= 8).ok_or(BROKEN)?;
            let length: usize =
                std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse().ok()).ok_or(BROKEN)?;
            let record = bytes.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or(BROKEN)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BROKEN)?;
            self.records.insert(record[..equals].to_vec(), record[equals + 1..].to_vec());
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn entry(&self, block: &[u8; BLOCK]) -> Result<Entry, ReadTarError> {
        let get = |key: &str| self.records.get(key.as_bytes());
        let decimal = |key: &str| -> Result<Option<i64>, ReadTarError> {
            // Times may have fractions, which no file of ours has.
            let whole = |value: &Vec<u8>| String::from_utf8_lossy(value).split('.').next()?.parse().ok();
            get(key).map(|value| whole(value).ok_or(ReadTarError::Broken("a pax record is no number"))).transpose()
        };
        let field = |key: &str, at: std::ops::Range<usize>| -> Result<u64, ReadTarError> {
            match decimal(key)? {
                Some(value) => u64::try_from(value).map_err(|_| ReadTarError::Broken("a size or owner is negative")),
                None => number(&block[at]),
            }
        };
        let small =
            |value: u64| u32::try_from(value).map_err(|_| ReadTarError::Broken("an owner or device is too large"));
        let name = match get("path") {
            Some(path) => path.clone(),
            None => {
                let (prefix, name) = (until_nul(&block[345..500]), until_nul(&block[..100]));
                // GNU's own format keeps times where ustar keeps the prefix.
                let ustar = block[257..263] == *b"ustar\0" && !prefix.is_empty();
                if ustar { [prefix, name].join(&b'/') } else { name }
            }
        };
        let link = || get("linkpath").cloned().unwrap_or_else(|| until_nul(&block[157..257]));
        let device = || Ok::<_, ReadTarError>((small(number(&block[329..337])?)?, small(number(&block[337..345])?)?));
        let kind = match block[156] {
            b'0' | b'\0' | b'7' => EntryKind::File(field("size", 124..136)?),
            b'1' => EntryKind::HardLink(TreePath::parse(link())?),
            b'2' => EntryKind::Symlink(link()),
            b'3' => device().map(|(major, minor)| EntryKind::Character(major, minor))?,
            b'4' => device().map(|(major, minor)| EntryKind::Block(major, minor))?,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => return Err(ReadTarError::Unsupported("a sparse file of GNU tar")),
            _ => return Err(ReadTarError::Unsupported("an entry of an unknown kind")),
        };
        let mode = number(&block[100..108])? & 0o7777;
        let mtime = match decimal("mtime")? {
            Some(time) => time,
            None => number(&block[136..148])?.cast_signed(),
        };
        let attributes = self.records.iter();
        let meta = Meta {
            mode: mode as u16,
            uid: small(field("uid", 108..116)?)?,
            gid: small(field("gid", 116..124)?)?,
            mtime,
            xattrs: attributes
                .filter_map(|(key, value)| Some((key.strip_prefix(ATTRIBUTE)?.to_vec(), value.clone())))
                .collect(),
        };
        Ok(Entry { path: TreePath::parse(name)?, meta, kind })
    }
}

fn padding(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK as u64).map_or(0, |end| end - size)
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// A field of octal digits, or of GNU's base 256 where its first bit is set.
fn number(field: &[u8]) -> Result<u64, ReadTarError> {
    if let Some((first, rest)) = field.split_first()
        && *first == 0x80
    {
        let (zeros, low) = rest.split_at(rest.len().saturating_sub(8));
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(ReadTarError::Broken("a number is too large"));
        }
        return Ok(low.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| !matches!(**byte, b' ' | 0));
    digits.copied().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => Ok(value << 3 | u64::from(digit - b'0')),
        _ => Err(ReadTarError::Broken("a number is not octal")),
    })
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), ReadTarError> {
    let bytes = block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let sum: u64 = bytes.map(u64::from).sum();
    if number(&block[148..156])? == sum { Ok(()) } else { Err(ReadTarError::Broken("a header's checksum is wrong")) }
}
