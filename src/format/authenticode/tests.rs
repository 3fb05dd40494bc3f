//! Signatures read back by the rules that a firmware has, and signers that cannot sign.

use std::sync::OnceLock;

use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use der::{Decode as _, Encode as _};
use rand::SeedableRng as _;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};

use super::super::pe::testing::program;
use super::super::pe::u32_at;
use super::super::recipe::testing::Objects;
use super::*;

/// A key and a certificate of it, PEM.
struct Pair {
    key: RsaPrivateKey,
    pem: String,
    certificate: String,
}

impl Pair {
    fn new(seed: u64, bits: usize) -> Self {
        let key = RsaPrivateKey::new(&mut rand::rngs::StdRng::seed_from_u64(seed), bits).unwrap();
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "test db");
        let certificate = match rcgen::KeyPair::from_pem_and_sign_algo(&pem, &rcgen::PKCS_RSA_SHA256) {
            Ok(pair) => parameters.self_signed(&pair).unwrap().pem(),
            Err(_) => String::new(),
        };
        Self { key, pem, certificate }
    }

    fn one() -> &'static Self {
        static ONE: OnceLock<Pair> = OnceLock::new();
        ONE.get_or_init(|| Self::new(1, 2048))
    }

    fn signer(&self) -> Signer {
        Signer::read(&self.pem, &self.certificate).unwrap()
    }
}

fn literal(bytes: &[u8]) -> Recipe {
    let mut recipe = Recipe::new();
    recipe.literal(bytes, "program");
    recipe
}

fn digest(file: &Recipe) -> Digest {
    Digest::of(&Objects::default().pour(&Program::new(file).unwrap().signed_bytes()))
}

fn sign(file: &Recipe, signer: &Signer) -> Recipe {
    let signed = Program::new(file).unwrap().sign(&digest(file), signer).unwrap();
    Program::new(&signed).expect("a signed file is one that can be signed");
    signed
}

/// The certificates of a signed file, by the table that its header points at.
fn certificates(file: &[u8]) -> Vec<&[u8]> {
    let header = Header::read(file).unwrap();
    let (start, size) = header.certificates.unwrap();
    let table = &file[start as usize..];
    assert_eq!((start % 8, table.len()), (0, size as usize));
    let mut found = Vec::new();
    let mut at = 0;
    while at < table.len() {
        let length = u32_at(table, at) as usize;
        assert_eq!(&table[at + 4..at + 8], [0, 2, 2, 0]);
        found.push(&table[at + 8..at + length]);
        at += length.next_multiple_of(8);
    }
    found
}

#[test]
fn a_signature_says_what_a_firmware_asks_for() {
    let signer = Pair::one().signer();
    let file = literal(&program(0x400));
    let digest = digest(&file);
    let signed = Objects::default().pour(&sign(&file, &signer));
    let [signature] = certificates(&signed)[..] else { panic!("one signature") };
    // EDK2 finds the digest's algorithm by its place: lengths of two bytes, the identifier 32 bytes in.
    assert_eq!((signature[1], &signature[32..41]), (0x82, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1][..]));

    let content = ContentInfo::from_der(signature).unwrap();
    let data: SignedData = content.content.decode_as().unwrap();
    let statement = data.encap_content_info.econtent.as_ref().unwrap().value();
    assert!(statement.ends_with(digest.as_bytes()), "the digest comes last");
    let [info] = data.signer_infos.0.as_slice() else { panic!("one signer") };
    let attributes = info.signed_attrs.as_ref().unwrap();
    let kinds: Vec<String> = attributes.iter().map(|attribute| attribute.oid.to_string()).collect();
    // No signing time: the same key and file give the same bytes.
    assert_eq!(kinds, ["1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"]);
    let message = attributes.iter().nth(1).unwrap().values.get(0).unwrap();
    assert_eq!(message.value(), Digest::of(statement).as_bytes());
    let key = Pair::one().key.to_public_key();
    let key = rsa::pkcs1::EncodeRsaPublicKey::to_pkcs1_der(&key).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.as_bytes());
    key.verify(&attributes.to_der().unwrap(), info.signature.as_bytes()).expect("the signature fits the key");
}

