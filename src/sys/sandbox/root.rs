//! A root directory with what programs expect around it, and running them there. Used inside the namespaces.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::fs;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Timespec, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::thread::CapabilitySet;

use crate::sys::files::{Context as _, FileError};

use super::spawn;

/// Bytes of output that are kept: the end of it.
const KEPT_OUTPUT: usize = 64 << 10;

/// The environment of every program: nothing of the build's own reaches it.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LC_ALL", "C.UTF-8"),
    ("TERM", "dumb"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
];

/// What maintainer scripts may do beyond an ordinary user: own, read and mark any file, become another user. Nothing
/// that reaches the kernel, its devices, the clock or other processes.
const KEPT_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT);

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A mount was refused.
    #[error("cannot mount {what}: {source}")]
    Mount {
        /// What.
        what: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The program did not start.
    #[error("cannot run `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// The kernel's word.
        source: io::Error,
    },
}

/// An overlay mount (the kernel's Documentation/filesystems/overlayfs.rst). Paths are relative to the working
/// directory, without `:`, `,` and `\`: the kernel's option string has to hold them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Directories that are read, the uppermost first.
    pub lower: Vec<PathBuf>,
    /// Directory that takes the changes.
    pub upper: PathBuf,
    /// Empty directory on the same file system as `upper`.
    pub work: PathBuf,
}

impl Overlay {
    /// Mounts it on `target`. Never synced to disk, and without features that make a file's history show in its
    /// upper directory (`metacopy`, `redirect_dir`), so that capturing finds whole files.
    ///
    /// # Errors
    /// When the kernel refuses, as on a file system that cannot be an upper one.
    pub fn mount(&self, target: &Path) -> Result<(), RunError> {
        let lower: Vec<_> = self.lower.iter().map(|path| path.to_string_lossy()).collect();
        let mut options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=nofollow,metacopy=off,index=off,xino=off,volatile",
            lower.join(":"),
            self.upper.display(),
            self.work.display()
        );
        // Only the first user namespace may use `trusted.` attributes.
        if !in_first_user_namespace() {
            options.push_str(",userxattr");
        }
        let refuse = |source: io::Error| RunError::Mount { what: "an overlay".to_owned(), source };
        let options = CString::new(options).map_err(|error| refuse(error.into()))?;
        mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())
            .map_err(|error| refuse(error.into()))
    }
}

fn in_first_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// A program to run in a root.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Program and arguments; found in the root's own `PATH`.
    pub command: Vec<String>,
    /// Variables beyond the fixed ones.
    pub environment: BTreeMap<String, String>,
    /// When it is killed.
    pub limit: Duration,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// In words where it did not succeed: `exit code 1`, `killed by signal 9`, `no end after 600 seconds`.
    pub failure: Option<String>,
    /// The end of what it wrote to standard output and standard error.
    pub output: String,
}

/// A root directory ready for programs: `/proc`, `/dev`, `/run` and `/tmp` of its own. They are unmounted when it is
/// dropped, and so is the root.
#[derive(Debug)]
pub struct Room {
    root: PathBuf,
}

