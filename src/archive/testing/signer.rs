//! OpenPGP keys as a test wants them, good and bad; the same ones in every run.

use std::collections::BTreeMap;
use std::sync::Mutex;

use pgp::composed::{ArmorOptions, CleartextSignedMessage, DetachedSignature, KeyType, SignedKeyDetails};
use pgp::composed::{SignedPublicKey, SignedPublicSubKey, SignedSecretKey, SignedSecretSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, PacketTrait as _, PubKeyInner, PublicKey, PublicSubkey, RevocationCode, SecretKey};
use pgp::packet::{SecretSubkey, SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId};
use pgp::ser::Serialize as _;
use pgp::types::{Duration, KeyDetails, KeyVersion, Password, PublicParams, SecretParams, SigningKey, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{DAY, NOW};

/// How a key is to be made.
#[derive(Clone)]
pub struct Make {
    /// Another seed makes another key.
    pub seed: u64,
    /// Algorithm of the primary key.
    pub kind: KeyType,
    /// When.
    pub made: i64,
    /// Seconds that it lives; 0 for ever.
    pub lives: u32,
    /// Whether the primary key may sign.
    pub may_sign: bool,
    /// Digest of the self-signature.
    pub digest: HashAlgorithm,
    /// A revocation of the whole certificate.
    pub revoked: Option<(i64, RevocationCode)>,
    /// A subkey, which then signs.
    pub subkey: Option<MakeSubkey>,
}

/// How a subkey is to be made.
#[derive(Clone)]
pub struct MakeSubkey {
    /// Seconds that it lives; 0 for ever.
    pub lives: u32,
    /// Whether it may sign.
    pub may_sign: bool,
    /// Whether it agrees to be one.
    pub countersigned: bool,
    /// Digest of the binding.
    pub digest: HashAlgorithm,
    /// A revocation.
    pub revoked: Option<(i64, RevocationCode)>,
}

impl Default for Make {
    fn default() -> Self {
        Self {
            seed: 1,
            kind: KeyType::Ed25519Legacy,
            made: NOW - 400 * DAY,
            lives: 0,
            may_sign: true,
            digest: HashAlgorithm::Sha512,
            revoked: None,
            subkey: None,
        }
    }
}

impl Default for MakeSubkey {
    fn default() -> Self {
        Self { lives: 0, may_sign: true, countersigned: true, digest: HashAlgorithm::Sha512, revoked: None }
    }
}

/// A key pair with its certificate.
pub struct Signer {
    primary: SecretKey,
    subkey: Option<SecretSubkey>,
    certificate: SignedPublicKey,
}

impl Signer {
    /// The usual key of that seed.
    pub fn new(seed: u64) -> Self {
        Self::make(&Make { seed, ..Make::default() })
    }

    /// A key as wanted.
    pub fn make(make: &Make) -> Self {
        let mut random = StdRng::seed_from_u64(make.seed);
        let made = Timestamp::from_secs(u32::try_from(make.made).unwrap());
        let mut inner = |kind: &KeyType| {
            let (public, secret) = match kind {
                KeyType::Rsa(bits) => rsa(*bits),
                kind => kind.generate(&mut random).unwrap(),
            };
            (PubKeyInner::new(KeyVersion::V4, kind.to_alg(), made, None, public).unwrap(), secret)
        };
        let (public, secret) = inner(&make.kind);
        let public = PublicKey::from_inner(public).unwrap();
        let primary = SecretKey::new(public.clone(), secret).unwrap();
        let (public_sub, secret) = inner(&KeyType::Ed25519Legacy);
        let public_sub = PublicSubkey::from_inner(public_sub).unwrap();
        let secret_sub = SecretSubkey::new(public_sub.clone(), secret).unwrap();
        let password = Password::empty();

        let name = UserId::from_str(Default::default(), format!("Archive {}", make.seed)).unwrap();
        let mut own = config(&primary, SignatureType::CertPositive, make.digest, make.made);
        own.hashed_subpackets.extend(binding(make.may_sign, make.lives));
        let own = own.sign_certification(&primary, &public, &password, name.tag(), &name).unwrap();
        let revocations = make.revoked.map(|(when, why)| {
            let mut revoke = config(&primary, SignatureType::KeyRevocation, HashAlgorithm::Sha512, when);
            revoke.hashed_subpackets.push(reason(why));
            revoke.sign_key(&primary, &password, &public).unwrap()
        });
        let subkey = make.subkey.as_ref().map(|sub| {
            let mut bind = config(&primary, SignatureType::SubkeyBinding, sub.digest, make.made);
            bind.hashed_subpackets.extend(binding(sub.may_sign, sub.lives));
            if sub.countersigned {
                let back = config(&secret_sub, SignatureType::KeyBinding, HashAlgorithm::Sha512, make.made);
                let back = back.sign_primary_key_binding(&secret_sub, &public_sub, &password, &public).unwrap();
                bind.hashed_subpackets.push(regular(SubpacketData::EmbeddedSignature(Box::new(back))));
            }
            let mut signatures = vec![bind.sign_subkey_binding(&primary, &public, &password, &public_sub).unwrap()];
            signatures.extend(sub.revoked.map(|(when, why)| {
                let mut revoke = config(&primary, SignatureType::SubkeyRevocation, HashAlgorithm::Sha512, when);
                revoke.hashed_subpackets.push(reason(why));
                revoke.sign_subkey_binding(&primary, &public, &password, &public_sub).unwrap()
            }));
            SignedPublicSubKey::new(public_sub.clone(), signatures)
        });
        let details = SignedKeyDetails::new(
            revocations.into_iter().collect(),
            Vec::new(),
            vec![name.into_signed(own)],
            Vec::new(),
        );
        let secret_sub = subkey.is_some().then_some(secret_sub);
        let certificate = SignedPublicKey::new(public, details, subkey.into_iter().collect());
        Self { primary, subkey: secret_sub, certificate }
    }

    /// The certificate, binary.
    pub fn keyring(&self) -> Vec<u8> {
        self.certificate.to_bytes().unwrap()
    }

    /// The secret key with its certificate, encrypted if there is a passphrase.
    pub fn secret_key(&self, passphrase: Option<&str>) -> SignedSecretKey {
        let (mut primary, mut subkey) = (self.primary.clone(), self.subkey.clone());
        if let Some(passphrase) = passphrase {
            let mut random = StdRng::seed_from_u64(0);
            primary.set_password(&mut random, &passphrase.into()).unwrap();
            if let Some(subkey) = &mut subkey {
                subkey.set_password(&mut random, &passphrase.into()).unwrap();
            }
        }
        let subkeys = subkey.into_iter().zip(&self.certificate.public_subkeys);
        let subkeys = subkeys.map(|(key, public)| SignedSecretSubKey::new(key, public.signatures.clone()));
        SignedSecretKey::new(primary, self.certificate.details.clone(), Vec::new(), subkeys.collect())
    }

    /// The certificate, armored.
    pub fn armored_keyring(&self) -> String {
        self.certificate.to_armored_string(ArmorOptions::default()).unwrap()
    }

    /// The certificate's fingerprint, upper-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.certificate.fingerprint())
    }

    /// The subkey's fingerprint.
    pub fn subkey_fingerprint(&self) -> String {
        format!("{:X}", self.subkey.as_ref().unwrap().fingerprint())
    }

    /// A clear-signed message as `gpg --clearsign` makes it.
    pub fn clear_sign(&self, text: &str, when: i64) -> Vec<u8> {
        self.clear_sign_with(text, HashAlgorithm::Sha512, when, |_| {})
    }

    /// As [`Signer::clear_sign`], with a digest and whatever `alter` does.
    pub fn clear_sign_with(
        &self,
        text: &str,
        digest: HashAlgorithm,
        when: i64,
        alter: impl FnOnce(&mut SignatureConfig),
    ) -> Vec<u8> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let sign = |key: &dyn SigningKey| {
            let key: Box<&dyn SigningKey> = Box::new(key);
            let mut config = config(&key, SignatureType::Text, digest, when);
            alter(&mut config);
            CleartextSignedMessage::new(text, config, &key, &Password::empty()).unwrap()
        };
        let message = match &self.subkey {
            Some(subkey) => sign(subkey),
            None => sign(&self.primary),
        };
        message.to_armored_bytes(ArmorOptions::default()).unwrap()
    }

    /// A detached signature, armored.
    pub fn detached(&self, bytes: &[u8], when: i64) -> Vec<u8> {
        let config = config(&self.primary, SignatureType::Binary, HashAlgorithm::Sha512, when);
        let signature = config.sign(&self.primary, &Password::empty(), bytes).unwrap();
        DetachedSignature::new(signature).to_armored_bytes(ArmorOptions::default()).unwrap()
    }
}

