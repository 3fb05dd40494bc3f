//! Debian's nouns: version order, relations, control stanzas, ar, the .deb file, Release files.
//!
//! Pure parsers over bytes that a stranger may have written: they bound what they allocate and never panic. Imports
//! no other room but the digest. Specifications: Debian policy chapters 5 and 7, deb(5), deb-version(7),
//! deb-control(5), the repository format of the Debian wiki.

pub mod ar;
pub mod compression;
pub mod control;
pub mod copyright;
pub mod date;
pub mod file;
pub mod package;
pub mod relation;
pub mod release;
pub mod version;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    use super::compression::Compression;
    use super::control::Stanzas;
    use super::file::DebFile;
    use super::package::Package;
    use super::relation::{Alternatives, RelationRef, Relations, Shape};
    use super::release::Release;
    use super::version::Version;

    fn runner() -> TestRunner {
        let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    }

    /// Whatever the text, a parser answers or refuses; what it accepts it shows so that it is read the same again.
    #[test]
    fn no_text_makes_a_parser_panic() {
        let text = "([a-z0-9é:.+~ ,|()<>=\\[\\]-]{0,12}|Package: |Version: 1|Architecture: all|Depends: |SHA256:|Date: |\n|\n |\n\n){0,12}";
        let result = runner().run(&text, |text| {
            let _ = Release::parse(&text);
            for stanza in Stanzas::new(&text) {
                let _ = Package::parse(stanza);
            }
            if let Ok(relation) = RelationRef::parse(&text) {
                let shown = relation.to_string();
                prop_assert_eq!(RelationRef::parse(&shown), Ok(relation));
            }
            if let Ok(version) = Version::parse(&text) {
                prop_assert_eq!(version.as_str(), text.as_str());
            }
            let groups = Relations::parse(&text, Shape::Alternatives).map(|relations| relations.alternatives());
            if let Ok(groups) = groups {
                for group in groups {
                    prop_assert_eq!(Alternatives::parse(&group.to_string()), Ok(group));
                }
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same for bytes: of an archive, of each compression, of a .deb with a byte changed.
    #[test]
    fn no_bytes_make_a_reader_panic() {
        let mut good = b"!<arch>\n".to_vec();
        for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &[0; 1024]), ("data.tar.zst", b"xx")]
        {
            good.extend(format!("{name:<16}{:<32}{:<10}`\n", 0, content.len()).bytes());
            good.extend(content);
        }
        let length = good.len();
        let changes = proptest::collection::vec((0..length, any::<u8>()), 0..4);
        let result = runner().run(&(changes, proptest::collection::vec(any::<u8>(), 0..64)), |(changes, noise)| {
            let mut bytes = good.clone();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if let Ok(mut deb) = DebFile::from_bytes(&bytes) {
                let _ = deb.control().map(|files| files.package().is_ok());
                if let Ok(data) = deb.data(1 << 20) {
                    let _ = data.take(1 << 20).read_to_end(&mut Vec::new());
                }
            }
            for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
                let decoder = compression.decoder(noise.as_slice(), 1 << 20);
                let _ = decoder.map(|mut decoder| decoder.read_to_end(&mut Vec::new()));
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    }
}
