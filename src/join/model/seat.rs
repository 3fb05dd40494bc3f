//! One machine's world in the model: answers out of the cluster's truth, actions that change it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::world::{
    Action, Answer, Data, Database, DhcpPair, Etcd, EtcdRecord, Facts, Local, Member, Namesake, Peer, Question, Rack,
    Record, Region, Says, Schema, SchemaVersion, Trouble, World,
};
use super::cluster::{self, Cluster, Directory, Steps};
use crate::ticket::Kind;

/// The world of one machine.
pub(super) struct Place {
    pub(super) cluster: Rc<RefCell<Cluster>>,
    pub(super) machine: usize,
    /// What it was told since its last action, whatever a mutation makes of it.
    pub(super) told: Facts,
    /// The record is forgotten by a mutation, to see that the test notices.
    pub(super) forgets: bool,
}

impl World for Place {
    fn look(&mut self, question: Question, facts: &mut Facts) -> Result<(), Trouble> {
        let cluster = self.cluster.borrow();
        answer(&cluster, self.machine, question, &mut self.told)?;
        answer(&cluster, self.machine, question, facts)
    }

    fn act(&mut self, action: &Action) -> Result<(), Trouble> {
        let told = std::mem::take(&mut self.told);
        let mut cluster = self.cluster.borrow_mut();
        witness(&mut cluster, self.machine, &told, action);
        perform(&mut cluster, self.machine, action)
    }

    fn keep(&mut self, record: &Record) -> Result<(), Trouble> {
        self.told = Facts::default();
        if !self.forgets {
            self.cluster.borrow_mut().machines[self.machine].record = record.clone();
        }
        Ok(())
    }
}

fn answer(cluster: &Cluster, here: usize, question: Question, facts: &mut Facts) -> Result<(), Trouble> {
    match question {
        Question::Local => facts.local = Some(local(cluster, here)),
        Question::Name => facts.namesake = Some(Namesake(None)),
        Question::Etcd => facts.etcd = Some(etcd(cluster, here)),
        Question::Peers => facts.peers = Some(peers(cluster, here)),
        Question::Database => facts.database = Some(database(cluster, here)?),
        Question::Schema => facts.schema = Some(schema(cluster, here)?),
        Question::Region => facts.region = Some(region(cluster, here)),
        Question::Rack => facts.rack = Some(rack(cluster, here)),
        Question::Dhcp => facts.dhcp = Some(dhcp(cluster, here)?),
    }
    Ok(())
}

fn trouble<T>(why: &str) -> Result<T, Trouble> {
    Err(Trouble(why.to_owned()))
}

fn name(cluster: &Cluster, machine: usize) -> String {
    cluster.machines[machine].ticket.node.clone()
}

fn local(cluster: &Cluster, here: usize) -> Local {
    let machine = &cluster.machines[here];
    Local {
        files_laid: machine.laid,
        host_name: if machine.named { machine.ticket.node.clone() } else { "localhost".to_owned() },
        address_present: true,
        address_taken_by: None,
        now: 0,
        synchronised: true,
        state_in_memory: false,
        state_trouble: None,
        certificate_days: Some(300),
        running: machine.units.iter().cloned().collect(),
        maas_installed: true,
    }
}

fn etcd(cluster: &Cluster, here: usize) -> Etcd {
    let machine = &cluster.machines[here];
    let healthy = cluster.quorum_of(here).is_some();
    Etcd { has_data: machine.etcd.is_some(), running: machine.etcd_runs, healthy, leads: false }
}

fn peers(cluster: &Cluster, here: usize) -> Vec<Peer> {
    let own = &cluster.machines[here].ticket;
    let others = own.cluster.nodes.iter().enumerate();
    let asked = others.filter(|(number, node)| *number != here && (node.voter || node.kind == Kind::Region));
    asked.map(|(number, node)| peer(cluster, here, number, &node.name)).collect()
}

