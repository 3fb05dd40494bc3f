//! Which keys sign, what their signatures are, and what verifying notices. gpgv and sqv have their say in
//! `tests/integration/signatures.rs`.

use std::fs;
use std::path::Path;

use pgp::composed::{ArmorOptions, KeyType, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::RevocationCode;
use pgp::ser::Serialize as _;

use super::*;
use crate::archive::testing::{DAY, Make, MakeSubkey, NOW, Signer as Maker};
use crate::archive::{Policy, verify_detached};
use crate::digest::Digest;
use crate::image::sums::{self, SIGNATURE, SUMS};
use crate::report::{Diagnostic, Kind};

const TEXT: &[u8] = b"a list\nof two lines\n";

fn bytes(key: &SignedSecretKey) -> Vec<u8> {
    key.to_bytes().unwrap()
}

fn read(make: &Make) -> Result<FileKey, KeyError> {
    FileKey::read(&bytes(&Maker::make(make).secret_key(None)), None, NOW)
}

fn signed(key: &FileKey, when: i64) -> Result<Vec<String>, String> {
    let signature = key.sign(TEXT, when).map_err(|error| error.to_string())?;
    let policy = Policy { keyring: key.certificate(), pins: &[], now: NOW, outlived: false };
    let vouched = verify_detached(TEXT, &signature, policy);
    vouched.map(|vouched| vouched.signed_by).map_err(|error| error.reasons().join("\n"))
}

#[test]
fn a_key_signs_in_any_form_and_the_same_bytes_alike() {
    for kind in [KeyType::Ed25519Legacy, KeyType::Rsa(2048), KeyType::ECDSA(pgp::crypto::ecc_curve::ECCCurve::P256)] {
        let maker = Maker::make(&Make { kind: kind.clone(), ..Make::default() });
        let secret = maker.secret_key(None);
        let armored = secret.to_armored_string(ArmorOptions::default()).unwrap();
        let armored = format!("a comment of the file's owner\n{armored}");
        let binary = FileKey::read(&bytes(&secret), None, NOW).unwrap();
        let locked = maker.secret_key(Some("a passphrase"));
        let opened = FileKey::read(&bytes(&locked), Some(b"a passphrase"), NOW).unwrap();
        let first = binary.sign(TEXT, NOW - DAY).unwrap();
        for key in [&binary, &FileKey::read(armored.as_bytes(), None, NOW).unwrap(), &opened] {
            assert_eq!(key.sign(TEXT, NOW - DAY).unwrap(), first, "{kind:?}");
            assert_eq!(signed(key, NOW - DAY), Ok(vec![maker.fingerprint()]));
        }
        assert_ne!(binary.sign(b"other", NOW - DAY).unwrap(), first);
        assert_ne!(binary.sign(TEXT, NOW).unwrap(), first);
    }
}

#[test]
fn no_signature_is_older_than_its_key() {
    let made = NOW - 10 * DAY;
    let key = read(&Make { made, ..Make::default() }).unwrap();
    assert_eq!(signed(&key, 0).unwrap().len(), 1);
    assert_eq!(key.sign(TEXT, 0), key.sign(TEXT, made));
    assert_ne!(key.sign(TEXT, 0), key.sign(TEXT, made + 1));
}

#[test]
fn the_subkey_signs_where_it_may_and_else_the_primary_key() {
    let of = |may_sign, sub: MakeSubkey| Make { may_sign, subkey: Some(sub), ..Make::default() };
    let maker = Maker::make(&of(true, MakeSubkey::default()));
    let key = FileKey::read(&bytes(&maker.secret_key(None)), None, NOW).unwrap();
    let issuer: Vec<u8> =
        (0..20).map(|at| u8::from_str_radix(&maker.subkey_fingerprint()[2 * at..2 * at + 2], 16).unwrap()).collect();
    let signature = key.sign(TEXT, NOW).unwrap();
    assert!(signature.windows(20).any(|window| window == issuer), "the subkey is not named as the maker");
    assert_eq!(signed(&key, NOW), Ok(vec![maker.fingerprint()]));
    let other = of(true, MakeSubkey { may_sign: false, ..MakeSubkey::default() });
    assert_eq!(signed(&read(&other).unwrap(), NOW), Ok(vec![Maker::make(&other).fingerprint()]));
}

#[test]
fn keys_that_may_not_sign_are_refused_with_the_reason() {
    let age = u32::try_from(400 * DAY).unwrap();
    let cases = [
        (Make { lives: age, ..Make::default() }, "it expired on"),
        (Make { revoked: Some((NOW - DAY, RevocationCode::KeyRetired)), ..Make::default() }, "it was revoked on"),
        (Make { may_sign: false, ..Make::default() }, "it is not made for signing"),
        (Make { kind: KeyType::Rsa(2048), digest: HashAlgorithm::Sha1, ..Make::default() }, "weaker than SHA-256"),
        (Make { kind: KeyType::Rsa(1024), ..Make::default() }, "RSA with less than 2048 bits"),
        (Make { made: NOW + DAY, ..Make::default() }, "later than now"),
        (
            Make {
                may_sign: false,
                subkey: Some(MakeSubkey { lives: age, ..MakeSubkey::default() }),
                ..Make::default()
            },
            "it expired on",
        ),
        (
            Make {
                may_sign: false,
                subkey: Some(MakeSubkey { revoked: Some((NOW, RevocationCode::NoReason)), ..MakeSubkey::default() }),
                ..Make::default()
            },
            "it was revoked on",
        ),
    ];
    for (make, expected) in cases {
        let error = read(&make).unwrap_err();
        let KeyError::Unfit(reasons) = &error else { panic!("{error}") };
        assert!(reasons.iter().any(|reason| reason.contains(expected)), "{expected}: {reasons:#?}");
        assert_eq!(Diagnostic::from(error).kind, Kind::Trust);
    }
    let newer = read(&Make { kind: KeyType::Ed25519, ..Make::default() });
    assert!(matches!(newer, Err(KeyError::Kind(_))), "{newer:?}");
}

#[test]
fn what_is_no_secret_key_is_told_apart() {
    let maker = Maker::new(1);
    let secret = bytes(&maker.secret_key(None));
    let read = |bytes: &[u8], passphrase: Option<&[u8]>| FileKey::read(bytes, passphrase, NOW).unwrap_err();
    assert_eq!(read(&maker.keyring(), None), KeyError::Public);
    assert_eq!(read(maker.armored_keyring().as_bytes(), None), KeyError::Public);
    let two = [secret.clone(), bytes(&Maker::new(2).secret_key(None))].concat();
    assert_eq!(read(&two, None), KeyError::Several(2));
    for broken in [b"".as_slice(), b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n", b"\xff", &secret[..20]] {
        assert!(matches!(read(broken, None), KeyError::Broken(_)), "{broken:?}");
    }
    let locked = bytes(&maker.secret_key(Some("right")));
    assert_eq!(read(&locked, None), KeyError::Locked);
    assert_eq!(read(&locked, Some(b"wrong")), KeyError::Passphrase);
}

#[test]
fn a_key_says_nothing_of_its_secret() {
    let maker = Maker::new(1);
    let shown = format!("{:?}", FileKey::read(&bytes(&maker.secret_key(None)), None, NOW).unwrap());
    assert!(shown.contains(&maker.fingerprint()) && shown.len() < 200, "{shown}");
}

/// A role's directory with a list, and a manifest as far as signing reads it.
fn directory(at: &Path) {
    let manifest = serde_json::json!({
        "format": 1, "rolecast": "0", "image": "lab", "version": "1", "role": "small", "distribution": "debian trixie amd64",
        "lock": Digest::of(b""), "released": "2025-08-09T11:30:24Z", "late": [], "state": [], "packages": [], "outputs": [],
        "tree": { "digest": Digest::of(b""), "files": 0, "directories": 0, "links": 0, "bytes": 0 },
    });
    fs::create_dir_all(at.join("small.netboot")).unwrap();
    let files = [
        ("manifest.json", manifest.to_string()),
        ("small.raw", "a disk".to_owned()),
        ("small.netboot/vmlinuz", "a kernel".to_owned()),
    ];
    let mut listed = std::collections::BTreeMap::new();
    for (name, text) in files {
        listed.insert(name.to_owned(), Digest::of(text.as_bytes()));
        fs::write(at.join(name), text).unwrap();
    }
    sums::write(at, &listed).unwrap();
}

fn signer(seed: u64) -> Signer {
    Signer::File(Box::new(read(&Make { seed, ..Make::default() }).unwrap()))
}

#[test]
fn a_directory_is_signed_and_every_change_in_it_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("small");
    directory(&at);
    assert_eq!(directories(folder.path()).unwrap(), vec![at.clone()]);
    let signer = signer(1);
    let check = || check_directory(&at, Some(signer.certificate()), NOW, &|_| {});
    assert!(format!("{:?}", check().unwrap_err()).contains("is not signed"));
    let made = sign(&at, &signer).unwrap();
    assert_eq!((made.role.as_str(), made.files), ("small", 3));
    let signature = fs::read(at.join(SIGNATURE)).unwrap();
    let checked = check().unwrap();
    assert_eq!((checked.signed_by, checked.good.len(), checked.problems), (vec![signer.fingerprint()], 3, Vec::new()));
    sign(&at, &signer).unwrap();
    assert_eq!(fs::read(at.join(SIGNATURE)).unwrap(), signature, "signing again gives the same bytes");

    fs::write(at.join("small.raw"), "another disk").unwrap();
    fs::remove_file(at.join("small.netboot/vmlinuz")).unwrap();
    fs::write(at.join("small.netboot/extra"), "").unwrap();
    std::os::unix::fs::symlink("small.raw", at.join("link")).unwrap();
    let mut problems = check().unwrap().problems;
    problems.sort();
    let name = str::to_owned;
    assert_eq!(
        problems,
        [
            Problem::Altered(name("small.raw")),
            Problem::Missing(name("small.netboot/vmlinuz")),
            Problem::Unlisted(name("link")),
            Problem::Unlisted(name("small.netboot/extra")),
        ]
    );
    // A list that was brought up to date with the altered files is not the one that was signed.
    let altered = fs::read_to_string(at.join(SUMS)).unwrap();
    let altered = altered.replace(&Digest::of(b"a disk").to_string(), &Digest::of(b"another disk").to_string());
    fs::write(at.join(SUMS), altered).unwrap();
    let refused = check().unwrap_err();
    assert_eq!(refused.exit_code(), Kind::Trust.exit_code());
    assert!(format!("{refused:?}").contains("was altered"), "{refused:?}");
}

