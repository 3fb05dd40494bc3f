//! Files with errors that name them, and writes that happen whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, IFlags, Mode, OFlags, RenameFlags, ioctl_getflags, ioctl_setflags, renameat_with};

use crate::report::{Diagnostic, Kind};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} `{}`: {}", path.display(), explain(source))]
pub struct FileError {
    /// What was being done, as a verb: `read`, `create`.
    pub doing: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

/// The kernel's message without Rust's `(os error 28)`.
fn explain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

impl From<FileError> for Diagnostic {
    fn from(error: FileError) -> Self {
        let diagnostic = Self::error(Kind::World, error.to_string());
        match error.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => diagnostic
                .note("what was written so far is kept: the next run resumes from it")
                .hint("free space there, or name another place with `--store` or `--output`"),
            io::ErrorKind::PermissionDenied => diagnostic
                .hint("run as a user who may, or name another place: `--store` for the store, `--output` for images"),
            io::ErrorKind::ReadOnlyFilesystem => diagnostic.hint("name a place that can be written"),
            _ => diagnostic,
        }
    }
}

/// Has the file system give each directory in `directory` a part of the disk of its own (chattr(1), attribute T), where it
/// knows that: ext4 would look again for each new file at all inodes that were freed beside it a short while ago.
pub fn spread(directory: &Path) {
    let Ok(file) = File::open(directory) else { return };
    if let Ok(flags) = ioctl_getflags(&file)
        && !flags.contains(IFlags::TOPDIR)
    {
        let _ = ioctl_setflags(&file, flags | IFlags::TOPDIR);
    }
}

/// Adds to a failed operation what it was and on which file.
pub trait Context<T> {
    /// `doing` is a verb: `read`, `create`.
    ///
    /// # Errors
    /// The same failure, as a [`FileError`].
    fn on(self, doing: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T> Context<T> for io::Result<T> {
    fn on(self, doing: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError { doing, path: path.to_owned(), source })
    }
}

impl<T> Context<T> for Result<T, rustix::io::Errno> {
    fn on(self, doing: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(io::Error::from).on(doing, path)
    }
}

/// All bytes of a file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).on("read", path)
}

/// Opens a file for reading.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).on("open", path)
}

/// Makes a directory and its parents; one that is there already is fine.
///
/// # Errors
/// When it cannot be made.
pub fn make_directory(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).on("make the directory", path)
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_if_there(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).on("remove", path),
        _ => Ok(()),
    }
}

/// As [`remove_if_there`], for a file that may be large: its name is gone at once, and its pages and blocks are given back
/// beside what the caller does next. That takes a good part of the time in which it was written.
///
/// # Errors
/// As there.
pub fn remove_large(path: &Path) -> Result<(), FileError> {
    // Held so (open(2)), the file stays until it is let go, and nothing of it is read.
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    remove_if_there(path)?;
    // Where no thread can be had, it is let go here.
    let _ = std::thread::Builder::new().spawn(move || drop(held));
    Ok(())
}

/// Writes `bytes` to `path` so that a reader sees the old file or the new one, never a part.
///
/// # Errors
/// When it cannot be written; the old file then still stands.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    written(path, bytes)?.publish()
}

/// As [`write_atomically`], for a file that can be made again: does not wait for the disk.
///
/// # Errors
/// As there.
pub fn write_remade(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    written(path, bytes)?.publish_remade()
}

fn written(path: &Path, bytes: &[u8]) -> Result<Pending, FileError> {
    let mut file = Pending::create(path)?;
    file.file.write_all(bytes).on("write", path)?;
    Ok(file)
}

/// A file being written beside its final name; removed again unless published.
#[derive(Debug)]
pub struct Pending {
    /// Open for writing.
    pub file: File,
    temporary: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Pending {
    /// Starts writing what will be `path`.
    ///
    /// # Errors
    /// When the directory does not take a new file.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The process id keeps two builds apart; the name never reaches an output.
        for attempt in 0.. {
            let temporary = path.with_file_name(format!(".{name}.{}-{attempt}.part", std::process::id()));
            match File::options().read(true).write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    // Held while it is written, see `remove_abandoned`; who took it for abandoned in between removes it.
                    let taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
                    if !taken && temporary.exists() {
                        return Ok(Self { file, temporary, path: path.to_owned(), published: false });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 10_000 => {}
                Err(error) => return Err(error).on("create", path),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists)).on("create", path)
    }

    /// Gives the file its final name, in place of what stood there.
    ///
    /// # Errors
    /// When the rename fails.
    pub fn publish(self) -> Result<(), FileError> {
        let path = self.path.clone();
        self.publish_as(&path)
    }

    /// As [`Pending::publish`], for a file that can be made again: does not wait for the disk. ext4 writes all of a file to
    /// it before that takes another's place (`auto_da_alloc`, ext4(5)), but not where two change places.
    ///
    /// # Errors
    /// As there.
    pub fn publish_remade(mut self) -> Result<(), FileError> {
        let replaces = fs::symlink_metadata(&self.path).is_ok_and(|there| there.is_file());
        let (new, old) = (&self.temporary, &self.path);
        if !(replaces && renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE).is_ok()) {
            return self.publish();
        }
        self.published = true;
        // What stood there has the temporary name now.
        remove_large(&self.temporary)
    }

    /// As [`Pending::publish`], under another name of the same file system.
    ///
    /// # Errors
    /// As there.
    pub fn publish_as(mut self, path: &Path) -> Result<(), FileError> {
        fs::rename(&self.temporary, path).on("write", path)?;
        self.published = true;
        Ok(())
    }
}

/// Removes what was being written in `directory` by processes that have ended without a word: [`Pending`] files that
/// nobody holds. Each is locked by its writer (flock(2)), so one of a build that runs beside this one stays.
///
/// # Errors
/// When the directory cannot be read.
pub fn remove_abandoned(directory: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(directory).on("read", directory)?.filter_map(Result::ok) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !(name.starts_with('.') && name.ends_with(".part")) {
            continue;
        }
        if let Ok(file) = File::options().write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_build_was_writing_is_removed_and_what_another_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (left, other) = (folder.path().join(".rack.raw.17-0.part"), folder.path().join("notes.part"));
        fs::write(&left, b"half").unwrap();
        fs::write(&other, b"a person's").unwrap();
        let mut pending = Pending::create(&folder.path().join("rack.raw")).unwrap();
        remove_abandoned(folder.path()).unwrap();
        assert!(!left.exists() && other.exists());
        pending.file.write_all(b"whole").unwrap();
        pending.publish().unwrap();
        assert_eq!(fs::read(folder.path().join("rack.raw")).unwrap(), b"whole");
    }

    #[test]
    fn a_large_file_is_gone_at_once_and_nothing_but_the_name_that_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, link) = (folder.path().join("kept"), folder.path().join("link"));
        fs::write(&kept, b"kept").unwrap();
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        remove_large(&link).unwrap();
        remove_large(&link).unwrap();
        assert!(fs::symlink_metadata(&link).is_err() && kept.exists());
        remove_large(&kept).unwrap();
        assert!(!kept.exists());
        assert!(remove_large(folder.path()).is_err());
    }

    #[test]
    fn a_file_that_can_be_made_again_takes_the_place_of_another_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rack.raw");
        for text in [b"first", b"other"] {
            let mut pending = Pending::create(&path).unwrap();
            pending.file.write_all(text).unwrap();
            pending.publish_remade().unwrap();
            assert_eq!(fs::read(&path).unwrap(), text);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Pending::create(&path).unwrap().publish_remade().is_err());
        assert!(path.is_dir());
    }
}
