//! What voters of etcd tell each other before there is an etcd to ask: whether they have ever been members.
//!
//! A small listener on [`PORT`], over mutual TLS by the node's certificate, that answers one question out of the record
//! and the data directory; and the asking of all other voters at once. One connection at a time, each with little time and
//! little room: it cannot be made to hold this machine up.

use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, Stream};
use serde::{Deserialize, Serialize};

use super::etcd::{self, Endpoint};
use super::http::{self, Http};
use crate::join::world::{Answer, EtcdRecord, Trouble, Voter};
use crate::ticket::{Node, Ticket};

/// Where a voter's join listens.
pub const PORT: u16 = 2381;

/// The longest request that is read.
const LONGEST: usize = 4096;

/// How long a peer has for its question.
const PATIENCE: Duration = Duration::from_secs(2);

/// The answer's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Statement {
    etcd: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Standing {
    /// No record of a membership and no data.
    Never,
    /// It is one, was one, or has begun to become one.
    Member,
}

/// This machine's voice: what it says, and where.
#[derive(Clone, Debug)]
pub struct Voice {
    record: Arc<Mutex<EtcdRecord>>,
}

impl Voice {
    /// Listens on `address` from now on.
    ///
    /// # Errors
    /// When certificate and key are not there yet, or the port cannot be had.
    pub fn raise(address: Ipv4Addr, record: EtcdRecord) -> Result<Self, Trouble> {
        let config = http::server()?;
        let listener = TcpListener::bind(SocketAddr::from((address, PORT)))
            .map_err(|error| Trouble(format!("cannot listen on {address}:{PORT}: {error}")))?;
        let voice = Self { record: Arc::new(Mutex::new(record)) };
        let record = Arc::clone(&voice.record);
        thread::Builder::new()
            .name("voters".to_owned())
            .stack_size(256 << 10)
            .spawn(move || listen(&listener, &config, &record))
            .map_err(|error| Trouble(format!("cannot start a thread: {error}")))?;
        Ok(voice)
    }

    /// What it says of the record from now on.
    pub fn say(&self, record: EtcdRecord) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = record;
    }
}

fn listen(listener: &TcpListener, config: &Arc<ServerConfig>, record: &Mutex<EtcdRecord>) {
    loop {
        match listener.accept() {
            // What a peer does wrong is its own affair.
            Ok((stream, _)) => drop(answer(stream, config, || standing(record))),
            // Out of descriptors, perhaps; not worth a busy loop.
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// A member from the moment that it is written down that it will be one: the record comes before the deed.
fn standing(record: &Mutex<EtcdRecord>) -> Standing {
    let record = *record.lock().unwrap_or_else(PoisonError::into_inner);
    match record == EtcdRecord::Never && !etcd::has_data() {
        true => Standing::Never,
        false => Standing::Member,
    }
}

fn answer(stream: TcpStream, config: &Arc<ServerConfig>, standing: impl Fn() -> Standing) -> io::Result<()> {
    let mut stream = Hurried { stream, until: Instant::now() + PATIENCE };
    let mut connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = Stream::new(&mut connection, &mut stream);
    let mut request = Vec::new();
    let mut buffer = [0; 512];
    while !ended(&request) {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&buffer[..count]),
        }
        if request.len() > LONGEST {
            return Ok(());
        }
    }
    stream.write_all(response(&request, standing).as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Whether a request's head is complete.
fn ended(request: &[u8]) -> bool {
    request.windows(4).any(|window| window == b"\r\n\r\n")
}

fn response(request: &[u8], standing: impl Fn() -> Standing) -> String {
    let (status, body) = match request.starts_with(b"GET /voter HTTP/1.") {
        // A value of plain fields always serializes.
        true => ("200 OK", serde_json::to_string(&Statement { etcd: standing() }).unwrap_or_default()),
        false => ("404 Not Found", String::new()),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// A stream whose every operation ends when its time is over, however slowly the peer goes about it.
struct Hurried {
    stream: TcpStream,
    until: Instant,
}

impl Hurried {
    fn left(&self) -> io::Result<Duration> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

impl Read for Hurried {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl io::Write for Hurried {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// [`crate::join::world::Question::Voters`]: all other voters, asked at once.
pub fn look(http: &Http, ticket: &Ticket) -> Vec<Voter> {
    let others = || ticket.cluster.voters().filter(|node| node.name != ticket.node);
    thread::scope(|scope| {
        let asked: Vec<_> = others().map(|node| (node, scope.spawn(|| ask(http, node)))).collect();
        let told = asked.into_iter().map(|(node, thread)| {
            let answer = thread.join().unwrap_or_else(|_| Answer::Nothing("it could not be asked".to_owned()));
            Voter { name: node.name.clone(), answer }
        });
        told.collect()
    })
}

fn ask(http: &Http, node: &Node) -> Answer {
    if let Ok(members) = Endpoint::at(http, node.address).members() {
        return Answer::Quorum(members);
    }
    let url = format!("https://{}:{PORT}/voter", node.address);
    let told = http.get(&url, &[], PATIENCE).and_then(|reply| reply.good("its join"));
    told.and_then(|body| understood(&body)).unwrap_or_else(|Trouble(why)| Answer::Nothing(why))
}

fn understood(body: &[u8]) -> Result<Answer, Trouble> {
    let statement: Statement = serde_json::from_slice(body)
        .map_err(|error| Trouble(format!("its join's answer is not understood: {error}")))?;
    Ok(match statement.etcd {
        Standing::Never => Answer::NeverMember,
        Standing::Member => Answer::NoQuorum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_question_is_answered() {
        let head = "GET /voter HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(ended(head.as_bytes()) && !ended(b"GET /voter HTTP/1.1\r\n"));
        assert!(response(head.as_bytes(), || Standing::Never).ends_with("\r\n\r\n{\"etcd\":\"never\"}"));
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"POST /voter HTTP/1.1\r\n\r\n", b"\xff\r\n\r\n", b""] {
            assert!(response(other, || Standing::Never).starts_with("HTTP/1.1 404 "));
        }
    }

    #[test]
    fn a_statement_is_understood_and_nothing_else_is() {
        assert_eq!(understood(b"{\"etcd\":\"never\"}"), Ok(Answer::NeverMember));
        assert_eq!(understood(b"{\"etcd\":\"member\"}"), Ok(Answer::NoQuorum));
        for other in [&b"{}"[..], b"{\"etcd\":\"perhaps\"}", b"", b"\0"] {
            assert!(understood(other).is_err());
        }
    }

    #[test]
    fn who_has_begun_says_so() {
        let begun = [EtcdRecord::Bootstrapping, EtcdRecord::Adding, EtcdRecord::Member];
        assert!(begun.into_iter().all(|record| standing(&Mutex::new(record)) == Standing::Member));
    }
}
