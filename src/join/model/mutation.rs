//! Rules that are broken on purpose, to see that a run finds it: what a machine sees or remembers is not what is.

use super::super::world::{Answer, Data, EtcdRecord, Record, Says, SchemaVersion};
use super::cluster;
use super::run::Run;

/// A rule that is broken on purpose, to see that the test finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// None.
    None,
    /// Who does not answer is taken for new.
    SilenceIsNew,
    /// A machine without data forgets that it was a member.
    DataIsMemory,
    /// The record is not durable when the action follows.
    RecordIsLate,
    /// Every region thinks that it leads.
    EverybodyLeads,
    /// A database that is there is started, whatever etcd knows.
    AnyDatabase,
    /// Every peer is taken for one that has the newest secrets at hand.
    AllAreTold,
    /// Every peer is taken for one that runs this machine's version.
    AllRunThis,
    /// A schema that a newer version has begun is taken for this one's.
    NoneIsNewer,
}

impl Run {
    /// Breaks a rule, where the run is to be broken: changes what the machine sees or remembers.
    pub(super) fn mutate(&mut self, machine: usize, record: &mut Record) {
        let cluster = self.cluster.borrow();
        if self.mutation == Mutation::DataIsMemory && cluster.machines[machine].etcd.is_none() {
            record.etcd = EtcdRecord::Bootstrapping;
        }
        let mutation = self.mutation;
        self.rounds[machine].change_facts(|facts| match mutation {
            Mutation::SilenceIsNew => {
                for peer in facts.peers.iter_mut().flatten().filter(|peer| matches!(peer.answer, Answer::Nothing(_))) {
                    peer.answer = Answer::NeverMember;
                    peer.says = Some(new_machine());
                }
            }
            Mutation::EverybodyLeads => {
                if let Some(database) = &mut facts.database {
                    database.leader = Some(cluster.machines[machine].ticket.node.clone());
                }
            }
            Mutation::AnyDatabase => {
                if let Some(database) = &mut facts.database
                    && let Data::Cluster(identifier) = &database.data
                {
                    database.initialised = Some(identifier.clone());
                }
            }
            Mutation::AllRunThis => {
                let own = cluster::version(cluster.machines[machine].image);
                for says in facts.peers.iter_mut().flatten().filter_map(|peer| peer.says.as_mut()) {
                    own.clone_into(&mut says.version);
                }
            }
            Mutation::NoneIsNewer => {
                if let Some(schema) = &mut facts.schema
                    && matches!(schema.version, SchemaVersion::Newer(_))
                {
                    schema.version = SchemaVersion::Same;
                }
            }
            Mutation::AllAreTold => {
                for says in facts.peers.iter_mut().flatten().filter_map(|peer| peer.says.as_mut()) {
                    says.generation = u64::MAX;
                }
            }
            _ => {}
        });
    }
}

/// What a machine says that has never had a part in anything.
fn new_machine() -> Says {
    Says {
        etcd: EtcdRecord::Never,
        etcd_data: false,
        database: false,
        generation: 1,
        secrets_generation: 1,
        version: cluster::version(cluster::FIRST).to_owned(),
        racks: std::collections::BTreeMap::new(),
    }
}
