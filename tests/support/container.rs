//! A root booted by systemd-nspawn: systemd as PID 1 on the very files that were shipped, in seconds.
//!
//! Each container gets a control group of its own (else every one's systemd manages the host's only tree), a network
//! namespace that holds nothing but `lo`, and no registration (there is no machined). Ending it means ending its PID 1:
//! nspawn killed by itself leaves PID 1 and everything under it running.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::command::{Outcome, command, finish, run};
use crate::support::namespace::Namespace;
use crate::support::report::{LOOK, Report};

/// Longest wait for `multi-user.target`; 4 to 12 s were measured.
const BOOTED_WITHIN: Duration = Duration::from_secs(120);

/// A container that runs; ended when dropped, with all its processes.
pub struct Container {
    child: Child,
    /// PID 1 of the container, as the host numbers it.
    init: u32,
    group: PathBuf,
    log: PathBuf,
    since: Instant,
    _namespace: Namespace,
    _scratch: tempfile::TempDir,
}

impl Container {
    /// Boots the root at `root`, which it may write to. Needs root.
    pub fn start(root: &Path) -> Self {
        Self::start_on(root, |_| {})
    }

    /// As [`Container::start`], in a network namespace that `prepare` has been at.
    pub fn start_on(root: &Path, prepare: impl FnOnce(&Namespace)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rolecast-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let namespace = Namespace::new();
        prepare(&namespace);
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let log = scratch.path().join("nspawn.log");
        // A fresh mount of the unified hierarchy: some hosts have the old one at /sys/fs/cgroup.
        let script = format!(
            "umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup\n\
             mount -t cgroup2 none /sys/fs/cgroup && mkdir -p /sys/fs/cgroup/{name} &&\n\
             echo $$ >/sys/fs/cgroup/{name}/cgroup.procs &&\n\
             exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --directory=\"$1\" --boot \
             --register=no --keep-unit --network-namespace-path={} --capability=CAP_NET_ADMIN,CAP_NET_RAW \
             --machine={name} --hostname={name} --console=pipe",
            namespace.path()
        );
        let output = fs::File::create(&log).expect("a file in the temporary folder");
        let errors = output.try_clone().expect("a file can be opened twice");
        let mut command = command("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(root).stdout(Stdio::from(output)).stderr(errors);
        let since = Instant::now();
        let child = command.spawn().expect("package systemd-container is installed");
        let group = unified_hierarchy().join(&name);
        let mut container = Self { child, init: 0, group, log, since, _namespace: namespace, _scratch: scratch };
        container.init = container.find_init();
        container
    }

    /// Waits until the boot has come to an end, takes the look of [`Report`] and returns it.
    #[track_caller]
    pub fn report(&mut self) -> Report {
        self.wait_for_boot();
        let (seconds, processor) = (self.since.elapsed().as_secs_f64(), self.processor_seconds());
        let outcome = self.enter("/bin/sh", &["-c", LOOK]);
        let mut report = Report::parse(&outcome.stdout).unwrap_or_else(|| panic!("no whole report\n{outcome}"));
        report.seconds_to_boot = seconds;
        report.processor_seconds = processor;
        report
    }

    /// PID 1 of the container, as the host numbers it.
    pub fn init(&self) -> u32 {
        self.init
    }

    /// Runs a program inside, as root.
    #[track_caller]
    pub fn enter(&self, program: &str, arguments: &[&str]) -> Outcome {
        let mut command = command("nsenter");
        command.arg("--target").arg(self.init.to_string());
        command.args(["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--", program]).args(arguments);
        finish(command)
    }

    /// Asks its systemd to halt, and waits until nothing is left.
    #[track_caller]
    pub fn stop(mut self) {
        // systemd(1): SIGRTMIN+4 is "power off".
        run("kill", ["-s", "RTMIN+4", &self.init.to_string()]).succeeds();
        let asked = Instant::now();
        while self.child.try_wait().expect("the container can be asked").is_none() {
            assert!(asked.elapsed() < BOOTED_WITHIN, "the container does not stop\n{}", self.tail());
            pause();
        }
    }

    #[track_caller]
    fn wait_for_boot(&mut self) {
        loop {
            let state = self.enter("systemctl", &["is-system-running"]).stdout;
            if matches!(state.trim(), "running" | "degraded") {
                return;
            }
            let ended = self.child.try_wait().expect("the container can be asked").is_some();
            assert!(!ended, "the container ended in state `{}`\n{}", state.trim(), self.tail());
            assert!(self.since.elapsed() < BOOTED_WITHIN, "still `{}`\n{}", state.trim(), self.tail());
            pause();
        }
    }

    /// The child of nspawn that is the container's PID 1, once it has become systemd.
    #[track_caller]
    fn find_init(&mut self) -> u32 {
        loop {
            let children = format!("/proc/{0}/task/{0}/children", self.child.id());
            let listed = fs::read_to_string(children).unwrap_or_default();
            for child in listed.split_whitespace() {
                let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
                if matches!(name.trim(), "systemd" | "init") {
                    return child.parse().expect("the kernel prints numbers");
                }
            }
            let ended = self.child.try_wait().expect("the container can be asked").is_some();
            assert!(!ended, "nspawn ended before systemd\n{}", self.tail());
            assert!(self.since.elapsed() < BOOTED_WITHIN, "no systemd\n{}", self.tail());
            pause();
        }
    }

    /// User and system seconds of everything inside (cgroup v2, `cpu.stat`).
    fn processor_seconds(&self) -> f64 {
        let stat = fs::read_to_string(self.group.join("cpu.stat")).unwrap_or_default();
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse::<f64>().ok());
        usage.unwrap_or_default() / 1e6
    }

    fn tail(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) && self.init != 0 {
            let _ = command("kill").args(["-KILL", &self.init.to_string()]).output();
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
            pause();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        remove_group(&self.group);
    }
}

/// Where the unified control group hierarchy is mounted.
fn unified_hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").expect("proc is mounted");
    let found = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    found.and_then(|line| line.split(' ').nth(1)).expect("a cgroup2 mount").into()
}

/// Removes a control group and those under it, deepest first. Only empty ones can be removed.
fn remove_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}
