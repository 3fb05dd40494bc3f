//! A network namespace that holds only `lo`, for everything that boots.
//!
//! What a guest sends can then reach no host at all: even QEMU's user network ends at this namespace's 127.0.0.1.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::command::{command, run};

/// A namespace, removed when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one under a name that no other test run has. Needs root.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rolecast-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run("ip", ["netns", "add", &name]).succeeds();
        let made = Self { name };
        run("ip", ["-n", &made.name, "link", "set", "lo", "up"]).succeeds();
        made
    }

    /// A command inside. `ip` replaces itself by the program, so the child is the program.
    pub fn command(&self, program: &str) -> Command {
        let mut command = command("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// The path that holds it open.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs `work` on a thread of its own inside the namespace; sockets that it makes belong there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).expect("the namespace is there");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a namespace");
                work()
            });
            thread.join().expect("the thread inside the namespace does not fail")
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Sockets and processes that still use it keep it alive without its name; that is what we want.
        let _ = command("ip").args(["netns", "del", &self.name]).output();
    }
}
