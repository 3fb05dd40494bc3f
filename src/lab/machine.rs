//! A machine of the lab: what can be done to it and asked of it, whatever it is made of.
//!
//! Owns the contract between scenarios and back ends (`container`, `qemu`). All methods take `&self` and may be called
//! from several threads: a scenario measures while it breaks things. Every wait is bounded and says what it waited
//! for. Never decides what to break.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::report::{Diagnostic, Kind, Report};
use crate::seed::NoCloud;
use crate::sys::process;

/// What machines are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackEnd {
    /// systemd as PID 1 of a container, on the root inside the disk image.
    Container,
    /// A virtual machine that boots the disk image: firmware, boot loader, verity and all.
    Qemu,
}

impl fmt::Display for BackEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Container => "container",
            Self::Qemu => "qemu",
        })
    }
}

/// What a machine is, fixed for its life.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// Host name: the node's name in the image file.
    pub name: String,
    /// Role.
    pub role: String,
    /// Static address.
    pub address: Ipv4Addr,
    /// Link-layer address, lower case with colons.
    pub mac: String,
    /// Machine id: 32 hexadecimal digits, the firmware's or the container manager's.
    pub machine_id: String,
}

/// A program to run on a machine, as root, found in its `PATH`.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The program.
    pub program: String,
    /// Its arguments. Never a secret: everyone on the machine can read them.
    pub arguments: Vec<String>,
    /// What it reads from standard input.
    pub input: Vec<u8>,
    /// When it is killed.
    pub limit: Duration,
}

impl Exec {
    /// A program with arguments, nothing to read, and half a minute.
    pub fn new(program: &str, arguments: &[&str]) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            input: Vec::new(),
            limit: Duration::from_secs(30),
        }
    }

    /// A script for `/bin/sh`.
    pub fn shell(script: &str) -> Self {
        Self::new("/bin/sh", &["-c", script])
    }

    /// With something to read.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// With another time limit.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// How a program on a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code; none when a signal or the time limit ended it.
    pub code: Option<i32>,
    /// Standard output, lossily as UTF-8; at most 4 MiB of it.
    pub output: String,
    /// Standard error, likewise.
    pub errors: String,
    /// Wall time.
    pub took: Duration,
}

impl Outcome {
    /// Whether it ended with exit code 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output.
    ///
    /// # Errors
    /// When it did not succeed: `doing` says what failed, the note has the end of what it said.
    pub fn expect(self, doing: &str) -> Result<String, Diagnostic> {
        if self.succeeded() {
            return Ok(self.output);
        }
        let how = match self.code {
            Some(code) => format!("exit code {code}"),
            None => format!("cut off after {:.0} s", self.took.as_secs_f64()),
        };
        let said = if self.errors.trim().is_empty() { &self.output } else { &self.errors };
        let lines: Vec<&str> = said.trim().lines().collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        let diagnostic = Diagnostic::error(Kind::World, format!("cannot {doing}: {how}"));
        Err(if end.is_empty() { diagnostic } else { diagnostic.note(end) })
    }
}

/// A machine of the lab.
pub trait Machine: Send + Sync + fmt::Debug {
    /// What it is.
    fn identity(&self) -> &Identity;

    /// What it is made of.
    fn back_end(&self) -> BackEnd;

    /// Powers it on and returns at once: it boots. Nothing happens when it runs already.
    ///
    /// # Errors
    /// When it could not be made or powered on.
    fn start(&self) -> Result<(), Diagnostic>;

    /// Shuts it down in good order and waits until it is off. Nothing happens when it is off.
    ///
    /// # Errors
    /// When it is not off after `within`.
    fn stop(&self, within: Duration) -> Result<(), Diagnostic>;

    /// Cuts its power: every process of it ends at once, and it vanishes from the network.
    ///
    /// # Errors
    /// When something of it is left.
    fn kill(&self) -> Result<(), Diagnostic>;

    /// Whether it is powered on.
    fn is_running(&self) -> bool;

    /// Re-images it: the next boot finds an empty state. It has to be off.
    ///
    /// # Errors
    /// When it runs, or its state cannot be removed.
    fn wipe_state(&self) -> Result<(), Diagnostic>;

