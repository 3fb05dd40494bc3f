//! Keys that GnuPG made, in a home of their own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::support::command::{Outcome, command, finish};

/// A GnuPG home of its own, ended with this value.
pub struct Gnupg {
    /// Where it keeps its keys.
    pub home: tempfile::TempDir,
}

impl Gnupg {
    /// An empty one.
    pub fn new() -> Self {
        // Below /tmp, because the agent's socket has a short name.
        let home = tempfile::tempdir().expect("a temporary folder");
        Self { home }
    }

    /// Runs gpg.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let mut gpg = command("gpg");
        gpg.env("GNUPGHOME", self.home.path()).args(["--batch", "--pinentry-mode=loopback"]).args(arguments);
        finish(gpg)
    }

    /// Makes a key and returns its fingerprint. `usage` is `sign`, `cert` or `encr`.
    #[track_caller]
    pub fn key(&self, name: &str, algorithm: &str, usage: &str, passphrase: &str) -> String {
        let passphrase = format!("--passphrase={passphrase}");
        self.run(&[&passphrase, "--quick-generate-key", name, algorithm, usage, "never"]).succeeds();
        self.fingerprint(name)
    }

    /// The fingerprint of a key by its name.
    #[track_caller]
    pub fn fingerprint(&self, name: &str) -> String {
        let listed = self.run(&["--with-colons", "--list-keys", name]).succeeds();
        let line = listed.lines().find_map(|line| line.strip_prefix("fpr:")).expect("a fingerprint");
        line.trim_matches(':').to_owned()
    }

    /// Writes what gpg exports to a file that only its owner reads.
    #[track_caller]
    pub fn export(&self, how: &str, key: &str, file: &str, passphrase: &str) -> PathBuf {
        let path = self.home.path().join(file);
        let (passphrase, output) = (format!("--passphrase={passphrase}"), format!("--output={}", path.display()));
        self.run(&[&passphrase, &output, "--armor", how, key]).succeeds();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("just written");
        path
    }

    /// A binary keyring of one key: what gpgv wants.
    #[track_caller]
    pub fn keyring(&self, key: &str) -> PathBuf {
        let path = self.home.path().join(format!("{key}.pgp"));
        let output = format!("--output={}", path.display());
        self.run(&["--yes", &output, "--export", key]).succeeds();
        path
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        let mut kill = command("gpgconf");
        let _ = kill.env("GNUPGHOME", self.home.path()).args(["--kill", "gpg-agent"]).status();
    }
}
