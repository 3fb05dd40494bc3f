//! Proof 9: what people and machines get wrong. Each time one clear reason, in the status and on the console; no
//! half-joined member; and the machine recovers when it is put right.

use std::time::Duration;

use crate::lab::machine::BackEnd;
use crate::seed::{Planted, Terms, plant};
use crate::spec::Cluster;
use crate::ticket::Secret;

use super::departed::rename;
use super::stage::{Failure, Outcome, Stage};
use super::{Begins, CONTAINERS, Scenario, rotation};

/// A rack is given another cluster's shared secret.
pub const WRONG_SECRET: Scenario = Scenario {
    name: "wrong-secret",
    number: 9,
    proves: "A rack with a wrong shared secret says so, registers nowhere, and joins with the right one",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let rack = new_rack(stage)?;
        stage.fault(&format!("a wrong shared secret in the seed of {rack}"));
        stage.seed(&rack, |planted| {
            let right = planted.ticket.secrets.get("maas_secret").map(|secret| secret.0.clone()).unwrap_or_default();
            let wrong = "0123456789abcdef".repeat(2);
            if let Some(secret) = planted.ticket.secrets.get_mut("maas_secret") {
                *secret = Secret(wrong.clone());
            }
            for file in &mut planted.ticket.files {
                file.content = Secret(file.content.0.replace(&right, &wrong));
            }
        })?;
        stage.start(&[&rack])?;
        says(stage, &rack, "secret")?;
        put_right(stage, &rack)
    },
};

/// Another machine on the network answers for a rack's address.
pub const DUPLICATE_ADDRESS: Scenario = Scenario {
    name: "duplicate-address",
    number: 9,
    proves: "A machine whose address another one has says who, waits, and joins when the other is gone",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let rack = new_rack(stage)?;
        let address = stage.machine(&rack)?.identity().address;
        stage.fault(&format!("another machine has the address {address}"));
        stage.lab.network().add_station("intruder", address)?;
        stage.start(&[&rack])?;
        let said = says(stage, &rack, "also used by");
        stage.mend("the other machine is gone");
        stage.lab.network().remove_station("intruder")?;
        said?;
        recovers(stage, &rack)
    },
};

/// A machine has the name of another, as a copy of it has.
pub const DUPLICATE_HOST_NAME: Scenario = Scenario {
    name: "duplicate-host-name",
    number: 9,
    proves: "A machine with the seed of another, and so with its name, does not join beside it",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let rack = new_rack(stage)?;
        let other = other_rack(stage, &rack)?;
        stage.fault(&format!("{rack} is given the seed of {other}"));
        // For the card that it has: a machine that was copied.
        let mac = stage.machine(&rack)?.identity().mac.clone();
        stage.seed_of(&rack, &other, |planted| planted.mac = Some(mac))?;
        stage.start(&[&rack])?;
        says(stage, &rack, "also used by")?;
        is_still_joined(stage, &other)?;
        put_right(stage, &rack)
    },
};

/// Another rack was given the name of one that lives, as when two image files name their machines alike.
pub const TWO_RACKS_OF_ONE_NAME: Scenario = Scenario {
    name: "two-racks-of-one-name",
    number: 9,
    proves: "A rack with the name of another one that lives, and an address of its own, says so and takes no part in \
             anything; the other does not notice, and it joins under a name of its own",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let rack = new_rack(stage)?;
        let other = other_rack(stage, &rack)?;
        let leader = stage.leader()?;
        let before = as_seen(stage, &leader, &other)?;
        stage.fault(&format!("{rack} is given the name {other}"));
        let seed = namesake(stage, &rack, &other)?;
        stage.machine(&rack)?.set_seed(Some(&seed.nocloud()))?;
        stage.start(&[&rack])?;
        says(stage, &rack, "a host name of its own")?;
        let runs = "systemctl is-active maas-rackd.service etcd.service; \
                    ls -d /var/lib/maas/maas_id /var/lib/etcd/default/member 2>/dev/null; true";
        let runs = stage.shell(&rack, runs)?;
        stage.check(!runs.lines().any(|line| line == "active" || line.starts_with('/')), || {
            format!("{rack} has a part in something:\n{runs}")
        })?;
        is_still_joined(stage, &other)?;
        let after = as_seen(stage, &leader, &other)?;
        stage.check(before == after, || format!("{other} was `{before}`, and is now `{after}`"))?;
        stage.check_members()?;
        put_right(stage, &rack)?;
        let after = as_seen(stage, &leader, &other)?;
        stage.check(before == after, || format!("{other} was `{before}`, and is now `{after}`"))
    },
};

