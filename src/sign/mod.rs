//! Signatures over what was built, in the forms that others verify without rolecast.
//!
//! Owns the keys that sign, and what is signed: `SHA256SUMS.gpg`, a binary detached OpenPGP signature over `SHA256SUMS`,
//! which in turn names every file of a role's directory. Judges keys as `archive` does for Releases. A secret key is read, used
//! and dropped: it never goes to the store, a document or a message. Reads no clock: callers say what time it is.
//! Specification: RFC 9580 (OpenPGP), `sha256sum(1)`, systemd-sysupdate's `Verify=`.

mod gpg;
mod key;
mod outputs;
mod verify;

#[cfg(test)]
mod tests;

pub use gpg::GpgKey;
pub use key::{FileKey, KeyError};
pub use outputs::{Signed, directories, sign, sign_list};
pub use verify::{Checked, Problem, check_directory, check_file};

use crate::archive::Keyring;
use crate::report::{Diagnostic, Report};

/// Who signs.
#[derive(Debug)]
pub enum Signer {
    /// A secret key that was read from a file or the environment.
    File(Box<FileKey>),
    /// A key that gpg has, maybe on a token.
    Gpg(GpgKey),
}

impl Signer {
    /// The certificate that verifies what this signer signs.
    pub fn certificate(&self) -> &Keyring {
        match self {
            Self::File(key) => key.certificate(),
            Self::Gpg(key) => key.certificate(),
        }
    }

    /// Fingerprint of the certificate, upper-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        self.certificate().fingerprints().into_iter().next().unwrap_or_default()
    }

    /// A binary detached signature over `bytes`. `released` is the time of what is signed, in seconds since the Epoch; only a
    /// [`FileKey`] can date a signature by it.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn sign(&self, bytes: &[u8], released: i64) -> Result<Vec<u8>, Report> {
        match self {
            Self::File(key) => Ok(key.sign(bytes, released).map_err(Diagnostic::from)?),
            Self::Gpg(key) => Ok(key.sign(bytes)?),
        }
    }
}
