//! Drawing the plan.

use crate::digest::{Digest, Hasher, Key};
use crate::lock::{Lock, LockedLayer};
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::{Before, Body, Format, Layer, Permission, Spec, State, Written, facts, template};

use super::{CONFIGURE_VERSION, EPOCH, LayerStep, Plan, PlannedBody, PlannedFile, RolePlan};

/// Version of overlay, units, tables and settle, and of how the root is kept.
const ROOT_VERSION: u32 = 2;

/// The steps that build `roles` (all of the Spec's when empty) with `formats` (those that each role asks for when
/// empty). `agent` is the digest of the executable that becomes `rolecast-join`.
///
/// # Errors
/// When a role or format is not in the image file, or the lock lacks a layer (it then answers another Spec).
pub fn draw(spec: &Spec, lock: &Lock, agent: Digest, roles: &[String], formats: &[Format]) -> Result<Plan, Report> {
    let mut steps: Vec<LayerStep> = Vec::new();
    for layer in &spec.layers {
        steps.push(step(spec, layer, layer.parent, locked(lock, &layer.name)?, &steps));
    }
    let lowest = (!spec.layers.is_empty()).then_some(0);
    steps.push(step(spec, &spec.tools, lowest, locked(lock, &spec.tools.name)?, &steps));
    let tools = steps.len() - 1;
    let mut roles = chosen_roles(spec, &steps, roles, formats)?;
    for role in &mut roles {
        role.key = role.key.clone().input("agent", agent);
    }
    Ok(Plan { tools, layers: steps, roles })
}

fn locked<'a>(lock: &'a Lock, name: &str) -> Result<&'a LockedLayer, Report> {
    lock.layers.iter().find(|layer| layer.name == name).ok_or_else(|| {
        Diagnostic::error(Kind::Input, format!("the lock has no layer `{name}`"))
            .hint("run `rolecast lock` to answer the image file anew")
            .into()
    })
}

fn step(spec: &Spec, layer: &Layer, parent: Option<usize>, locked: &LockedLayer, steps: &[LayerStep]) -> LayerStep {
    let alone = Key::new("layer.configure", CONFIGURE_VERSION)
        .input("architecture", &spec.distribution.architecture)
        .input("epoch", EPOCH)
        // It is in the origin of every file.
        .input("name", &layer.name)
        .input("before", before_digest(&layer.before));
    let mut key = alone.clone();
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
        alone,
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
        line(&["file", &file.path, &file.source, &file.mode.to_string(), &Digest::of(&file.content).to_string()]);
    }
    hasher.finish()
}

fn chosen_roles(
    spec: &Spec,
    steps: &[LayerStep],
    roles: &[String],
    formats: &[Format],
) -> Result<Vec<RolePlan>, Report> {
    let names: Vec<&str> = spec.roles.iter().map(|role| role.name.as_str()).collect();
    if let Some(unknown) = roles.iter().find(|role| !names.contains(&role.as_str())) {
        let message = format!("`{}` has no role `{unknown}`", spec.name);
        return Err(Diagnostic::error(Kind::Usage, message).note(format!("its roles: {}", names.join(", "))).into());
    }
    let mut chosen = Vec::new();
    for (index, role) in spec.roles.iter().enumerate() {
        if roles.is_empty() || roles.contains(&role.name) {
            let formats = if formats.is_empty() { role.formats.clone() } else { formats.to_vec() };
            chosen.push(role_plan(spec, steps, index, formats)?);
        }
    }
    Ok(chosen)
}

fn role_plan(spec: &Spec, steps: &[LayerStep], index: usize, formats: Vec<Format>) -> Result<RolePlan, Report> {
    let role = &spec.roles[index];
    let layers = || role.layers.iter().map(|layer| &spec.layers[*layer]);
    let mut files: Vec<PlannedFile> = Vec::new();
    let facts = facts::for_role(spec, role);
    let mut report = Report::new();
    for layer in layers() {
        for file in &layer.files {
            match planned_body(&file.body, &facts) {
                Ok(body) => {
                    files.retain(|other| other.path != file.path);
                    files.push(PlannedFile {
                        layer: layer.name.clone(),
                        path: file.path.clone(),
                        source: file.source.clone(),
                        body,
                    });
                }
                Err(diagnostic) => report.push(diagnostic),
            }
        }
    }
    if report.has_errors() {
        return Err(report);
    }
    let mut plan = RolePlan {
        role: index,
        name: role.name.clone(),
        layers: role.layers.clone(),
        formats,
        remove: layers().flat_map(|layer| layer.remove.clone()).collect(),
        files,
        permissions: layers().flat_map(|layer| layer.permissions.clone()).collect(),
        units: layers().map(|layer| layer.units.clone()).collect(),
        kernel_arguments: layers().flat_map(|layer| layer.kernel_arguments.clone()).collect(),
        state: layers().flat_map(|layer| layer.state.clone()).collect(),
        key: Key::new("role.root", ROOT_VERSION),
    };
    plan.key = role_key(spec, steps, &plan);
    Ok(plan)
}

fn planned_body(body: &Body, facts: &facts::Facts) -> Result<PlannedBody, Diagnostic> {
    Ok(match body {
        Body::Plain { content, mode } => PlannedBody::File { content: content.clone(), mode: *mode },
        Body::Link { target } => PlannedBody::Link(target.clone()),
        Body::Early { template } => {
            PlannedBody::File { content: template::render(template, facts)?.into_bytes(), mode: template.mode }
        }
        Body::Late { template } => PlannedBody::Late { mode: template.mode, variables: template.variables.clone() },
    })
}

fn role_key(spec: &Spec, steps: &[LayerStep], plan: &RolePlan) -> Key {
    let mut key = Key::new("role.root", ROOT_VERSION)
        .input("role", &plan.name)
        .input("image", format!("{} {}", spec.name, spec.version));
    if let Some(top) = plan.layers.last() {
        key = key.input(format!("layer {}", steps[*top].name), steps[*top].key.digest());
    }
    for file in &plan.files {
        let body = match &file.body {
            PlannedBody::File { content, mode } => format!("file {mode:04o} {}", Digest::of(content)),
            PlannedBody::Link(target) => format!("link {target}"),
            PlannedBody::Late { mode, variables } => format!("late {mode:04o} {}", variables.join(" ")),
        };
        key = key.input(format!("/{} from {}", file.path, file.source), body);
    }
    for permission in &plan.permissions {
        let Permission { path, owner, group, mode, directory, .. } = permission;
        key = key.input(format!("owner of /{path}"), format!("{owner}:{group} {mode:04o} {directory}"));
    }
    for path in &plan.remove {
        key = key.input(format!("remove {}", path.value), "");
    }
    for (units, layer) in plan.units.iter().zip(&plan.layers) {
        let list =
            |names: &[Written<String>]| names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(" ");
        let target = units.default_target.as_ref().map_or("", |target| &target.value);
        let states = [&list(&units.enable), &list(&units.disable), &list(&units.mask), target].join("; ");
        key = key.input(format!("units of {}", spec.layers[*layer].name), states);
    }
    for state in &plan.state {
        let State { path, owner, group, mode, .. } = state;
        key = key.input(format!("state /{path}"), format!("{owner}:{group} {mode:04o}"));
    }
    key
}
