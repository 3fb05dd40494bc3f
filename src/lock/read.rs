//! Reading a lock back. People merge and edit locks, so every mistake has its place.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind, Report, Source, Span};

use super::{FORMAT, Lock, LockedArchive, LockedLayer, LockedPackage, LockedSuite};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: Spanned<i64>,
    spec: Digest,
    distribution: String,
    #[serde(default)]
    release: Vec<ReleaseText>,
    #[serde(default)]
    layer: Vec<LayerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ReleaseText {
    archive: String,
    suite: String,
    sha256: Digest,
    date: i64,
    signed_by: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerText {
    name: Spanned<String>,
    packages: Vec<Spanned<PackageText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageText {
    name: String,
    version: String,
    architecture: String,
    archive: String,
    size: u64,
    sha256: Digest,
    path: String,
}

/// Reads the text of a lock; `path` names it for messages.
///
/// # Errors
/// When the text is no lock of this version, with the place.
pub fn parse(path: &str, text: &str) -> Result<Lock, Report> {
    let source = Arc::new(Source { path: path.to_owned(), text: text.to_owned() });
    let read: Text = toml::from_str(text).map_err(|error| {
        let range = error.span().unwrap_or(0..0);
        broken(&source, range, format!("the lock cannot be read: {}", error.message()))
    })?;
    if *read.format.get_ref() != FORMAT {
        let message = format!("the lock has format {}, and this rolecast reads {FORMAT}", read.format.get_ref());
        return Err(broken(&source, read.format.span(), message));
    }
    let mut archives: Vec<LockedArchive> = Vec::new();
    for release in read.release {
        let ReleaseText { archive, suite, sha256, date, signed_by } = release;
        let suite = LockedSuite { name: suite, release: sha256, date, signed_by };
        match archives.iter_mut().find(|known| known.name == archive) {
            Some(known) => known.suites.push(suite),
            None => archives.push(LockedArchive { name: archive, suites: vec![suite] }),
        }
    }
    let layers = read.layer.into_iter().map(|layer| read_layer(&source, layer)).collect::<Result<_, _>>()?;
    Ok(Lock { spec: read.spec, distribution: read.distribution, archives, layers })
}

fn read_layer(source: &Arc<Source>, layer: LayerText) -> Result<LockedLayer, Report> {
    let mut seen = BTreeSet::new();
    let mut packages = Vec::new();
    for package in layer.packages {
        let range = package.span();
        let PackageText { name, version, architecture, archive, size, sha256, path } = package.into_inner();
        let escapes = path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if escapes {
            return Err(broken(source, range, format!("`{path}` is no path below an archive's root")));
        }
        if !seen.insert((name.clone(), architecture.clone())) {
            let message = format!("`{name}:{architecture}` is pinned twice in layer `{}`", layer.name.get_ref());
            return Err(broken(source, range, message));
        }
        packages.push(LockedPackage { name, version, architecture, archive, size, sha256, path });
    }
    Ok(LockedLayer { name: layer.name.into_inner(), packages })
}

fn broken(source: &Arc<Source>, range: Range<usize>, message: String) -> Report {
    Diagnostic::error(Kind::Input, message)
        .at(&Span::new(source, range), "")
        .hint("a lock is written by `rolecast lock`: restore it, or remove it and lock anew")
        .into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::write;
    use super::*;

    /// A lock of two layers.
    pub fn sample() -> Lock {
        let package = |name: &str, version: &str| LockedPackage {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            archive: "debian".to_owned(),
            size: 1234,
            sha256: Digest::of(format!("{name} {version}").as_bytes()),
            path: format!("pool/main/{name}_{version}.deb"),
        };
        let suite = LockedSuite {
            name: "trixie".to_owned(),
            release: Digest::of(b"release"),
            date: 1_700_000_000,
            signed_by: vec!["ABCD".to_owned(), "EF01".to_owned()],
        };
        Lock {
            spec: Digest::of(b"spec"),
            distribution: "debian trixie amd64".to_owned(),
            archives: vec![LockedArchive { name: "debian".to_owned(), suites: vec![suite] }],
            layers: vec![
                LockedLayer {
                    name: "base".to_owned(),
                    packages: vec![package("bash", "5.2"), package("dash", "0.5~\"1")],
                },
                LockedLayer { name: "rack".to_owned(), packages: Vec::new() },
            ],
        }
    }

    #[test]
    fn a_lock_reads_back_as_it_was_written() {
        let text = write(&sample());
        let lock = parse("images/x.lock", &text).unwrap();
        assert_eq!(lock, sample());
        assert_eq!(write(&lock), text);
        assert_eq!(text.lines().filter(|line| line.contains("name = \"bash\"")).count(), 1);
    }

    #[test]
    fn broken_locks_are_refused_at_their_place() {
        let good = write(&sample());
        let cases = [
            (good.replace("format = 1", "format = 9"), "images/x.lock:2:10", "format 9"),
            (good.replace("size = 1234", "size = \"x\""), "images/x.lock:14:", "cannot be read"),
            (good.replace("pool/main/bash", "../../etc"), "images/x.lock:14:", "no path below"),
            (good.replace("\"dash\"", "\"bash\""), "images/x.lock:15:", "pinned twice"),
            (good.replace("distribution =", "mirror ="), "images/x.lock:4:1", "cannot be read"),
            ("<<<<<<< HEAD\n".to_owned() + &good, "images/x.lock:1:1", "cannot be read"),
        ];
        for (text, place, message) in cases {
            let report = parse("images/x.lock", &text).unwrap_err();
            let [diagnostic] = report.diagnostics.as_slice() else { panic!("{report:?}") };
            assert!(diagnostic.message.contains(message), "{}", diagnostic.message);
            let at = diagnostic.labels[0].span.place();
            assert!(at.starts_with(place), "{at} is not {place} for {}", diagnostic.message);
        }
    }
}
