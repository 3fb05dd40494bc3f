//! A place that keeps files by name: a bucket of an S3-compatible server, or a directory behind a web server.
//!
//! A record is put with `If-None-Match: *` where another might have put one meanwhile (RFC 9110, 13.1.2; S3 knows it too).
//! Servers that do not know it keep the last of two that were put at once: either is whole and signed.

use std::path::Path;
use std::time::Duration;

use rusty_s3::actions::{GetObject, HeadObject, PutObject};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use ureq::http::{Method, header};

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind};

use super::Environment;
use super::envelope::Blob;
use super::login::{self, Secret, is_private};
use super::place::{LONGEST_RECORD, Name, Place, Put};
use super::wire::{Ask, Body, Counts, Payload, Trouble, Wire};

/// How long a signed request is good for.
const GOOD_FOR: Duration = Duration::from_secs(3600);

/// Where AWS is, when no endpoint is named.
const AWS: &str = "amazonaws.com";

/// How names become requests.
#[derive(Debug)]
enum Address {
    Web { base: String, login: Option<Secret> },
    Bucket { bucket: Bucket, credentials: Option<Credentials>, prefix: String },
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

    /// A bucket: the server of `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, else Amazon's; with the keys of
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, else as anybody.
    ///
    /// # Errors
    /// When these are no endpoint, or no bucket of it.
    pub fn bucket(shown: &str, name: &str, prefix: &str, environment: Environment<'_>) -> Result<Self, Diagnostic> {
        let set = |names: &[&str]| names.iter().find_map(|name| environment(name).filter(|value| !value.is_empty()));
        let region = set(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| "us-east-1".to_owned());
        let named = set(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        // A name with dots is no host that AWS's certificates are for, and other servers seldom have one a bucket.
        let style = if named.is_some() || name.contains('.') { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let endpoint = named.unwrap_or_else(|| format!("https://s3.{region}.{AWS}"));
        let refuse = |why: String| {
            Diagnostic::error(Kind::Usage, format!("`{shown}` is no bucket that can be asked for: {why}"))
                .hint("the server is AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, the region AWS_REGION")
        };
        let url = endpoint.parse().map_err(|_| refuse("its server's URL is none".to_owned()))?;
        let bucket =
            Bucket::new(url, style, name.to_owned(), region).map_err(|error| refuse(format!("{error}")))?;
        let credentials = match (set(&["AWS_ACCESS_KEY_ID"]), set(&["AWS_SECRET_ACCESS_KEY"])) {
            (Some(key), Some(secret)) => Some(match set(&["AWS_SESSION_TOKEN"]) {
                Some(token) => Credentials::new_with_token(key, secret, token),
                None => Credentials::new(key, secret),
            }),
            (None, None) => None,
            _ => return Err(refuse("of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set".to_owned())),
        };
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let address = Address::Bucket { bucket, credentials, prefix };
        Ok(Self { shown: shown.to_owned(), address, wire: Wire::new() })
    }

    fn ask(&self, method: Method, path: &str) -> Ask<'static> {
        match &self.address {
            Address::Web { base, login } => {
                let ask = Ask::new(method, format!("{base}/{path}"));
                match login {
                    Some(login) => ask.header(header::AUTHORIZATION, login.value()),
                    None => ask,
                }
            }
            Address::Bucket { bucket, credentials, prefix } => {
                let (name, credentials) = (format!("{prefix}{path}"), credentials.as_ref());
                let signed = match method {
                    Method::PUT => PutObject::new(bucket, credentials, &name).sign(GOOD_FOR),
                    Method::HEAD => HeadObject::new(bucket, credentials, &name).sign(GOOD_FOR),
                    _ => GetObject::new(bucket, credentials, &name).sign(GOOD_FOR),
                };
                let shown = bucket.object_url(&name).to_string();
                Ask { shown, ..Ask::new(method, signed.to_string()) }
            }
        }
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
        let ask = self.ask(Method::GET, &path_of_record(name));
        let reply = self.wire.send(&ask)?;
        match reply.status {
            200 => self.wire.read(reply, &ask, LONGEST_RECORD).map(Some),
            404 | 410 => Ok(None),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn put_record(&self, name: &Name, bytes: &[u8], _: &[Blob], replace: bool) -> Result<Put, Trouble> {
        let put = |alone: bool| {
            let ask = self.ask(Method::PUT, &path_of_record(name)).payload(Payload::Bytes(bytes));
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
        let ask = self.ask(Method::HEAD, &path_of_blob(blob));
        let reply = self.wire.send(&ask)?;
        match reply.status {
            200..=299 => Ok(true),
            // One that answers no HEAD is put once more, which is harmless.
            404 | 405 | 410 | 501 => Ok(false),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn blob(&self, blob: &Digest, from: u64) -> Result<Option<Body>, Trouble> {
        let ask = self.ask(Method::GET, &path_of_blob(blob)).after(from);
        let reply = self.wire.send(&ask)?;
        match reply.status {
            200 | 206 => {
                let cut = |error: std::io::Error| Trouble::Unreachable { url: ask.shown.clone(), reason: error.to_string() };
                reply.body_after(from).map(Some).map_err(cut)
            }
            404 | 410 => Ok(None),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn put_blob(&self, blob: &Digest, path: &Path, length: u64) -> Result<(), Trouble> {
        let ask = self.ask(Method::PUT, &path_of_blob(blob)).payload(Payload::File(path, length));
        let reply = self.wire.send(&ask)?;
        match reply.status {
            200..=299 => Ok(()),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }
}
