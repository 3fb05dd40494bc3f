//! A Spec and the verified universe become a lock.
//!
//! Layers are solved in their order, each beside all that the layers under it hold, and the tool layer over the
//! lowest. Of the packages that a previous lock held, those that may stay are preferred, so an update changes only what it
//! has to.

use std::collections::BTreeSet;

use super::{Lock, LockedArchive, LockedLayer, LockedPackage, fresh};
use crate::digest::Digest;
use crate::report::{Diagnostic, Kind, Report};
use crate::solve::{Chosen, Index, Request, Universe, Want, solve_with};
use crate::spec::{Layer, Spec};

/// What of the previous lock may change beyond what has to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Nothing: every package that an archive still serves stays as it is.
    Nothing,
    /// Everything.
    All,
    /// These packages, and what they need to.
    Packages(Vec<String>),
}

/// Answers `spec` from `universe`; `archives` are the verified Releases that the universe was read from.
///
/// # Errors
/// A report of every layer that has no answer; a package to update that the previous lock does not hold; a chosen
/// package whose index gives no SHA-256, size or path.
pub fn resolve(
    spec: &Spec,
    universe: &Universe,
    archives: Vec<LockedArchive>,
    previous: Option<&Lock>,
    update: &Update,
) -> Result<Lock, Report> {
    let favoured = favoured(previous, update)?;
    let index = Index::new(universe, &spec.distribution.architecture, &favoured);
    let lowest = spec.layers.iter().position(|layer| layer.parent.is_none());
    let mut report = Report::new();
    // What each layer adds; nothing where it or a layer under it has no answer, which is reported once.
    let mut solved: Vec<Option<Vec<Chosen>>> = Vec::with_capacity(spec.layers.len() + 1);
    let layers = spec.layers.iter().map(|layer| (layer, layer.parent));
    for (layer, parent) in layers.chain([(&spec.tools, lowest)]) {
        let answer = under(spec, &solved, parent).and_then(|fixed| match solve_layer(&index, layer, parent, &fixed) {
            Ok(chosen) => Some(chosen),
            Err(problems) => {
                report.extend(problems);
                None
            }
        });
        solved.push(answer);
    }
    let mut locked = Vec::with_capacity(solved.len());
    for (layer, chosen) in spec.layers.iter().chain([&spec.tools]).zip(&solved) {
        match lock_layer(layer, chosen.as_deref().unwrap_or_default()) {
            Ok(layer) => locked.push(layer),
            Err(problem) => report.push(problem),
        }
    }
    if report.has_errors() {
        return Err(report);
    }
    Ok(Lock { spec: spec.digest, distribution: fresh::distribution(spec), archives, layers: locked })
}

/// The .debs of the previous lock that are preferred.
fn favoured(previous: Option<&Lock>, update: &Update) -> Result<BTreeSet<Digest>, Report> {
    let packages = || previous.iter().flat_map(|lock| &lock.layers).flat_map(|layer| &layer.packages);
    let released: &[String] = match update {
        Update::Nothing => &[],
        Update::All => return Ok(BTreeSet::new()),
        Update::Packages(names) => names,
    };
    let mut report = Report::new();
    for name in released.iter().filter(|name| !packages().any(|package| package.name == **name)) {
        let message = format!("`{name}` is not in the lock, so it cannot be updated");
        report.push(Diagnostic::error(Kind::Usage, message).hint("name a package that the lock holds"));
    }
    if report.has_errors() {
        return Err(report);
    }
    Ok(packages().filter(|package| !released.contains(&package.name)).map(|package| package.sha256).collect())
}

/// Everything that the layers under a layer with that parent hold; none where one of them has no answer.
fn under(spec: &Spec, solved: &[Option<Vec<Chosen>>], parent: Option<usize>) -> Option<Vec<Chosen>> {
    let mut fixed = Vec::new();
    let mut next = parent;
    while let Some(layer) = next {
        fixed.extend_from_slice(solved.get(layer)?.as_deref()?);
        // A parent comes before its children; anything else would not end.
        next = spec.layers.get(layer)?.parent.filter(|parent| *parent < layer);
    }
    Some(fixed)
}

fn solve_layer(
    index: &Index<'_>,
    layer: &Layer,
    parent: Option<usize>,
    fixed: &[Chosen],
) -> Result<Vec<Chosen>, Report> {
    let want = |want: &crate::spec::Want| Want { relation: want.relation.clone(), span: want.span.clone() };
    let wants: Vec<Want> = layer.wants.iter().map(want).collect();
    let request = Request { wants: &wants, fixed, recommends: layer.recommends, essential: parent.is_none() };
    solve_with(index, &request).map(|selection| selection.chosen)
}

fn lock_layer(layer: &Layer, chosen: &[Chosen]) -> Result<LockedLayer, Diagnostic> {
    let mut packages = Vec::with_capacity(chosen.len());
    for candidate in chosen.iter().map(|chosen| &chosen.candidate) {
        let package = &candidate.package;
        let (Some(sha256), false, 1..) = (package.sha256, package.filename.is_empty(), package.size) else {
            let message = format!(
                "archive `{}` lists `{}` {} without SHA-256, size or path",
                candidate.archive, package.name, package.version
            );
            return Err(Diagnostic::error(Kind::Trust, message).hint("its index has to give all three"));
        };
        packages.push(LockedPackage {
            name: package.name.clone(),
            version: package.version.to_string(),
            architecture: package.architecture.clone(),
            archive: candidate.archive.clone(),
            size: package.size,
            sha256,
            path: package.filename.clone(),
        });
    }
    packages.sort_by(|left, right| (&left.name, &left.architecture).cmp(&(&right.name, &right.architecture)));
    let wants = layer.wants.iter().map(|want| want.relation.to_string()).collect();
    Ok(LockedLayer { name: layer.name.clone(), wants, recommends: layer.recommends, packages })
}
