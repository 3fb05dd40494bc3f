//! Planting: a spec, a node and the secrets become that node's ticket.

use std::collections::BTreeMap;

use super::vault::{Vault, kind_of};
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::{Body, Cluster, NodeFacts, Role, RoleKind, Spec, Template, facts, template};
use crate::ticket::{self, Administrator, Secret, Ticket};

/// On what terms a seed travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Anyone can read it on its way: no file whose template names a secret, no secret of the join's.
    pub open: bool,
    /// A region may keep its state in memory only, which loses it at a reboot.
    pub memory_state: bool,
}

/// A file that a seed brings to every machine of a role.
#[derive(Clone, Debug)]
pub struct LateFile<'spec> {
    /// Absolute path on the machine.
    pub path: String,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Permission bits, four octal digits.
    pub mode: String,
    /// What it is rendered from.
    pub template: &'spec Template,
}

/// One node's seed, before it takes a form to travel in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    /// What the machine is told.
    pub ticket: Ticket,
    /// The MAC address of its card, where the image file names one.
    pub mac: Option<String>,
    /// Default gateway.
    pub gateway: Option<std::net::Ipv4Addr>,
    /// Line of `authorized_keys` for root.
    pub operator: String,
}

/// The files that a seed brings to machines of `role`, by path: the same that the image's table names.
pub fn late_files<'spec>(spec: &'spec Spec, role: &Role) -> Vec<LateFile<'spec>> {
    let layers = || role.layers.iter().filter_map(|index| spec.layers.get(*index));
    // A later layer's file of the same path wins, be it late or baked.
    let files: BTreeMap<&str, &Body> =
        layers().flat_map(|layer| &layer.files).map(|file| (file.path.as_str(), &file.body)).collect();
    let late = files.into_iter().filter_map(|(path, body)| {
        let Body::Late { template } = body else { return None };
        let permission = layers().flat_map(|layer| &layer.permissions).rfind(|permission| permission.path == path);
        Some(LateFile {
            path: format!("/{path}"),
            owner: permission.map_or("root", |permission| &permission.owner).to_owned(),
            group: permission.map_or("root", |permission| &permission.group).to_owned(),
            mode: format!("{:04o}", permission.map_or(template.mode, |permission| permission.mode)),
            template,
        })
    });
    late.collect()
}

/// Makes the seed of the node `name`. `cluster` is the spec's own, or for generic images the one that is seeded.
///
/// # Errors
/// When the cluster has no such node, the vault lacks something, or a template does not render.
pub fn plant(spec: &Spec, cluster: &Cluster, name: &str, vault: &Vault, terms: Terms) -> Result<Planted, Report> {
    fits(spec, vault)?;
    let node = find(cluster, name)?;
    let role = spec.roles.iter().find(|role| role.name == node.role);
    let role = role.ok_or_else(|| {
        Diagnostic::error(Kind::Input, format!("`{}` does not build the role `{}` of `{name}`", spec.name, node.role))
    })?;
    let secrets = vault.secrets_for(spec, cluster, node)?;
    let Some(facts) = facts::for_node(spec, cluster, node, &secrets) else {
        return Err(Diagnostic::error(Kind::Internal, format!("`{name}` has no facts")).into());
    };
    let (mut files, mut withheld, mut report) = (Vec::new(), Vec::new(), Report::new());
    for late in late_files(spec, role) {
        if terms.open && late.template.variables.iter().any(|variable| variable == "secret") {
            withheld.push(late.path);
            continue;
        }
        match template::render(late.template, &facts) {
            Ok(text) => files.push(ticket::File {
                path: late.path,
                owner: late.owner,
                group: late.group,
                mode: late.mode,
                content: Secret(text),
            }),
            Err(problem) => report.push(problem.note(format!("rendered for node `{name}`"))),
        }
    }
    if report.has_errors() {
        return Err(report);
    }
    let ticket = Ticket {
        format: ticket::FORMAT,
        image: spec.name.clone(),
        role: role.name.clone(),
        node: node.name.clone(),
        generation: vault.generation,
        issued: vault.issued,
        cluster: described(spec, cluster),
        administrator: Administrator { name: "admin".to_owned(), email: format!("admin@{}", cluster.name) },
        memory_state: terms.memory_state,
        files,
        secrets: if terms.open { BTreeMap::new() } else { vault.for_join(role.kind) },
        withheld,
    };
    let (mac, gateway) = (node.mac.clone(), cluster.gateway);
    Ok(Planted { ticket, mac, gateway, operator: vault.operator.public.clone() })
}

/// Whether a vault is for the images of `spec`.
///
/// # Errors
/// When it is for others.
pub fn fits(spec: &Spec, vault: &Vault) -> Result<(), Diagnostic> {
    if vault.image == spec.name {
        return Ok(());
    }
    let message = format!("these are the secrets of the image file `{}`, not of `{}`", vault.image, spec.name);
    Err(Diagnostic::error(Kind::Input, message).hint("name the right file with `--secrets`"))
}

/// The node `name` of a cluster.
///
/// # Errors
/// When there is none.
pub fn find<'cluster>(cluster: &'cluster Cluster, name: &str) -> Result<&'cluster NodeFacts, Report> {
    let nodes = &cluster.nodes;
    nodes.iter().find(|node| node.name == name).ok_or_else(|| {
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let message = format!("the cluster `{}` has no node `{name}`", cluster.name);
        Diagnostic::error(Kind::Usage, message).note(format!("its nodes: {}", names.join(", "))).into()
    })
}

/// The cluster as a ticket tells it.
fn described(spec: &Spec, cluster: &Cluster) -> ticket::Cluster {
    let nodes = cluster.nodes.iter().map(|node| ticket::Node {
        name: node.name.clone(),
        kind: match kind_of(spec, node) {
            RoleKind::Region => ticket::Kind::Region,
            RoleKind::Rack => ticket::Kind::Rack,
            RoleKind::Other => ticket::Kind::Other,
        },
        address: node.address,
        voter: node.voter,
    });
    let dhcp = cluster.dhcp.iter().map(|dhcp| ticket::Dhcp {
        subnet: format!("{}/{}", dhcp.subnet.0, dhcp.subnet.1),
        first: dhcp.range.0,
        last: dhcp.range.1,
        primary: dhcp.primary.clone(),
        secondary: dhcp.secondary.clone(),
    });
    ticket::Cluster {
        name: cluster.name.clone(),
        vip: cluster.vip,
        prefix: cluster.prefix,
        nodes: nodes.collect(),
        dhcp: dhcp.collect(),
    }
}
