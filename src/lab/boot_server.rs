//! A server on the lab's network that machines boot from.
//!
//! Owns a station with the tree that `rolecast publish` makes, dnsmasq for DHCP and TFTP with the configuration of that
//! tree, and a small HTTP server. It ends with its value; what a crash leaves ends with the lab.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::report::{Diagnostic, Kind, Report};
use crate::seed::{Publication, ServerUrl};
use crate::spec::Spec;
use crate::sys::files::Context as _;
use crate::sys::namespace;

use super::cluster::Lab;
use super::group::Group;
use super::network::Network;
use super::tools;

/// Name of its station, and of its control group.
const NAME: &str = "boot-server";
/// Where HTTP is served.
const PORT: u16 = 8080;
/// How long a machine may be silent within a request.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest request that is read: a line and a few headers.
const LONGEST: u64 = 16 << 10;

/// Joins the group, so that it ends with the lab, and becomes the program. Positional: group, program.
const INTO_GROUP: &str = "echo $$ >\"$1/cgroup.procs\" && shift && exec \"$@\"";

/// A server that runs; ended when dropped.
#[derive(Debug)]
pub struct BootServer {
    network: Network,
    group: Group,
    dnsmasq: Child,
    ending: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl BootServer {
    /// Publishes the tree of the lab's cluster and serves it at `address`.
    ///
    /// # Errors
    /// When an image was not built for the network, the address is taken, or dnsmasq is missing.
    pub fn start(lab: &Lab, spec: &Spec, address: Ipv4Addr, secrets_over_http: bool) -> Result<Self, Report> {
        let none = || Diagnostic::error(Kind::Input, format!("`{}` describes no cluster any more", spec.name));
        let tree = lab.directory().join("tree");
        let url = ServerUrl::parse(&format!("http://{address}:{PORT}"))?;
        let publication = Publication {
            spec,
            cluster: spec.cluster.as_ref().ok_or_else(none)?,
            vault: &lab.secrets().read()?,
            images: &lab.outputs(),
            url: &url,
            secrets_over_http,
            memory_state: false,
        };
        publication.write(&tree)?;
        let network = lab.network().clone();
        network.add_station(NAME, address)?;
        let group = Group::at(&lab.group(NAME))?;
        group.make()?;
        let dnsmasq = dnsmasq(&network, &group, lab.directory(), &tree)?;
        let (ending, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut server = Self {
            network,
            group,
            dnsmasq,
            ending: Arc::clone(&ending),
            listener: None,
            requests: Arc::clone(&requests),
        };
        let (network, started) = (server.network.clone(), Arc::new(Mutex::new(None)));
        let tell = Arc::clone(&started);
        server.listener = Some(std::thread::spawn(move || {
            let bound = network.enter(NAME).and_then(|()| listen(address));
            match bound {
                Ok(listener) => {
                    *tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Ok(()));
                    serve(&listener, &tree, &ending, &requests);
                }
                Err(error) => *tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Err(error)),
            }
        }));
        tools::wait_for("the boot server to listen", Duration::from_secs(30), || {
            started.lock().unwrap_or_else(PoisonError::into_inner).take().transpose()
        })?;
        Ok(server)
    }

    /// What was asked of it by HTTP, in order: paths from the tree's top.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for BootServer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _ = self.group.remove();
        let _ = self.dnsmasq.wait();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        let _ = self.network.remove_station(NAME);
    }
}

fn dnsmasq(network: &Network, group: &Group, directory: &Path, tree: &Path) -> Result<Child, Diagnostic> {
    let inside = namespace::path(&network.station_namespace(NAME));
    let said = directory.join("boot-server.log");
    let log = File::create(&said).on("create", &said)?;
    let mut command = Command::new("setsid");
    command.args(["/bin/sh", "-c", INTO_GROUP, NAME]).arg(group.path());
    command.arg("nsenter").arg(format!("--net={}", inside.display()));
    command.args(["dnsmasq", "--keep-in-foreground", "--user=root", "--pid-file=", "--log-facility=-", "--log-dhcp"]);
    command.arg(format!("--conf-file={}", tree.join("dnsmasq.conf").display()));
    command.arg(format!("--dhcp-leasefile={}", directory.join("boot-server.leases").display()));
    command.env_clear().env("PATH", tools::PATH).stdin(Stdio::null());
    command.stdout(log.try_clone().on("open", &said)?).stderr(log);
    let mut child = command.spawn().map_err(|error| {
        Diagnostic::error(Kind::World, format!("cannot run `setsid`: {error}")).hint("`apt-get install util-linux`")
    })?;
    // It speaks first and reads its configuration before it answers anyone.
    let spoke = tools::wait_for("dnsmasq to start", Duration::from_secs(30), || {
        let text = fs::read_to_string(&said).unwrap_or_default();
        if text.contains("started") {
            return Ok(Some(()));
        }
        match child.try_wait() {
            Ok(None) => Ok(None),
            _ => Err(Diagnostic::error(Kind::World, "dnsmasq did not start")
                .note(text.trim())
                .hint("`apt-get install dnsmasq-base`")),
        }
    });
    spoke.map(|()| child)
}

fn listen(address: Ipv4Addr) -> Result<TcpListener, Diagnostic> {
    let bound = TcpListener::bind((address, PORT)).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| Diagnostic::error(Kind::World, format!("cannot listen at {address}:{PORT}: {error}")))
}

fn serve(listener: &TcpListener, tree: &Path, ending: &AtomicBool, requests: &Arc<Mutex<Vec<String>>>) {
    while !ending.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let (tree, requests) = (tree.to_owned(), Arc::clone(requests));
        // A machine that goes away in the middle is a machine's way to go.
        std::thread::spawn(move || answer(stream, &tree, &requests));
    }
}

/// Answers one request (RFC 9112) and closes the connection.
fn answer(mut stream: TcpStream, tree: &Path, requests: &Mutex<Vec<String>>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(io::Read::take(stream.try_clone()?, LONGEST));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    requests.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
    let file = within(tree, path).and_then(|path| File::open(path).ok()).filter(|_| matches!(method, "GET" | "HEAD"));
    let file = file.and_then(|file| Some((file.metadata().ok().filter(fs::Metadata::is_file)?.len(), file)));
    let Some((length, mut file)) = file else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    if method == "GET" {
        io::copy(&mut file, &mut stream)?;
    }
    Ok(())
}

/// A path as it was asked for, under the tree's top; none for one that leads elsewhere.
fn within(tree: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path.split('?').next()?).strip_prefix("/").ok()?;
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| tree.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out_of_the_tree() {
        let tree = Path::new("/tree");
        assert_eq!(within(tree, "/seed/a/user-data"), Some("/tree/seed/a/user-data".into()));
        assert_eq!(within(tree, "/a?b=/../c"), Some("/tree/a".into()));
        for path in ["/../etc/shadow", "/a/../../etc/shadow", "relative", "", "//etc/shadow/.."] {
            assert_eq!(within(tree, path), None, "{path}");
        }
    }
}
