//! Long names, the short names beside them, and the checksum that ties both together.

use std::collections::{BTreeMap, BTreeSet};

use super::{ENTRY, FatError, attribute};

/// Eight characters and three of extension, padded with spaces.
pub(super) type ShortName = [u8; 11];

/// UTF-16 units that one directory entry of a long name holds.
const UNITS: usize = 13;
/// Marks the last piece of a long name, which is stored first.
const LAST_PIECE: u8 = 0x40;
/// Where an entry keeps those units.
const UNIT_PLACES: [usize; UNITS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// Refuses a name that FAT does not allow.
pub(super) fn check(name: &str) -> Result<(), FatError> {
    let reason = if name.is_empty() || name == "." || name == ".." {
        "it is no name"
    } else if name.encode_utf16().count() > 255 {
        "it is longer than 255 UTF-16 units"
    } else if name.contains(|character: char| character < ' ' || "\"*/:<>?\\|\u{7f}".contains(character)) {
        "control characters and \" * / : < > ? \\ | are not allowed"
    } else if name.starts_with(' ') || name.ends_with([' ', '.']) {
        "it starts or ends with a space, or ends with a dot"
    } else {
        return Ok(());
    };
    Err(FatError::Name { name: name.to_owned(), reason })
}

/// The form in which names are compared. Only characters with one upper-case form of one unit are folded, as FAT
/// implementations do.
pub(super) fn fold(name: &str) -> String {
    let upper = |character: char| {
        let mut upper = character.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(one), None) => one,
            _ => character,
        }
    };
    name.chars().map(upper).collect()
}

/// The short names of a directory's entries, in their order. A name that is a short one but for its case keeps it;
/// the others get a numeric tail (`ROLECA~1.EFI`), counted in the directory's order.
pub(super) fn short_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<ShortName> {
    let exact: Vec<_> = names.map(|name| (name, exact_short_name(name))).collect();
    let mut taken: BTreeSet<ShortName> = exact.iter().filter_map(|(_, short)| *short).collect();
    // The number at which to go on, by the first name of a series, so that many alike names do not count from 1 each.
    let mut series: BTreeMap<ShortName, u32> = BTreeMap::new();
    let mut assign = |name: &str| {
        let (base, extension) = basis(name);
        let number = series.entry(with_tail(&base, &extension, "~1")).or_insert(1);
        loop {
            let short = with_tail(&base, &extension, &format!("~{number}"));
            *number += 1;
            if taken.insert(short) {
                return short;
            }
        }
    };
    exact.into_iter().map(|(name, short)| short.unwrap_or_else(|| assign(name))).collect()
}

/// Whether `name` needs entries for a long name beside `short`.
pub(super) fn needs_long_name(name: &str, short: &ShortName) -> bool {
    shown(short) != name
}

/// A short name as people write it. Bytes other than ASCII are replaced: their code page is not known.
pub(super) fn shown(short: &ShortName) -> String {
    let text =
        |bytes: &[u8]| bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '\u{fffd}' }).collect();
    let (base, extension): (String, String) = (text(&short[..8]), text(&short[8..]));
    match extension.trim_end() {
        "" => base.trim_end().to_owned(),
        extension => format!("{}.{extension}", base.trim_end()),
    }
}

/// Number of directory entries that `name` takes, given whether it is a short name.
pub(super) fn entries(name: &str, short: &ShortName) -> u64 {
    if needs_long_name(name, short) { 1 + name.encode_utf16().count().div_ceil(UNITS) as u64 } else { 1 }
}

/// The directory entries of a long name, as they precede the entry of its short name.
pub(super) fn long_name(name: &str, short: &ShortName) -> Vec<[u8; ENTRY]> {
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if !units.len().is_multiple_of(UNITS) {
        units.push(0);
        units.resize(units.len().next_multiple_of(UNITS), 0xffff);
    }
    let checksum = checksum(short);
    let mut pieces: Vec<_> = units
        .chunks_exact(UNITS)
        .zip(1_u8..)
        .map(|(units, number)| {
            let mut entry = [0; ENTRY];
            entry[0] = number;
            entry[11] = attribute::LONG_NAME;
            entry[13] = checksum;
            for (at, unit) in UNIT_PLACES.into_iter().zip(units) {
                entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
            }
            entry
        })
        .collect();
    if let Some(last) = pieces.last_mut() {
        last[0] |= LAST_PIECE;
    }
    pieces.reverse();
    pieces
}

/// A long name while its pieces are read.
#[derive(Default)]
pub(super) struct LongName {
    /// Units, last piece first.
    pieces: Vec<[u16; UNITS]>,
    checksum: u8,
    /// Number of the piece that has to come next; 0 when the name is whole.
    next: u8,
}

impl LongName {
    /// Takes one piece; one that does not follow the last drops what was there, as the specification says of orphans.
    pub(super) fn take(&mut self, entry: &[u8; ENTRY]) {
        let number = entry[0] & !LAST_PIECE;
        if entry[0] & LAST_PIECE != 0 && (1..=20).contains(&number) {
            *self = Self { pieces: Vec::new(), checksum: entry[13], next: number };
        }
        if number == 0 || number != self.next || entry[13] != self.checksum {
            *self = Self::default();
            return;
        }
        self.pieces.push(UNIT_PLACES.map(|at| u16::from_le_bytes([entry[at], entry[at + 1]])));
        self.next -= 1;
    }