#[test]
fn one_file_is_verified_from_anywhere_in_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    directory(folder.path());
    let signer = signer(1);
    sign(folder.path(), &signer).unwrap();
    let check = |name: &str, by: &Signer| check_file(&folder.path().join(name), Some(by.certificate()), NOW, &|_| {});
    for name in ["small.raw", "small.netboot/vmlinuz", "manifest.json", SUMS] {
        let checked = check(name, &signer).unwrap();
        assert_eq!((checked.good, checked.problems), (vec![name.to_owned()], Vec::new()));
    }
    fs::write(folder.path().join("small.netboot/vmlinuz"), "").unwrap();
    let checked = check("small.netboot/vmlinuz", &signer).unwrap();
    assert_eq!(checked.problems, [Problem::Altered("small.netboot/vmlinuz".to_owned())]);
    assert_eq!(check("small.raw", &signer).unwrap().problems, [], "nothing is said of other files");
    assert_eq!(check("other", &signer).unwrap().problems, [Problem::Unlisted("other".to_owned())]);
    assert!(format!("{:?}", check("small.raw", &self::signer(2)).unwrap_err()).contains("not in the keyring"));
}

#[test]
fn a_list_that_leads_elsewhere_or_a_broken_signature_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    directory(folder.path());
    let signer = signer(1);
    let at = folder.path();
    sign(at, &signer).unwrap();
    let check = || check_directory(at, Some(signer.certificate()), NOW, &|_| {}).unwrap_err();
    for signature in [b"".as_slice(), b"no signature", &[0x88, 0x75, 0x04, 0x00]] {
        fs::write(at.join(SIGNATURE), signature).unwrap();
        assert_eq!(check().exit_code(), Kind::Trust.exit_code());
    }
    let outside = format!("{}  ../../etc/passwd\n", Digest::of(b""));
    fs::write(at.join(SIGNATURE), signer.sign(outside.as_bytes(), NOW).unwrap()).unwrap();
    fs::write(at.join(SUMS), outside).unwrap();
    assert!(format!("{:?}", check()).contains("not inside the directory"));
    assert!(sign(at, &signer).is_err());
    fs::write(at.join(SUMS), vec![b'\n'; 17 << 20]).unwrap();
    assert!(format!("{:?}", check()).contains("more than"));
}

#[test]
fn a_manifest_that_is_not_the_listed_one_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    directory(folder.path());
    fs::write(folder.path().join("manifest.json"), "{}").unwrap();
    let refused = sign(folder.path(), &signer(1)).unwrap_err();
    assert!(format!("{refused:?}").contains("is not the one that"), "{refused:?}");
    assert!(!folder.path().join(SIGNATURE).exists());
}
