//! What a seed tells a machine: who it is, who its peers are, its files and its secrets.
//!
//! Owns the ticket's form: one JSON document, versioned, that `rolecast seed` writes and `rolecast-join` reads. A seed
//! puts it at [`ARRIVED`]; once accepted it is kept at [`ACCEPTED`], on state, so that a joined machine needs no seed
//! source. Never renders, decides or touches a file system.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Where a seed puts the ticket (in memory, mode 0600).
pub const ARRIVED: &str = "/run/rolecast/ticket.json";

/// Where an accepted ticket is kept (on state, mode 0600).
pub const ACCEPTED: &str = "/var/lib/rolecast/ticket.json";

/// The version of the form that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Everything that one machine is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// [`FORMAT`].
    pub format: u32,
    /// Name of the image file that it was made from. A machine refuses a ticket of another one.
    pub image: String,
    /// The role that the machine's image must have.
    pub role: String,
    /// This machine's name in [`Cluster::nodes`], and its host name.
    pub node: String,
    /// Counts the changes of the secrets file: a machine takes no ticket older than the one that it has.
    pub generation: u64,
    /// When the secrets were last changed, seconds since the Epoch. A clock that is before it is wrong.
    pub issued: u64,
    /// The cluster.
    pub cluster: Cluster,
    /// MAAS's first administrator.
    pub administrator: Administrator,
    /// Whether a region may keep its state in memory only.
    #[serde(default)]
    pub memory_state: bool,
    /// Files to lay at every boot, by path. The image names the same paths, owners and modes in its table.
    pub files: Vec<File>,
    /// What the join itself needs, by the name that templates use.
    pub secrets: BTreeMap<String, Secret>,
    /// Paths of files that are missing from `files`, because this seed travels where anyone can read it. Empty in a
    /// whole ticket; the machine waits for `rolecast apply` while it is not.
    #[serde(default)]
    pub withheld: Vec<String>,
}

/// The cluster as the machines see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// The virtual address of the regions.
    pub vip: Ipv4Addr,
    /// Prefix length of the machines' network.
    pub prefix: u8,
    /// All machines, in the order of the image file. The first region that is a voter bootstraps.
    pub nodes: Vec<Node>,
    /// DHCP ranges and who serves them.
    pub dhcp: Vec<Dhcp>,
}

/// A machine of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Host name.
    pub name: String,
    /// What it is to MAAS.
    pub kind: Kind,
    /// Static address.
    pub address: Ipv4Addr,
    /// Whether it is a voter of etcd.
    pub voter: bool,
}

/// What a machine is to MAAS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A region controller, with a database.
    Region,
    /// A rack controller.
    Rack,
    /// Neither.
    Other,
}

/// A DHCP range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dhcp {
    /// The subnet, `address/prefix`.
    pub subnet: String,
    /// First address that is handed out.
    pub first: Ipv4Addr,
    /// Last address that is handed out.
    pub last: Ipv4Addr,
    /// Name of the rack that answers.
    pub primary: String,
    /// Name of the rack that takes over.
    pub secondary: Option<String>,
}

/// MAAS's first administrator. The password is the secret `admin_password`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Administrator {
    /// User name.
    pub name: String,
    /// Mail address.
    pub email: String,
}

/// A file to lay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Permission bits, four octal digits.
    pub mode: String,
    /// What it holds.
    pub content: Secret,
}

/// A text that no message may show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "({} bytes)", self.0.len())
    }
}

/// Why a text is no ticket.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// It is not JSON of the form.
    #[error("it is damaged: {0}")]
    Form(#[from] serde_json::Error),
    /// A newer rolecast wrote it.
    #[error("it has format {0}, and this program reads up to {FORMAT}: boot a newer image")]
    Newer(u32),
    /// It does not name the machine that it is for.
    #[error("it is for node `{0}`, which is not among the nodes of its cluster")]
    Nobody(String),
}

impl Ticket {
    /// Reads a ticket.
    ///
    /// # Errors
    /// When it is none, or one that this program does not know.
    pub fn read(text: &[u8]) -> Result<Self, TicketError> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let Form { format } = serde_json::from_slice(text)?;
        if format > FORMAT {
            return Err(TicketError::Newer(format));
        }
        let ticket: Self = serde_json::from_slice(text)?;
        match ticket.cluster.nodes.iter().any(|node| node.name == ticket.node) {
            true => Ok(ticket),
            false => Err(TicketError::Nobody(ticket.node)),
        }
    }

    /// The canonical text.
    pub fn write(&self) -> String {
        // A value of plain fields always serializes.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The machine that it is for.
    pub fn own(&self) -> Option<&Node> {
        self.cluster.nodes.iter().find(|node| node.name == self.node)
    }
}

impl Cluster {
    /// The regions.
    pub fn regions(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.kind == Kind::Region)
    }

    /// The voters of etcd.
    pub fn voters(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.voter)
    }

    /// The one machine that may bootstrap etcd and the database: the first region that is a voter.
    pub fn bootstrapper(&self) -> Option<&Node> {
        self.regions().find(|node| node.voter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let node = Node { name: "a".into(), kind: Kind::Region, address: Ipv4Addr::new(10, 0, 0, 1), voter: true };
        Ticket {
            format: FORMAT,
            image: "lab".into(),
            role: "region-primary".into(),
            node: "a".into(),
            generation: 1,
            issued: 0,
            cluster: Cluster {
                name: "lab".into(),
                vip: Ipv4Addr::new(10, 0, 0, 9),
                prefix: 24,
                nodes: vec![node],
                dhcp: vec![],
            },
            administrator: Administrator { name: "admin".into(), email: "admin@example.com".into() },
            memory_state: false,
            files: vec![],
            secrets: BTreeMap::from([("maas_secret".into(), Secret("hunter2".into()))]),
            withheld: vec![],
        }
    }

    #[test]
    fn a_ticket_comes_back_as_it_was_written() {
        let ticket = ticket();
        assert_eq!(Ticket::read(ticket.write().as_bytes()).unwrap(), ticket);
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        assert!(!format!("{:?}", ticket()).contains("hunter2"));
    }

    #[test]
    fn a_newer_ticket_and_one_for_nobody_are_refused() {
        let newer = ticket().write().replace("\"format\": 1", "\"format\": 2");
        assert!(matches!(Ticket::read(newer.as_bytes()), Err(TicketError::Newer(2))));
        let nobody = Ticket { node: "z".into(), ..ticket() };
        assert!(matches!(Ticket::read(nobody.write().as_bytes()), Err(TicketError::Nobody(_))));
        assert!(matches!(Ticket::read(b"{}"), Err(TicketError::Form(_))));
    }
}
