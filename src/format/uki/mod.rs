//! Unified kernel images: a UEFI stub with kernel, initrd and command line as sections of one PE file.
//!
//! Appends sections to systemd's stub as `ukify` does, and predicts what a TPM holds after they were measured. Never
//! signs, and never looks inside kernel or initrd. Specifications: UAPI.5 Unified Kernel Image, `systemd-stub(7)`.

pub mod measure;
#[cfg(test)]
mod tests;

use super::pe::{Header, PeError, SECTION_HEADER, put_u32, u16_at, u32_at};
use super::{Bytes, Recipe};

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
    /// `SizeOfImage` of the kernel's own PE header: the memory it wants to run in. See [`super::pe::image_size`].
    pub kernel_image_size: u32,
}

/// Parts that make no unified kernel image.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// The stub is no PE file that can be added to.
    #[error(transparent)]
    Stub(#[from] PeError),
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
}

impl Uki<'_> {
    /// The image: the stub, its header rewritten, and behind it `.osrel`, `.cmdline`, `.uname`, `.initrd` and, last
    /// so that it can grow in memory, `.linux`.
    ///
    /// # Errors
    /// When the stub is no unsigned PE32+ file with room for five section headers, or the whole is over 4 GiB.
    pub fn recipe(&self) -> Result<Recipe, UkiError> {
        let header = Header::read(self.stub)?;
        if header.is_signed() {
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
            return Err(PeError::NotPe("its first section begins inside its headers").into());
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
        put_u32(&mut self.head, header.checksum(), 0);
        let mut recipe = Recipe::new();
        recipe.literal(self.head, "UKI headers");
        recipe.literal(&stub[head_size..], "UEFI stub");
        recipe.pad_to(self.file_alignment, "padding of the UEFI stub");
        recipe.push(Bytes::Recipe(self.body.into()), "UKI sections");
        recipe
    }
}
