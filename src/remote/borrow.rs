//! What a store borrows from a remote: records judged when they are asked for, blobs when their objects are opened.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::digest::{Digest, Hasher, Key};
use crate::report::{Diagnostic, Kind};
use crate::store::Elsewhere;

use super::envelope::{self, Blob, Opened, Trust};
use super::place::{Name, Place};
use super::wire::{Stream, Trouble};

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// A remote that is asked while a build goes on.
#[derive(Debug)]
pub struct Remote {
    pub(super) place: Box<dyn Place>,
    pub(super) trust: Trust,
    /// The steps whose results are shared; of others it is not asked.
    steps: &'static [&'static str],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The blobs of all records that were believed, by object.
    blobs: BTreeMap<Digest, Blob>,
    /// Keys that were asked for: whether there was a record.
    asked: BTreeMap<Digest, Option<Vec<u8>>>,
    /// Objects that were promised and are not there.
    missing: BTreeSet<Digest>,
    /// Why it is not asked any more.
    gone: Option<Trouble>,
    /// What it handed out that was not what was signed.
    lie: Option<Diagnostic>,
    /// Whether something that was promised could not be had, since this was last asked.
    lost: bool,
    results: u64,
    objects: u64,
}

/// What a remote was good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Results that were taken.
    pub results: u64,
    /// Objects that were brought.
    pub objects: u64,
    /// Requests that were made.
    pub requests: u64,
    /// Bytes received, as bodies of answers.
    pub received: u64,
    /// Bytes sent, as bodies of requests.
    pub sent: u64,
}

