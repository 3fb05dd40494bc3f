//! Whether a lock still answers a Spec.

use crate::report::{Diagnostic, Kind, Report};
use crate::spec::Spec;

use super::Lock;

/// Says whether `lock` answers `spec`: same wants, layers, archives and distribution.
///
/// # Errors
/// When it does not, with what changed as far as the two tell.
pub fn freshness(lock: &Lock, spec: &Spec) -> Result<(), Report> {
    if lock.spec == spec.digest {
        return Ok(());
    }
    let mut diagnostic = Diagnostic::error(Kind::Input, format!("the lock of `{}` is stale", spec.name));
    let before = diagnostic.notes.len();
    for note in changes(lock, spec) {
        diagnostic = diagnostic.note(note);
    }
    if diagnostic.notes.len() == before {
        diagnostic = diagnostic.note("what the profiles want of the archives changed since it was written");
    }
    Err(diagnostic.hint(format!("write it anew with `rolecast lock images/{}.toml`", spec.name)).into())
}

/// What a lock shows of the Spec that it answered, compared with the Spec of today.
fn changes(lock: &Lock, spec: &Spec) -> Vec<String> {
    let mut notes = Vec::new();
    let distribution = spec.distribution.text();
    if lock.distribution != distribution {
        notes.push(format!("it was written for {}, and the image file says {distribution}", lock.distribution));
    }
    let names = || spec.layers.iter().chain([&spec.tools]).map(|layer| layer.name.as_str());
    for name in names().filter(|name| lock.layers.iter().all(|layer| layer.name != *name)) {
        notes.push(format!("layer `{name}` is new"));
    }
    for layer in lock.layers.iter().filter(|layer| names().all(|name| layer.name != name)) {
        notes.push(format!("layer `{}` is gone", layer.name));
    }
    for (name, archive) in &spec.archives {
        match lock.archives.iter().find(|locked| locked.name == *name) {
            None => notes.push(format!("archive `{name}` is new")),
            Some(locked) => {
                for suite in archive.suites.iter().filter(|suite| locked.suites.iter().all(|it| it.name != **suite)) {
                    notes.push(format!("suite `{suite}` of archive `{name}` is new"));
                }
            }
        }
    }
    for layer in spec.layers.iter().chain([&spec.tools]) {
        for want in &layer.wants {
            let pinned = |name: &str| lock.layers.iter().flat_map(|layer| &layer.packages).any(|pin| pin.name == name);
            if !want.relation.0.iter().any(|relation| pinned(&relation.name)) {
                let place = want.span.place();
                notes.push(format!("nothing in it answers `{}` ({place}) by name", want.relation));
            }
        }
    }
    notes
}
