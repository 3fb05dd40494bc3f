//! `rolecast verify`: rebuild from nothing, and compare every byte with what was built before.
//!
//! From nothing means a store of its own: no step of an earlier build is believed. Only packages may come from the
//! usual store, because each is hashed against the lock on the way.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::archive;
use crate::cli::args::{
    BuildArguments, ChosenArguments, FormatName, RemoteArguments, SecureBootArguments, SignerArguments, VerifyArguments,
};
use crate::cli::output::size;
use crate::cli::settings::{self, Settings};
use crate::cli::{Done, progress};
use crate::digest::Digest;
use crate::format::authenticode::Signer;
use crate::image;
use crate::image::diff::{self as image_diff, Compared, ImageDiff, ManifestDiff, Texts};
use crate::image::manifest::Manifest;
use crate::lock::{self, Lock};
use crate::plan::Format;
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::store::Store;
use crate::sys::files::{self, Context as _};

use super::build::{self, Built, Explain, shown};
use super::differences;
use super::inspect::manifest_of;
use super::project::Project;
use super::secure_boot;

/// How much of two files is compared at once.
const CHUNK: usize = 1 << 20;

/// A role as it was built before.
struct Reference {
    directory: PathBuf,
    manifest: Manifest,
}

/// What became of one output.
#[derive(Debug, Serialize)]
struct Verdict {
    file: String,
    equal: bool,
    size: u64,
    sha256: Digest,
    /// What differs, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
}

/// What became of a role.
#[derive(Serialize)]
struct Compare {
    role: String,
    outputs: Vec<Verdict>,
    /// What the manifests say differently, outputs left out.
    manifest: ManifestDiff,
    /// The files that differ in the first output that can be opened.
    files: Option<ImageDiff>,
    /// Why the outputs could not be looked into.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

impl Compare {
    fn is_equal(&self) -> bool {
        self.outputs.iter().all(|verdict| verdict.equal) && self.manifest.is_empty()
    }
}

/// Rebuilds and compares.
///
/// # Errors
/// When there is nothing to compare with, or the rebuild fails. Bytes that differ are a result, with exit code 5.
pub fn run(arguments: &VerifyArguments, settings: &Settings) -> Result<Done, Report> {
    let begun = Instant::now();
    settings::use_processors(arguments.jobs)?;
    let project = Project::read(&arguments.image)?;
    let Some(lock) = project.lock()? else {
        return Err(Diagnostic::error(Kind::Input, format!("`{}` has no lock", project.path.file))
            .hint("what was built before was built from a lock: put that one beside the image file")
            .into());
    };
    let references = references(arguments, &project, &lock)?;
    let signer = secure_boot::signer(&arguments.secure_boot, None)?;
    let signer = wanted_signer(&references, signer.as_ref())?;
    let progress = progress::for_run(settings.json);
    let usual = Store::open(&settings.store)?;
    let scratch = usual.scratch("verify")?;
    let fresh = Settings { store: scratch.path().join("store"), ..settings.clone() };
    borrow(&lock, &usual, &fresh, progress.as_ref())?;
    let request = BuildArguments {
        image: arguments.image.clone(),
        chosen: ChosenArguments {
            roles: references.iter().map(|reference| reference.manifest.role.clone()).collect(),
            formats: formats(&references),
            agent: arguments.agent.clone(),
        },
        locked: true,
        mirrors: arguments.mirrors.clone(),
        output: scratch.path().join("out"),
        secure_boot: SecureBootArguments::default(),
        jobs: None,
        signer: SignerArguments::default(),
        remote: RemoteArguments::default(),
    };
    let (built, mut warnings) = build::make(&request, signer, None, &fresh, Explain::Bytes)?;
    let mut compared = Vec::new();
    for reference in &references {
        let role = &reference.manifest.role;
        if let Some(built) = built.iter().find(|built| built.manifest.role == *role) {
            compared.push(compare(reference, built, &usual, &fresh, progress.as_ref())?);
        }
    }
    let equal = compared.iter().all(Compare::is_equal);
    if !equal {
        let message = "what was rebuilt is not what was built before, byte for byte";
        let hint = "the result on standard output names the files that differ and where they come from";
        warnings.push(Diagnostic::error(Kind::NotReproducible, message).hint(hint));
    }
    let text = tell(&compared, equal, begun);
    let json = serde_json::json!({ "equal": equal, "roles": compared });
    Ok(Done { text, json, warnings })
}

/// The roles to compare with, by what `--against` names.
fn references(arguments: &VerifyArguments, project: &Project, lock: &Lock) -> Result<Vec<Reference>, Report> {
    let against = &arguments.against;
    let mut paths = Vec::new();
    if against.is_file() || against.join("manifest.json").is_file() {
        paths.push(if against.is_file() { against.clone() } else { against.join("manifest.json") });
    } else {
        let roles = project.spec.roles.iter().map(|role| against.join(&role.name).join("manifest.json"));
        paths.extend(roles.filter(|path| path.is_file()));
    }
    let mut references = Vec::new();
    let locked = Digest::of(lock::write(lock).as_bytes());
    for path in paths {
        let Some(manifest) = manifest_of(&path)? else { continue };
        if !arguments.roles.is_empty() && !arguments.roles.contains(&manifest.role) {
            continue;
        }
        let told = |what: &str| Diagnostic::error(Kind::Input, format!("`{}` {what}", path.display()));
        if manifest.image != project.spec.name {
            let what = format!("is of the image file `{}`, not of `{}`", manifest.image, project.spec.name);
            return Err(told(&what).into());
        }
        if manifest.lock != locked {
            return Err(told(&format!("was built from another lock than `{}`", project.path.lock_name()))
                .note(format!("that lock has the digest {}", manifest.lock))
                .note(format!("this one has            {locked}"))
                .hint("check out the lock that it was built from")
                .into());
        }
        references.push(Reference { directory: path.with_file_name(""), manifest });
    }
    if references.is_empty() {
        return Err(Diagnostic::error(
            Kind::Usage,
            format!("there is nothing to compare with in `{}`", against.display()),
        )
        .hint("build first, or name a manifest.json, a role's directory or the one above with `--against`")
        .into());
    }
    Ok(references)
}

/// Who signs the rebuild: nobody where nobody did before, else whoever did, for without the key there is no signature
/// to compare with.
fn wanted_signer<'a>(references: &[Reference], signer: Option<&'a Signer>) -> Result<Option<&'a Signer>, Report> {
    let signed: Vec<_> = references
        .iter()
        .filter_map(|reference| Some((reference, reference.manifest.boot.as_ref()?.secure_boot.as_ref())))
        .collect();
    let Some((first, by)) = signed.first() else { return Ok(None) };
    let told = |what: String| Diagnostic::error(Kind::Usage, what);
    if let Some((other, _)) = signed.iter().find(|(_, other)| other != by) {
        let (one, two) = (&first.manifest.role, &other.manifest.role);
        return Err(told(format!("`{one}` and `{two}` were not signed by the same certificate"))
            .hint("verify them one after another, each with `--role` and its own key")
            .into());
    }
    let Some(by) = by else { return Ok(None) };
    match signer {
        Some(signer) if signer.certificate_digest() == by.certificate => Ok(Some(signer)),
        _ => Err(told(format!("`{}` was signed for Secure Boot by {}", first.manifest.role, by.subject))
            .note(format!("that certificate has the digest {}", by.certificate))
            .note("whoever has not its key can build without one, and compare everything but the signatures")
            .hint("name it and its key with `--secure-boot-key` and `--secure-boot-certificate`")
            .into()),
    }
}

