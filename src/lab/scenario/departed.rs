//! Beside the proofs: a region is dead for good, is taken out of the cluster, and a machine of another name takes its place.

use crate::lab::machine::Exec;
use crate::seed::{Planted, Terms, Vault, plant};
use crate::spec::Cluster;

use super::stage::{Failure, Outcome, Stage};
use super::{Begins, CONTAINERS, Scenario, operator, rotation};

/// Who comes in the dead region's place.
const SUCCESSOR: &str = "region-9";

/// The region that does not lead.
pub const REGION_DEPARTS: Scenario = Scenario {
    name: "region-departs",
    number: 7,
    proves: "A region that is dead for good is taken out of etcd, Patroni and MAAS, never at the quorum's cost, and one of \
             another name takes its place",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let secrets = stage.lab.secrets();
        let before = secrets.read()?;
        let outcome = departs(stage);
        // Those of the successor's cluster are for no other scenario.
        let after = secrets.read()?;
        secrets.replace(&after, &before)?;
        outcome
    },
};

fn departs(stage: &mut Stage<'_>) -> Outcome {
    let leader = stage.leader()?;
    let dead = stage.cast.other_regions(&leader).first().map(|name| (*name).to_owned());
    let dead = dead.ok_or_else(|| Failure("there is only one region".into()))?;
    let witness = stage.cast.witness().ok_or_else(|| Failure("no rack votes".into()))?.to_owned();
    let said = refused(stage, &leader, &format!("leave --node {dead}"))?;
    stage.check(said.contains(&format!("`{dead}` lives")), || format!("a machine that lives is taken out:\n{said}"))?;

    let fault = stage.kill(&dead, "for good")?;
    stage.wait_success("the first write", stage.writes(), fault, stage.patience(60))?;
    // Two of three voters are left: neither may go.
    for (name, words) in [(&witness, "leave"), (&leader, "leave")] {
        let said = refused(stage, name, words)?;
        stage.check(said.contains("etcd has no quorum: 1 of the other 2"), || {
            format!("{name} leaves, or does not say what that would cost:\n{said}")
        })?;
    }
    let began = stage.mend(&format!("`rolecast-join leave --node {dead}` on {leader}"));
    let exec = Exec::new("rolecast-join", &["leave", "--node", &dead]).within(stage.patience(120));
    let said = stage.machine(&leader)?.exec(&exec)?.expect(&format!("take {dead} out"))?;
    let took = stage.recorder.now() - began;
    stage.seconds("leave --node", took, None);
    stage.check(said.contains("deleted from MAAS") && !said.contains("replication slot"), || said.clone())?;
    gone(stage, &leader, &dead)?;
    replaced(stage, &dead)
}

/// Runs the agent, which has to refuse.
fn refused(stage: &Stage<'_>, name: &str, words: &str) -> Result<String, Failure> {
    let outcome = stage.machine(name)?.exec(&Exec::shell(&format!("rolecast-join {words}")))?;
    stage.check(!outcome.succeeded(), || format!("`rolecast-join {words}` on {name} did not refuse"))?;
    stage.tell(&format!("{name} refuses `{words}`: {}", outcome.errors.lines().next().unwrap_or_default()));
    Ok(outcome.errors)
}

/// Nothing of a machine is left in etcd, in Patroni, in the leader's slots, in MAAS.
fn gone(stage: &Stage<'_>, leader: &str, dead: &str) -> Outcome {
    let members = stage.members(leader)?;
    stage.check(!members.contains(dead), || format!("{dead} is still a member of etcd:\n{members}"))?;
    let patroni = stage.shell(leader, "patronictl -c /etc/patroni/rolecast list --format json")?;
    stage.check(!patroni.contains(dead), || format!("Patroni still knows {dead}:\n{patroni}"))?;
    let slots = stage.sql(leader, "postgres", "SELECT slot_name FROM pg_replication_slots;\n")?;
    stage.check(!slots.contains(&dead.replace('-', "_")), || format!("{dead} still has a slot: {slots}"))?;
    let nodes = stage.sql(leader, "maasdb", "SELECT hostname FROM maasserver_node;\n")?;
    stage.check(!nodes.lines().any(|name| name == dead), || format!("MAAS still knows {dead}: {nodes}"))
}

/// A new machine: an empty disk, another name, the dead one's place in the image file.
fn replaced(stage: &mut Stage<'_>, dead: &str) -> Outcome {
    let mut cluster = stage.cluster()?;
    rename(&mut cluster, dead, SUCCESSOR);
    let file = stage.lab.secrets();
    let old = file.read()?;
    let mut vault = old.clone();
    vault.complete(stage.spec, &cluster, rotation::now())?;
    file.replace(&old, &vault)?;
    stage.mend(&format!("{SUCCESSOR} takes the place of {dead}: all others are told, and it is switched on"));
    let others: Vec<&str> = stage.cast.everyone().into_iter().filter(|name| *name != dead).collect();
    operator::apply_of(stage, &cluster, &others)?;
    stage.machine(dead)?.wipe_state()?;
    stage.machine(dead)?.set_seed(Some(&seed(stage, &cluster, SUCCESSOR, &vault)?.nocloud()))?;
    stage.start(&[dead])?;
    let joined = stage.wait_joined(&[dead], stage.patience(180))?;
    stage.seconds("power on to joined, a region with another name", joined, None);
    stage.wait_whole()?;
    let leader = stage.leader()?;
    let members = stage.members(&leader)?;
    stage.check(members.contains(SUCCESSOR) && !members.contains(dead), || {
        format!("etcd's members are not what they should be:\n{members}")
    })?;
    let nodes = stage.sql(&leader, "maasdb", "SELECT hostname FROM maasserver_node;\n")?;
    stage.check(nodes.lines().any(|name| name == SUCCESSOR), || format!("MAAS does not know {SUCCESSOR}: {nodes}"))
}

/// Gives a machine of a cluster another name.
pub(super) fn rename(cluster: &mut Cluster, from: &str, to: &str) {
    for node in cluster.nodes.iter_mut().filter(|node| node.name == from) {
        to.clone_into(&mut node.name);
    }
}

fn seed(stage: &Stage<'_>, cluster: &Cluster, name: &str, vault: &Vault) -> Result<Planted, Failure> {
    Ok(plant(stage.spec, cluster, name, vault, Terms::default())?)
}

impl Stage<'_> {
    /// The cluster of the image file.
    pub(super) fn cluster(&self) -> Result<Cluster, Failure> {
        self.spec.cluster.clone().ok_or_else(|| Failure("the image file describes no cluster".into()))
    }

    /// etcd's members, as `etcdctl member list` has them: ID, status, name, peer URLs, client URLs, whether a learner.
    pub fn members(&self, from: &str) -> Result<String, Failure> {
        self.shell(from, &self.etcdctl(from, "member list")?)
    }

    /// A command line for a voter's shell: etcd's own client asks the member on that machine.
    pub(super) fn etcdctl(&self, voter: &str, words: &str) -> Result<String, Failure> {
        let address = self.machine(voter)?.identity().address;
        Ok(format!(
            "etcdctl --cacert /etc/rolecast/ca.pem --cert /etc/rolecast/node.pem --key /etc/etcd/node.key \
             --endpoints https://{address}:2379 {words}"
        ))
    }
}
