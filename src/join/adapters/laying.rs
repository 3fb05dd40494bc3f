//! The ticket's files: whether they lie as they should, and laying them.
//!
//! The image's table of late files bounds what a ticket can write: another path, owner or mode is refused, so that a
//! forged ticket cannot reach further than the image meant it to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File as Handle};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use serde::Deserialize;

use crate::join::world::Trouble;
use crate::sys::files::{self, Context as _, Pending};
use crate::ticket::File;

/// The image's table.
const TABLE: &str = "/usr/lib/rolecast/image.json";

/// Numbers of users and groups, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

/// The part of the image's table that is asked.
#[derive(Debug, Deserialize)]
struct Table {
    late: Vec<Late>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Late {
    path: String,
    owner: String,
    group: String,
    mode: String,
}

impl Names {
    /// Those of this machine.
    ///
    /// # Errors
    /// When it has no `/etc/passwd` or `/etc/group`.
    pub fn read() -> Result<Self, Trouble> {
        let text = |path: &str| {
            let bytes = files::read(Path::new(path)).map_err(|error| Trouble(error.to_string()))?;
            Ok::<_, Trouble>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Self { users: numbers(&text("/etc/passwd")?), groups: numbers(&text("/etc/group")?) })
    }

    /// A user's and a group's number.
    ///
    /// # Errors
    /// When the image has no such user or group.
    pub fn of(&self, user: &str, group: &str) -> Result<(u32, u32), Trouble> {
        let missing = |what: &str, name: &str| Trouble(format!("this image has no {what} `{name}`"));
        let uid = self.users.get(user).ok_or_else(|| missing("user", user))?;
        let gid = self.groups.get(group).ok_or_else(|| missing("group", group))?;
        Ok((*uid, *gid))
    }
}

/// The third field of each line by the first: passwd(5), group(5).
fn numbers(text: &str) -> BTreeMap<String, u32> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((name, fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}

/// Whether all files lie where they belong, with content, owner and mode.
///
/// # Errors
/// When the machine's users cannot be read.
pub fn are_laid(wanted: &[File]) -> Result<bool, Trouble> {
    let names = Names::read()?;
    Ok(wanted.iter().all(|file| is_laid(file, &names)))
}

fn is_laid(file: &File, names: &Names) -> bool {
    let Ok((uid, gid)) = names.of(&file.owner, &file.group) else { return false };
    let Ok(about) = fs::symlink_metadata(&file.path) else { return false };
    about.is_file()
        && (about.uid(), about.gid()) == (uid, gid)
        && u32::from_str_radix(&file.mode, 8) == Ok(about.mode() & 0o7777)
        && about.len() == file.content.0.len() as u64
        && fs::read(&file.path).is_ok_and(|content| content == file.content.0.as_bytes())
}

/// Lays what does not lie yet; each file whole or not at all.
///
/// # Errors
/// When the image did not ask for a file, or one cannot be written.
pub fn lay(wanted: &[File]) -> Result<(), Trouble> {
    let table = files::read(Path::new(TABLE)).map_err(|error| Trouble(error.to_string()))?;
    admit(&table, wanted)?;
    let names = Names::read()?;
    for file in wanted.iter().filter(|file| !is_laid(file, &names)) {
        put(Path::new(&file.path), file.content.0.as_bytes(), names.of(&file.owner, &file.group)?, &file.mode)?;
    }
    Ok(())
}

/// Writes a file with owner and mode, whole or not at all, and lasting.
///
/// # Errors
/// When it cannot be written.
pub fn put(path: &Path, content: &[u8], (uid, gid): (u32, u32), mode: &str) -> Result<(), Trouble> {
    let trouble = |error: files::FileError| Trouble(error.to_string());
    let mode = u32::from_str_radix(mode, 8).map_err(|_| Trouble(format!("`{mode}` is no mode")))?;
    if let Some(parent) = path.parent() {
        files::make_directory(parent).map_err(trouble)?;
    }
    let mut pending = Pending::create(path).map_err(trouble)?;
    let secure = |handle: &Handle| {
        // Nobody but root until it has its owner.
        handle.set_permissions(fs::Permissions::from_mode(0o600))?;
        fchown(handle, Some(uid), Some(gid))?;
        handle.set_permissions(fs::Permissions::from_mode(mode))
    };
    secure(&pending.file).on("set the owner of", path).map_err(trouble)?;
    pending.file.write_all(content).on("write", path).map_err(trouble)?;
    pending.file.sync_all().on("write", path).map_err(trouble)?;
    pending.publish().map_err(trouble)?;
    // The name lasts only when its directory does.
    let directory = path.parent().unwrap_or(path);
    Handle::open(directory).and_then(|handle| handle.sync_all()).on("write", directory).map_err(trouble)
}

/// Whether the image asked for these files, with these owners and modes.
fn admit(table: &[u8], wanted: &[File]) -> Result<(), Trouble> {
    let table: Table = serde_json::from_slice(table).map_err(|error| Trouble(format!("`{TABLE}`: {error}")))?;
    let late: BTreeSet<Late> = table.late.into_iter().collect();
    for File { path, owner, group, mode, .. } in wanted {
        let late_file = Late { path: path.clone(), owner: owner.clone(), group: group.clone(), mode: mode.clone() };
        if !late.contains(&late_file) {
            return Err(Trouble(format!(
                "the ticket brings `{path}` ({owner}:{group} {mode}), which this image does not ask for: the seed was made \
                 for another image"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::Secret;

    fn file(path: &str, mode: &str) -> File {
        let content = Secret("x\n".into());
        File { path: path.into(), owner: "root".into(), group: "root".into(), mode: mode.into(), content }
    }

    #[test]
    fn users_are_found_by_name() {
        let names = Names {
            users: numbers("root:x:0:0:root:/root:/bin/sh\nbroken\nmaas:x:246:246::/:\nneg:x:-1:\n"),
            groups: numbers("root:x:0:\nmaas:x:246:\n"),
        };
        assert_eq!(names.of("maas", "root"), Ok((246, 0)));
        assert!(names.of("broken", "root").is_err());
        assert!(names.of("neg", "root").is_err());
        assert!(names.of("root", "nobody").unwrap_err().0.contains("group `nobody`"));
    }

    #[test]
    fn a_ticket_writes_only_what_the_image_asks_for() {
        let table = br#"{"late":[{"path":"/etc/x","owner":"root","group":"root","mode":"0644","source":"a"}]}"#;
        assert_eq!(admit(table, &[file("/etc/x", "0644")]), Ok(()));
        for other in [file("/etc/shadow", "0644"), file("/etc/x", "4755"), file("/etc/../etc/x", "0644")] {
            assert!(admit(table, &[other]).is_err());
        }
        assert!(admit(b"[", &[]).is_err());
    }

    #[test]
    fn a_file_is_put_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/file");
        let about = fs::metadata(directory.path()).unwrap();
        put(&path, b"text", (about.uid(), about.gid()), "0640").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"text");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(put(&path, b"", (about.uid(), about.gid()), "rwx").is_err());
    }
}
