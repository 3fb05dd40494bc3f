//! What the state machine can ask of a machine and its peers, and what it can have done.
//!
//! The contract between the machine of states, which only sees these values, and the adapters, which alone touch the
//! system. A fact that was not looked at is `None`; after every action all facts are forgotten. Tests put a model of a
//! whole cluster in an adapter's place.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;

/// What was looked at, each fact by its question.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// [`Question::Local`].
    pub local: Option<Local>,
    /// [`Question::Etcd`].
    pub etcd: Option<Etcd>,
    /// [`Question::Name`].
    pub namesake: Option<Namesake>,
    /// [`Question::Peers`].
    pub peers: Option<Vec<Peer>>,
    /// [`Question::Database`].
    pub database: Option<Database>,
    /// [`Question::Schema`].
    pub schema: Option<Schema>,
    /// [`Question::Region`].
    pub region: Option<Region>,
    /// [`Question::Rack`].
    pub rack: Option<Rack>,
    /// [`Question::Dhcp`].
    pub dhcp: Option<Vec<DhcpPair>>,
}

/// A question to the world. Answering may take seconds; it never changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Question {
    /// This machine: files, name, address, clock, state, units.
    Local,
    /// Who else has this rack's name, as regions know racks.
    Name,
    /// This machine's member of etcd.
    Etcd,
    /// What every other voter of etcd and every other region says of itself, and what the quorum says of its members.
    Peers,
    /// Patroni, the leader and this machine's data directory.
    Database,
    /// MAAS's schema in the database, through the local endpoint.
    Schema,
    /// MAAS's region on this machine and the API everywhere.
    Region,
    /// MAAS's rack on this machine and the regions that it can reach.
    Rack,
    /// DHCP as MAAS has it.
    Dhcp,
}

/// [`Question::Local`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Whether all of the ticket's files lie where they belong, as they should be.
    pub files_laid: bool,
    /// The host name.
    pub host_name: String,
    /// Whether a card carries this machine's address.
    pub address_present: bool,
    /// Link-layer address of another machine that answers for this machine's address.
    pub address_taken_by: Option<String>,
    /// Seconds since the Epoch.
    pub now: u64,
    /// Whether chrony follows a source.
    pub synchronised: bool,
    /// Whether state is in memory only.
    pub state_in_memory: bool,
    /// Why state cannot be written, where it cannot.
    pub state_trouble: Option<String>,
    /// Days until the machine's certificate ends; negative when it has.
    pub certificate_days: Option<i64>,
    /// Units that run, of those that the join starts.
    pub running: Vec<String>,
    /// Whether MAAS is on this machine: it is not part of an image for a snap.
    pub maas_installed: bool,
}

/// [`Question::Name`]: where another machine lives that a region knows by this one's name, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namesake(pub Option<Ipv4Addr>);

/// [`Question::Etcd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Whether its data directory holds a member.
    pub has_data: bool,
    /// Whether its unit runs.
    pub running: bool,
    /// Whether it answers a linearizable read: there is a quorum and it is part of it (a learner is not yet).
    pub healthy: bool,
    /// Whether it leads etcd.
    pub leads: bool,
}

/// What one other machine says, over mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name in the cluster.
    pub name: String,
    /// What it says of etcd. Of a region that is no voter: [`Answer::NeverMember`] when its join answers.
    pub answer: Answer,
    /// What its join says of the rest; none when that does not answer.
    pub says: Option<Says>,
    /// Whether MAAS's API answers there, with event loops.
    pub serves: bool,
}

/// What a join tells its peers. No secret, and nothing that only the quorum can know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Says {
    /// What its record says of etcd.
    pub etcd: EtcdRecord,
    /// Whether its etcd has data.
    pub etcd_data: bool,
    /// Whether its data directory of PostgreSQL holds anything.
    pub database: bool,
    /// The generation of its accepted ticket.
    pub generation: u64,
    /// The generation of secrets that its services run with.
    pub secrets_generation: u64,
    /// The version of its image.
    pub version: String,
    /// The racks that MAAS knows, by name, with their addresses; a region's, as it saw them last.
    #[serde(default)]
    pub racks: BTreeMap<String, Vec<Ipv4Addr>>,
}

