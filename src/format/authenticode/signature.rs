//! The signature itself: PKCS#7 signed data whose content names the digest of a PE file.

use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use der::asn1::{Null, ObjectIdentifier, OctetString, SetOfVec};
use der::{Any, AnyRef, Decode as _, DerOrd, Encode as _, Sequence};
use x509_cert::attr::Attribute;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::digest::Digest;

use super::signer::{Signer, SignerError};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const SPC_INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
const SPC_PE_IMAGE_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.15");

/// `SpcPeImageData` with no flags and, as a file, the empty string: a sequence of a bit string and `[0] [2] [0]`.
const PE_IMAGE_DATA: &[u8] = &[0x30, 0x09, 0x03, 0x01, 0x00, 0xa0, 0x04, 0xa2, 0x02, 0x80, 0x00];

/// `SpcIndirectDataContent`: what is signed, a PE image, and its digest.
#[derive(Sequence)]
struct IndirectData {
    data: TypeAndValue,
    message_digest: DigestInfo,
}

/// `SpcAttributeTypeAndOptionalValue`.
#[derive(Sequence)]
struct TypeAndValue {
    kind: ObjectIdentifier,
    value: Any,
}

/// `DigestInfo` (RFC 2315, 9.4).
#[derive(Sequence)]
struct DigestInfo {
    algorithm: AlgorithmIdentifierOwned,
    digest: OctetString,
}

/// `ContentInfo` with the signed data, DER.
///
/// # Errors
/// When the signature cannot be made; encoding does not fail for these types.
pub(super) fn signed_data(digest: &Digest, signer: &Signer) -> Result<Vec<u8>, SignerError> {
    let content = Any::encode_from(&IndirectData {
        data: TypeAndValue { kind: SPC_PE_IMAGE_DATA, value: Any::from_der(PE_IMAGE_DATA)? },
        message_digest: DigestInfo { algorithm: sha256()?, digest: OctetString::new(digest.as_bytes().as_slice())? },
    })?;
    // The digest of the content leaves out its own tag and length (RFC 2315, 9.3).
    let content_digest = OctetString::new(Digest::of(content.value()).as_bytes().as_slice())?;
    let mut signed_attributes = set(attribute(CONTENT_TYPE, Any::encode_from(&SPC_INDIRECT_DATA)?)?)?;
    signed_attributes.insert(attribute(MESSAGE_DIGEST, Any::encode_from(&content_digest)?)?)?;
    let signature = signer.sign(&signed_attributes.to_der()?)?;
    let certificate = signer.certificate();
    let signer_info = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: certificate.tbs_certificate.issuer.clone(),
            serial_number: certificate.tbs_certificate.serial_number.clone(),
        }),
        digest_alg: sha256()?,
        signed_attrs: Some(signed_attributes),
        signature_algorithm: algorithm(RSA_ENCRYPTION)?,
        signature: OctetString::new(signature)?,
        unsigned_attrs: None,
    };
    let signed = SignedData {
        // RFC 2315's, which is what Authenticode refers to; RFC 5652 would count differently.
        version: CmsVersion::V1,
        digest_algorithms: set(sha256()?)?,
        encap_content_info: EncapsulatedContentInfo { econtent_type: SPC_INDIRECT_DATA, econtent: Some(content) },
        certificates: Some(CertificateSet(set(CertificateChoices::Certificate(certificate.clone()))?)),
        crls: None,
        signer_infos: SignerInfos(set(signer_info)?),
    };
    Ok(ContentInfo { content_type: SIGNED_DATA, content: Any::encode_from(&signed)? }.to_der()?)
}

fn attribute(kind: ObjectIdentifier, value: Any) -> der::Result<Attribute> {
    Ok(Attribute { oid: kind, values: set(value)? })
}

/// A set of one.
fn set<T: DerOrd>(only: T) -> der::Result<SetOfVec<T>> {
    let mut set = SetOfVec::new();
    set.insert(only)?;
    Ok(set)
}

fn sha256() -> der::Result<AlgorithmIdentifierOwned> {
    algorithm(SHA_256)
}

/// With the `NULL` that firmware expects where an algorithm has no parameters.
fn algorithm(oid: ObjectIdentifier) -> der::Result<AlgorithmIdentifierOwned> {
    Ok(AlgorithmIdentifierOwned { oid, parameters: Some(AnyRef::from(Null).into()) })
}
