//! Which chunks of a file this machine has, and where.
//!
//! Found by cutting what the machine runs in the same way as the server cut the file. That takes a while, so it goes on
//! beside the sending.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::format::caibx::{Chunk, Chunks, Id, Index};

/// Found chunks that wait to be looked at.
const WAITING: usize = 1024;

/// A chunk's place: the file's number, and its first byte there.
type Place = (usize, u64);

/// The chunks that are found.
pub struct Held {
    files: Arc<[File]>,
    places: HashMap<Id, Place>,
    found: Receiver<(Id, Place)>,
    /// Whether everything was read.
    complete: bool,
}

impl Held {
    /// Begins to look for the chunks of `index` in `paths`; what cannot be read has none.
    pub fn look(paths: &[PathBuf], index: &Index) -> Self {
        let files: Arc<[File]> = paths.iter().filter_map(|path| File::open(path).ok()).collect();
        let wanted: HashSet<Id> = index.chunks.iter().map(|chunk| chunk.id).collect();
        let (sender, found) = sync_channel(WAITING);
        let looked_at = files.clone();
        std::thread::spawn(move || {
            for (number, file) in looked_at.iter().enumerate() {
                // What was found before an error or a disinterested receiver is good.
                let _ = look_at(number, file, &wanted, &sender);
            }
        });
        Self { files, places: HashMap::new(), found, complete: false }
    }

    /// The bytes of `chunk`, when they are here and are found within `patience`.
    pub fn get(&mut self, chunk: &Chunk, patience: Duration) -> Option<Vec<u8>> {
        let (number, start) = self.place(&chunk.id, patience)?;
        let mut bytes = vec![0; chunk.length];
        let read = self.files[number].read_exact_at(&mut bytes, start);
        // It may have been written to since it was found.
        let same = read.is_ok() && Id::of(&bytes) == chunk.id;
        if !same {
            self.places.remove(&chunk.id);
        }
        same.then_some(bytes)
    }

    /// Whether it is certain that `chunk` is not here.
    pub fn lacks(&mut self, chunk: &Chunk) -> bool {
        self.place(&chunk.id, Duration::ZERO).is_none() && self.complete
    }

    fn place(&mut self, id: &Id, patience: Duration) -> Option<Place> {
        let end = Instant::now() + patience;
        loop {
            if let Some(place) = self.places.get(id) {
                return Some(*place);
            }
            match self.found.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok((id, place)) => {
                    self.places.entry(id).or_insert(place);
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => {
                    self.complete = true;
                    return None;
                }
            }
        }
    }
}

/// Sends those of a file's chunks that are wanted.
fn look_at(number: usize, file: &File, wanted: &HashSet<Id>, sender: &SyncSender<(Id, Place)>) -> io::Result<()> {
    let mut chunks = Chunks::new(file);
    let mut start = 0;
    while let Some(bytes) = chunks.cut()? {
        let id = Id::of(bytes);
        if wanted.contains(&id) {
            sender.send((id, (number, start))).map_err(io::Error::other)?;
        }
        start += bytes.len() as u64;
    }
    Ok(())
}
