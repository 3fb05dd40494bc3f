//! The ar archive that a .deb is, as deb(5) restricts it: short names, no symbol table.
//!
//! Reads headers only and hands out where each member lies; the caller seeks. A member that claims more bytes than
//! the archive has is an error before anything is read.

use std::io::{self, Read, Seek, SeekFrom};

/// What an archive starts with.
const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Bytes of a member's header.
const HEADER: usize = 60;

/// Members read at most; a .deb has three or a few.
const MOST_MEMBERS: usize = 64;

/// A member and where its bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, without padding and without the slash that some writers append.
    pub name: String,
    /// Offset of its first byte in the archive.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Why bytes are no ar archive.
#[derive(Debug, thiserror::Error)]
pub enum ArError {
    /// The magic is missing.
    #[error("not an ar archive")]
    Magic,
    /// A header at this offset is broken or cut short.
    #[error("the header at byte {0} is broken")]
    Header(u64),
    /// A member reaches past the end.
    #[error("member `{name}` claims {size} bytes, the archive ends before")]
    Truncated {
        /// The member.
        name: String,
        /// Its size as claimed.
        size: u64,
    },
    /// More members than a .deb can have.
    #[error("more than {MOST_MEMBERS} members")]
    TooMany,
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The members of the archive in `reader`, in order.
///
/// # Errors
/// When it is no archive, a header is broken, a member reaches past the end, or reading fails.
pub fn members(reader: &mut (impl Read + Seek)) -> Result<Vec<Member>, ArError> {
    let end = reader.seek(SeekFrom::End(0))?;
    reader.seek(SeekFrom::Start(0))?;
    let mut magic = [0; MAGIC.len()];
    if end < magic.len() as u64 {
        return Err(ArError::Magic);
    }
    reader.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(ArError::Magic);
    }
    let mut members = Vec::new();
    let mut at = magic.len() as u64;
    while at < end {
        if members.len() == MOST_MEMBERS {
            return Err(ArError::TooMany);
        }
        let offset = at + HEADER as u64;
        if offset > end {
            return Err(ArError::Header(at));
        }
        reader.seek(SeekFrom::Start(at))?;
        let mut header = [0; HEADER];
        reader.read_exact(&mut header)?;
        let (name, size) = parse_header(&header).ok_or(ArError::Header(at))?;
        if size > end - offset {
            return Err(ArError::Truncated { name, size });
        }
        members.push(Member { name, offset, size });
        // Members start at even offsets; the last one's padding may be missing.
        at = offset + size + size % 2;
    }
    Ok(members)
}

/// Name (16 bytes) and size (decimal, 10 bytes at 48); times, owners and modes are of no interest.
fn parse_header(header: &[u8; HEADER]) -> Option<(String, u64)> {
    if &header[58..] != b"`\n" {
        return None;
    }
    let name = std::str::from_utf8(&header[..16]).ok()?.trim_end_matches(' ');
    let name = name.strip_suffix('/').unwrap_or(name);
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    let size = std::str::from_utf8(&header[48..58]).ok()?.trim_end_matches(' ');
    let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
    (plain && digits).then_some(())?;
    Some((name.to_owned(), size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn archive(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (name, size, content) in parts {
            bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100_644).bytes());
            bytes.extend(*content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    #[test]
    fn members_are_found_at_even_offsets() {
        let bytes = archive(&[("debian-binary", "4", b"2.0\n"), ("odd/", "1", b"x"), ("last", "2", b"yz")]);
        let found = members(&mut Cursor::new(&bytes)).expect("an archive");
        let names: Vec<_> = found.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["debian-binary", "odd", "last"]);
        let last = &found[2];
        assert_eq!(&bytes[last.offset as usize..][..last.size as usize], b"yz");
    }

    #[test]
    fn hostile_archives_are_refused() {
        let huge = archive(&[("a", "9999999999", b"")]);
        assert!(matches!(members(&mut Cursor::new(huge)), Err(ArError::Truncated { .. })));
        let many = archive(&vec![("a", "0", b"" as &[u8]); MOST_MEMBERS + 1]);
        assert!(matches!(members(&mut Cursor::new(many)), Err(ArError::TooMany)));
        for parts in [("../x", "0"), ("", "0"), ("a", "-1"), ("a", "0x10"), ("a", "")] {
            let bytes = archive(&[(parts.0, parts.1, b"")]);
            assert!(matches!(members(&mut Cursor::new(bytes)), Err(ArError::Header(8))), "{parts:?}");
        }
        let mut cut = archive(&[("a", "0", b"")]);
        cut.pop();
        assert!(matches!(members(&mut Cursor::new(cut)), Err(ArError::Header(8))));
        for bytes in [b"" as &[u8], b"!<arch>", b"!<arc>\n\n\n"] {
            assert!(matches!(members(&mut Cursor::new(bytes)), Err(ArError::Magic)));
        }
    }
}