impl Room {
    /// Mounts what programs need under `root`, which is a mount point and has the directories.
    ///
    /// # Errors
    /// When a mount is refused.
    pub fn open(root: &Path) -> Result<Self, RunError> {
        let room = Self { root: root.to_owned() };
        for name in ["proc", "tmp", "run", "dev"] {
            // A link there would lead out of the root.
            let is_directory = fs::symlink_metadata(root.join(name)).is_ok_and(|metadata| metadata.is_dir());
            if !is_directory {
                return Err(refused(name, io::ErrorKind::NotADirectory.into()));
            }
        }
        let safe = MountFlags::NOSUID | MountFlags::NODEV;
        room.mount_fresh("proc", "proc", safe | MountFlags::NOEXEC, c"")?;
        room.mount_fresh("tmpfs", "tmp", safe, c"mode=1777")?;
        room.mount_fresh("tmpfs", "run", safe, c"mode=0755")?;
        room.mount_fresh("tmpfs", "dev", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=0755")?;
        room.fill_dev()?;
        // Root without a user namespace could otherwise set the host's kernel.
        for (path, from) in [("proc/sys", None), ("proc/sysrq-trigger", Some("/dev/null"))] {
            let target = room.root.join(path);
            let from = from.map_or_else(|| target.clone(), PathBuf::from);
            if target.exists() && in_first_user_namespace() {
                let locked = safe | MountFlags::NOEXEC | MountFlags::RDONLY;
                let flags = if path == "proc/sys" { locked } else { MountFlags::empty() };
                spawn::bind(&from, &target, flags).map_err(|error| refused(path, error.into()))?;
            }
        }
        Ok(room)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens a file of the root. Every link on the way is followed as a program inside would follow it, never out.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_file(&self, path: &str, flags: OFlags, mode: u16) -> Result<fs::File, FileError> {
        let place = self.root.join(path);
        let open = || {
            let root = openat(CWD, &self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let mode = Mode::from_raw_mode(u32::from(mode));
            rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, ResolveFlags::IN_ROOT)
        };
        Ok(open().on("open", &place)?.into())
    }

    /// The bytes of a file of the root; none where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FileError> {
        let mut file = match self.open_file(path, OFlags::RDONLY, 0) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).on("read", &self.root.join(path))?;
        Ok(Some(bytes))
    }

    /// Writes a file of the root; a new one gets `mode`, an old one keeps its owner and mode. The directory is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, mode: u16, bytes: &[u8]) -> Result<(), FileError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = self.open_file(path, flags, mode)?;
        file.write_all(bytes).on("write", &self.root.join(path))
    }

    fn mount_fresh(&self, kind: &str, path: &str, flags: MountFlags, options: &std::ffi::CStr) -> Result<(), RunError> {
        mount(kind, self.root.join(path), kind, flags, options).map_err(|error| refused(path, error.into()))
    }

    fn fill_dev(&self) -> Result<(), RunError> {
        let dev = self.root.join("dev");
        let make = |name: &str| {
            let place = dev.join(name);
            fs::File::create(&place)?;
            Ok(spawn::bind(&Path::new("/dev").join(name), &place, MountFlags::empty())?)
        };
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            make(name).map_err(|error| refused(&format!("dev/{name}"), error))?;
        }
        let links = [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")];
        for (name, target) in links {
            std::os::unix::fs::symlink(target, dev.join(name))
                .map_err(|error| refused(&format!("dev/{name}"), error))?;
        }
        fs::create_dir(dev.join("shm")).map_err(|error| refused("dev/shm", error))?;
        self.mount_fresh("tmpfs", "dev/shm", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777")
    }

    /// Runs a shell for a person, over the terminal that standard error is, with the environment of other programs.
    ///
    /// # Errors
    /// When standard error is no terminal, or there is no shell.
    pub fn shell(&self) -> Result<(), RunError> {
        let failed = |source: io::Error| RunError::Start { program: "/bin/sh".to_owned(), source };
        if !io::stderr().is_terminal() {
            return Err(failed(io::Error::other("standard error is no terminal")));
        }
        let terminal = || Ok::<_, io::Error>(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
        let mut command = Command::new("/bin/sh");
        command.arg("-i").env_clear().envs(ENVIRONMENT).env("PS1", "sandbox# ");
        command.stdin(terminal().map_err(failed)?).stdout(terminal().map_err(failed)?);
        let mut child = spawn::spawn_in_root(command, &self.root, KEPT_CAPABILITIES).map_err(failed)?;
        child.wait().map_err(failed)?;
        Ok(())
    }

    /// Lets the file `with` stand at `path` while the room is open; both lie in the root.
    ///
    /// # Errors
    /// When the mount is refused.
    pub fn cover(&self, path: &str, with: &str) -> Result<(), RunError> {
        let open = |path| self.open_file(path, OFlags::PATH, 0).map_err(|error| refused(path, error.source));
        let by_descriptor = |file: &fs::File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let (from, to) = (open(with)?, open(path)?);
        let bound = spawn::bind(&by_descriptor(&from), &by_descriptor(&to), MountFlags::empty());
        bound.map_err(|error| refused(path, error.into()))
    }

    /// Runs a program to its end, gives each line of its output to `line`, and kills whatever it left running.
    ///
    /// # Errors
    /// When it cannot be started. A failing program is an [`Ended`].
    pub fn run(&self, program: &Program, line: &mut dyn FnMut(&str)) -> Result<Ended, RunError> {
        let name = program.command.first().map_or("", String::as_str);
        let failed = |source: io::Error| RunError::Start { program: name.to_owned(), source };
        let (reader, writer) = io::pipe().map_err(failed)?;
        let mut command = Command::new(name);
        command
            .args(program.command.iter().skip(1))
            .env_clear()
            .envs(ENVIRONMENT)
            .envs(&program.environment)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer);
        let mut child = spawn::spawn_in_root(command, &self.root, KEPT_CAPABILITIES).map_err(failed)?;
        let mut output = Output::default();
        let deadline = Instant::now().checked_add(program.limit);
        let mut exit = None;
        let mut late = false;
        while !output.ended {
            output.take(&reader, line).map_err(failed)?;
            if exit.is_none() {
                exit = child.try_wait().map_err(failed)?;
                late |= exit.is_none() && deadline.is_some_and(|deadline| Instant::now() >= deadline);
                if exit.is_some() || late {
                    // Daemons may hold the pipe open: everything that is left ends here.
                    spawn::kill_all_others();
                }
            }
        }
        let status = match exit {
            Some(status) => status,
            None => child.wait().map_err(failed)?,
        };
        spawn::kill_all_others();
        while rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_ok_and(|reaped| reaped.is_some()) {}
        let failure = match (late, status.code(), status.signal()) {
            (true, ..) => Some(format!("no end after {} seconds", program.limit.as_secs())),
            (_, Some(0), _) => None,
            (_, Some(code), _) => Some(format!("exit code {code}")),
            (_, None, signal) => Some(format!("killed by signal {}", signal.unwrap_or_default())),
        };
        Ok(Ended { failure, output: output.text(line) })
    }
}