impl Remote {
    /// A remote at `place`, asked for results of `steps` only. Nobody is asked yet.
    pub fn new(place: Box<dyn Place>, trust: Trust, steps: &'static [&'static str]) -> Self {
        Self { place, trust, steps, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it was good for so far.
    pub fn tally(&self) -> Tally {
        let (requests, received, sent) = self.place.counts().get();
        let state = self.state();
        Tally { results: state.results, objects: state.objects, requests, received, sent }
    }

    /// As a person wrote it.
    pub fn shown(&self) -> &str {
        self.place.shown()
    }

    /// What it handed out that may not be believed, if anything: the build ends with it.
    pub fn lie(&self) -> Option<Diagnostic> {
        self.state().lie.clone()
    }

    /// Whether something that was promised could not be had, since this was last asked: a build that failed for it can be
    /// run again.
    pub fn take_lost(&self) -> bool {
        std::mem::take(&mut self.state().lost)
    }

    /// Asks no more, as if it could not be reached.
    pub fn give_up(&self) {
        let mut state = self.state();
        let (url, reason) = (self.place.shown().to_owned(), "what it promises is not there, time and again".to_owned());
        state.gone.get_or_insert(Trouble::Unreachable { url, reason });
    }

    /// What a person has to know of it when all is done: warnings.
    pub fn notices(&self) -> Vec<Diagnostic> {
        let state = self.state();
        let mut notices = Vec::new();
        let place = self.place.shown();
        if let Some(trouble) = &state.gone {
            let told = trouble.diagnostic();
            let mut notice = Diagnostic::warning(format!("the remote `{place}` was of no use: {}", told.message));
            notice.notes.extend(told.notes);
            notice = notice.note("what it would have had was made here");
            notice.hints.extend(told.hints);
            notices.push(notice.hint("or build without `--remote`"));
        }
        if !state.missing.is_empty() {
            let message = format!("{} objects that results in `{place}` need are not there", state.missing.len());
            let first = state.missing.first().map(|digest| format!("one is {digest}"));
            let notice = first.into_iter().fold(Diagnostic::warning(message), Diagnostic::note);
            notices.push(
                notice.note("what was made of them was made here anew").hint("`rolecast store push` brings them back"),
            );
        }
        notices
    }

    /// What stands under a name, judged; none when nothing does.
    pub(super) fn look(&self, name: &Name) -> Result<Option<Result<Opened, envelope::Refused>>, Trouble> {
        let bytes = self.place.record(name)?;
        Ok(bytes.map(|bytes| envelope::open(&bytes, name, &self.trust)))
    }

    fn gone(&self, trouble: Trouble) {
        let mut state = self.state();
        state.lost = true;
        state.gone.get_or_insert(trouble);
    }

    fn refuse(&self, diagnostic: Diagnostic) -> Diagnostic {
        let diagnostic = diagnostic
            .note("nothing of it was used")
            .hint("who can write there put something else in its place, or a disk fault did: look who can")
            .hint("build without `--remote` until that is known; `rolecast store push` puts good ones in their place");
        self.state().lie.get_or_insert(diagnostic).clone()
    }

    fn not_believed(&self, name: &Name, refused: envelope::Refused) -> Diagnostic {
        let unsigned = refused.what.contains("not signed");
        let diagnostic = refused.diagnostic(self.place.shown(), name);
        self.refuse(match unsigned {
            true => diagnostic.hint("believed are the keys of `--remote-keyring`: is the writer's in it?"),
            false => diagnostic,
        })
    }
}

impl Elsewhere for Remote {
    fn result(&self, key: &Key) -> Result<Option<Vec<u8>>, Diagnostic> {
        if !self.steps.contains(&key.step()) {
            return Ok(None);
        }
        let name = Name { step: key.step().to_owned(), key: key.digest() };
        {
            let state = self.state();
            if let Some(lie) = &state.lie {
                return Err(lie.clone());
            }
            if state.gone.is_some() {
                return Ok(None);
            }
            if let Some(known) = state.asked.get(&name.key) {
                return Ok(known.clone());
            }
        }
        let opened = match self.look(&name) {
            Ok(Some(Ok(opened))) => Some(opened),
            Ok(Some(Err(refused))) => return Err(self.not_believed(&name, refused)),
            Ok(None) => None,
            Err(trouble) => {
                self.gone(trouble);
                return Ok(None);
            }
        };
        let mut state = self.state();
        let bytes = opened.map(|opened| {
            state.results += 1;
            state.blobs.extend(opened.blobs.into_iter().map(|blob| (blob.object, blob)));
            opened.parcel.bytes
        });
        state.asked.insert(name.key, bytes.clone());
        Ok(bytes)
    }

    fn promises(&self, object: &Digest) -> bool {
        let state = self.state();
        state.gone.is_none() && state.blobs.contains_key(object) && !state.missing.contains(object)
    }

    fn object(&self, object: &Digest, sink: &mut dyn Write) -> Result<bool, Diagnostic> {
        let blob = {
            let state = self.state();
            if let Some(lie) = &state.lie {
                return Err(lie.clone());
            }
            match state.blobs.get(object) {
                Some(blob) if state.gone.is_none() => blob.clone(),
                _ => return Ok(false),
            }
        };
        let shown = format!("blob {} of {}", blob.blob, self.place.shown());
        let open = |from| self.place.blob(&blob.blob, from);
        let mut stream = Stream::new(shown, blob.length, self.place.counts(), open);
        match fetch(&mut stream, &blob, sink) {
            Ok(()) => {
                self.state().objects += 1;
                Ok(true)
            }
            Err(Failure::Sink(error)) => {
                Err(Diagnostic::error(Kind::World, format!("cannot write an object of the store: {error}")))
            }
            Err(Failure::Transfer) if stream.absent => {
                let mut state = self.state();
                state.lost = true;
                state.missing.insert(*object);
                Ok(false)
            }
            Err(Failure::Transfer) => {
                let shown = self.place.shown().to_owned();
                let ended = || Trouble::Unreachable { url: shown, reason: "the transfer ended early".to_owned() };
                let trouble = stream.trouble.take().unwrap_or_else(ended);
                self.gone(trouble);
                Ok(false)
            }
            Err(Failure::Lie(what)) => {
                let message = format!("a blob in `{}` {what}", self.place.shown());
                let diagnostic = Diagnostic::error(Kind::Trust, message)
                    .note(format!("the blob is sha256:{}, {} bytes", blob.blob, blob.length))
                    .note(format!("the object is {}, {} bytes", blob.object, blob.size));
                Err(self.refuse(diagnostic))
            }
        }
    }
}

/// Why an object did not come.
enum Failure {
    /// The stream says why.
    Transfer,
    /// The bytes are others than the record names.
    Lie(&'static str),
    /// The receiving side.
    Sink(io::Error),
}

/// Hashes what is read.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

/// Copies a blob's object into `sink`: never more than its size, and nothing is well before both digests are right.
fn fetch(stream: &mut Stream<'_>, blob: &Blob, sink: &mut dyn Write) -> Result<(), Failure> {
    let mut wire = Hashing { inner: stream, hasher: Hasher::new() };
    let mut object = Bounded { sink, hasher: Hasher::new(), left: blob.size };
    let copied = match blob.zstd {
        true => match zstd::stream::read::Decoder::new(&mut wire) {
            Ok(mut decoder) => object.take(&mut decoder),
            Err(_) => Err(Failure::Transfer),
        },
        false => object.take(&mut wire),
    };
    let rest = match &copied {
        Err(Failure::Sink(_)) => Ok(0),
        // Whatever the decoder thought of it: is it the blob at all?
        _ => io::copy(&mut wire, &mut io::sink()),
    };
    if rest.is_err() || wire.inner.trouble.is_some() || wire.inner.absent {
        return Err(Failure::Transfer);
    }
    if let Err(Failure::Sink(error)) = copied {
        return Err(Failure::Sink(error));
    }
    if wire.hasher.finish() != blob.blob {
        return Err(Failure::Lie("has other bytes than its digest says"));
    }
    let wrong = Failure::Lie("holds another object than its record says");
    match copied {
        Ok(()) if object.left == 0 && object.hasher.finish() == blob.object => Ok(()),
        _ => Err(wrong),
    }
}

/// Takes so many bytes and no more.
struct Bounded<'a> {
    sink: &'a mut dyn Write,
    hasher: Hasher,
    left: u64,
}

impl Bounded<'_> {
    fn take(&mut self, from: &mut dyn Read) -> Result<(), Failure> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = from.read(&mut chunk).map_err(|_| Failure::Transfer)?;
            if length == 0 {
                return Ok(());
            }
            self.left = self.left.checked_sub(length as u64).ok_or(Failure::Lie("is longer than its record says"))?;
            self.hasher.update(&chunk[..length]);
            self.sink.write_all(&chunk[..length]).map_err(Failure::Sink)?;
        }
    }
}