/// A rack's identity and addresses in MAAS, and since when its MAAS runs.
fn as_seen(stage: &Stage<'_>, leader: &str, rack: &str) -> Result<String, Failure> {
    // The name is the image file's, and holds no quote.
    let statement = format!(
        "SELECT system_id, string_agg(host(ip), ' ' ORDER BY ip) FROM maasserver_node \
         LEFT JOIN maasserver_interface ON node_id = maasserver_node.id \
         LEFT JOIN maasserver_staticipaddress ON interface_id = maasserver_interface.id \
         WHERE hostname = '{rack}' GROUP BY system_id;\n"
    );
    let known = stage.sql(leader, "maasdb", &statement)?;
    let runs = stage.shell(rack, "systemctl show --property ExecMainStartTimestamp maas-rackd.service")?;
    Ok(format!("{known} {}", runs.trim()))
}

/// The seed of `rack` under the name `other`: of a cluster in which it is the only one of that name.
fn namesake(stage: &Stage<'_>, rack: &str, other: &str) -> Result<Planted, Failure> {
    let mut cluster = stage.cluster()?;
    cluster.nodes.retain(|node| node.name != other);
    rename(&mut cluster, rack, other);
    seed_in(stage, cluster, rack, other)
}

/// A seed for the card that `rack` has, as that of `name` in a cluster that is not quite the image file's.
fn seed_in(stage: &Stage<'_>, mut cluster: Cluster, rack: &str, name: &str) -> Result<Planted, Failure> {
    cluster.dhcp.clear();
    let lab = stage.lab.secrets().read()?;
    let mut vault = lab.clone();
    vault.complete(stage.spec, &cluster, rotation::now())?;
    // Otherwise the right seed would be the older one.
    (vault.generation, vault.issued) = (lab.generation, lab.issued);
    let mut planted = plant(stage.spec, &cluster, name, &vault, Terms::default())?;
    planted.mac = Some(stage.machine(rack)?.identity().mac.clone());
    Ok(planted)
}

/// The state partition is full.
pub const FULL_STATE: Scenario = Scenario {
    name: "full-state",
    number: 9,
    proves: "A machine whose state is full says so, and goes on when there is room again",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let rack = new_rack(stage)?;
        stage.start(&[&rack])?;
        stage.wait_joined(&[&rack], stage.patience(120))?;
        stage.fault(&format!("fill the state of {rack}"));
        stage.machine(&rack)?.fill_state()?;
        stage.shell(&rack, "systemctl restart rolecast-join")?;
        let said = says(stage, &rack, "state that can be written");
        stage.mend(&format!("free the state of {rack}"));
        stage.machine(&rack)?.free_state()?;
        said?;
        recovers(stage, &rack)
    },
};

/// A new rack reaches nobody.
pub const UNREACHABLE_PEERS: Scenario = Scenario {
    name: "unreachable-peers",
    number: 9,
    proves: "A new machine that reaches nobody says whom it misses, makes nothing up, and joins when it hears them",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let rack = new_rack(stage)?;
        stage.cut(&rack, "before its first boot")?;
        stage.start(&[&rack])?;
        says(stage, &rack, "a region of MAAS that answers")?;
        stage.heal()?;
        recovers(stage, &rack)
    },
};

/// In the image file that made a rack's seed, the machine is a region.
pub const WRONG_ROLE: Scenario = Scenario {
    name: "seed-for-another-role",
    number: 9,
    proves: "A machine refuses a seed for another role, says so, and takes its own",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let rack = new_rack(stage)?;
        let region = stage.cast.regions[1].clone();
        stage.fault(&format!("{rack} is given a seed for the role of {region}"));
        // For its own card and address: a mistake of one word, and nobody else's address is taken meanwhile.
        let seed = promoted(stage, &rack, &region)?;
        stage.machine(&rack)?.set_seed(Some(&seed.nocloud()))?;
        stage.start(&[&rack])?;
        says(stage, &rack, "role")?;
        put_right(stage, &rack)
    },
};