/// A peer's answer about etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// None: off, cut off, or not that far yet.
    Nothing(String),
    /// Its join says that it has never been a member and never begun to be: no record and no data.
    NeverMember,
    /// Its join says that it is a member or has begun to become one, but it cannot speak for a quorum.
    NoQuorum,
    /// Its etcd answers a linearizable read: these are the members.
    Quorum(Vec<Member>),
}

/// A member of etcd as the quorum lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id, sixteen hexadecimal digits.
    pub id: String,
    /// Its name; empty for one that was added and has never started.
    pub name: String,
    /// Its peer URL.
    pub peer_url: String,
    /// Whether it has no vote yet.
    pub learner: bool,
}

/// [`Question::Database`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The data directory.
    pub data: Data,
    /// The system identifier in etcd's `initialize` key; none when no cluster was ever bootstrapped. Empty while one is.
    pub initialised: Option<String>,
    /// The name that holds the leader lock.
    pub leader: Option<String>,
    /// Whether Patroni's unit runs.
    pub running: bool,
    /// This member as Patroni says: `running` or `streaming` among others; none when it does not answer.
    pub state: Option<String>,
    /// Members whose Patroni lives, with the state of their PostgreSQL: `running`, `streaming`, `stopped` and so on.
    pub members: BTreeMap<String, String>,
    /// Whether Patroni is paused.
    pub paused: bool,
    /// Whether the local endpoint leads to a writable database.
    pub writable: bool,
}

/// A data directory of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// It does not exist or is empty.
    Empty,
    /// It holds a cluster with this system identifier.
    Cluster(String),
    /// It holds something that is no complete cluster.
    Broken(String),
}

/// [`Question::Schema`]: MAAS in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Whether MAAS's role and database are there.
    pub database_exists: bool,
    /// The generation of secrets whose passwords the roles have, as the join recorded in the database.
    pub secrets_generation: Option<u64>,
    /// What is installed, against what this image brings.
    pub version: SchemaVersion,
    /// Whether MAAS's shared secret in the database is the ticket's.
    pub secret_right: bool,
    /// Whether the administrator exists.
    pub administrator: bool,
}

/// How the schema in the database stands to the image's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaVersion {
    /// There is none.
    Absent,
    /// A migration was begun and failed: trying again does not help.
    Half,
    /// A migration was begun, did not end, and nobody holds its lock: the machine was lost, or the program was killed.
    /// Each of its parts is a transaction, so it may go on.
    CutOff,
    /// Older than the image's: its version.
    Older(String),
    /// The image's own.
    Same,
    /// Newer than the image's: its version.
    Newer(String),
}

/// [`Question::Region`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Whether `/MAAS/rpc/` on this machine answers 200 with event loops.
    pub healthy: bool,
    /// Why not, where MAAS's log says it.
    pub trouble: Option<String>,
    /// Other machines that use this machine's host name, as MAAS sees it.
    pub merged_with: Option<String>,
}

/// [`Question::Rack`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rack {
    /// Whether a region answers with event loops.
    pub region_answers: bool,
    /// Endpoints of regions that cannot be reached, `address:port`.
    pub unreachable: Vec<String>,
    /// Whether it has an identity.
    pub has_identity: bool,
    /// Whether its URL and secret on disk are the ticket's.
    pub configured: bool,
    /// Whether a region has accepted it.
    pub registered: bool,
    /// Whether a region refused its secret.
    pub refused: bool,
}

/// A DHCP range as MAAS has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpPair {
    /// The subnet of the ticket, `address/prefix`.
    pub subnet: String,
    /// Whether both racks of the ticket are registered and see the subnet.
    pub ready: bool,
    /// Whether DHCP is on.
    pub on: bool,
    /// Host name of its primary rack.
    pub primary: Option<String>,
    /// Host name of its secondary rack.
    pub secondary: Option<String>,
}