fn peer(cluster: &Cluster, here: usize, other: usize, name: &str) -> Peer {
    let name = name.to_owned();
    if !cluster.linked(here, other) {
        return Peer { name, answer: Answer::Nothing("no answer".to_owned()), says: None, serves: false };
    }
    let machine = &cluster.machines[other];
    let says = Says {
        etcd: machine.record.etcd,
        etcd_data: machine.etcd.is_some(),
        database: machine.directory != Directory::Empty,
        generation: machine.ticket.generation,
        secrets_generation: machine.record.secrets_generation,
        version: cluster::version(machine.image).to_owned(),
        racks: BTreeMap::new(),
    };
    let answer = match cluster.quorum_of(other) {
        Some(quorum) => Answer::Quorum(members(cluster, quorum)),
        None if says.etcd == EtcdRecord::Never && !says.etcd_data => Answer::NeverMember,
        None => Answer::NoQuorum,
    };
    Peer { name, answer, says: Some(says), serves: healthy(cluster, other) }
}

fn members(cluster: &Cluster, etcd: usize) -> Vec<Member> {
    let listed = cluster.etcds[etcd].members.iter().map(|member| {
        let machine = &cluster.machines[member.machine].ticket;
        let address = machine.own().map_or_else(String::new, |node| node.address.to_string());
        Member {
            id: format!("{:016x}", member.id),
            name: if member.started { machine.node.clone() } else { String::new() },
            peer_url: format!("https://{address}:2380"),
            learner: member.learner,
        }
    });
    listed.collect()
}

fn database(cluster: &Cluster, here: usize) -> Result<Database, Trouble> {
    let Some(quorum) = cluster.reachable_quorum(here) else { return trouble("etcd has no quorum") };
    let machine = &cluster.machines[here];
    let state = |number: usize| {
        let machine = &cluster.machines[number];
        match &machine.directory {
            Directory::Bootstrapping if machine.at_it => "initializing new cluster",
            Directory::Cloning if machine.at_it => "creating replica",
            Directory::Cluster(..) if machine.postgres_runs && cluster.leader(quorum) == Some(number) => "running",
            Directory::Cluster(..) if machine.postgres_runs => "streaming",
            _ => "stopped",
        }
        .to_owned()
    };
    let regions = (0..cluster.machines.len()).filter(|number| cluster.machines[*number].kind() == Kind::Region);
    let alive = regions.filter(|number| cluster.machines[*number].patroni_runs && cluster.linked(here, *number));
    Ok(Database {
        data: match &machine.directory {
            Directory::Empty => Data::Empty,
            Directory::Bootstrapping => Data::Broken("an unfinished bootstrap".to_owned()),
            Directory::Cloning => Data::Broken("an unfinished copy".to_owned()),
            Directory::Cluster(identifier, _) => Data::Cluster(identifier.clone()),
        },
        initialised: cluster.etcds[quorum].initialise.clone(),
        leader: cluster.leader(quorum).map(|leader| name(cluster, leader)),
        running: machine.patroni_runs,
        state: machine.patroni_runs.then(|| state(here)),
        members: alive.map(|number| (name(cluster, number), state(number))).collect(),
        paused: cluster.etcds[quorum].paused,
        writable: cluster.writable(here).is_some(),
    })
}

fn schema(cluster: &Cluster, here: usize) -> Result<Schema, Trouble> {
    let Some(content) = cluster.writable(here).and_then(|leader| cluster.content(leader)) else {
        return trouble("the database does not answer");
    };
    Ok(Schema {
        database_exists: content.exists,
        secrets_generation: content.generation,
        version: content.schema.seen_by(cluster.machines[here].image),
        secret_right: content.secret,
        administrator: content.administrator,
    })
}

fn healthy(cluster: &Cluster, machine: usize) -> bool {
    let runs = cluster.machines[machine].units.contains("maas-regiond.service");
    runs && cluster.writable(machine).and_then(|leader| cluster.content(leader)).is_some_and(|it| it.secret)
}

fn region(cluster: &Cluster, here: usize) -> Region {
    Region { healthy: healthy(cluster, here), trouble: None, merged_with: None }
}

