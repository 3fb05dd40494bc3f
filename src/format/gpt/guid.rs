//! GUIDs: their text, their bytes on disk, and where they come from.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, Hasher};

/// A globally unique identifier (RFC 9562 calls it UUID), as 16 bytes in the order of its text.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid([u8; 16]);

/// A text that is no GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a GUID (like `c12a7328-f81f-11d2-ba4b-00a0c93ec93b`)")]
pub struct ParseGuidError(pub String);

impl Guid {
    /// All zeros; in a table it marks an entry as unused.
    pub const NIL: Self = Self([0; 16]);

    /// The GUID whose text has the hexadecimal digits of `number`.
    pub const fn from_u128(number: u128) -> Self {
        Self(number.to_be_bytes())
    }

    /// The GUID whose text has the digits of `bytes`. For a GUID that another specification takes from a digest as it
    /// is: the halves of a root hash name the root and verity partitions.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The GUID of one `purpose` (`disk`, `esp`) of the thing whose digest is `digest`: version 8, which RFC 9562
    /// leaves to vendors, filled from SHA-256 over both.
    pub fn from_digest(digest: &Digest, purpose: &str) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(digest.as_bytes());
        hasher.update(purpose.as_bytes());
        let digest = hasher.finish();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80; // version 8
        bytes[8] = bytes[8] & 0x3f | 0x80; // variant 10
        Self(bytes)
    }

    /// The bytes in the order of the text.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The bytes as GPT stores them: the first three groups are little-endian (UEFI 2.10, appendix A).
    pub fn to_disk(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let [i, j, k, l, m, n, o, p] = rest;
        [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
    }

    /// The GUID that GPT stores as `bytes`.
    pub fn from_disk(bytes: [u8; 16]) -> Self {
        // Swapping twice changes nothing.
        Self(Self(bytes).to_disk())
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Guid {
    type Err = ParseGuidError;

    fn from_str(text: &str) -> Result<Self, ParseGuidError> {
        let refuse = || ParseGuidError(text.chars().take(80).collect());
        let groups: Vec<&str> = text.split('-').collect();
        if groups.iter().map(|group| group.len()).ne([8, 4, 4, 4, 12]) {
            return Err(refuse());
        }
        let digits = groups.concat();
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        u128::from_str_radix(&digits, 16).map(Self::from_u128).map_err(|_| refuse())
    }
}

impl serde::Serialize for Guid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Guid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_disk_forms_round_trip() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let guid: Guid = text.parse().unwrap();
        assert_eq!(guid.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(guid));
        // UEFI's own example of the EFI system partition's type on disk.
        assert_eq!(guid.to_disk()[..10], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b]);
        assert_eq!(Guid::from_disk(guid.to_disk()), guid);
        for wrong in
            ["", "c12a7328", "+12a7328-f81f-11d2-ba4b-00a0c93ec93b", "c12a7328-f81f-11d2-ba4b00a0c93ec93b-", "é"]
        {
            assert!(wrong.parse::<Guid>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn derived_guids_are_stable_version_8_and_differ_by_purpose() {
        let digest = Digest::of(b"");
        let guid = Guid::from_digest(&digest, "disk");
        // A change here changes every image: it is a format break.
        assert_eq!(guid.to_string(), "2baf95e0-7653-8bc3-ac80-8b7de7bdde02");
        assert_eq!((&guid.to_string()[14..15], guid.as_bytes()[8] >> 6), ("8", 0b10));
        assert_ne!(guid, Guid::from_digest(&digest, "esp"));
    }
}
