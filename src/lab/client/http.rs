//! One HTTP/1.1 request on one connection, within a time that is kept to the millisecond.
//!
//! A measuring client must neither retry nor wait longer than it says, and must know in which part of a request the
//! time went; that is little enough to say here. The answer is bounded; nothing of it is trusted but status and body.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest answer that is read: 4 MiB, some hundred thousand row numbers.
const LONGEST: usize = 4 << 20;

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until the connection stands.
    pub connect: Duration,
    /// Until the last byte of the answer.
    pub total: Duration,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body, whole.
    pub body: Vec<u8>,
}

/// Asks `address` for `path` on a new connection: GET without a body, POST of JSON with one.
///
/// # Errors
/// One short sentence: in which part it failed, and why.
pub fn ask(address: SocketAddr, path: &str, body: Option<&str>, limits: Limits) -> Result<Answer, String> {
    let end = Instant::now() + limits.total;
    let connect = limits.connect.min(limits.total);
    let mut stream = TcpStream::connect_timeout(&address, connect).map_err(|error| match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => format!("no connection within {} ms", connect.as_millis()),
        _ => format!("no connection: {}", plain(&error)),
    })?;
    let fail = |doing: &str, error: &std::io::Error| match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => format!("no answer within {} ms", limits.total.as_millis()),
        _ => format!("cut off while {doing}: {}", plain(error)),
    };
    // A small request that waits for an acknowledgement (Nagle) would measure TCP.
    let _ = stream.set_nodelay(true);
    wait_until(&stream, end).map_err(|error| fail("sending", &error))?;
    stream.write_all(request(address, path, body).as_bytes()).map_err(|error| fail("sending", &error))?;
    let mut received = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(answer) = parse(&received, false)? {
            return Ok(answer);
        }
        wait_until(&stream, end).map_err(|error| fail("reading", &error))?;
        match stream.read(&mut buffer).map_err(|error| fail("reading", &error))? {
            0 => return parse(&received, true)?.ok_or_else(|| "cut off: the answer is not whole".to_owned()),
            count => received.extend_from_slice(&buffer[..count]),
        }
        if received.len() > LONGEST {
            return Err(format!("the answer is longer than {LONGEST} bytes"));
        }
    }
}

fn request(address: SocketAddr, path: &str, body: Option<&str>) -> String {
    let head = format!("{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", address.ip());
    match body {
        None => format!("GET {head}\r\n"),
        Some(body) => {
            format!("POST {head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        }
    }
}

/// Gives the stream the time that is left.
fn wait_until(stream: &TcpStream, end: Instant) -> std::io::Result<()> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}

/// The answer in `received` when it is whole; `ended` says that no more will come.
fn parse(received: &[u8], ended: bool) -> Result<Option<Answer>, String> {
    let Some(head_end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&received[..head_end]);
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| "the answer is no HTTP".to_owned())?;
    let header = |name: &str| {
        let mut fields = lines.clone().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let rest = &received[head_end + 4..];
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Ok(chunks(rest)?.map(|body| Answer { status, body }));
    }
    match header("content-length").map(|value| value.parse::<usize>()) {
        Some(Ok(length)) if rest.len() >= length => Ok(Some(Answer { status, body: rest[..length].to_vec() })),
        Some(Ok(_)) => Ok(None),
        Some(Err(_)) => Err("the answer's length is no number".to_owned()),
        None => Ok(ended.then(|| Answer { status, body: rest.to_vec() })),
    }
}

/// A chunked body (RFC 9112, section 7.1) when it is whole.
fn chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let size = String::from_utf8_lossy(&rest[..end]);
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.ok().filter(|size| *size <= LONGEST).ok_or_else(|| "a chunk's size is wrong".to_owned())?;
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else { return Ok(None) };
        let Some(after) = rest.get(end + 4 + size..) else { return Ok(None) };
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(chunk);
        rest = after;
    }
}

/// The kernel's message without Rust's `(os error 111)`.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const LIMITS: Limits = Limits { connect: Duration::from_millis(300), total: Duration::from_millis(400) };

    /// A server that reads a request's head and answers with `pieces`, then waits `linger` before it hangs up.
    fn server(pieces: &'static [&'static str], linger: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).unwrap();
            for piece in pieces {
                let _ = stream.write_all(piece.as_bytes());
                let _ = stream.flush();
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(linger);
        });
        address
    }

    #[test]
    fn answers_come_whole_in_every_form() {
        let cases: [(&[&str], u16, &str); 4] = [
            (&["HTTP/1.1 201 Created\r\nContent-Length: 7\r\n\r\n{\"n\"", ":1}"], 201, "{\"n\":1}"),
            (&["HTTP/1.1 200 OK\r\n", "\r\nuntil the end"], 200, "until the end"),
            (
                &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc", "\r\n2;x\r\nde\r\n0\r\n\r\n"],
                200,
                "abcde",
            ),
            (&["HTTP/1.0 503 Service Unavailable\r\ncontent-length:0\r\n\r\n"], 503, ""),
        ];
        for (pieces, status, body) in cases {
            let answer = ask(server(pieces, Duration::ZERO), "/x", None, LIMITS).unwrap();
            assert_eq!(answer, Answer { status, body: body.as_bytes().to_vec() });
        }
    }

    #[test]
    fn every_way_to_fail_is_told_apart() {
        let silent = server(&[], Duration::from_secs(1));
        let half = server(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"], Duration::ZERO);
        let wrong = server(&["SSH-2.0-x\r\n\r\n\r\n"], Duration::ZERO);
        let endless = server(&["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\n"], Duration::ZERO);
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (address, why) in [
            (silent, "no answer within 400 ms"),
            (half, "cut off"),
            (wrong, "the answer is no HTTP"),
            (endless, "a chunk's size is wrong"),
            (closed, "no connection: connection refused"),
        ] {
            let failure = ask(address, "/x", Some("{}"), LIMITS).unwrap_err();
            assert!(failure.contains(why), "`{why}` is not in `{failure}`");
        }
    }

    #[test]
    fn the_limit_holds_however_the_answer_drips() {
        let drip: &[&str] = &["H", "T", "T", "P", "/", "1", ".", "1", " ", "2"];
        let begin = Instant::now();
        let address = server(drip, Duration::from_secs(5));
        assert!(ask(address, "/x", None, LIMITS).is_err());
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
}