fn rack(cluster: &Cluster, here: usize) -> Rack {
    let machine = &cluster.machines[here];
    let answering = (0..cluster.machines.len()).find(|other| cluster.linked(here, *other) && healthy(cluster, *other));
    let content = answering.and_then(|region| cluster.writable(region)).and_then(|leader| cluster.content(leader));
    let runs = machine.units.contains("maas-rackd.service");
    Rack {
        region_answers: answering.is_some(),
        unreachable: vec![],
        has_identity: machine.identity,
        configured: machine.identity || machine.units.contains("registered"),
        registered: runs && content.is_some_and(|content| content.racks.contains(&here)),
        refused: false,
    }
}

fn dhcp(cluster: &Cluster, here: usize) -> Result<Vec<DhcpPair>, Trouble> {
    let Some(content) = cluster.writable(here).and_then(|leader| cluster.content(leader)) else {
        return trouble("MAAS does not answer");
    };
    let rack = |name: &str| content.dhcp.then(|| name.to_owned());
    Ok(vec![DhcpPair {
        subnet: "10.77.0.0/24".to_owned(),
        ready: content.racks.len() == 2,
        on: content.dhcp,
        primary: rack("rack-1"),
        secondary: rack("rack-2"),
    }])
}

/// What a machine may ask for, given what it was told.
fn witness(cluster: &mut Cluster, here: usize, told: &Facts, action: &Action) {
    let name = name(cluster, here);
    let kind = cluster.machines[here].kind();
    let led = told.database.as_ref().and_then(|database| database.leader.as_ref()) == Some(&name);
    let schema = told.schema.as_ref();
    let wants = cluster.machines[here].ticket.generation;
    let image = cluster.machines[here].image;
    let other_code = |peer: &Peer| {
        let other = peer.says.as_ref().map_or(peer.serves, |says| says.version != cluster::version(image));
        other && peer.name.starts_with("region")
    };
    let complain = match action {
        Action::PrepareDatabase
            if schema.is_some_and(|schema| schema.database_exists)
                && told.peers.iter().flatten().any(|peer| {
                    let region = peer.name.starts_with("region");
                    region && peer.says.as_ref().is_some_and(|says| says.generation < wants)
                }) =>
        {
            Some("changes passwords while a region that answers has only the old ones")
        }
        // Where it has a part in a live cluster: the database first, then who connects to it.
        Action::ReloadSecrets if kind == Kind::Region && cluster.machines[here].record.joined => {
            let quorum = cluster.quorum_of(here).is_some();
            let content = cluster.writable(here).and_then(|leader| cluster.content(leader));
            let early = content.and_then(|content| content.generation).is_some_and(|generation| generation < wants);
            (quorum && early).then_some("takes new passwords before the database has them")
        }
        Action::BootstrapEtcd => {
            let elsewhere = cluster.machines.iter().any(|machine| machine.etcd.is_some());
            // One of its own stops the machine later, at the database.
            let mut others = cluster.machines.iter().enumerate().filter(|(number, _)| *number != here);
            // A strange disk may be put in right after the machine has answered.
            let database = others.any(|(_, machine)| match &machine.directory {
                Directory::Cluster(identifier, _) => identifier != cluster::ELSEWHERE,
                _ => false,
            });
            (elsewhere || database).then_some("bootstraps etcd while an earlier cluster's data exists")
        }
        Action::Migrate if cluster.machines[here].record.schema_begun.as_deref() != Some(cluster::version(image)) => {
            Some("migrates, and does not remember which version began it")
        }
        Action::Migrate if cluster.machines[here].oldest < image => Some("migrates, and could boot the version before"),
        Action::Migrate if told.peers.as_ref().is_none_or(|peers| peers.iter().any(other_code)) => {
            Some("migrates while a region runs other code")
        }
        Action::Migrate if schema.is_some_and(|schema| matches!(schema.version, SchemaVersion::Newer(_))) => {
            Some("migrates what a newer version has begun")
        }
        Action::Migrate | Action::PrepareDatabase | Action::PlaceSecret | Action::CreateAdministrator => {
            (!led || kind != Kind::Region).then_some("changes the database, and does not hold the leader lock")
        }
        Action::SetDhcp { .. } => (!led).then_some("sets DHCP, and does not hold the leader lock"),
        Action::Start { units } if units.iter().any(|unit| unit == "maas-regiond.service") => {
            let ready = schema.is_some_and(|schema| schema.version == SchemaVersion::Same && schema.secret_right);
            (!ready).then_some("starts a region before schema and secret are there")
        }
        Action::Start { units } if units.iter().any(|unit| unit == "keepalived.service") => {
            let ready = told.region.as_ref().is_some_and(|region| region.healthy);
            (!ready).then_some("takes the virtual address before its region is healthy")
        }
        Action::StartPatroni => {
            let foreign =
                told.database.as_ref().is_some_and(|database| match (&database.data, &database.initialised) {
                    (Data::Cluster(here), _) if here == cluster::ELSEWHERE => true,
                    (Data::Cluster(here), Some(known)) => !known.is_empty() && here != known,
                    _ => false,
                });
            foreign.then_some("starts a database that is not the cluster's")
        }
        _ => None,
    };
    if let Some(what) = complain {
        cluster.breach(format!("{name} {what}"));
    }
}

