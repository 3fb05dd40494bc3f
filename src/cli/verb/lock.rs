//! `rolecast lock`: choose every package, and write the lock.

use crate::cli::args::LockArguments;
use crate::cli::settings::Settings;
use crate::cli::{Done, progress};
use crate::lock::diff::diff;
use crate::lock::{Lock, Update};
use crate::report::Report;

use super::project::Project;
use super::world::World;

/// Locks an image file.
///
/// # Errors
/// When the image file is wrong, an archive cannot be verified, or there is no selection.
pub fn run(arguments: &LockArguments, settings: &Settings) -> Result<Done, Report> {
    let project = Project::read(&arguments.image)?;
    let world = World::open(settings, &arguments.mirrors, &project.spec.archives)?;
    let previous = project.lock()?;
    let update = match &arguments.update {
        None => Update::Nothing,
        Some(names) if names.is_empty() => Update::All,
        Some(names) => Update::Packages(names.clone()),
    };
    let progress = progress::for_run(settings.json);
    let (lock, mut warnings) = world.relock(&project, previous.as_ref(), &update, progress.as_ref())?;
    warnings.extend(project.warnings.clone());
    let changes = previous.as_ref().map(|previous| diff(previous, &lock));
    let mut text = summary(&project, &lock);
    match &changes {
        None => text.push_str("  a new lock\n"),
        Some(changes) if changes.is_empty() => text.push_str("  nothing changed\n"),
        Some(changes) => text.push_str(&changes.to_string()),
    }
    let layers: Vec<_> = lock
        .layers
        .iter()
        .map(|layer| serde_json::json!({ "layer": layer.name, "packages": layer.packages.len() }))
        .collect();
    let json = serde_json::json!({ "lock": project.path.lock_name(), "layers": layers });
    Ok(Done { text, json, warnings })
}

fn summary(project: &Project, lock: &Lock) -> String {
    let layers: Vec<String> =
        lock.layers.iter().map(|layer| format!("{} {}", layer.name, layer.packages.len())).collect();
    format!("{}: packages by layer: {}\n", project.path.lock_name(), layers.join(", "))
}
