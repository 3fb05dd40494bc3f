//! `rolecast inspect`: what an image is, and where a path in it comes from.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::cli::Done;
use crate::cli::args::InspectArguments;
use crate::cli::output::size;
use crate::cli::settings::Settings;
use crate::image;
use crate::image::manifest::Manifest;
use crate::image::opened::{Opened, PathFacts};
use crate::image::sums::SIGNATURE;
use crate::report::{Diagnostic, Kind, Report};
use crate::sign;
use crate::store::Store;
use crate::sys::files;
use crate::tree::TreePath;

use super::build::boot_signature;
use super::cluster::now;
use super::verify_signature;

/// Inspects an image or a path in it.
///
/// # Errors
/// When the image cannot be read, or does not hold the path.
pub fn run(arguments: &InspectArguments, settings: &Settings) -> Result<Done, Report> {
    let image = &arguments.image;
    if image.is_dir() {
        return Err(Diagnostic::error(Kind::Usage, format!("`{}` is a directory", image.display()))
            .hint("name a file in it: a role's `manifest.json`, or an image beside that")
            .into());
    }
    let manifest = manifest_of(image)?;
    // The manifest beside it would answer for it.
    if matches!(image.try_exists(), Ok(false)) {
        return Err(Diagnostic::error(Kind::Usage, format!("there is no image `{}`", image.display()))
            .hint("`rolecast build` writes one for each role and format: `out/ROLE/ROLE.raw`")
            .into());
    }
    match &arguments.path {
        Some(path) => inspect_path(arguments, path, manifest.as_ref(), settings),
        None => inspect_image(arguments, manifest),
    }
}

/// The manifest that is named, or that lies beside the image or above its directory; none where no such lies there.
///
/// # Errors
/// When the one that is named is not there, or does not read.
pub(super) fn manifest_of(image: &Path) -> Result<Option<Manifest>, Report> {
    if image.extension().is_some_and(|extension| extension == "json") {
        return manifest_at(image).map(Some);
    }
    let mut candidates = image.ancestors().skip(1).take(2).map(|directory| directory.join("manifest.json"));
    let Some(path) = candidates.find(|path| path.is_file()) else { return Ok(None) };
    let bytes = files::read(&path).map_err(Diagnostic::from)?;
    Ok(Manifest::parse(&String::from_utf8_lossy(&bytes)).ok())
}

/// The manifest at `path`.
///
/// # Errors
/// When it is not there, or does not read.
pub(super) fn manifest_at(path: &Path) -> Result<Manifest, Report> {
    if !path.is_file() {
        let message = format!("there is no manifest `{}`", path.display());
        return Err(Diagnostic::error(Kind::Usage, message)
            .hint("`rolecast build` writes one for each role: `out/ROLE/manifest.json`")
            .into());
    }
    let bytes = files::read(path).map_err(Diagnostic::from)?;
    Manifest::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| {
        let message = format!("`{}` is no manifest of rolecast: {error}", path.display());
        Diagnostic::error(Kind::Input, message).hint("name a manifest.json that `rolecast build` wrote").into()
    })
}

fn inspect_image(arguments: &InspectArguments, manifest: Option<Manifest>) -> Result<Done, Report> {
    let mut text = String::new();
    let named = arguments.image.extension().is_some_and(|extension| extension == "json");
    let partitions = match named {
        true => Vec::new(),
        false => match Opened::open(&arguments.image) {
            Ok(opened) => opened.partitions,
            // A tarball has no root that can be opened; its manifest says what it is.
            Err(_) if manifest.is_some() => Vec::new(),
            Err(report) => return Err(report),
        },
    };
    if let Some(manifest) = &manifest {
        let _ =
            writeln!(text, "{} {} of {} ({})", manifest.role, manifest.version, manifest.image, manifest.distribution);
        if let Some(root) = &manifest.root {
            let _ = writeln!(text, "  root hash     {}", root.hash);
            let _ = writeln!(text, "  kernel        {}", root.kernel);
            let _ = writeln!(text, "  command line  {}", root.command_line);
        }
        if let Some(boot) = &manifest.boot {
            let _ = writeln!(text, "  Secure Boot   {}", boot_signature(boot));
        }
        let tree = &manifest.tree;
        let _ = writeln!(
            text,
            "  holds         {} packages, {} files of {}",
            manifest.packages.len(),
            tree.files,
            size(tree.bytes)
        );
        let _ = writeln!(text, "  for a seed    {} files", manifest.late.len());
        for output in &manifest.outputs {
            let _ = writeln!(text, "  {:<28} {:>10}  sha256 {}", output.file, size(output.size), output.sha256);
        }
    }
    for partition in &partitions {
        let _ = writeln!(text, "  partition {:<12} {:>10}  {}", partition.name, size(partition.size), partition.guid);
    }
    let (signature, warnings) = signature(arguments)?;
    let _ = writeln!(text, "  signature     {signature}");
    let json = serde_json::json!({ "manifest": manifest, "partitions": partitions, "signature": signature });
    Ok(Done { text, json, warnings })
}