#[test]
fn the_same_key_gives_the_same_bytes_and_changes_no_other() {
    let signer = Pair::one().signer();
    // A length that is no multiple of eight is padded, and the padding is signed.
    let mut bytes = program(0x400);
    bytes.extend(*b"abc");
    let file = literal(&bytes);
    let signed = sign(&file, &signer);
    assert_eq!(signed, sign(&file, &signer));
    let signed = Objects::default().pour(&signed);
    let entry = Header::read(&bytes).unwrap().certificate_entry();
    assert_eq!(signed[..entry], bytes[..entry]);
    assert_eq!(signed[entry + 8..bytes.len()], bytes[entry + 8..]);
    assert_eq!(signed[bytes.len()..bytes.len() + 5], [0; 5]);

    // What is signed does not depend on checksum and signature, and on everything else.
    let again = literal(&signed);
    assert_eq!(digest(&again), digest(&file));
    for at in [0x41, entry - 90, entry + 9, 0x500, bytes.len() - 1] {
        let mut altered = signed.clone();
        altered[at] ^= 1;
        let altered = literal(&altered);
        let changed = Program::new(&altered).map(|program| Objects::default().pour(&program.signed_bytes()));
        assert!(changed.is_err() || changed.is_ok_and(|bytes| Digest::of(&bytes) != digest(&file)), "byte {at}");
    }

    // A second signature stands behind the first.
    let other = Pair::new(2, 2048).signer();
    let twice = Objects::default().pour(&sign(&again, &other));
    let both = certificates(&twice);
    assert_eq!((both.len(), both[0]), (2, certificates(&signed)[0]));
    assert_eq!(digest(&literal(&twice)), digest(&file));
}

#[test]
fn a_program_that_a_firmware_would_not_hash_whole_is_refused() {
    let fails = |bytes: &[u8]| Program::new(&literal(bytes)).unwrap_err().to_string();
    let section = 0x58 + 240;
    let mut gap = program(0x400);
    gap[section + 21] += 2;
    assert!(fails(&gap).contains("follow one another"));
    let mut long = program(0x400);
    long[section + 17] += 2;
    assert!(fails(&long).contains("shorter"));
    let mut few = program(0x400);
    few[0x58 + 108] = 4;
    assert!(fails(&few).contains("no place"));
    let mut signed = program(0x400);
    signed[0x58 + 148] = 8;
    assert!(fails(&signed).contains("at its end"));
    let mut objects = Objects::default();
    assert!(Program::new(&objects.keep(program(0x400))).is_err(), "headers have to be literal");
    let signer = Pair::one().signer();
    for at in 0..0x170 {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = program(0x400);
            damaged[at] = byte;
            let damaged = literal(&damaged);
            if let Ok(program) = Program::new(&damaged) {
                program.sign(&Digest::of(b""), &signer).unwrap();
            }
        }
    }
}

#[test]
fn a_signer_that_cannot_sign_is_told_why() {
    let pair = Pair::one();
    let fails = |key: &str, certificate: &str| Signer::read(key, certificate).unwrap_err().to_string();
    let with_text = format!("subject=CN = test db\n{}", pair.certificate);
    assert!(Signer::read(&pair.pem, &with_text).is_ok(), "text before a block is skipped");
    assert_eq!(pair.signer().subject(), "CN=test db");
    assert!(!format!("{:?}", pair.signer()).contains("key"), "a key is not printed");

    let other = Pair::new(2, 2048);
    assert_eq!(fails(&pair.pem, &other.certificate), "the certificate is of another key");
    let small = Pair::new(3, 1024);
    assert!(fails(&small.pem, &pair.certificate).starts_with("the key cannot be used"));
    let encrypted = pair.pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert_eq!(fails(&encrypted, &pair.certificate), "the key is encrypted");
    let old = pair.key.to_pkcs1_pem(LineEnding::LF).unwrap();
    assert_eq!(fails(&old, &pair.certificate), "the key is not in PKCS#8 form");
    let curve = rcgen::KeyPair::generate().unwrap();
    let curved = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&curve).unwrap().pem();
    assert_eq!(fails(&curve.serialize_pem(), &curved), "the key is not an RSA key");
    assert_eq!(fails(&pair.pem, &curved), "the certificate's key is not an RSA key");
    assert!(fails(&pair.certificate, &pair.certificate).contains("-----BEGIN PRIVATE KEY-----"));
    assert!(fails(&pair.pem, &pair.pem).contains("-----BEGIN CERTIFICATE-----"));
    assert!(fails("", "").contains("PEM"));
    let broken = pair.pem.replace("MII", "AAA");
    assert!(fails(&broken, &pair.certificate).starts_with("the key"));
    let broken = pair.certificate.replace("MII", "AAA");
    assert!(fails(&pair.pem, &broken).starts_with("the certificate"));
}
