//! `rolecast diff`: what differs between two locks, two manifests or two images.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cli::args::DiffArguments;
use crate::cli::settings::Settings;
use crate::cli::{Done, progress};
use crate::image;
use crate::image::diff::{self as image_diff, Compared, ManifestDiff, Texts};
use crate::image::manifest::Manifest;
use crate::lock::{self, Lock, LockedPackage, diff as lock_diff};
use crate::report::{Diagnostic, Kind, Report, Source, Unit};
use crate::store::Store;
use crate::sys::files;
use crate::tree::Tree;

use super::differences::{self, Section};
use super::inspect::{manifest_at, manifest_of};

/// What can be compared.
enum Side {
    Lock(Lock),
    Manifest(Box<Manifest>),
    Image,
}

impl Side {
    fn read(path: &Path) -> Result<Self, Report> {
        let refuse = |what: &str| {
            Diagnostic::error(Kind::Usage, format!("`{}` {what}", path.display()))
                .hint("name two locks, two manifest.json, or two images: ROLE.raw, root.img or ROLE.tar.gz")
        };
        if !path.exists() {
            return Err(refuse("is not there").into());
        }
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let text = || -> Result<String, Report> {
            Ok(String::from_utf8_lossy(&files::read(path).map_err(Diagnostic::from)?).into_owned())
        };
        match extension {
            "lock" => {
                let source = Source { path: path.display().to_string(), text: text()? };
                lock::read(&Arc::new(source)).map(Self::Lock)
            }
            "json" => manifest_at(path).map(|manifest| Self::Manifest(Box::new(manifest))),
            _ if path.is_file() => Ok(Self::Image),
            _ => Err(refuse("is nothing that can be compared").into()),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Lock(_) => "a lock",
            Self::Manifest(_) => "a manifest",
            Self::Image => "an image",
        }
    }
}

/// Compares.
///
/// # Errors
/// When one side cannot be read, or they are of different kinds.
pub fn run(arguments: &DiffArguments, settings: &Settings) -> Result<Done, Report> {
    let (before, after) = (&arguments.before, &arguments.after);
    let (one, two) = (Side::read(before)?, Side::read(after)?);
    let (kind, sections, mut json) = match (&one, &two) {
        (Side::Lock(one), Side::Lock(two)) => {
            let diff = lock_diff::diff(one, two);
            ("locks", differences::of_locks(&diff), lock_json(&diff))
        }
        (Side::Manifest(one), Side::Manifest(two)) => {
            let diff = ManifestDiff::of(one, two);
            ("manifests", differences::of_manifests(&diff), to_json(&diff))
        }
        (Side::Image, Side::Image) => {
            let progress = progress::for_run(settings.json);
            let task = progress.begin("read both images", 0, Unit::Bytes);
            let compared = |path| Compared { path, stored: stored(path, settings) };
            let diff = image_diff::images(compared(before), compared(after), Texts::Configuration, &|more| {
                task.advance(more)
            })?;
            drop(task);
            ("images", differences::of_images(&diff), to_json(&diff))
        }
        _ => {
            let message = format!("{} cannot be compared with {}", one.name(), two.name());
            return Err(Diagnostic::error(Kind::Usage, message)
                .note(format!("`{}` is {}", before.display(), one.name()))
                .note(format!("`{}` is {}", after.display(), two.name()))
                .into());
        }
    };
    let unequal = differ(&sections);
    if let Value::Object(fields) = &mut json {
        fields.insert("kind".to_owned(), kind.into());
        fields.insert("equal".to_owned(), (!unequal).into());
    }
    let title = format!("`{}` → `{}`", before.display(), after.display());
    let text = match arguments.markdown {
        true => differences::markdown(&title, &sections),
        false => differences::text(&sections),
    };
    let mut warnings = Report::new();
    if unequal && arguments.exit_code {
        let message = format!("`{}` and `{}` differ", before.display(), after.display());
        warnings.push(Diagnostic::error(Kind::NotReproducible, message));
    }
    Ok(Done { text, json, warnings })
}

/// Whether any section has something in it.
fn differ(sections: &[Section]) -> bool {
    sections.iter().any(|section| !section.is_empty())
}

/// The tree that a store kept of the image at `path`: the manifest beside it names it.
fn stored(path: &Path, settings: &Settings) -> Option<Tree> {
    let manifest = manifest_of(path).ok().flatten()?;
    // Looking does not make a store.
    let store = settings.store.join("format").exists().then(|| Store::open(&settings.store).ok()).flatten()?;
    image::origins(&manifest.tree.digest, &store).ok().flatten()
}

fn to_json(diff: &impl serde::Serialize) -> Value {
    serde_json::to_value(diff).unwrap_or_default()
}

fn lock_json(diff: &lock_diff::Diff) -> Value {
    let package = |package: &LockedPackage| json!({ "version": package.version, "architecture": package.architecture, "sha256": package.sha256 });
    let change = |change: &lock_diff::Change| match change {
        lock_diff::Change::Added(after) => json!({ "name": after.name, "after": package(after) }),
        lock_diff::Change::Removed(before) => json!({ "name": before.name, "before": package(before) }),
        lock_diff::Change::Changed(before, after) => {
            json!({ "name": after.name, "before": package(before), "after": package(after) })
        }
    };
    let layers: Vec<Value> = diff
        .layers
        .iter()
        .map(|layer| json!({ "layer": layer.name, "packages": layer.changes.iter().map(change).collect::<Vec<_>>() }))
        .collect();
    let suites: Vec<Value> = diff
        .suites
        .iter()
        .map(|(name, before, after)| {
            let date = |date: &Option<i64>| date.map(crate::deb::date::format_rfc3339);
            json!({ "suite": name, "before": date(before), "after": date(after) })
        })
        .collect();
    json!({ "layers": layers, "suites": suites })
}
