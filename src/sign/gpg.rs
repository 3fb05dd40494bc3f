//! A key that gpg has: on a smart card or another token, in a TPM, or in its own key box.
//!
//! gpg-agent and scdaemon speak with the hardware and ask for PIN or passphrase on the terminal, so gpg is run with the
//! caller's environment. It dates its signatures by its clock. What it hands back is verified before it is used.

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::archive::{Keyring, Policy, verify_detached};
use crate::report::{Diagnostic, Kind};

/// A key that gpg signs with.
#[derive(Debug)]
pub struct GpgKey {
    /// As the user named it.
    name: String,
    certificate: Keyring,
    /// Seconds since the Epoch.
    now: i64,
}

impl GpgKey {
    /// Asks gpg for the certificate of the key that `name` means: a fingerprint, key id or user id. `now` is in seconds since
    /// the Epoch.
    ///
    /// # Errors
    /// When gpg cannot be run, or `name` does not mean exactly one key.
    pub fn find(name: &str, now: i64) -> Result<Self, Diagnostic> {
        let exported = run(Command::new("gpg").args(["--batch", "--export", "--"]).arg(name), &[])?;
        let refuse = |what: String| {
            Diagnostic::error(Kind::Input, what)
                .hint("name it by its fingerprint, as `gpg --list-secret-keys` prints it")
        };
        if exported.stdout.is_empty() {
            return Err(refuse(format!("gpg has no key `{name}`")));
        }
        let certificate = Keyring::parse(&exported.stdout)
            .map_err(|error| refuse(format!("what gpg exports of the key `{name}` is of no use: {error}")))?;
        match certificate.fingerprints().len() {
            1 => Ok(Self { name: name.to_owned(), certificate, now }),
            several => Err(refuse(format!("gpg has {several} keys that `{name}` means"))),
        }
    }

    /// The certificate.
    pub fn certificate(&self) -> &Keyring {
        &self.certificate
    }

    /// A binary detached signature over `bytes`, a text.
    ///
    /// # Errors
    /// When gpg does not sign, or with a key that may not vouch.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Diagnostic> {
        let mut command = Command::new("gpg");
        // One word, so that what begins with `-` is no option.
        command.args(["--batch", "--digest-algo=SHA512", "--no-armor", "--detach-sign", "--output=-"]);
        command.arg(format!("--local-user={}", self.name));
        let signed = run(&mut command, bytes)?;
        let told = |what: &str| Diagnostic::error(Kind::Trust, format!("gpg {what} the key `{}`", self.name));
        if !signed.status.success() {
            return Err(told("could not sign with").note("its own message is above"));
        }
        let policy = Policy { keyring: &self.certificate, pins: &[], now: self.now, outlived: false };
        match verify_detached(bytes, &signed.stdout, policy) {
            Ok(_) => Ok(signed.stdout),
            Err(error) => Err(error.reasons().iter().fold(told("made no good signature with"), Diagnostic::note)),
        }
    }
}

/// Runs gpg, whose messages, and whose questions for a PIN, go to the terminal: not [`crate::sys::program::Program`], which has
/// none.
fn run(command: &mut Command, input: &[u8]) -> Result<Output, Diagnostic> {
    let run = |command: &mut Command| -> io::Result<Output> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipe = child.stdin.take();
        thread::scope(|scope| {
            // It may end without reading all of it; that shows in how it ends.
            scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(input)));
            child.wait_with_output()
        })
    };
    run(command).map_err(|error| {
        Diagnostic::error(Kind::World, format!("the program `gpg` cannot be run: {error}"))
            .hint("install Debian's packages `gpg` and `gpg-agent`, and `scdaemon` for a token")
    })
}
