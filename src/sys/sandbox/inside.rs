//! Our own executable as process 1 of fresh namespaces, and the talk between it and the build.
//!
//! Requests and answers are lines of JSON over a socket pair that is the inside's standard input. When the build ends
//! for whatever reason, the socket closes, process 1 ends, and with it everything in its PID namespace.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::report::{Diagnostic, Kind};

use super::root::{Overlay, Room};
use super::spawn::{self, UserNamespace};
use super::{Mode, Sandbox};

/// The hidden verb of the inside; nobody types it.
const VERB: &str = "internal-sandbox";
/// The purpose that [`helper_main`] serves by itself.
const PROBE: &str = "probe";

/// One end of the talk.
#[derive(Debug)]
pub struct Connection {
    purpose: String,
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Connection {
    fn new(purpose: String, stream: UnixStream) -> io::Result<Self> {
        Ok(Self { purpose, writer: stream.try_clone()?, reader: BufReader::new(stream) })
    }

    /// What the inside was started for.
    pub fn purpose(&self) -> &str {
        &self.purpose
    }

    /// Sends one message.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(message).map_err(io::Error::other)?;
        line.push(b'\n');
        self.writer.write_all(&line)
    }

    /// Waits for one message.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the other end is gone; another when the message does not read.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_slice(&line).map_err(io::Error::other)
    }
}

/// A running inside; killed with all that it runs when dropped.
#[derive(Debug)]
pub struct Inside {
    child: Child,
    /// The talk with it.
    pub connection: Connection,
}

impl Inside {
    pub(super) fn start(sandbox: &Sandbox, purpose: &str) -> Result<Self, Diagnostic> {
        let failed = |error: io::Error| refused(&sandbox.mode, &error);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(&sandbox.helper.program);
        command
            .args(&sandbox.helper.arguments)
            .args([VERB, purpose])
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null());
        let child = match &sandbox.mode {
            Mode::Root => spawn::spawn_in_namespaces(command, UserNamespace::None).map_err(failed)?,
            Mode::User { .. } => spawn_mapped(command, &sandbox.mode)?,
        };
        Ok(Self { child, connection: Connection::new(purpose.to_owned(), ours).map_err(failed)? })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `command` in a user namespace; a second thread writes the id maps while the child waits for them.
fn spawn_mapped(command: Command, mode: &Mode) -> Result<Child, Diagnostic> {
    let failed = |error: io::Error| refused(mode, &error);
    let (mut is_ready, ready) = io::pipe().map_err(failed)?;
    let (go, mut say_go) = io::pipe().map_err(failed)?;
    let user = UserNamespace::Mapped { ready: ready.into(), go: go.into() };
    std::thread::scope(|scope| {
        let mapper = scope.spawn(move || -> Result<(), String> {
            let mut pid = [0; 4];
            // An end without an id: the child was refused earlier, which `spawn` reports.
            if is_ready.read_exact(&mut pid).is_err() {
                return Ok(());
            }
            mode.map_ids(i32::from_ne_bytes(pid))?;
            say_go.write_all(&[1]).map_err(|error| error.to_string())
        });
        let child = spawn::spawn_in_namespaces(command, user);
        match (child, mapper.join()) {
            (Ok(child), _) => Ok(child),
            (Err(_), Ok(Err(message))) => {
                Err(Diagnostic::error(Kind::World, format!("the id map was refused: {message}"))
                    .hint("check the lines of /etc/subuid and /etc/subgid, or run as root"))
            }
            (Err(error), _) => Err(failed(error)),
        }
    })
}

/// Why namespaces are refused here, and what helps.
fn refused(mode: &Mode, error: &io::Error) -> Diagnostic {
    let message = format!("cannot isolate maintainer scripts: {error}");
    let diagnostic = Diagnostic::error(Kind::World, message);
    if *mode == Mode::Root {
        return diagnostic
            .note("as root this needs mount, PID and network namespaces (the capability CAP_SYS_ADMIN)")
            .hint("in a container: start it with `--privileged`, or build as an ordinary user");
    }
    let setting = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let sysctl = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ];
    match sysctl.iter().find(|(path, value, _)| setting(path) == *value) {
        Some((path, value, remedy)) => diagnostic
            .note(format!("`{path}` is {value}: this machine forbids user namespaces to ordinary users"))
            .hint(format!("as root: `sysctl -w {remedy}`, or run the build as root")),
        None => diagnostic
            .note("as an ordinary user this needs user namespaces")
            .hint("allow them (in a container: a seccomp profile without that rule), or run as root"),
    }
}

