//! Bytes from a URL: `http`, `https` and `file`, with patience, bounds and resumption.
//!
//! Owns what is retried, how long is waited, and what an answer must look like to be taken. Trusts nothing that it
//! brings: every caller checks a signature or a digest. A body that is longer than it may be is cut off, whatever the
//! server says of its length. Specification: RFC 9110 (ranges in section 14), RFC 8089 for `file`.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::transfer_error::TransferError;
use super::url::{decode, shown};

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// How many redirects are followed; mirrors need one or two.
pub(super) const REDIRECTS: u32 = 5;

/// How long things may take and how often they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For name resolution and connection together.
    pub connect: Duration,
    /// For one read that brings nothing.
    pub stall: Duration,
    /// For a whole answer: this long …
    pub grace: Duration,
    /// … and a second more for every so many bytes of one whose size is known.
    pub slowest: u64,
    /// Tries, the first one counted.
    pub attempts: u32,
    /// Wait before the second try; doubled for each further one.
    pub backoff: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            grace: Duration::from_secs(60),
            slowest: 16 << 10,
            attempts: 4,
            backoff: Duration::from_millis(300),
        }
    }
}

/// Fetches. One for the whole run: connections are kept and shared by threads.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    patience: Patience,
}

impl Client {
    /// A client that trusts the certificate authorities that Mozilla does. Proxies are taken from `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`.
    pub fn new(patience: Patience) -> Self {
        Self::with_roots(patience, RootCerts::WebPki)
    }

    /// A client that trusts the certificate authorities of the PEM file `bundle`, and no others; none when it cannot be
    /// read.
    pub fn trusting(patience: Patience, bundle: &Path) -> Self {
        let text = std::fs::read(bundle).unwrap_or_default();
        let found = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
        let roots: Vec<_> = found.map(|one| Certificate::from_der(&one).to_owned()).collect();
        Self::with_roots(patience, RootCerts::new_with_certs(&roots))
    }

    fn with_roots(patience: Patience, roots: RootCerts) -> Self {
        let config = ureq::Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .user_agent(concat!("rolecast/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(REDIRECTS)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_per_read(Some(patience.stall))
            .timeout_per_write(Some(patience.stall))
            .max_idle_connections_per_host(8);
        Self { agent: config.build().new_agent(), patience }
    }

    /// A small file of unknown length, at most `limit` bytes.
    ///
    /// # Errors
    /// As [`TransferError`] says; transient ones only after all attempts.
    pub fn get(&self, url: &str, limit: u64) -> Result<Vec<u8>, TransferError> {
        self.persist(|| {
            let mut bytes = Vec::new();
            let mut transfer = Transfer { time: self.patience.grace, ..self.transfer(url, limit) };
            self.attempt(&mut transfer, &mut bytes)?;
            Ok(bytes)
        })
    }

    /// A file of exactly `size` bytes, written to `sink` as it comes. What a broken connection brought is kept: the
    /// next attempt asks for the rest. `progress` is told of bytes as they come.
    ///
    /// # Errors
    /// As [`TransferError`] says; `sink` then holds the beginning of something.
    pub fn download(
        &self,
        url: &str,
        size: u64,
        sink: &mut dyn Write,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), TransferError> {
        let mut transfer = Transfer { exact: true, progress, ..self.transfer(url, size) };
        self.persist(|| self.attempt(&mut transfer, sink))
    }

    /// A file of unknown length, at most `limit` bytes, written to `sink` as it comes; otherwise as [`Self::download`].
    ///
    /// # Errors
    /// As [`TransferError`] says; `sink` then holds the beginning of something.
    pub fn stream(&self, url: &str, limit: u64, sink: &mut dyn Write) -> Result<(), TransferError> {
        let mut transfer = self.transfer(url, limit);
        self.persist(|| self.attempt(&mut transfer, sink))
    }

    /// The bytes `part` of a file, written to `sink` as they come; otherwise as [`Self::download`].
    ///
    /// # Errors
    /// As [`TransferError`] says; [`TransferError::Whole`] when the server does not know parts.
    pub fn part(&self, url: &str, part: Range<u64>, sink: &mut dyn Write) -> Result<(), TransferError> {
        let length = part.end - part.start;
        let mut transfer = Transfer { start: Some(part.start), exact: true, ..self.transfer(url, length) };
        self.persist(|| self.attempt(&mut transfer, sink))
    }

    fn transfer<'a>(&self, url: &'a str, limit: u64) -> Transfer<'a> {
        // However steadily a server drips, the whole has an end.
        let time = self.patience.grace + Duration::from_secs(limit / self.patience.slowest.max(1));
        Transfer { url, limit, time, start: None, exact: false, received: 0, progress: &|_| {} }
    }

    fn persist<T>(&self, mut attempt: impl FnMut() -> Result<T, TransferError>) -> Result<T, TransferError> {
        let mut wait = self.patience.backoff;
        for _ in 1..self.patience.attempts {
            match attempt() {
                Err(error) if error.is_transient() => std::thread::sleep(wait),
                outcome => return outcome,
            }
            wait *= 2;
        }
        attempt()
    }

    fn attempt(&self, transfer: &mut Transfer<'_>, sink: &mut dyn Write) -> Result<(), TransferError> {
        match transfer.url.split_once("://") {
            Some(("file", path)) => transfer.copy_file(path, sink),
            Some(("http" | "https", _)) => self.over_http(transfer, sink),
            _ => Err(transfer.bad_url("only http://, https:// and file:// URLs are understood")),
        }
    }

