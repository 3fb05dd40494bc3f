//! How a recording is written: by many threads, on one clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::text::line;
use super::{Change, Entry, EntryKind, Recording, Request, Seen};

/// Where lines go as they come.
pub type Live = Box<dyn Fn(&str) + Send + Sync>;

/// A recording that many threads write.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    live: Live,
    recording: Mutex<Recording>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// Starts the clock. `live` is given every line of the timeline when it comes.
    pub fn start(recording: Recording, live: Live) -> Self {
        Self { shared: Arc::new(Shared { start: Instant::now(), live, recording: Mutex::new(recording) }) }
    }

    /// Now, by the recording's clock.
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// The recording, for as long as the guard lives.
    pub fn read(&self) -> MutexGuard<'_, Recording> {
        // A thread that panicked while it pushed has left a whole recording.
        self.shared.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event and shows it.
    pub fn note(&self, kind: EntryKind, text: impl Into<String>) {
        let entry = Entry { at: self.now(), kind, text: text.into() };
        (self.shared.live)(&line(&entry));
        self.read().entries.push(entry);
    }

    /// Adds what was seen of a node, when it differs from what was seen last. Tells whether it did.
    pub fn see(&self, node: usize, seen: Seen) -> bool {
        let at = self.now();
        let mut recording = self.read();
        if recording.last(node, &seen) == Some(&seen) {
            return false;
        }
        recording.changes.push(Change { at, node, seen });
        true
    }

    /// Adds a client and returns its index.
    pub fn client(&self, name: &str) -> usize {
        let mut recording = self.read();
        recording.clients.push(name.to_owned());
        recording.clients.len() - 1
    }

    /// Adds a request that has ended.
    pub fn request(&self, request: Request) {
        self.read().requests.push(request);
    }
}