fn refused(path: &str, source: io::Error) -> RunError {
    RunError::Mount { what: format!("`/{path}`"), source }
}

impl Drop for Room {
    fn drop(&mut self) {
        spawn::kill_all_others();
        for name in ["dev", "run", "tmp", "proc", ""] {
            let _ = unmount(self.root.join(name), UnmountFlags::DETACH);
        }
    }
}

/// The end of a program's output, and lines as they come.
#[derive(Debug, Default)]
struct Output {
    kept: VecDeque<u8>,
    partial: Vec<u8>,
    ended: bool,
}

impl Output {
    /// Waits a moment for output and takes what is there.
    fn take(&mut self, reader: &io::PipeReader, line: &mut dyn FnMut(&str)) -> io::Result<()> {
        let mut waited = [PollFd::new(reader, PollFlags::IN)];
        let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        match poll(&mut waited, Some(&moment)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [0; 16 << 10];
        let length = (&mut &*reader).read(&mut buffer)?;
        self.ended = length == 0;
        for byte in &buffer[..length] {
            if self.kept.len() == KEPT_OUTPUT {
                self.kept.pop_front();
            }
            self.kept.push_back(*byte);
            match byte {
                b'\n' => line(&String::from_utf8_lossy(&std::mem::take(&mut self.partial))),
                _ if self.partial.len() < 4096 => self.partial.push(*byte),
                _ => {}
            }
        }
        Ok(())
    }

    fn text(mut self, line: &mut dyn FnMut(&str)) -> String {
        if !self.partial.is_empty() {
            line(&String::from_utf8_lossy(&self.partial));
        }
        String::from_utf8_lossy(self.kept.make_contiguous()).into_owned()
    }
}
