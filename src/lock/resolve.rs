//! Answering a Spec: layer by layer, a parent's selection fixed in its children.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind, Report};
use crate::solve::{self, Chosen, Index, Request, Universe};
use crate::spec::{Layer, Spec};

use super::{Lock, LockedArchive, LockedLayer, LockedPackage};

/// Which pins of the previous lock may move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// None that is still served.
    Nothing,
    /// All.
    All,
    /// Those of the named packages.
    Packages(Vec<String>),
}

/// Chooses the packages of every layer. `archives` are the Releases that vouch for `universe`.
///
/// # Errors
/// When a layer's wants cannot be had over its parent, or an update names a package that the previous lock lacks.
pub fn resolve(
    spec: &Spec,
    universe: &Universe,
    archives: Vec<LockedArchive>,
    previous: Option<&Lock>,
    update: &Update,
) -> Result<Lock, Report> {
    let kept = kept(previous, update)?;
    let index = Index::new(universe, &spec.distribution.architecture, &kept);
    // Each layer's own packages and those of all its parents.
    let mut whole: Vec<Vec<Chosen>> = Vec::new();
    let mut layers = Vec::new();
    let lowest = (!spec.layers.is_empty()).then_some(0);
    let with_parents = spec.layers.iter().map(|layer| (layer, layer.parent)).chain([(&spec.tools, lowest)]);
    for (layer, parent) in with_parents {
        let under = parent.map_or(&[][..], |parent| &whole[parent]);
        let chosen = choose(&index, layer, under)?;
        layers.push(LockedLayer { name: layer.name.clone(), packages: pins(&chosen)? });
        whole.push(under.iter().cloned().chain(chosen).collect());
    }
    Ok(Lock { spec: spec.digest, distribution: spec.distribution.text(), archives, layers })
}

/// The digests that are preferred over newer versions.
fn kept(previous: Option<&Lock>, update: &Update) -> Result<BTreeSet<Digest>, Report> {
    let Some(previous) = previous else { return Ok(BTreeSet::new()) };
    let pins = || previous.layers.iter().flat_map(|layer| &layer.packages);
    let named = match update {
        Update::Nothing => &[][..],
        Update::All => return Ok(BTreeSet::new()),
        Update::Packages(names) => names,
    };
    if let Some(unknown) = named.iter().find(|name| pins().all(|pin| pin.name != **name)) {
        return Err(Diagnostic::error(Kind::Usage, format!("the lock pins no package `{unknown}`"))
            .hint("name packages of the lock after `--update`, or none for all")
            .into());
    }
    Ok(pins().filter(|pin| !named.contains(&pin.name)).map(|pin| pin.sha256).collect())
}

fn choose(index: &Index<'_>, layer: &Layer, under: &[Chosen]) -> Result<Vec<Chosen>, Report> {
    let wants: Vec<solve::Want> = layer
        .wants
        .iter()
        .map(|want| solve::Want { relation: want.relation.clone(), span: want.span.clone() })
        .collect();
    let request = Request {
        wants: &wants,
        fixed: under,
        recommends: layer.recommends,
        // What makes a Debian system one belongs to the lowest layer.
        essential: layer.parent.is_none() && under.is_empty(),
    };
    Ok(solve::solve_with(index, &request)?.chosen)
}

fn pins(chosen: &[Chosen]) -> Result<Vec<LockedPackage>, Report> {
    let mut pins = Vec::new();
    for Chosen { candidate, .. } in chosen {
        let package = &candidate.package;
        let Some(sha256) = package.sha256 else {
            let message = format!("the archive `{}` gives no SHA-256 for `{}`", candidate.archive, package.name);
            return Err(Diagnostic::error(Kind::Trust, message)
                .note("without it nothing vouches for the package's bytes")
                .into());
        };
        pins.push(LockedPackage {
            name: package.name.clone(),
            version: package.version.to_string(),
            architecture: package.architecture.clone(),
            archive: candidate.archive.clone(),
            size: package.size,
            sha256,
            path: package.filename.clone(),
        });
    }
    pins.sort_by(|one, other| (&one.name, &one.architecture).cmp(&(&other.name, &other.architecture)));
    Ok(pins)
}
