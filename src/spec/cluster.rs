//! Checks of the described cluster: addresses, names, voters, DHCP ranges, virtual router ids.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::image::{WrittenCluster, WrittenDhcp, WrittenNode};
use super::model::{Cluster, OptionValue, Role, RoleKind, Written};
use super::shape::mask;
use super::suggest;
use super::value::Table;
use crate::report::{Diagnostic, Kind, Report, Span};

/// Fewest voters with which one may be lost.
const FEWEST_VOTERS: usize = 3;

/// What the checks work from.
pub struct Plan<'image> {
    /// The image file.
    pub image: &'image Table,
    /// The roles that it builds.
    pub roles: &'image [Role],
    /// Whether all roles and their profiles could be read, so that a role's kind is known.
    pub roles_are_known: bool,
    /// `[cluster]`.
    pub cluster: &'image WrittenCluster,
    /// Its nodes.
    pub nodes: &'image [WrittenNode],
    /// Its DHCP ranges.
    pub dhcp: &'image [WrittenDhcp],
    /// Values of options.
    pub options: &'image BTreeMap<String, OptionValue>,
}

impl Plan<'_> {
    /// Reports all mistakes; the cluster, when nothing of it is missing.
    pub fn check(&self, report: &mut Report) -> Option<Cluster> {
        if self.roles_are_known {
            self.check_roles(report);
        }
        self.check_addresses(report);
        self.check_macs(report);
        self.check_network(report);
        let voters = self.voters();
        if self.roles_are_known && self.nodes_are_whole() {
            self.check_regions(report);
            self.check_voters(&voters, report);
            for range in self.dhcp {
                self.check_racks(range, report);
            }
        }
        for (index, range) in self.dhcp.iter().enumerate() {
            self.check_range(index, range, report);
        }
        let (network, prefix) = self.cluster.network.as_ref()?.value;
        Some(Cluster {
            name: self.cluster.name.as_ref()?.value.clone(),
            vip: self.cluster.vip.as_ref()?.value,
            vrid: self.cluster.vrid.as_ref()?.value,
            network,
            prefix,
            gateway: self.cluster.gateway.as_ref().map(|gateway| gateway.value),
            updates: self.cluster.updates.clone(),
            nodes: self.nodes.iter().zip(&voters).map(|(node, voter)| node.facts(*voter)).collect(),
            dhcp: self.dhcp.iter().map(WrittenDhcp::facts).collect(),
            span: self.cluster.span.clone(),
        })
    }

    /// Everything with an address of its own, and who it is.
    fn hosts(&self) -> impl Iterator<Item = (&Written<Ipv4Addr>, String)> {
        let vip = self.cluster.vip.iter().map(|vip| (vip, "the virtual address".to_owned()));
        let gateway = self.cluster.gateway.iter().map(|gateway| (gateway, "the gateway".to_owned()));
        let nodes = self.nodes.iter().map(|node| (&node.address, format!("node `{}`", node.name.value)));
        vip.chain(gateway).chain(nodes)
    }

    fn kind(&self, node: &WrittenNode) -> Option<RoleKind> {
        self.roles.iter().find(|role| role.name == node.role.value).map(|role| role.kind)
    }

    /// Whether no node was left out for a mistake of its own.
    fn nodes_are_whole(&self) -> bool {
        let written = self.image.table("node").map_or(0, |table| table.entries.len() + table.dropped.len());
        written == self.nodes.len() && !self.image.dropped.iter().any(|key| key == "node")
    }

    /// Who votes: as written, else regions, and the first rack where there would be fewer than three otherwise.
    fn voters(&self) -> Vec<bool> {
        let region = |node: &WrittenNode| self.kind(node) == Some(RoleKind::Region);
        let written = |node: &WrittenNode| node.voter.as_ref().map(|voter| voter.value);
        let mut voters: Vec<bool> =
            self.nodes.iter().map(|node| written(node).unwrap_or_else(|| region(node))).collect();
        if voters.iter().filter(|voter| **voter).count() < FEWEST_VOTERS {
            let free = |node: &WrittenNode| self.kind(node) == Some(RoleKind::Rack) && node.voter.is_none();
            if let Some(rack) = self.nodes.iter().position(free) {
                voters[rack] = true;
            }
        }
        voters
    }

    fn check_roles(&self, report: &mut Report) {
        for node in self.nodes.iter().filter(|node| self.kind(node).is_none()) {
            let message = format!("node `{}` has a role that is not built here", node.name.value);
            let mut diagnostic = Diagnostic::error(Kind::Input, message)
                .at(&node.role.span, format!("there is no `[role.{}]`", node.role.value));
            diagnostic
                .hints
                .extend(suggest::advice(&node.role.value, self.roles.iter().map(|role| role.name.as_str())));
            report.push(diagnostic);
        }
    }

    fn check_addresses(&self, report: &mut Report) {
        let mut known: BTreeMap<Ipv4Addr, (String, &Span)> = BTreeMap::new();
        for (address, owner) in self.hosts() {
            if let Some((other, span)) = known.get(&address.value) {
                report.push(
                    Diagnostic::error(
                        Kind::Input,
                        format!("{other} and {owner} have one address, `{}`", address.value),
                    )
                    .at(&address.span, owner.as_str())
                    .at(span, other.as_str()),
                );
            } else {
                known.insert(address.value, (owner, &address.span));
            }
        }
    }

    fn check_macs(&self, report: &mut Report) {
        let mut known: BTreeMap<&str, (&WrittenNode, &Span)> = BTreeMap::new();
        for node in self.nodes {
            let Some(mac) = &node.mac else { continue };
            if let Some((other, span)) = known.get(mac.value.as_str()) {
                let message = format!(
                    "nodes `{}` and `{}` have one MAC address, `{}`",
                    other.name.value, node.name.value, mac.value
                );
                report.push(
                    Diagnostic::error(Kind::Input, message)
                        .at(&mac.span, format!("of `{}`", node.name.value))
                        .at(span, format!("of `{}`", other.name.value))
                        .note("MAAS tells controllers apart by host name and MAC address"),
                );
            } else {
                known.insert(&mac.value, (node, &mac.span));
            }
        }
    }

    fn check_network(&self, report: &mut Report) {
        let Some(network) = &self.cluster.network else { return };
        for (address, owner) in self.hosts() {
            let why = match place(address.value, network.value) {
                Place::Host => continue,
                Place::Outside => "outside the network",
                Place::Network => "the network's own address",
                Place::Broadcast => "the network's broadcast address",
            };
            let (base, prefix) = network.value;
            report.push(
                Diagnostic::error(Kind::Input, format!("{owner} is not a host of `{base}/{prefix}`"))
                    .at(&address.span, why)
                    .at(&network.span, "the cluster's network"),
            );
        }
    }

    fn check_regions(&self, report: &mut Report) {
        if !self.nodes.iter().any(|node| self.kind(node) == Some(RoleKind::Region)) {
            report.push(
                Diagnostic::error(Kind::Input, "the cluster has no region")
                    .at(&self.cluster.span, "this cluster")
                    .note("a region is a node whose role stands on the profile `region`; without one nobody has the virtual address")
                    .hint("add a node with such a role"),
            );
        }
    }

    fn check_voters(&self, voters: &[bool], report: &mut Report) {
        let names: Vec<_> = self
            .nodes
            .iter()
            .zip(voters)
            .filter(|(_, voter)| **voter)
            .map(|(node, _)| format!("`{}`", node.name.value))
            .collect();
        let count = names.len();
        let who = if names.is_empty() { "no node votes".to_owned() } else { format!("voting: {}", names.join(", ")) };
        let automatic =
            self.options.get("postgresql.failover").is_none_or(|failover| failover.to_string() == "automatic");
        if count < FEWEST_VOTERS {
            let message = format!("the cluster has {count} of the {FEWEST_VOTERS} etcd voters that it needs");
            let diagnostic = if automatic {
                Diagnostic::error(Kind::Input, format!("{message} to fail over by itself"))
            } else {
                Diagnostic::warning(message)
            };
            report.push(
                diagnostic
                    .at(&self.cluster.span, "this cluster")
                    .note(who)
                    .note("with fewer voters, losing one machine leaves no majority to say who may write")
                    .hint("add a node, or let a rack witness: `voter = true`"),
            );
        } else if count.is_multiple_of(2) {
            report.push(
                Diagnostic::warning(format!(
                    "an even number of etcd voters, {count}, survives no more than {} do",
                    count - 1
                ))
                .at(&self.cluster.span, "this cluster")
                .note(who)
                .hint("set `voter = false` on one, or add one"),
            );
        }
    }

    fn check_racks(&self, range: &WrittenDhcp, report: &mut Report) {
        for (name, key) in
            std::iter::once((&range.primary, "primary")).chain(range.secondary.iter().map(|name| (name, "secondary")))
        {
            let node = self.nodes.iter().find(|node| node.name.value == name.value);
            match node {
                None => {
                    let racks = self.nodes.iter().filter(|node| self.kind(node) == Some(RoleKind::Rack));
                    let mut diagnostic = Diagnostic::error(Kind::Input, format!("there is no node `{}`", name.value))
                        .at(&name.span, format!("wanted as {key} DHCP server"));
                    diagnostic.hints.extend(suggest::advice(&name.value, racks.map(|node| node.name.value.as_str())));
                    report.push(diagnostic);
                }
                Some(node) if !matches!(self.kind(node), Some(RoleKind::Rack) | None) => {
                    report.push(
                        Diagnostic::error(Kind::Input, format!("node `{}` is not a rack", name.value))
                            .at(&name.span, format!("wanted as {key} DHCP server"))
                            .at(&node.role.span, "its role")
                            .note("MAAS runs DHCP on rack controllers"),
                    );
                }
                Some(_) => {}
            }
        }
        if let Some(secondary) = range.secondary.as_ref().filter(|secondary| secondary.value == range.primary.value) {
            report.push(
                Diagnostic::error(Kind::Input, format!("`{}` is primary and secondary of one range", secondary.value))
                    .at(&secondary.span, "secondary")
                    .at(&range.primary.span, "primary")
                    .hint("name another rack, or leave out `secondary`"),
            );
        }
    }

    fn check_range(&self, index: usize, range: &WrittenDhcp, report: &mut Report) {
        let (base, prefix) = range.subnet.value;
        for (address, which) in [(&range.first, "first"), (&range.last, "last")] {
            if place(address.value, range.subnet.value) != Place::Host {
                report.push(
                    Diagnostic::error(Kind::Input, format!("the DHCP range leaves `{base}/{prefix}`"))
                        .at(&address.span, format!("its {which} address is not a host of the subnet"))
                        .at(&range.subnet.span, "the subnet"),
                );
            }
        }
        if range.first.value > range.last.value {
            report.push(
                Diagnostic::error(Kind::Input, "the DHCP range ends before it begins")
                    .at(&range.last.span, "the last address")
                    .at(&range.first.span, "the first address"),
            );
            return;
        }
        let within = |address: &Written<Ipv4Addr>| (range.first.value..=range.last.value).contains(&address.value);
        for (address, owner) in self.hosts().filter(|(address, _)| within(address)) {
            report.push(
                Diagnostic::error(Kind::Input, format!("the DHCP range hands out the address of {owner}"))
                    .at(&address.span, "within the range")
                    .at(&range.first.span, "the range begins here"),
            );
        }
        let others = self.dhcp[..index].iter();
        for other in
            others.filter(|other| other.first.value <= range.last.value && range.first.value <= other.last.value)
        {
            report.push(
                Diagnostic::error(Kind::Input, "two DHCP ranges overlap")
                    .at(&range.first.span, "this one")
                    .at(&other.first.span, "and this one"),
            );
        }
    }
}

