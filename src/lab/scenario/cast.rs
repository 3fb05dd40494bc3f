//! Who is who on a stage: the machines by what they are, from the image file.

use std::net::Ipv4Addr;

use crate::report::{Diagnostic, Kind};
use crate::spec::{Cluster, RoleKind, Spec};

/// The machines of a lab.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The cluster's name.
    pub cluster: String,
    /// Regions, in the order of the image file: the first one bootstraps.
    pub regions: Vec<String>,
    /// Racks.
    pub racks: Vec<String>,
    /// Voters of etcd.
    pub voters: Vec<String>,
    /// The virtual address.
    pub virtual_address: Ipv4Addr,
    /// Addresses that nobody has, for clients.
    pub free: Vec<Ipv4Addr>,
}

impl Cast {
    /// Reads it, as far as the nodes `present` go (none: all of them).
    ///
    /// # Errors
    /// When the image file describes no cluster.
    pub fn of(spec: &Spec, present: &[String]) -> Result<Self, Diagnostic> {
        let cluster = spec.cluster.as_ref().ok_or_else(|| {
            Diagnostic::error(Kind::Input, format!("`{}` describes no cluster", spec.name))
                .hint("add `[cluster]` and a `[node.NAME]` for each machine")
        })?;
        let kind = |role: &str| spec.roles.iter().find(|known| known.name == role).map(|known| known.kind);
        let nodes = || cluster.nodes.iter().filter(|node| present.is_empty() || present.contains(&node.name));
        let of = |wanted| {
            nodes().filter(|node| kind(&node.role) == Some(wanted)).map(|node| node.name.clone()).collect::<Vec<_>>()
        };
        Ok(Self {
            cluster: cluster.name.clone(),
            regions: of(RoleKind::Region),
            racks: of(RoleKind::Rack),
            voters: nodes().filter(|node| node.voter).map(|node| node.name.clone()).collect(),
            virtual_address: cluster.vip,
            free: free(cluster),
        })
    }

    /// All machines.
    pub fn everyone(&self) -> Vec<&str> {
        self.regions.iter().chain(&self.racks).map(String::as_str).collect()
    }

    /// The regions but `name`.
    pub fn other_regions<'a>(&'a self, name: &str) -> Vec<&'a str> {
        self.regions.iter().map(String::as_str).filter(|region| *region != name).collect()
    }

    /// The rack that votes.
    pub fn witness(&self) -> Option<&str> {
        self.racks.iter().find(|rack| self.voters.contains(rack)).map(String::as_str)
    }
}

/// The last addresses of the network that nothing in the image file uses.
fn free(cluster: &Cluster) -> Vec<Ipv4Addr> {
    let first = u32::from(cluster.network);
    let size = 1_u64 << (32 - u32::from(cluster.prefix.min(32)));
    let last = first.saturating_add(u32::try_from(size.saturating_sub(1)).unwrap_or(u32::MAX));
    let taken = |address: u32| {
        let plain = Ipv4Addr::from(address);
        plain == cluster.vip
            || cluster.gateway == Some(plain)
            || cluster.nodes.iter().any(|node| node.address == plain)
            || cluster.dhcp.iter().any(|dhcp| (u32::from(dhcp.range.0)..=u32::from(dhcp.range.1)).contains(&address))
    };
    // Neither the network's own address nor the broadcast address.
    (first.saturating_add(1)..last).rev().filter(|address| !taken(*address)).map(Ipv4Addr::from).take(8).collect()
}
