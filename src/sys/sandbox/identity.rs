//! Who we are, and which ids we may hand out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{getgid, getuid};

use crate::report::{Diagnostic, Kind};

/// Ids that a root file system may use: 0 to 65535.
const IDS: u32 = 65536;

/// A range of subordinate ids, as a line of subuid(5) gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id.
    pub first: u32,
    /// Number of ids.
    pub count: u32,
}

/// How isolation is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// We are root: no user namespace.
    Root,
    /// A user namespace: id 0 is ourselves, ids from 1 are subordinate ones.
    User {
        /// Our user id.
        uid: u32,
        /// Our group id.
        gid: u32,
        /// Subordinate user ids.
        users: IdRange,
        /// Subordinate group ids.
        groups: IdRange,
    },
}

impl Mode {
    /// The mode for whoever runs this process.
    ///
    /// # Errors
    /// For an ordinary user without a large enough subordinate range or without `newuidmap`.
    pub fn of_this_process() -> Result<Self, Diagnostic> {
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        if uid == 0 {
            return Ok(Self::Root);
        }
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let name = user_name(&read("/etc/passwd"), uid);
        let users = range_of("/etc/subuid", &read("/etc/subuid"), &name, uid)?;
        let groups = range_of("/etc/subgid", &read("/etc/subgid"), &name, uid)?;
        for tool in ["newuidmap", "newgidmap"] {
            if !in_path(tool) {
                return Err(Diagnostic::error(Kind::World, format!("`{tool}` is not installed"))
                    .note("an ordinary user's build needs it to give the files of an image their owners")
                    .hint("install it (`apt-get install uidmap`), or run as root"));
            }
        }
        Ok(Self::User { uid, gid, users, groups })
    }

    /// Writes the id maps of the process `pid`, which is in a fresh user namespace.
    pub(super) fn map_ids(&self, pid: i32) -> Result<(), String> {
        let Self::User { uid, gid, users, groups } = self else { return Ok(()) };
        for (tool, own, range) in [("newuidmap", uid, users), ("newgidmap", gid, groups)] {
            let map = [0, *own, 1, 1, range.first, IDS - 1];
            let output = Command::new(tool)
                .arg(pid.to_string())
                .args(map.iter().map(ToString::to_string))
                .stdin(Stdio::null())
                .output()
                .map_err(|error| format!("{tool}: {error}"))?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
            }
        }
        Ok(())
    }
}

fn user_name(passwd: &str, uid: u32) -> String {
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| uid.to_string())
}

fn range_of(file: &str, text: &str, name: &str, uid: u32) -> Result<IdRange, Diagnostic> {
    let number = uid.to_string();
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = IdRange { first: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
        (owner == name || owner == number).then_some(range)
    });
    let largest = ranges.max_by_key(|range| range.count);
    if let Some(range) = largest.filter(|range| range.count >= IDS - 1) {
        return Ok(range);
    }
    let has = largest.map_or("none".to_owned(), |range| format!("{}", range.count));
    Err(Diagnostic::error(Kind::World, format!("the user `{name}` has no range of {IDS} subordinate ids in `{file}`"))
        .note(format!("ids there: {has}; the files of an image belong to many users"))
        .hint(format!(
            "as root: `usermod --add-subuids 524288-589823 --add-subgids 524288-589823 {name}` with a free range"
        ))
        .hint("or run as root"))
}

fn in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory: std::path::PathBuf| is_file(&directory.join(tool)))
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_range_of_a_user_is_taken_by_name_or_number() {
        let text = "other:1:65536\nanna:100:10\n1000:300000:65536\n";
        assert_eq!(range_of("/etc/subuid", text, "anna", 1000).unwrap(), IdRange { first: 300_000, count: 65536 });
        assert_eq!(user_name("root:x:0:0::/:/bin/sh\nanna:x:1000:1000::/:/bin/sh\n", 1000), "anna");
        assert_eq!(user_name("", 7), "7");
    }

    #[test]
    fn a_missing_or_small_range_is_refused_with_the_remedy() {
        for text in ["", "anna:100:1000\n", "broken line\nanna:x:y\n"] {
            let diagnostic = range_of("/etc/subgid", text, "anna", 1000).unwrap_err();
            assert!(diagnostic.hints[0].contains("usermod --add-subuids"), "{text:?}");
            assert!(diagnostic.message.contains("/etc/subgid"));
        }
    }
}