    /// Runs a program on it.
    ///
    /// # Errors
    /// When it is off, cannot be reached, or the program cannot be started. A failing program is an [`Outcome`].
    fn exec(&self, exec: &Exec) -> Result<Outcome, Diagnostic>;

    /// Opens a root shell on it over our own standard streams, and waits for its end.
    ///
    /// # Errors
    /// When the machine is off or cannot be reached.
    fn interact(&self) -> Result<(), Diagnostic>;

    /// Bytes of a small file on it (1 MiB at most); none when there is none.
    ///
    /// # Errors
    /// When the machine is off or cannot be reached.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Diagnostic> {
        let limit = FILE_LIMIT.to_string();
        let outcome = self.exec(&Exec::new("head", &["-c", &limit, "--", path]))?;
        Ok(outcome.succeeded().then(|| outcome.output.into_bytes()))
    }

    /// Writes a file on it, root's, with these permission bits; missing directories are made.
    ///
    /// # Errors
    /// When the machine is off or cannot be reached, or the file cannot be written.
    fn write(&self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), Diagnostic> {
        let exec = Exec::new("install", &["-D", "-m", &format!("{mode:o}"), "/dev/stdin", path]).input(bytes);
        self.exec(&exec)?.expect(&format!("write `{path}` on `{}`", self.identity().name)).map(drop)
    }

    /// Sets what the next boot finds as its seed source, or takes it away.
    ///
    /// # Errors
    /// When it cannot be written.
    fn set_seed(&self, seed: Option<&NoCloud>) -> Result<(), Report>;

    /// Sets how far its clock is off at the next boot, in seconds. Only QEMU: a container has the host's clock.
    ///
    /// # Errors
    /// When its back end cannot.
    fn set_clock_offset(&self, seconds: i64) -> Result<(), Diagnostic>;

    /// Sets whether it boots over the network, without a disk, at its next start. Only QEMU.
    ///
    /// # Errors
    /// When its back end cannot.
    fn set_network_boot(&self, network: bool) -> Result<(), Diagnostic>;

    /// Where its console is logged, over all boots.
    fn console(&self) -> PathBuf;

    /// User and system seconds that it used since it was powered on.
    fn processor_seconds(&self) -> f64;

    /// Its PID 1 as this host numbers it, where it shares the host's kernel and is on: what is looked at many times a
    /// second is looked at through it.
    fn process(&self) -> Option<i32> {
        None
    }

    /// How often its back end had to start it again because its boot hung before a kernel spoke.
    fn restarts(&self) -> u32 {
        0
    }

    /// What the join says of itself now, as JSON (`rolecast-join status --json`); none when it has not spoken since the
    /// boot. A join that runs no more is `idle`, whatever it said last.
    ///
    /// # Errors
    /// When the machine is off or cannot be reached, or the answer is no JSON.
    fn status(&self) -> Result<Option<Value>, Diagnostic> {
        let asked = format!("ask the join of `{}`", self.identity().name);
        let said = self.exec(&Exec::new("rolecast-join", &["status", "--json"]))?.expect(&asked)?;
        let status = parse(&self.identity().name, said.as_bytes())?;
        Ok((!status["writer"].is_null()).then_some(status))
    }

    /// Its journal of this boot, as `journalctl` prints it.
    ///
    /// # Errors
    /// When the machine is off or cannot be reached.
    fn journal(&self) -> Result<String, Diagnostic> {
        let exec = Exec::new("journalctl", &["--boot", "--no-pager", "--output=short-precise"]);
        self.exec(&exec)?.expect(&format!("read the journal of `{}`", self.identity().name))
    }

    /// Has the join end itself when it reaches the step `step` next; none takes the hook away.
    ///
    /// # Errors
    /// As [`Machine::write`].
    fn set_kill_hook(&self, step: Option<&str>) -> Result<(), Diagnostic> {
        match step {
            Some(step) => self.write(KILL_HOOK, 0o600, step.as_bytes()),
            None => self
                .exec(&Exec::new("rm", &["-f", KILL_HOOK]))?
                .expect(&format!("remove the kill hook of `{}`", self.identity().name))
                .map(drop),
        }
    }

    /// Fills the file system that holds its state until nothing fits any more.
    ///
    /// # Errors
    /// As [`Machine::exec`].
    fn fill_state(&self) -> Result<(), Diagnostic> {
        // Large blocks first, then what is left; both end with "no space left".
        let script =
            format!("for size in 1M 4k; do dd if=/dev/zero bs=$size of={FILLER}.$size 2>/dev/null; done; sync");
        self.exec(&Exec::shell(&script).within(Duration::from_secs(120))).map(drop)
    }

    /// Takes back [`Machine::fill_state`].
    ///
    /// # Errors
    /// As [`Machine::exec`].
    fn free_state(&self) -> Result<(), Diagnostic> {
        let script = format!("rm -f {FILLER}.*; sync");
        self.exec(&Exec::shell(&script))?.expect(&format!("free the state of `{}`", self.identity().name)).map(drop)
    }
}

