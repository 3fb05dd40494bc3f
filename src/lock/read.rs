//! A lock from its text, with every error at its line.
//!
//! A lock is a file like any other: it may be half merged, cut short, or written by an enemy. Names, versions and
//! paths are checked here, because file names and URLs are made of them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::{FORMAT, Lock, LockedArchive, LockedLayer, LockedPackage, LockedSuite};
use crate::deb::date::parse_rfc3339;
use crate::deb::package::is_archive_path;
use crate::deb::relation::{is_architecture, is_package_name};
use crate::deb::version::Version;
use crate::digest::Digest;
use crate::report::{Diagnostic, Kind, Report, Source, Span};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockText {
    #[expect(dead_code, reason = "read beforehand, named here so that it is not an unknown field")]
    format: u32,
    spec: Digest,
    distribution: String,
    #[serde(default)]
    archive: Vec<ArchiveText>,
    #[serde(default)]
    layer: Vec<LayerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchiveText {
    name: String,
    #[serde(default)]
    suite: Vec<SuiteText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteText {
    name: String,
    date: Spanned<String>,
    release: Digest,
    #[serde(rename = "signed-by")]
    signed_by: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerText {
    name: Spanned<String>,
    recommends: bool,
    wants: Vec<String>,
    packages: Vec<PackageText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageText {
    name: Spanned<String>,
    version: Spanned<String>,
    architecture: Spanned<String>,
    archive: Spanned<String>,
    size: u64,
    sha256: Digest,
    path: Spanned<String>,
}

/// The format alone, which is looked at before anything else is understood.
#[derive(Deserialize)]
struct FormatText {
    format: Spanned<u32>,
}

/// Reads a lock.
///
/// # Errors
/// Text that is no TOML or no lock, a lock of another format, names and paths that are none, a package twice, an archive that
/// the lock does not list; all of the latter at once.
pub fn read(source: &Arc<Source>) -> Result<Lock, Report> {
    let broken = |error: toml::de::Error| {
        let message = error.message().lines().next().unwrap_or("broken").to_owned();
        problem(source, error.span().unwrap_or(0..0), format!("the lock cannot be read: {message}"), "")
            .hint("write it anew with `rolecast lock`, or take back the last change to it")
    };
    let format: FormatText = toml::from_str(&source.text).map_err(broken)?;
    if *format.format.get_ref() != FORMAT {
        let message = format!("the lock is of format {}, this rolecast reads {FORMAT}", format.format.get_ref());
        let hint = "write it anew with `rolecast lock`, or use the rolecast that wrote it";
        return Err(problem(source, format.format.span(), message, "").hint(hint).into());
    }
    let text: LockText = toml::from_str(&source.text).map_err(broken)?;
    let mut reader = Reader { source, report: Report::new(), archives: BTreeSet::new() };
    let lock = reader.lock(text);
    if reader.report.has_errors() { Err(reader.report) } else { Ok(lock) }
}

fn problem(source: &Arc<Source>, range: Range<usize>, message: String, label: &str) -> Diagnostic {
    Diagnostic::error(Kind::Input, message).at(&Span::new(source, range), label)
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    report: Report,
    archives: BTreeSet<String>,
}

impl Reader<'_> {
    fn complain(&mut self, at: Range<usize>, message: String) {
        self.report.push(problem(self.source, at, message, ""));
    }

    fn lock(&mut self, text: LockText) -> Lock {
        self.archives = text.archive.iter().map(|archive| archive.name.clone()).collect();
        let archives = text.archive.into_iter().map(|archive| self.archive(archive)).collect();
        let mut names = BTreeSet::new();
        let mut layers = Vec::new();
        for layer in text.layer {
            if !names.insert(layer.name.get_ref().clone()) {
                self.complain(layer.name.span(), format!("layer `{}` is here twice", layer.name.get_ref()));
            }
            layers.push(self.layer(layer));
        }
        Lock { spec: text.spec, distribution: text.distribution, archives, layers }
    }

    fn archive(&mut self, text: ArchiveText) -> LockedArchive {
        let suites = text.suite.into_iter().map(|suite| {
            let date = parse_rfc3339(suite.date.get_ref());
            if date.is_none() {
                let message = format!("`{}` is not a time like `2025-09-06T11:30:24Z`", suite.date.get_ref());
                self.complain(suite.date.span(), message);
            }
            let (name, release, signed_by) = (suite.name, suite.release, suite.signed_by);
            LockedSuite { name, release, date: date.unwrap_or(0), signed_by }
        });
        LockedArchive { suites: suites.collect(), name: text.name }
    }

    fn layer(&mut self, text: LayerText) -> LockedLayer {
        let mut seen = BTreeSet::new();
        let mut packages = Vec::with_capacity(text.packages.len());
        for package in text.packages {
            if !seen.insert(package.name.get_ref().clone()) {
                let message = format!("`{}` is twice in layer `{}`", package.name.get_ref(), text.name.get_ref());
                self.complain(package.name.span(), message);
            }
            packages.push(self.package(package));
        }
        let (wants, recommends) = (text.wants, text.recommends);
        LockedLayer { name: text.name.into_inner(), wants, recommends, packages }
    }

    fn package(&mut self, text: PackageText) -> LockedPackage {
        let checks: [(&Spanned<String>, bool, &str); 5] = [
            (&text.name, is_package_name(text.name.get_ref()), "not a package name"),
            (&text.version, Version::parse(text.version.get_ref()).is_ok(), "not a version"),
            (&text.architecture, is_architecture(text.architecture.get_ref()), "not an architecture"),
            (&text.archive, self.archives.contains(text.archive.get_ref()), "not one of the lock's archives"),
            (&text.path, is_archive_path(text.path.get_ref()), "not a path inside an archive"),
        ];
        let wrong: Vec<_> = checks.into_iter().filter(|(_, right, _)| !right).collect();
        for (value, _, what) in wrong {
            let shown: String = value.get_ref().chars().take(120).collect();
            self.complain(value.span(), format!("`{shown}` is {what}"));
        }
        LockedPackage {
            name: text.name.into_inner(),
            version: text.version.into_inner(),
            architecture: text.architecture.into_inner(),
            archive: text.archive.into_inner(),
            size: text.size,
            sha256: text.sha256,
            path: text.path.into_inner(),
        }
    }
}