    /// The whole name, when it belongs to the short name that follows it.
    pub(super) fn finish(&mut self, short: &ShortName) -> Option<String> {
        let Self { pieces, checksum: sum, next } = std::mem::take(self);
        if pieces.is_empty() || next != 0 || sum != checksum(short) {
            return None;
        }
        let units: Vec<u16> = pieces.iter().rev().flatten().copied().take_while(|unit| *unit != 0).collect();
        Some(String::from_utf16_lossy(&units))
    }
}

/// The checksum of a short name that each piece of its long name carries.
fn checksum(short: &ShortName) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

fn is_short_character(character: char) -> bool {
    character.is_ascii_uppercase() || character.is_ascii_digit() || "$%'-_@~`!(){}^#&".contains(character)
}

/// The short name that differs from `name` in case at most, if there is one.
fn exact_short_name(name: &str) -> Option<ShortName> {
    let upper = name.to_ascii_uppercase();
    let (base, extension) = match upper.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (upper.as_str(), ""),
    };
    let fits = (1..=8).contains(&base.len()) && extension.len() <= 3;
    let allowed = base.chars().chain(extension.chars()).all(is_short_character);
    (fits && allowed).then(|| with_tail(base, extension, ""))
}

/// What a short name with a numeric tail is made from.
fn basis(name: &str) -> (String, String) {
    let (base, extension) = match name.trim_start_matches('.').rsplit_once('.') {
        Some((base, extension)) => (base, extension),
        None => (name, ""),
    };
    let clean = |text: &str| -> String {
        let kept = text.chars().filter(|character| !matches!(character, ' ' | '.'));
        kept.map(|character| character.to_ascii_uppercase())
            .map(|character| if is_short_character(character) { character } else { '_' })
            .collect()
    };
    (clean(base), clean(extension))
}

/// Both parts are ASCII; the base gives way to the tail.
fn with_tail(base: &str, extension: &str, tail: &str) -> ShortName {
    let mut short = [b' '; 11];
    let kept = base.len().min(8 - tail.len().min(8));
    let base = base.as_bytes()[..kept].iter().chain(tail.as_bytes());
    for (place, byte) in short[..8].iter_mut().zip(base) {
        *place = *byte;
    }
    for (place, byte) in short[8..].iter_mut().zip(extension.as_bytes()) {
        *place = *byte;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_exact_where_they_can_be_and_counted_where_not() {
        let names = ["BOOTX64.EFI", "loader", "node_1+3.efi", "node_10+3.efi", "node_11+3.efi", "entries.srel", "é.x"];
        let short: Vec<_> = short_names(names.into_iter()).iter().map(shown).collect();
        let expected =
            ["BOOTX64.EFI", "LOADER", "NODE_1~1.EFI", "NODE_1~2.EFI", "NODE_1~3.EFI", "ENTRIE~1.SRE", "_~1.X"];
        assert_eq!(short, expected);
    }

    #[test]
    fn a_tail_steps_aside_for_an_exact_name() {
        let short: Vec<_> = short_names(["long name.txt", "LONGNA~1.TXT"].into_iter()).iter().map(shown).collect();
        assert_eq!(short, ["LONGNA~2.TXT", "LONGNA~1.TXT"]);
    }

    #[test]
    fn many_alike_names_stay_apart() {
        let names: Vec<String> = (0..12_000).map(|number| format!("configuration-{number}.conf")).collect();
        let short: BTreeSet<_> = short_names(names.iter().map(String::as_str)).into_iter().collect();
        assert_eq!(short.len(), names.len());
    }

    #[test]
    fn the_checksum_is_the_specifications() {
        // Taken from a directory entry that mtools 4.0.32 wrote for `loader.conf`.
        assert_eq!(checksum(b"LOADER~1CON"), 0xb6);
    }

    #[test]
    fn a_long_name_reads_back_and_an_orphan_does_not() {
        for name in ["a", "exactly13unit", "exactly13units", "ünïcode 𝄞 name.conf", &"x".repeat(255)] {
            let short = short_names([name].into_iter())[0];
            let pieces = long_name(name, &short);
            let mut read = LongName::default();
            pieces.iter().for_each(|piece| read.take(piece));
            assert_eq!(read.finish(&short).as_deref(), Some(name));
            pieces.iter().for_each(|piece| read.take(piece));
            assert_eq!(read.finish(b"OTHER      "), None);
            pieces.iter().skip(1).for_each(|piece| read.take(piece));
            assert_eq!(read.finish(&short), None);
        }
    }

    #[test]
    fn names_that_fat_forbids_are_refused() {
        for name in ["", ".", "..", "a/b", "a\0", "a:b", "trailing.", "trailing ", " leading", &"x".repeat(256)] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert!(check(".hidden +[]=;,.conf").is_ok());
    }
}
