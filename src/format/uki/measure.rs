//! What a TPM holds once a unified kernel image runs: the stub measures the sections, and the boot its own progress,
//! into PCR 11 of the SHA-256 bank.
//!
//! Specifications: UAPI.5 (the order of sections), `systemd-stub(7)`, `systemd-measure(1)` and
//! `systemd-pcrphase.service(8)` of systemd 257, TPM 2.0 Library Part 1, 17.3 (extending).

use crate::digest::Digest;

use super::super::pe::{Header, PeError, head};
use super::super::{Bytes, Recipe};

/// The sections that are measured, in this order and not in the image's.
const MEASURED: [&str; 11] =
    [".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".profile"];

/// The points of a boot at which its progress is measured, in their order: in the initrd, on leaving it, before and
/// after the services of the system.
pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

/// The sections of the unified kernel image `uki` that are measured, in order, each as it lies in memory: where a
/// section asks for more than the file holds, with the zeros that follow.
///
/// # Errors
/// When it is no PE file whose headers are literal bytes, or one that ends before its sections.
pub fn measured(uki: &Recipe) -> Result<Vec<(&'static str, Recipe)>, PeError> {
    let header = Header::read(head(uki))?;
    let mut measured = Vec::new();
    for name in MEASURED {
        let Some(section) = header.sections.iter().find(|section| section.name == name) else { continue };
        let (start, length) = (u64::from(section.file_offset), u64::from(section.size.min(section.file_size)));
        if start + length > uki.length() {
            return Err(PeError::NotPe("it is shorter than its header says"));
        }
        let mut content = uki.slice(start, length);
        content.push(Bytes::Zeros(u64::from(section.size) - length), "zeros of a section in memory");
        measured.push((name, content));
    }
    Ok(measured)
}

/// PCR 11 when the stub has measured `sections`, given by name and digest: first the name with the NUL that ends it,
/// then the content.
pub fn pcr11(sections: &[(&str, Digest)]) -> Digest {
    sections.iter().fold(Digest::from_bytes([0; 32]), |pcr, (name, content)| {
        let name = Digest::of(format!("{name}\0").as_bytes());
        extend(extend(pcr, name), *content)
    })
}

/// PCR 11 after each of [`PHASES`], from its value when the stub had measured.
pub fn phases(pcr: Digest) -> Vec<(&'static str, Digest)> {
    let reached = PHASES.iter().scan(pcr, |pcr, phase| {
        *pcr = extend(*pcr, Digest::of(phase.as_bytes()));
        Some((*phase, *pcr))
    });
    reached.collect()
}

fn extend(pcr: Digest, with: Digest) -> Digest {
    Digest::of(&[*pcr.as_bytes(), *with.as_bytes()].concat())
}
