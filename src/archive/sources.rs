//! The apt sources of the machine that builds: read, never written, for the URIs that they name.
//!
//! Everything that does not matter here is skipped without a word: other schemes, source packages, broken entries;
//! apt itself complains of them. Specification: sources.list(5).

use std::path::{Path, PathBuf};

/// An entry: where an archive is mirrored, and for which suites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AptSource {
    /// The URI without a trailing `/`.
    pub uri: String,
    /// Suites.
    pub suites: Vec<String>,
    /// Name of the file that it is written in.
    pub file: String,
}

/// All entries under `directory` (`/etc/apt`), in apt's order.
pub fn read(directory: &Path) -> Vec<AptSource> {
    let parts = directory.join("sources.list.d");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&parts).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.insert(0, directory.join("sources.list"));
    let mut sources = Vec::new();
    for path in files {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(text.lines().filter_map(|line| parse_line(line, &file))),
            Some("sources") => {
                let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
                let stanzas = lines.split(|line| line.trim().is_empty());
                sources.extend(stanzas.flat_map(|stanza| parse_stanza(stanza, &file)));
            }
            _ => {}
        }
    }
    sources
}

/// `deb [options] URI suite component…`
fn parse_line(line: &str, file: &str) -> Option<AptSource> {
    let line = line.split('#').next().unwrap_or_default();
    let mut rest = line.trim_start().strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    rest = rest.trim_start();
    if let Some(options) = rest.strip_prefix('[') {
        rest = options.split_once(']')?.1;
    }
    let mut words = rest.split_ascii_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    source(uri, vec![suite], file)
}

/// A stanza of a `.sources` file: `Types`, `URIs`, `Suites`, perhaps `Enabled`.
fn parse_stanza(lines: &[&str], file: &str) -> Vec<AptSource> {
    let (mut types, mut uris, mut suites, mut enabled) = (Vec::new(), Vec::new(), Vec::new(), true);
    let mut name = String::new();
    for line in lines {
        let value = match line.split_once(':') {
            Some((field, value)) if !line.starts_with([' ', '\t']) => {
                name = field.trim().to_ascii_lowercase();
                value
            }
            _ => line,
        };
        let words = value.split_ascii_whitespace();
        match name.as_str() {
            "types" => types.extend(words),
            "uris" => uris.extend(words),
            "suites" => suites.extend(words),
            "enabled" => enabled = !matches!(value.trim(), "no" | "false" | "without" | "off" | "disable" | "0"),
            _ => {}
        }
    }
    if !enabled || !types.contains(&"deb") {
        return Vec::new();
    }
    uris.iter().filter_map(|uri| source(uri, suites.clone(), file)).collect()
}

fn source(uri: &str, suites: Vec<&str>, file: &str) -> Option<AptSource> {
    let understood = ["http://", "https://", "file:/"].iter().any(|scheme| uri.starts_with(scheme));
    if !understood || uri.contains("$(") {
        return None;
    }
    // apt writes `file:/srv/mirror` as well as `file:///srv/mirror`.
    let uri = match uri.strip_prefix("file:") {
        Some(path) if !path.starts_with("//") => format!("file://{path}"),
        _ => uri.to_owned(),
    };
    // A suite that ends in a slash is the path of a flat archive, which has no `dists`.
    let suites: Vec<String> = suites.iter().filter(|suite| !suite.ends_with('/')).map(|&suite| suite.into()).collect();
    (!suites.is_empty()).then(|| AptSource { uri: uri.trim_end_matches('/').to_owned(), suites, file: file.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_the_rest_is_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let parts = directory.path().join("sources.list.d");
        std::fs::create_dir(&parts).unwrap();
        let list = "# deb http://commented.example/ x main\n\
                    deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://one.example/debian/ trixie main # why\n\
                    deb-src http://one.example/debian trixie main\n\
                    deb[trusted=yes] file:/srv/mirror trixie main\n\
                    deb mirror+file:/etc/apt/mirrors.txt trixie main\n\
                    deb cdrom:[Debian 13]/ trixie main\n\
                    deb http://flat.example ./\n\
                    deb\n\
                    debt http://no.example trixie main\n";
        std::fs::write(directory.path().join("sources.list"), list).unwrap();
        let sources = "Types: deb\n# a comment\n deb-src\nURIs: https://two.example/debian\n  http://three.example/$(ARCH)\n \
                       http://three.example/debian\nSuites: trixie trixie-updates\nComponents: main\n\n\
                       Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: trixie\n\n\
                       Types: deb-src\nURIs: http://source.example\nSuites: trixie\n";
        std::fs::write(parts.join("b.sources"), sources).unwrap();
        std::fs::write(parts.join("a.list"), "deb http://zero.example stable main\n").unwrap();
        std::fs::write(parts.join("c.list.save"), "deb http://saved.example stable main\n").unwrap();
        let found: Vec<(String, String)> =
            read(directory.path()).into_iter().map(|source| (source.uri, source.suites.join(" "))).collect();
        let expected = [
            ("http://one.example/debian", "trixie"),
            ("file:///srv/mirror", "trixie"),
            ("http://zero.example", "stable"),
            ("https://two.example/debian", "trixie trixie-updates"),
            ("http://three.example/debian", "trixie trixie-updates"),
        ];
        assert_eq!(found, expected.map(|(uri, suites)| (uri.to_owned(), suites.to_owned())));
    }

    #[test]
    fn no_sources_are_no_error() {
        assert_eq!(read(Path::new("/nonexistent")), []);
    }
}
