//! A machine as a container: systemd as PID 1, on the root inside the disk image, with state as on disk.
//!
//! The root is the squashfs of `ROLE.raw`, mounted through a loop device; changes go to memory and are gone at the next
//! boot; the paths that the image declares as state lie on a small ext4 of the machine's own, the database on another.
//! No firmware, no boot loader, no verity, the host's kernel and clock. Reference: systemd-nspawn(1).

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use crate::report::{Diagnostic, Kind, Report};
use crate::seed::NoCloud;
use crate::sys::Program;
use crate::sys::files::{self, Context as _};
use crate::sys::namespace;

use super::group::Group;
use super::ledger::{Ledger, Node};
use super::machine::{BackEnd, Exec, FILE_LIMIT, Identity, Machine, Outcome, status_from_files};
use super::network::Network;
use super::role::RoleImage;
use super::tools;

/// What becomes the container manager.
const SCRIPT: &str = include_str!("container.sh");

/// Longest wait for PID 1; it takes half a second.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// A container.
#[derive(Debug)]
pub struct Container {
    node: Node,
    ledger: Arc<Ledger>,
    network: Network,
    group: Group,
    directory: PathBuf,
    /// The container manager, where this process started it. Held so that its end is awaited.
    manager: Mutex<Option<Child>>,
}

impl Container {
    /// The container of a node, made or not.
    pub(super) fn of(node: &Node, ledger: &Arc<Ledger>, network: &Network) -> Result<Self, Diagnostic> {
        let name = &node.identity.name;
        let group = Group::at(&ledger.read().group(name))?;
        Ok(Self {
            node: node.clone(),
            ledger: Arc::clone(ledger),
            network: network.clone(),
            group,
            directory: ledger.node_directory(name),
            manager: Mutex::new(None),
        })
    }

    fn name(&self) -> &str {
        &self.node.identity.name
    }

    fn manager(&self) -> MutexGuard<'_, Option<Child>> {
        self.manager.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// PID 1 as the host numbers it.
    fn init(&self) -> Option<i32> {
        let candidates = ["payload/init.scope", "payload"].map(|under| self.group.processes(under));
        candidates.into_iter().flatten().find(|pid| is_init(*pid))
    }

    fn needs_init(&self) -> Result<i32, Diagnostic> {
        self.init().ok_or_else(|| Diagnostic::error(Kind::World, format!("the machine `{}` is off", self.name())))
    }

    /// Makes the file systems that hold its state, where they are missing: a machine that was never booted.
    fn make_state(&self) -> Result<(), Diagnostic> {
        for (name, size) in [("state", Some(self.node.state_size)), ("database", self.node.database_size)] {
            let (path, Some(size)) = (self.directory.join(format!("{name}.img")), size) else { continue };
            if path.exists() {
                continue;
            }
            // Under another name first: what is cut off half-way is not taken for a file system.
            let new = path.with_extension("new");
            let file = fs::File::create(&new).on("create", &new)?;
            file.set_len(size).on("write", &new)?;
            let lazy = "lazy_itable_init=1,lazy_journal_init=1";
            tools::run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", lazy, "-L", name, &new.to_string_lossy()])?;
            fs::rename(&new, &path).on("write", &path)?;
        }
        Ok(())
    }

    fn command(&self, role: &RoleImage, network: &Path) -> Result<Command, Diagnostic> {
        let console = self.console();
        let mut log = fs::File::options().create(true).append(true).mode(0o600).open(&console).on("open", &console)?;
        let _ = writeln!(log, "--- power on");
        let errors = log.try_clone().on("open", &console)?;
        let group = self.ledger.read().group(self.name());
        let mut command = Command::new("setsid");
        // Unmounting elsewhere shows inside, so that no other lab's mount is held by this one; never the other way.
        command.args(["unshare", "--mount", "--propagation", "slave", "/bin/sh", "-c", SCRIPT, "container"]);
        command.arg(&self.directory).arg(&role.disk);
        command.args([role.offset.to_string(), role.size.to_string(), group]);
        command.arg(network).args([self.name(), &self.node.identity.machine_id]).args(&role.state);
        command.env_clear().env("PATH", tools::PATH).env("LC_ALL", "C.UTF-8").current_dir("/");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        Ok(command)
    }

    /// Why the container manager ended before there was a PID 1.
    fn failed_start(&self) -> Diagnostic {
        let log = fs::read(self.console()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(4096)..]).into_owned();
        let since = log.rsplit("--- power on").next().unwrap_or_default().trim().to_owned();
        Diagnostic::error(Kind::World, format!("the container `{}` did not start", self.name()))
            .note(if since.is_empty() { "its manager said nothing".to_owned() } else { since })
    }

    /// Waits for the container manager's end, where it is our child, so that nothing of it is left.
    fn reap(&self) {
        if let Some(mut manager) = self.manager().take() {
            let _ = manager.wait();
        }
    }

    /// What is left to do once every process has ended or is to end.
    fn power_off(&self) -> Result<(), Diagnostic> {
        self.group.remove()?;
        self.reap();
        self.network.unplug(self.name())
    }
}

impl Machine for Container {
    fn identity(&self) -> &Identity {
        &self.node.identity
    }

    fn back_end(&self) -> BackEnd {
        BackEnd::Container
    }

