//! Keyrings, and which of their keys may vouch for a Release at a given time.
//!
//! Owns the policy on keys; the mechanism is rPGP's. A certificate counts by its newest valid self-signature that is
//! not later than now; a subkey by its newest valid binding, which must allow signing and be countersigned by the
//! subkey. Expiry and revocation are judged at the time of the signature in question, so that an old snapshot stays
//! verifiable after its key has retired; a revocation for compromise, or without a reason, counts for all times.
//! Digests weaker than SHA-256 bind nothing, and keys too short to trust sign nothing.
//! Specification: RFC 9580 sections 5.2.3 and 10.1.

use pgp::composed::{Deserializable as _, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{RevocationCode, Signature, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{Fingerprint, KeyDetails, PublicParams, Tag};

use super::time;

/// The line that begins an armored certificate.
const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Certificates that may vouch for one archive.
#[derive(Clone, Debug)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

/// Why bytes are no keyring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// A packet that does not read.
    #[error("it cannot be read as OpenPGP certificates: {0}")]
    Broken(String),
    /// No certificate.
    #[error("there is no OpenPGP certificate in it")]
    Empty,
}

/// Why a key may not vouch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// No self-signature or binding that counts.
    #[error(
        "nothing binds it to its certificate but signatures that are broken, later than now, or over digests \
         weaker than SHA-256"
    )]
    Unbound,
    /// Past its end.
    #[error("it expired on {}", time::date(*.0))]
    Expired(i64),
    /// The signature is older than the key.
    #[error("it was made on {}, after the signature", time::date(*.0))]
    TooYoung(i64),
    /// Taken back by its owner.
    #[error("it was revoked on {}", time::date(*.0))]
    Revoked(i64),
    /// Made for something else.
    #[error("it is not made for signing")]
    NotForSigning,
    /// Short RSA keys, and DSA.
    #[error("its algorithm or length is too weak: {0}")]
    Weak(String),
}

/// A key of a keyring that may have made a signature.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    certificate: &'a SignedPublicKey,
    /// None for the certificate's primary key.
    subkey: Option<&'a SignedPublicSubKey>,
}

impl Keyring {
    /// Reads certificates, binary or armored, one or several in a row.
    ///
    /// # Errors
    /// When a certificate does not read, or there is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let broken = |error: pgp::errors::Error| KeyringError::Broken(error.to_string());
        let mut certificates = Vec::new();
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                // `cat a.asc b.asc` is a keyring too: each block is read by itself.
                for block in text.split(ARMOR).skip(1) {
                    let block = format!("{ARMOR}{block}");
                    let (found, _) = SignedPublicKey::from_string_many(&block).map_err(broken)?;
                    certificates.extend(found.collect::<Result<Vec<_>, _>>().map_err(broken)?);
                }
            }
            Err(_) => {
                let found = SignedPublicKey::from_bytes_many(bytes).map_err(broken)?;
                certificates = found.collect::<Result<Vec<_>, _>>().map_err(broken)?;
            }
        }
        if certificates.is_empty() { Err(KeyringError::Empty) } else { Ok(Self { certificates }) }
    }

    /// The certificates of both.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.certificates.extend(other.certificates.iter().cloned());
        self
    }

    /// Fingerprints of the certificates, upper-case hexadecimal, in the keyring's order.
    pub fn fingerprints(&self) -> Vec<String> {
        self.certificates.iter().map(|certificate| format!("{:X}", certificate.fingerprint())).collect()
    }

    /// The certificates' keys, each primary key before its subkeys.
    fn keys(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.certificates.iter().flat_map(|certificate| {
            let primary = std::iter::once(Candidate { certificate, subkey: None });
            primary
                .chain(certificate.public_subkeys.iter().map(move |key| Candidate { certificate, subkey: Some(key) }))
        })
    }

    /// Since when the key with `fingerprint` may vouch, and still may at `now`; both times are seconds since the Epoch. The
    /// beginning is that of key and certificate, and of the newest signatures that bind them.
    ///
    /// # Errors
    /// With the reason why it may not vouch now.
    pub fn vouches_since(&self, fingerprint: &Fingerprint, now: i64) -> Result<i64, KeyProblem> {
        let candidate = self.keys().find(|candidate| candidate.fingerprint() == *fingerprint);
        let candidate = candidate.ok_or(KeyProblem::Unbound)?;
        candidate.may_vouch(now, now)?;
        Ok(candidate.bound_since(now))
    }

    /// The keys that a signature names as its maker. A key id is short enough to collide, so there can be several.
    pub fn candidates<'a>(&'a self, signature: &'a Signature) -> impl Iterator<Item = Candidate<'a>> {
        self.keys().filter(|candidate| {
            let by_fingerprint = signature.issuer_fingerprint();
            if by_fingerprint.is_empty() {
                signature.issuer_key_id().contains(&&candidate.key_id())
            } else {
                by_fingerprint.contains(&&candidate.fingerprint())
            }
        })
    }
}

