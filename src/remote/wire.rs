//! Requests over HTTP: what is tried again, how long is waited, what is counted. No credential reaches a message: each
//! request has a form to be shown.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ureq::http::{HeaderMap, Method, Request, header};

use crate::report::{Diagnostic, Kind};

/// Tries, the first one counted.
pub(super) const ATTEMPTS: u32 = 4;

/// Wait before the second try; doubled for each further one.
pub(super) const BACKOFF: Duration = Duration::from_millis(300);

/// For name resolution and for connecting, each.
const CONNECT: Duration = Duration::from_secs(10);

/// For one read or write that moves nothing.
const STALL: Duration = Duration::from_secs(30);

/// For an answer to begin: a registry hashes what it was sent first.
const ANSWER: Duration = Duration::from_secs(120);

/// How many redirects are followed; registries hand blobs out from elsewhere.
const REDIRECTS: u32 = 5;

/// Most bytes of an error's text that are read, and told.
const SAID: u64 = 2000;

/// Why a place gave no answer that is of use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No connection, or it broke.
    #[error("cannot reach `{url}`: {reason}")]
    Unreachable {
        /// What was asked for, without secrets.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// Another answer than one that was expected.
    #[error("`{url}` was answered with status {status}")]
    Status {
        /// What was asked for, without secrets.
        url: String,
        /// The status.
        status: u16,
        /// What the server said beside it.
        said: String,
    },
    /// A body that ended early, time and again.
    #[error("`{url}` ended after {received} bytes of {expected}")]
    Cut {
        /// What was asked for, without secrets.
        url: String,
        /// Bytes that had come.
        received: u64,
        /// Bytes that should have come.
        expected: u64,
    },
    /// A file of this machine that was to be sent.
    #[error("cannot read what is sent to `{url}`: {reason}")]
    Source {
        /// Where it was to go.
        url: String,
        /// Why.
        reason: String,
    },
}

