//! `rolecast store push`: bring what was built to a store that others share.

use std::collections::BTreeSet;

use crate::cli::args::PushArguments;
use crate::cli::output::size;
use crate::cli::settings::{self, Settings};
use crate::cli::{Done, progress};
use crate::digest::Digest;
use crate::image::{kept, parts};
use crate::layer::{Agent, core, initrd, whole_tree};
use crate::plan;
use crate::remote::{self as shared, Trust};
use crate::report::{Diagnostic, Kind, Report};
use crate::store::{Parcel, Store};

use super::project::Project;
use super::{remote, sign};

/// Pushes.
///
/// # Errors
/// When nobody is named who signs, there is nothing to bring, or the remote does not take it.
pub fn run(arguments: &PushArguments, settings: &Settings) -> Result<Done, Report> {
    let signer = sign::signer(&arguments.signer)?;
    if signer.is_none() && !arguments.trust.remote_unsigned {
        return Err(Diagnostic::error(Kind::Usage, "nobody is named who signs the results")
            .note("others believe only results that a key of theirs signed")
            .hint("name a secret key with `--sign-key` or ROLECAST_SIGN_KEY, or one of gpg's with `--sign-with-gpg`")
            .hint("or say `--remote-unsigned`, and have everybody who takes them say so too")
            .into());
    }
    let trust = match &signer {
        Some(signer) => remote::trust(&arguments.trust, Some(signer.certificate()))?,
        None => Trust::Anybody,
    };
    let remote = remote::open(&arguments.remote, trust)?;
    let store = Store::open(&settings.store).map_err(Diagnostic::from)?;
    let parcels = parcels(arguments, &store)?;
    if parcels.is_empty() {
        return Err(Diagnostic::error(Kind::Input, "the store has nothing to bring")
            .note(format!("it is `{}`", store.root().display()))
            .hint("run `rolecast build` first, with the same `--store`")
            .into());
    }
    let progress = progress::for_run(settings.json);
    let (pushed, warnings) =
        shared::push(&remote, &store, &parcels, remote::GUIDES, signer.as_ref(), progress.as_ref())?;
    let tally = remote.tally();
    let text = format!(
        "{}: {} results brought, {} were there; {} blobs of {} in {} requests\n",
        remote.shown(),
        pushed.results,
        pushed.there,
        pushed.blobs,
        size(pushed.bytes),
        tally.requests,
    );
    let signed_by = signer.map(|signer| signer.fingerprint());
    let json = serde_json::json!({ "pushed": pushed, "remote": tally, "signed_by": signed_by });
    Ok(Done { text, json, warnings })
}

/// What is brought: results of shared steps; of the image files where some are named, else all.
fn parcels(arguments: &PushArguments, store: &Store) -> Result<Vec<Parcel>, Report> {
    let mut found: Vec<Parcel> = Vec::new();
    for step in remote::SHARED {
        found.extend(store.parcels(step)?);
    }
    if arguments.images.is_empty() {
        return Ok(found);
    }
    let agent = Agent::at(settings::agent(arguments.agent.as_deref())?).map_err(Diagnostic::from)?.digest();
    let mut wanted: BTreeSet<Digest> = BTreeSet::new();
    // What is named by what it is made of.
    let mut over: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut cores: BTreeSet<Digest> = BTreeSet::new();
    for image in &arguments.images {
        let project = Project::read(image)?;
        let Some(lock) = project.lock()? else {
            return Err(Diagnostic::error(Kind::Input, format!("`{}` has no lock", project.path.file))
                .hint("write it with `rolecast lock`, and build")
                .into());
        };
        let plan = plan::draw(&project.spec, &lock, agent, &[], &[])?;
        wanted.insert(initrd::key(&plan, &project.spec.tools.files).digest());
        wanted.extend(plan.layers.iter().flat_map(|step| [step.key.digest(), step.whole().digest()]));
        wanted.extend(plan.roles.iter().map(|role| role.key.digest()));
        over.extend(plan.roles.iter().map(|role| (kept::STEP, role.key.digest().to_string())));
        for step in &plan.layers {
            over.extend(whole_tree(store, step)?.map(|tree| (parts::STEP, tree.to_string())));
            cores.extend(core(store, &step.key)?.map(|core| core.tree()));
        }
    }
    found.retain(|parcel| {
        let named = |(_, value): &(String, String)| over.contains(&(parcel.step.as_str(), value.clone()));
        let is_core = || parcel.step == "layer.core" && parcel.objects.iter().any(|object| cores.contains(object));
        wanted.contains(&parcel.key) || parcel.inputs.iter().any(named) || is_core()
    });
    Ok(found)
}
