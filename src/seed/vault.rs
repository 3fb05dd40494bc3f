//! The secrets of one cluster, as a value: made, completed, rotated. Where they are kept is `file`'s.
//!
//! What a change of the authority needs is a step of three, because no two machines learn of it at once: all trust
//! both ([`Step::Introduced`]), then certificates come from the new one ([`Step::Replaced`]), then the old one is
//! dropped ([`Step::Settled`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::certificate::{self, Authority, Certificate};
use super::operator::OperatorKey;
use super::random;
use crate::report::{Diagnostic, Kind};
use crate::spec::secrets::SECRETS;
use crate::spec::{Cluster, NodeFacts, RoleKind, Secrets, Spec};
use crate::ticket::Secret;

/// The version of the form that this program writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// Secrets that every region knows, by the names that templates use.
const OF_REGIONS: [&str; 6] = [
    "admin_password",
    "database_password",
    "patroni_rest_password",
    "replication_password",
    "rewind_password",
    "superuser_password",
];

/// MAAS's shared secret, which every controller knows.
const MAAS_SECRET: &str = "maas_secret";

/// The secrets of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// [`FORMAT`].
    pub format: u32,
    /// Name of the image file that they are for.
    pub image: String,
    /// Counts changes.
    pub generation: u64,
    /// When they were last changed, seconds since the Epoch.
    pub issued: u64,
    /// Who can decrypt the file: recipients of age. None when it is not encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// How far a change of the authority is.
    pub step: Step,
    /// Passwords and MAAS's secret, by the names that templates use.
    pub secret: BTreeMap<String, Kept>,
    /// The authority that signs.
    pub authority: Authority,
    /// While the authority is changed: the next one ([`Step::Introduced`]), or the last one ([`Step::Replaced`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_authority: Option<Authority>,
    /// The operator's SSH key.
    pub operator: OperatorKey,
    /// Certificates, by node.
    pub node: BTreeMap<String, Certificate>,
}

/// How far a change of the authority is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// There is one authority.
    Settled,
    /// All are to trust the next one too; certificates are still the old one's.
    Introduced,
    /// Certificates are the new one's; all still trust the old one.
    Replaced,
}

/// A secret and when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// When it was made, seconds since the Epoch.
    pub made: u64,
    /// The secret.
    pub value: Secret,
}

impl Vault {
    /// New secrets for `cluster`, built by the image file of `spec`. `now` is in seconds since the Epoch.
    ///
    /// # Errors
    /// When the kernel gives no random bytes, or a node's name fits no certificate.
    pub fn create(spec: &Spec, cluster: &Cluster, now: u64) -> Result<Self, Diagnostic> {
        let mut vault = Self {
            format: FORMAT,
            image: spec.name.clone(),
            generation: 0,
            issued: now,
            recipients: Vec::new(),
            step: Step::Settled,
            secret: BTreeMap::new(),
            authority: Authority::create(&cluster.name, now)?,
            other_authority: None,
            operator: OperatorKey::create(&format!("rolecast operator of {}", cluster.name), now)?,
            node: BTreeMap::new(),
        };
        vault.complete(spec, cluster, now)?;
        Ok(vault)
    }

    /// Reads the text of a secrets file.
    ///
    /// # Errors
    /// When it is none; what it says is not shown.
    pub fn read(text: &str) -> Result<Self, Diagnostic> {
        let damaged = |at: Option<usize>| {
            let diagnostic = Diagnostic::error(Kind::Input, "the secrets are damaged, or a newer rolecast wrote them");
            let line = at.map(|at| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1);
            match line {
                Some(line) => diagnostic.note(format!("line {line} is not what belongs there")),
                None => diagnostic,
            }
            .hint("put back a copy; with new secrets a running cluster would have to be set up anew")
        };
        // Not the parser's own message, which shows the line.
        let vault: Self = toml::from_str(text).map_err(|error| damaged(error.span().map(|span| span.start)))?;
        if vault.format == FORMAT && vault.holds_together() { Ok(vault) } else { Err(damaged(None)) }
    }

    /// The text of the secrets file.
    pub fn write(&self) -> String {
        // A value of plain fields always serializes.
        let text = toml::to_string(self).unwrap_or_default();
        format!("# Secrets of a cluster, by rolecast. Whoever reads this file owns the cluster.\n{text}")
    }

    fn holds_together(&self) -> bool {
        let secrets = passwords().chain([MAAS_SECRET]).all(|name| self.secret.contains_key(name));
        secrets && (self.step == Step::Settled) == self.other_authority.is_none()
    }

    /// Adds what is missing, renews certificates whose names no longer fit and drops those of nodes that are gone.
    /// Says what was done, a line each; the generation counts it as one change.
    ///
    /// # Errors
    /// As [`Vault::create`].
    pub fn complete(&mut self, spec: &Spec, cluster: &Cluster, now: u64) -> Result<Vec<String>, Diagnostic> {
        let mut done = Vec::new();
        for name in passwords().chain([MAAS_SECRET]) {
            if !self.secret.contains_key(name) {
                self.secret.insert(name.to_owned(), Kept::create(name, now)?);
                done.push(format!("made {name}"));
            }
        }
        for node in &cluster.nodes {
            let names = names_of(spec, cluster, node);
            let what = match self.node.get(&node.name) {
                None => "made",
                Some(certificate) if certificate.names != names => "renewed, for its new addresses,",
                Some(_) => continue,
            };
            self.node.insert(node.name.clone(), self.authority.issue(&node.name, names, now)?);
            done.push(format!("{what} the certificate of {}", node.name));
        }
        let gone: Vec<String> =
            self.node.keys().filter(|name| cluster.nodes.iter().all(|node| node.name != **name)).cloned().collect();
        for name in gone {
            self.node.remove(&name);
            done.push(format!("dropped the certificate of {name}, which is no node any more"));
        }
        if !done.is_empty() {
            self.changed(now);
        }
        Ok(done)
    }

