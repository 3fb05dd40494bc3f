//! One request and its answer, as far as `systemd-pull` speaks HTTP (RFC 9112): `GET` of a file, and its bytes until the
//! connection ends.

use std::io::{self, BufReader, Read, Write};

/// Longest request, in bytes.
const LONGEST: usize = 8 << 10;

/// Longest name of a file.
const LONGEST_NAME: usize = 255;

/// Reads a request: the name that is asked for, or the status that refuses it.
pub fn read(input: &mut dyn Read) -> io::Result<Result<String, u16>> {
    let mut head = Vec::new();
    let mut bytes = BufReader::new(input.take(LONGEST as u64)).bytes();
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        match bytes.next() {
            Some(byte) => head.push(byte?),
            None => return Ok(Err(400)),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let words: Vec<&str> = head.lines().next().unwrap_or_default().split(' ').collect();
    Ok(match words.as_slice() {
        ["GET", path, version] if version.starts_with("HTTP/1.") => name(path).map(str::to_owned).ok_or(404),
        [_, _, version] if version.starts_with("HTTP/1.") => Err(405),
        _ => Err(400),
    })
}

/// A name in the folder, none of whose characters means anything in a URL.
fn name(path: &str) -> Option<&str> {
    let name = path.strip_prefix('/')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+".contains(&byte);
    (name.len() <= LONGEST_NAME && !name.starts_with('.') && !name.is_empty() && name.bytes().all(plain))
        .then_some(name)
}

/// An answer; good as soon as a byte of it is written.
pub struct Answer<'a> {
    output: &'a mut dyn Write,
    begun: bool,
    broken: bool,
}

impl<'a> Answer<'a> {
    /// Nothing is answered yet.
    pub fn new(output: &'a mut dyn Write) -> Self {
        Self { output, begun: false, broken: false }
    }

    /// Whether the one who asked has gone away.
    pub fn broken(&self) -> bool {
        self.broken
    }

    /// Answers with a status, unless bytes were sent: then the end of the connection tells.
    pub fn refuse(&mut self, status: u16) -> io::Result<()> {
        if self.begun {
            return self.output.flush();
        }
        self.begun = true;
        write!(self.output, "HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        self.output.flush()
    }

    /// Ends a good answer.
    pub fn finish(&mut self) -> io::Result<()> {
        self.begin()?;
        self.output.flush()
    }

    fn begin(&mut self) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n";
            self.output.write_all(head)?;
        }
        Ok(())
    }
}

impl Write for Answer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.begin().and_then(|()| self.output.write(bytes));
        self.broken |= written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_in_the_folder_are_asked_for() {
        let ask = |text: &str| read(&mut text.as_bytes()).unwrap();
        assert_eq!(ask("GET /rack_1+3-0.efi HTTP/1.1\r\nHost: x\r\n\r\n"), Ok("rack_1+3-0.efi".to_owned()));
        for path in ["/", "/../x", "/.x", "/a/b", "/a%2fb", "//a", "http://elsewhere/x", "/a?b", "/a#b", "/ü"] {
            assert_eq!(ask(&format!("GET {path} HTTP/1.1\r\n\r\n")), Err(404), "{path}");
        }
        assert_eq!(ask("POST /a HTTP/1.1\r\n\r\n"), Err(405));
        assert_eq!(ask("GET /a\r\n\r\n"), Err(400));
        assert_eq!(ask("GET /a HTTP/1.1\r\n"), Err(400));
        assert_eq!(ask(&format!("GET /a HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(LONGEST))), Err(400));
        assert_eq!(ask(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(LONGEST_NAME + 1))), Err(404));
    }
}