/// All formats that were built before, each once.
fn formats(references: &[Reference]) -> Vec<FormatName> {
    let all = [
        (Format::Disk, FormatName::Disk),
        (Format::Qcow2, FormatName::Qcow2),
        (Format::Netboot, FormatName::Netboot),
        (Format::Tar, FormatName::Tar),
        (Format::Update, FormatName::Update),
    ];
    let has = |format| {
        let mut outputs = references.iter().flat_map(|reference| &reference.manifest.outputs);
        outputs.any(|output| output.format == format)
    };
    all.into_iter().filter(|(format, _)| has(*format)).map(|(_, name)| name).collect()
}

/// Packages that the usual store has need not be fetched again; they are hashed on the way.
fn borrow(lock: &Lock, usual: &Store, fresh: &Settings, progress: &dyn Progress) -> Result<(), Report> {
    let packages = || lock.layers.iter().flat_map(|layer| &layer.packages);
    let total = packages().filter(|package| usual.has(&package.sha256)).map(|package| package.size).sum();
    let task = progress.begin("take packages from the store", total, Unit::Bytes);
    let store = Store::open(&fresh.store)?;
    archive::borrow(packages(), usual, &store, &|bytes| task.advance(bytes))?;
    Ok(())
}

fn compare(
    reference: &Reference,
    built: &Built,
    usual: &Store,
    fresh: &Settings,
    progress: &dyn Progress,
) -> Result<Compare, Report> {
    let role = &reference.manifest.role;
    let total = reference.manifest.outputs.iter().map(|output| output.size).sum();
    let task = progress.begin(&format!("compare {role}"), total, Unit::Bytes);
    let mut outputs = Vec::new();
    let mut openable = None;
    for output in &reference.manifest.outputs {
        let (before, after) = (reference.directory.join(&output.file), built.directory.join(&output.file));
        let now = built.manifest.outputs.iter().find(|now| now.file == output.file);
        let mut differences = Vec::new();
        let there = before.is_file();
        if there {
            let digest = digest_of(&before)?;
            if digest != output.sha256 {
                differences.push(format!("`{}` is not what its own manifest says", shown(&before)));
            }
            if Some(digest) != now.map(|now| now.sha256) && after.is_file() {
                differences.push(first_difference(&before, &after, built, &output.file)?);
                if openable.is_none() && ["raw", "img", "gz"].iter().any(|end| output.file.ends_with(end)) {
                    openable = Some((before, after));
                }
            }
        }
        match now {
            None => differences.push("it was not made again".to_owned()),
            Some(now) if now.sha256 != output.sha256 => {
                differences.push(format!("made again it has {} bytes, sha256 {}", now.size, now.sha256));
                if !there {
                    differences.push("the file itself is not there to be looked into".to_owned());
                }
            }
            Some(_) => {}
        }
        task.advance(output.size);
        let equal = differences.is_empty();
        let (size, sha256) = (output.size, output.sha256);
        outputs.push(Verdict { file: output.file.clone(), equal, size, sha256, differences });
    }
    drop(task);
    let inside = openable
        .map(|(before, after)| look_inside(reference, built, (&before, &after), usual, fresh, progress))
        .transpose();
    let (files, broken) = match inside {
        Ok(files) => (files, None),
        // Bytes that differ may be those that hold an image together.
        Err(report) => (None, report.diagnostics.first().map(|diagnostic| diagnostic.message.clone())),
    };
    let mut manifest = ManifestDiff::of(&reference.manifest, &built.manifest);
    manifest.outputs.clear();
    Ok(Compare { role: role.clone(), outputs, manifest, files, broken })
}

