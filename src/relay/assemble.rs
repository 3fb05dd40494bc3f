//! A file from the chunks that the machine has and those that it does not, in order, each checked before it is passed on.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use super::Moved;
use super::held::Held;
use crate::archive::{Client, TransferError};
use crate::format::caibx::{Chunk, Id, Index};

/// What a file is assembled by.
pub struct Assembly<'a> {
    pub index: &'a Index,
    pub client: &'a Client,
    /// Where the file is.
    pub url: &'a str,
    /// How long a chunk is looked for here before it is fetched.
    pub patience: Duration,
}

/// An assembly that ended early.
#[derive(Debug)]
pub struct Broken {
    /// Bytes that were passed on; all of them good.
    pub sent: u64,
    /// Why no more were.
    pub why: TransferError,
}

impl Assembly<'_> {
    /// Sends the file to `sink`.
    ///
    /// # Errors
    /// When the server does not know parts of files, or sends other bytes than the index says; when `sink` fails.
    pub fn send(&self, mut held: Held, sink: &mut dyn Write) -> Result<Moved, Broken> {
        let mut moved = Moved::default();
        let mut rest = self.index.chunks.as_slice();
        while let Some((chunk, after)) = rest.split_first() {
            if let Some(bytes) = held.get(chunk, self.patience) {
                let broken = |source| Broken { sent: chunk.start, why: self.sink_error(source) };
                sink.write_all(&bytes).map_err(broken)?;
                moved.held += bytes.len() as u64;
                rest = after;
                continue;
            }
            // Neighbours come in one answer.
            let more = after.iter().take_while(|chunk| held.lacks(chunk)).count();
            let (missing, after) = rest.split_at(1 + more);
            self.fetch(missing, sink)?;
            moved.fetched += missing.iter().map(|chunk| chunk.length as u64).sum::<u64>();
            rest = after;
        }
        Ok(moved)
    }

    /// Sends neighbouring chunks that the server has.
    fn fetch(&self, chunks: &[Chunk], sink: &mut dyn Write) -> Result<(), Broken> {
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Ok(()) };
        let mut checked = Checked { chunks: chunks.iter(), bytes: Vec::new(), sent: first.start, sink };
        let fetched = self.client.part(self.url, first.start..last.end(), &mut checked);
        fetched.map_err(|why| Broken { sent: checked.sent, why })
    }

    fn sink_error(&self, source: io::Error) -> TransferError {
        TransferError::Sink { url: self.url.to_owned(), source }
    }
}

/// Passes chunks on when they are whole and what they should be.
struct Checked<'a> {
    chunks: std::slice::Iter<'a, Chunk>,
    /// The beginning of the next.
    bytes: Vec<u8>,
    sent: u64,
    sink: &'a mut dyn Write,
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(chunk) = self.chunks.as_slice().first() else { return Ok(0) };
        let taken = bytes.len().min(chunk.length - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        if self.bytes.len() == chunk.length {
            if Id::of(&self.bytes) != chunk.id {
                let what = format!("the bytes from {} to {} are not those of the index", chunk.start, chunk.end());
                return Err(io::Error::new(ErrorKind::InvalidData, what));
            }
            self.sink.write_all(&self.bytes)?;
            self.sent = chunk.end();
            self.bytes.clear();
            self.chunks.next();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