    fn start(&self) -> Result<(), Diagnostic> {
        if self.is_running() {
            return Ok(());
        }
        // Whatever an earlier boot left: it may have powered itself off.
        self.power_off()?;
        let role = RoleImage::open(&self.ledger.read().outputs, &self.node.identity.role)?;
        for name in ["lower", "memory", "root"] {
            files::make_directory(&self.directory.join(name))?;
        }
        self.make_state()?;
        self.group.make()?;
        let inside = self.network.plug_container(self.name())?;
        let mut command = self.command(&role, &namespace::path(&inside))?;
        let child = command.spawn().map_err(|error| {
            Diagnostic::error(Kind::World, format!("cannot run `setsid`: {error}")).hint("`apt-get install util-linux`")
        })?;
        *self.manager() = Some(child);
        let started = tools::wait_for(&format!("PID 1 of `{}`", self.name()), STARTED_WITHIN, || {
            if self.init().is_some() {
                return Ok(Some(()));
            }
            let ended = self.manager().as_mut().is_some_and(|child| child.try_wait().is_ok_and(|end| end.is_some()));
            if ended { Err(self.failed_start()) } else { Ok(None) }
        });
        started.inspect_err(|_| {
            let _ = self.power_off();
        })
    }

    fn stop(&self, within: Duration) -> Result<(), Diagnostic> {
        let Some(init) = self.init() else { return self.power_off() };
        // systemd(1): SIGRTMIN+4 is "power off".
        tools::run("kill", &["-s", "RTMIN+4", &init.to_string()])?;
        tools::wait_for(&format!("`{}` to shut down", self.name()), within, || {
            Ok((!self.group.is_populated()).then_some(()))
        })?;
        self.power_off()
    }

    fn kill(&self) -> Result<(), Diagnostic> {
        self.power_off()
    }

    fn is_running(&self) -> bool {
        self.init().is_some()
    }

    fn wipe_state(&self) -> Result<(), Diagnostic> {
        if self.is_running() {
            let message = format!("the machine `{}` runs: its state cannot be removed", self.name());
            return Err(Diagnostic::error(Kind::Usage, message).hint("stop or kill it first"));
        }
        for name in ["state.img", "database.img"] {
            let path = self.directory.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).on("remove", &path)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn exec(&self, exec: &Exec) -> Result<Outcome, Diagnostic> {
        let init = self.needs_init()?.to_string();
        // Its own clock inside, where everything that it started can be reached.
        let limit = format!("{:.3}", exec.limit.as_secs_f64());
        let enter = ["--target", &init, "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--"];
        let timeout = ["timeout", "--kill-after=2", &limit];
        let words = enter.into_iter().chain(timeout).chain([exec.program.as_str()]);
        let words = words.chain(exec.arguments.iter().map(String::as_str));
        let program = Program::new("nsenter", words).variable("HOME", "/root").input(exec.input.clone());
        let since = Instant::now();
        let said = program.limit(exec.limit + Duration::from_secs(10)).ask();
        let took = since.elapsed();
        let said = said.map_err(|error| {
            let message = format!("cannot run `{}` on `{}`: {error}", exec.program, self.name());
            Diagnostic::error(Kind::World, message)
        })?;
        // timeout(1): 124 when the time is over, 137 when it had to kill.
        let late = took >= exec.limit && matches!(said.status.code(), Some(124 | 137));
        let code = said.status.code().filter(|_| !late);
        Ok(Outcome { code, output: said.output, errors: said.errors, took })
    }

    fn interact(&self) -> Result<(), Diagnostic> {
        let init = self.needs_init()?.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &init, "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--wd=/root"]);
        command.args(["--", "/bin/bash", "-l"]);
        tools::interact(command)
    }

    /// Straight from its file system: this is asked several times a second.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Diagnostic> {
        let root = PathBuf::from(format!("/proc/{}/root", self.needs_init()?));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = || {
            let root = openat(CWD, &root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            openat2(root, path.trim_start_matches('/'), flags, Mode::empty(), ResolveFlags::IN_ROOT)
        };
        let file = match open() {
            Ok(file) => fs::File::from(file),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error).on("open", &root.join(path.trim_start_matches('/')))?,
        };
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT).read_to_end(&mut bytes).on("read", Path::new(path))?;
        Ok(Some(bytes))
    }

    /// From its files, for the same reason.
    fn status(&self) -> Result<Option<serde_json::Value>, Diagnostic> {
        status_from_files(self.name(), |path| self.read(path))
    }

    fn set_seed(&self, seed: Option<&NoCloud>) -> Result<(), Report> {
        let place = self.directory.join("seed");
        if place.exists() {
            fs::remove_dir_all(&place).on("remove", &place).map_err(Diagnostic::from)?;
        }
        seed.map_or(Ok(()), |seed| seed.write_directory(&place))
    }

    fn set_clock_offset(&self, _: i64) -> Result<(), Diagnostic> {
        Err(Diagnostic::error(Kind::Usage, "a container has the host's clock")
            .hint("use the back end `qemu` for a wrong clock"))
    }

    fn set_network_boot(&self, _: bool) -> Result<(), Diagnostic> {
        Err(Diagnostic::error(Kind::Usage, "a container has no firmware that could boot over the network")
            .hint("use the back end `qemu`"))
    }

    fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    fn processor_seconds(&self) -> f64 {
        self.group.processor_seconds()
    }

    fn process(&self) -> Option<i32> {
        self.init()
    }
}

/// Whether a process is PID 1 of a PID namespace under ours (proc_pid_status(5), `NSpid`).
fn is_init(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1") && !state.trim_start().starts_with('Z')
}
