//! A secret key from a file or the environment: which of its keys signs, and signing with it.
//!
//! The same key and the same bytes give the same signature: no random number and no clock goes in. Version 4 signatures
//! have no salt; Ed25519 and RSA (PKCS #1 v1.5) are deterministic, and ECDSA draws its number from key and message (RFC 6979).
//! A signature is dated by what it is over, not by when it was made.

use pgp::composed::{Deserializable as _, DetachedSignature, SignedPublicKey, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{Fingerprint, KeyDetails, KeyVersion, Password, S2kParams, SecretParams, StringToKey, Timestamp};

use crate::archive::Keyring;
use crate::report::{Diagnostic, Kind};

/// The line that begins an armored secret key.
const ARMOR: &str = "-----BEGIN PGP PRIVATE KEY BLOCK-----";

/// A secret key that is ready to sign.
pub struct FileKey {
    secret: SignedSecretKey,
    certificate: Keyring,
    /// Which of the secret subkeys signs; none: the primary key.
    subkey: Option<usize>,
    passphrase: Option<Password>,
    /// Since when key and certificate are bound to each other, in seconds since the Epoch: no signature is dated before.
    since: i64,
}

/// Why a key cannot sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one OpenPGP secret key.
    #[error("it cannot be read as an OpenPGP secret key: {0}")]
    Broken(String),
    /// A certificate where the secret is wanted.
    #[error("it is a public key, and signing needs the secret one")]
    Public,
    /// Several where one is meant.
    #[error("there are {0} secret keys in it, and it does not say which is to sign")]
    Several(usize),
    /// Of a kind that gpgv and systemd-sysupdate do not know.
    #[error("it is of a kind that gpgv does not verify: {0}")]
    Kind(String),
    /// None of its keys may vouch; one reason each.
    #[error("none of its keys may sign")]
    Unfit(Vec<String>),
    /// It is encrypted, and there is no passphrase.
    #[error("it is encrypted, and no passphrase was given")]
    Locked,
    /// The passphrase does not open it.
    #[error("the passphrase does not open it")]
    Passphrase,
    /// The signing itself failed.
    #[error("it cannot sign: {0}")]
    Sign(String),
}

impl From<KeyError> for Diagnostic {
    fn from(error: KeyError) -> Self {
        let kind = match error {
            KeyError::Unfit(_) | KeyError::Passphrase => Kind::Trust,
            _ => Kind::Input,
        };
        let diagnostic = Self::error(kind, format!("the signing key is of no use: {error}"));
        match error {
            KeyError::Unfit(reasons) => reasons.into_iter().fold(diagnostic, Self::note),
            KeyError::Public | KeyError::Several(_) => {
                diagnostic.hint("write it with `gpg --export-secret-keys FINGERPRINT`")
            }
            KeyError::Kind(_) => {
                diagnostic.hint("make one of RSA, NIST curves or Ed25519, as `gpg --quick-generate-key` does")
            }
            KeyError::Locked => diagnostic.hint(
                "name a file that holds the passphrase with `--sign-passphrase`, or set ROLECAST_SIGN_PASSPHRASE",
            ),
            _ => diagnostic,
        }
    }
}

/// Says whose key it is and nothing of its secret.
impl std::fmt::Debug for FileKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FileKey").field("certificate", &self.certificate.fingerprints()).finish_non_exhaustive()
    }
}

impl FileKey {
    /// Reads a secret key, binary or armored, and chooses the key that signs: the newest subkey that may, else the primary
    /// key. `now` is in seconds since the Epoch; expiry and revocation are judged by it.
    ///
    /// # Errors
    /// As [`KeyError`] says.
    pub fn read(bytes: &[u8], passphrase: Option<&[u8]>, now: i64) -> Result<Self, KeyError> {
        let secret = parse(bytes)?;
        let certificate = SignedPublicKey::from(secret.clone()).to_bytes().map_err(broken)?;
        let certificate = Keyring::parse(&certificate).map_err(|error| KeyError::Broken(error.to_string()))?;
        let (subkey, since) = choose(&secret, &certificate, now)?;
        let passphrase = passphrase.map(Password::from);
        let key = Self { secret, certificate, subkey, passphrase, since };
        key.unlock()?;
        Ok(key)
    }

    /// The certificate.
    pub fn certificate(&self) -> &Keyring {
        &self.certificate
    }

