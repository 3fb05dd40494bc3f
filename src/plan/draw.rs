//! Drawing the plan.

use crate::digest::{Digest, Hasher, Key};
use crate::lock::{Lock, LockedLayer};
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::{Before, Format, Layer, Spec};

use super::{EPOCH, LayerStep, Plan, RolePlan};

/// Version of unpack, configure and settle: changes with any change to what they make of the same inputs.
const CONFIGURE_VERSION: u32 = 1;

/// The steps that build `roles` (all of the Spec's when empty) with `formats` (those that each role asks for when
/// empty).
///
/// # Errors
/// When a role or format is not in the image file, or the lock lacks a layer (it then answers another Spec).
pub fn draw(spec: &Spec, lock: &Lock, roles: &[String], formats: &[Format]) -> Result<Plan, Report> {
    let mut steps: Vec<LayerStep> = Vec::new();
    for layer in &spec.layers {
        steps.push(step(spec, layer, layer.parent, locked(lock, &layer.name)?, &steps));
    }
    let lowest = (!spec.layers.is_empty()).then_some(0);
    steps.push(step(spec, &spec.tools, lowest, locked(lock, &spec.tools.name)?, &steps));
    let tools = steps.len() - 1;
    Ok(Plan { tools, layers: steps, roles: chosen_roles(spec, roles, formats)? })
}

fn locked<'a>(lock: &'a Lock, name: &str) -> Result<&'a LockedLayer, Report> {
    lock.layers.iter().find(|layer| layer.name == name).ok_or_else(|| {
        Diagnostic::error(Kind::Input, format!("the lock has no layer `{name}`"))
            .hint("run `rolecast lock` to answer the image file anew")
            .into()
    })
}

fn step(spec: &Spec, layer: &Layer, parent: Option<usize>, locked: &LockedLayer, steps: &[LayerStep]) -> LayerStep {
    let mut key = Key::new("layer.configure", CONFIGURE_VERSION)
        .input("architecture", &spec.distribution.architecture)
        .input("epoch", EPOCH)
        .input("before", before_digest(&layer.before));
    if let Some(parent) = parent {
        key = key.input(format!("layer {}", steps[parent].name), steps[parent].key.digest());
    }
    for package in &locked.packages {
        let name = format!("package {}:{}", package.name, package.architecture);
        key = key.input(name, package.sha256);
    }
    LayerStep {
        name: layer.name.clone(),
        parent,
        packages: locked.packages.clone(),
        before: layer.before.clone(),
        epoch: EPOCH,
        key,
    }
}

/// A digest of everything that is put in place before packages are configured.
fn before_digest(before: &Before) -> Digest {
    let mut hasher = Hasher::new();
    let mut line = |fields: &[&str]| {
        for field in fields {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
    };
    for answer in &before.debconf {
        line(&["debconf", &answer.package, &answer.question, &answer.kind, &answer.value]);
    }
    for group in &before.groups {
        line(&["group", &group.name, &group.gid.to_string()]);
    }
    for user in &before.users {
        let numbers = format!("{} {}", user.uid, user.gid);
        line(&["user", &user.name, &numbers, &user.group, &user.home, &user.shell, &user.comment]);
    }
    for file in &before.files {
        line(&["file", &file.path, &file.mode.to_string(), &Digest::of(&file.content).to_string()]);
    }
    hasher.finish()
}

fn chosen_roles(spec: &Spec, roles: &[String], formats: &[Format]) -> Result<Vec<RolePlan>, Report> {
    let names: Vec<&str> = spec.roles.iter().map(|role| role.name.as_str()).collect();
    if let Some(unknown) = roles.iter().find(|role| !names.contains(&role.as_str())) {
        let message = format!("`{}` has no role `{unknown}`", spec.name);
        return Err(Diagnostic::error(Kind::Usage, message).note(format!("its roles: {}", names.join(", "))).into());
    }
    let mut chosen = Vec::new();
    for (index, role) in spec.roles.iter().enumerate() {
        if roles.is_empty() || roles.contains(&role.name) {
            let formats = if formats.is_empty() { role.formats.clone() } else { formats.to_vec() };
            chosen.push(RolePlan { role: index, name: role.name.clone(), layers: role.layers.clone(), formats });
        }
    }
    Ok(chosen)
}
