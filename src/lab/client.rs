//! The clients that watch from outside: for a whole scenario they commit numbered rows and read, through the virtual
//! address, and write down what they saw.
//!
//! At a steady pace, ten times a second on containers, a client sends one write and one read, each on a connection of its
//! own and in a thread of its own. A new connection, because that is what a failover breaks and heals: one that is kept
//! would measure how long TCP holds on to a dead peer. A thread of its own, because a client that waits for its last answer before it asks
//! again would look away for seconds at the very moment that matters. Never decides what is good; scenarios do.

pub mod http;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::timeline::{Recorder, Request, RequestKind};

use http::{Limits, ask};

/// How often a client asks, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two writes, and between two reads.
    pub period: Duration,
    /// How long a request may take.
    pub limits: Limits,
    /// How long nothing may fail before all is well.
    pub settled: Duration,
}

impl Pace {
    /// Ten times a second; a person would have reloaded the page after three seconds.
    pub const BRISK: Self = Self {
        period: Duration::from_millis(100),
        limits: Limits { connect: Duration::from_secs(1), total: Duration::from_secs(3) },
        settled: Duration::from_secs(2),
    };

    /// For emulated machines, where one answer takes more than a tenth of a second of a processor: ten of them a second
    /// are an overload, and nothing else would be measured.
    pub const EMULATED: Self = Self {
        period: Duration::from_secs(2),
        limits: Limits { connect: Duration::from_secs(5), total: Duration::from_secs(15) },
        settled: Duration::from_secs(20),
    };
}

/// Where rows are committed and listed.
const ROWS: &str = "/MAAS/stub/rows/";

/// What is read: anonymous, and answered out of the database from MAAS 3 on.
const VERSION: &str = "/MAAS/api/2.0/version/";

/// Runs a closure in the place from which a client asks: its network namespace.
pub type Enter = Arc<dyn Fn(Box<dyn FnOnce() + Send>) -> Result<(), String> + Send + Sync>;

/// A client that asks until it is stopped.
pub struct Client {
    name: String,
    index: usize,
    target: SocketAddr,
    enter: Enter,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Rows, by number, that a client was told of against those that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// How many were acknowledged.
    pub acknowledged: usize,
    /// Acknowledged and gone.
    pub lost: Vec<u64>,
    /// There although the client was told of a failure: allowed, a commit whose answer was lost.
    pub unconfirmed: usize,
}

impl Rows {
    /// Compares.
    pub fn compare(acknowledged: &BTreeSet<u64>, present: &BTreeSet<u64>) -> Self {
        Self {
            acknowledged: acknowledged.len(),
            lost: acknowledged.difference(present).copied().collect(),
            unconfirmed: present.difference(acknowledged).count(),
        }
    }
}

impl Client {
    /// Starts asking `target` from where `enter` leads. Row numbers count up from 1.
    pub fn start(name: &str, target: SocketAddr, pace: Pace, enter: Enter, recorder: &Recorder) -> Self {
        let index = recorder.client(name);
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Rounds {
            client: index,
            name: name.to_owned(),
            target,
            pace,
            recorder: recorder.clone(),
            stop: Arc::clone(&stop),
            next: Arc::new(AtomicU64::new(1)),
        };
        let inside = Arc::clone(&enter);
        let thread = std::thread::spawn(move || inside(Box::new(move || rounds.run())));
        Self { name: name.to_owned(), index, target, enter, stop, thread: Some(thread) }
    }

