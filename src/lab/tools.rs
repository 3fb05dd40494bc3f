//! The host's programs that a lab is made with: running them, and saying which are missing.
//!
//! Owns their environment and time limits. Knows no node.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::report::{Diagnostic, Kind};
use crate::sys::Program;
use crate::sys::files::Context as _;

use super::machine::BackEnd;

/// Where Debian's ovmf has the firmware of a machine without Secure Boot.
pub const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its empty variable store.
pub const FIRMWARE_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Longest run of a tool that only changes the kernel's tables or a small file; they take milliseconds.
const LIMIT: Duration = Duration::from_secs(60);
/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Program and Debian package, for every lab.
const ALWAYS: &[(&str, &str)] = &[("ip", "iproute2"), ("bridge", "iproute2"), ("nsenter", "util-linux")];
/// … for containers.
const CONTAINER: &[(&str, &str)] = &[
    ("systemd-nspawn", "systemd-container"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("chroot", "coreutils"),
];
/// … for virtual machines.
const QEMU: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("ssh", "openssh-client"),
    (FIRMWARE, "ovmf"),
];

/// Runs a program of the host and gives its standard output.
///
/// # Errors
/// When it does not succeed: the command and what it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, Diagnostic> {
    tell(program, arguments, "")
}

/// As [`run`], with something to read.
///
/// # Errors
/// As there.
pub fn tell(program: &str, arguments: &[&str], input: &str) -> Result<String, Diagnostic> {
    Program::new(program, arguments.iter().copied()).input(input).limit(LIMIT).run().map_err(|error| {
        let diagnostic = Diagnostic::error(Kind::World, error.to_string())
            .note(format!("the command was `{program} {}`", arguments.join(" ").trim()));
        if input.is_empty() { diagnostic } else { diagnostic.note(format!("it was told:\n{}", input.trim())) }
    })
}

/// Whether a program of the host succeeds.
///
/// # Errors
/// When it cannot be started or takes too long.
pub fn ask(program: &str, arguments: &[&str]) -> Result<bool, Diagnostic> {
    let said = Program::new(program, arguments.iter().copied()).limit(LIMIT).ask();
    said.map(|said| said.status.success()).map_err(|error| Diagnostic::error(Kind::World, error.to_string()))
}

/// Runs a program over our own standard streams, with no more of our environment than the terminal's kind.
///
/// # Errors
/// When it cannot be started. How it ends is the person's business.
pub fn interact(mut command: Command) -> Result<(), Diagnostic> {
    let terminal = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").env("HOME", "/root").env("TERM", terminal);
    let shown = command.get_program().to_string_lossy().into_owned();
    let ended = command.status();
    ended.map(drop).map_err(|error| Diagnostic::error(Kind::World, format!("cannot run `{shown}`: {error}")))
}

/// Refuses a host that cannot hold a lab: not root, or tools missing, all of them at once.
///
/// # Errors
/// With what is missing and how to get it.
pub fn check(back_end: BackEnd) -> Result<(), Diagnostic> {
    if !rustix::process::geteuid().is_root() {
        return Err(Diagnostic::error(Kind::World, "a lab needs root")
            .note("it makes network namespaces, mounts and control groups of its own")
            .hint("run the same command with `sudo`"));
    }
    let more = match back_end {
        BackEnd::Container => CONTAINER,
        BackEnd::Qemu => QEMU,
    };
    let missing: Vec<&(&str, &str)> = ALWAYS.iter().chain(more).filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<String> = missing.iter().map(|(program, _)| format!("`{program}`")).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    let message = format!("this host lacks what a lab of the back end `{back_end}` needs: {}", programs.join(", "));
    Err(Diagnostic::error(Kind::World, message).hint(format!("`apt-get install {}`", packages.join(" "))))
}

fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).is_file();
    }
    PATH.split(':').any(|directory| Path::new(directory).join(program).is_file())
}

/// Removes a file or a directory that may not be there.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(path: &Path) -> Result<(), Diagnostic> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.on("remove", path).map_err(Diagnostic::from)
}

/// Asks again and again until `ready` gives something; `what` is being waited for.
///
/// # Errors
/// When nothing came `within` that time, or `ready` fails.
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    mut ready: impl FnMut() -> Result<Option<T>, Diagnostic>,
) -> Result<T, Diagnostic> {
    let since = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(found) = ready()? {
            return Ok(found);
        }
        if since.elapsed() >= within {
            let message = format!("waited {:.0} s for {what}, in vain", within.as_secs_f64());
            return Err(Diagnostic::error(Kind::World, message));
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_vain_says_for_what() {
        let waited = wait_for::<()>("the moon", Duration::ZERO, || Ok(None)).unwrap_err();
        assert_eq!(waited.message, "waited 0 s for the moon, in vain");
        let mut tries = 0;
        let counted = wait_for("three tries", Duration::from_secs(5), || {
            tries += 1;
            Ok((tries == 3).then_some(tries))
        });
        assert_eq!(counted.unwrap(), 3);
    }

    #[test]
    fn a_failing_tool_is_shown_with_what_it_said_and_was_told() {
        let failed = tell("sh", &["-c", "cat >/dev/null; echo no >&2; exit 7"], "link add\n").unwrap_err();
        assert_eq!(failed.message, "`sh` failed: no");
        assert_eq!(failed.notes[1], "it was told:\nlink add");
        assert!(run("no-such-program", &[]).unwrap_err().message.starts_with("cannot run `no-such-program`"));
    }
}