impl<'a> Candidate<'a> {
    /// When the youngest began of: certificate, key, and what binds them, of which some may not count by `now`.
    fn bound_since(&self, now: i64) -> i64 {
        let created = |key: &dyn KeyDetails| i64::from(key.created_at().as_secs());
        let own = newest(self.self_signatures(), now).and_then(made_at);
        let of_subkey = self.subkey.map(|subkey| {
            let binding = newest(self.bindings(subkey), now).and_then(made_at);
            binding.unwrap_or(0).max(created(&subkey.key))
        });
        created(&self.certificate.primary_key).max(own.unwrap_or(0)).max(of_subkey.unwrap_or(0))
    }

    /// The certificate's fingerprint, upper-case hexadecimal.
    pub fn certificate_fingerprint(&self) -> String {
        format!("{:X}", self.certificate.fingerprint())
    }

    /// Whether one of `pins` (upper-case hexadecimal) is the certificate's or the key's own fingerprint.
    pub fn is_pinned(&self, pins: &[String]) -> bool {
        let own = format!("{:X}", self.fingerprint());
        let certificate = self.certificate_fingerprint();
        pins.iter().any(|pin| *pin == own || *pin == certificate)
    }

    fn fingerprint(&self) -> Fingerprint {
        self.subkey.map_or_else(|| self.certificate.fingerprint(), KeyDetails::fingerprint)
    }

    fn key_id(&self) -> pgp::types::KeyId {
        self.subkey.map_or_else(|| self.certificate.legacy_key_id(), KeyDetails::legacy_key_id)
    }

    /// Verifies the mathematics of a signature over `bytes`, and nothing else.
    ///
    /// # Errors
    /// When this key did not make that signature over those bytes.
    pub fn check(&self, signature: &Signature, bytes: &[u8]) -> Result<(), pgp::errors::Error> {
        match self.subkey {
            Some(subkey) => signature.verify(&subkey.key, bytes),
            None => signature.verify(&self.certificate.primary_key, bytes),
        }
    }

    /// Whether the key may vouch with a signature made at `made`; both times are seconds since the Epoch.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn may_vouch(&self, made: i64, now: i64) -> Result<(), KeyProblem> {
        let primary = &self.certificate.primary_key;
        let own = newest(self.self_signatures(), now).ok_or(KeyProblem::Unbound)?;
        not_revoked(&self.certificate.details.revocation_signatures, made, |signature| {
            signature.verify_key(primary).is_ok()
        })?;
        alive(primary, own, made)?;
        let Some(subkey) = self.subkey else {
            // Without the subpacket a primary key may do everything (RFC 9580, 5.2.3.29).
            return match key_flags(own) {
                Some(flags) if !flags.sign() => Err(KeyProblem::NotForSigning),
                _ => strong_enough(primary.public_params()),
            };
        };
        let binding = newest(self.bindings(subkey), now).ok_or(KeyProblem::Unbound)?;
        not_revoked(&subkey.signatures, made, |signature| {
            signature.typ() == Some(pgp::packet::SignatureType::SubkeyRevocation)
                && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
        })?;
        alive(&subkey.key, binding, made)?;
        if !key_flags(binding).is_some_and(|flags| flags.sign()) {
            return Err(KeyProblem::NotForSigning);
        }
        // Else anyone could adopt another's signing key as a subkey, and claim its signatures.
        let countersigned = binding
            .embedded_signature()
            .is_some_and(|back| is_strong(back) && back.verify_primary_key_binding(&subkey.key, primary).is_ok());
        if !countersigned {
            return Err(KeyProblem::Unbound);
        }
        strong_enough(subkey.key.public_params())
    }

    /// The certificate's valid signatures that bind a subkey to it.
    fn bindings(&self, subkey: &'a SignedPublicSubKey) -> impl Iterator<Item = &'a Signature> {
        let primary = &self.certificate.primary_key;
        subkey.signatures.iter().filter(move |signature| {
            signature.typ() == Some(pgp::packet::SignatureType::SubkeyBinding)
                && is_strong(signature)
                && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
        })
    }

    /// The certificate's valid self-signatures: over the key itself, or over its names.
    fn self_signatures(&self) -> impl Iterator<Item = &'a Signature> {
        let primary = &self.certificate.primary_key;
        let details = &self.certificate.details;
        let direct = details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
        let over_names = details.users.iter().flat_map(move |user| {
            let certifications = user.signatures.iter();
            certifications.filter(move |signature| {
                signature.typ() != Some(pgp::packet::SignatureType::CertRevocation)
                    && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
            })
        });
        direct.chain(over_names).filter(|signature| is_strong(signature))
    }
}

