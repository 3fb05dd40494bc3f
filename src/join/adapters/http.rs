//! HTTP to peers and to this machine: mutual TLS by the node's certificate, short time limits, bounded answers.
//!
//! Never follows a redirect, never uses a proxy.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::join::tables::patience;
use crate::join::world::Trouble;

/// The cluster's authority.
pub const AUTHORITY: &str = "/etc/rolecast/ca.pem";

/// This machine's certificate, with what is between it and the authority.
pub const CERTIFICATE: &str = "/etc/rolecast/node.pem";

/// Its key, in the copy that etcd reads.
pub const KEY: &str = "/etc/etcd/node.key";

/// How long a machine may take to take a connection; one that is off never does.
const CONNECT: Duration = Duration::from_secs(2);

/// The longest answer that is read.
const LONGEST: u64 = 4 << 20;

/// Where and how to ask.
#[derive(Clone, Debug)]
pub struct Http {
    agent: Agent,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status, 200 for a good one.
    pub status: u16,
    /// What it says.
    pub body: Vec<u8>,
}

impl Http {
    /// Without TLS.
    pub fn plain() -> Self {
        Self { agent: agent(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[])).build()) }
    }

    /// With the node's certificate, to members of the cluster only.
    ///
    /// # Errors
    /// When the certificate, its key or the authority is not there or no PEM.
    pub fn mutual() -> Result<Self, Trouble> {
        let roots: Vec<Certificate<'static>> =
            certificates(AUTHORITY)?.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
        let chain: Vec<Certificate<'static>> =
            certificates(CERTIFICATE)?.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
        let key = PrivateKey::from_pem(&read(KEY)?).map_err(|error| Trouble(format!("`{KEY}`: {error}")))?;
        let client = ClientCert::new_with_certs(&chain, key);
        let roots = RootCerts::new_with_certs(&roots);
        Ok(Self { agent: agent(TlsConfig::builder().root_certs(roots).client_cert(Some(client)).build()) })
    }

    /// `GET`.
    ///
    /// # Errors
    /// When nothing answers in time.
    pub fn get(&self, url: &str, headers: &[(&str, &str)], limit: Duration) -> Result<Reply, Trouble> {
        let request = self.agent.get(url).config().timeout_global(Some(limit * patience())).build();
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        reply(url, request.call())
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// When nothing answers in time.
    pub fn delete(&self, url: &str, headers: &[(&str, &str)], limit: Duration) -> Result<Reply, Trouble> {
        let request = self.agent.delete(url).config().timeout_global(Some(limit * patience())).build();
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        reply(url, request.call())
    }

    /// A request with a body; `method` is `POST`, `PUT` or `PATCH`.
    ///
    /// # Errors
    /// When nothing answers in time.
    pub fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        limit: Duration,
    ) -> Result<Reply, Trouble> {
        let request = match method {
            "PUT" => self.agent.put(url),
            "PATCH" => self.agent.patch(url),
            _ => self.agent.post(url),
        };
        let request = request.config().timeout_global(Some(limit * patience())).build();
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        reply(url, request.send(body))
    }
}

impl Reply {
    /// The body where the status is a good one.
    ///
    /// # Errors
    /// When it is not; what the peer says of it is in the message.
    pub fn good(self, asked: &str) -> Result<Vec<u8>, Trouble> {
        match self.status {
            200..=299 => Ok(self.body),
            status => Err(Trouble(format!("{asked}: status {status}: {}", self.text()))),
        }
    }

    /// The body as one line for people, cut.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
    }
}

/// What a server of this machine's needs to speak TLS with members of the cluster only.
///
/// # Errors
/// When certificate, key or authority is not there or no PEM.
pub fn server() -> Result<Arc<ServerConfig>, Trouble> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(AUTHORITY)?);
    let trouble = |what: &dyn std::fmt::Display| Trouble(format!("TLS of the voters' listener: {what}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| trouble(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&read(KEY)?).map_err(|error| trouble(&error))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| trouble(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(CERTIFICATE)?, key)
        .map_err(|error| trouble(&error))?;
    Ok(Arc::new(config))
}

/// A peer's JSON object. A list is refused, which serde would take for an object without names.
///
/// # Errors
/// When it is none of the form, with `whose` to say whose answer it is.
pub fn object<T: DeserializeOwned>(body: &[u8], whose: &str) -> Result<T, Trouble> {
    let object: Result<Map<String, Value>, _> = serde_json::from_slice(body);
    object
        .and_then(|object| serde_json::from_value(Value::Object(object)))
        .map_err(|error| Trouble(format!("{whose} answer is not understood: {error}")))
}

/// The certificates of a PEM file, DER.
///
/// # Errors
/// When it cannot be read or holds none.
pub fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Trouble(format!("`{path}` holds no certificate"))),
        Err(error) => Err(Trouble(format!("`{path}` holds no certificate: {error}"))),
    }
}

fn read(path: &str) -> Result<Vec<u8>, Trouble> {
    fs::read(Path::new(path)).map_err(|error| Trouble(format!("cannot read `{path}`: {error}")))
}

fn agent(tls: TlsConfig) -> Agent {
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent("rolecast-join")
        .timeout_connect(Some(CONNECT * patience()))
        // Peers die while a connection lies idle; one for a few questions in a row is enough.
        .max_idle_connections_per_host(1)
        .max_idle_age(Duration::from_secs(5))
        .build()
        .into()
}

fn reply(url: &str, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Reply, Trouble> {
    let trouble = |error: ureq::Error| Trouble(format!("{}: {error}", host(url)));
    let mut answer = answer.map_err(trouble)?;
    let body = answer.body_mut().with_config().limit(LONGEST).read_to_vec().map_err(trouble)?;
    Ok(Reply { status: answer.status().as_u16(), body })
}

/// Host and port of a URL, for messages.
fn host(url: &str) -> &str {
    url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or(url)
}
