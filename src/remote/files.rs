//! A place that keeps files by name: a bucket of an S3-compatible server, or a directory behind a web server.
//!
//! A record is put with `If-None-Match: *` where another might have put one meanwhile (RFC 9110, 13.1.2; S3 knows it too).
//! Servers that do not know it keep the last of two that were put at once: either is whole and signed.

use std::path::Path;

use ureq::http::{Method, header};

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind};

use super::Environment;
use super::bucket::Bucket;
use super::envelope::Blob;
use super::login::{self, Secret, is_private};
use super::place::{LONGEST_RECORD, Name, Place, Put};
use super::wire::{Ask, Body, Counts, Payload, Trouble, Wire};

/// How names become requests.
#[derive(Debug)]
enum Address {
    Web { base: String, login: Option<Secret> },
    Bucket(Bucket),
}

/// Such a place.
#[derive(Debug)]
pub struct Files {
    shown: String,
    address: Address,
    wire: Wire,
}

impl Files {
    /// A directory behind a web server.
    ///
    /// # Errors
    /// When its password would travel in the open.
    pub fn web(shown: &str, base: &str, environment: Environment<'_>) -> Result<Self, Diagnostic> {
        let login = login::of_environment(environment)?;
        if login.is_some() && !is_private(base) {
            let message = format!("`{shown}` is plain HTTP, where anyone on the way reads the password");
            return Err(Diagnostic::error(Kind::Usage, message).hint("name it as `https://…`"));
        }
        Ok(Self { shown: shown.to_owned(), address: Address::Web { base: base.to_owned(), login }, wire: Wire::new() })
    }

    /// A bucket.
    ///
    /// # Errors
    /// When the environment names no server, or half of its keys.
    pub fn bucket(shown: &str, name: &str, prefix: &str, environment: Environment<'_>) -> Result<Self, Diagnostic> {
        let bucket = Bucket::new(shown, name, prefix, environment)?;
        Ok(Self { shown: shown.to_owned(), address: Address::Bucket(bucket), wire: Wire::new() })
    }

    /// A request for `path`, whose body has the digest `payload`.
    fn ask(&self, method: Method, path: &str, payload: &Digest) -> Ask<'static> {
        match &self.address {
            Address::Web { base, login } => {
                let ask = Ask::new(method, format!("{base}/{path}"));
                match login {
                    Some(login) => ask.header(header::AUTHORIZATION, login.value()),
                    None => ask,
                }
            }
            Address::Bucket(bucket) => bucket.ask(method, path, payload),
        }
    }

    fn get(&self, method: Method, path: &str) -> Ask<'static> {
        self.ask(method, path, &Digest::of(b""))
    }
}

fn path_of_blob(blob: &Digest) -> String {
    let text = blob.to_string();
    format!("blobs/{}/{}", &text[..2], &text[2..])
}

fn path_of_record(name: &Name) -> String {
    format!("results/{}/{}", name.step, name.key)
}

impl Place for Files {
    fn shown(&self) -> &str {
        &self.shown
    }

    fn counts(&self) -> &Counts {
        &self.wire.counts
    }

    fn record(&self, name: &Name) -> Result<Option<Vec<u8>>, Trouble> {
        let ask = self.get(Method::GET, &path_of_record(name));
        let reply = self.wire.send(&ask)?;
        match reply.status {
            200 => self.wire.read(reply, &ask, LONGEST_RECORD).map(Some),
            404 | 410 => Ok(None),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn put_record(&self, name: &Name, bytes: &[u8], _: &[Blob], replace: bool) -> Result<Put, Trouble> {
        let put = |alone: bool| {
            let ask = self.ask(Method::PUT, &path_of_record(name), &Digest::of(bytes)).payload(Payload::Bytes(bytes));
            let ask = if alone { ask.header(header::IF_NONE_MATCH, "*") } else { ask };
            (self.wire.send(&ask), ask)
        };
        let (reply, ask) = match put(!replace) {
            // S3's way to say that it does not know the condition.
            (Ok(reply), _) if !replace && reply.status == 501 => put(false),
            other => other,
        };
        let reply = reply?;
        match reply.status {
            200..=299 => Ok(Put::Done),
            // 409: two conditional writers at the same time, of whom one is told so.
            409 | 412 if !replace => Ok(Put::Taken),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn has(&self, blob: &Digest) -> Result<bool, Trouble> {
        let ask = self.get(Method::HEAD, &path_of_blob(blob));
        let reply = self.wire.send(&ask)?;
        match reply.status {
            200..=299 => Ok(true),
            // One that answers no HEAD is put once more, which is harmless.
            404 | 405 | 410 | 501 => Ok(false),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn blob(&self, blob: &Digest, from: u64) -> Result<Option<Body>, Trouble> {
        let ask = self.get(Method::GET, &path_of_blob(blob)).after(from);
        let reply = self.wire.send(&ask)?;
        match reply.status {
            200 | 206 => {
                let cut =
                    |error: std::io::Error| Trouble::Unreachable { url: ask.shown.clone(), reason: error.to_string() };
                reply.body_after(from).map(Some).map_err(cut)
            }
            404 | 410 => Ok(None),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn put_blob(&self, blob: &Digest, path: &Path, length: u64) -> Result<(), Trouble> {
        let ask = self.ask(Method::PUT, &path_of_blob(blob), blob).payload(Payload::File(path, length));
        let reply = self.wire.send(&ask)?;
        match reply.status {
            200..=299 => Ok(()),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }
}
