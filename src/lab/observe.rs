//! Who leads, who holds the virtual address, which databases take writes, how far each join is: seen several times a
//! second, from beside the machines and not through the network that is being cut.
//!
//! Owns one thread a machine. A container is looked at through its PID 1: addresses and status are files of the kernel
//! and of its root, the database is asked through one `psql` that stays, Patroni through its own port inside the
//! machine's network namespace. Two processors run the whole cluster, so nothing is started anew for each look. A virtual
//! machine is asked by one program, once a second or less often. Never asks one machine about another; never changes anything.

mod database;
mod patroni;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::cluster::Lab;
use super::machine::{self, Exec};
use super::timeline::{EntryKind, Machine as State, Recorder, Seen};
use crate::sys::namespace;

use database::Question;

/// Between two looks at a container.
const PERIOD: Duration = Duration::from_millis(200);

/// Least time between two looks at a virtual machine.
const REMOTE_PERIOD: Duration = Duration::from_secs(1);

/// … and most.
const REMOTE_LONGEST: Duration = Duration::from_secs(8);

/// How many times as long as a look at a virtual machine takes it is left alone: looking must not be what it is busy with.
const REMOTE_REST: u32 = 8;

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Observer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What one thread looks at.
struct Eye {
    lab: Arc<Lab>,
    recorder: Recorder,
    stop: Arc<AtomicBool>,
    /// Index of the machine, in the lab and in the recording.
    node: usize,
    name: String,
    address: Ipv4Addr,
    virtual_address: Ipv4Addr,
    has_database: bool,
}

/// One look.
#[derive(Debug, Default, PartialEq, Eq)]
struct Look {
    leads: bool,
    address: bool,
    writable: bool,
}

