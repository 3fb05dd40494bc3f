//! Network namespaces: a thread can move into one.
//!
//! Reference: setns(2), ip-netns(8).

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::files::{Context as _, FileError};

/// Where ip-netns(8) keeps the namespace `name`.
pub fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// As [`enter`], into the network namespace of a process.
///
/// # Errors
/// When there is no such process, or this process may not enter.
pub fn enter_of(process: i32) -> Result<(), FileError> {
    enter_at(Path::new(&format!("/proc/{process}/ns/net")))
}

/// Moves the calling thread, and no other, into the network namespace `name`; sockets that it makes from now on belong
/// there. Needs root.
///
/// # Errors
/// When there is no such namespace, or this process may not enter it.
pub fn enter(name: &str) -> Result<(), FileError> {
    enter_at(&path(name))
}

fn enter_at(path: &Path) -> Result<(), FileError> {
    let file = File::open(path).on("open", path)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).on("enter", path)
}
