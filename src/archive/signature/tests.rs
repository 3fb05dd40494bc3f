//! Which signatures count: a table for each rule, and gpgv's opinion.

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
    match verify_clear_signed(message, Policy { keyring: &keyring, pins, now: NOW, outlived: false }) {
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
    let policy = Policy { keyring: &keyring, pins: &[], now: NOW, outlived: false };
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

/// Every bit of a message flipped, one at a time: it is refused, or it says the same by the same key. Nothing panics.
#[test]
fn no_flipped_bit_changes_what_is_believed() {
    let signer = Signer::new(1);
    let keyring = Keyring::parse(&signer.keyring()).unwrap();
    let policy = Policy { keyring: &keyring, pins: &[], now: NOW, outlived: false };
    let message = signer.clear_sign(TEXT, NOW - DAY);
    let mut believed = 0;
    for bit in 0..message.len() * 8 {
        let mut message = message.clone();
        message[bit / 8] ^= 1 << (bit % 8);
        if let Ok(vouched) = verify_clear_signed(&message, policy) {
            assert_eq!((vouched.text.as_str(), vouched.signed_by), (TEXT, vec![signer.fingerprint()]), "bit {bit}");
            believed += 1;
        }
    }
    // Only what stands outside of text and signature is free: the `Hash` header, the armor's checksum, the key's id.
    assert!(believed < message.len(), "{believed} of {}", message.len() * 8);
}

/// Every byte of a keyring replaced: it reads or it does not, and believes no other text. Nothing panics.
#[test]
fn a_damaged_keyring_is_no_danger() {
    let signer = Signer::make(&sub(MakeSubkey::default()));
    let message = signer.clear_sign(TEXT, NOW - DAY);
    let keyring = signer.keyring();
    for index in 0..keyring.len() {
        for byte in [0, 0xff, keyring[index] ^ 1, keyring[index] ^ 0x80] {
            let mut keyring = keyring.clone();
            keyring[index] = byte;
            if let Ok(signed_by) = verdict(&keyring, &message, &[]) {
                assert_eq!(signed_by, [signer.fingerprint()]);
            }
        }
    }
}