impl Observer {
    /// Starts looking at every machine of the lab; `regions` names those with a database.
    pub fn start(lab: &Arc<Lab>, regions: &[String], virtual_address: Ipv4Addr, recorder: &Recorder) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let machines = lab.machines().map(|machine| machine.identity().clone());
        let threads = machines.enumerate().map(|(node, identity)| {
            let eye = Eye {
                lab: Arc::clone(lab),
                recorder: recorder.clone(),
                stop: Arc::clone(&stop),
                node,
                has_database: regions.contains(&identity.name),
                name: identity.name,
                address: identity.address,
                virtual_address,
            };
            std::thread::spawn(move || eye.run())
        });
        Self { stop: Arc::clone(&stop), threads: threads.collect() }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Eye {
    fn run(&self) {
        let Ok(machine) = self.lab.machine(&self.name) else { return };
        while !self.stop.load(Ordering::Relaxed) {
            match machine.process() {
                // Returns when the machine is off, or another boot of it runs.
                Some(process) => self.watch_container(machine, process),
                None if machine.is_running() => {
                    let began = Instant::now();
                    self.tell(machine, &self.look_remotely(machine));
                    std::thread::sleep((began.elapsed() * REMOTE_REST).clamp(REMOTE_PERIOD, REMOTE_LONGEST));
                }
                None => {
                    self.see_off();
                    std::thread::sleep(PERIOD);
                }
            }
        }
    }

    fn watch_container(&self, machine: &dyn machine::Machine, process: i32) {
        if namespace::enter_of(process).is_err() {
            return;
        }
        let patroni = patroni::Endpoint::new(self.address);
        let mut question: Option<Question> = None;
        while !self.stop.load(Ordering::Relaxed) && machine.process() == Some(process) {
            let mut look = Look { address: holds(self.virtual_address), ..Look::default() };
            if self.has_database {
                look.writable = database::writable(&mut question, process);
                look.leads = patroni.leads();
            }
            // What was seen while the machine ended is not its last state.
            if machine.process() != Some(process) {
                break;
            }
            self.tell(machine, &look);
            std::thread::sleep(PERIOD);
        }
        if machine.process().is_none() {
            self.see_off();
        }
    }

    /// All in one program: starting one costs a virtual machine a tenth of a second.
    fn look_remotely(&self, machine: &dyn machine::Machine) -> Look {
        let script = format!(
            "ip -4 -o addr; echo; \
             test -x /usr/bin/psql && setpriv --reuid=postgres --regid=postgres --clear-groups \
             psql -XAtc 'SELECT pg_is_in_recovery()' 2>/dev/null | sed 's/^/recovery /'; \
             test -x /usr/bin/patronictl && curl -sk -o /dev/null -w 'primary %{{http_code}}\\n' --max-time 2 \
             https://{}:8008/primary; true",
            self.address
        );
        let said = machine.exec(&Exec::shell(&script).within(Duration::from_secs(10)));
        let said = said.map(|outcome| outcome.output).unwrap_or_default();
        Look {
            address: said.contains(&format!(" {}/32 ", self.virtual_address)),
            writable: said.contains("recovery f"),
            leads: said.contains("primary 200"),
        }
    }

    fn see_off(&self) {
        self.see(&Look::default());
        if self.recorder.see(self.node, Seen::Machine(State::Off)) {
            self.note(&State::Off.text());
        }
    }

    fn tell(&self, machine: &dyn machine::Machine, look: &Look) {
        self.see(look);
        let state = match machine.status() {
            Ok(Some(status)) => state(&status),
            Ok(None) => State::Booting,
            // It is just going off, or writing it.
            Err(_) => return,
        };
        let text = state.text();
        if self.recorder.see(self.node, Seen::Machine(state)) {
            self.note(&text);
        }
    }

    fn see(&self, look: &Look) {
        for (seen, text) in [
            (Seen::Leads(look.leads), "leads"),
            (Seen::Address(look.address), "holds the virtual address"),
            (Seen::Writable(look.writable), "takes writes"),
        ] {
            let yes = matches!(seen, Seen::Leads(true) | Seen::Address(true) | Seen::Writable(true));
            let first = self.recorder.read().last(self.node, &seen).is_none();
            if self.recorder.see(self.node, seen) && (yes || !first) {
                self.note(if yes { text.to_owned() } else { format!("no longer {text}") }.as_str());
            }
        }
    }

    fn note(&self, text: &str) {
        self.recorder.note(EntryKind::Seen, format!("{} {text}", self.name));
    }
}

/// How a machine is, from what its join says of itself (`rolecast-join status --json`).
pub fn state(status: &serde_json::Value) -> State {
    let text = |name: &str| status.get(name).and_then(serde_json::Value::as_str);
    let what = text("what").unwrap_or_default();
    let step = text("step").unwrap_or("its start");
    match text("state") {
        Some("joined") => State::Joined,
        Some("stopped") => State::Stopped(what.to_owned()),
        Some("waiting" | "idle") => State::Joining(format!("{step}, waiting for {what}")),
        _ if what.is_empty() => State::Joining(step.to_owned()),
        _ => State::Joining(format!("{step}, {what}")),
    }
}

/// Whether the calling thread's network namespace has `address` among its own.
fn holds(address: Ipv4Addr) -> bool {
    // /proc/net would show the main thread's.
    let trie = std::fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap_or_default();
    is_local(&trie, address)
}

/// Whether the kernel's forwarding table has `address` as a local one: a leaf, and under it `/32 host LOCAL`.
fn is_local(trie: &str, address: Ipv4Addr) -> bool {
    let leaf = format!("|-- {address}");
    let mut lines = trie.lines().map(str::trim);
    while lines.any(|line| line == leaf) {
        let mut under = lines.clone().take_while(|line| line.starts_with('/'));
        if under.any(|line| line == "/32 host LOCAL") {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_found_in_the_forwarding_table() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.77.0.0\n        /24 link UNICAST\n     |-- 10.77.0.10\n        \
                    /32 host LOCAL\n     |-- 10.77.0.255\n        /32 link BROADCAST\nLocal:\n     |-- 127.0.0.1\n        \
                    /32 host LOCAL\n";
        for (address, local) in [([10, 77, 0, 10], true), ([127, 0, 0, 1], true), ([10, 77, 0, 255], false)] {
            assert_eq!(is_local(trie, address.into()), local, "{address:?}");
        }
        assert!(!is_local(trie, Ipv4Addr::new(10, 77, 0, 1)));
        assert!(is_local(&std::fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap(), Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn a_status_becomes_a_state() {
        let cases = [
            (r#"{"state":"joined"}"#, "joined"),
            (
                r#"{"state":"waiting","step":"etcd-member","what":"region-1"}"#,
                "joining: etcd-member, waiting for region-1",
            ),
            (r#"{"state":"working","step":"schema","what":"migrate"}"#, "joining: schema, migrate"),
            (r#"{"state":"stopped","step":"schema","what":"the schema is newer"}"#, "stopped: the schema is newer"),
            (r#"{}"#, "joining: its start"),
        ];
        for (status, text) in cases {
            assert_eq!(state(&serde_json::from_str(status).unwrap()).text(), text);
        }
    }
}