/// Whether a signature's digest resists collisions.
pub fn is_strong(signature: &Signature) -> bool {
    use HashAlgorithm as Hash;
    let strong = [Hash::Sha256, Hash::Sha384, Hash::Sha512, Hash::Sha3_256, Hash::Sha3_512];
    signature.hash_alg().is_some_and(|hash| strong.contains(&hash))
}

/// When a signature was made, seconds since the Epoch; from its signed part.
pub fn made_at(signature: &Signature) -> Option<i64> {
    signature.created().map(|time| i64::from(time.as_secs()))
}

/// The newest of `signatures` that is not later than `now` and has not itself expired.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, now: i64) -> Option<&'a Signature> {
    let current = signatures.filter(|signature| {
        let expiry = signature.signature_expiration_time().map_or(0, |after| i64::from(after.as_secs()));
        made_at(signature).is_some_and(|made| made <= now && (expiry == 0 || now < made + expiry))
    });
    current.max_by_key(|signature| made_at(signature))
}

/// Whether a key with that self-signature or binding lives at `when`.
fn alive(key: &impl KeyDetails, bound_by: &Signature, when: i64) -> Result<(), KeyProblem> {
    let created = i64::from(key.created_at().as_secs());
    if when < created {
        return Err(KeyProblem::TooYoung(created));
    }
    match bound_by.key_expiration_time().map_or(0, |after| i64::from(after.as_secs())) {
        0 => Ok(()),
        after if when < created + after => Ok(()),
        after => Err(KeyProblem::Expired(created + after)),
    }
}

/// Refuses a key that one of `signatures` takes back at the time `when`. A weak digest does not save it.
fn not_revoked(
    signatures: &[Signature],
    when: i64,
    is_revocation: impl Fn(&Signature) -> bool,
) -> Result<(), KeyProblem> {
    for revocation in signatures.iter().filter(|signature| is_revocation(signature)) {
        let since = made_at(revocation).unwrap_or(0);
        let retired = [RevocationCode::KeySuperseded, RevocationCode::KeyRetired];
        let soft = revocation.revocation_reason_code().is_some_and(|reason| retired.contains(reason));
        if !soft || since <= when {
            return Err(KeyProblem::Revoked(since));
        }
    }
    Ok(())
}

/// The key flags of a self-signature or binding, where it has any.
fn key_flags(signature: &Signature) -> Option<pgp::packet::KeyFlags> {
    let hashed = signature.config()?.hashed_subpackets();
    hashed.into_iter().find_map(|packet| match &packet.data {
        SubpacketData::KeyFlags(flags) => Some(flags.clone()),
        _ => None,
    })
}

/// RSA from 2048 bits on, and elliptic curves.
fn strong_enough(parameters: &PublicParams) -> Result<(), KeyProblem> {
    match parameters {
        PublicParams::RSA(key) => {
            // The key's first number is the modulus, and a number begins with its length in bits (RFC 9580, 3.2).
            let mut numbers = Vec::new();
            let written = key.to_writer(&mut numbers);
            match (written, numbers.as_slice()) {
                (Ok(()), [high, low, ..]) if u16::from_be_bytes([*high, *low]) >= 2048 => Ok(()),
                _ => Err(KeyProblem::Weak("RSA with less than 2048 bits".to_owned())),
            }
        }
        PublicParams::ECDSA(_) | PublicParams::EdDSALegacy(_) | PublicParams::Ed25519(_) | PublicParams::Ed448(_) => {
            Ok(())
        }
        PublicParams::DSA(_) => Err(KeyProblem::Weak("DSA".to_owned())),
        _ => Err(KeyProblem::Weak("not a signing key that is known here".to_owned())),
    }
}