#[derive(Serialize, Deserialize)]
struct ProbeAnswer {
    failed: Option<(String, String)>,
}

/// Starts an inside once and lets it try every mount that a build needs, in `scratch`.
pub(super) fn probe(sandbox: &Sandbox, scratch: &Path) -> Result<(), Diagnostic> {
    let mut inside = Inside::start(sandbox, PROBE)?;
    let talk = &mut inside.connection;
    let answer = talk.send(&scratch).and_then(|()| talk.receive::<ProbeAnswer>());
    let answer = answer
        .map_err(|error| Diagnostic::error(Kind::World, format!("the sandbox ended before it answered: {error}")))?;
    match answer.failed {
        None => Ok(()),
        Some((step, error)) => {
            let diagnostic =
                Diagnostic::error(Kind::World, format!("cannot isolate maintainer scripts: {step}: {error}"));
            Err(if step.contains("overlay") {
                diagnostic.hint(
                    "keep the store on ext4, xfs, btrfs or tmpfs (`--store`): an overlay cannot lie on an overlay",
                )
            } else {
                diagnostic.hint("in a container: start it with `--privileged` (/proc must not be masked)")
            })
        }
    }
}

fn try_mounts(scratch: &Path) -> Result<(), (String, String)> {
    let step = |name: &'static str| move |error: &dyn std::fmt::Display| (name.to_owned(), error.to_string());
    // Every probe is process 1 somewhere; its mount namespace tells it from others.
    let namespace = std::fs::read_link("/proc/self/ns/mnt").map_err(|error| step("/proc")(&error))?;
    let number: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let place = scratch.join(format!("probe.{number}"));
    let make = || {
        for name in ["lower/dev", "lower/proc", "lower/run", "lower/tmp", "upper", "work", "root"] {
            std::fs::create_dir_all(place.join(name))?;
        }
        rustix::fs::chown(place.join("lower/tmp"), Some(rustix::fs::Uid::from_raw(65534)), None)?;
        rustix::process::chdir(&place)?;
        io::Result::Ok(())
    };
    make().map_err(|error| step("directories")(&error))?;
    let overlay = Overlay { lower: vec!["lower".into()], upper: "upper".into(), work: "work".into() };
    let result = overlay.mount(Path::new("root")).map_err(|error| step("overlay")(&error)).and_then(|()| {
        let room = Room::open(&place.join("root")).map_err(|error| step("mounts")(&error))?;
        drop(room);
        Ok(())
    });
    let _ = rustix::process::chdir("/");
    let _ = std::fs::remove_dir_all(&place);
    result
}

/// The first thing that the program does: whether it was started as an inside, and if so for what. Serves probes by
/// itself and does not return from them.
pub fn helper_main(mut arguments: impl Iterator<Item = OsString>) -> Option<Connection> {
    arguments.find(|argument| argument == VERB)?;
    let purpose = arguments.next()?.into_string().ok()?;
    if !rustix::process::getpid().is_init() {
        return None;
    }
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    end_with_the_build(stream.try_clone().ok()?);
    let mut connection = Connection::new(purpose, stream).ok()?;
    if connection.purpose == PROBE {
        if let Ok(scratch) = connection.receive::<PathBuf>() {
            let _ = connection.send(&ProbeAnswer { failed: try_mounts(&scratch).err() });
        }
        std::process::exit(0);
    }
    Some(connection)
}

/// Ends this process, and with it its PID namespace, once the other end of the socket is closed.
fn end_with_the_build(stream: UnixStream) {
    std::thread::spawn(move || {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            let mut waited = [PollFd::new(&stream, PollFlags::RDHUP)];
            match poll(&mut waited, None) {
                Ok(_) if !waited[0].revents().is_empty() => std::process::exit(70),
                _ => {}
            }
        }
    });
}
