//! What machines tell each other before there is an etcd to ask: whether they were ever members, and what they run.
//!
//! A small listener on [`PORT`], over mutual TLS by the node's certificate, that answers one question out of the record,
//! the ticket and the data directories; and the asking of all peers at once. One connection at a time, each with little
//! time and little room: it cannot be made to hold this machine up. Nothing that it says is secret.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, Stream};

use super::database::is_empty;
use super::etcd::{self, Endpoint};
use super::http::{self, Http};
use super::region::{Loops, foreign};
use crate::join::tables::patience;
use crate::join::world::{Answer, EtcdRecord, Namesake, Peer, Record, Says, Trouble};
use crate::ticket::{Kind, Node, Ticket};

/// Where the join listens.
pub const PORT: u16 = 2381;

/// The longest request that is read.
const LONGEST: usize = 4096;

/// How long a peer has for its question.
const PATIENCE: Duration = Duration::from_secs(2);

/// What does not change while a ticket is in force.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Where to listen.
    pub address: Ipv4Addr,
    /// The generation of the accepted ticket.
    pub generation: u64,
    /// The version of the image.
    pub version: String,
    /// The data directory of PostgreSQL; none on a machine without.
    pub database: Option<PathBuf>,
}

/// What changes while a ticket is in force.
#[derive(Clone, Debug, Default)]
struct Told {
    record: Record,
    racks: BTreeMap<String, Vec<Ipv4Addr>>,
}

