//! Values that the room's tests share.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::machine::{self, Decision, Next, View};
use super::tables::{Commands, DatabaseTable, Failover, Image, Maas, Paths, Tables, Units};
use super::world::{
    Action, Answer, Data, Database, Etcd, EtcdRecord, Facts, Local, Member, Namesake, Peer, Rack, Record, Region, Says,
    Schema, SchemaVersion,
};
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
        paths: Paths {
            regiond: PathBuf::from("/etc/maas/regiond.conf"),
            rackd: PathBuf::from("/etc/maas/rackd.conf"),
            secret: PathBuf::from("/var/lib/maas/secret"),
            identity: PathBuf::from("/var/lib/maas/maas_id"),
            mode: None,
            installed: None,
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

/// A machine of a healthy cluster, of which a test changes what it is about.
pub(super) struct Bench {
    pub(super) ticket: Ticket,
    pub(super) tables: Tables,
    pub(super) record: Record,
    pub(super) facts: Facts,
    pub(super) done: Vec<Action>,
    pub(super) upgrade: bool,
}

impl Bench {
    /// `node`, wholly joined, with every fact looked at; region-1 leads.
    pub(super) fn joined(node: &str) -> Self {
        let ticket = ticket(node);
        let says = Says {
            etcd: EtcdRecord::Member,
            etcd_data: true,
            database: true,
            generation: 1,
            secrets_generation: 1,
            version: "2026.11.1".into(),
            racks: BTreeMap::new(),
        };
        let others = ticket.cluster.nodes.iter().filter(|other| other.name != node && other.voter);
        let peer = |other: &Node| Peer {
            name: other.name.clone(),
            answer: Answer::Quorum(members(&ticket)),
            says: Some(Says { database: other.kind == Kind::Region, ..says.clone() }),
            serves: other.kind == Kind::Region,
        };
        let running = ["etcd", "haproxy", "patroni", "maas-regiond", "maas-rackd", "keepalived"];
        let facts = Facts {
            local: Some(Local {
                files_laid: true,
                host_name: node.into(),
                address_present: true,
                address_taken_by: None,
                now: ticket.issued + 10,
                synchronised: true,
                state_in_memory: false,
                state_trouble: None,
                certificate_days: Some(300),
                running: running.map(|unit| format!("{unit}.service")).into(),
                maas_installed: true,
            }),
            namesake: Some(Namesake(None)),
            etcd: Some(Etcd { has_data: true, running: true, healthy: true, leads: false }),
            peers: Some(others.map(peer).collect()),
            database: Some(Database {
                data: Data::Cluster("7001".into()),
                initialised: Some("7001".into()),
                leader: Some("region-1".into()),
                running: true,
                state: Some(if node == "region-1" { "running" } else { "streaming" }.into()),
                members: BTreeMap::from([
                    ("region-1".into(), "running".into()),
                    ("region-2".into(), "streaming".into()),
                ]),
                paused: false,
                writable: true,
            }),
            schema: Some(Schema {
                database_exists: true,
                secrets_generation: Some(1),
                version: SchemaVersion::Same,
                secret_right: true,
                administrator: true,
            }),
            region: Some(Region { healthy: true, trouble: None, merged_with: None }),
            rack: Some(Rack {
                region_answers: true,
                unreachable: vec![],
                has_identity: true,
                configured: true,
                registered: true,
                refused: false,
            }),
            dhcp: Some(vec![]),
        };
        let record = Record {
            format: 1,
            etcd: EtcdRecord::Member,
            database_begun: node == "region-1",
            database_cloning: false,
            database_joined: true,
            manual: false,
            maas_initialised: true,
            secrets_generation: 1,
            joined: true,
            schema_begun: (node == "region-1").then(|| "2026.11.1".into()),
        };
        Self { tables: tables(node), ticket, record, facts, done: vec![], upgrade: false }
    }

    /// `node` on its first boot, in a cluster where nothing is yet and everybody answers.
    pub(super) fn fresh(node: &str) -> Self {
        let mut bench = Self::joined(node);
        bench.record = Record { format: 1, secrets_generation: 1, ..Record::default() };
        bench.facts.etcd = Some(Etcd { has_data: false, running: false, healthy: false, leads: false });
        for peer in bench.facts.peers.iter_mut().flatten() {
            peer.answer = Answer::NeverMember;
            peer.serves = false;
            if let Some(says) = &mut peer.says {
                says.database = false;
            }
        }
        bench
    }

    /// Changes the database's facts.
    pub(super) fn database(mut self, change: impl FnOnce(&mut Database)) -> Self {
        change(self.facts.database.as_mut().unwrap());
        self
    }

    /// Changes the schema's facts.
    pub(super) fn schema(mut self, change: impl FnOnce(&mut Schema)) -> Self {
        change(self.facts.schema.as_mut().unwrap());
        self
    }

    /// Changes what a peer says.
    pub(super) fn peer(mut self, name: &str, change: impl Fn(&mut Peer)) -> Self {
        self.facts.peers.iter_mut().flatten().filter(|peer| peer.name == name).for_each(change);
        self
    }

    /// Changes the record.
    pub(super) fn record(mut self, change: impl FnOnce(&mut Record)) -> Self {
        change(&mut self.record);
        self
    }

    /// What comes next.
    pub(super) fn next(&self) -> Next {
        machine::next(&self.view())
    }

    /// What a person should know.
    pub(super) fn warnings(&self) -> Vec<String> {
        machine::warnings(&self.view())
    }

    fn view(&self) -> View<'_> {
        View {
            ticket: &self.ticket,
            own: self.ticket.own().unwrap(),
            tables: &self.tables,
            record: &self.record,
            facts: &self.facts,
            done: &self.done,
            upgrade: self.upgrade,
        }
    }

    /// The action that comes next.
    pub(super) fn action(&self) -> Action {
        match self.next().decision {
            Decision::Do(action) => action,
            other => panic!("no action: {other:?}"),
        }
    }

    /// The step that waits, and what for.
    pub(super) fn waits(&self) -> (&'static str, String) {
        match self.next() {
            Next { step, decision: Decision::Wait(wait) } => (step, wait.what),
            other => panic!("does not wait: {other:?}"),
        }
    }

    /// The step that stops, and why.
    pub(super) fn stops(&self) -> (&'static str, String) {
        match self.next() {
            Next { step, decision: Decision::Stop { why, remedy } } if !remedy.is_empty() => (step, why),
            other => panic!("does not stop: {other:?}"),
        }
    }

    /// The record that is kept next.
    pub(super) fn keeps(&self) -> Record {
        match self.next().decision {
            Decision::Keep(record) => record,
            other => panic!("keeps nothing: {other:?}"),
        }
    }
}

/// The members of a whole etcd cluster.
pub(super) fn members(ticket: &Ticket) -> Vec<Member> {
    let listed = ticket.cluster.voters().enumerate().map(|(number, node)| Member {
        id: format!("{number:016x}"),
        name: node.name.clone(),
        peer_url: format!("https://{}:2380", node.address),
        learner: false,
    });
    listed.collect()
}