/// The seed of `rack` in a cluster where it has the role of `region`.
fn promoted(stage: &Stage<'_>, rack: &str, region: &str) -> Result<Planted, Failure> {
    let mut cluster = stage.cluster()?;
    let role = cluster.nodes.iter().find(|node| node.name == region).map(|node| node.role.clone());
    let role = role.ok_or_else(|| Failure(format!("the image file has no `{region}`")))?;
    for node in cluster.nodes.iter_mut().filter(|node| node.name == rack) {
        node.role.clone_from(&role);
    }
    seed_in(stage, cluster, rack, rack)
}

/// The clock is wrong by years.
pub const WRONG_CLOCK: Scenario = Scenario {
    name: "wrong-clock",
    number: 9,
    proves: "A machine whose clock is years behind says so, and joins with a right one",
    on: &[BackEnd::Qemu],
    begins: Begins::Formed,
    run: |stage| {
        let rack = new_rack(stage)?;
        stage.fault(&format!("the clock of {rack} is three years behind"));
        stage.machine(&rack)?.set_clock_offset(-3 * 365 * 86_400)?;
        stage.start(&[&rack])?;
        says(stage, &rack, "a right clock")?;
        stage.mend(&format!("the clock of {rack} is right"));
        stage.machine(&rack)?.kill()?;
        stage.machine(&rack)?.set_clock_offset(0)?;
        stage.start(&[&rack])?;
        recovers(stage, &rack)
    },
};

/// A rack that is not this one.
fn other_rack(stage: &Stage<'_>, rack: &str) -> Result<String, Failure> {
    let other = stage.cast.racks.iter().find(|name| *name != rack).cloned();
    other.ok_or_else(|| Failure("there is only one rack".into()))
}

/// A machine has noticed nothing of another one's mistake.
fn is_still_joined(stage: &Stage<'_>, name: &str) -> Outcome {
    let holds = stage.state(name)?.text();
    stage.check(holds == "joined", || format!("{name} was drawn into it: {holds}"))
}

/// The last rack, off and empty: a new machine that the cluster can do without.
pub(super) fn new_rack(stage: &Stage<'_>) -> Result<String, Failure> {
    let rack = stage.cast.racks.last().ok_or_else(|| Failure("there is no rack".into()))?.clone();
    stage.machine(&rack)?.kill()?;
    stage.reimage(&rack)?;
    Ok(rack)
}

/// The one reason is in the status and on the console, and the machine is no member.
pub(super) fn says(stage: &Stage<'_>, name: &str, words: &str) -> Outcome {
    let shown = |stage: &Stage<'_>| -> Result<String, Failure> {
        let status = stage.machine(name)?.status()?.unwrap_or_default();
        let told = ["what", "refused"].map(|field| status[field].as_str().unwrap_or_default().to_owned());
        Ok(told.join(" "))
    };
    stage.expect_within(&format!("{name} to say `{words}`"), stage.patience(90), |stage| {
        Ok(shown(stage)?.contains(words))
    })?;
    stage.tell(&format!("{name} says: {}", shown(stage)?.trim()));
    stage.expect_for(&format!("{name} to stay out"), Duration::from_secs(3), |stage| {
        Ok(stage.state(name)?.text() != "joined")
    })?;
    console_says(stage, name, words)
}

/// What a person at the console has seen since the machine was powered on.
pub(super) fn console_says(stage: &Stage<'_>, name: &str, words: &str) -> Outcome {
    let console = crate::sys::files::read(&stage.machine(name)?.console()).map_err(crate::report::Diagnostic::from)?;
    let console = String::from_utf8_lossy(&console).into_owned();
    let since_boot = console.rsplit("--- power on").next().unwrap_or_default();
    stage.check(since_boot.contains(words), || format!("the console of {name} does not say `{words}`"))
}

/// The right seed, and a boot: what an operator does who has given the wrong one.
fn put_right(stage: &mut Stage<'_>, name: &str) -> Outcome {
    stage.mend(&format!("{name} gets its own seed"));
    stage.machine(name)?.kill()?;
    stage.seed(name, |_| {})?;
    stage.machine(name)?.start()?;
    recovers(stage, name)
}

pub(super) fn recovers(stage: &mut Stage<'_>, name: &str) -> Outcome {
    let joined = stage.wait_joined(&[name], stage.patience(120))?;
    stage.seconds("put right to joined", joined, None);
    Ok(())
}