/// Something to do. Every one may be done twice, and may be cut off at any point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Lay the ticket's files.
    LayFiles,
    /// Set the host name.
    SetHostName,
    /// Have networkd read its files again.
    ReloadNetwork,
    /// Bootstrap etcd as its only member: the bootstrapper alone, once.
    BootstrapEtcd,
    /// Remove a member that lost its data, in the live quorum.
    RemoveMember {
        /// Its id.
        id: String,
    },
    /// Add this machine to the quorum as a learner.
    AddMember,
    /// Start etcd: with its data, or as the member that was just added.
    StartEtcd,
    /// Give this machine's learner a vote.
    PromoteMember,
    /// Hand the lead of etcd to another voter, one without a database if there is one; none that can is no failure.
    YieldEtcdLead,
    /// Start units, in order.
    Start {
        /// Their names.
        units: Vec<String>,
    },
    /// Stop units: MAAS of a version that the schema has left behind.
    Stop {
        /// Their names.
        units: Vec<String>,
    },
    /// Start Patroni; it bootstraps where nothing is, clones, rewinds or follows.
    StartPatroni,
    /// Move aside (never delete) what this machine's own bootstrap left when it was cut off before it had an
    /// identifier, and take its empty claim (`initialize`) back if that is still empty. Refuses while Patroni runs.
    SetAsideBootstrap,
    /// Have the running Patroni clone again (`reinitialize`, which it refuses on a leader), where this machine's own
    /// clone was cut off and what it left is no database.
    CloneAgain,
    /// Lift the pause so that a replica can be cloned.
    Resume,
    /// Pause Patroni: failover is the operator's.
    Pause,
    /// Make MAAS's role and database and the roles that Patroni's bootstrap should have made, or give roles the
    /// ticket's passwords; records the ticket's generation in the database. Refuses when this is not the primary.
    PrepareDatabase,
    /// Install MAAS, where it is not part of the image, and keep it from becoming another version by itself.
    InstallMaas,
    /// Make the running version the only one that can be booted, where a boot loader chooses between versions.
    KeepVersion,
    /// Migrate MAAS's schema, under a lock in the database. The migration ends when the lock's session does.
    Migrate,
    /// Put MAAS's shared secret where the version wants it, before a region runs.
    PlaceSecret,
    /// Reload or restart what runs and reads a secret that changed, one at a time.
    ReloadSecrets,
    /// What is done once before MAAS's units start (`initialise` of maas.toml).
    InitialiseMaas,
    /// Create the administrator and keep the API key.
    CreateAdministrator,
    /// Register this rack.
    Register,
    /// Switch DHCP on for a subnet, with its pair.
    SetDhcp {
        /// The subnet.
        subnet: String,
    },
}

/// Why a question or an action failed. Always worth another try; what is not is a fact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);

/// A machine and its peers.
pub trait World {
    /// Answers one question into `facts`.
    ///
    /// # Errors
    /// When it cannot be answered now.
    fn look(&mut self, question: Question, facts: &mut Facts) -> Result<(), Trouble>;

    /// Does one thing.
    ///
    /// # Errors
    /// When it could not be done now.
    fn act(&mut self, action: &Action) -> Result<(), Trouble>;

    /// Keeps the record on state, durably, before an action that must not be forgotten.
    ///
    /// # Errors
    /// When state cannot be written.
    fn keep(&mut self, record: &Record) -> Result<(), Trouble>;
}

/// What a machine remembers of its join, on state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Record {
    /// Version of the form: 1.
    pub format: u32,
    /// How far it is with etcd.
    pub etcd: EtcdRecord,
    /// Whether this machine has begun to bootstrap the database.
    pub database_begun: bool,
    /// Whether it has begun to clone the database, and the clone has not run yet.
    pub database_cloning: bool,
    /// Whether it once had a running database.
    pub database_joined: bool,
    /// Whether an image that ran here left failover to the operator, and Patroni may still be paused for that.
    pub manual: bool,
    /// Whether MAAS was initialised here.
    pub maas_initialised: bool,
    /// The generation of secrets that its services run with.
    pub secrets_generation: u64,
    /// Whether it was once wholly joined.
    pub joined: bool,
    /// The version of the image that has begun to migrate MAAS's schema from here.
    pub schema_begun: Option<String>,
}

/// How far a machine is with etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EtcdRecord {
    /// It has never been a member and never begun to be.
    #[default]
    Never,
    /// It has begun to bootstrap the only member.
    Bootstrapping,
    /// It was added, or is about to be, as a learner.
    Adding,
    /// It is a member.
    Member,
}
