//! OpenPGP keys for archives that the tests make: Ed25519, from a seed, so that a test run repeats the last one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails as _, Password, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Creation time of every key: 2025-01-01.
const CREATED: u32 = 1_735_689_600;

/// A signing key.
#[derive(Clone)]
pub struct Key {
    secret: SignedSecretKey,
}

impl Key {
    /// The key of this seed: another seed, another key. Made once: its own signatures bear the time of their making,
    /// and two worlds of one run are to have the same keyring.
    pub fn new(seed: u64) -> Self {
        static MADE: Mutex<BTreeMap<u64, Key>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(seed).or_insert_with(|| Self::make(seed)).clone()
    }

    fn make(seed: u64) -> Self {
        let mut parameters = SecretKeyParamsBuilder::default();
        parameters
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(true)
            .can_certify(true)
            .created_at(Timestamp::from_secs(CREATED))
            .primary_user_id(format!("rolecast test archive {seed} <archive@test.invalid>"));
        let parameters = parameters.build().expect("complete parameters");
        Self { secret: parameters.generate(StdRng::seed_from_u64(seed)).expect("an Ed25519 key") }
    }

    /// The certificate, binary, as a keyring holds it.
    pub fn certificate(&self) -> Vec<u8> {
        SignedPublicKey::from(self.secret.clone()).to_bytes().expect("memory takes it")
    }

    /// Fingerprint, upper-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.secret.fingerprint())
    }

    /// `text` clear-signed at `date` (seconds since the Epoch): an `InRelease`.
    pub fn clear_sign(&self, text: &str, date: u32) -> String {
        let key = &self.secret.primary_key;
        let mut config = SignatureConfig::v4(SignatureType::Text, key.algorithm(), HashAlgorithm::Sha256);
        config.hashed_subpackets = [
            SubpacketData::SignatureCreationTime(Timestamp::from_secs(date)),
            SubpacketData::IssuerFingerprint(key.fingerprint()),
        ]
        .map(|data| Subpacket::regular(data).expect("a small subpacket"))
        .into();
        let message = CleartextSignedMessage::new(text, config, key, &Password::empty()).expect("the key can sign");
        message.to_armored_string(ArmorOptions::default()).expect("memory takes it")
    }
}
