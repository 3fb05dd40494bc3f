//! The operator's SSH key, with which `rolecast apply` reaches the machines: ed25519, as OpenSSH writes it.
//! Formats: `PROTOCOL.key` of OpenSSH (private), RFC 4253 section 6.6 and RFC 8709 (public).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};

use super::random;
use crate::report::{Diagnostic, Kind};
use crate::ticket::Secret;

/// A key pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorKey {
    /// When it was made, seconds since the Epoch.
    pub made: u64,
    /// The line for `authorized_keys`.
    pub public: String,
    /// The private key's file.
    pub private: Secret,
}

impl OperatorKey {
    /// A new key; `comment` says whose it is.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn create(comment: &str, now: u64) -> Result<Self, Diagnostic> {
        let seed = random::bytes::<32>()?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| Diagnostic::error(Kind::Internal, "32 bytes are no ed25519 key"))?;
        let key = pair.public_key().as_ref();
        let mut public = Vec::new();
        string(&mut public, b"ssh-ed25519");
        string(&mut public, key);
        // Two equal numbers tell a reader of an encrypted key that it was decrypted.
        let check = random::bytes::<4>()?;
        let mut section = [check, check].concat();
        section.extend_from_slice(&public);
        string(&mut section, &[&seed, key].concat());
        string(&mut section, comment.as_bytes());
        let padding = (1..=7u8).take(section.len().next_multiple_of(8) - section.len());
        section.extend(padding);
        let mut file = b"openssh-key-v1\0".to_vec();
        for field in ["none", "none", ""] {
            string(&mut file, field.as_bytes());
        }
        file.extend_from_slice(&1u32.to_be_bytes());
        string(&mut file, &public);
        string(&mut file, &section);
        Ok(Self {
            made: now,
            public: format!("ssh-ed25519 {} {comment}", STANDARD.encode(&public)),
            private: Secret(armour(&file)),
        })
    }
}

/// RFC 4251 section 5: a length in four bytes, then the bytes.
fn string(to: &mut Vec<u8>, bytes: &[u8]) {
    // Fields here are shorter than 1 KiB.
    to.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(bytes);
}

fn armour(file: &[u8]) -> String {
    let text = STANDARD.encode(file);
    let mut armoured = "-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(70));
        armoured.push_str(line);
        armoured.push('\n');
        rest = after;
    }
    armoured + "-----END OPENSSH PRIVATE KEY-----\n"
}
