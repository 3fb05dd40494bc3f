//! A registry: blobs by their digests, and for each result a manifest under the tag `STEP-KEY`.
//!
//! The manifest is an artifact of ours (image specification 1.1, `artifactType`): its first layer is the record, its others
//! are the blobs that the record names, so that a registry which collects garbage keeps them. Nothing in a manifest is
//! believed: the record says what counts. Specification: OCI distribution 1.1; tokens as docker's registry documents them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use ureq::http::{Method, header};

use crate::digest::Digest;

use super::envelope::Blob;
use super::login::{Secret, is_loopback, is_private};
use super::place::{LONGEST_RECORD, Name, Place, Put};
use super::wire::{ATTEMPTS, Ask, BACKOFF, Body, Counts, Payload, Reply, Trouble, Wire};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a result is, as a registry lists it.
const ARTIFACT: &str = "application/vnd.rolecast.result.v1";

const RECORD: &str = "application/vnd.rolecast.result.v1+json";
const OBJECT: &str = "application/vnd.rolecast.object.v1";
const OBJECT_ZSTD: &str = "application/vnd.rolecast.object.v1+zstd";

/// The empty configuration (image specification, "Guidance for an Empty Descriptor").
const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// How a manifest is refused that names what is not there (OCI distribution 1.1, "Error Codes").
const UNSEEN: [&str; 2] = ["DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"];

/// Longest manifest that is read, in bytes. Registries take 4 MiB.
const LONGEST_MANIFEST: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

impl Descriptor {
    fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest: format!("sha256:{digest}"), size }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// A repository of a registry.
#[derive(Debug)]
pub struct Registry {
    shown: String,
    /// `https://HOST/v2/REPOSITORY`.
    base: String,
    repository: String,
    login: Option<Secret>,
    /// What was asked for with the last challenge.
    pass: Mutex<Option<Secret>>,
    wire: Wire,
}

impl Registry {
    /// A registry on the loopback is spoken to over plain HTTP, as docker does; any other over TLS.
    pub fn new(shown: &str, host: &str, repository: &str, login: Option<Secret>) -> Self {
        let scheme = if is_loopback(host) { "http" } else { "https" };
        Self {
            shown: shown.to_owned(),
            base: format!("{scheme}://{host}/v2/{repository}"),
            repository: repository.to_owned(),
            login,
            pass: Mutex::default(),
            wire: Wire::new(),
        }
    }

    fn pass(&self) -> Option<Secret> {
        self.pass.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks, with a pass when the registry wants one.
    fn send(&self, ask: &Ask<'_>) -> Result<Reply, Trouble> {
        // Upload locations may be anywhere; a pass is for this registry.
        let is_ours = ask.url.starts_with(&self.base);
        let with = |pass: &Option<Secret>| match pass {
            Some(pass) if is_ours => ask.clone().header(header::AUTHORIZATION, pass.value()),
            _ => ask.clone(),
        };
        let had = self.pass();
        let reply = self.wire.send(&with(&had))?;
        if reply.status != 401 || !is_ours {
            return Ok(reply);
        }
        let challenge = reply.header(&header::WWW_AUTHENTICATE).unwrap_or_default().to_owned();
        let Some(pass) = self.renewed(had, &challenge)? else { return Ok(reply) };
        self.wire.send(&with(&Some(pass)))
    }

    /// A pass after a challenge: one that another thread got meanwhile, or a new one. None where there is none to get.
    fn renewed(&self, had: Option<Secret>, challenge: &str) -> Result<Option<Secret>, Trouble> {
        let mut held = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        if *held != had {
            return Ok(held.clone());
        }
        let lower = challenge.to_ascii_lowercase();
        let pass = if lower.starts_with("bearer ") {
            self.token(&challenge["bearer ".len()..])?
        } else if lower.starts_with("basic") {
            self.login.clone().filter(|login| had.as_ref() != Some(login) && is_private(&self.base))
        } else {
            None
        };
        held.clone_from(&pass);
        Ok(pass)
    }

    /// Gets a token from where the challenge says.
    fn token(&self, challenge: &str) -> Result<Option<Secret>, Trouble> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let parameters = parameters(challenge);
        let get = |name: &str| parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let Some(realm) = get("realm").filter(|realm| is_private(realm)) else { return Ok(None) };
        let scope = get("scope").map_or_else(|| format!("repository:{}:pull,push", self.repository), str::to_owned);
        let mut url = format!("{realm}{}scope={}", if realm.contains('?') { '&' } else { '?' }, encode(&scope));
        if let Some(service) = get("service") {
            url += &format!("&service={}", encode(service));
        }
        let ask = Ask::new(Method::GET, url);
        let ask = match &self.login {
            Some(login) => ask.header(header::AUTHORIZATION, login.value()),
            None => ask,
        };
        let reply = self.wire.send(&ask)?;
        if reply.status != 200 {
            return Err(self.wire.refusal(reply, &ask));
        }
        let answer: Option<Answer> = serde_json::from_slice(&self.wire.read(reply, &ask, 1 << 20)?).ok();
        Ok(answer.and_then(|answer| answer.token.or(answer.access_token)).map(|token| Secret::bearer(&token)))
    }

