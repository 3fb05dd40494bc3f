//! `rolecast vendor`: keep every input of a lock, for a build years later.

use crate::archive::{self, Vendored};
use crate::cli::args::VendorArguments;
use crate::cli::output::size;
use crate::cli::settings::Settings;
use crate::cli::{Done, progress};
use crate::lock::fresh;
use crate::report::{Diagnostic, Kind, Report, Unit};

use super::build::shown;
use super::project::Project;
use super::world::World;

/// Fills or checks a directory.
///
/// # Errors
/// When there is no lock that answers the image file, a package cannot be had, or something is not what the lock pins.
pub fn run(arguments: &VendorArguments, settings: &Settings) -> Result<Done, Report> {
    let project = Project::read(&arguments.image)?;
    let Some(lock) = project.lock()? else {
        return Err(Diagnostic::error(Kind::Input, format!("`{}` has no lock", project.path.file))
            .hint("write it with `rolecast lock`")
            .into());
    };
    fresh::check(&lock, &project.path.lock_name(), &project.spec)?;
    let progress = progress::for_run(settings.json);
    let (archives, architecture) = (&project.spec.archives, &project.spec.distribution.architecture);
    let directory = &arguments.directory;
    if arguments.check && !directory.is_dir() {
        return Err(Diagnostic::error(Kind::Usage, format!("there is no directory `{}`", directory.display()))
            .hint("fill it first: `rolecast vendor` without `--check`")
            .into());
    }
    let world = World::open(settings, &arguments.mirrors, archives)?;
    let total = lock.layers.iter().flat_map(|layer| &layer.packages).map(|package| package.size).sum();
    let task = progress.begin(if arguments.check { "check" } else { "fetch" }, total, Unit::Bytes);
    let advance = |bytes| task.advance(bytes);
    let mut vendored = match arguments.check {
        true => archive::check_vendored(&lock, archives, architecture, directory, world.now, &advance)?,
        false => archive::vendor(&lock, archives, architecture, directory, &world.access(&advance))?,
    };
    drop(task);
    let Vendored { packages, brought, bytes, .. } = vendored;
    let place = shown(&std::path::absolute(directory).unwrap_or_else(|_| directory.clone()));
    let what = format!("{packages} packages and what vouches for them, {}", size(bytes));
    let text = match arguments.check {
        true => format!("{place}: {what}: all as the lock pins it\n"),
        false => format!("{place}: {what}; {brought} files brought now\n"),
    };
    let json = serde_json::json!({
        "directory": place, "packages": packages, "brought": brought, "bytes": bytes, "checked": arguments.check,
    });
    let mut warnings = project.warnings;
    warnings.extend(std::mem::take(&mut vendored.warnings));
    Ok(Done { text, json, warnings })
}
