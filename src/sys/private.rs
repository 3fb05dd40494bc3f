//! Files that only their owner reads: never readable by others for an instant, and refused where they are.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::files::{Context as _, FileError};
use crate::report::{Diagnostic, Kind};

/// Why a private file was not read.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// The file system.
    #[error(transparent)]
    File(#[from] FileError),
    /// Group or others may read or write it.
    #[error("`{}` can be read by others: its mode is {mode:04o}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than such a file can be.
    #[error("`{}` has more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
}

impl From<PrivateError> for Diagnostic {
    fn from(error: PrivateError) -> Self {
        let message = error.to_string();
        match error {
            PrivateError::File(error) => error.into(),
            PrivateError::Open { path, .. } => Self::error(Kind::Trust, message)
                .note("it holds secrets; whoever could read it has to be taken to know them")
                .hint(format!("`chmod 600 {}`, and change the secrets if others were on this machine", path.display())),
            PrivateError::TooLarge { .. } => Self::error(Kind::Input, message),
        }
    }
}

/// Opens a file for reading that group and others have no permission on.
///
/// # Errors
/// When they have, it is a directory, or it cannot be opened.
pub fn open(path: &Path) -> Result<File, PrivateError> {
    let file = File::open(path).on("open", path)?;
    // Asked of the open file: its name may mean another one by now.
    let facts = file.metadata().on("look at", path)?;
    if facts.is_dir() {
        let source = io::ErrorKind::IsADirectory.into();
        return Err(FileError { doing: "read", path: path.to_owned(), source }.into());
    }
    let mode = facts.mode() & 0o7777;
    match mode & 0o077 {
        0 => Ok(file),
        _ => Err(PrivateError::Open { path: path.to_owned(), mode }),
    }
}

/// All bytes of a private file of at most `limit` bytes.
///
/// # Errors
/// When others may read it, it is larger, or it cannot be read.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, PrivateError> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes).on("read", path)?;
    match bytes.len() as u64 > limit {
        true => Err(PrivateError::TooLarge { path: path.to_owned(), limit }),
        false => Ok(bytes),
    }
}

/// Writes `bytes` to `path`, mode 0600, whole or not at all, and on the disk when this returns.
///
/// # Errors
/// When it cannot be written; an old file then still stands.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = Temporary::create(path)?;
    let mut file = &temporary.file;
    file.write_all(bytes).on("write", path)?;
    temporary.publish(path, true)
}

/// As [`write`], but never in place of a file that is there.
///
/// # Errors
/// When there is a file already (of kind `AlreadyExists`), or it cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = Temporary::create(path)?;
    let mut file = &temporary.file;
    file.write_all(bytes).on("write", path)?;
    temporary.publish(path, false)
}

/// Makes a directory, mode 0700, and its parents as the user's mask says. One that is there is closed to others.
///
/// # Errors
/// When it cannot be made, or is another user's.
pub fn directory(path: &Path) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).on("make the directory", parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            fs::set_permissions(path, Permissions::from_mode(0o700)).on("close to others", path)
        }
        Err(error) => Err(error).on("make the directory", path),
    }
}

/// A file of mode 0600 beside the one that it will be; removed unless published.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    fn create(beside: &Path) -> Result<Self, FileError> {
        let name = beside.file_name().unwrap_or_default().to_string_lossy();
        for attempt in 0.. {
            let path = beside.with_file_name(format!(".{name}.{}-{attempt}.part", std::process::id()));
            match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Self { file, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1_000 => {}
                Err(error) => return Err(error).on("create", beside),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists)).on("create", beside)
    }

    fn publish(self, path: &Path, replace: bool) -> Result<(), FileError> {
        self.file.sync_all().on("write", path)?;
        match replace {
            true => fs::rename(&self.path, path).on("write", path)?,
            // A second name cannot be given to a name that is taken.
            false => fs::hard_link(&self.path, path).on("create", path)?,
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).on("write", parent)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_private_and_what_is_not_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(read(&path, 3).unwrap(), b"one");
        assert!(matches!(read(&path, 2), Err(PrivateError::TooLarge { .. })));
        assert_eq!(write_new(&path, b"two").unwrap_err().source.kind(), io::ErrorKind::AlreadyExists);
        write(&path, b"two").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path, 9), Err(PrivateError::Open { mode: 0o640, .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_directory_is_told_as_one_and_not_as_a_file_that_others_can_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(read(folder.path(), 9).unwrap_err().to_string().ends_with("is a directory"));
    }

    #[test]
    fn a_directory_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        for place in [path.clone(), folder.path().join("c")] {
            directory(&place).unwrap();
            assert_eq!(fs::metadata(&place).unwrap().mode() & 0o7777, 0o700);
        }
    }
}
