//! What others put before the join's door: a ticket, an operator's wish.
//!
//! Owns seeing that something has come, also while the join sleeps. Takes nothing in.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::accept;
use crate::ticket;

/// Where the operator's wish to upgrade is kept: the version of the image that MAAS's schema may be migrated to.
pub(super) const UPGRADE: &str = "/var/lib/rolecast/upgrade";

/// How often tickets and wishes are looked for while waiting.
pub(super) const GLANCE: Duration = Duration::from_millis(250);

/// When each of the files was last changed, and its inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Doorstep([Option<(SystemTime, u64)>; 3]);

impl Doorstep {
    /// The doorstep as it is.
    pub(super) fn look(root: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self([ticket::ARRIVED, ticket::ACCEPTED, UPGRADE].map(|path| {
            let about = std::fs::metadata(root.join(path.trim_start_matches('/'))).ok()?;
            Some((about.modified().ok()?, about.ino()))
        }))
    }

    /// Whether something has come or gone since.
    pub(super) fn changed(&self, root: &Path) -> bool {
        *self != Self::look(root)
    }

    /// Waits until something has, at most for `pause`.
    pub(super) fn wait(&self, root: &Path, pause: Option<Duration>) {
        let until = pause.map(|pause| Instant::now() + pause);
        while !self.changed(root) {
            let left = until.map_or(GLANCE, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(GLANCE));
        }
    }
}

/// The version that the operator has asked to upgrade to.
pub(super) fn wished(root: &Path) -> Option<String> {
    std::fs::read_to_string(root.join(UPGRADE.trim_start_matches('/'))).ok().map(|text| text.trim().to_owned())
}

/// A file's bytes, one more than a ticket may have at most.
pub(super) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(accept::LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
