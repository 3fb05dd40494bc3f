//! An HTTP server on the loopback interface that answers as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::archive::url;

/// How a path is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With these bytes; ranges are honoured.
    File(Vec<u8>),
    /// With these bytes whole, whatever range is asked for.
    WholeFile(Vec<u8>),
    /// With a status and no body.
    Status(u16),
    /// With an HTML page.
    Page,
    /// With a redirect to this path.
    Redirect(String),
    /// With zeros without end, and no length told.
    Endless,
    /// With the file, but each connection breaks after so many bytes.
    Breaking(Vec<u8>, usize),
    /// With the file's first bytes, and then silence.
    Stalling(Vec<u8>, usize),
    /// With the file, a byte now and then.
    Dripping(Vec<u8>),
}

/// The server; ends when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, Answer>>,
    /// Paths in the order of the requests.
    requests: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Server {
    /// Serves `files`, by path without a leading `/`.
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Self { address: listener.local_addr().unwrap(), shared: Arc::default() };
        for (path, bytes) in files {
            server.answer(&path, Answer::File(bytes));
        }
        let shared = server.shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.ended.load(Ordering::SeqCst) {
                    break;
                }
                let shared = shared.clone();
                // A client that goes away is what some tests are about.
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        server
    }

    /// Answers `path` like this from now on.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// The URL of the root, without a trailing `/`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Paths asked for since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.requests.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let mut range = None;
        for header in lines {
            let header = header?.to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some((first, last)) = header.strip_prefix("range: bytes=").and_then(|range| range.split_once('-')) {
                range = first.parse().ok().map(|first: usize| (first, last.parse().ok()));
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        let path = String::from_utf8_lossy(&url::decode(path)).into_owned();
        self.requests.lock().unwrap().push(path.clone());
        let answer = self.answers.lock().unwrap().get(&path).cloned();
        let mut head =
            |status: &str, headers: &str| write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
        match answer.unwrap_or(Answer::Status(404)) {
            Answer::Status(status) => head(&format!("{status} x"), "Content-Length: 0\r\n"),
            Answer::Redirect(path) => head("302 Found", &format!("Location: /{path}\r\nContent-Length: 0\r\n")),
            Answer::Page => {
                head("200 OK", "Content-Type: text/html; charset=utf-8\r\nContent-Length: 13\r\n")?;
                stream.write_all(b"<html></html>")
            }
            Answer::WholeFile(bytes) => {
                head("200 OK", &format!("Content-Length: {}\r\n", bytes.len()))?;
                stream.write_all(&bytes)
            }
            Answer::File(bytes) => self.part(&mut stream, &bytes, range, usize::MAX),
            Answer::Breaking(bytes, length) => self.part(&mut stream, &bytes, range, length),
            Answer::Stalling(bytes, length) => {
                self.part(&mut stream, &bytes, range, length)?;
                self.wait(Duration::from_secs(20));
                Ok(())
            }
            Answer::Endless => {
                head("200 OK", "")?;
                while !self.ended.load(Ordering::SeqCst) {
                    stream.write_all(&[0; 4096])?;
                }
                Ok(())
            }
            Answer::Dripping(bytes) => {
                head("200 OK", &format!("Content-Length: {}\r\n", bytes.len()))?;
                for byte in bytes {
                    stream.write_all(&[byte])?;
                    self.wait(Duration::from_millis(60));
                }
                Ok(())
            }
        }
    }

    /// The file's bytes from the first to the last of `range`, at most `length` of them, although the headers promise all.
    fn part(
        &self,
        stream: &mut TcpStream,
        bytes: &[u8],
        range: Option<(usize, Option<usize>)>,
        length: usize,
    ) -> std::io::Result<()> {
        let (first, last) = range.unwrap_or_default();
        let from = first.min(bytes.len());
        let end = last.map_or(bytes.len(), |last| (last + 1).clamp(from, bytes.len()));
        let rest = &bytes[from..end];
        let (status, range) = match range {
            Some(_) => {
                ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{}\r\n", end.max(1) - 1, bytes.len()))
            }
            None => ("200 OK", String::new()),
        };
        let length = length.min(rest.len());
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{range}Content-Length: {}\r\n\r\n", rest.len())?;
        stream.write_all(&rest[..length])?;
        stream.flush()
    }

    fn wait(&self, most: Duration) {
        let step = Duration::from_millis(20);
        for _ in 0..most.as_millis() / step.as_millis() {
            if self.ended.load(Ordering::SeqCst) {
                break;
            }
            std::thread::sleep(step);
        }
    }
}