fn perform(cluster: &mut Cluster, here: usize, action: &Action) -> Result<(), Trouble> {
    match action {
        Action::LayFiles => cluster.machines[here].laid = true,
        Action::SetHostName => cluster.machines[here].named = true,
        Action::ReloadNetwork | Action::InstallMaas | Action::InitialiseMaas | Action::YieldEtcdLead => {}
        Action::KeepVersion => cluster.machines[here].oldest = cluster.machines[here].image,
        Action::Stop { units } => cluster.machines[here].units.retain(|unit| !units.contains(unit)),
        Action::BootstrapEtcd => {
            if cluster.machines[here].etcd.is_some() {
                return trouble("there is data");
            }
            cluster.members_made += 1;
            let id = cluster.members_made;
            let member = cluster::Member { id, machine: here, started: true, learner: false };
            cluster.etcds.push(cluster::Etcd { members: vec![member], ..cluster::Etcd::default() });
            cluster.machines[here].etcd = Some((cluster.etcds.len() - 1, id));
            cluster.machines[here].etcd_runs = true;
        }
        Action::AddMember | Action::RemoveMember { .. } | Action::PromoteMember | Action::StartEtcd => {
            return membership(cluster, here, action);
        }
        Action::Start { units } => cluster.machines[here].units.extend(units.iter().cloned()),
        Action::StartPatroni => cluster.machines[here].patroni_runs = true,
        Action::SetAsideBootstrap => {
            let Some(quorum) = cluster.reachable_quorum(here) else { return trouble("etcd has no quorum") };
            if cluster.machines[here].patroni_runs
                || cluster.etcds[quorum].initialise.as_ref().is_some_and(|it| !it.is_empty())
            {
                return trouble("Patroni runs, or the database has an identifier");
            }
            if let Directory::Cluster(..) = cluster.machines[here].directory {
                cluster.breach("a database is moved aside");
            }
            cluster.machines[here].directory = Directory::Empty;
            cluster.etcds[quorum].initialise = None;
        }
        Action::CloneAgain => {
            if cluster.machines[here].directory != Directory::Cloning || !cluster.machines[here].patroni_runs {
                cluster.breach("a database is cloned over");
            }
            cluster.machines[here].at_it = true;
        }
        Action::Resume | Action::Pause => {
            let Some(quorum) = cluster.reachable_quorum(here) else { return trouble("etcd has no quorum") };
            cluster.etcds[quorum].paused = *action == Action::Pause;
        }
        Action::Register => cluster.machines[here].units.extend(["registered".to_owned()]),
        Action::ReloadSecrets => cluster.machines[here].reloaded = cluster.machines[here].ticket.generation,
        _ => return in_database(cluster, here, action),
    }
    Ok(())
}

