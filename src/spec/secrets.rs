//! Secrets that templates may name: a closed, documented list, and values that no message can show.

use std::collections::BTreeMap;

/// A secret that templates see as `secret.NAME`.
#[derive(Debug)]
pub struct SecretName {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Who needs it.
    pub who: &'static str,
    /// A text of its form for checks: never in an image, never a secret of anyone.
    pub sample: &'static str,
}

const fn secret(name: &'static str, who: &'static str, doc: &'static str, sample: &'static str) -> SecretName {
    SecretName { name, doc, who, sample }
}

/// All secrets, by name.
pub static SECRETS: &[SecretName] = &[
    secret("admin_password", "first region", "Password of MAAS's first administrator.", "sample-admin-password"),
    secret(
        "ca_certificate",
        "all",
        "Certificate of the cluster's own authority, PEM.",
        include_str!("sample/ca-certificate.pem"),
    ),
    secret("database_password", "regions", "Password of the database role `maas`.", "sample-database-password"),
    secret("maas_secret", "all", "MAAS's shared secret: 32 hexadecimal digits.", "00112233445566778899aabbccddeeff"),
    secret(
        "node_certificate",
        "all",
        "This machine's certificate for its name and address, PEM.",
        include_str!("sample/node-certificate.pem"),
    ),
    secret("node_key", "all", "Private key of the machine's certificate, PEM.", include_str!("sample/node-key.pem")),
    secret(
        "operator_public_key",
        "all",
        "The operator's public SSH key, with which `rolecast apply` reaches root.",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f sample",
    ),
    secret("patroni_rest_password", "regions", "Password of Patroni's REST API.", "sample-patroni-rest-password"),
    secret(
        "replication_password",
        "regions",
        "Password of the database role `replicator`.",
        "sample-replication-password",
    ),
    secret("rewind_password", "regions", "Password of the database role `rewind`.", "sample-rewind-password"),
    secret("superuser_password", "regions", "Password of the database role `postgres`.", "sample-superuser-password"),
];

/// Values of secrets, for rendering one machine's late templates.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<&'static str, String>);

/// A secret that is not in the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a secret that templates know")]
pub struct UnknownSecret(pub String);

impl Secrets {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sample values of all secrets, for checks. They are written in the source and protect nothing.
    pub fn sample() -> Self {
        Self(SECRETS.iter().map(|secret| (secret.name, secret.sample.to_owned())).collect())
    }

    /// Sets one.
    ///
    /// # Errors
    /// When [`SECRETS`] does not have the name.
    pub fn insert(&mut self, name: &str, value: String) -> Result<(), UnknownSecret> {
        let known = SECRETS.iter().find(|secret| secret.name == name).ok_or_else(|| UnknownSecret(name.to_owned()))?;
        self.0.insert(known.name, value);
        Ok(())
    }

    /// As templates see it.
    pub(super) fn to_value(&self) -> serde_json::Value {
        self.0
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let mut secrets = Secrets::new();
        secrets.insert("maas_secret", "hunter2".into()).unwrap();
        assert_eq!(format!("{secrets:?}"), r#"["maas_secret"]"#);
        assert_eq!(secrets.insert("mass_secret", String::new()), Err(UnknownSecret("mass_secret".into())));
    }

    #[test]
    fn the_list_is_sorted_and_every_name_once() {
        assert!(SECRETS.is_sorted_by(|one, other| one.name < other.name));
    }
}
