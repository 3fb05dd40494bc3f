//! Tickets brought to machines over SSH, and how far the machines are with them.
//!
//! Runs the host's ssh with the operator's key. The key is in memory that only this process holds, named to ssh by its
//! descriptor, so that it is gone with the process whatever ends it. Nothing is told to a machine whose host key is not
//! the accepted one: ssh refuses it, by [`KnownHosts`]; how keys get there is `meet`'s.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;

use super::known::{self, KnownHosts};
use super::plant::Planted;
use super::vault::Vault;
use crate::report::{Diagnostic, Kind};
use crate::spec::NodeFacts;
use crate::sys::files::Context as _;
use crate::sys::{HostKey, Program, Said};

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
    /// The accepted host keys.
    pub(super) known: KnownHosts,
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
    /// With the operator's key of `vault`. `ssh` is the program and its first arguments; `known` has the host keys that
    /// were accepted.
    ///
    /// # Errors
    /// When the kernel gives no memory for the key.
    pub fn new(vault: &Vault, ssh: Vec<OsString>, known: KnownHosts) -> Result<Self, Diagnostic> {
        let key = in_memory("operator-key", vault.operator.private.0.as_bytes())
            .on("hold in memory", Path::new("the operator's key"))?;
        Ok(Self { ssh, known, key })
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

    /// The host key that answers at a machine's address now. It is asked for nothing else, and no key is proved to it.
    ///
    /// # Errors
    /// When none answers.
    pub(super) fn offered(&self, node: &NodeFacts) -> Result<HostKey, Diagnostic> {
        let mut seen = in_memory("host-keys", b"").on("hold in memory", Path::new("a host key"))?;
        // ssh writes it down as soon as the machine has proved it, before it says who it is itself.
        let options = [("StrictHostKeyChecking", "accept-new"), ("PreferredAuthentications", "none")];
        let said = self.connect(node, &place(&seen), &options, "status", b"")?;
        let mut text = String::new();
        let read = seen.rewind().and_then(|()| seen.read_to_string(&mut text));
        read.on("read", Path::new("a host key"))?;
        known::named(&text, &node.name).ok_or_else(|| unreached(node, &printable(&said.reason())))
    }

    /// Runs the agent on a machine that has proved to be the one that was accepted.
    fn talk(&self, node: &NodeFacts, verb: &str, input: &[u8]) -> Result<Said, Diagnostic> {
        let said = self.connect(node, self.known.path(), &[("StrictHostKeyChecking", "yes")], verb, input)?;
        if said.status.code() != Some(NO_CONNECTION) {
            return Ok(said);
        }
        match said.errors.contains("HOST IDENTIFICATION HAS CHANGED") {
            true => Err(self.changed(node)),
            false => Err(unreached(node, &printable(&said.reason()))),
        }
    }

    /// Runs ssh, with this verb of the agent's for its command.
    fn connect(
        &self,
        node: &NodeFacts,
        known: &Path,
        options: &[(&str, &str)],
        verb: &str,
        input: &[u8],
    ) -> Result<Said, Diagnostic> {
        let failed = |why: &str| unreached(node, why);
        let (program, first) = self.ssh.split_first().ok_or_else(|| failed("no program `ssh` is named"))?;
        let arguments = first.iter().cloned().chain(self.arguments(node, known, options, verb));
        let command = Program::new(&program.to_string_lossy(), arguments);
        command.input(input).limit(LIMIT).ask().map_err(|error| failed(&error.to_string()))
    }

    fn arguments(&self, node: &NodeFacts, known: &Path, options: &[(&str, &str)], verb: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["-T", "-F", "none", "-i"].map(OsString::from).into();
        arguments.push(place(&self.key).into());
        let mut option = |name: &str, value: &OsStr| {
            let mut option = OsString::from(format!("{name}="));
            option.push(value);
            arguments.extend(["-o".into(), option]);
        };
        option("UserKnownHostsFile", &KnownHosts::quoted(known));
        let always = [
            ("GlobalKnownHostsFile", "none"),
            ("HostKeyAlias", &node.name),
            ("IdentitiesOnly", "yes"),
            ("IdentityAgent", "none"),
            ("BatchMode", "yes"),
            ("ConnectTimeout", "10"),
            ("ServerAliveInterval", "5"),
            ("ServerAliveCountMax", "3"),
        ];
        for (name, value) in options.iter().chain(&always) {
            option(name, value.as_ref());
        }
        arguments.extend([format!("root@{}", node.address).into(), AGENT.into(), verb.into()]);
        arguments
    }
}

/// A file that is nowhere, for its owner alone: ssh takes no key that others could read.
fn in_memory(name: &str, content: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    Ok(file)
}

/// How another process names an open file of this one: descriptors are not handed down.
fn place(file: &File) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}

fn unreached(node: &NodeFacts, why: &str) -> Diagnostic {
    Diagnostic::error(Kind::World, format!("cannot reach `{}` at {}", node.name, node.address)).note(why)
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
