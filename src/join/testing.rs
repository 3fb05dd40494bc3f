//! Values that the room's tests share.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::tables::{Commands, DatabaseTable, Failover, Image, Maas, Paths, Tables, Units};
use crate::ticket::{Administrator, Cluster, FORMAT, Kind, Node, Secret, Ticket};

/// The ticket of one machine of the lab's cluster: two regions and two racks, the first rack a witness.
pub(super) fn ticket(node: &str) -> Ticket {
    let machine = |name: &str, kind: Kind, last: u8, voter: bool| Node {
        name: name.into(),
        kind,
        address: Ipv4Addr::new(10, 77, 0, last),
        voter,
    };
    Ticket {
        format: FORMAT,
        image: "lab".into(),
        role: match node {
            "region-1" => "region-primary",
            "region-2" => "region-standby",
            _ => "rack",
        }
        .into(),
        node: node.into(),
        generation: 1,
        issued: 1_000_000,
        cluster: Cluster {
            name: "lab".into(),
            vip: Ipv4Addr::new(10, 77, 0, 10),
            prefix: 24,
            nodes: vec![
                machine("region-1", Kind::Region, 11, true),
                machine("region-2", Kind::Region, 12, true),
                machine("rack-1", Kind::Rack, 21, true),
                machine("rack-2", Kind::Rack, 22, false),
            ],
            dhcp: vec![],
        },
        administrator: Administrator { name: "admin".into(), email: "admin@example.com".into() },
        memory_state: false,
        files: vec![],
        secrets: BTreeMap::from([("maas_secret".into(), Secret("hunter2".into()))]),
        withheld: vec![],
    }
}

/// An image of a role, which leaves nothing to a seed.
pub(super) fn image(role: &str) -> Image {
    Image { image: "lab".into(), version: "2026.11.1".into(), role: role.into(), late: vec![] }
}

/// The tables of the image that a machine of the lab's cluster runs.
pub(super) fn tables(node: &str) -> Tables {
    let maas = Maas {
        packaging: "deb".into(),
        version: "3.7".into(),
        tls: false,
        paths: Paths {
            regiond: PathBuf::from("/etc/maas/regiond.conf"),
            rackd: PathBuf::from("/etc/maas/rackd.conf"),
            secret: PathBuf::from("/var/lib/maas/secret"),
            identity: PathBuf::from("/var/lib/maas/maas_id"),
        },
        units: Units { region: vec!["maas-regiond.service".into()], rack: vec!["maas-rackd.service".into()] },
        commands: Commands::default(),
        schema: None,
    };
    let database = node.starts_with("region").then(|| DatabaseTable {
        version: "17".into(),
        data: PathBuf::from("/var/lib/postgresql/17/main"),
        binaries: PathBuf::from("/usr/lib/postgresql/17/bin"),
        database: "maasdb".into(),
        role: "maas".into(),
        failover: Failover::Automatic,
    });
    Tables { image: image(&ticket(node).role), maas: Some(maas), database }
}
