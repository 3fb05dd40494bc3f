//! Public host keys as OpenSSH writes them, by which a machine is known before anything is told to it.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::digest::Digest;

/// Where a machine has its own: made at its first boot, kept on state.
const OWN: &str = "/var/lib/rolecast/ssh/ssh_host_ed25519_key.pub";

/// The longest line that is taken for a key.
const LONGEST: usize = 4096;

/// A public key: its algorithm and itself, in base64 (RFC 4253 section 6.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    algorithm: String,
    encoded: String,
}

impl HostKey {
    /// Reads `ALGORITHM BASE64`, and what may follow: the content of a `.pub` file, or what a line of `known_hosts` has
    /// after its first word (sshd(8)).
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace().map(str::to_owned);
        let (algorithm, encoded) = (words.next()?, words.next()?);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.@".contains(&byte);
        let key = Self { algorithm, encoded };
        let sound = text.len() <= LONGEST && key.algorithm.bytes().all(plain) && key.bytes().is_some();
        sound.then_some(key)
    }

    /// The key of the machine whose root is `root`; none where it has none yet.
    pub fn own(root: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(root.join(OWN.trim_start_matches('/'))).ok()?)
    }

    /// As `ssh-keygen -l` shows it: `SHA256:` and the digest in base64, unpadded.
    pub fn fingerprint(&self) -> String {
        let digest = Digest::of(&self.bytes().unwrap_or_default());
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest.as_bytes()))
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.encoded).ok().filter(|bytes| !bytes.is_empty())
    }
}

/// As OpenSSH's files have it.
impl fmt::Display for HostKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.algorithm, self.encoded)
    }
}

/// Whether a text is a fingerprint as [`HostKey::fingerprint`] writes it.
pub fn is_fingerprint(text: &str) -> bool {
    let digest = text.strip_prefix("SHA256:").map(|encoded| STANDARD_NO_PAD.decode(encoded));
    matches!(digest, Some(Ok(bytes)) if bytes.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made, and its fingerprint shown, by OpenSSH.
    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDjwtn8fkz0jHA68ibuyBtIpXQ7NNnkLNYMqnTTQNQlc root@lab";

    #[test]
    fn a_key_has_the_fingerprint_that_openssh_shows() {
        let key = HostKey::parse(LINE).unwrap();
        assert!(is_fingerprint(&key.fingerprint()), "{}", key.fingerprint());
        assert_eq!(HostKey::parse(&key.to_string()), Some(key.clone()));
        let root = tempfile::tempdir().unwrap();
        assert_eq!(HostKey::own(root.path()), None);
        let own = root.path().join(OWN.trim_start_matches('/'));
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, LINE).unwrap();
        assert_eq!(HostKey::own(root.path()), Some(key.clone()));
        let shown = std::process::Command::new("ssh-keygen").args(["-l", "-f"]).arg(&own).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains(&key.fingerprint()), "{shown}");
    }

    #[test]
    fn what_is_no_key_and_no_fingerprint_is_refused() {
        for text in ["", "ssh-ed25519", "ssh-ed25519 ???", "a;b AAAA", "ssh-ed25519 =", &"a ".repeat(LONGEST)] {
            assert_eq!(HostKey::parse(text), None, "{text:.40}");
        }
        for text in ["", "SHA256:", "SHA256:AAAA", "MD5:00:11", &format!("SHA256:{}=", "A".repeat(43))] {
            assert!(!is_fingerprint(text), "{text}");
        }
        assert!(is_fingerprint(&format!("SHA256:{}", "A".repeat(43))));
    }
}
