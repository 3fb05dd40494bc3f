//! Signatures over a Release, or over a list of what was built: which of them count, and what they cover.
//!
//! Takes a clear-signed InRelease, or a Release with its detached Release.gpg, and gives back the text that was
//! signed and the certificates that vouch for it. Nothing but that text may be used afterwards. One good signature is
//! enough, as for apt: archives sign with several keys so that old and new releases each know one.
//! Specification: RFC 9580 sections 5.2, 7 and 10.4.

use pgp::composed::{Deserializable as _, DetachedSignature};
use pgp::packet::{Signature, SignatureType, SignatureVersion, SubpacketData};

use super::cleartext::{self, CleartextError};
use super::keyring::{Keyring, is_strong, made_at};
use super::time;

/// How far a signature may lie in the future before the clock is to blame, in seconds.
pub const CLOCK_SKEW: i64 = 24 * 3600;

/// Most signatures that are looked at; archives make two or three.
const MOST_SIGNATURES: usize = 32;

/// A text and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// The signed text.
    pub text: String,
    /// Fingerprints of the certificates whose signatures are good: upper-case hexadecimal, sorted, each once.
    pub signed_by: Vec<String>,
}

/// Who may vouch, and when it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The archive's keyring.
    pub keyring: &'a Keyring,
    /// Fingerprints that alone may vouch; empty: every key of the keyring.
    pub pins: &'a [String],
    /// Seconds since the Epoch.
    pub now: i64,
    /// What is signed was believed before, in the very same bytes: that the signature expired since does not count.
    pub outlived: bool,
}

/// Why nothing vouches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not in the form of a signed text.
    #[error("it is not a clear-signed text: {0}")]
    Cleartext(#[from] CleartextError),
    /// The signed text cannot be read.
    #[error("its text is not plain UTF-8 with lines that end in LF")]
    NotText,
    /// The signature packets do not read.
    #[error("its signature cannot be read: {0}")]
    Unreadable(String),
    /// No signature, or far too many.
    #[error("it carries {0} signatures")]
    Count(usize),
    /// A good one by a key of the keyring, but from the future.
    #[error("it was signed on {}, which is in the future", time::date(*.0))]
    Future(i64),
    /// None of them is good; one reason for each.
    #[error("no signature on it is good")]
    NoneGood(Vec<String>),
}

impl SignatureError {
    /// Why each signature is not good, a line each; else the error itself.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::NoneGood(reasons) => reasons.clone(),
            other => vec![other.to_string()],
        }
    }
}

/// Verifies an InRelease.
///
/// # Errors
/// As [`SignatureError`] says.
pub fn verify_clear_signed(bytes: &[u8], policy: Policy<'_>) -> Result<Vouched, SignatureError> {
    let message = cleartext::parse(bytes)?;
    refuse_stray_returns(&message.text)?;
    // What is hashed has CRLF between its lines and none after the last (RFC 9580, 7.2).
    let lines = message.text.strip_suffix('\n').unwrap_or(&message.text);
    let hashed = lines.replace('\n', "\r\n");
    let signed_by = good_signers(&parse_signatures(message.armor.as_bytes())?, hashed.as_bytes(), policy)?;
    Ok(Vouched { text: message.text, signed_by })
}

/// Verifies a Release with its Release.gpg, or another text with a detached signature, armored or binary.
///
/// # Errors
/// As [`SignatureError`] says.
pub fn verify_detached(bytes: &[u8], signature: &[u8], policy: Policy<'_>) -> Result<Vouched, SignatureError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SignatureError::NotText)?;
    refuse_stray_returns(text)?;
    let signed_by = good_signers(&parse_signatures(signature)?, bytes, policy)?;
    Ok(Vouched { text: text.to_owned(), signed_by })
}

/// A signature over text counts CR, LF and CRLF as the same; a parser does not. Without CR there is one reading.
fn refuse_stray_returns(text: &str) -> Result<(), SignatureError> {
    if text.contains(['\r', '\0']) { Err(SignatureError::NotText) } else { Ok(()) }
}

