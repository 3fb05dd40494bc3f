//! Unified kernel images: a UEFI stub with kernel, initrd and command line as sections of one PE file.
//!
//! Appends sections to systemd's stub as `ukify` does, and reads sections back. Never signs, and never looks inside
//! kernel or initrd. Specifications: UAPI.5 Unified Kernel Image, `systemd-stub(7)`, Microsoft's PE Format
//! (offsets below are its).

#[cfg(test)]
mod tests;

use std::io;

use super::{Bytes, ReadAt, Recipe};

/// Size of a section header.
const SECTION_HEADER: usize = 40;
/// A PE file that holds more sections than this is none of ours (the format itself allows 96 for images).
const MOST_SECTIONS: u16 = 96;
/// The header may not begin later than this; a stub's begins in its first 256 bytes.
const FARTHEST_HEADER: u32 = 4096;
const CONTAINS_CODE: u32 = 0x0000_0020;
const CONTAINS_DATA: u32 = 0x0000_0040;
const READABLE: u32 = 0x4000_0000;

/// What a unified kernel image is made of.
#[derive(Clone, Copy, Debug)]
pub struct Uki<'a> {
    /// The bytes of `linuxx64.efi.stub`.
    pub stub: &'a [u8],
    /// `os-release(5)` text, section `.osrel`; `systemd-boot` takes title, id and version from it.
    pub os_release: &'a str,
    /// The kernel command line, section `.cmdline`.
    pub command_line: &'a str,
    /// The kernel's release as `uname -r` prints it, section `.uname`.
    pub kernel_release: &'a str,
    /// Initrds in the order in which the kernel shall unpack them, section `.initrd`.
    pub initrds: &'a [Recipe],
    /// The kernel (`vmlinuz`), section `.linux`.
    pub kernel: &'a Recipe,
    /// `SizeOfImage` of the kernel's own PE header: the memory it wants to run in. See [`image_size`].
    pub kernel_image_size: u32,
}

