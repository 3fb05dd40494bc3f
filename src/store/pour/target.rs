//! A file that is being poured: written, or made of the blocks that the store's objects lie in where both can share.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::store::StoreError;
use crate::sys::files::{Context as _, Pending};
use crate::sys::reflink::{self, BLOCK};

use super::run::Run;
use super::{Poured, Wanted};

/// Fewer bytes are written as fast as they are shared.
const WORTH: u64 = 64 << 10;

pub(super) struct Target {
    pending: Pending,
    /// For messages.
    path: PathBuf,
    size: u64,
    /// Whether nothing says yet that it cannot share any.
    can_share: bool,
    pub(super) expected: Option<Digest>,
}

/// Where in a file the next bytes of a stretch go.
pub(super) struct Place {
    position: u64,
    /// Up to here the file has its bytes, because it shares them.
    shared: u64,
}

impl Target {
    pub(super) fn new(wanted: &Wanted<'_>) -> Result<Self, StoreError> {
        let pending = Pending::create(&wanted.path)?;
        let (path, expected) = (wanted.path.clone(), wanted.expected);
        Ok(Self { pending, path, size: 0, can_share: true, expected })
    }

    /// The place of the next `length` bytes.
    pub(super) fn place(&mut self, length: u64) -> Place {
        let position = self.size;
        self.size += length;
        Place { position, shared: position }
    }

    /// Shares the blocks of what is written next, a range of an object, as far as it has whole ones at the right places.
    pub(super) fn share(&mut self, place: &mut Place, object: &File, range: &Range<u64>) {
        let length = (range.end - range.start) / BLOCK * BLOCK;
        let fits = place.position.is_multiple_of(BLOCK) && range.start.is_multiple_of(BLOCK) && length >= WORTH;
        if !(self.can_share && fits) {
            return;
        }
        let range = range.start..range.start + length;
        self.can_share = reflink::share(object, &range, &self.pending.file, place.position).is_ok();
        if self.can_share {
            place.shared = place.position + length;
        }
    }

    pub(super) fn write(&mut self, place: &mut Place, run: &Run) -> Result<(), StoreError> {
        let there = place.shared.saturating_sub(place.position).min(run.length());
        if let Some(bytes) = run.bytes() {
            // Less than the run's length, which is that of bytes in memory.
            let rest = &bytes[there as usize..];
            self.pending.file.write_all_at(rest, place.position + there).on("write", &self.path)?;
        }
        place.position += run.length();
        Ok(())
    }

    pub(super) fn finish(self, digest: Digest) -> Result<Poured, StoreError> {
        // A hole at the end exists only once the length says so.
        self.pending.file.set_len(self.size).on("write", &self.path)?;
        self.pending.publish_remade()?;
        Ok(Poured { digest, size: self.size })
    }
}
