//! Tickets brought to machines over SSH, and how far the machines are with them.
//!
//! Runs the host's ssh with the operator's key. The key is in memory that only this process holds, named to ssh by its
//! descriptor, so that it is gone with the process whatever ends it. A machine's host key is taken at first sight and
//! kept beside the secrets file; another one later is refused.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;

use super::plant::Planted;
use super::vault::Vault;
use crate::report::{Diagnostic, Kind};
use crate::spec::NodeFacts;
use crate::sys::files::Context as _;
use crate::sys::{Program, Said};

/// The agent on the machines.
const AGENT: &str = "/usr/libexec/rolecast/rolecast-join";
/// How long one conversation may take.
const LIMIT: Duration = Duration::from_secs(60);
/// ssh's own exit code when it could not connect (ssh(1)).
const NO_CONNECTION: i32 = 255;
/// The most of an answer that is shown.
const SHOWN: usize = 4096;

/// Reaches the machines of a cluster.
#[derive(Debug)]
pub struct Courier {
    ssh: Vec<OsString>,
    known_hosts: PathBuf,
    /// Holds the operator's private key.
    key: File,
}

/// How far a machine is, as its `rolecast-join status --json` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Standing {
    /// `joined` when it runs with all that it was told.
    pub state: String,
    /// The generation of the ticket that it has accepted.
    pub generation: Option<u64>,
    /// What it does or waits for.
    pub what: Option<String>,
}

impl Courier {
    /// With the operator's key of `vault`. `ssh` is the program and its first arguments; `known_hosts` keeps what host
    /// keys were seen.
    ///
    /// # Errors
    /// When the kernel gives no memory for the key.
    pub fn new(vault: &Vault, ssh: Vec<OsString>, known_hosts: PathBuf) -> Result<Self, Diagnostic> {
        let keep = || -> std::io::Result<File> {
            let mut key = File::from(memfd_create("operator-key", MemfdFlags::CLOEXEC)?);
            // ssh takes no key that others could read.
            key.set_permissions(Permissions::from_mode(0o600))?;
            key.write_all(vault.operator.private.0.as_bytes())?;
            Ok(key)
        };
        let key = keep().on("hold in memory", Path::new("the operator's key"))?;
        Ok(Self { ssh, known_hosts, key })
    }

    /// Gives a machine its ticket, and returns what it said.
    ///
    /// # Errors
    /// When it cannot be reached or refuses.
    pub fn bring(&self, node: &NodeFacts, planted: &Planted) -> Result<String, Diagnostic> {
        let said = self.talk(node, "accept", planted.ticket.write().as_bytes())?;
        match said.status.success() {
            true => Ok(printable(&said.output)),
            false => {
                let message = format!("`{}` does not take its ticket", node.name);
                Err(printable(&said.errors)
                    .lines()
                    .filter(|line| !line.trim().is_empty())
                    .fold(Diagnostic::error(Kind::World, message), |problem, line| problem.note(line.trim_end())))
            }
        }
    }

    /// Asks a machine where it stands.
    ///
    /// # Errors
    /// When it cannot be reached, or its answer is none.
    pub fn standing(&self, node: &NodeFacts) -> Result<Standing, Diagnostic> {
        let said = self.talk(node, "status --json", b"")?;
        serde_json::from_str(&said.output).map_err(|_| {
            Diagnostic::error(Kind::World, format!("`{}` does not say where it stands", node.name))
                .note(printable(&said.errors).lines().last().unwrap_or_default().to_owned())
        })
    }

    /// Runs the agent on a machine.
    fn talk(&self, node: &NodeFacts, verb: &str, input: &[u8]) -> Result<Said, Diagnostic> {
        let failed = |why: String| {
            Diagnostic::error(Kind::World, format!("cannot reach `{}` at {}", node.name, node.address)).note(why)
        };
        let (program, first) = self.ssh.split_first().ok_or_else(|| failed("no program `ssh` is named".to_owned()))?;
        let program = program.to_string_lossy();
        let command = Program::new(&program, first.iter().cloned().chain(self.arguments(node, verb)));
        let said = command.input(input).limit(LIMIT).ask().map_err(|error| failed(error.to_string()))?;
        if said.status.code() != Some(NO_CONNECTION) {
            return Ok(said);
        }
        let problem = failed(printable(&said.reason()));
        if said.errors.contains("HOST IDENTIFICATION HAS CHANGED") {
            let forget = format!("ssh-keygen -R {} -f {}", node.name, self.known_hosts.display());
            return Err(problem
                .note("it has another host key than before: a new machine in its place, or someone else")
                .hint(format!("if it was set up anew, forget the old key: `{forget}`")));
        }
        Err(problem)
    }

    fn arguments(&self, node: &NodeFacts, verb: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["-T", "-F", "none", "-i"].map(OsString::from).into();
        // By this process's number: descriptors are not handed down.
        arguments.push(format!("/proc/{}/fd/{}", std::process::id(), self.key.as_raw_fd()).into());
        let mut option = |name: &str, value: &std::ffi::OsStr| {
            let mut option = OsString::from(format!("{name}="));
            option.push(value);
            arguments.extend(["-o".into(), option]);
        };
        let mut quoted = OsString::from("\"");
        quoted.push(&self.known_hosts);
        quoted.push("\"");
        option("UserKnownHostsFile", &quoted);
        for (name, value) in [
            ("GlobalKnownHostsFile", "none"),
            ("StrictHostKeyChecking", "accept-new"),
            ("HostKeyAlias", &node.name),
            ("IdentitiesOnly", "yes"),
            ("IdentityAgent", "none"),
            ("BatchMode", "yes"),
            ("ConnectTimeout", "10"),
            ("ServerAliveInterval", "5"),
            ("ServerAliveCountMax", "3"),
        ] {
            option(name, value.as_ref());
        }
        arguments.extend([format!("root@{}", node.address).into(), AGENT.into(), verb.into()]);
        arguments
    }
}

impl Standing {
    /// Whether the machine runs with what it was told in this generation.
    pub fn runs_with(&self, generation: u64) -> bool {
        self.state == "joined" && self.generation.is_some_and(|own| own >= generation)
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let generation = self.generation.map(|own| format!(", generation {own}")).unwrap_or_default();
        let what = self.what.as_deref().map(|what| format!(": {what}")).unwrap_or_default();
        printable(&format!("{}{generation}{what}", self.state))
    }
}

/// What a machine said, without what could steer a terminal, and not too much of it.
fn printable(text: &str) -> String {
    let clean = |character: char| if character.is_control() && character != '\n' { '\u{fffd}' } else { character };
    text.chars().take(SHOWN).map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_runs_with_a_generation_once_it_is_joined_with_it() {
        let standing = |text| serde_json::from_str::<Standing>(text).unwrap();
        let joined = standing(r#"{"state":"joined","generation":3,"what":null,"more":1}"#);
        assert!(joined.runs_with(3) && joined.runs_with(2) && !joined.runs_with(4));
        let waiting = standing(r#"{"state":"waiting","generation":3,"what":"its turn\u001b[2J"}"#);
        assert!(!waiting.runs_with(3));
        assert_eq!(waiting.to_text(), "waiting, generation 3: its turn\u{fffd}[2J");
        assert!(!standing(r#"{"state":"idle"}"#).runs_with(0));
    }
}
