//! Signatures over a Release: which of them count, and what they cover.
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
    /// None of them is good; one reason for each.
    #[error("no signature on it is good")]
    NoneGood(Vec<String>),
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

/// Verifies a Release with its Release.gpg, armored or binary.
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
    for signature in signatures {
        match judge(signature, hashed, policy) {
            Ok(fingerprint) => signed_by.push(fingerprint),
            Err(reason) => reasons.push(format!("signature by {}: {reason}", issuer(signature))),
        }
    }
    signed_by.sort();
    signed_by.dedup();
    if signed_by.is_empty() { Err(SignatureError::NoneGood(reasons)) } else { Ok(signed_by) }
}

/// The fingerprint of the certificate that vouches by this signature, or the reason why none does.
fn judge(signature: &Signature, hashed: &[u8], policy: Policy<'_>) -> Result<String, String> {
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
    if made > policy.now + CLOCK_SKEW {
        return Err(format!("it was made on {}, which is in the future", time::date(made)));
    }
    let expiry = signature.signature_expiration_time().map_or(0, |after| i64::from(after.as_secs()));
    if expiry != 0 && policy.now >= made + expiry {
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
            return Ok(candidate.certificate_fingerprint());
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
mod tests {
    use std::process::Command;

    use pgp::composed::KeyType;
    use pgp::crypto::hash::HashAlgorithm;
    use pgp::packet::{RevocationCode, Subpacket, SubpacketData};
    use pgp::types::Duration;

    use super::*;
    use crate::archive::keyring::KeyringError;
    use crate::archive::testing::{DAY, Make, MakeSubkey, NOW, Signer};

    const TEXT: &str = "Suite: stable\n- dashed\n\nDate: today\n";

    /// The certificates that vouch for a message, or all reasons why none does.
    fn verdict(keyring: &[u8], message: &[u8], pins: &[String]) -> Result<Vec<String>, String> {
        let keyring = Keyring::parse(keyring).map_err(|error| error.to_string())?;
        match verify_clear_signed(message, Policy { keyring: &keyring, pins, now: NOW }) {
            Ok(vouched) => {
                assert_eq!(vouched.text, TEXT);
                Ok(vouched.signed_by)
            }
            Err(SignatureError::NoneGood(reasons)) => Err(reasons.join("\n")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn made(make: &Make) -> Result<Vec<String>, String> {
        let signer = Signer::make(make);
        verdict(&signer.keyring(), &signer.clear_sign(TEXT, NOW - DAY), &[])
    }

    fn sub(subkey: MakeSubkey) -> Make {
        Make { may_sign: false, subkey: Some(subkey), ..Make::default() }
    }

    #[test]
    fn a_good_signature_is_found_in_binary_and_armored_keyrings() {
        let (signer, other) = (Signer::new(1), Signer::new(2));
        let message = signer.clear_sign(TEXT, NOW - DAY);
        let good = Ok(vec![signer.fingerprint()]);
        assert_eq!(verdict(&signer.keyring(), &message, &[]), good);
        assert_eq!(verdict(&[other.keyring(), signer.keyring()].concat(), &message, &[]), good);
        let armored = format!("# ours\n{}\n{}", other.armored_keyring(), signer.armored_keyring());
        assert_eq!(verdict(armored.as_bytes(), &message, &[]), good);
        let error = verdict(&other.keyring(), &message, &[]).unwrap_err();
        assert!(error.contains(&signer.fingerprint()) && error.contains("not in the keyring"), "{error}");
        assert!(matches!(Keyring::parse(b""), Err(KeyringError::Empty)));
        assert!(matches!(Keyring::parse(b"no key"), Err(KeyringError::Empty)));
        assert!(Keyring::parse(&[0x99, 0x01, 0x0d, 0x04]).is_err());
    }

    #[test]
    fn an_altered_text_or_signature_is_noticed() {
        let signer = Signer::new(1);
        let message = String::from_utf8(signer.clear_sign(TEXT, NOW - DAY)).unwrap();
        let altered = |from: &str, to: &str| {
            assert!(message.contains(from), "{from}");
            verdict(&signer.keyring(), message.replace(from, to).as_bytes(), &[]).unwrap_err()
        };
        assert!(altered("today", "Today").contains("was altered"));
        assert!(altered("Date: today", "Date: today\n\nMore: x").contains("was altered"));
        // To the signature CR, LF and CRLF are one; to a parser they are not.
        assert!(altered("stable\n", "stable\r").contains("lines that end in LF"));
        assert!(altered("-----END PGP SIGNATURE-----", "").contains("cut"));
        assert!(altered("-----BEGIN PGP SIGNED MESSAGE-----\n", "").contains("does not begin"));
        let start = message.rfind("\n\n").unwrap() + 2;
        let (head, tail) = message.split_at(start);
        let flipped: String = tail.chars().map(|letter| if letter == 'A' { 'B' } else { letter }).collect();
        assert!(verdict(&signer.keyring(), format!("{head}{flipped}").as_bytes(), &[]).is_err());
        // Line ends in transit are the one thing that may change.
        let returns = message.replace('\n', "\r\n");
        assert!(verdict(&signer.keyring(), returns.as_bytes(), &[]).is_ok());
    }

    #[test]
    fn keys_are_judged_at_the_time_of_the_signature() {
        let age = 400 * DAY;
        let seconds = |time: i64| u32::try_from(time).unwrap();
        let soft = RevocationCode::KeyRetired;
        let cases = [
            (Make::default(), "good"),
            (Make { lives: seconds(age - DAY + 1), ..Make::default() }, "good"),
            (Make { lives: seconds(age - DAY), ..Make::default() }, "expired"),
            (Make { made: NOW - DAY + 1, ..Make::default() }, "after the signature"),
            (Make { may_sign: false, ..Make::default() }, "not made for signing"),
            (Make { revoked: Some((NOW - DAY + 1, soft)), ..Make::default() }, "good"),
            (Make { revoked: Some((NOW - DAY, soft)), ..Make::default() }, "revoked"),
            (Make { revoked: Some((NOW, RevocationCode::KeyCompromised)), ..Make::default() }, "revoked"),
            (Make { revoked: Some((NOW, RevocationCode::NoReason)), ..Make::default() }, "revoked"),
            (sub(MakeSubkey::default()), "good"),
            (sub(MakeSubkey { lives: seconds(age - DAY), ..MakeSubkey::default() }), "expired"),
            (sub(MakeSubkey { may_sign: false, ..MakeSubkey::default() }), "not made for signing"),
            (sub(MakeSubkey { countersigned: false, ..MakeSubkey::default() }), "nothing binds it"),
            (sub(MakeSubkey { revoked: Some((NOW - 2 * DAY, soft)), ..MakeSubkey::default() }), "revoked"),
            (sub(MakeSubkey { revoked: Some((NOW, soft)), ..MakeSubkey::default() }), "good"),
            (Make { lives: seconds(age - 2 * DAY), ..sub(MakeSubkey::default()) }, "expired"),
            (Make { revoked: Some((NOW - 2 * DAY, soft)), ..sub(MakeSubkey::default()) }, "revoked"),
        ];
        for (index, (make, expected)) in cases.iter().enumerate() {
            match made(make) {
                Ok(signed_by) => assert_eq!((*expected, signed_by), ("good", vec![Signer::make(make).fingerprint()])),
                Err(reasons) => assert!(reasons.contains(expected), "case {index}: {reasons}"),
            }
        }
    }

    #[test]
    fn signatures_have_an_age_a_digest_and_demands() {
        let signer = Signer::new(1);
        let judge = |message: Vec<u8>| verdict(&signer.keyring(), &message, &[]);
        let sha512 = HashAlgorithm::Sha512;
        assert!(judge(signer.clear_sign(TEXT, NOW + CLOCK_SKEW)).is_ok());
        assert!(judge(signer.clear_sign(TEXT, NOW + CLOCK_SKEW + 1)).unwrap_err().contains("in the future"));
        let with = |data: SubpacketData| {
            judge(signer.clear_sign_with(TEXT, sha512, NOW - DAY, |config| {
                config.hashed_subpackets.push(Subpacket::critical(data).unwrap());
            }))
        };
        let lives = |seconds: i64| SubpacketData::SignatureExpirationTime(Duration::from_secs(seconds as u32));
        assert!(with(lives(DAY + 1)).is_ok());
        assert!(with(lives(DAY)).unwrap_err().contains("expired"));
        assert!(with(SubpacketData::PreferredKeyServer("x".to_owned())).unwrap_err().contains("not understood"));
    }

    #[test]
    fn weak_digests_and_short_keys_do_not_count_though_the_mathematics_is_right() {
        let long = Signer::make(&Make { kind: KeyType::Rsa(2048), ..Make::default() });
        let message = long.clear_sign_with(TEXT, HashAlgorithm::Sha1, NOW - DAY, |_| {});
        let keyring = Keyring::parse(&long.keyring()).unwrap();
        let parsed = cleartext::parse(&message).unwrap();
        let signature = &parse_signatures(parsed.armor.as_bytes()).unwrap()[0];
        let hashed = TEXT.trim_end().replace('\n', "\r\n");
        assert!(keyring.candidates(signature).next().unwrap().check(signature, hashed.as_bytes()).is_ok());
        let error = verdict(&long.keyring(), &message, &[]).unwrap_err();
        assert!(error.contains("digest SHA1 is too weak"), "{error}");
        assert!(verdict(&long.keyring(), &long.clear_sign(TEXT, NOW - DAY), &[]).is_ok());

        let digest = HashAlgorithm::Sha1;
        let kind = KeyType::Rsa(2048);
        let bound = sub(MakeSubkey { digest, ..MakeSubkey::default() });
        for make in [Make { kind: kind.clone(), digest, ..Make::default() }, Make { kind, ..bound }] {
            let error = made(&make).unwrap_err();
            assert!(error.contains("digests weaker than SHA-256"), "{error}");
        }
        let error = made(&Make { kind: KeyType::Rsa(1024), ..Make::default() }).unwrap_err();
        assert!(error.contains("less than 2048 bits"), "{error}");
    }

    #[test]
    fn pinned_fingerprints_alone_may_sign() {
        let signer = Signer::make(&sub(MakeSubkey::default()));
        let message = signer.clear_sign(TEXT, NOW - DAY);
        for pin in [signer.fingerprint(), signer.subkey_fingerprint()] {
            assert_eq!(verdict(&signer.keyring(), &message, &[pin]), Ok(vec![signer.fingerprint()]));
        }
        let error = verdict(&signer.keyring(), &message, &[Signer::new(2).fingerprint()]).unwrap_err();
        assert!(error.contains("not among the pinned"), "{error}");
    }

    #[test]
    fn a_detached_signature_vouches_for_the_bytes_beside_it() {
        let signer = Signer::new(1);
        let keyring = Keyring::parse(&signer.keyring()).unwrap();
        let policy = Policy { keyring: &keyring, pins: &[], now: NOW };
        let signature = signer.detached(TEXT.as_bytes(), NOW - DAY);
        let vouched = verify_detached(TEXT.as_bytes(), &signature, policy).unwrap();
        assert_eq!((vouched.text.as_str(), vouched.signed_by), (TEXT, vec![signer.fingerprint()]));
        let refused = |bytes: &[u8], signature: &[u8]| verify_detached(bytes, signature, policy).unwrap_err();
        assert!(matches!(refused(b"Suite: other\n", &signature), SignatureError::NoneGood(_)));
        assert!(matches!(refused(TEXT.as_bytes(), b""), SignatureError::Count(0)));
        assert!(matches!(refused(TEXT.as_bytes(), b"<html>"), SignatureError::Unreadable(_)));
    }

    #[test]
    fn gpgv_agrees() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (signer, other) = (Signer::new(1), Signer::new(2));
        let with_subkey = Signer::make(&Make { seed: 3, ..sub(MakeSubkey::default()) });
        let no_backsig =
            Signer::make(&Make { seed: 4, ..sub(MakeSubkey { countersigned: false, ..MakeSubkey::default() }) });
        let message = signer.clear_sign(TEXT, NOW - DAY);
        let altered = String::from_utf8(message.clone()).unwrap().replace("today", "never").into_bytes();
        let cases = [
            (signer.keyring(), message.clone(), true),
            ([other.keyring(), signer.keyring()].concat(), message.clone(), true),
            (other.keyring(), message.clone(), false),
            (signer.keyring(), altered, false),
            (signer.keyring(), message[..message.len() - 80].to_vec(), false),
            (with_subkey.keyring(), with_subkey.clear_sign(TEXT, NOW - DAY), true),
            (no_backsig.keyring(), no_backsig.clear_sign(TEXT, NOW - DAY), false),
        ];
        for (index, (keyring, message, good)) in cases.into_iter().enumerate() {
            std::fs::write(path("keyring.gpg"), &keyring).unwrap();
            std::fs::write(path("InRelease"), &message).unwrap();
            let mut gpgv = Command::new("gpgv");
            gpgv.arg("--homedir").arg(directory.path()).arg("--keyring").arg(path("keyring.gpg"));
            let output = gpgv.arg(path("InRelease")).output().expect("gpgv is installed");
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.success(), good, "case {index}: gpgv: {told}");
            assert_eq!(verdict(&keyring, &message, &[]).is_ok(), good, "case {index}");
        }
    }
}
