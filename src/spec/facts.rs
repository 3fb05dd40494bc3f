//! What templates see: `option`, `role`, `cluster`, `node`, `secret`.
//!
//! The early facts of a role are known at build; a node's facts and the secrets come with the seed. The sample facts
//! have the same shape and are for checks only.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use super::model::{Cluster, Dhcp, Listen, NodeFacts, OptionValue, Reach, Role, RoleKind, Spec};
use super::secrets::Secrets;
use super::shape::mask;
use crate::report::{Source, Span};

/// Facts of one rendering, by top-level variable.
#[derive(Clone, Debug)]
pub struct Facts(Map<String, Value>);

impl Facts {
    /// `option` alone: what templates of `before` overlays see.
    pub fn of_options(options: &BTreeMap<String, OptionValue>) -> Self {
        Self(Map::from_iter([("option".to_owned(), self::options(options))]))
    }

    /// The variables.
    pub fn variables(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// What is known at build: `option`, `role`, and `cluster` when the image file describes one.
pub fn for_role(spec: &Spec, role: &Role) -> Facts {
    let mut facts = Facts::of_options(&spec.options);
    facts.0.insert("role".to_owned(), self::role(spec, role));
    if let Some(cluster) = &spec.cluster {
        facts.0.insert("cluster".to_owned(), self::cluster(spec, cluster));
    }
    facts
}

/// All that is known of one node: the facts of its role, its cluster, itself and its secrets.
///
/// `cluster` is the spec's own, or for generic images the one that the seed is made for. `None` when the spec builds
/// no such role or the cluster has no such node.
pub fn for_node(spec: &Spec, cluster: &Cluster, node: &NodeFacts, secrets: &Secrets) -> Option<Facts> {
    let role = spec.roles.iter().find(|role| role.name == node.role)?;
    let mut facts = for_role(spec, role);
    facts.0.insert("cluster".to_owned(), self::cluster(spec, cluster));
    facts.0.insert("node".to_owned(), self::node(spec, cluster, node)?);
    facts.0.insert("secret".to_owned(), secrets.to_value());
    Some(facts)
}

/// Facts for checking the late templates of `role`: of each of its nodes in the described cluster; where there is
/// none, of one in a cluster made up from addresses that RFC 5737 reserves for documentation. Secrets are samples.
pub fn sample(spec: &Spec, role: &Role) -> Vec<Facts> {
    let described = spec.cluster.iter().flat_map(|cluster| cluster.nodes.iter().map(move |node| (cluster, node)));
    let nodes: Vec<_> = described.filter(|(_, node)| node.role == role.name).collect();
    let secrets = Secrets::sample();
    if !nodes.is_empty() {
        return nodes.into_iter().filter_map(|(cluster, node)| for_node(spec, cluster, node, &secrets)).collect();
    }
    let cluster = sample_cluster(spec, role);
    cluster.nodes.first().and_then(|node| for_node(spec, &cluster, node, &secrets)).into_iter().collect()
}

fn options(options: &BTreeMap<String, OptionValue>) -> Value {
    let mut root = Map::new();
    for (name, value) in options {
        let mut words: Vec<&str> = name.split('.').collect();
        let Some(last) = words.pop() else { continue };
        let mut place = &mut root;
        for word in words {
            let inner = place.entry(word).or_insert_with(|| Value::Object(Map::new()));
            match inner {
                Value::Object(map) => place = map,
                // Declarations refuse a name that begins another, so no value is in the way.
                _ => return Value::Object(root),
            }
        }
        let value = match value {
            OptionValue::Boolean(value) => json!(value),
            OptionValue::Integer(value) => json!(value),
            OptionValue::Text(value) => json!(value),
        };
        place.insert(last.to_owned(), value);
    }
    Value::Object(root)
}

fn kind(kind: RoleKind) -> &'static str {
    match kind {
        RoleKind::Region => "region",
        RoleKind::Rack => "rack",
        RoleKind::Other => "other",
    }
}

fn role(spec: &Spec, role: &Role) -> Value {
    let layers = || role.layers.iter().filter_map(|index| spec.layers.get(*index));
    let ports = layers().flat_map(|layer| &layer.ports).map(|port| {
        json!({
            "program": port.program,
            "listen": match port.listen {
                Listen::Any => "any",
                Listen::Node => "node",
                Listen::Loopback => "loopback",
                Listen::Vip => "vip",
            },
            "protocol": port.protocol,
            "first": port.first,
            "last": port.last,
            "from": match port.from {
                Reach::Loopback => "loopback",
                Reach::Regions => "regions",
                Reach::Racks => "racks",
                Reach::Peers => "peers",
                Reach::Anyone => "anyone",
            },
        })
    });
    let state = layers().flat_map(|layer| &layer.state).map(|state| {
        json!({
            "path": format!("/{}", state.path),
            "owner": state.owner,
            "group": state.group,
            "mode": format!("{:04o}", state.mode),
        })
    });
    json!({
        "name": role.name,
        "kind": kind(role.kind),
        "ports": ports.collect::<Vec<_>>(),
        "state": state.collect::<Vec<_>>(),
        "kernel_arguments": layers().flat_map(|layer| &layer.kernel_arguments).collect::<Vec<_>>(),
    })
}

fn kind_of(spec: &Spec, name: &str) -> RoleKind {
    spec.roles.iter().find(|role| role.name == name).map_or(RoleKind::Other, |role| role.kind)
}

/// How a node appears in lists. `index` counts from 1 in the order of the image file.
fn entry(spec: &Spec, index: usize, node: &NodeFacts) -> Value {
    json!({
        "name": node.name,
        "address": node.address.to_string(),
        "mac": node.mac,
        "role": node.role,
        "kind": kind(kind_of(spec, &node.role)),
        "voter": node.voter,
        "index": index + 1,
    })
}

fn cluster(spec: &Spec, cluster: &Cluster) -> Value {
    let list = |keep: &dyn Fn(&NodeFacts) -> bool| {
        let nodes = cluster.nodes.iter().enumerate().filter(|(_, node)| keep(node));
        nodes.map(|(index, node)| entry(spec, index, node)).collect::<Vec<_>>()
    };
    let dhcp = cluster.dhcp.iter().map(|dhcp| {
        json!({
            "subnet": format!("{}/{}", dhcp.subnet.0, dhcp.subnet.1),
            "network": dhcp.subnet.0.to_string(),
            "netmask": Ipv4Addr::from_bits(mask(dhcp.subnet.1)).to_string(),
            "first": dhcp.range.0.to_string(),
            "last": dhcp.range.1.to_string(),
            "primary": dhcp.primary,
            "secondary": dhcp.secondary,
        })
    });
    json!({
        "name": cluster.name,
        "vip": cluster.vip.to_string(),
        "vrid": cluster.vrid,
        "network": cluster.network.to_string(),
        "prefix": cluster.prefix,
        "netmask": Ipv4Addr::from_bits(mask(cluster.prefix)).to_string(),
        "cidr": format!("{}/{}", cluster.network, cluster.prefix),
        "gateway": cluster.gateway.map(|gateway| gateway.to_string()),
        "updates": cluster.updates,
        "nodes": list(&|_| true),
        "regions": list(&|node| kind_of(spec, &node.role) == RoleKind::Region),
        "racks": list(&|node| kind_of(spec, &node.role) == RoleKind::Rack),
        "voters": list(&|node| node.voter),
        "dhcp": dhcp.collect::<Vec<_>>(),
    })
}

/// A region's VRRP priority: the first region's is highest. Every node needs its own, and 255 would own the address.
fn priority(position: usize) -> usize {
    200_usize.saturating_sub(position * 10).max(1)
}

fn node(spec: &Spec, cluster: &Cluster, node: &NodeFacts) -> Option<Value> {
    let index = cluster.nodes.iter().position(|other| other.name == node.name)?;
    let mut regions = cluster.nodes.iter().filter(|other| kind_of(spec, &other.role) == RoleKind::Region);
    let peers = cluster.nodes.iter().enumerate().filter(|(_, other)| other.name != node.name);
    let mut value = entry(spec, index, node);
    let extra = json!({
        "prefix": cluster.prefix,
        "peers": peers.map(|(index, peer)| entry(spec, index, peer)).collect::<Vec<_>>(),
        "priority": regions.position(|other| other.name == node.name).map(priority),
    });
    if let (Value::Object(value), Value::Object(extra)) = (&mut value, extra) {
        value.extend(extra);
    }
    Some(value)
}

/// A cluster of three whose first node has the role to check.
fn sample_cluster(spec: &Spec, role: &Role) -> Cluster {
    let of_kind = |kind: RoleKind| spec.roles.iter().find(|other| other.kind == kind).unwrap_or(role);
    let others = match role.kind {
        RoleKind::Region => [of_kind(RoleKind::Region), of_kind(RoleKind::Rack)],
        _ => [of_kind(RoleKind::Region), of_kind(RoleKind::Region)],
    };
    let nowhere = Span::new(&std::sync::Arc::new(Source { path: "sample".into(), text: String::new() }), 0..0);
    let members = [role, others[0], others[1]];
    let nodes = members.iter().zip(1_u8..).map(|(role, number)| NodeFacts {
        name: format!("sample-{number}"),
        role: role.name.clone(),
        address: Ipv4Addr::new(192, 0, 2, 10 + number),
        mac: Some(format!("52:54:00:00:02:{number:02x}")),
        voter: true,
        span: nowhere.clone(),
    });
    let nodes: Vec<_> = nodes.collect();
    let rack = nodes.iter().find(|node| kind_of(spec, &node.role) == RoleKind::Rack);
    let dhcp = rack.map(|rack| Dhcp {
        subnet: (Ipv4Addr::new(192, 0, 2, 0), 24),
        range: (Ipv4Addr::new(192, 0, 2, 100), Ipv4Addr::new(192, 0, 2, 200)),
        primary: rack.name.clone(),
        secondary: None,
        span: nowhere.clone(),
    });
    Cluster {
        name: "sample".into(),
        vip: Ipv4Addr::new(192, 0, 2, 10),
        vrid: 1,
        network: Ipv4Addr::new(192, 0, 2, 0),
        prefix: 24,
        gateway: Some(Ipv4Addr::new(192, 0, 2, 1)),
        updates: Some("http://192.0.2.1/updates".into()),
        dhcp: dhcp.into_iter().collect(),
        nodes,
        span: nowhere,
    }
}
