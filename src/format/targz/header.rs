//! Entry headers: ustar, and a pax header before it where ustar cannot say it.

use std::io::Write;

use super::TarError;
use crate::tree::{File, Kind, Node, TreePath};

/// Bytes of a block; headers and contents fill whole ones.
pub(super) const BLOCK: usize = 512;
/// The largest number in seven octal digits: owners and device numbers.
const SEVEN_DIGITS: u32 = 0o777_7777;
/// The largest number in eleven octal digits: sizes and times.
const ELEVEN_DIGITS: u64 = 0o777_7777_7777;

/// One entry's fields.
pub(super) struct Header {
    name: Vec<u8>,
    mode: u16,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    kind: u8,
    link: Vec<u8>,
    major: u32,
    minor: u32,
}

/// Writes what precedes the content of `node`.
pub(super) fn write(out: &mut impl Write, path: &TreePath, node: &Node) -> Result<(), TarError> {
    let header = Header::of(path, node)?;
    let mut records = header.records();
    // A further name of a file has the attributes already.
    if header.kind != b'1' {
        for (name, value) in &node.meta.xattrs {
            records.extend(record(&[b"SCHILY.xattr.", name.as_slice()].concat(), value));
        }
    }
    if !records.is_empty() {
        let pax = Header {
            name: b"./PaxHeaders".to_vec(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: records.len() as u64,
            mtime: 0,
            kind: b'x',
            link: Vec::new(),
            major: 0,
            minor: 0,
        };
        records.resize(records.len().next_multiple_of(BLOCK), 0);
        out.write_all(&pax.block())?;
        out.write_all(&records)?;
    }
    out.write_all(&header.block())?;
    Ok(())
}

impl Header {
    /// The name that `file` is a further name of, when `path` is not the first of its group.
    pub(super) fn link_target<'a>(path: &TreePath, file: &'a File) -> Option<&'a TreePath> {
        file.group.as_ref().filter(|first| *first != path)
    }

    fn of(path: &TreePath, node: &Node) -> Result<Self, TarError> {
        let mut header = Self {
            name: entry_name(path),
            mode: node.meta.mode,
            uid: node.meta.uid,
            gid: node.meta.gid,
            size: 0,
            mtime: node.meta.mtime,
            kind: b'0',
            link: Vec::new(),
            major: 0,
            minor: 0,
        };
        match &node.kind {
            Kind::File(file) => match Self::link_target(path, file) {
                Some(first) => (header.kind, header.link) = (b'1', entry_name(first)),
                None => header.size = file.content.size,
            },
            Kind::Symlink(target) => (header.kind, header.link) = (b'2', target.clone()),
            Kind::Character(major, minor) => (header.kind, header.major, header.minor) = (b'3', *major, *minor),
            Kind::Block(major, minor) => (header.kind, header.major, header.minor) = (b'4', *major, *minor),
            Kind::Directory => {
                header.kind = b'5';
                if !path.is_root() {
                    header.name.push(b'/');
                }
            }
            Kind::Fifo => header.kind = b'6',
            Kind::Socket => return Err(TarError::Socket(path.clone())),
        }
        match [header.major, header.minor].into_iter().find(|number| *number > SEVEN_DIGITS) {
            Some(number) => Err(TarError::Device { path: path.clone(), number }),
            None => Ok(header),
        }
    }

    /// The pax records that this entry needs.
    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        // pax asks for UTF-8 here, or for `hdrcharset`, which GNU tar does not know. Like GNU tar, this writes the
        // name's bytes whatever they are.
        if self.split_name().is_none() {
            records.extend(record(b"path", &self.name));
        }
        if self.link.len() > 100 {
            records.extend(record(b"linkpath", &self.link));
        }
        for (key, number) in [(b"uid", self.uid), (b"gid", self.gid)] {
            if number > SEVEN_DIGITS {
                records.extend(record(key, number.to_string().as_bytes()));
            }
        }
        if self.size > ELEVEN_DIGITS {
            records.extend(record(b"size", self.size.to_string().as_bytes()));
        }
        if u64::try_from(self.mtime).is_ok_and(|mtime| mtime > ELEVEN_DIGITS) || self.mtime < 0 {
            records.extend(record(b"mtime", self.mtime.to_string().as_bytes()));
        }
        records
    }

    /// The name as ustar's prefix and name, when it fits: at most 155 bytes, a slash that is left out, at most 100.
    fn split_name(&self) -> Option<(&[u8], &[u8])> {
        let name = self.name.as_slice();
        if name.len() <= 100 {
            return Some((b"", name));
        }
        let earliest = name.len() - 101;
        let slash = (earliest..name.len() - 1).find(|at| name[*at] == b'/').filter(|at| *at <= 155)?;
        Some((&name[..slash], &name[slash + 1..]))
    }

    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        let (prefix, name) = self.split_name().unwrap_or_else(|| (b"", &self.name[..100]));
        // What a pax record holds is 0 here: a reader that knows no pax shall not take it for the value.
        let fitting = |number: u64, most: u64| if number > most { 0 } else { number };
        let seven = |number: u32| format!("{:07o}", fitting(number.into(), SEVEN_DIGITS.into()));
        let eleven = |number: u64| format!("{:011o}", fitting(number, ELEVEN_DIGITS));
        put(0, name);
        put(100, format!("{:07o}", self.mode & 0o7777).as_bytes());
        put(108, seven(self.uid).as_bytes());
        put(116, seven(self.gid).as_bytes());
        put(124, eleven(self.size).as_bytes());
        put(136, eleven(u64::try_from(self.mtime).unwrap_or(0)).as_bytes());
        put(148, b"        "); // the checksum counts as spaces
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        if matches!(self.kind, b'3' | b'4') {
            put(329, seven(self.major).as_bytes());
            put(337, seven(self.minor).as_bytes());
        }
        put(345, prefix);
        let checksum: u32 = block.iter().copied().map(u32::from).sum();
        block[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
        block
    }
}

/// The name of an entry: below `./`.
fn entry_name(path: &TreePath) -> Vec<u8> {
    [b"./", path.as_bytes()].concat()
}

/// A pax record: its own length in decimal, key and value.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3; // space, `=`, newline
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        for value in (0..20).chain(85..100).chain(985..1005) {
            let record = record(b"a", &vec![b'x'; value]);
            let written: usize = String::from_utf8_lossy(&record).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(written, record.len(), "a value of {value} bytes");
        }
        assert_eq!(record(b"path", b"./etc"), b"14 path=./etc\n");
    }
}