/// Where an address is in a network.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Host,
    Outside,
    Network,
    Broadcast,
}

fn place(address: Ipv4Addr, (network, prefix): (Ipv4Addr, u8)) -> Place {
    let mask = mask(prefix);
    let host = address.to_bits() & !mask;
    if address.to_bits() & mask != network.to_bits() {
        Place::Outside
    } else if prefix >= 31 {
        // RFC 3021: both addresses of a /31 are hosts.
        Place::Host
    } else if host == 0 {
        Place::Network
    } else if host == !mask {
        Place::Broadcast
    } else {
        Place::Host
    }
}

/// Reports another image file's cluster that uses the same virtual router id on the same network.
pub fn check_neighbour(cluster: &WrittenCluster, neighbour: &WrittenCluster, report: &mut Report) {
    let whole = |cluster: &WrittenCluster| {
        Some((cluster.name.clone()?.value, cluster.vrid.clone()?, cluster.network.as_ref()?.value))
    };
    let (Some((name, vrid, (network, prefix))), Some((other_name, other_vrid, (other, other_prefix)))) =
        (whole(cluster), whole(neighbour))
    else {
        return;
    };
    let mask = mask(prefix.min(other_prefix));
    let one_network = network.to_bits() & mask == other.to_bits() & mask;
    if one_network && name != other_name && vrid.value == other_vrid.value {
        let message =
            format!("clusters `{name}` and `{other_name}` share virtual router id {} on one network", vrid.value);
        report.push(
            Diagnostic::error(Kind::Input, message)
                .at(&vrid.span, "this cluster")
                .at(&other_vrid.span, "the other cluster")
                .note("keepalived would take the adverts of one cluster for those of the other")
                .hint("give each cluster on a network its own `vrid`"),
        );
    }
}

/// Reports nodes and ranges in an image file that describes no cluster.
pub fn check_absent(image: &Table, report: &mut Report) {
    for (key, what) in [("node", "nodes"), ("dhcp", "DHCP ranges")] {
        if let Some(entry) = image.entry(key) {
            report.push(
                Diagnostic::error(Kind::Input, format!("{what} without a cluster"))
                    .at(&entry.key_span, "there is no `[cluster]` in this file")
                    .hint("add `[cluster]` with `name`, `vip`, `vrid` and `network`"),
            );
        }
    }
}
