//! The headers of UEFI programs, as far as they matter for adding sections, signing and reading back.
//!
//! Specification: Microsoft's PE Format; offsets are its, PE32+ alone.

use std::io;

use super::{Bytes, ReadAt, Recipe};

/// Size of a section header.
pub(super) const SECTION_HEADER: usize = 40;
/// A PE file that holds more sections than this is none of ours (the format itself allows 96 for images).
const MOST_SECTIONS: u16 = 96;
/// The header may not begin later than this; a stub's begins in its first 256 bytes.
const FARTHEST_HEADER: u32 = 4096;

/// A file that is no PE image as UEFI runs it, or has not what is looked for.
#[derive(Debug, thiserror::Error)]
pub enum PeError {
    /// Not PE32+, cut short, or with a header that contradicts itself.
    #[error("not a UEFI program: {0}")]
    NotPe(&'static str),
    /// The image has no such section.
    #[error("there is no section {0}")]
    Missing(String),
    /// The section is larger than the reader is ready to hold.
    #[error("the section {name} has {size} bytes, more than the {limit} expected")]
    OverLimit {
        /// Its name.
        name: String,
        /// Its size in bytes.
        size: u32,
        /// The most that was allowed.
        limit: u32,
    },
    /// The medium failed, or ended early.
    #[error("the UEFI program cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A section of a PE file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, e.g. `.linux`; other than ASCII is replaced.
    pub name: String,
    /// Where it is loaded, from the image's base.
    pub address: u32,
    /// Bytes in memory; the section's content, except where a `.linux` asks for more than the file holds.
    pub size: u32,
    /// Where its bytes lie in the file.
    pub file_offset: u32,
    /// Bytes in the file, padding included.
    pub file_size: u32,
}

/// The fields of a PE header that matter here, and where the changing ones lie.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Offset of the COFF file header, after the signature.
    pub(super) coff: usize,
    /// Offset of the optional header.
    pub(super) optional: usize,
    /// Offset of the section table.
    pub(super) table: usize,
    pub(super) file_alignment: u32,
    pub(super) section_alignment: u32,
    pub(super) image_size: u32,
    pub(super) headers_size: u32,
    /// Where the attribute certificates lie in the file, and how many bytes they are: both zero in an unsigned file,
    /// none where the header has no place to say it.
    pub(super) certificates: Option<(u32, u32)>,
    pub(super) sections: Vec<Section>,
}

/// `SizeOfImage` of a PE file: the memory that it takes when it runs. A kernel with an EFI stub is a PE file.
///
/// # Errors
/// When it is no PE32+ file.
pub fn image_size<R: ReadAt + ?Sized>(image: &R) -> Result<u32, PeError> {
    Ok(Header::read(image)?.image_size)
}

/// The sections of a PE file, in the order of its table.
///
/// # Errors
/// When it is no PE32+ file.
pub fn sections<R: ReadAt + ?Sized>(image: &R) -> Result<Vec<Section>, PeError> {
    Ok(Header::read(image)?.sections)
}

/// The content of the section `name`, of at most `limit` bytes. A `.linux` that asks for more memory than the file
/// holds comes with the padding that the file has.
///
/// # Errors
/// When the file is no PE32+ file, has no such section, or a larger one.
pub fn read_section<R: ReadAt + ?Sized>(image: &R, name: &str, limit: u32) -> Result<Vec<u8>, PeError> {
    let mut sections = sections(image)?.into_iter();
    let section = sections
        .find(|section| section.name == name)
        .ok_or_else(|| PeError::Missing(name.chars().take(80).collect()))?;
    let size = section.size.min(section.file_size);
    if size > limit {
        return Err(PeError::OverLimit { name: section.name, size, limit });
    }
    let mut content = vec![0; size as usize];
    image.read_exact_at(section.file_offset.into(), &mut content)?;
    Ok(content)
}

/// The literal bytes that a recipe begins with, which is where the headers of a PE file are; none when it begins
/// with something else.
pub(super) fn head(image: &Recipe) -> &[u8] {
    match image.leaves().next().map(|leaf| leaf.bytes) {
        Some(Bytes::Literal(bytes)) => bytes,
        _ => &[],
    }
}