/// What the signature beside an image says of it.
fn signature(arguments: &InspectArguments) -> Result<(String, Report), Report> {
    let image = &arguments.image;
    let is_signed = image.ancestors().skip(1).take(2).any(|directory| directory.join(SIGNATURE).is_file());
    match &arguments.keyring {
        None if is_signed => Ok(("not checked: `--keyring` names who may sign".to_owned(), Report::new())),
        None => Ok(("none".to_owned(), Report::new())),
        Some(keyring) => {
            let now = i64::try_from(now()).unwrap_or(i64::MAX);
            let checked = sign::check_file(image, Some(&verify_signature::keyring(keyring)?), now, &|_| {})?;
            let problems = verify_signature::complaint(&checked);
            let verdict = if problems.has_errors() { "for other files" } else { "good" };
            Ok((format!("{verdict}, by {}", checked.signed_by.join(", ")), problems))
        }
    }
}

fn inspect_path(
    arguments: &InspectArguments,
    path: &str,
    manifest: Option<&Manifest>,
    settings: &Settings,
) -> Result<Done, Report> {
    let image = match arguments.image.extension().is_some_and(|extension| extension == "json") {
        false => arguments.image.clone(),
        true => root_beside(&arguments.image, manifest)?,
    };
    let mut opened = Opened::open(&image)?;
    let place = TreePath::parse(path).map_err(|error| Diagnostic::error(Kind::Usage, error.to_string()))?;
    let stored = manifest.and_then(|manifest| {
        let store = settings.store.join("format").exists().then(|| Store::open(&settings.store).ok()).flatten()?;
        image::origins(&manifest.tree.digest, &store).ok().flatten()
    });
    let place = stored.as_ref().and_then(|tree| tree.resolve_parents(&place).ok()).unwrap_or(place);
    let Some(facts) = opened.path(&place)? else {
        return Err(Diagnostic::error(Kind::Input, format!("the image holds no `/{place}`"))
            .hint("links are not followed: name the place that the path leads to")
            .into());
    };
    let origin = match stored.as_ref().and_then(|tree| tree.get(&place)) {
        Some(node) => node.origin.to_string(),
        None => from_database(&mut opened, &place),
    };
    let (signature, warnings) = signature(arguments)?;
    let json = serde_json::json!({ "path": facts, "origin": origin, "signature": signature });
    Ok(Done { text: describe(&facts, &origin), json, warnings })
}

/// An output beside the manifest that holds a root.
fn root_beside(manifest_path: &Path, manifest: Option<&Manifest>) -> Result<PathBuf, Report> {
    let outputs = manifest.map(|manifest| manifest.outputs.as_slice()).unwrap_or_default();
    let root = outputs.iter().find(|output| output.file.ends_with(".raw") || output.file.ends_with("root.img"));
    match root {
        Some(output) => Ok(manifest_path.with_file_name("").join(&output.file)),
        None => Err(Diagnostic::error(Kind::Input, "no output of this manifest holds a root that can be opened")
            .note("a path is looked up in a disk image or a network root")
            .into()),
    }
}

/// Without the store that built the image, dpkg's database inside it knows the package.
fn from_database(opened: &mut Opened, path: &TreePath) -> String {
    let line = format!("/{path}");
    let status = opened.bytes("var/lib/dpkg/status").unwrap_or_default();
    let status = String::from_utf8_lossy(&status).into_owned();
    for stanza in status.split("\n\n") {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let Some(package) = field("Package:") else { continue };
        let architecture = field("Architecture:").unwrap_or_default();
        let lists = [format!("{package}.list"), format!("{package}:{architecture}.list")];
        let list = lists.iter().find_map(|list| opened.bytes(&format!("var/lib/dpkg/info/{list}")));
        let list = String::from_utf8_lossy(&list.unwrap_or_default()).into_owned();
        if list.lines().any(|listed| listed == line) {
            return format!("package {package} {}", field("Version:").unwrap_or_default());
        }
    }
    "no package; the store that built the image knows more".to_owned()
}

fn describe(facts: &PathFacts, origin: &str) -> String {
    let mut text = format!("{}\n  {} {} {}:{}\n", facts.path, facts.kind, facts.mode, facts.uid, facts.gid);
    if let Some(target) = &facts.target {
        let _ = writeln!(text, "  leads to {target}");
    }
    if let (Some(bytes), Some(sha256)) = (facts.size, &facts.sha256) {
        let _ = writeln!(text, "  {bytes} bytes, sha256 {sha256}");
    }
    if !facts.attributes.is_empty() {
        let _ = writeln!(text, "  attributes {}", facts.attributes.join(", "));
    }
    let _ = writeln!(text, "  from {origin}");
    text
}