/// Members of etcd come and go in a live quorum.
fn membership(cluster: &mut Cluster, here: usize, action: &Action) -> Result<(), Trouble> {
    if *action == Action::StartEtcd && cluster.machines[here].etcd.is_some() {
        cluster.machines[here].etcd_runs = true;
        return Ok(());
    }
    let Some(quorum) = cluster.reachable_quorum(here) else { return trouble("etcd has no quorum") };
    let position = cluster.etcds[quorum].members.iter().position(|member| member.machine == here);
    match (action, position) {
        (Action::StartEtcd, Some(position)) => {
            let member = &mut cluster.etcds[quorum].members[position];
            if member.started {
                return trouble("that member has run before, elsewhere");
            }
            member.started = true;
            let id = member.id;
            cluster.machines[here].etcd = Some((quorum, id));
            cluster.machines[here].etcd_runs = true;
        }
        (Action::AddMember, None) => {
            if cluster.etcds[quorum].members.iter().any(|member| member.learner) {
                return trouble("too many learner members in cluster");
            }
            cluster.members_made += 1;
            let id = cluster.members_made;
            cluster.etcds[quorum].members.push(cluster::Member { id, machine: here, started: false, learner: true });
        }
        (Action::PromoteMember, Some(position)) => {
            if cluster.dice.one_in(3) {
                return trouble("can only promote a learner member which is in sync with leader");
            }
            cluster.etcds[quorum].members[position].learner = false;
        }
        (Action::RemoveMember { id }, _) => {
            let members = &cluster.etcds[quorum].members;
            let Some(position) = members.iter().position(|member| format!("{:016x}", member.id) == *id) else {
                return trouble("member not found");
            };
            let member = &members[position];
            let alive = cluster.machines[member.machine].etcd == Some((quorum, member.id));
            // `strict-reconfig-check`: what is left has to have a quorum that runs.
            let voters = members.iter().filter(|other| other.id != member.id && !other.learner);
            let runs = voters.clone().filter(|other| {
                let machine = &cluster.machines[other.machine];
                machine.etcd_runs && machine.etcd == Some((quorum, other.id))
            });
            if !member.learner && runs.count() * 2 <= voters.count() {
                return trouble("re-configuration failed due to not enough started members");
            }
            cluster.etcds[quorum].members.remove(position);
            if alive {
                cluster.breach("a member that has its data is removed");
            }
        }
        _ => return trouble("the quorum does not list this machine so"),
    }
    Ok(())
}

/// What changes MAAS's database goes through the local endpoint, and is refused where the machine does not lead.
fn in_database(cluster: &mut Cluster, here: usize, action: &Action) -> Result<(), Trouble> {
    let generation = cluster.machines[here].ticket.generation;
    let image = cluster.machines[here].image;
    if cluster.writable(here) != Some(here) {
        return trouble("this machine is not the primary");
    }
    let cut_off = *action == Action::Migrate && cluster.dice.one_in(4);
    let Some(content) = cluster.content_mut(here) else { return trouble("no database") };
    match action {
        Action::PrepareDatabase => {
            content.exists = true;
            content.generation = Some(generation);
        }
        Action::Migrate if !content.exists => return trouble("no database"),
        Action::Migrate if cut_off => {
            content.schema.begun = Some(image);
            return trouble("the connection was lost");
        }
        Action::Migrate => content.schema = Steps { begun: Some(image), ended: Some(image) },
        Action::PlaceSecret => content.secret = true,
        Action::CreateAdministrator => content.administrator = true,
        Action::SetDhcp { .. } => content.dhcp = true,
        _ => return trouble("the model does not know this"),
    }
    Ok(())
}

/// A rack that runs, was told the secret and reaches a region is taken in by it.
pub(super) fn rack_turn(cluster: &mut Cluster, here: usize) {
    let machine = &cluster.machines[here];
    if !machine.units.contains("maas-rackd.service") || !(machine.identity || machine.units.contains("registered")) {
        return;
    }
    let region = (0..cluster.machines.len()).find(|other| cluster.linked(here, *other) && healthy(cluster, *other));
    let Some(leader) = region.and_then(|region| cluster.writable(region)) else { return };
    if let Some(content) = cluster.content_mut(leader) {
        content.racks.insert(here);
        cluster.machines[here].identity = true;
    }
}
