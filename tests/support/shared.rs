//! Servers that a store is shared through: docker's registry, and moto's S3 with signatures checked, on the loopback.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::command::command;

/// The user that the registry knows, and its password.
pub const USER: &str = "ci";
pub const PASSWORD: &str = "hunter2-of-the-registry";

/// `PASSWORD` as htpasswd(1) keeps it, with bcrypt of few rounds.
const HASH: &str = "$2b$04$07h2gNDa8FAI7ZDxtigSW.oe8Xi3QbEL2NShGhMt7opANR0/HEXju";

/// Docker's registry over a folder of its own; ended when dropped.
pub struct Registry {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Registry {
    /// Starts one that wants a password, and waits until it answers.
    #[track_caller]
    pub fn start() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
        let port = free_port();
        let place = folder.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {place}/data}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: tests, path: {place}/users}}}}\n"
        );
        fs::write(folder.path().join("config.yml"), config).expect("a folder under target");
        fs::write(folder.path().join("users"), format!("{USER}:{HASH}\n")).expect("a folder under target");
        let mut registry = command("docker-registry");
        registry.arg("serve").arg(folder.path().join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let child = registry.spawn().expect("Debian's package docker-registry");
        let started = Self { child, port, folder };
        await_port(port);
        started
    }

    /// A remote in it.
    pub fn remote(&self) -> String {
        format!("oci://127.0.0.1:{}/team/rolecast", self.port)
    }

    /// The file that holds a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&digest[..2]).join(digest).join("data")
    }

    /// Ends it.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An S3-compatible server that refuses what is not signed with its key; ended when dropped.
pub struct Bucket {
    child: Child,
    port: u16,
    /// The key's id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl Bucket {
    /// Starts one with a bucket `builds`.
    #[track_caller]
    pub fn start() -> Self {
        let port = free_port();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut server = command(root.join("target/checkers/bin/python3"));
        server.arg(root.join("tests/support/bucket.py")).arg(port.to_string());
        let mut child =
            server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("moto, of tests/requirements.txt");
        let mut line = String::new();
        let told = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        assert!(matches!(told, Some(Ok(length)) if length > 1), "the S3 server did not start");
        let (id, secret) = line.trim().split_once(' ').expect("two words");
        let (id, secret) = (id.to_owned(), secret.to_owned());
        Self { child, port, id, secret }
    }

    /// A remote in it.
    pub fn remote(&self) -> String {
        "s3://builds/some/prefix".to_owned()
    }

    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

#[track_caller]
fn await_port(port: u16) {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing answers on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