    /// Its index in the recording.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its name, which its rows carry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stops asking, and waits for the requests that are under way.
    ///
    /// # Errors
    /// When it could not ask at all: there is no such namespace.
    pub fn stop(&mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(format!("client {} ended by a bug of rolecast", self.name)),
            None => Ok(()),
        }
    }

    /// The numbers of its rows as the API gives them now, asked from where the client stands.
    ///
    /// # Errors
    /// When the API does not answer.
    pub fn present(&self) -> Result<BTreeSet<u64>, String> {
        let (target, path) = (self.target, format!("{ROWS}?client={}", self.name));
        let (sender, receiver) = std::sync::mpsc::channel();
        let patient = Limits { connect: Duration::from_secs(2), total: Duration::from_secs(20) };
        let ask = move || {
            let _ = sender.send(ask(target, &path, None, patient));
        };
        let enter = Arc::clone(&self.enter);
        std::thread::spawn(move || enter(Box::new(ask)))
            .join()
            .map_err(|_| format!("client {} ended by a bug of rolecast", self.name))??;
        let answer = receiver.recv().map_err(|_| "no answer".to_owned())??;
        match answer.status {
            200 => numbers(&answer.body),
            status => Err(format!("the API answers {status} when asked for the rows")),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // What it could not do was told by `stop`, or nobody asks any more.
        let _ = self.stop();
    }
}

/// More rows than any client writes: an answer that claims more is wrong.
const MOST_ROWS: u64 = 10_000_000;

/// Row numbers in an answer: `{"ranges": [[1, 7], [9, 9]]}`, first and last of each range included.
fn numbers(body: &[u8]) -> Result<BTreeSet<u64>, String> {
    #[derive(serde::Deserialize)]
    struct Rows {
        ranges: Vec<(u64, u64)>,
    }
    let rows: Rows = serde_json::from_slice(body).map_err(|error| format!("no list of rows: {error}"))?;
    let count = rows.ranges.iter().fold(0_u64, |sum, (first, last)| sum.saturating_add(last.saturating_sub(*first)));
    if count > MOST_ROWS {
        return Err(format!("more than {MOST_ROWS} rows"));
    }
    Ok(rows.ranges.into_iter().flat_map(|(first, last)| first..=last).collect())
}

/// What the sending thread has.
struct Rounds {
    client: usize,
    name: String,
    target: SocketAddr,
    pace: Pace,
    recorder: Recorder,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
}

impl Rounds {
    fn run(&self) {
        let mut open: Vec<JoinHandle<()>> = Vec::new();
        let mut due = Instant::now();
        let mut writes = true;
        while !self.stop.load(Ordering::Relaxed) {
            let kind =
                if writes { RequestKind::Write(self.next.fetch_add(1, Ordering::Relaxed)) } else { RequestKind::Read };
            // A thread inherits its parent's network namespace.
            open.push(self.send(kind));
            open.retain(|thread| !thread.is_finished());
            writes = !writes;
            due += self.pace.period / 2;
            // On a machine that was stopped for a while, go on from now instead of sending all that was missed.
            let now = Instant::now();
            due = due.max(now.checked_sub(self.pace.period).unwrap_or(now));
            std::thread::sleep(due.saturating_duration_since(now));
        }
        for thread in open {
            let _ = thread.join();
        }
    }

    fn send(&self, kind: RequestKind) -> JoinHandle<()> {
        let (client, target, limits) = (self.client, self.target, self.pace.limits);
        let (recorder, name) = (self.recorder.clone(), self.name.clone());
        std::thread::spawn(move || {
            let sent = recorder.now();
            let failure = once(kind, target, &name, limits).err();
            recorder.request(Request { client, kind, sent, ended: recorder.now(), failure });
        })
    }
}

/// One request; only the right answer is a success.
fn once(kind: RequestKind, target: SocketAddr, name: &str, limits: Limits) -> Result<(), String> {
    let (answer, expected) = match kind {
        RequestKind::Read => (ask(target, VERSION, None, limits)?, 200),
        RequestKind::Write(number) => {
            let body = serde_json::json!({ "n": number, "client": name }).to_string();
            (ask(target, ROWS, Some(&body), limits)?, 201)
        }
    };
    if answer.status != expected {
        return Err(format!("answered {}", answer.status));
    }
    match kind {
        RequestKind::Read => Ok(()),
        RequestKind::Write(number) => {
            let told: Option<u64> =
                serde_json::from_slice::<serde_json::Value>(&answer.body).ok().and_then(|body| body["n"].as_u64());
            if told == Some(number) { Ok(()) } else { Err("acknowledged another row".to_owned()) }
        }
    }
}

#[cfg(test)]
mod tests;