    /// A binary detached signature, dated `when` (seconds since the Epoch), or at the key's own beginning if that is later: a
    /// signature older than its key is refused everywhere.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn sign(&self, bytes: &[u8], when: i64) -> Result<Vec<u8>, KeyError> {
        let sign = |error: pgp::errors::Error| KeyError::Sign(error.to_string());
        let when =
            u32::try_from(when.max(self.since)).map_err(|_| KeyError::Sign("there is no such time".to_owned()))?;
        let (fingerprint, id, algorithm) = match self.subkey {
            Some(index) => about(&self.secret.secret_subkeys[index].key),
            None => about(&self.secret.primary_key),
        };
        let regular = |data| Subpacket::regular(data).map_err(sign);
        let mut config = SignatureConfig::v4(SignatureType::Binary, algorithm, HashAlgorithm::Sha512);
        config.hashed_subpackets = vec![
            regular(SubpacketData::SignatureCreationTime(Timestamp::from_secs(when)))?,
            regular(SubpacketData::IssuerFingerprint(fingerprint))?,
        ];
        config.unhashed_subpackets = vec![regular(SubpacketData::IssuerKeyId(id))?];
        let none = Password::empty();
        let passphrase = self.passphrase.as_ref().unwrap_or(&none);
        let signature = match self.subkey {
            Some(index) => config.sign(&self.secret.secret_subkeys[index].key, passphrase, bytes),
            None => config.sign(&self.secret.primary_key, passphrase, bytes),
        };
        DetachedSignature::new(signature.map_err(sign)?).to_bytes().map_err(sign)
    }

    /// Tries the passphrase, so that a wrong one is told before anything is built.
    fn unlock(&self) -> Result<(), KeyError> {
        let parameters = match self.subkey {
            Some(index) => self.secret.secret_subkeys[index].key.secret_params(),
            None => self.secret.primary_key.secret_params(),
        };
        let passphrase = match &self.passphrase {
            _ if !parameters.is_encrypted() => return Ok(()),
            Some(passphrase) => passphrase,
            None => return Err(KeyError::Locked),
        };
        let opened = match self.subkey {
            Some(index) => self.secret.secret_subkeys[index].key.unlock(passphrase, |_, _| Ok(())),
            None => self.secret.primary_key.unlock(passphrase, |_, _| Ok(())),
        };
        opened.and_then(|opened| opened).map_err(|_| KeyError::Passphrase)
    }
}

fn about(key: &impl KeyDetails) -> (Fingerprint, pgp::types::KeyId, PublicKeyAlgorithm) {
    (key.fingerprint(), key.legacy_key_id(), key.algorithm())
}

fn broken(error: pgp::errors::Error) -> KeyError {
    KeyError::Broken(error.to_string())
}

fn parse(bytes: &[u8]) -> Result<SignedSecretKey, KeyError> {
    if Keyring::parse(bytes).is_ok() {
        return Err(KeyError::Public);
    }
    let keys: Result<Vec<SignedSecretKey>, _> = match std::str::from_utf8(bytes) {
        Ok(text) => {
            let begin = text.find(ARMOR).ok_or_else(|| KeyError::Broken(format!("there is no `{ARMOR}`")))?;
            SignedSecretKey::from_string_many(&text[begin..]).map_err(broken)?.0.collect()
        }
        Err(_) => SignedSecretKey::from_bytes_many(bytes).map_err(broken)?.collect(),
    };
    let mut keys = keys.map_err(broken)?;
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), others) => Err(KeyError::Several(others + 1)),
        (None, _) => Err(KeyError::Broken("there is none in it".to_owned())),
    }
}

/// The key that signs, and since when it is bound.
fn choose(secret: &SignedSecretKey, certificate: &Keyring, now: i64) -> Result<(Option<usize>, i64), KeyError> {
    let version = secret.primary_key.version();
    if version != KeyVersion::V4 {
        return Err(KeyError::Kind(format!("its version is {}", u8::from(version))));
    }
    let mut subkeys: Vec<usize> = (0..secret.secret_subkeys.len()).collect();
    subkeys.sort_by_key(|index| std::cmp::Reverse(secret.secret_subkeys[*index].key.created_at().as_secs()));
    let mut reasons = Vec::new();
    for index in subkeys.into_iter().map(Some).chain([None]) {
        let (fingerprint, is_here, algorithm) = match index {
            Some(index) => {
                let key = &secret.secret_subkeys[index].key;
                (key.fingerprint(), is_here(key.secret_params()), key.algorithm())
            }
            None => {
                let key = &secret.primary_key;
                (key.fingerprint(), is_here(key.secret_params()), key.algorithm())
            }
        };
        match certificate.vouches_since(&fingerprint, now) {
            Err(problem) => reasons.push(format!("{fingerprint:X}: {problem}")),
            Ok(_) if !is_here => {
                reasons.push(format!("{fingerprint:X}: its secret part is not in there, but on a token or offline"))
            }
            Ok(_) if !is_known(algorithm) => return Err(KeyError::Kind(format!("{algorithm:?}"))),
            Ok(since) => return Ok((index, since)),
        }
    }
    Err(KeyError::Unfit(reasons))
}

/// Whether GnuPG 2.2 knows the algorithm; Ed25519 in its newer form it does not.
fn is_known(algorithm: PublicKeyAlgorithm) -> bool {
    matches!(
        algorithm,
        PublicKeyAlgorithm::RSA
            | PublicKeyAlgorithm::RSASign
            | PublicKeyAlgorithm::ECDSA
            | PublicKeyAlgorithm::EdDSALegacy
    )
}

/// Whether the secret itself is in the file: GnuPG writes a marker in its place when it is on a token, or was left out.
fn is_here(parameters: &SecretParams) -> bool {
    let SecretParams::Encrypted(encrypted) = parameters else { return true };
    let how = match encrypted.string_to_key_params() {
        S2kParams::Cfb { s2k, .. } | S2kParams::MalleableCfb { s2k, .. } | S2kParams::Aead { s2k, .. } => s2k,
        _ => return true,
    };
    !matches!(how, StringToKey::Private { .. })
}
