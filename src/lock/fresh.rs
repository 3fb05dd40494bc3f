//! Whether a lock still answers a Spec, and if not, what changed.
//!
//! The digest decides. What is said besides comes from comparing the wants and archives that both name.

use super::Lock;
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::{Layer, Spec};

/// The distribution of a Spec as a lock names it: `debian trixie amd64`.
pub fn distribution(spec: &Spec) -> String {
    let distribution = &spec.distribution;
    format!("{} {} {}", distribution.id, distribution.suite, distribution.architecture)
}

/// Whether `lock` answers `spec`.
pub fn is_fresh(lock: &Lock, spec: &Spec) -> bool {
    lock.spec == spec.digest
}

/// Refuses a lock that does not answer `spec`; `path` names it to the reader.
///
/// # Errors
/// A report of what changed since the lock was written, with the lines of new wants.
pub fn check(lock: &Lock, path: &str, spec: &Spec) -> Result<(), Report> {
    if is_fresh(lock, spec) {
        return Ok(());
    }
    let mut diagnostic = Diagnostic::error(Kind::Input, format!("`{path}` does not answer the image file any more"));
    let wanted = distribution(spec);
    if lock.distribution != wanted {
        diagnostic = diagnostic
            .at(&spec.distribution.span, "changed")
            .note(format!("the distribution was `{}` and is `{wanted}`", lock.distribution));
    }
    diagnostic = compare_archives(diagnostic, lock, spec);
    for layer in spec.layers.iter().chain([&spec.tools]) {
        diagnostic = compare_layer(diagnostic, lock, layer);
    }
    let is_layer = |name: &str| spec.layers.iter().chain([&spec.tools]).any(|layer| layer.name == name);
    for gone in lock.layers.iter().filter(|layer| !is_layer(&layer.name)) {
        diagnostic = diagnostic.note(format!("layer `{}` is gone", gone.name));
    }
    if diagnostic.notes.is_empty() {
        diagnostic =
            diagnostic.note("what decides the packages changed, though no want did: a parent, a component, a priority");
    }
    Err(diagnostic.hint("run `rolecast lock`, look at what it changes, and keep the file").into())
}

fn compare_archives(mut diagnostic: Diagnostic, lock: &Lock, spec: &Spec) -> Diagnostic {
    for (name, archive) in &spec.archives {
        let locked = lock.archives.iter().find(|locked| locked.name == *name);
        let suites: Vec<&str> =
            locked.iter().flat_map(|locked| &locked.suites).map(|suite| suite.name.as_str()).collect();
        for suite in archive.suites.iter().filter(|suite| !suites.contains(&suite.as_str())) {
            diagnostic =
                diagnostic.at(&archive.span, "new").note(format!("suite `{suite}` of archive `{name}` is new"));
        }
    }
    for locked in &lock.archives {
        let suites = spec.archives.get(&locked.name).map(|archive| archive.suites.as_slice()).unwrap_or_default();
        for suite in locked.suites.iter().filter(|suite| !suites.contains(&suite.name)) {
            diagnostic = diagnostic.note(format!("suite `{}` of archive `{}` is gone", suite.name, locked.name));
        }
    }
    diagnostic
}

fn compare_layer(mut diagnostic: Diagnostic, lock: &Lock, layer: &Layer) -> Diagnostic {
    let Some(locked) = lock.layers.iter().find(|locked| locked.name == layer.name) else {
        return diagnostic.note(format!("layer `{}` is new", layer.name));
    };
    let wants: Vec<(String, _)> = layer.wants.iter().map(|want| (want.relation.to_string(), &want.span)).collect();
    for (want, span) in wants.iter().filter(|(want, _)| !locked.wants.contains(want)) {
        diagnostic = diagnostic.at(span, "new").note(format!("layer `{}` now wants `{want}`", layer.name));
    }
    for gone in locked.wants.iter().filter(|gone| !wants.iter().any(|(want, _)| want == *gone)) {
        diagnostic = diagnostic.note(format!("layer `{}` does not want `{gone}` any more", layer.name));
    }
    if locked.recommends != layer.recommends {
        let now = if layer.recommends { "follows" } else { "does not follow" };
        diagnostic = diagnostic.note(format!("layer `{}` now {now} recommended packages", layer.name));
    }
    diagnostic
}
