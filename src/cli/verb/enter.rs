//! `rolecast enter`: a shell in what a failed step left.

use std::path::Path;

use crate::cli::Done;
use crate::layer;
use crate::report::{Diagnostic, Kind, Report};
use crate::sys::sandbox::{Helper, Sandbox};

/// Opens a shell in the sandbox that a failed maintainer script left.
///
/// # Errors
/// When the directory is none such, there is no terminal, or no sandbox works here.
pub fn run(directory: &Path) -> Result<Done, Report> {
    // The sandbox is tried beside what it is to enter, so that the same file system is asked.
    let Some(scratch) = directory.parent().filter(|_| directory.is_dir()) else {
        let message = format!("`{}` is not there", directory.display());
        return Err(Diagnostic::error(Kind::Usage, message).hint("name the directory that the message named").into());
    };
    let sandbox = Sandbox::probe(Helper::own()?, scratch)?;
    layer::enter(&sandbox, directory)?;
    Ok(Done::default())
}
