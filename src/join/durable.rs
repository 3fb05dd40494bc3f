//! Files that are whole, owned and durable, or not there.
//!
//! Owns how the join writes: beside the final name, with owner and mode set before a byte is in it, synced, then
//! renamed, and the directory synced too (rename(2), fsync(2)). Follows no symbolic link on the way (openat2(2),
//! `RESOLVE_NO_SYMLINKS`), so that nobody who may write somewhere in between can send a secret elsewhere. Never
//! decides what is written.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};

use crate::sys::FileError;
use crate::sys::files::Context as _;

/// Who a file belongs to, and its permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belongs {
    /// Number of the owner.
    pub user: u32,
    /// Number of the group.
    pub group: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Belongs {
    /// Root's alone, or the test user's.
    pub fn mine() -> Self {
        Self { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw(), mode: 0o600 }
    }
}

/// Writes `bytes` to `path` under `root`, whole and durable. Missing directories are made, mode 0755.
///
/// # Errors
/// When it cannot be written, or a symbolic link is on the way; what stood there still stands.
pub fn write(root: &Path, path: &Path, bytes: &[u8], belongs: Belongs) -> Result<(), FileError> {
    let shown = root.join(path.strip_prefix("/").unwrap_or(path));
    let (directory, name) = parent(root, path, true)?;
    let temporary = format!(".{name}.rolecast");
    // What an earlier run left when it was killed.
    let _ = rustix::fs::unlinkat(&directory, temporary.as_str(), rustix::fs::AtFlags::empty());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made =
        rustix::fs::openat(&directory, temporary.as_str(), flags, Mode::RUSR | Mode::WUSR).on("create", &shown)?;
    let mut file = File::from(made);
    let written = (|| {
        let owner = (Uid::from_raw(belongs.user), Gid::from_raw(belongs.group));
        rustix::fs::fchown(&file, Some(owner.0), Some(owner.1)).on("give away", &shown)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(belongs.mode)).on("set the mode of", &shown)?;
        file.write_all(bytes).on("write", &shown)?;
        file.sync_all().on("write", &shown)?;
        rustix::fs::renameat(&directory, temporary.as_str(), &directory, name.as_str()).on("write", &shown)?;
        // Not every file system syncs a directory (overlayfs over tmpfs does; some refuse), and the rename stands.
        let _ = rustix::fs::fsync(&directory);
        Ok(())
    })();
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&directory, temporary.as_str(), rustix::fs::AtFlags::empty());
    }
    written
}

/// Whether `path` under `root` is a plain file with these bytes that belongs so.
pub fn stands(root: &Path, path: &Path, bytes: &[u8], belongs: Belongs) -> bool {
    let Ok((directory, name)) = parent(root, path, false) else { return false };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = rustix::fs::openat(&directory, name.as_str(), flags, Mode::empty()) else { return false };
    let Ok(stat) = rustix::fs::fstat(&file) else { return false };
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    let same = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (belongs.user, belongs.group, belongs.mode);
    if !regular || !same || u64::try_from(stat.st_size).ok() != u64::try_from(bytes.len()).ok() {
        return false;
    }
    let mut found = Vec::with_capacity(bytes.len());
    File::from(file).take(bytes.len() as u64 + 1).read_to_end(&mut found).is_ok() && found == bytes
}

/// The directory that holds `path`, opened without following a link under `root`, and the last name.
fn parent(root: &Path, path: &Path, make: bool) -> Result<(OwnedFd, String), FileError> {
    let refuse = |why: rustix::io::Errno| Err(why).on("write", path);
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => names.push(name.to_owned()),
            _ => return refuse(rustix::io::Errno::INVAL),
        }
    }
    let Some(last) = names.pop() else { return refuse(rustix::io::Errno::INVAL) };
    let Some(last) = last.to_str().map(str::to_owned) else { return refuse(rustix::io::Errno::INVAL) };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut directory = rustix::fs::open(root, flags, Mode::empty()).on("open", root)?;
    for name in names {
        if make {
            match rustix::fs::mkdirat(&directory, &name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error).on("make the directory of", path),
            }
        }
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        directory = rustix::fs::openat2(&directory, &name, flags, Mode::empty(), resolve).on("open", path)?;
    }
    Ok((directory, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_laid_whole_with_its_mode_and_recognised() {
        let root = tempfile::tempdir().unwrap();
        let path = Path::new("/etc/a/b.conf");
        let belongs = Belongs { mode: 0o640, ..Belongs::mine() };
        assert!(!stands(root.path(), path, b"x", belongs));
        write(root.path(), path, b"x", belongs).unwrap();
        assert!(stands(root.path(), path, b"x", belongs));
        assert!(!stands(root.path(), path, b"y", belongs));
        assert!(!stands(root.path(), path, b"x", Belongs { mode: 0o600, ..belongs }));
        write(root.path(), path, b"second", belongs).unwrap();
        assert!(stands(root.path(), path, b"second", belongs));
        let names: Vec<_> = std::fs::read_dir(root.path().join("etc/a")).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside the file");
    }

    #[test]
    fn no_link_is_followed_on_the_way() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("etc")).unwrap();
        assert!(write(root.path(), Path::new("/etc/x"), b"secret", Belongs::mine()).is_err());
        assert!(write(root.path(), Path::new("/../x"), b"secret", Belongs::mine()).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        // A link in the last place is replaced, not followed.
        let target = outside.path().join("target");
        std::fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, root.path().join("x")).unwrap();
        write(root.path(), Path::new("/x"), b"new", Belongs::mine()).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        assert!(stands(root.path(), Path::new("/x"), b"new", Belongs::mine()));
    }
}
