//! A small HTTP server on the loopback, with switchable misbehaviour: a mirror that fails in every way mirrors fail.
//!
//! It serves the files of one folder over HTTP/1.1, one request a connection, and takes them by PUT. It counts requests and remembers their
//! paths, so that a test can say what was fetched twice, or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How the server answers for a path.
#[derive(Clone, Debug)]
pub enum Manner {
    /// As it should.
    Honest,
    /// This status, with a short text.
    Status(u16),
    /// 200 and an HTML page, as a captive portal does.
    Html,
    /// The promised length, but the connection ends after so many bytes.
    Truncated(u64),
    /// The promised length with this byte changed.
    Flipped(u64),
    /// So many bytes a second.
    Slow(u64),
    /// 302 to this address.
    Redirect(String),
    /// The connection ends before an answer.
    Closed,
}

struct State {
    root: PathBuf,
    stopping: AtomicBool,
    manners: Mutex<Vec<(String, Manner)>>,
    requests: Mutex<Vec<String>>,
    /// Bytes of files that were promised, by path.
    promised: Mutex<BTreeMap<String, u64>>,
}

/// A running server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `root` on a free port of 127.0.0.1 of the calling thread's network namespace.
    pub fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            root: root.into(),
            stopping: AtomicBool::new(false),
            manners: Mutex::default(),
            requests: Mutex::default(),
            promised: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that goes away mid-answer is its own affair.
                std::thread::spawn(move || drop(answer(stream, &shared)));
            }
        });
        Self { address, state, acceptor: Some(acceptor) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on answers so for paths that contain `part`; the latest word on a path counts.
    pub fn behave(&self, part: &str, manner: Manner) {
        lock(&self.state.manners).push((part.to_owned(), manner));
    }

    /// Honest again, everywhere.
    pub fn forgive(&self) {
        lock(&self.state.manners).clear();
    }

    /// Paths asked for since the last call, in order.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.state.requests))
    }

    /// Bytes of files that answers promised since the last call, by path.
    pub fn take_promised(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *lock(&self.state.promised))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor. From another namespace this reaches nobody; the thread then ends with the tests.
        if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            let _ = acceptor.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or("/").to_owned());
    let mut range_of: Option<(u64, Option<u64>)> = None;
    let (mut sent, mut alone) = (0_u64, false);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let lower = header.to_ascii_lowercase();
        alone |= lower.starts_with("if-none-match: *");
        if let Some(length) = lower.strip_prefix("content-length:") {
            sent = length.trim().parse().unwrap_or(0);
        }
        if let Some(range) = lower.strip_prefix("range: bytes=") {
            let (first, last) = range.trim().split_once('-').unwrap_or_default();
            range_of = Some((first.parse().unwrap_or(0), last.parse().ok()));
        }
    }
    lock(&state.requests).push(target.clone());
    let manner = {
        let manners = lock(&state.manners);
        manners
            .iter()
            .rev()
            .find(|(part, _)| target.contains(part))
            .map_or(Manner::Honest, |(_, manner)| manner.clone())
    };
    let plain = |stream: &mut TcpStream, status: &str, more: &str, body: &str| {
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    match &manner {
        Manner::Closed => return Ok(()),
        Manner::Status(code) => return plain(&mut stream, &format!("{code} Refused"), "", "refused\n"),
        Manner::Redirect(to) => return plain(&mut stream, "302 Found", &format!("Location: {to}\r\n"), ""),
        Manner::Html => {
            let page = "<!DOCTYPE html><html><body>Please log in to use this network.</body></html>\n";
            return plain(&mut stream, "200 OK", "Content-Type: text/html\r\n", page);
        }
        _ => {}
    }
    let path = decoded(target.split('?').next().unwrap_or_default().trim_start_matches('/'));
    let file = state.root.join(&path);
    let inside = !Path::new(&path).components().any(|part| part.as_os_str() == "..");
    if method == "PUT" {
        if alone && file.exists() {
            return plain(&mut stream, "412 Precondition Failed", "", "");
        }
        // Whole or not at all, also when two come at once.
        let folder = file.parent().filter(|_| inside).ok_or(std::io::ErrorKind::InvalidInput)?;
        std::fs::create_dir_all(folder)?;
        let mut pending = tempfile::NamedTempFile::new_in(folder)?;
        if std::io::copy(&mut reader.take(sent), &mut pending)? == sent {
            pending.persist(&file)?;
        }
        return plain(&mut stream, "201 Created", "", "");
    }
    let (Ok(mut file), true) = (File::open(&file), inside && file.is_file()) else {
        return plain(&mut stream, "404 Not Found", "", "not found\n");
    };
    let whole = file.metadata()?.len();
    let (first, last) = range_of.unwrap_or_default();
    let start = first.min(whole);
    let end = last.map_or(whole, |last| last.saturating_add(1).clamp(start, whole));
    file.seek(SeekFrom::Start(start))?;
    let status = match range_of {
        Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{whole}", end.max(1) - 1),
        None => "200 OK".into(),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", end - start)?;
    if method == "HEAD" {
        return Ok(());
    }
    *lock(&state.promised).entry(target).or_default() += end - start;
    let mut file = file.take(end - start);
    match manner {
        Manner::Truncated(bytes) => drop(std::io::copy(&mut file.take(bytes), &mut stream)?),
        Manner::Flipped(position) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            if let Some(byte) = bytes.get_mut(position as usize) {
                *byte ^= 0x20;
            }
            stream.write_all(&bytes)?;
        }
        Manner::Slow(rate) => {
            let step = (rate / 10).max(1);
            while std::io::copy(&mut (&mut file).take(step), &mut stream)? > 0 {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        _ => drop(std::io::copy(&mut file, &mut stream)?),
    }
    stream.flush()
}

/// `text` with percent-encoded octets (RFC 3986, section 2.1) as they are.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(octet) => {
                bytes.push(octet);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => bytes.extend(format!("%{part}").bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