    /// Replaces secrets: by a template's name, or a node's name for its certificate; all passwords, MAAS's secret and all
    /// certificates when none is named.
    ///
    /// # Errors
    /// When a name is neither; nothing is changed then.
    pub fn rotate(&mut self, names: &[String], now: u64) -> Result<Vec<String>, Diagnostic> {
        let all: Vec<String> = self.secret.keys().chain(self.node.keys()).cloned().collect();
        if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
            return Err(Diagnostic::error(Kind::Usage, format!("there is nothing named `{unknown}` to rotate"))
                .note(format!("there are: {}", all.join(", "))));
        }
        let chosen = if names.is_empty() { all } else { names.to_vec() };
        let mut next = self.clone();
        for name in &chosen {
            if let Some(certificate) = self.node.get(name) {
                let issued = self.authority.issue(name, certificate.names.clone(), now)?;
                next.node.insert(name.clone(), issued);
            } else {
                next.secret.insert(name.clone(), Kept::create(name, now)?);
            }
        }
        next.changed(now);
        *self = next;
        Ok(chosen)
    }

    /// Goes on with a change of the authority, or begins one. Every machine must have what the last step made before
    /// the next one is taken.
    ///
    /// # Errors
    /// As [`Vault::create`].
    pub fn advance_authority(&mut self, cluster: &str, now: u64) -> Result<Step, Diagnostic> {
        let mut next = self.clone();
        match (self.step, next.other_authority.take()) {
            (Step::Settled, _) | (_, None) => {
                next.other_authority = Some(Authority::create(cluster, now)?);
                next.step = Step::Introduced;
            }
            (Step::Introduced, Some(new)) => {
                for (name, certificate) in &self.node {
                    next.node.insert(name.clone(), new.issue(name, certificate.names.clone(), now)?);
                }
                next.other_authority = Some(std::mem::replace(&mut next.authority, new));
                next.step = Step::Replaced;
            }
            (Step::Replaced, Some(_)) => next.step = Step::Settled,
        }
        next.changed(now);
        *self = next;
        Ok(self.step)
    }

    /// What all machines trust: the authority's certificate, and the other one's while it is changed.
    pub fn trusted(&self) -> String {
        let other = self.other_authority.iter().map(|authority| authority.certificate.as_str());
        [self.authority.certificate.as_str()].into_iter().chain(other).map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// What templates of one node may name: a rack never has a region's.
    ///
    /// # Errors
    /// When the node has no certificate here, or one for other addresses.
    pub fn secrets_for(&self, spec: &Spec, cluster: &Cluster, node: &NodeFacts) -> Result<Secrets, Diagnostic> {
        let certificate = self.node.get(&node.name);
        let certificate = certificate.filter(|certificate| certificate.names == names_of(spec, cluster, node));
        let certificate = certificate.ok_or_else(|| {
            let message = format!("the secrets file has no certificate for `{}` at {}", node.name, node.address);
            Diagnostic::error(Kind::Input, message).hint("`rolecast secrets init` adds what is missing")
        })?;
        let passwords = self.secret.iter().filter(|(name, _)| knows(kind_of(spec, node), name));
        let passwords = passwords.map(|(name, kept)| (name.as_str(), kept.value.0.clone()));
        let own = [
            ("ca_certificate", self.trusted()),
            ("node_certificate", certificate.certificate.trim_end().to_owned()),
            ("node_key", certificate.key.0.trim_end().to_owned()),
            ("operator_public_key", self.operator.public.clone()),
        ];
        let mut secrets = Secrets::new();
        for (name, value) in own.into_iter().chain(passwords) {
            // A name of an older rolecast's file is no template's any more.
            let _ = secrets.insert(name, value);
        }
        Ok(secrets)
    }

    /// What the join of a machine of this kind uses itself.
    pub fn for_join(&self, kind: RoleKind) -> BTreeMap<String, Secret> {
        let known = self.secret.iter().filter(|(name, _)| knows(kind, name));
        known.map(|(name, kept)| (name.clone(), kept.value.clone())).collect()
    }

    fn changed(&mut self, now: u64) {
        self.generation += 1;
        self.issued = now.max(self.issued);
    }
}

impl Kept {
    fn create(name: &str, now: u64) -> Result<Self, Diagnostic> {
        let value = if name == MAAS_SECRET { random::hexadecimal::<16>()? } else { random::password()? };
        Ok(Self { made: now, value: Secret(value) })
    }
}

/// Names of the passwords that templates may use.
fn passwords() -> impl Iterator<Item = &'static str> {
    SECRETS.iter().map(|secret| secret.name).filter(|name| OF_REGIONS.contains(name))
}

/// Whether a machine of this kind has to know a secret.
fn knows(kind: RoleKind, name: &str) -> bool {
    match kind {
        RoleKind::Region => name == MAAS_SECRET || OF_REGIONS.contains(&name),
        RoleKind::Rack => name == MAAS_SECRET,
        RoleKind::Other => false,
    }
}

/// What the machine is to MAAS.
pub fn kind_of(spec: &Spec, node: &NodeFacts) -> RoleKind {
    spec.roles.iter().find(|role| role.name == node.role).map_or(RoleKind::Other, |role| role.kind)
}

fn names_of(spec: &Spec, cluster: &Cluster, node: &NodeFacts) -> Vec<String> {
    let vip = (kind_of(spec, node) == RoleKind::Region).then_some(cluster.vip);
    certificate::names(&node.name, node.address, vip)
}
