//! Root tarballs: `.tar.gz` as a series of gzip members, each made and kept by itself.
//!
//! Owns the archive's entries (names, headers, order within a member) and the frame around them. Concatenated gzip
//! members are one stream (RFC 1952, section 2.2), so a tarball is put together from stored members, and one that did
//! not change is not compressed again. Each ends where a file system's block does, so that a tarball can share its
//! blocks with where the members are kept, and with other tarballs. Entries are POSIX ustar; a pax header precedes one
//! only where ustar cannot say it: long names, large numbers, extended attributes. No clock, host or user name is in any
//! byte. Specifications: POSIX.1-2017 `pax`, RFC 1952; names as GNU tar and MAAS write them (`./`, `./bin/`, `./bin/sh`).

mod header;
pub mod read;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

use flate2::{Compression, GzBuilder, write::GzEncoder};

use super::{Bytes, Recipe};
use crate::digest::Digest;
use crate::tree::{Content, Kind, Node, TreePath};
use header::{BLOCK, Header};

/// RFC 1952's number for an operating system that is not told.
const UNKNOWN_SYSTEM: u8 = 255;

/// A [`member`] has a multiple of this many bytes.
pub const ALIGNMENT: u64 = 4096;

/// A node that a tarball cannot hold, or a content that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Archives have no sockets.
    #[error("`/{0}` is a socket, which a tarball cannot hold")]
    Socket(TreePath),
    /// Device numbers have seven octal digits.
    #[error("`/{path}` has the device number {number}, which does not fit in a tarball")]
    Device {
        /// The node.
        path: TreePath,
        /// Its major or minor number.
        number: u32,
    },
    /// A content is shorter or longer than the tree says.
    #[error("the content of `/{path}` does not have the {size} bytes that the tree says")]
    Length {
        /// The node.
        path: TreePath,
        /// What the tree says.
        size: u64,
    },
    /// Reading a content or writing the member failed.
    #[error("the tarball cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Compresses `nodes` as one gzip member, at zlib's `level` (0 to 9), into `out`; an empty one fills the last block of
/// [`ALIGNMENT`] bytes. `content` opens a file's content.
///
/// Members may be joined in any order in which a directory comes before what is in it, and the first name of a
/// hard-link group (the one that names the group) before the others: those are written as links to it.
///
/// # Errors
/// When a node cannot be in a tarball, or a content cannot be had whole.
pub fn member<'a, R: Read, W: Write>(
    nodes: impl IntoIterator<Item = (&'a TreePath, &'a Node)>,
    mut content: impl FnMut(&Content) -> io::Result<R>,
    level: u32,
    out: &mut W,
) -> Result<(), TarError> {
    let mut gzip = gzip(Counted { out, length: 0 }, level);
    for (path, node) in nodes {
        header::write(&mut gzip, path, node)?;
        if let Some(body) = body(path, node) {
            copy(content(body)?, path, body.size, &mut gzip)?;
        }
    }
    let Counted { out, length } = gzip.finish()?;
    Ok(fill(out, length)?)
}

/// What was written to it is counted, in bytes.
struct Counted<W> {
    out: W,
    length: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Fills the last block behind `length` bytes: with a gzip member of nothing, whose header has zeros in a field of its own
/// (RFC 1952, section 2.3.1.1).
fn fill(out: &mut impl Write, length: u64) -> io::Result<()> {
    // DEFLATE, with a field; no time; the system is not told.
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, UNKNOWN_SYSTEM];
    /// The field's two letters and its length.
    const FIELD: usize = 4;
    // The last block of DEFLATE, empty (RFC 1951, section 3.2.6); checksum and length of nothing.
    const END: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const LEAST: u64 = (HEADER.len() + 2 + FIELD + END.len()) as u64;
    if length.is_multiple_of(ALIGNMENT) {
        return Ok(());
    }
    let zeros = ((length + LEAST).next_multiple_of(ALIGNMENT) - length - LEAST) as u16;
    out.write_all(&HEADER)?;
    out.write_all(&(FIELD as u16 + zeros).to_le_bytes())?;
    out.write_all(b"rc")?;
    out.write_all(&zeros.to_le_bytes())?;
    out.write_all(&vec![0; usize::from(zeros)])?;
    out.write_all(&END)
}

/// Writes the gzip member that ends a tarball, two blocks of zeros, at zlib's `level` into `out`.
///
/// # Errors
/// When `out` cannot be written.
pub fn end<W: Write>(level: u32, out: &mut W) -> Result<(), TarError> {
    let mut gzip = gzip(out, level);
    gzip.write_all(&[0; 2 * BLOCK])?;
    gzip.finish()?;
    Ok(())
}

/// The whole tarball of stored members, each with its object, its length in bytes and whose nodes it holds (`package
/// chrony 4.6.1-3`). The last one has to be the [`end`].
pub fn assemble(members: &[(Digest, u64, String)]) -> Recipe {
    let mut recipe = Recipe::new();
    for (object, length, label) in members {
        recipe.push(Bytes::Object { object: *object, offset: 0, length: *length }, label.as_str());
    }
    recipe
}

fn gzip<W: Write>(out: W, level: u32) -> GzEncoder<W> {
    let builder = GzBuilder::new().mtime(0).operating_system(UNKNOWN_SYSTEM);
    builder.write(out, Compression::new(level.min(9)))
}

/// The content that follows the node's header: a regular file's, unless it is a link to another name.
fn body<'a>(path: &TreePath, node: &'a Node) -> Option<&'a Content> {
    match &node.kind {
        Kind::File(file) if Header::link_target(path, file).is_none() => Some(&file.content),
        _ => None,
    }
}

/// Copies exactly `size` bytes and fills the last block.
fn copy(mut reader: impl Read, path: &TreePath, size: u64, out: &mut impl Write) -> Result<(), TarError> {
    let copied = io::copy(&mut reader.by_ref().take(size), out)?;
    let surplus = io::copy(&mut reader.take(1), &mut io::sink())?;
    if copied != size || surplus != 0 {
        return Err(TarError::Length { path: path.clone(), size });
    }
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    out.write_all(&[0; BLOCK][..padding as usize])?;
    Ok(())
}
