//! What this room's tests build on: keys, a signed archive, and a server that may lie.

mod server;
mod signer;

pub use server::{Answer, Server};
pub use signer::{Make, MakeSubkey, Signer};

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::Patience;
use crate::digest::Digest;
use crate::report::{Source, Span};
use crate::spec::Archive;

/// When the tests run: Sat, 06 Sep 2025 11:30:24 UTC.
pub const NOW: i64 = 1_757_158_224;

/// A day in seconds.
pub const DAY: i64 = 86_400;

/// Patience for a server on this machine that is told to be slow.
pub fn impatient() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        stall: Duration::from_millis(300),
        grace: Duration::from_secs(1),
        slowest: 1 << 20,
        attempts: 2,
        backoff: Duration::from_millis(1),
    }
}

/// An archive of the image file with one suite and component `main`.
pub fn archive(name: &str, suite: &str) -> Archive {
    let text = format!("[archive.{name}]\n");
    let source = Arc::new(Source { path: "images/test.toml".to_owned(), text: text.clone() });
    Archive {
        name: name.to_owned(),
        suites: vec![suite.to_owned()],
        components: vec!["main".to_owned()],
        keyring: format!("images/keyrings/{name}.pgp"),
        keyring_bytes: None,
        fingerprints: Vec::new(),
        priority: 500,
        mirror: None,
        allow_expired: false,
        span: Span::new(&source, 0..text.len() - 1),
    }
}

/// An archive's content before it is signed.
#[derive(Clone)]
pub struct Content {
    /// `Suite` and directory in `dists`.
    pub suite: String,
    /// `Date`, as written.
    pub date: String,
    /// Further fields of the Release, each with its line end.
    pub fields: String,
    /// Extensions in which Packages is listed and served.
    pub forms: Vec<&'static str>,
    /// The .debs by name, all of architecture `amd64`; their bytes need not be a package's.
    pub packages: BTreeMap<String, Vec<u8>>,
}

impl Default for Content {
    fn default() -> Self {
        let packages = [("hello", b"!<arch>\nhello".repeat(400)), ("world", b"!<arch>\nworld".repeat(40_000))];
        Self {
            suite: "stable".to_owned(),
            date: "Fri, 05 Sep 2025 10:00:00 UTC".to_owned(),
            fields: "Architectures: amd64\nComponents: main\n".to_owned(),
            forms: vec!["", ".xz"],
            packages: packages.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
        }
    }
}

impl Content {
    /// Where a package of that name lies.
    pub fn path_of(name: &str) -> String {
        format!("pool/{name}_1.0+x~1_amd64.deb")
    }

    /// The text of the Packages index.
    pub fn index(&self) -> String {
        let mut index = String::new();
        for (name, bytes) in &self.packages {
            writeln!(
                index,
                "Package: {name}\nVersion: 1.0+x~1\nArchitecture: amd64\nFilename: {}\nSize: {}\nSHA256: {}\n",
                Self::path_of(name),
                bytes.len(),
                Digest::of(bytes)
            )
            .unwrap();
        }
        index
    }

    /// Every file but Release and signature, by path.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let index = self.index().into_bytes();
        let mut files: BTreeMap<_, _> =
            self.packages.iter().map(|(name, bytes)| (Self::path_of(name), bytes.clone())).collect();
        for form in &self.forms {
            let path = format!("dists/{}/main/binary-amd64/Packages{form}", self.suite);
            files.insert(path, compress(form, &index));
        }
        files
    }

    /// The text of the Release.
    pub fn release(&self) -> String {
        let Self { suite, date, fields, .. } = self;
        let mut text = format!("Suite: {suite}\nDate: {date}\n{fields}SHA256:\n");
        let directory = format!("dists/{suite}/");
        for (path, bytes) in self.files() {
            if let Some(path) = path.strip_prefix(&directory) {
                writeln!(text, " {} {:>8} {path}", Digest::of(&bytes), bytes.len()).unwrap();
            }
        }
        text
    }

    /// Every file, InRelease signed by `signer` a day before [`NOW`] included.
    pub fn signed(&self, signer: &Signer) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files();
        files.insert(format!("dists/{}/InRelease", self.suite), signer.clear_sign(&self.release(), NOW - DAY));
        files
    }
}

fn compress(form: &str, bytes: &[u8]) -> Vec<u8> {
    match form {
        ".xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        ".gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        ".zst" => zstd::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}
