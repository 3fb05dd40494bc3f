//! What an earlier build left and this one takes the place of: an update's files bear the identifiers of their root in
//! their names, so those of the next build lie beside them and not over them.
//!
//! Removes only what the directory's former manifest names, of formats that were built again.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use crate::sys::files::{self, FileError};

use super::manifest::Manifest;

/// Removes from `directory` the outputs of the build before that `manifest`, which is yet to be written there, names no
/// more. A build that ends before it has written its manifest leaves the former one, so the next one removes the rest.
///
/// # Errors
/// When one cannot be removed.
pub(super) fn remove(directory: &Path, manifest: &Manifest) -> Result<(), FileError> {
    // What does not read is no manifest of ours, and nothing is removed for its sake.
    let text = std::fs::read_to_string(directory.join("manifest.json")).unwrap_or_default();
    let Ok(former) = Manifest::parse(&text) else { return Ok(()) };
    let named: BTreeSet<&str> = manifest.files().map(|(file, _)| file).collect();
    let again = |format| manifest.outputs.iter().any(|output| output.format == format);
    let superseded = former.outputs.iter().filter(|output| again(output.format) && !named.contains(&*output.file));
    for output in superseded {
        let path = Path::new(&output.file);
        // Somebody else may have written it: it leads nowhere but here.
        if path.components().all(|component| matches!(component, Component::Normal(_))) {
            files::remove_large(&directory.join(path))?;
        }
    }
    Ok(())
}