    fn upload(&self, digest: &Digest, payload: Payload<'_>) -> Result<(), Trouble> {
        let begin = Ask::new(Method::POST, format!("{}/blobs/uploads/", self.base));
        let reply = self.send(&begin)?;
        let location = reply.header(&header::LOCATION).map(str::to_owned);
        let (202, Some(location)) = (reply.status, location) else { return Err(self.wire.refusal(reply, &begin)) };
        let host = self.base.find("/v2/").map_or(self.base.as_str(), |end| &self.base[..end]);
        let location = if location.starts_with('/') { format!("{host}{location}") } else { location };
        let url = format!("{location}{}digest=sha256:{digest}", if location.contains('?') { '&' } else { '?' });
        // Where it goes may carry a signature.
        let shown = format!("{}/blobs/uploads/", self.base);
        let ask = Ask { shown, ..Ask::new(Method::PUT, url) };
        let ask = ask.header(header::CONTENT_TYPE, "application/octet-stream").payload(payload);
        let reply = self.send(&ask)?;
        match reply.status {
            201 | 204 => Ok(()),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn manifest_url(&self, name: &Name) -> String {
        format!("{}/manifests/{}-{}", self.base, name.step, name.key)
    }

    /// Puts a manifest whose blobs were all there a moment ago. Docker's registry notes in a small file that a repository has
    /// a blob, and up to version 2.8 writes it in place each time that somebody brings the blob: while another writer does,
    /// the note is empty for an instant, and the manifest is refused as if the blob were not there.
    fn put_manifest(&self, name: &Name, manifest: &[u8]) -> Result<(), Trouble> {
        let ask = Ask::new(Method::PUT, self.manifest_url(name)).header(header::CONTENT_TYPE, MANIFEST);
        let ask = ask.payload(Payload::Bytes(manifest));
        let mut wait = BACKOFF;
        for attempt in 1.. {
            let reply = self.send(&ask)?;
            if (200..=299).contains(&reply.status) {
                break;
            }
            let refusal = self.wire.refusal(reply, &ask);
            let unseen =
                matches!(&refusal, Trouble::Status { said, .. } if UNSEEN.iter().any(|code| said.contains(code)));
            if !unseen || attempt == ATTEMPTS {
                return Err(refusal);
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        Ok(())
    }

    fn ensure(&self, bytes: &[u8]) -> Result<(), Trouble> {
        let digest = Digest::of(bytes);
        if self.has(&digest)? { Ok(()) } else { self.upload(&digest, Payload::Bytes(bytes)) }
    }
}

/// The parameters of a challenge: `name="value"`, separated by commas (RFC 9110, 11.2).
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name, value.trim().to_owned()));
        rest = next;
    }
    found
}