impl Trouble {
    /// As told to a person, with advice.
    pub fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::error(Kind::World, self.to_string());
        match self {
            Self::Status { status, said, .. } => {
                let diagnostic = match said.is_empty() {
                    true => diagnostic,
                    false => diagnostic.note(format!("it said: {said}")),
                };
                match status {
                    401 | 403 => diagnostic
                        .hint("a registry's credentials are those of `docker login`, or ROLECAST_REMOTE_USER and ROLECAST_REMOTE_PASSWORD; a bucket's are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
                        .hint("a bucket answers 403 also for what is not there, where its keys may not list it (`s3:ListBucket`)"),
                    404 => diagnostic.hint("does the repository, bucket or directory exist?"),
                    405 | 501 => diagnostic.hint("this server takes no uploads: push to where it serves from"),
                    413 => diagnostic.hint("this server, or a proxy before it, takes no files of that size"),
                    _ => diagnostic.hint("try again later"),
                }
            }
            Self::Unreachable { .. } | Self::Cut { .. } => diagnostic.hint(
                "is the server up and the name right, and does the network need a proxy (`http_proxy`, `https_proxy`)?",
            ),
            Self::Source { .. } => diagnostic,
        }
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Nothing.
    Nothing,
    /// These bytes.
    Bytes(&'a [u8]),
    /// A file of so many bytes.
    File(&'a Path, u64),
}

impl Payload<'_> {
    fn length(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, length) => length,
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The method.
    pub method: Method,
    /// The URL, which may carry a signature.
    pub url: String,
    /// The URL as it may be shown.
    pub shown: String,
    /// Headers.
    pub headers: Vec<(header::HeaderName, String)>,
    /// Body.
    pub payload: Payload<'a>,
}

impl<'a> Ask<'a> {
    /// A request that is shown as it is, without headers and body.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        let url = url.into();
        Self { method, shown: url.clone(), url, headers: Vec::new(), payload: Payload::Nothing }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a body.
    #[must_use]
    pub fn payload(self, payload: Payload<'a>) -> Self {
        Self { payload, ..self }
    }

    /// Asks for what follows the first `from` bytes.
    #[must_use]
    pub fn after(self, from: u64) -> Self {
        if from == 0 { self } else { self.header(header::RANGE, format!("bytes={from}-")) }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    body: ureq::Body,
}

/// What comes as a body, read once.
pub type Body = Box<dyn Read + Send>;

impl Reply {
    /// A header's text.
    pub fn header(&self, name: &header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body.
    pub fn body(self) -> Body {
        Box::new(self.body.into_reader())
    }

    /// The body, where it follows the first `from` bytes of the whole: a server that knows no ranges sends all.
    pub fn body_after(self, from: u64) -> io::Result<Body> {
        let whole = self.status == 200;
        let mut body = self.body();
        if whole && from > 0 {
            io::copy(&mut (&mut body).take(from), &mut io::sink())?;
        }
        Ok(body)
    }
}

/// What went over the wire.
#[derive(Debug, Default)]
pub struct Counts {
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counts {
    /// Requests, bytes received as bodies, bytes sent as bodies.
    pub fn get(&self) -> (u64, u64, u64) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (get(&self.requests), get(&self.received), get(&self.sent))
    }

    fn receive(&self, length: usize) {
        self.received.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// The client. Connections are kept and shared by threads.
#[derive(Debug)]
pub struct Wire {
    agent: ureq::Agent,
    /// What went over it.
    pub counts: Counts,
}

impl Wire {
    /// A client. Proxies are taken from the environment.
    pub fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .user_agent(concat!("rolecast/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(REDIRECTS)
            // What a proxy or a registry's storage compresses would have other bytes.
            .accept_encoding("identity")
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(STALL))
            .timeout_per_write(Some(STALL))
            .max_idle_connections(2 * crate::store::CONNECTIONS)
            .max_idle_connections_per_host(crate::store::CONNECTIONS);
        Self { agent: config.build().new_agent(), counts: Counts::default() }
    }

    /// Asks, again where that may help. Any status that is no sign of passing trouble is an answer.
    ///
    /// # Errors
    /// When there is no answer, or only 5xx and the like.
    pub fn send(&self, ask: &Ask<'_>) -> Result<Reply, Trouble> {
        let mut wait = BACKOFF;
        for _ in 1..ATTEMPTS {
            match self.send_once(ask) {
                Ok(reply) if matches!(reply.status, 408 | 425 | 429 | 500 | 502..=599) => {}
                Err(Trouble::Unreachable { .. }) => {}
                outcome => return outcome,
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        self.send_once(ask)
    }

    fn send_once(&self, ask: &Ask<'_>) -> Result<Reply, Trouble> {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let unreachable = |reason: String| Trouble::Unreachable { url: ask.shown.clone(), reason };
        let mut builder = Request::builder().method(ask.method.clone()).uri(&ask.url);
        for (name, value) in &ask.headers {
            builder = builder.header(name, value);
        }
        let reply = match ask.payload {
            Payload::Nothing if ask.method == Method::POST || ask.method == Method::PUT => {
                self.agent.run(builder.body(&[] as &[u8]).map_err(|error| unreachable(error.to_string()))?)
            }
            Payload::Nothing => self.agent.run(builder.body(()).map_err(|error| unreachable(error.to_string()))?),
            Payload::Bytes(bytes) => {
                self.agent.run(builder.body(bytes).map_err(|error| unreachable(error.to_string()))?)
            }
            Payload::File(path, _) => {
                let file = File::open(path)
                    .map_err(|error| Trouble::Source { url: ask.shown.clone(), reason: error.to_string() })?;
                self.agent.run(builder.body(&file).map_err(|error| unreachable(error.to_string()))?)
            }
        };
        let (parts, body) = reply.map_err(|error| unreachable(told(&error)))?.into_parts();
        self.counts.sent.fetch_add(ask.payload.length(), Ordering::Relaxed);
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// The body of an answer, at most `limit` bytes.
    ///
    /// # Errors
    /// When it breaks, or is longer.
    pub fn read(&self, reply: Reply, ask: &Ask<'_>, limit: u64) -> Result<Vec<u8>, Trouble> {
        let unreachable = |reason: String| Trouble::Unreachable { url: ask.shown.clone(), reason };
        let mut bytes = Vec::new();
        reply.body().take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreachable(error.to_string()))?;
        self.counts.receive(bytes.len());
        match bytes.len() as u64 > limit {
            true => Err(unreachable(format!("it sends more than the {limit} bytes that it may have"))),
            false => Ok(bytes),
        }
    }

    /// What an answer that is of no use is told as.
    pub fn refusal(&self, reply: Reply, ask: &Ask<'_>) -> Trouble {
        let status = reply.status;
        let mut said = Vec::new();
        let _ = reply.body().take(SAID).read_to_end(&mut said);
        let said: String = String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ");
        let said = said.chars().filter(|one| !one.is_control()).take(300).collect();
        Trouble::Status { url: ask.shown.clone(), status, said }
    }
}

/// An error of the client without the URL, which may carry a signature.
fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "its URL is none".to_owned(),
        ureq::Error::Timeout(kind) => format!("timeout: {kind}"),
        other => other.to_string(),
    }
}

/// A body of known length that goes on where a broken connection stopped.
pub struct Stream<'a> {
    open: Box<dyn FnMut(u64) -> Result<Option<Body>, Trouble> + 'a>,
    body: Option<Body>,
    shown: String,
    length: u64,
    received: u64,
    attempts: u32,
    counts: &'a Counts,
    /// What ended it early, if anything did.
    pub trouble: Option<Trouble>,
    /// Whether there is no such thing.
    pub absent: bool,
}

impl<'a> Stream<'a> {
    /// `open` asks for what follows so many bytes of the `length` that there are.
    pub fn new(
        shown: String,
        length: u64,
        counts: &'a Counts,
        open: impl FnMut(u64) -> Result<Option<Body>, Trouble> + 'a,
    ) -> Self {
        let open = Box::new(open);
        Self { open, body: None, shown, length, received: 0, attempts: ATTEMPTS, counts, trouble: None, absent: false }
    }

    fn fail(&mut self, trouble: Trouble) -> io::Error {
        self.trouble = Some(trouble);
        io::Error::other("the transfer ended early")
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.absent || self.trouble.is_some() {
            return Err(io::Error::other("the transfer ended early"));
        }
        while self.received < self.length && !buffer.is_empty() {
            if self.body.is_none() {
                match (self.open)(self.received) {
                    Ok(Some(body)) => self.body = Some(body),
                    Ok(None) => {
                        self.absent = true;
                        return Err(io::Error::from(io::ErrorKind::NotFound));
                    }
                    Err(trouble) => return Err(self.fail(trouble)),
                }
            }
            let most = usize::try_from(self.length - self.received).unwrap_or(buffer.len()).min(buffer.len());
            let read = self.body.as_mut().map_or(Ok(0), |body| body.read(&mut buffer[..most]));
            match read {
                Ok(length) if length > 0 => {
                    self.received += length as u64;
                    self.counts.receive(length);
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    self.body = None;
                    self.attempts -= 1;
                    if self.attempts == 0 {
                        let (url, received, expected) = (self.shown.clone(), self.received, self.length);
                        return Err(self.fail(Trouble::Cut { url, received, expected }));
                    }
                    std::thread::sleep(BACKOFF);
                }
            }
        }
        Ok(0)
    }
}
