//! The cluster's own certificate authority, and the certificates that it signs. X.509 as RFC 5280 says, strict enough
//! for Python's `VERIFY_X509_STRICT`, OpenSSL, Go and rustls: P-256 keys, key identifiers, addresses as names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::random;
use crate::report::{Diagnostic, Kind};
use crate::ticket::Secret;

/// Seconds of a day.
pub const DAY: u64 = 86_400;
/// How long an authority is valid.
const AUTHORITY: u64 = 3650 * DAY;
/// How long a node's certificate is valid.
const NODE: u64 = 730 * DAY;

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Common name; no two authorities of a cluster have the same.
    pub name: String,
    /// When it was made, seconds since the Epoch.
    pub made: u64,
    /// When it ends, seconds since the Epoch.
    pub ends: u64,
    /// PEM.
    pub certificate: String,
    /// PKCS#8, PEM.
    pub key: Secret,
}

/// A node's certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Name of the authority that signed it.
    pub signed_by: String,
    /// Names and addresses that it is for.
    pub names: Vec<String>,
    /// When it was made, seconds since the Epoch.
    pub made: u64,
    /// When it ends, seconds since the Epoch.
    pub ends: u64,
    /// PEM.
    pub certificate: String,
    /// PKCS#8, PEM.
    pub key: Secret,
}

impl Authority {
    /// A new authority for the cluster `cluster`.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn create(cluster: &str, now: u64) -> Result<Self, Diagnostic> {
        let name = format!("rolecast {cluster} {}", random::hexadecimal::<4>()?);
        let ends = now + AUTHORITY;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let certificate = parameters(&name, now, ends)?.self_signed(&key).map_err(failed)?;
        Ok(Self { name, made: now, ends, certificate: certificate.pem(), key: Secret(key.serialize_pem()) })
    }

    /// A new certificate of this authority for a machine.
    ///
    /// # Errors
    /// When the authority's key is damaged, or the name is none.
    pub fn issue(&self, node: &str, names: Vec<String>, now: u64) -> Result<Certificate, Diagnostic> {
        let ends = (now + NODE).min(self.ends);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut leaf = between(node, now, ends)?;
        for name in &names {
            leaf.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
            });
        }
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        // The issuer is what the authority's certificate was made from: its name and key decide all that a leaf says of it.
        let authority_key = KeyPair::from_pem(&self.key.0).map_err(failed)?;
        let issuer = rcgen::Issuer::new(parameters(&self.name, self.made, self.ends)?, authority_key);
        let certificate = leaf.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Certificate {
            signed_by: self.name.clone(),
            names,
            made: now,
            ends,
            certificate: certificate.pem(),
            key: Secret(key.serialize_pem()),
        })
    }
}

/// The names of a machine's certificate: its own, its address, itself, and for a region the virtual address.
pub fn names(node: &str, address: Ipv4Addr, vip: Option<Ipv4Addr>) -> Vec<String> {
    let own = [node.to_owned(), "localhost".to_owned(), address.to_string()];
    let loopback = [Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
    own.into_iter().chain(loopback).chain(vip.map(|vip| vip.to_string())).collect()
}

fn parameters(name: &str, made: u64, ends: u64) -> Result<CertificateParams, Diagnostic> {
    let mut parameters = between(name, made, ends)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters)
}

/// For `name`, valid from a day before: clocks of machines that have just started differ.
fn between(name: &str, made: u64, ends: u64) -> Result<CertificateParams, Diagnostic> {
    let time = |seconds: u64| {
        OffsetDateTime::from_unix_timestamp(seconds.cast_signed())
            .map_err(|_| Diagnostic::error(Kind::Input, "a certificate's time is out of range"))
    };
    let mut parameters = CertificateParams::default();
    parameters.not_before = time(made.saturating_sub(DAY))?;
    parameters.not_after = time(ends)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    Ok(parameters)
}

/// rcgen names what it could not do; no text of its errors holds a key.
fn failed(error: rcgen::Error) -> Diagnostic {
    Diagnostic::error(Kind::Input, format!("a certificate cannot be made: {error}"))
        .hint("if the secrets file was edited by hand, put back what it was")
}
