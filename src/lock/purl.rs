//! Package URLs: the names that SBOMs, provenance and advisories know a package by.
//!
//! Specification: package-url/purl-spec, type `deb`.

use std::fmt::Write as _;

use super::LockedPackage;

impl LockedPackage {
    /// `pkg:deb/debian/NAME@VERSION?arch=ARCHITECTURE&distro=SUITE`; `distribution` is the lock's.
    pub fn purl(&self, distribution: &str) -> String {
        let mut words = distribution.split(' ');
        let (id, suite) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let [id, name, version, architecture, suite] =
            [id, &self.name, &self.version, &self.architecture, suite].map(encode);
        format!("pkg:deb/{id}/{name}@{version}?arch={architecture}&distro={suite}")
    }
}

/// Percent-encoding as the specification has it: all but unreserved characters and the colon.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn versions_keep_their_marks() {
        let package = LockedPackage {
            name: "libstdc++6".to_owned(),
            version: "2:14.2.0-19+b1~deb13u1".to_owned(),
            architecture: "amd64".to_owned(),
            archive: "debian".to_owned(),
            size: 1,
            sha256: Digest::of(b""),
            path: "pool/x".to_owned(),
        };
        let expected = "pkg:deb/debian/libstdc%2B%2B6@2:14.2.0-19%2Bb1~deb13u1?arch=amd64&distro=trixie";
        assert_eq!(package.purl("debian trixie amd64"), expected);
    }
}
