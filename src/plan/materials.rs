//! Every input of a role, by digest: what provenance names and what a verifier fetches again.
//!
//! The written files are those that the role's layers mention; a profile from which nothing was taken is no input.

use std::collections::BTreeMap;

use crate::deb::date::format_rfc3339;
use crate::digest::Digest;
use crate::lock::{self, Lock};
use crate::spec::{Body, Layer, Spec};

use super::RolePlan;

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// What it is to a person: a path from the project's root, a package, a Release.
    pub name: String,
    /// Where it is known by a standard name: a package URL.
    pub uri: Option<String>,
    /// Its bytes.
    pub sha256: Digest,
    /// Facts: the layer, who signed.
    pub annotations: BTreeMap<&'static str, String>,
}

impl Material {
    fn new(name: impl Into<String>, sha256: Digest, kind: &str) -> Self {
        let annotations = BTreeMap::from([("kind", kind.to_owned())]);
        Self { name: name.into(), uri: None, sha256, annotations }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.annotations.insert(name, value.into());
        self
    }
}

/// The inputs of a role: written files, the lock, Releases and keyrings, packages, and the agent. `agent` is the
/// digest of the executable that becomes `rolecast-join`.
pub fn materials(spec: &Spec, lock: &Lock, role: &RolePlan, agent: Digest) -> Vec<Material> {
    let mut found = written(spec, role);
    found.push(Material::new(format!("images/{}.lock", spec.name), Digest::of(lock::write(lock).as_bytes()), "lock"));
    found.push(Material::new("rolecast-join", agent, "agent"));
    for archive in &lock.archives {
        for suite in &archive.suites {
            let name = format!("{} {} InRelease", archive.name, suite.name);
            let release = Material::new(name, suite.release, "release").with("date", format_rfc3339(suite.date));
            found.push(release.with("signedBy", suite.signed_by.join(" ")));
        }
    }
    for archive in spec.archives.values() {
        if let Some(bytes) = &archive.keyring_bytes {
            found.push(Material::new(&archive.keyring, Digest::of(bytes), "keyring").with("archive", &archive.name));
        }
    }
    found.extend(packages(spec, lock, role));
    found
}

/// The layers that a role's outputs come from: the tool layer only where an output boots.
fn layers<'a>(spec: &'a Spec, role: &RolePlan) -> impl Iterator<Item = &'a Layer> {
    let boots = super::boots(&role.formats);
    let own: Vec<&Layer> = role.layers.iter().filter_map(|layer| spec.layers.get(*layer)).collect();
    own.into_iter().chain(boots.then_some(&spec.tools))
}

fn packages(spec: &Spec, lock: &Lock, role: &RolePlan) -> Vec<Material> {
    let names: Vec<&str> = layers(spec, role).map(|layer| layer.name.as_str()).collect();
    let mut found = Vec::new();
    for layer in lock.layers.iter().filter(|layer| names.contains(&layer.name.as_str())) {
        for package in &layer.packages {
            let material = Material::new(&package.path, package.sha256, "package");
            let uri = Some(package.purl(&lock.distribution));
            let material = material.with("layer", &layer.name).with("archive", &package.archive);
            found.push(Material { uri, ..material });
        }
    }
    found
}

/// The image file, the profiles that the layers mention, and their overlay files, by path.
fn written(spec: &Spec, role: &RolePlan) -> Vec<Material> {
    let mut files: BTreeMap<&str, (Digest, &str)> = BTreeMap::new();
    let mut spans = vec![&spec.distribution.span];
    for layer in layers(spec, role) {
        spans.push(&layer.span);
        spans.extend(layer.wants.iter().map(|want| &want.span));
        spans.extend(layer.files.iter().map(|file| &file.span));
        spans.extend(layer.permissions.iter().map(|permission| &permission.span));
        spans.extend(layer.remove.iter().map(|path| &path.span));
        spans.extend(layer.state.iter().map(|state| &state.span));
        let units = [&layer.units.enable, &layer.units.disable, &layer.units.mask];
        spans.extend(units.into_iter().flatten().map(|unit| &unit.span));
        for file in &layer.before.files {
            spans.push(&file.span);
            files.insert(&file.source, (Digest::of(&file.content), "overlay"));
        }
        for file in &layer.files {
            let digest = match &file.body {
                Body::Plain { content, .. } => Digest::of(content),
                Body::Link { target } => Digest::of(target.as_bytes()),
                Body::Early { template } | Body::Late { template } => Digest::of(template.source.text.as_bytes()),
            };
            files.insert(&file.source, (digest, "overlay"));
        }
    }
    let mut texts: BTreeMap<&str, &crate::report::Source> = BTreeMap::new();
    for span in spans {
        texts.entry(&span.source.path).or_insert(&span.source);
    }
    for (path, source) in texts {
        let kind = if path.starts_with("images/") { "image file" } else { "profile" };
        files.insert(path, (Digest::of(source.text.as_bytes()), kind));
    }
    files.into_iter().map(|(path, (digest, kind))| Material::new(path, digest, kind)).collect()
}