/// This machine's voice; silent again when it is dropped.
#[derive(Debug)]
pub struct Voice {
    told: Arc<Mutex<Told>>,
    over: Arc<AtomicBool>,
    place: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Voice {
    /// Listens from now on.
    ///
    /// # Errors
    /// When certificate and key are not there yet, or the port cannot be had.
    pub fn raise(profile: Profile, record: Record) -> Result<Self, Trouble> {
        let config = http::server()?;
        let place = SocketAddr::from((profile.address, PORT));
        let listener =
            TcpListener::bind(place).map_err(|error| Trouble(format!("cannot listen on {place}: {error}")))?;
        let told = Arc::new(Mutex::new(Told { record, racks: BTreeMap::new() }));
        let over = Arc::new(AtomicBool::new(false));
        let (tell, ends) = (Arc::clone(&told), Arc::clone(&over));
        let thread = thread::Builder::new()
            .name("peers".to_owned())
            .stack_size(256 << 10)
            .spawn(move || {
                listen(&listener, &config, &ends, || profile.says(&tell));
            })
            .map_err(|error| Trouble(format!("cannot start a thread: {error}")))?;
        Ok(Self { told, over, place, thread: Some(thread) })
    }

    /// Speaks of this record from now on.
    pub fn say(&self, record: &Record) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).record.clone_from(record);
    }

    /// Knows these racks from now on.
    pub fn knows(&self, racks: &BTreeMap<String, Vec<Ipv4Addr>>) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).racks.clone_from(racks);
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread; it then sees that it is over.
        let woken = TcpStream::connect_timeout(&self.place, PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

impl Profile {
    /// A record comes before its deed, so what is said is never less than what was done.
    fn says(&self, told: &Mutex<Told>) -> Says {
        let Told { record, racks } = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Says {
            etcd: record.etcd,
            etcd_data: etcd::has_data(),
            // What cannot be read may be a database.
            database: self.database.as_ref().is_some_and(|directory| !is_empty(directory).unwrap_or(false)),
            generation: self.generation,
            secrets_generation: record.secrets_generation,
            version: self.version.clone(),
            racks,
        }
    }
}

fn listen(listener: &TcpListener, config: &Arc<ServerConfig>, over: &AtomicBool, says: impl Fn() -> Says) {
    loop {
        let accepted = listener.accept();
        if over.load(Ordering::Relaxed) {
            return;
        }
        match accepted {
            // What a peer does wrong is its own affair.
            Ok((stream, _)) => drop(answer(stream, config, &says)),
            // Out of descriptors, perhaps; not worth a busy loop.
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn answer(stream: TcpStream, config: &Arc<ServerConfig>, says: &dyn Fn() -> Says) -> io::Result<()> {
    let mut stream = Hurried { stream, until: Instant::now() + PATIENCE * patience() };
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
    stream.write_all(response(&request, says).as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Whether a request's head is complete.
pub(super) fn ended(request: &[u8]) -> bool {
    request.windows(4).any(|window| window == b"\r\n\r\n")
}

pub(super) fn response(request: &[u8], says: &dyn Fn() -> Says) -> String {
    let (status, body) = match request.starts_with(b"GET /says HTTP/1.") {
        // A value of plain fields always serializes.
        true => ("200 OK", serde_json::to_string(&says()).unwrap_or_default()),
        false => ("404 Not Found", String::new()),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
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

/// [`crate::join::world::Question::Peers`]: all other voters and regions, asked at once.
pub fn look(mutual: &Http, plain: &Http, ticket: &Ticket) -> Vec<Peer> {
    let peers = ticket.cluster.nodes.iter().filter(|node| node.name != ticket.node);
    let peers = peers.filter(|node| node.voter || node.kind == Kind::Region);
    thread::scope(|scope| {
        let asked: Vec<_> = peers.map(|node| (node, scope.spawn(|| ask(mutual, plain, node)))).collect();
        let told = asked.into_iter().map(|(node, thread)| {
            thread.join().unwrap_or_else(|_| Peer {
                name: node.name.clone(),
                answer: Answer::Nothing("it could not be asked".to_owned()),
                says: None,
                serves: false,
            })
        });
        told.collect()
    })
}

/// The three questions to a machine at once: one that is off is silent to each.
fn ask(mutual: &Http, plain: &Http, node: &Node) -> Peer {
    let (says, members, serves) = thread::scope(|scope| {
        let members = node.voter.then(|| scope.spawn(|| Endpoint::at(mutual, node.address).members().ok()));
        let serves = (node.kind == Kind::Region).then(|| scope.spawn(|| serves(plain, node.address)));
        let says = said(mutual, node.address);
        let members = members.and_then(|thread| thread.join().ok()?);
        (says, members, serves.is_some_and(|thread| thread.join().unwrap_or(false)))
    });
    let answer = match (members, &says) {
        (Some(members), _) => Answer::Quorum(members),
        (None, Ok(says)) if says.etcd == EtcdRecord::Never && !says.etcd_data => Answer::NeverMember,
        (None, Ok(_)) => Answer::NoQuorum,
        (None, Err(Trouble(why))) => Answer::Nothing(why.clone()),
    };
    Peer { name: node.name.clone(), answer, says: says.ok(), serves }
}

/// Whether MAAS's API answers at an address, with event loops.
fn serves(plain: &Http, address: Ipv4Addr) -> bool {
    Loops::ask(plain, &format!("http://{address}:5240")).is_ok_and(|loops| !loops.endpoints().is_empty())
}

/// Whether the join of the machine at an address answers: nobody else has a certificate for it.
pub fn lives(mutual: &Http, address: Ipv4Addr) -> bool {
    mutual.get(&format!("https://{address}:{PORT}/says"), &[], PATIENCE).is_ok()
}

/// [`crate::join::world::Question::Name`]: a machine elsewhere that any region knows by this machine's name, and that
/// lives. Where no region answers, none is known.
pub fn namesake(mutual: &Http, ticket: &Ticket) -> Namesake {
    let regions: Vec<&Node> = ticket.cluster.regions().collect();
    let told: Vec<Says> = thread::scope(|scope| {
        let asked: Vec<_> = regions.iter().map(|node| scope.spawn(|| said(mutual, node.address))).collect();
        asked.into_iter().filter_map(|thread| thread.join().ok()?.ok()).collect()
    });
    let others = told.iter().filter_map(|says| foreign(says.racks.get(&ticket.node)?, ticket));
    Namesake(others.into_iter().find(|address| lives(mutual, *address)))
}

/// What the join of the machine at an address says.
fn said(mutual: &Http, address: Ipv4Addr) -> Result<Says, Trouble> {
    let reply = mutual.get(&format!("https://{address}:{PORT}/says"), &[], PATIENCE)?;
    understood(&reply.good("its join")?)
}

pub(super) fn understood(body: &[u8]) -> Result<Says, Trouble> {
    http::object(body, "its join's")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile { address: Ipv4Addr::LOCALHOST, generation: 3, version: "1".into(), database: None }
    }

    #[test]
    fn the_one_question_is_answered() {
        let says = || profile().says(&Mutex::new(Told::default()));
        let head = b"GET /says HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(ended(head) && !ended(b"GET /says HTTP/1.1\r\n"));
        let response_to = |request: &[u8]| response(request, &says);
        let body = response_to(head).split_once("\r\n\r\n").unwrap().1.to_owned();
        assert_eq!(understood(body.as_bytes()), Ok(says()));
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"POST /says HTTP/1.1\r\n\r\n", b"\xff\r\n\r\n", b""] {
            assert!(response_to(other).starts_with("HTTP/1.1 404 "));
        }
    }

    #[test]
    fn what_is_no_answer_is_not_understood() {
        for other in [&b"{}"[..], br#"{"etcd":"perhaps"}"#, b"", b"\0", b"[[[["] {
            assert!(understood(other).is_err());
        }
    }

    #[test]
    fn a_database_that_may_be_there_is_said_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let says = |database: PathBuf| {
            Profile { database: Some(database), ..profile() }.says(&Mutex::new(Told::default())).database
        };
        assert!(!says(directory.path().join("missing")));
        assert!(!says(directory.path().to_owned()));
        std::fs::write(directory.path().join("file"), "").unwrap();
        assert!(says(directory.path().to_owned()));
        // No directory at all: something that is in the way.
        assert!(says(directory.path().join("file")));
    }
}
