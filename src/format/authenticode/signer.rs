//! Who signs: an RSA key and the certificate that firmware knows it by.

use std::fmt;

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Document, SecretDocument};
use pkcs8::PrivateKeyInfo;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use x509_cert::Certificate;

use crate::digest::Digest;

/// `rsaEncryption`: the algorithm of a key.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Why a key and a certificate cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// Something else than one PEM block of the kind wanted.
    #[error("{what} is not PEM: a block that begins with `-----BEGIN {label}-----` is expected")]
    NotPem {
        /// `the key` or `the certificate`.
        what: &'static str,
        /// The label expected.
        label: &'static str,
    },
    /// The PEM's label says that a passphrase is needed.
    #[error("the key is encrypted")]
    Encrypted,
    /// A key in the form that only RSA keys have.
    #[error("the key is not in PKCS#8 form")]
    NotPkcs8,
    /// An elliptic curve, or something else that firmware does not have to know.
    #[error("the {0} is not an RSA key")]
    NotRsa(&'static str),
    /// The key is too small, too large or contradicts itself.
    #[error("the key cannot be used: {0}")]
    Rejected(ring::error::KeyRejected),
    /// What the PEM holds is no certificate.
    #[error("the certificate cannot be read: {0}")]
    Certificate(der::Error),
    /// Both are whole and do not belong together.
    #[error("the certificate is of another key")]
    Mismatch,
    /// The random numbers that hide the key while it is used could not be had.
    #[error("the signature could not be made")]
    Failed,
    /// PE counts in 32 bits.
    #[error("the signed file would have more than 4 GiB")]
    TooLarge,
    /// A structure could not be written.
    #[error("the signature cannot be written: {0}")]
    Encoding(#[from] der::Error),
}

/// When a certificate holds, in seconds since the Epoch, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub from: u64,
    /// Last second.
    pub until: u64,
}

/// An RSA key of 2048 to 4096 bits and its certificate.
pub struct Signer {
    key: KeyPair,
    certificate: Certificate,
    digest: Digest,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signer").field("certificate", &self.digest).finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads a key (PEM, PKCS#8, not encrypted) and a certificate (PEM, X.509).
    ///
    /// # Errors
    /// When one of them is something else, or they do not belong together.
    pub fn read(key: &str, certificate: &str) -> Result<Self, SignerError> {
        let key = read_key(key)?;
        let (certificate, digest) = read_certificate(certificate)?;
        let public = &certificate.tbs_certificate.subject_public_key_info;
        if public.algorithm.oid != RSA_ENCRYPTION {
            return Err(SignerError::NotRsa("certificate's key"));
        }
        if public.subject_public_key.as_bytes() != Some(key.public_key().as_ref()) {
            return Err(SignerError::Mismatch);
        }
        Ok(Self { key, certificate, digest })
    }

    /// SHA-256 of the certificate's DER: the fingerprint that `openssl x509 -fingerprint -sha256` prints.
    pub fn certificate_digest(&self) -> Digest {
        self.digest
    }

    /// The certificate's subject (RFC 4514), for a person.
    pub fn subject(&self) -> String {
        self.certificate.tbs_certificate.subject.to_string()
    }

    /// When the certificate holds.
    pub fn validity(&self) -> Validity {
        let validity = &self.certificate.tbs_certificate.validity;
        Validity {
            from: validity.not_before.to_unix_duration().as_secs(),
            until: validity.not_after.to_unix_duration().as_secs(),
        }
    }

    pub(super) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The RSA signature, PKCS#1 v1.5 with SHA-256, of `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let mut signature = vec![0; self.key.public().modulus_len()];
        // The randomness blinds the computation; the signature does not depend on it.
        let signed = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature);
        signed.map_err(|_| SignerError::Failed)?;
        Ok(signature)
    }
}

fn read_key(pem: &str) -> Result<KeyPair, SignerError> {
    let not_pem = || SignerError::NotPem { what: "the key", label: "PRIVATE KEY" };
    let begins = |label: &str| pem.contains(&format!("-----BEGIN {label}-----"));
    if begins("ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(SignerError::Encrypted);
    }
    if begins("EC PRIVATE KEY") {
        return Err(SignerError::NotRsa("key"));
    }
    if begins("RSA PRIVATE KEY") {
        return Err(SignerError::NotPkcs8);
    }
    let block = block(pem, "PRIVATE KEY").ok_or_else(not_pem)?;
    let (_, document) = SecretDocument::from_pem(block).map_err(|_| not_pem())?;
    let info = PrivateKeyInfo::try_from(document.as_bytes());
    if info.is_ok_and(|info| info.algorithm.oid != RSA_ENCRYPTION) {
        return Err(SignerError::NotRsa("key"));
    }
    KeyPair::from_pkcs8(document.as_bytes()).map_err(SignerError::Rejected)
}

fn read_certificate(pem: &str) -> Result<(Certificate, Digest), SignerError> {
    let not_pem = || SignerError::NotPem { what: "the certificate", label: "CERTIFICATE" };
    let block = block(pem, "CERTIFICATE").ok_or_else(not_pem)?;
    let (_, document) = Document::from_pem(block).map_err(|_| not_pem())?;
    let certificate = Certificate::from_der(document.as_bytes()).map_err(SignerError::Certificate)?;
    Ok((certificate, Digest::of(document.as_bytes())))
}

/// The first PEM block of that label, without the text around it that tools like to print.
fn block<'a>(pem: &'a str, label: &str) -> Option<&'a str> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let start = pem.find(&begin)?;
    let length = pem[start..].find(&end)? + end.len();
    Some(&pem[start..start + length])
}
