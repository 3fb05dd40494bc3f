//! Overlays: directories of files that are laid over a root.
//!
//! Turns the files of `overlays/NAME/` into what they become in the image. `.tera` marks a template, the executable
//! bit decides between 0755 and 0644, symbolic links stay links.

use std::collections::BTreeMap;

use super::model::{Body, OverlayFile, Template, Written};
use super::profiles;
use super::sources::{Entry, Sources};
use super::suggest;
use super::template::Binding;
use crate::report::{Diagnostic, Kind, Report};

/// Suffix of a template's file name.
const TEMPLATE: &str = ".tera";

/// The files of the named overlays in order: one for each path, of the last overlay that has it.
pub fn read(
    sources: &Sources,
    names: &[Written<String>],
    cluster_is_described: bool,
    report: &mut Report,
) -> Vec<OverlayFile> {
    let mut files: BTreeMap<String, OverlayFile> = BTreeMap::new();
    for name in names {
        for file in directory(sources, name, cluster_is_described, report) {
            files.insert(file.path.clone(), file);
        }
    }
    check_nesting(&files, report);
    files.into_values().collect()
}

fn directory(
    sources: &Sources,
    name: &Written<String>,
    cluster_is_described: bool,
    report: &mut Report,
) -> Vec<OverlayFile> {
    let directory = format!("overlays/{}", name.value);
    if !sources.has_directory(&directory) {
        let mut diagnostic = Diagnostic::error(Kind::Input, format!("there is no overlay `{}`", name.value))
            .at(&name.span, "wanted here")
            .note(format!("it would be the directory `{directory}`"));
        diagnostic.hints.extend(suggest::advice(&name.value, sources.overlays()));
        report.push(diagnostic);
        return Vec::new();
    }
    let mut files: Vec<OverlayFile> = Vec::new();
    for (source, entry) in sources.under(&directory) {
        let path = &source[directory.len() + 1..];
        let Some((path, body)) = body(source, path, entry, cluster_is_described, report) else { continue };
        if let Some(other) = files.iter().find(|other| other.path == path) {
            report.push(
                Diagnostic::error(Kind::Input, format!("`{}` and `{source}` become the same file", other.source))
                    .at(&name.span, "both are in this overlay")
                    .note(format!("both are `/{path}` in the image"))
                    .hint("remove one of them"),
            );
        }
        files.push(OverlayFile { path, source: source.to_owned(), span: name.span.clone(), body });
    }
    files
}

fn body(
    source: &str,
    path: &str,
    entry: &Entry,
    cluster_is_described: bool,
    report: &mut Report,
) -> Option<(String, Body)> {
    match entry {
        Entry::Link { target } => Some((path.to_owned(), Body::Link { target: target.clone() })),
        Entry::File { content, executable, .. } => {
            let mode = if *executable { 0o755 } else { 0o644 };
            let Some(path) = path.strip_suffix(TEMPLATE) else {
                return Some((path.to_owned(), Body::Plain { content: content.to_vec(), mode }));
            };
            if path.is_empty() || path.ends_with('/') {
                report.push(Diagnostic::error(Kind::Input, format!("`{source}` has no name before `{TEMPLATE}`")));
                return None;
            }
            let text = profiles::text(source, content, report)?;
            match Template::read(&text, mode) {
                Ok(template) => {
                    let body = match template.binding(cluster_is_described) {
                        Binding::Early => Body::Early { template },
                        Binding::Late => Body::Late { template },
                    };
                    Some((path.to_owned(), body))
                }
                Err(diagnostics) => {
                    diagnostics.into_iter().for_each(|diagnostic| report.push(diagnostic));
                    None
                }
            }
        }
    }
}

/// Reports a file that another overlay has as a directory.
fn check_nesting(files: &BTreeMap<String, OverlayFile>, report: &mut Report) {
    for (path, file) in files {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        for other in parents.filter_map(|parent| files.get(parent)) {
            let message = format!("`{}` is no directory, but `{}` is in it", other.source, file.source);
            report.push(
                Diagnostic::error(Kind::Input, message)
                    .at(&file.span, "lays the file in it")
                    .at(&other.span, "lays what is no directory"),
            );
        }
    }
}

impl OverlayFile {
    /// Permission bits, unless a `[file]` section says otherwise; none for a link.
    pub fn mode(&self) -> Option<u16> {
        match &self.body {
            Body::Plain { mode, .. } => Some(*mode),
            Body::Early { template } | Body::Late { template } => Some(template.mode),
            Body::Link { .. } => None,
        }
    }
}