/// Where the join writes its status.
pub const STATUS: &str = "/run/rolecast/status.json";

/// What is true now of a status that a join wrote: as the agent tells it, for who reads the files of a machine from outside.
/// `read` gives a file's bytes there, none when there is no such file.
pub(super) fn status_from_files(
    name: &str,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>, Diagnostic>,
) -> Result<Option<Value>, Diagnostic> {
    let Some(written) = read(STATUS)? else { return Ok(None) };
    let mut status = parse(name, &written)?;
    let writer = &status["writer"];
    let (Some(number), Some(started)) = (writer["process"].as_u64(), writer["started"].as_u64()) else {
        return Ok(Some(status));
    };
    let stat = read(&format!("/proc/{number}/stat"))?.unwrap_or_default();
    if process::started(&String::from_utf8_lossy(&stat)) != Some(started) {
        status["state"] = "idle".into();
        status["step"] = Value::Null;
        status["what"] = "rolecast-join.service to run again".into();
    }
    Ok(Some(status))
}

fn parse(name: &str, status: &[u8]) -> Result<Value, Diagnostic> {
    serde_json::from_slice(status).map_err(|error| {
        let message = format!("the status of the join of `{name}` is no JSON: {error}");
        Diagnostic::error(Kind::World, message)
    })
}

/// Names the step at which the join ends itself.
pub const KILL_HOOK: &str = "/run/rolecast/kill-at";

/// Bytes of a file that are read.
pub(super) const FILE_LIMIT: u64 = 1 << 20;

/// What fills the state up.
const FILLER: &str = "/var/lib/rolecast/lab-filler";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_join_said_before_it_ended_is_not_believed() {
        let joined = br#"{"state":"joined","step":"joined","what":null,"writer":{"process":9,"started":77}}"#;
        let stat =
            |started: &str| format!("9 (rolecast-join) S 1 9 9 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 2 0 {started} 9 8\n");
        let now = |stat: Option<String>| {
            let read = |path: &str| match path {
                STATUS => Ok(Some(joined.to_vec())),
                "/proc/9/stat" => Ok(stat.clone().map(String::into_bytes)),
                _ => Ok(None),
            };
            status_from_files("rack-1", read).unwrap().unwrap()["state"].as_str().map(str::to_owned)
        };
        assert_eq!(now(Some(stat("77"))).as_deref(), Some("joined"));
        assert_eq!(now(Some(stat("78"))).as_deref(), Some("idle"), "another process has its number");
        assert_eq!(now(None).as_deref(), Some("idle"));
        assert_eq!(status_from_files("rack-1", |_| Ok(None)).unwrap(), None);
        assert!(status_from_files("rack-1", |_| Ok(Some(b"{".to_vec()))).is_err());
    }

    #[test]
    fn a_failed_program_says_how_and_what() {
        let outcome = |code, output: &str, errors: &str| Outcome {
            code,
            output: output.to_owned(),
            errors: errors.to_owned(),
            took: Duration::from_secs(3),
        };
        assert_eq!(outcome(Some(0), "fine\n", "").expect("look").unwrap(), "fine\n");
        let diagnostic = outcome(Some(4), "", "no such unit\n").expect("look").unwrap_err();
        assert_eq!(diagnostic.message, "cannot look: exit code 4");
        assert_eq!(diagnostic.notes, ["no such unit"]);
        let diagnostic = outcome(None, "half\n", "").expect("look").unwrap_err();
        assert_eq!((diagnostic.message.as_str(), diagnostic.notes.len()), ("cannot look: cut off after 3 s", 1));
    }
}