    fn over_http(&self, transfer: &mut Transfer<'_>, sink: &mut dyn Write) -> Result<(), TransferError> {
        let mut request = self.agent.get(transfer.url).header(header::ACCEPT_ENCODING, "identity");
        if let Some(range) = transfer.range() {
            request = request.header(header::RANGE, range);
        }
        let request = request.config().timeout_per_call(Some(transfer.time)).build();
        let response = request.call().map_err(|error| transfer.explain(error))?;
        let skip = transfer.accept(&response)?;
        if let Some(length) = content_length(&response)
            && length > transfer.limit - transfer.received + skip
        {
            return Err(transfer.too_long());
        }
        let mut body = response.into_body().into_reader();
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink());
        match skipped {
            Ok(length) if length == skip => transfer.copy(&mut body, sink),
            Ok(_) => Err(transfer.cut()),
            Err(error) => Err(transfer.explain(error.into())),
        }
    }
}

/// One file on its way.
struct Transfer<'a> {
    url: &'a str,
    /// Most bytes that may come.
    limit: u64,
    /// Whether that many must come.
    exact: bool,
    /// For one attempt.
    time: Duration,
    /// Where in the file the bytes are that were asked for; none for a file from its beginning to its end.
    start: Option<u64>,
    received: u64,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Transfer<'_> {
    /// What is asked for, where that is not the whole file.
    fn range(&self) -> Option<String> {
        match self.start {
            Some(start) => Some(format!("bytes={}-{}", start + self.received, start + self.limit.max(1) - 1)),
            None => (self.received > 0).then(|| format!("bytes={}-", self.received)),
        }
    }

    /// Whether the answer is what was asked for, and how many of its first bytes are there already.
    fn accept<B>(&self, response: &Response<B>) -> Result<u64, TransferError> {
        let url = shown(self.url);
        let status = response.status();
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let page = kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"));
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(TransferError::NotFound { url }),
            // 511 is how a portal should say that it wants a login.
            StatusCode::NETWORK_AUTHENTICATION_REQUIRED => Err(TransferError::WebPage { url }),
            _ if status.is_success() && page => Err(TransferError::WebPage { url }),
            StatusCode::OK if self.start.is_some() => Err(TransferError::Whole { url }),
            StatusCode::OK => Ok(self.received),
            StatusCode::PARTIAL_CONTENT if self.range().is_some() => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let wanted = format!("bytes {}-", self.start.unwrap_or(0) + self.received);
                if range.is_some_and(|range| range.starts_with(&wanted)) {
                    Ok(0)
                } else {
                    Err(TransferError::Unreachable { url, reason: "it answered with another range".to_owned() })
                }
            }
            _ => Err(TransferError::Status { url, status: status.as_u16() }),
        }
    }

    fn copy_file(&mut self, path: &str, sink: &mut dyn Write) -> Result<(), TransferError> {
        let path = path.strip_prefix("localhost").unwrap_or(path);
        if !path.starts_with('/') {
            return Err(self.bad_url("a file:// URL needs an absolute path"));
        }
        let path = PathBuf::from(std::ffi::OsString::from_vec(decode(path)));
        match File::open(&path).and_then(|file| Ok((file.metadata()?.is_file(), file))) {
            Ok((true, mut file)) => match file.seek(SeekFrom::Start(self.start.unwrap_or(0) + self.received)) {
                Ok(_) if self.start.is_some() => self.copy(&mut file.take(self.limit - self.received), sink),
                Ok(_) => self.copy(&mut file, sink),
                Err(error) => Err(self.bad_url(&error.to_string())),
            },
            Ok((false, _)) => Err(TransferError::NotFound { url: shown(self.url) }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(TransferError::NotFound { url: shown(self.url) })
            }
            Err(error) => Err(self.bad_url(&error.to_string())),
        }
    }

    fn copy(&mut self, body: &mut dyn Read, sink: &mut dyn Write) -> Result<(), TransferError> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // All is there: how the connection ends is of no interest.
                Err(_) if self.exact && self.received == self.limit => break,
                Err(error) => return Err(self.explain(error.into())),
            };
            if length as u64 > self.limit - self.received {
                return Err(self.too_long());
            }
            let stored = sink.write_all(&chunk[..length]);
            stored.map_err(|source| TransferError::Sink { url: shown(self.url), source })?;
            self.received += length as u64;
            (self.progress)(length as u64);
        }
        if self.exact && self.received < self.limit { Err(self.cut()) } else { Ok(()) }
    }

    fn explain(&self, error: ureq::Error) -> TransferError {
        let url = shown(self.url);
        let received = self.received;
        match error {
            ureq::Error::TooManyRedirects => TransferError::RedirectLoop { url },
            ureq::Error::BadUri(reason) => TransferError::BadUrl { url, reason },
            ureq::Error::Http(error) => TransferError::BadUrl { url, reason: error.to_string() },
            ureq::Error::InvalidProxyUrl => {
                TransferError::BadUrl { url, reason: "the proxy's URL in the environment is not one".to_owned() }
            }
            ureq::Error::Timeout(kind @ (ureq::Timeout::Resolve | ureq::Timeout::Connect)) => {
                TransferError::Unreachable { url, reason: format!("timeout: {kind}") }
            }
            ureq::Error::Timeout(kind) => TransferError::Stalled { url, received, reason: format!("timeout: {kind}") },
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.exact => self.cut(),
            other => TransferError::Unreachable { url, reason: other.to_string() },
        }
    }

    fn cut(&self) -> TransferError {
        TransferError::Cut { url: shown(self.url), received: self.received, expected: self.limit }
    }

    fn too_long(&self) -> TransferError {
        TransferError::TooLong { url: shown(self.url), limit: self.limit }
    }

    fn bad_url(&self, reason: &str) -> TransferError {
        TransferError::BadUrl { url: shown(self.url), reason: reason.to_owned() }
    }
}

fn content_length<B>(response: &Response<B>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
