//! Where a vault is kept: one private file, or one that the program `age` encrypts. What is encrypted is never on the
//! disk in the clear: it passes through pipes.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{io, thread};

use super::vault::Vault;
use crate::report::{Diagnostic, Kind};
use crate::sys::files::{self, Context as _, FileError};
use crate::sys::private;

/// Largest secrets file: a thousand nodes take 2 MiB.
const LARGEST: u64 = 16 << 20;

/// A secrets file.
#[derive(Clone, Debug)]
pub struct SecretsFile {
    /// Where it is. One named `*.age` is encrypted.
    pub path: PathBuf,
    /// The file of identities that age decrypts with.
    pub identity: Option<PathBuf>,
}

impl SecretsFile {
    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "age")
    }

    /// Reads the vault.
    ///
    /// # Errors
    /// When there is none, others may read it, or it does not decrypt or read.
    pub fn read(&self) -> Result<Vault, Diagnostic> {
        let bytes = match private::read(&self.path, LARGEST) {
            Ok(bytes) => bytes,
            Err(private::PrivateError::File(error)) if error.source.kind() == ErrorKind::NotFound => {
                return Err(Diagnostic::error(
                    Kind::Input,
                    format!("there are no secrets at `{}`", self.path.display()),
                )
                .hint("`rolecast secrets init` makes them; `--secrets` names another place"));
            }
            Err(error) => return Err(error.into()),
        };
        let bytes = if self.is_encrypted() { self.decrypt(&bytes)? } else { bytes };
        let read = |text: &str| Vault::read(text);
        let vault = std::str::from_utf8(&bytes).map_or_else(|_| read(""), read);
        vault.map_err(|problem| problem.note(format!("in `{}`", self.path.display())))
    }

    /// Writes a vault where there is none yet. Its directory is made, closed to others and hidden from git.
    ///
    /// # Errors
    /// When there is a file already, or it cannot be written.
    pub fn create(&self, vault: &Vault) -> Result<(), Diagnostic> {
        let bytes = self.encoded(vault)?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|parent| !parent.exists()) {
            close(parent)?;
        }
        private::write_new(&self.path, &bytes).map_err(|error| match error.source.kind() {
            ErrorKind::AlreadyExists => {
                Diagnostic::error(Kind::Input, format!("there are secrets at `{}` already", self.path.display()))
                    .note("they are not overwritten: a running cluster would be lost")
            }
            _ => error.into(),
        })
    }

    /// Writes a changed vault in place of `old`, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written, or another process has changed the file since; what it wrote then still stands.
    pub fn replace(&self, old: &Vault, new: &Vault) -> Result<(), Diagnostic> {
        let bytes = self.encoded(new)?;
        // Held until this returns: nobody else changes a file of this directory between the look and the change.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = files::open(parent)?;
        directory.lock().on("lock", parent)?;
        if self.read()? != *old {
            let message = format!("`{}` was changed by someone else meanwhile", self.path.display());
            return Err(Diagnostic::error(Kind::World, message).hint("run this again"));
        }
        Ok(private::write(&self.path, &bytes)?)
    }

    fn encoded(&self, vault: &Vault) -> Result<Vec<u8>, Diagnostic> {
        match (self.is_encrypted(), vault.recipients.is_empty()) {
            (false, true) => Ok(vault.write().into_bytes()),
            (true, false) => encrypt(vault),
            (false, false) => Err(Diagnostic::error(Kind::Usage, "secrets with recipients are kept encrypted")
                .hint(format!("name a file such as `{}.age`", self.path.display()))),
            (true, true) => Err(Diagnostic::error(Kind::Usage, "nobody is named who could decrypt the secrets")
                .hint("name one with `--recipient age1…`, as `age-keygen` prints it")),
        }
    }

    fn decrypt(&self, bytes: &[u8]) -> Result<Vec<u8>, Diagnostic> {
        let Some(identity) = &self.identity else {
            return Err(Diagnostic::error(Kind::Usage, format!("`{}` is encrypted", self.path.display()))
                .hint("name the file with your age identity in ROLECAST_AGE_IDENTITY"));
        };
        age(Command::new("age").arg("--decrypt").arg("--identity").arg(identity), bytes, "decrypt")
    }
}

fn encrypt(vault: &Vault) -> Result<Vec<u8>, Diagnostic> {
    let mut command = Command::new("age");
    command.args(["--encrypt", "--armor"]);
    for recipient in &vault.recipients {
        // One word, so that what begins with `-` is no option.
        command.arg(format!("--recipient={recipient}"));
    }
    age(&mut command, vault.write().as_bytes(), "encrypt")
}

/// Runs age, whose messages, and a question for a passphrase, go to the terminal: not [`crate::sys::Program`], which
/// has none.
fn age(command: &mut Command, input: &[u8], doing: &str) -> Result<Vec<u8>, Diagnostic> {
    let run = |command: &mut Command| -> io::Result<_> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipe = child.stdin.take();
        thread::scope(|scope| {
            // It may end without reading all of it; that shows in how it ends.
            scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(input)));
            child.wait_with_output()
        })
    };
    match run(command) {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(_) => Err(Diagnostic::error(Kind::Trust, format!("age could not {doing} the secrets"))),
        Err(error) => Err(Diagnostic::error(Kind::World, format!("the program `age` cannot be run: {error}"))
            .hint("install Debian's package `age`")),
    }
}

/// Makes a directory that others cannot enter and git does not see.
///
/// # Errors
/// When it cannot be written.
pub fn close(directory: &Path) -> Result<(), FileError> {
    private::directory(directory)?;
    let ignore = directory.join(".gitignore");
    match fs::exists(&ignore) {
        Ok(true) => Ok(()),
        _ => private::write(&ignore, b"# Secrets: never in a repository.\n*\n"),
    }
}
