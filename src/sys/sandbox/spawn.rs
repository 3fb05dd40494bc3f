//! Starting processes in namespaces: the code between fork and exec.
//!
//! The one file of the program with `unsafe`. Between `fork` and `exec` only system calls are made: no allocation, no
//! lock, no panic, because another thread may have held any lock when the process was forked (signal-safety(7)).

#![expect(unsafe_code, reason = "pre_exec, fork and close_range have no safe form")]

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};
use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, Gid, Uid, UnshareFlags, remove_capability_from_bounding_set};

/// How a process in fresh namespaces gets its user namespace, if it gets one.
#[derive(Debug)]
pub(super) enum UserNamespace {
    /// None: root stays what it is.
    None,
    /// A fresh one: the process writes its id to `ready` and waits until `go` gives a byte, which says that its id
    /// maps are written. Anything else there ends it.
    Mapped {
        /// Write end.
        ready: OwnedFd,
        /// Read end.
        go: OwnedFd,
    },
}

/// Starts `command` as process 1 of fresh mount, PID, network, IPC, UTS and control-group namespaces.
///
/// The [`Child`] is a waiter outside of the PID namespace: it ends as process 1 ends, and when it is killed, so is
/// everything inside. The error of a refused step is that of the system call.
pub(super) fn spawn_in_namespaces(mut command: Command, user: UserNamespace) -> io::Result<Child> {
    let prepare = move || {
        if let UserNamespace::Mapped { ready, go } = &user {
            enter_user_namespace(ready, go)?;
        }
        let fresh = UnshareFlags::NEWNS
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS
            | UnshareFlags::NEWCGROUP;
        unshare(fresh)?;
        fork_process_one()?;
        rustix::system::sethostname(b"localhost")?;
        // Nothing mounted from here on shows outside.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        // The old one shows the processes of the outer PID namespace, where `/proc/self` is not ours.
        mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)?;
        Ok(())
    };
    // SAFETY: `prepare` and what it calls make system calls only, on memory made before the fork.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: the flags hold no `FILES`: no descriptor becomes another's.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn enter_user_namespace(ready: &OwnedFd, go: &OwnedFd) -> io::Result<()> {
    unshare(UnshareFlags::NEWUSER)?;
    let own = rustix::process::getpid().as_raw_nonzero().get().to_ne_bytes();
    rustix::io::write(ready.as_fd(), &own)?;
    let mut byte = [0];
    if rustix::io::read(go.as_fd(), &mut byte)? != 1 {
        return Err(Errno::PERM.into());
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    Ok(())
}

/// Forks; the parent waits for the child and ends as it does, the child goes on as process 1.
fn fork_process_one() -> io::Result<()> {
    // SAFETY: this process is itself a fork of one thread; both halves make system calls only until they exec or
    // exit.
    let forked = unsafe { libc::fork() };
    match Pid::from_raw(forked) {
        _ if forked < 0 => Err(io::Error::last_os_error()),
        None => {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        }
        Some(child) => {
            // SAFETY: nothing in this half uses a descriptor again. The pipe over which the standard library
            // learns of the exec has to be closed here, or it would wait for this half's end.
            unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
            let code = loop {
                match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
                    Err(Errno::INTR) => {}
                    Ok(Some((_, status))) => break status.exit_status().unwrap_or(70),
                    Ok(None) | Err(_) => break 70,
                }
            };
            // SAFETY: ends this half at once, without running what the whole program registered for its end.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Starts `command` with `root` (a mount point) as its root directory, in a mount namespace of its own where nothing
/// else is mounted, without capabilities beyond `kept`, without other descriptors than 0, 1 and 2.
pub(super) fn spawn_in_root(mut command: Command, root: &Path, kept: CapabilitySet) -> io::Result<Child> {
    let root = std::ffi::CString::new(root.as_os_str().as_encoded_bytes())?;
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        rustix::process::setsid()?;
        unshare(UnshareFlags::NEWNS)?;
        rustix::process::chdir(root.as_c_str())?;
        rustix::process::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        rustix::process::umask(Mode::WGRP | Mode::WOTH);
        for capability in CapabilitySet::all().iter() {
            if !kept.contains(capability) {
                match remove_capability_from_bounding_set(capability) {
                    // A capability that this kernel does not know.
                    Ok(()) | Err(Errno::INVAL) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // SAFETY: marks descriptors to be closed at exec; none is closed before.
        if unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: `prepare` makes system calls only, on memory made before the fork.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// Kills every other process of this PID namespace. Only for its process 1.
pub(super) fn kill_all_others() {
    if rustix::process::getpid().is_init() {
        // SAFETY: sends a signal; from process 1 of a PID namespace it reaches that namespace alone.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// Mounts `from` on `to` once more; `flags` are applied to the new mount.
pub(super) fn bind(from: &Path, to: &Path, flags: MountFlags) -> Result<(), Errno> {
    mount_bind(from, to)?;
    if !flags.is_empty() {
        rustix::mount::mount_remount(to, MountFlags::BIND | flags, "")?;
    }
    Ok(())
}
