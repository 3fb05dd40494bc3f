//! Signatures of UEFI programs: what a firmware that enforces Secure Boot asks of a loader and a kernel.
//!
//! Says which bytes of a PE file are signed, makes the signature, and puts it into the file. Never reads a clock: the
//! signature names no time, and RSA with PKCS#1 padding has no randomness, so the same key and the same file give the
//! same bytes. Never says whose signature is to be trusted; that is the firmware's. Specifications: Windows
//! Authenticode Portable Executable Signature Format, UEFI 2.10 (32.2.4), Microsoft's PE Format, RFC 2315 (PKCS#7).

mod signature;
mod signer;
#[cfg(test)]
mod tests;

pub use signer::{Signer, SignerError, Validity};

use crate::digest::Digest;

use super::Recipe;
use super::pe::{Header, PeError, head, put_u32};

/// Alignment of the certificate table and of each certificate in it.
const ALIGNMENT: u64 = 8;
/// `WIN_CERTIFICATE`: length, revision, type.
const CERTIFICATE_HEADER: usize = 8;
const WIN_CERT_REVISION_2_0: u16 = 0x0200;
const WIN_CERT_TYPE_PKCS_SIGNED_DATA: u16 = 0x0002;

/// A PE file that is to be signed; a signature that it carries already is kept.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    file: &'a Recipe,
    header: Header,
    /// Where the file's own bytes end and its certificates begin.
    end: u64,
}

impl<'a> Program<'a> {
    /// Looks at the file whose headers `file` holds as literal bytes.
    ///
    /// # Errors
    /// When it is no PE32+ file, has no place for a signature, or has bytes that no section covers and that a
    /// firmware would therefore not hash.
    pub fn new(file: &'a Recipe) -> Result<Self, PeError> {
        let head = head(file);
        let header = Header::read(head)?;
        let Some((at, size)) = header.certificates else {
            return Err(PeError::NotPe("its header has no place for a signature"));
        };
        let end = if header.is_signed() { u64::from(at) } else { file.length() };
        if header.is_signed() && (end + u64::from(size) != file.length() || end % ALIGNMENT != 0) {
            return Err(PeError::NotPe("its signature is not at its end"));
        }
        // A firmware hashes headers, sections by their place, and what follows: the whole file, if there is no gap.
        let mut covered = u64::from(header.headers_size);
        let mut sections: Vec<_> = header.sections.iter().filter(|section| section.file_size > 0).collect();
        sections.sort_by_key(|section| section.file_offset);
        for section in sections {
            if u64::from(section.file_offset) != covered {
                return Err(PeError::NotPe("its sections do not follow one another"));
            }
            covered += u64::from(section.file_size);
        }
        let headers = header.certificate_entry() + 8;
        if covered > end || headers > header.headers_size as usize || headers > head.len() {
            return Err(PeError::NotPe("it is shorter than its header says"));
        }
        Ok(Self { file, header, end })
    }

    /// The bytes that are signed, as a file of their own: everything but the checksum, the entry that says where the
    /// certificates are, and the certificates. Its digest is what a firmware measures and looks up.
    pub fn signed_bytes(&self) -> Recipe {
        let (checksum, entry) = (self.header.checksum() as u64, self.header.certificate_entry() as u64);
        let mut signed = Recipe::new();
        for (start, end) in [(0, checksum), (checksum + 4, entry), (entry + 8, self.end)] {
            for piece in self.file.slice(start, end - start).pieces() {
                signed.push(piece.bytes.clone(), piece.origin.clone());
            }
        }
        // What is left out has 12 bytes; the padding is the file's.
        let padding = self.end.next_multiple_of(ALIGNMENT) - self.end;
        signed.push(super::Bytes::Zeros(padding), "padding before the signature");
        signed
    }

    /// The file with a signature of `digest`, which is that of [`Program::signed_bytes`].
    ///
    /// # Errors
    /// When the signature cannot be made, or the file has no 4 GiB left for it.
    pub fn sign(&self, digest: &Digest, signer: &Signer) -> Result<Recipe, SignerError> {
        let signature = signature::signed_data(digest, signer)?;
        let mut certificate = Vec::with_capacity(CERTIFICATE_HEADER + signature.len());
        let length = u32::try_from(CERTIFICATE_HEADER + signature.len()).map_err(|_| SignerError::TooLarge)?;
        certificate.extend(length.to_le_bytes());
        certificate.extend(WIN_CERT_REVISION_2_0.to_le_bytes());
        certificate.extend(WIN_CERT_TYPE_PKCS_SIGNED_DATA.to_le_bytes());
        certificate.extend(signature);

        let start = self.end.next_multiple_of(ALIGNMENT);
        let kept = self.file.length() - self.end;
        let size = (kept + u64::from(length)).next_multiple_of(ALIGNMENT);
        let narrow = |number: u64| u32::try_from(number).map_err(|_| SignerError::TooLarge);
        let mut headers = head(self.file)[..self.header.headers_size as usize].to_vec();
        // A checksum that no longer holds would say less than none, and no firmware looks at it.
        put_u32(&mut headers, self.header.checksum(), 0);
        put_u32(&mut headers, self.header.certificate_entry(), narrow(start)?);
        put_u32(&mut headers, self.header.certificate_entry() + 4, narrow(size)?);

        let rest = headers.len() as u64;
        let mut file = Recipe::new();
        file.literal(headers, "headers of a signed UEFI program");
        for piece in self.file.slice(rest, self.end - rest).pieces() {
            file.push(piece.bytes.clone(), piece.origin.clone());
        }
        file.pad_to(ALIGNMENT, "padding before the signature");
        for piece in self.file.slice(self.end, kept).pieces() {
            file.push(piece.bytes.clone(), piece.origin.clone());
        }
        file.literal(certificate, "Secure Boot signature");
        file.pad_to(ALIGNMENT, "padding behind the signature");
        Ok(file)
    }
}