/// The files that differ inside two outputs.
fn look_inside(
    reference: &Reference,
    built: &Built,
    (before, after): (&Path, &Path),
    usual: &Store,
    fresh: &Settings,
    progress: &dyn Progress,
) -> Result<ImageDiff, Report> {
    let task = progress.begin(&format!("look into {}", shown(before)), 0, Unit::Bytes);
    let store = Store::open(&fresh.store)?;
    let stored = |manifest: &Manifest, store: &Store| image::origins(&manifest.tree.digest, store);
    let before = Compared { path: before, stored: stored(&reference.manifest, usual)? };
    let after = Compared { path: after, stored: stored(&built.manifest, &store)? };
    image_diff::images(before, after, Texts::All, &|bytes| task.advance(bytes))
}

fn digest_of(path: &Path) -> Result<Digest, Report> {
    let file = files::open(path).map_err(Diagnostic::from)?;
    Ok(Digest::of_reader(file, &|_| {}).on("read", path).map_err(Diagnostic::from)?)
}

/// Where two files first differ, how many bytes do, and what lies there in the one that was made now.
fn first_difference(before: &Path, after: &Path, built: &Built, file: &str) -> Result<String, Report> {
    let open = |path: &Path| files::open(path).map_err(Diagnostic::from);
    let (mut one, mut two) = (open(before)?, open(after)?);
    let fill = |file: &mut File, chunk: &mut Vec<u8>, path: &Path| -> Result<(), Report> {
        chunk.clear();
        let read = io::Read::by_ref(file).take(CHUNK as u64).read_to_end(chunk);
        read.on("read", path).map(drop).map_err(|error| Diagnostic::from(error).into())
    };
    let (mut left, mut right) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
    let (mut at, mut first, mut count) = (0_u64, None, 0_u64);
    loop {
        fill(&mut one, &mut left, before)?;
        fill(&mut two, &mut right, after)?;
        if left.is_empty() && right.is_empty() {
            break;
        }
        if left != right {
            let differing = |index: &usize| left.get(*index) != right.get(*index);
            let all = 0..left.len().max(right.len());
            first = first.or_else(|| all.clone().find(differing).map(|index| at + index as u64));
            count += all.filter(differing).count() as u64;
        }
        at += CHUNK as u64;
    }
    let Some(first) = first else { return Ok("no byte differs".to_owned()) };
    let origins = built.recipes.get(file).map(|recipe| recipe.origins_at(first)).unwrap_or_default();
    let lies_in = if origins.is_empty() { String::new() } else { format!(", in: {}", origins.join(" / ")) };
    Ok(format!("{count} bytes differ, the first at {first}{lies_in}"))
}

fn tell(compared: &[Compare], equal: bool, begun: Instant) -> String {
    let mut text = String::new();
    for compare in compared {
        let _ = writeln!(text, "{}", compare.role);
        for verdict in &compare.outputs {
            let Verdict { file, sha256, .. } = verdict;
            let mark = if verdict.equal { '=' } else { '!' };
            let _ = writeln!(text, "  {mark} {file:<42} {:>10}  sha256 {sha256}", size(verdict.size));
            for difference in &verdict.differences {
                let _ = writeln!(text, "      {difference}");
            }
        }
        let mut inside = String::new();
        if !compare.manifest.is_empty() {
            inside += &differences::text(&differences::of_manifests(&compare.manifest));
        }
        match &compare.files {
            Some(files) if files.is_empty() => inside += "no file inside differs: only how they are laid out\n",
            Some(files) => inside += &differences::text(&differences::of_images(files)),
            None => {}
        }
        if let Some(broken) = &compare.broken {
            let _ = writeln!(inside, "what was built before cannot be looked into: {broken}");
        }
        for line in inside.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    let verdict = if equal { "every byte is the same" } else { "bytes differ" };
    let _ = writeln!(text, "{} roles rebuilt in {:.1} s: {verdict}", compared.len(), begun.elapsed().as_secs_f64());
    text
}