/// A file that is no PE image as UEFI runs it, or parts that make none.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// Not PE32+, cut short, or with a header that contradicts itself.
    #[error("not a UEFI program: {0}")]
    NotPe(&'static str),
    /// The stub carries a signature, which appending would break.
    #[error("the stub is signed: sections can be added to an unsigned one only")]
    Signed,
    /// The stub has a section of this name already.
    #[error("the stub has a section {0} already")]
    Present(&'static str),
    /// The stub's header has no room for another section header.
    #[error("the stub's header has no room for the section {0}")]
    NoRoom(&'static str),
    /// PE counts in 32 bits.
    #[error("the section {0} does not fit in the 4 GiB that a UEFI program can have")]
    TooLarge(&'static str),
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
struct Header {
    /// Offset of the COFF file header, after the signature.
    coff: usize,
    /// Offset of the optional header.
    optional: usize,
    /// Offset of the section table.
    table: usize,
    file_alignment: u32,
    section_alignment: u32,
    image_size: u32,
    headers_size: u32,
    signed: bool,
    sections: Vec<Section>,
}

impl Uki<'_> {
    /// The image: the stub, its header rewritten, and behind it `.osrel`, `.cmdline`, `.uname`, `.initrd` and, last
    /// so that it can grow in memory, `.linux`.
    ///
    /// # Errors
    /// When the stub is no unsigned PE32+ file with room for five section headers, or the whole is over 4 GiB.
    pub fn recipe(&self) -> Result<Recipe, UkiError> {
        let header = Header::read(self.stub)?;
        if header.signed {
            return Err(UkiError::Signed);
        }
        let text = |text: &str, origin: &'static str| {
            let mut recipe = Recipe::new();
            recipe.literal(text.as_bytes(), origin);
            recipe
        };
        let mut appender = Appender::new(self.stub, &header)?;
        appender.append(".osrel", CONTAINS_DATA, &text(self.os_release, "os-release"), 0)?;
        appender.append(".cmdline", CONTAINS_DATA, &text(self.command_line, "kernel command line"), 0)?;
        appender.append(".uname", CONTAINS_DATA, &text(self.kernel_release, "kernel release"), 0)?;
        appender.append(".initrd", CONTAINS_DATA, &join_initrds(self.initrds), 0)?;
        appender.append(".linux", CONTAINS_CODE, self.kernel, self.kernel_image_size)?;
        Ok(appender.finish(self.stub, &header))
    }
}

/// Several initrds as one: each but a single one is padded to 4 bytes, as the kernel wants between archives.
pub fn join_initrds(initrds: &[Recipe]) -> Recipe {
    if let [initrd] = initrds {
        return initrd.clone();
    }
    let mut joined = Recipe::new();
    for (index, initrd) in initrds.iter().enumerate() {
        joined.push(Bytes::Recipe(initrd.clone().into()), format!("initrd {}", index + 1));
        joined.pad_to(4, "padding between initrds");
    }
    joined
}

/// `SizeOfImage` of a PE file: the memory that it takes when it runs. A kernel with an EFI stub is a PE file.
///
/// # Errors
/// When it is no PE32+ file.
pub fn image_size<R: ReadAt + ?Sized>(image: &R) -> Result<u32, UkiError> {
    Ok(Header::read(image)?.image_size)
}

/// The sections of a PE file, in the order of its table.
///
/// # Errors
/// When it is no PE32+ file.
pub fn sections<R: ReadAt + ?Sized>(image: &R) -> Result<Vec<Section>, UkiError> {
    Ok(Header::read(image)?.sections)
}

/// The content of the section `name`, of at most `limit` bytes. A `.linux` that asks for more memory than the file
/// holds comes with the padding that the file has.
///
/// # Errors
/// When the file is no PE32+ file, has no such section, or a larger one.
pub fn read_section<R: ReadAt + ?Sized>(image: &R, name: &str, limit: u32) -> Result<Vec<u8>, UkiError> {
    let mut sections = sections(image)?.into_iter();
    let section = sections
        .find(|section| section.name == name)
        .ok_or_else(|| UkiError::Missing(name.chars().take(80).collect()))?;
    let size = section.size.min(section.file_size);
    if size > limit {
        return Err(UkiError::OverLimit { name: section.name, size, limit });
    }
    let mut content = vec![0; size as usize];
    image.read_exact_at(section.file_offset.into(), &mut content)?;
    Ok(content)
}

impl Header {
    fn read<R: ReadAt + ?Sized>(image: &R) -> Result<Self, UkiError> {
        let mut dos = [0; 64];
        image.read_exact_at(0, &mut dos)?;
        let start = u32_at(&dos, 0x3c);
        if !dos.starts_with(b"MZ") || start > FARTHEST_HEADER {
            return Err(UkiError::NotPe("no MZ header that points at a PE header"));
        }
        let mut coff = [0; 24];
        image.read_exact_at(start.into(), &mut coff)?;
        let (count, optional_size) = (u16_at(&coff, 6), u16_at(&coff, 20));
        if !coff.starts_with(b"PE\0\0") || !(112..=1024).contains(&optional_size) || count > MOST_SECTIONS {
            return Err(UkiError::NotPe("no PE32+ header"));
        }
        let mut rest = vec![0; usize::from(optional_size) + usize::from(count) * SECTION_HEADER];
        image.read_exact_at(u64::from(start) + 24, &mut rest)?;
        let (optional, table) = rest.split_at(optional_size.into());
        let header = Self {
            coff: start as usize + 4,
            optional: start as usize + 24,
            table: start as usize + 24 + usize::from(optional_size),
            section_alignment: u32_at(optional, 32),
            file_alignment: u32_at(optional, 36),
            image_size: u32_at(optional, 56),
            headers_size: u32_at(optional, 60),
            // The certificate table is the data directory's fifth entry.
            signed: u32_at(optional, 108) > 4 && optional_size >= 152 && u32_at(optional, 148) != 0,
            sections: table.chunks_exact(SECTION_HEADER).map(Section::read).collect(),
        };
        if u16_at(optional, 0) != 0x020b {
            return Err(UkiError::NotPe("no PE32+ header"));
        }
        if !header.file_alignment.is_power_of_two() || !header.section_alignment.is_power_of_two() {
            return Err(UkiError::NotPe("its alignments are no powers of two"));
        }
        Ok(header)
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

/// A PE file that grows at its end.
struct Appender {
    /// Everything before the stub's first section, to be rewritten.
    head: Vec<u8>,
    /// Where the next section header goes.
    next_header: usize,
    names: Vec<String>,
    added: u16,
    /// Sum of the added sections' sizes in memory.
    data_size: u32,
    /// First free address in memory.
    next_address: u64,
    file_alignment: u64,
    section_alignment: u64,
    /// Where `body` begins in the file.
    body_start: u64,
    body: Recipe,
}

impl Appender {
    fn new(stub: &[u8], header: &Header) -> Result<Self, UkiError> {
        let file_alignment = u64::from(header.file_alignment);
        // The bytes up to the first section's are unused where the headers do not fill a unit of the alignment.
        let head = u64::from(header.headers_size).next_multiple_of(file_alignment);
        let first = header.sections.iter().filter(|section| section.file_size > 0).map(|section| section.file_offset);
        if first.min().is_none_or(|first| u64::from(first) < head) || (stub.len() as u64) < head {
            return Err(UkiError::NotPe("its first section begins inside its headers"));
        }
        let ends = header.sections.iter().map(|section| u64::from(section.address) + u64::from(section.size));
        Ok(Self {
            head: stub[..head as usize].to_vec(),
            next_header: header.table + header.sections.len() * SECTION_HEADER,
            names: header.sections.iter().map(|section| section.name.clone()).collect(),
            added: 0,
            data_size: 0,
            next_address: ends.max().unwrap_or(0),
            file_alignment,
            section_alignment: header.section_alignment.into(),
            body_start: (stub.len() as u64).next_multiple_of(file_alignment),
            body: Recipe::new(),
        })
    }

    /// Adds a section that takes at least `memory` bytes when loaded; an empty one is left out.
    fn append(&mut self, name: &'static str, kind: u32, content: &Recipe, memory: u32) -> Result<(), UkiError> {
        if self.names.iter().any(|present| present == name) {
            return Err(UkiError::Present(name));
        }
        if content.length() == 0 {
            return Ok(());
        }
        let narrow = |number: u64| u32::try_from(number).map_err(|_| UkiError::TooLarge(name));
        let size = narrow(content.length())?.max(memory);
        let address = narrow(self.next_address.next_multiple_of(self.section_alignment))?;
        let file_size = narrow(content.length().next_multiple_of(self.file_alignment))?;
        let file_offset = narrow(self.body_start + self.body.length())?;
        let end = u64::from(address) + u64::from(size);
        self.next_address = narrow(end.next_multiple_of(self.section_alignment))?.into();
        self.data_size = narrow(u64::from(self.data_size) + u64::from(size))?;

        let mut header = [0; SECTION_HEADER];
        header[..name.len()].copy_from_slice(name.as_bytes());
        put_u32(&mut header, 8, size);
        put_u32(&mut header, 12, address);
        put_u32(&mut header, 16, file_size);
        put_u32(&mut header, 20, file_offset);
        put_u32(&mut header, 36, kind | READABLE);
        let place = self.head.get_mut(self.next_header..self.next_header + SECTION_HEADER);
        place.ok_or(UkiError::NoRoom(name))?.copy_from_slice(&header);
        self.next_header += SECTION_HEADER;
        self.added += 1;

        self.body.push(Bytes::Recipe(content.clone().into()), format!("section {name}"));
        self.body.pad_to(self.file_alignment, format!("padding of section {name}"));
        Ok(())
    }

    fn finish(mut self, stub: &[u8], header: &Header) -> Recipe {
        let optional = header.optional;
        let sections = u16_at(&self.head, header.coff + 2) + self.added;
        self.head[header.coff + 2..header.coff + 4].copy_from_slice(&sections.to_le_bytes());
        let data_size = u32_at(&self.head, optional + 8).wrapping_add(self.data_size);
        put_u32(&mut self.head, optional + 8, data_size);
        // `append` has kept the end, rounded up, within 32 bits.
        put_u32(&mut self.head, optional + 56, self.next_address as u32);
        let head_size = self.head.len();
        put_u32(&mut self.head, optional + 60, head_size as u32);
        // UEFI does not look at the checksum, and no signing tool asks for it.
        put_u32(&mut self.head, optional + 64, 0);
        let mut recipe = Recipe::new();
        recipe.literal(self.head, "UKI headers");
        recipe.literal(&stub[head_size..], "UEFI stub");
        recipe.pad_to(self.file_alignment, "padding of the UEFI stub");
        recipe.push(Bytes::Recipe(self.body.into()), "UKI sections");
        recipe
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put_u32(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}