/// RSA keys take seconds to find: one of each length serves all tests of a process.
fn rsa(bits: u32) -> (PublicParams, SecretParams) {
    static FOUND: Mutex<BTreeMap<u32, (PublicParams, SecretParams)>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap();
    let find = || KeyType::Rsa(bits).generate(StdRng::seed_from_u64(u64::from(bits))).unwrap();
    found.entry(bits).or_insert_with(find).clone()
}

fn config(key: &impl KeyDetails, typ: SignatureType, digest: HashAlgorithm, when: i64) -> SignatureConfig {
    let mut config = SignatureConfig::v4(typ, key.algorithm(), digest);
    let when = Timestamp::from_secs(u32::try_from(when).unwrap());
    config.hashed_subpackets = vec![
        regular(SubpacketData::SignatureCreationTime(when)),
        regular(SubpacketData::IssuerFingerprint(key.fingerprint())),
    ];
    config.unhashed_subpackets = vec![regular(SubpacketData::IssuerKeyId(key.legacy_key_id()))];
    config
}

fn binding(may_sign: bool, lives: u32) -> Vec<Subpacket> {
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(may_sign);
    let mut packets = vec![regular(SubpacketData::KeyFlags(flags))];
    if lives > 0 {
        packets.push(regular(SubpacketData::KeyExpirationTime(Duration::from_secs(lives))));
    }
    packets
}

fn reason(code: RevocationCode) -> Subpacket {
    regular(SubpacketData::RevocationReason(code, Vec::new().into()))
}

fn regular(data: SubpacketData) -> Subpacket {
    Subpacket::regular(data).unwrap()
}
