//! Proof 8: the join is killed at every step in turn, right before and right after what the step does.

use std::collections::BTreeSet;

use crate::lab::machine::KILL_HOOK;

use super::cold_start::is_complete;
use super::stage::{Failure, Outcome, Stage};
use super::{Begins, CONTAINERS, Scenario};

/// A cold start in which every join dies at each of its steps, on every machine.
pub const JOIN_KILLED: Scenario = Scenario {
    name: "join-killed",
    number: 8,
    proves: "Joins that are killed right before and right after everything that they do, once each, still finish the job",
    on: CONTAINERS,
    begins: Begins::Empty,
    run: |stage| {
        let everyone: Vec<String> = stage.cast.everyone().into_iter().map(str::to_owned).collect();
        stage.mend("power all machines on");
        stage.lab.start_all()?;
        stage.fault("every join is to be killed before and after each of its steps");
        for name in &everyone {
            // Long before cloud-init is done and the join begins.
            stage.machine(name)?.write(KILL_HOOK, 0o600, hooks().as_bytes())?;
            // As soon as its systemd takes orders.
            stage.wait(&format!("{name} to read its units again"), stage.patience(30), |stage| {
                stage.shell(name, AT_ONCE).map(Some)
            })?;
        }
        let names: Vec<&str> = everyone.iter().map(String::as_str).collect();
        let joined = stage.wait_joined(&names, stage.patience(420))?;
        stage.seconds("power on to all joined, with all the deaths", joined, None);
        let mut died = BTreeSet::new();
        let mut deaths = 0;
        for name in &names {
            let armed: BTreeSet<String> = hooks().lines().map(str::to_owned).collect();
            let left = stage.machine(name)?.read(KILL_HOOK)?.unwrap_or_default();
            let left: BTreeSet<String> = String::from_utf8_lossy(&left).lines().map(str::to_owned).collect();
            let fired: Vec<String> = armed.difference(&left).cloned().collect();
            stage.machine(name)?.set_kill_hook(None)?;
            let restarts = stage.shell(name, "systemctl show --property NRestarts --value rolecast-join.service")?;
            let enough = restarts.trim().parse::<usize>().is_ok_and(|count| count >= fired.len());
            stage.check(enough, || format!("{name} was to die {} times, and started again {restarts}", fired.len()))?;
            deaths += fired.len();
            stage.tell(&format!("the join of {name} died {} times: {}", fired.len(), fired.join(", ")));
            died.extend(fired);
        }
        stage.figure("deaths", f64::from(u32::try_from(deaths).unwrap_or(u32::MAX)), "deaths", None);
        expect_died(stage, &died)?;
        is_complete(stage)?;
        stage.check_members()
    },
};

/// A join that died is started again at once, until the machine's next boot: two seconds of nothing after each of dozens of
/// deaths prove nothing.
const AT_ONCE: &str = "place=/run/systemd/system/rolecast-join.service.d; mkdir -p $place && \
                       printf '[Service]\\nRestartSec=100ms\\n' >$place/lab.conf && systemctl daemon-reload";

/// What a cold start has to pass through; a hook that never fires proves nothing.
const CERTAIN: [&str; 8] = [
    "etcd-member",
    "etcd-start",
    "database-start",
    "database-roles",
    "schema",
    "maas-secret",
    "region-start",
    "rack-register",
];

fn expect_died(stage: &Stage<'_>, died: &BTreeSet<String>) -> Outcome {
    let missed: Vec<&str> = CERTAIN.iter().copied().filter(|step| !died.contains(*step)).collect();
    stage.check(missed.is_empty(), || format!("no join died at {}", missed.join(", ")))
}

/// Every step of every kind of machine, before and after.
fn hooks() -> String {
    let steps = [
        "secrets",
        "state",
        "files",
        "host-name",
        "address",
        "clock",
        "certificate",
        "own-name",
        "generation",
        "etcd-member",
        "etcd-start",
        "etcd-vote",
        "proxy",
        "database-identity",
        "database-start",
        "database-failover",
        "database-roles",
        "maas-install",
        "schema",
        "maas-secret",
        "maas-initialise",
        "rotation",
        "region-start",
        "region-healthy",
        "administrator",
        "virtual-address",
        "dhcp",
        "etcd-lead",
        "rack-regions",
        "rack-register",
        "rack-start",
        "rack-registered",
        "joined",
    ];
    steps.iter().flat_map(|step| [format!("{step}\n"), format!("{step}:after\n")]).collect()
}

impl Stage<'_> {
    /// Fails unless etcd's members are the voters, each once, all started and none a learner.
    pub fn check_members(&self) -> Outcome {
        let name = self.cast.voters.first().ok_or_else(|| Failure("nobody votes".into()))?;
        let mut voters = self.cast.voters.clone();
        voters.sort();
        self.wait("etcd's members to be the voters", self.patience(60), |stage| {
            let listed = stage.members(name)?;
            let fields: Vec<Vec<&str>> = listed.lines().map(|line| line.split(", ").collect()).collect();
            let mut names: Vec<String> =
                fields.iter().filter_map(|one| one.get(2)).map(|name| (*name).into()).collect();
            names.sort();
            let started = fields.iter().all(|one| one.get(1) == Some(&"started") && one.get(5) == Some(&"false"));
            Ok((started && names == voters).then_some(()))
        })
    }
}
