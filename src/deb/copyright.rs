//! What a package says of its licence: the machine-readable `debian/copyright`.
//!
//! Reads names, never judges them. A file in any other form says nothing that a program can rely on. Specification:
//! the machine-readable debian/copyright file, version 1.0 (DEP-5).

use std::collections::BTreeSet;

use super::control::Stanzas;

/// The licences that the file names for the package and its files, as their short names are written, each once; none
/// when the file is not machine-readable, or a paragraph on files names no licence.
pub fn licences(text: &str) -> Option<BTreeSet<&str>> {
    let mut stanzas = Stanzas::new(text);
    let header = stanzas.next()?;
    // Older drafts name other addresses; all that are in use hold this word.
    if !header.get("Format")?.value.contains("copyright-format") {
        return None;
    }
    let mut named: BTreeSet<&str> =
        header.get("License").and_then(|field| short_name(field.value)).into_iter().collect();
    for stanza in stanzas {
        if stanza.get("Files").is_some() {
            named.insert(short_name(stanza.get("License")?.value)?);
        }
    }
    (!named.is_empty()).then_some(named)
}

/// The first line of a `License` field; what follows is the licence's text.
fn short_name(value: &str) -> Option<&str> {
    value.lines().next().map(str::trim).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n";

    #[test]
    fn paragraphs_on_files_name_the_licences() {
        let text = format!(
            "{FORMAT}Upstream-Name: x\n\nFiles: *\nCopyright: A\nLicense: LGPL-2.1+\n\nFiles: debian/*\nCopyright: B\n\
             License: Expat\n Permission is hereby granted\n .\n more\n\nLicense: LGPL-2.1+\n text\n\nLicense: Unused\n text\n"
        );
        assert_eq!(licences(&text), Some(BTreeSet::from(["Expat", "LGPL-2.1+"])));
        let whole = format!("{FORMAT}License: GPL-3+\n\nFiles: *\nLicense: GPL-3+\n");
        assert_eq!(licences(&whole), Some(BTreeSet::from(["GPL-3+"])));
    }

    #[test]
    fn anything_else_says_nothing() {
        let unnamed = format!("{FORMAT}\nFiles: *\nLicense: ISC\n\nFiles: a\nCopyright: B\n");
        let texts = ["", "This package was debianized by A.\n\nLicense: GPL-2\n", FORMAT, &unnamed];
        for text in texts {
            assert_eq!(licences(text), None, "{text:?}");
        }
    }
}