/// A value of a query (RFC 3986, 2.3).
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

impl Place for Registry {
    fn shown(&self) -> &str {
        &self.shown
    }

    fn counts(&self) -> &Counts {
        &self.wire.counts
    }

    fn record(&self, name: &Name) -> Result<Option<Vec<u8>>, Trouble> {
        let ask = Ask::new(Method::GET, self.manifest_url(name)).header(header::ACCEPT, MANIFEST);
        let reply = self.send(&ask)?;
        match reply.status {
            200 => {}
            404 => return Ok(None),
            _ => return Err(self.wire.refusal(reply, &ask)),
        }
        let bytes = self.wire.read(reply, &ask, LONGEST_MANIFEST)?;
        // What is no manifest of ours is a record that nobody signed.
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return Ok(Some(bytes)) };
        let record = manifest.layers.iter().find(|layer| layer.media_type == RECORD);
        let digest = record.and_then(|record| Digest::parse(record.digest.strip_prefix("sha256:")?).ok());
        let Some(digest) = digest else { return Ok(Some(bytes)) };
        let ask = Ask::new(Method::GET, format!("{}/blobs/sha256:{digest}", self.base));
        let reply = self.send(&ask)?;
        match reply.status {
            200 => self.wire.read(reply, &ask, LONGEST_RECORD).map(Some),
            // Its manifest is there and it is not: as good as none.
            404 => Ok(None),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn put_record(&self, name: &Name, bytes: &[u8], blobs: &[Blob], replace: bool) -> Result<Put, Trouble> {
        self.ensure(EMPTY)?;
        self.ensure(bytes)?;
        let mut layers = vec![Descriptor::new(RECORD, &Digest::of(bytes), bytes.len() as u64)];
        let mut seen = BTreeSet::new();
        for blob in blobs.iter().filter(|blob| seen.insert(blob.blob)) {
            layers.push(Descriptor::new(if blob.zstd { OBJECT_ZSTD } else { OBJECT }, &blob.blob, blob.length));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: ARTIFACT.to_owned(),
            config: Descriptor::new(EMPTY_TYPE, &Digest::of(EMPTY), EMPTY.len() as u64),
            layers,
        };
        let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
        // A registry has no conditional writes: who looks last before it writes lets the first one win, most often. Where
        // two write at once, the later manifest stays; each is whole, and the records are signed.
        if !replace && self.record(name)?.is_some() {
            return Ok(Put::Taken);
        }
        self.put_manifest(name, &manifest).map(|()| Put::Done)
    }

    fn has(&self, blob: &Digest) -> Result<bool, Trouble> {
        let ask = Ask::new(Method::HEAD, format!("{}/blobs/sha256:{blob}", self.base));
        let reply = self.send(&ask)?;
        match reply.status {
            200..=299 => Ok(true),
            404 => Ok(false),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn blob(&self, blob: &Digest, from: u64) -> Result<Option<Body>, Trouble> {
        let ask = Ask::new(Method::GET, format!("{}/blobs/sha256:{blob}", self.base)).after(from);
        let reply = self.send(&ask)?;
        match reply.status {
            200 | 206 => {
                let cut =
                    |error: std::io::Error| Trouble::Unreachable { url: ask.shown.clone(), reason: error.to_string() };
                reply.body_after(from).map(Some).map_err(cut)
            }
            404 => Ok(None),
            _ => Err(self.wire.refusal(reply, &ask)),
        }
    }

    fn put_blob(&self, blob: &Digest, path: &Path, length: u64) -> Result<(), Trouble> {
        self.upload(blob, Payload::File(path, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"realm="https://auth.example/token?a=b",service="registry.example", scope="repository:a/b:pull,push",x=1"#;
        let expected = [
            ("realm", "https://auth.example/token?a=b"),
            ("service", "registry.example"),
            ("scope", "repository:a/b:pull,push"),
            ("x", "1"),
        ];
        assert_eq!(parameters(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(encode("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }
}
