//! What an operator does from their own place: tickets over SSH, to machines whose host keys they have seen. And beside
//! the proofs: a machine that was told no secret waits for them, and nobody else gets them.

use crate::report::{Diagnostic, Kind, Report};
use crate::seed::{Courier, Shown, Terms, find, plant};
use crate::spec::{Cluster, NodeFacts};

use super::mistakes::{console_says, new_rack, recovers, says};
use super::stage::{Failure, Outcome, Stage};
use super::{Begins, CONTAINERS, Scenario};

/// A rack whose seed came over plain HTTP, brought its secrets, and later set up anew.
pub const APPLY: Scenario = Scenario {
    name: "apply",
    number: 13,
    proves: "A machine without secrets waits for `apply`, which tells nothing to a host key that no one has accepted, nor \
             to another key than the accepted one",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let rack = new_rack(stage)?;
        stage.fault(&format!("the seed of {rack} came over plain HTTP, without secrets"));
        let first = waits_for_secrets(stage, &rack)?;
        let node = node(stage, &rack)?;
        let courier = courier(stage)?;
        let named = |key: &str| Shown::from([(rack.clone(), key.to_owned())]);
        refused(stage, courier.meet(&[node], &Shown::new()), &format!("--host-key {rack}={first}"))?;
        let wrong = format!("SHA256:{}", "A".repeat(43));
        refused(stage, courier.meet(&[node], &named(&wrong)), "offers another host key")?;
        refused(stage, bring(stage, &rack), "cannot reach")?;
        says(stage, &rack, "rolecast apply")?;

        stage.mend(&format!("`rolecast apply`, with the host key that {rack} shows"));
        courier.meet(&[node], &named(&first))?;
        tell(stage, &rack)?;
        recovers(stage, &rack)?;
        // To a member, and without naming the key again.
        courier.meet(&[node], &Shown::new())?;
        stage.check(tell(stage, &rack)?.contains("says the same"), || format!("{rack} forgot its ticket"))?;

        stage.machine(&rack)?.kill()?;
        stage.reimage(&rack)?;
        let second = waits_for_secrets(stage, &rack)?;
        stage.check(first != second, || format!("{rack} was set up anew and has its old host key"))?;
        courier.meet(&[node], &Shown::new())?;
        refused(stage, bring(stage, &rack), &format!("--host-key {rack}={second}"))?;
        stage.mend(&format!("accept the new host key of {rack}"));
        courier.meet(&[node], &named(&second))?;
        tell(stage, &rack)?;
        recovers(stage, &rack)
    },
};

/// Brings machines their tickets, made from the lab's secrets as they are now.
pub fn apply(stage: &Stage<'_>, names: &[&str]) -> Outcome {
    apply_of(stage, cluster(stage)?, names)
}

/// The same of a cluster that is not quite the image file's.
pub fn apply_of(stage: &Stage<'_>, cluster: &Cluster, names: &[&str]) -> Outcome {
    let nodes = names.iter().map(|name| find(cluster, name)).collect::<Result<Vec<_>, Report>>()?;
    let keys = names.iter().map(|name| Ok(((*name).to_owned(), host_key(stage, name)?)));
    let courier = courier(stage)?;
    courier.meet(&nodes, &keys.collect::<Result<Shown, Failure>>()?)?;
    let vault = stage.lab.secrets().read()?;
    for node in nodes {
        let planted = plant(stage.spec, cluster, &node.name, &vault, Terms::default())?;
        stage.tell(&format!("{}: {}", node.name, courier.bring(node, &planted)?.trim()));
    }
    Ok(())
}

/// The way to the machines, from where the first client stands.
pub fn courier(stage: &Stage<'_>) -> Result<Courier, Report> {
    let namespace = stage.lab.network().station_namespace(super::suite::STATION);
    let ssh = ["ip", "netns", "exec", &namespace, "ssh"].map(Into::into).into();
    Ok(Courier::new(&stage.lab.secrets().read()?, ssh, stage.lab.known_hosts())?)
}

/// The host key's fingerprint, as the machine shows it.
pub fn host_key(stage: &Stage<'_>, name: &str) -> Result<String, Failure> {
    stage.wait(&format!("{name} to show its host key"), stage.patience(90), |stage| {
        Ok(stage.machine(name)?.status()?.and_then(|status| Some(status["host_key"].as_str()?.to_owned())))
    })
}

/// Boots a machine with a seed without secrets; gives the host key that it shows meanwhile.
fn waits_for_secrets(stage: &mut Stage<'_>, name: &str) -> Result<String, Failure> {
    let bare = stage.lab.plant(stage.spec, name, Terms { open: true, ..Terms::default() })?;
    stage.machine(name)?.set_seed(Some(&bare.nocloud()))?;
    stage.start(&[name])?;
    says(stage, name, "rolecast apply")?;
    let key = host_key(stage, name)?;
    console_says(stage, name, &key)?;
    Ok(key)
}

fn cluster<'s>(stage: &Stage<'s>) -> Result<&'s Cluster, Report> {
    let none = || Diagnostic::error(Kind::Input, "the image file describes no cluster").into();
    stage.spec.cluster.as_ref().ok_or_else(none)
}

fn node<'s>(stage: &Stage<'s>, name: &str) -> Result<&'s NodeFacts, Report> {
    find(cluster(stage)?, name)
}

/// Brings a ticket, and says what the machine answered.
fn tell(stage: &Stage<'_>, name: &str) -> Result<String, Failure> {
    let answer = bring(stage, name)?;
    stage.tell(&format!("{name}: {}", answer.trim()));
    Ok(answer)
}

fn bring(stage: &Stage<'_>, name: &str) -> Result<String, Report> {
    let planted = stage.lab.plant(stage.spec, name, Terms::default())?;
    Ok(courier(stage)?.bring(node(stage, name)?, &planted)?)
}

/// Something was refused, with these words in what a person reads.
fn refused<T>(stage: &Stage<'_>, tried: Result<T, Report>, words: &str) -> Outcome {
    let Err(report) = tried else { return Err(Failure(format!("nothing was refused; expected: {words}"))) };
    let texts = report.diagnostics.iter().flat_map(|one| one.notes.iter().chain(&one.hints).chain([&one.message]));
    stage.check(texts.clone().any(|text| text.contains(words)), || {
        format!("refused, but not with `{words}`:\n{}", texts.cloned().collect::<Vec<_>>().join("\n"))
    })
}