fn parse_signatures(bytes: &[u8]) -> Result<Vec<Signature>, SignatureError> {
    let unreadable = |error: pgp::errors::Error| SignatureError::Unreadable(error.to_string());
    if bytes.is_empty() {
        return Err(SignatureError::Count(0));
    }
    let (packets, _) = DetachedSignature::from_reader_many_buf(bytes).map_err(unreadable)?;
    let mut signatures = Vec::new();
    for packet in packets {
        signatures.push(packet.map_err(unreadable)?.signature);
        if signatures.len() > MOST_SIGNATURES {
            return Err(SignatureError::Count(signatures.len()));
        }
    }
    if signatures.is_empty() { Err(SignatureError::Count(0)) } else { Ok(signatures) }
}

fn good_signers(signatures: &[Signature], hashed: &[u8], policy: Policy<'_>) -> Result<Vec<String>, SignatureError> {
    let mut signed_by = Vec::new();
    let mut reasons = Vec::new();
    let mut future = None;
    for signature in signatures {
        match judge(signature, hashed, policy) {
            Ok((fingerprint, made)) if made <= policy.now + CLOCK_SKEW => signed_by.push(fingerprint),
            Ok((_, made)) => future = Some(made),
            Err(reason) => reasons.push(format!("signature by {}: {reason}", issuer(signature))),
        }
    }
    signed_by.sort();
    signed_by.dedup();
    match future {
        _ if !signed_by.is_empty() => Ok(signed_by),
        Some(made) => Err(SignatureError::Future(made)),
        None => Err(SignatureError::NoneGood(reasons)),
    }
}

/// The fingerprint of the certificate that vouches by this signature and when it was made, or the reason why none does.
fn judge(signature: &Signature, hashed: &[u8], policy: Policy<'_>) -> Result<(String, i64), String> {
    if !matches!(signature.version(), SignatureVersion::V4 | SignatureVersion::V6) {
        return Err(format!("its version {:?} is too old or not known here", signature.version()));
    }
    if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
        return Err("it is not made over a document".to_owned());
    }
    if !is_strong(signature) {
        let hash = signature.hash_alg().map_or_else(|| "unknown".to_owned(), |hash| hash.to_string());
        return Err(format!("its digest {hash} is too weak"));
    }
    let made = made_at(signature).ok_or("it does not say when it was made")?;
    let expiry = signature.signature_expiration_time().map_or(0, |after| i64::from(after.as_secs()));
    if expiry != 0 && policy.now >= made + expiry && !policy.outlived {
        return Err(format!("it expired on {}", time::date(made + expiry)));
    }
    if demands_the_unknown(signature) {
        return Err("it makes a demand that is not understood here".to_owned());
    }
    let mut reason = "its key is not in the keyring".to_owned();
    for candidate in policy.keyring.candidates(signature) {
        if !policy.pins.is_empty() && !candidate.is_pinned(policy.pins) {
            reason = "its key is in the keyring, but not among the pinned fingerprints".to_owned();
        } else if candidate.check(signature, hashed).is_err() {
            reason = "it does not match the text: one of them was altered".to_owned();
        } else if let Err(problem) = candidate.may_vouch(made, policy.now) {
            reason = format!("its key may not vouch: {problem}");
        } else {
            return Ok((candidate.certificate_fingerprint(), made));
        }
    }
    Err(reason)
}

/// Whether a subpacket marked critical is one that this policy does not look at (RFC 9580, 5.2.3.7).
fn demands_the_unknown(signature: &Signature) -> bool {
    let packets = signature.config().into_iter().flat_map(|config| config.hashed_subpackets());
    packets.into_iter().any(|packet| {
        let understood = matches!(
            packet.data,
            SubpacketData::SignatureCreationTime(_)
                | SubpacketData::SignatureExpirationTime(_)
                | SubpacketData::IssuerKeyId(_)
                | SubpacketData::IssuerFingerprint(_)
                | SubpacketData::SignersUserID(_)
                | SubpacketData::PolicyURI(_)
        );
        packet.is_critical && !understood
    })
}

/// The key that a signature names, for messages.
fn issuer(signature: &Signature) -> String {
    let by_fingerprint = signature.issuer_fingerprint().first().map(|fingerprint| format!("{fingerprint:X}"));
    let by_id = || signature.issuer_key_id().first().map(|id| id.to_string().to_uppercase());
    by_fingerprint.or_else(by_id).unwrap_or_else(|| "an unnamed key".to_owned())
}

#[cfg(test)]
mod tests;
