//! A walk over every name of an image.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek};

use crate::tree::TreePath;

use super::directory::Names;
use super::{Entry, EntryKind, Image, ReadError};

/// Names that a walk takes from one image; a root file system has some tens of thousands. Sixty-four bytes of
/// attributes count as a name.
const NAME_LIMIT: usize = 4_000_000;

/// The names of an image, one after the other; ends after the first error.
pub struct Walk<'a, R> {
    image: &'a mut Image<R>,
    started: bool,
    failed: bool,
    /// The directories from the root to the last name, each with the names still to come.
    above: Vec<(TreePath, Names)>,
    /// Inode numbers of the directories that were entered.
    entered: BTreeSet<u32>,
    names: usize,
}

impl<'a, R: Read + Seek> Walk<'a, R> {
    pub(super) fn new(image: &'a mut Image<R>) -> Self {
        Self { image, started: false, failed: false, above: Vec::new(), entered: BTreeSet::new(), names: 0 }
    }

    /// The image, to read a file's bytes between two names.
    pub fn image(&mut self) -> &mut Image<R> {
        self.image
    }

    fn step(&mut self) -> Result<Option<Entry>, ReadError> {
        if !self.started {
            self.started = true;
            let root = self.image.root()?;
            self.enter(&root)?;
            return Ok(Some(root));
        }
        while let Some((directory, names)) = self.above.last_mut() {
            let Some(name) = names.next(&mut self.image.source)? else {
                self.above.pop();
                continue;
            };
            let path = TreePath::parse([directory.as_bytes(), b"/", &name.bytes].concat())?;
            let entry = self.image.entry(path, name.inode)?;
            let attributes: usize = entry.meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
            self.names += 1 + attributes / 64;
            if self.names > NAME_LIMIT {
                return Err(ReadError::TooManyNames);
            }
            self.enter(&entry)?;
            return Ok(Some(entry));
        }
        Ok(None)
    }

    fn enter(&mut self, entry: &Entry) -> Result<(), ReadError> {
        let EntryKind::Directory(listing) = &entry.kind else { return Ok(()) };
        if !self.entered.insert(entry.inode) {
            return Err(ReadError::Broken("a directory is in two places"));
        }
        self.above.push((entry.path.clone(), Names::new(self.image.directory_table(), listing)?));
        Ok(())
    }
}

impl<R: Read + Seek> Iterator for Walk<'_, R> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step().transpose();
        self.failed = matches!(step, Some(Err(_)));
        step
    }
}

/// What [`check`] found in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of names, the root included.
    pub names: u64,
    /// Bytes of file contents that were read.
    pub bytes: u64,
    /// Files whose contents were not read because they would have gone over the limit.
    pub left: u64,
}

/// Reads everything that the image in `bytes` holds and keeps nothing: every name, and the contents of files
/// until `limit` bytes have come out. The entry point of a fuzzer.
///
/// # Errors
/// At the first thing that is broken.
pub fn check(bytes: &[u8], limit: u64) -> Result<Summary, ReadError> {
    let mut image = Image::open(io::Cursor::new(bytes))?;
    let mut walk = image.walk();
    let mut summary = Summary::default();
    while let Some(entry) = walk.next() {
        let entry = entry?;
        summary.names += 1;
        let EntryKind::File(file) = &entry.kind else { continue };
        if file.size > limit - summary.bytes {
            summary.left += 1;
        } else {
            walk.image().read_file(file, &mut io::sink())?;
            summary.bytes += file.size;
        }
    }
    Ok(summary)
}
