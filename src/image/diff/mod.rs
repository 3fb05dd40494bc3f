//! What differs between two images, read back from their bytes, or between two manifests.
//!
//! Packages first, because they explain most of the rest; then files with owner, mode, capabilities, size and text.
//! Nothing that an image says of itself is believed but what can be read in it: a manifest only helps to find out
//! where a file comes from.

mod capability;
mod contents;
mod files;
mod manifests;
mod origins;
mod packages;
mod text;

pub use files::{FileChange, FileFacts, Texts};
pub use manifests::{FactChange, ManifestDiff, OutputChange};
pub use packages::PackageChange;

use std::path::Path;

use serde::Serialize;

use crate::report::Report;
use crate::tree::Tree;

use contents::Contents;
use files::Side;
use origins::Origins;

/// What differs between two images; empty when nothing does that a machine could see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImageDiff {
    /// Packages, by dpkg's own database in each root.
    pub packages: Vec<PackageChange>,
    /// Files of root and ESP.
    pub files: Vec<FileChange>,
}

impl ImageDiff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.files.is_empty()
    }
}

/// An image to compare.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// The tree that a store kept of it, with origins, if one did.
    pub stored: Option<Tree>,
}

/// Compares two images: disk images, network roots, squashfs or root tarballs, in any combination. `progress` is told
/// of bytes of files as they are read.
///
/// # Errors
/// When one of them cannot be read.
pub fn images(
    before: Compared<'_>,
    after: Compared<'_>,
    texts: Texts,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<ImageDiff, Report> {
    let read = |image: Compared<'_>| -> Result<(Contents, Origins), Report> {
        let mut contents = Contents::read(image.path, progress)?;
        let origins = Origins::read(&mut contents, image.stored)?;
        Ok((contents, origins))
    };
    let (one, two) = rayon::join(|| read(before), || read(after));
    let ((mut one, one_origins), (mut two, two_origins)) = (one?, two?);
    let packages = packages::changes(&packages::keyed(&one_origins.packages), &packages::keyed(&two_origins.packages));
    let before = Side { contents: &mut one, origins: &one_origins };
    let after = Side { contents: &mut two, origins: &two_origins };
    Ok(ImageDiff { packages, files: files::changes(before, after, texts)? })
}
