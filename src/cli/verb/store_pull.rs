//! `rolecast store pull`: take from a shared store what builds would need.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::args::{
    BuildArguments, MirrorArguments, PullArguments, RemoteArguments, SecureBootArguments, SignerArguments,
};
use crate::cli::settings::Settings;
use crate::cli::{Done, progress};
use crate::digest::{Digest, Key};
use crate::image::parts;
use crate::layer::whole_tree;
use crate::remote::Remote;
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::store::Store;

use super::build::Build;
use super::remote;

/// Pulls, top down: where the outputs' recipes are there, they and their blobs are all; else what lies below.
///
/// # Errors
/// When nobody is named whose results are believed, an image file has no lock, or what is there is not to be believed.
pub fn run(arguments: &PullArguments, settings: &Settings) -> Result<Done, Report> {
    let trust = remote::trust(&arguments.trust, None)?;
    let remote = Arc::new(remote::open(&arguments.remote, trust)?);
    let images = if arguments.images.is_empty() { locked_images()? } else { arguments.images.clone() };
    let progress = progress::for_run(settings.json);
    let mut warnings = Report::new();
    for image in images {
        let request = BuildArguments {
            image,
            chosen: arguments.chosen.clone(),
            locked: true,
            mirrors: MirrorArguments { mirrors: Vec::new(), vendor: None, offline: true },
            output: PathBuf::from("out"),
            secure_boot: SecureBootArguments::default(),
            jobs: None,
            signer: SignerArguments::default(),
            remote: RemoteArguments::default(),
        };
        let pulled = pull(&request, &remote, settings, progress.as_ref());
        if let Some(lie) = remote.lie() {
            return Err(lie.into());
        }
        warnings.extend(pulled?);
    }
    remote.notices().into_iter().for_each(|notice| warnings.push(notice));
    let tally = remote.tally();
    let text = remote::told(remote.shown(), &tally);
    Ok(Done { text, json: serde_json::json!({ "remote": tally }), warnings })
}

/// The image files of `./images` that have a lock.
fn locked_images() -> Result<Vec<PathBuf>, Report> {
    let listed = fs::read_dir("images").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let is_locked = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "toml") && path.with_extension("lock").is_file()
    };
    let mut images: Vec<PathBuf> = listed.filter(is_locked).collect();
    images.sort();
    match images.is_empty() {
        true => Err(Diagnostic::error(Kind::Usage, "there is no image file with a lock in `images`")
            .hint("name one, or run this in the project's directory")
            .into()),
        false => Ok(images),
    }
}

/// Pulls for one image file; returns warnings.
fn pull(
    request: &BuildArguments,
    remote: &Arc<Remote>,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Report, Report> {
    let mut build = Build::new(request, None, Some(remote), settings, progress)?;
    let lock = build.fresh_lock()?;
    let plan = build.plan(&lock)?;
    let store = &build.world.store;
    let mut keys = build.recipes(&plan, &lock);
    store.ask(&keys)?;
    let mut whole = true;
    for key in &keys {
        whole &= store.knows(key)?;
    }
    if !whole {
        keys.extend(build.steps(&plan));
        store.ask(&keys)?;
        let mut guides: BTreeSet<Digest> = BTreeSet::new();
        for role in &plan.roles {
            let top = role.layers.last().map(|layer| &plan.layers[*layer]);
            let base = top.map(|top| whole_tree(store, top)).transpose()?.flatten();
            let Some(base) = base.filter(|base| guides.insert(*base)) else { continue };
            let parts = parts::keys(&base, &role.formats);
            store.ask(&parts)?;
            keys.extend(parts);
        }
    }
    bring(store, &keys, progress)?;
    Ok(build.warnings)
}

fn bring(store: &Store, keys: &[Key], progress: &dyn Progress) -> Result<(), Report> {
    let mut objects = BTreeSet::new();
    for key in keys {
        if let Some(parcel) = store.parcel(key.step(), &key.digest())? {
            objects.extend(parcel.objects);
        }
    }
    let task = progress.begin("bring objects", objects.len() as u64, Unit::Things);
    Ok(store.bring(objects, &|count| task.advance(count))?)
}