impl Header {
    pub(super) fn read<R: ReadAt + ?Sized>(image: &R) -> Result<Self, PeError> {
        let mut dos = [0; 64];
        image.read_exact_at(0, &mut dos)?;
        let start = u32_at(&dos, 0x3c);
        if !dos.starts_with(b"MZ") || start > FARTHEST_HEADER {
            return Err(PeError::NotPe("no MZ header that points at a PE header"));
        }
        let mut coff = [0; 24];
        image.read_exact_at(start.into(), &mut coff)?;
        let (count, optional_size) = (u16_at(&coff, 6), u16_at(&coff, 20));
        if !coff.starts_with(b"PE\0\0") || !(112..=1024).contains(&optional_size) || count > MOST_SECTIONS {
            return Err(PeError::NotPe("no PE32+ header"));
        }
        let mut rest = vec![0; usize::from(optional_size) + usize::from(count) * SECTION_HEADER];
        image.read_exact_at(u64::from(start) + 24, &mut rest)?;
        let (optional, table) = rest.split_at(optional_size.into());
        // The certificate table is the data directory's fifth entry.
        let has_certificates = u32_at(optional, 108) > 4 && optional.len() >= 152;
        let header = Self {
            coff: start as usize + 4,
            optional: start as usize + 24,
            table: start as usize + 24 + usize::from(optional_size),
            section_alignment: u32_at(optional, 32),
            file_alignment: u32_at(optional, 36),
            image_size: u32_at(optional, 56),
            headers_size: u32_at(optional, 60),
            certificates: has_certificates.then(|| (u32_at(optional, 144), u32_at(optional, 148))),
            sections: table.chunks_exact(SECTION_HEADER).map(Section::read).collect(),
        };
        if u16_at(optional, 0) != 0x020b {
            return Err(PeError::NotPe("no PE32+ header"));
        }
        if !header.file_alignment.is_power_of_two() || !header.section_alignment.is_power_of_two() {
            return Err(PeError::NotPe("its alignments are no powers of two"));
        }
        Ok(header)
    }

    /// Whether the file carries a signature.
    pub(super) fn is_signed(&self) -> bool {
        self.certificates.is_some_and(|(_, size)| size != 0)
    }

    /// Offset of `CheckSum`.
    pub(super) fn checksum(&self) -> usize {
        self.optional + 64
    }

    /// Offset of the data directory's entry of the certificate table.
    pub(super) fn certificate_entry(&self) -> usize {
        self.optional + 144
    }
}

impl Section {
    fn read(header: &[u8]) -> Self {
        let name = header[..8].split(|byte| *byte == 0).next().unwrap_or_default();
        Self {
            name: String::from_utf8_lossy(name).into_owned(),
            size: u32_at(header, 8),
            address: u32_at(header, 12),
            file_size: u32_at(header, 16),
            file_offset: u32_at(header, 20),
        }
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// A small program, for the tests of what is made of one.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A PE32+ file with one section of code, its header `head` bytes long.
    pub(crate) fn program(head: u32) -> Vec<u8> {
        let mut stub = vec![0; head as usize];
        stub[..2].copy_from_slice(b"MZ");
        put_u32(&mut stub, 0x3c, 0x40);
        stub[0x40..0x44].copy_from_slice(b"PE\0\0");
        stub[0x44..0x48].copy_from_slice(&[0x64, 0x86, 1, 0]);
        stub[0x54..0x58].copy_from_slice(&[240, 0, 0x06, 0x02]);
        let optional = 0x58;
        stub[optional..optional + 2].copy_from_slice(&[0x0b, 0x02]);
        let numbers = [(16, 0x1000), (20, 0x1000), (32, 0x1000), (36, 0x200), (56, 0x2000), (60, head), (108, 16)];
        for (at, number) in numbers {
            put_u32(&mut stub, optional + at, number);
        }
        let section = optional + 240;
        stub[section..section + 5].copy_from_slice(b".text");
        for (at, number) in [(8, 700), (12, 0x1000), (16, 0x400), (20, head), (36, 0x6000_0020)] {
            put_u32(&mut stub, section + at, number);
        }
        stub.extend([0xc3; 0x400]);
        stub
    }
}
