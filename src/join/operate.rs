//! What an operator does to a joined cluster: hand the lead over, promote by hand, take a machine out.
//!
//! Owns the refusals and what is said of a loss before it can happen; Patroni and etcd do the deed, and refuse what they
//! refuse. Never deletes a database: a machine that leaves keeps its own, moved nowhere.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::adapters::etcd::{self, Endpoint};
use super::adapters::http::Http;
use super::adapters::patroni::{self, Api, Cluster};
use super::adapters::{database, local, maas, units};
use super::tables::Tables;
use super::world::{Member, Trouble};
use super::{record, status};
use crate::report::{Diagnostic, Kind};
use crate::ticket::{self, Kind as Controller, Node, Secret, Ticket};

/// How long a new leader may take to be seen.
const SEEN: Duration = Duration::from_secs(60);

/// Hands the lead of the database over in good order, to `to` or to the best candidate. No commit is lost.
///
/// # Errors
/// When nobody leads, no candidate streams, or Patroni refuses.
pub fn switchover(ticket: &Ticket, to: Option<&str>) -> Result<String, Diagnostic> {
    let http = Http::mutual().map_err(world)?;
    let cluster = database::cluster(&http, ticket).map_err(no_quorum)?;
    let (leader, candidate) = successor(&cluster, to)?;
    let began = Instant::now();
    let api = Api::at(&http, region(ticket, &leader)?.address, Some(password(ticket)?));
    api.switchover(&leader, &candidate).map_err(refused)?;
    seen(&http, ticket, &candidate)?;
    Ok(format!("{candidate} leads in place of {leader}, after {:.1} s\n", began.elapsed().as_secs_f64()))
}

/// Promotes a region where nobody leads: `to`, or this machine. `agrees` is told what may be lost.
///
/// # Errors
/// When somebody leads, the candidate cannot, the operator does not agree, or Patroni refuses.
pub fn promote(ticket: &Ticket, to: Option<&str>, agrees: &mut dyn FnMut(&str) -> bool) -> Result<String, Diagnostic> {
    let http = Http::mutual().map_err(world)?;
    let cluster = database::cluster(&http, ticket).map_err(no_quorum)?;
    let candidate = to.unwrap_or(&ticket.node);
    let address = region(ticket, candidate)?.address;
    let password = password(ticket)?;
    let loss = prospect(&cluster, candidate)?;
    if !agrees(&loss) {
        return Err(Diagnostic::error(Kind::Usage, "nothing was promoted: you did not agree").note(loss));
    }
    let began = Instant::now();
    Api::at(&http, address, Some(password)).failover(candidate).map_err(refused)?;
    seen(&http, ticket, candidate)?;
    Ok(format!("{candidate} leads, after {:.1} s\n", began.elapsed().as_secs_f64()))
}

/// Waits until `leader` holds the lock and its database takes writes.
fn seen(http: &Http, ticket: &Ticket, leader: &str) -> Result<(), Diagnostic> {
    let began = Instant::now();
    let address = region(ticket, leader)?.address;
    loop {
        let holds = database::cluster(http, ticket).is_ok_and(|cluster| cluster.leader.as_deref() == Some(leader));
        if holds && Api::at(http, address, None).leads() {
            return Ok(());
        }
        if began.elapsed() > SEEN {
            return Err(Diagnostic::error(
                Kind::World,
                format!("`{leader}` does not lead yet, after {} s", SEEN.as_secs()),
            )
            .hint("see `rolecast-join status` on the regions, and the journal of patroni.service"));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Leader and successor.
fn successor(cluster: &Cluster, to: Option<&str>) -> Result<(String, String), Diagnostic> {
    let leader = cluster.leader.clone().ok_or_else(|| {
        Diagnostic::error(Kind::World, "nobody leads the database, so nobody can hand the lead over")
            .hint("run `rolecast-join promote` on the region that is to lead")
    })?;
    let waits_for = |name: &str| !cluster.synchronous_mode || cluster.synchronous.iter().any(|one| one == name);
    let streaming = cluster.streaming();
    let fit: Vec<&String> = streaming.iter().filter(|name| **name != leader && waits_for(name)).collect();
    let wanted = match to {
        Some(to) if to == leader => {
            return Err(Diagnostic::error(Kind::Usage, format!("`{to}` leads already")));
        }
        Some(to) => fit.iter().find(|name| name.as_str() == to),
        None => fit.first(),
    };
    match wanted {
        Some(candidate) => Ok((leader, (*candidate).clone())),
        None => Err(why_unfit(cluster, &leader, to)),
    }
}

/// Why there is no successor.
fn why_unfit(cluster: &Cluster, leader: &str, to: Option<&str>) -> Diagnostic {
    let message = match to {
        Some(to) => format!("`{to}` cannot take over from `{leader}`: it does not stream from it, or is not in step"),
        None => format!("no region can take over from `{leader}`: none streams from it in step"),
    };
    let states = cluster.members.iter().filter(|(name, _)| *name != leader);
    let states = states.map(|(name, member)| format!("{name} says: {}", member.state));
    let diagnostic = Diagnostic::error(Kind::World, message);
    let diagnostic = states.fold(diagnostic, Diagnostic::note);
    diagnostic.hint("wait until the other region streams: `rolecast-join status` there says what it waits for")
}

/// What may be lost when `candidate` is promoted where nobody leads.
fn prospect(cluster: &Cluster, candidate: &str) -> Result<String, Diagnostic> {
    if let Some(leader) = &cluster.leader {
        let message = format!("`{leader}` holds the leader lock, so nothing is promoted beside it");
        return Err(Diagnostic::error(Kind::Usage, message).hint(
            "if it lives, use `rolecast-join switchover`; if it has just died, its lock ends within 30 seconds",
        ));
    }
    let unfit = |why: String| Diagnostic::error(Kind::World, format!("`{candidate}` cannot be promoted: {why}"));
    let member = cluster.members.get(candidate).ok_or_else(|| unfit("its Patroni does not answer".to_owned()))?;
    // A standby whose leader is gone runs, and streams no longer.
    if !matches!(member.state.as_str(), "running" | "streaming" | "in archive recovery") {
        return Err(unfit(format!("Patroni there says: {}", member.state)));
    }
    let position = member.position.unwrap_or(0);
    let ahead = cluster.members.iter().filter(|(name, _)| *name != candidate);
    if let Some((name, _)) =
        ahead.max_by_key(|(_, other)| other.position).filter(|(_, other)| other.position > member.position)
    {
        return Err(unfit(format!("`{name}` lives and has more")).hint(format!("promote `{name}` instead")));
    }
    if cluster.synchronous.iter().any(|name| name == candidate) {
        return Ok(format!("{candidate} was in step with the last leader: no commit that was acknowledged is lost"));
    }
    let told = match cluster.last_position.map(|last| last.saturating_sub(position)) {
        Some(0) => "it has all that the last leader told of".to_owned(),
        Some(behind) => format!("it lacks {behind} bytes of log that the last leader told of"),
        None => "nothing is known of where the last leader was".to_owned(),
    };
    Ok(format!(
        "{candidate} was not in step with the last leader: {told}; what was committed after that, up to ten seconds before \
         the leader was lost, may be lost too"
    ))
}

/// Takes this machine out of etcd, of Patroni and of MAAS; `say` gets a line at every step. Its database stays where it is.
///
/// # Errors
/// When that would cost the quorum or the only database, unless `force`; or when a step fails: then run it again.
pub fn leave(ticket: &Ticket, tables: &Tables, force: bool, say: &mut dyn FnMut(&str)) -> Result<String, Diagnostic> {
    let own = ticket.own().ok_or_else(|| Diagnostic::error(Kind::Input, "the ticket is for no machine"))?;
    let http = Http::mutual().map_err(world)?;
    let members = quorum_of_others(&http, ticket);
    if own.voter && etcd::has_data() {
        allow(force, etcd_objection(own, members.as_deref(), &healthy(&http, ticket, own)))?;
    }
    let cluster = database::cluster(&http, ticket);
    let leads = cluster.as_ref().is_ok_and(|cluster| cluster.leader.as_deref() == Some(own.name.as_str()));
    if leads {
        say("handing the lead of the database over");
        match switchover(ticket, None) {
            Ok(told) => say(told.trim_end()),
            Err(diagnostic) => allow(force, Some(diagnostic))?,
        }
    }
    let controller = maas::controller_here(ticket, tables, &Http::plain());
    // The join would put back what is taken out.
    let mut stop = vec!["rolecast-join.service".to_owned(), "keepalived.service".to_owned()];
    if let Some(maas) = &tables.maas {
        stop.extend(if own.kind == Controller::Region { maas.units.region.clone() } else { maas.units.rack.clone() });
    }
    stop.extend(["haproxy.service", patroni::UNIT].map(str::to_owned));
    let running = units::running(&stop).map_err(world)?;
    for unit in stop.iter().filter(|unit| running.contains(unit)) {
        say(&format!("stopping {unit}"));
        units::stop(std::slice::from_ref(unit)).map_err(world)?;
    }
    let mut left = Vec::new();
    match controller {
        Ok(controller) => match controller.delete(&Http::plain()) {
            Ok(told) => say(&told),
            Err(Trouble(why)) => left.push(format!("delete this controller in MAAS: {why}")),
        },
        Err(Trouble(why)) => left.push(format!("delete this controller in MAAS: {why}")),
    }
    if own.voter {
        leave_etcd(&http, ticket, own, say, &mut left)?;
    }
    forget(say)?;
    let mut text = format!("{} has left cluster {}; its data is where it was\n", own.name, ticket.cluster.name);
    left.push("take its seed away: with it, it joins again when it next starts".to_owned());
    left.push("take it out of the image file, and make the other machines' seeds again".to_owned());
    for task in left {
        text += &format!("what is left for you: {task}\n");
    }
    Ok(text)
}

fn leave_etcd(
    http: &Http,
    ticket: &Ticket,
    own: &Node,
    say: &mut dyn FnMut(&str),
    left: &mut Vec<String>,
) -> Result<(), Diagnostic> {
    let url = etcd::peer_url(own);
    let members = quorum_of_others(http, ticket);
    match members.as_deref().and_then(|members| members.iter().find(|member| member.peer_url == url)) {
        Some(member) => {
            say("leaving etcd");
            let id = &member.id;
            // Without this the others would have to elect, for seconds.
            if Endpoint::at(http, own.address).leads().unwrap_or(false) {
                etcd::yield_lead(http, ticket, own).map_err(world)?;
            }
            etcd::any_quorum(http, ticket, |endpoint| endpoint.remove(id)).map_err(world)?;
        }
        None if members.is_none() => left.push("remove this member from etcd: no quorum answers now".to_owned()),
        None => {}
    }
    units::stop(&[etcd::UNIT.to_owned()]).map_err(world)?;
    etcd::set_aside().map_err(world)?;
    say("etcd's data is moved aside: a member that was removed can never use it again");
    Ok(())
}

/// Ticket and record are renamed, so that nothing is joined at the next boot without a seed.
fn forget(say: &mut dyn FnMut(&str)) -> Result<(), Diagnostic> {
    for path in [ticket::ACCEPTED, record::PATH] {
        let left = format!("{path}.left-{}", local::now());
        if Path::new(path).exists() {
            fs::rename(path, &left)
                .map_err(|error| Diagnostic::error(Kind::World, format!("cannot rename `{path}`: {error}")))?;
        }
    }
    let _ = fs::remove_file(status::PATH);
    say("its ticket is put away");
    Ok(())
}

/// Goes on where there is no objection, or the operator insists.
fn allow(force: bool, objection: Option<Diagnostic>) -> Result<(), Diagnostic> {
    match objection {
        Some(objection) if !force => {
            Err(objection.hint("with `--force` it leaves in spite of that; nothing was changed so far"))
        }
        _ => Ok(()),
    }
}

/// Why this machine's leaving would cost the quorum: of the others, by name, `healthy` are part of one now.
fn etcd_objection(own: &Node, members: Option<&[Member]>, healthy: &[String]) -> Option<Diagnostic> {
    let Some(members) = members else {
        return Some(Diagnostic::error(Kind::World, "no other voter of etcd answers with a quorum behind it").note(
            "without a quorum this machine cannot be taken out, and without this machine there may never be one",
        ));
    };
    let url = etcd::peer_url(own);
    let others: Vec<&Member> = members.iter().filter(|member| member.peer_url != url && !member.learner).collect();
    let alive = others.iter().filter(|member| healthy.contains(&member.name)).count();
    let needed = others.len() / 2 + 1;
    if alive >= needed {
        return None;
    }
    let message =
        format!("without this machine etcd has no quorum: {alive} of the other {} members are alive", others.len());
    Some(Diagnostic::error(Kind::World, message).note(format!("{needed} are needed")))
}

/// Names of the other voters that are part of a quorum now.
fn healthy(http: &Http, ticket: &Ticket, own: &Node) -> Vec<String> {
    let others = ticket.cluster.voters().filter(|node| node.name != own.name);
    let alive = others.filter(|node| Endpoint::at(http, node.address).confirm().is_ok());
    alive.map(|node| node.name.clone()).collect()
}

/// The members as another voter lists them, with a quorum behind it.
fn quorum_of_others(http: &Http, ticket: &Ticket) -> Option<Vec<Member>> {
    let mut others = ticket.cluster.voters().filter(|node| node.name != ticket.node);
    others.find_map(|node| Endpoint::at(http, node.address).members().ok())
}

fn region<'t>(ticket: &'t Ticket, name: &str) -> Result<&'t Node, Diagnostic> {
    ticket.cluster.regions().find(|node| node.name == name).ok_or_else(|| {
        let names: Vec<&str> = ticket.cluster.regions().map(|node| node.name.as_str()).collect();
        Diagnostic::error(Kind::Usage, format!("`{name}` is no region of this cluster"))
            .note(format!("regions are {}", names.join(", ")))
    })
}

fn password(ticket: &Ticket) -> Result<&Secret, Diagnostic> {
    ticket.secrets.get("patroni_rest_password").ok_or_else(|| {
        Diagnostic::error(Kind::Usage, "this machine may not tell Patroni what to do").hint("run it on a region")
    })
}

fn world(Trouble(why): Trouble) -> Diagnostic {
    Diagnostic::error(Kind::World, why)
}

fn no_quorum(Trouble(why): Trouble) -> Diagnostic {
    Diagnostic::error(Kind::World, "etcd has no quorum that answers here, so nobody can be made leader")
        .note(why)
        .hint("bring back a majority of the voters: the leader lock is theirs to give")
}

fn refused(Trouble(why): Trouble) -> Diagnostic {
    Diagnostic::error(Kind::World, "Patroni refuses").note(why)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::testing::ticket;
    use super::patroni::Member as Standby;
    use super::*;

    fn cluster(leader: Option<&str>, standby: &str, synchronous: bool) -> Cluster {
        let member =
            |state: &str, position| Standby { state: state.into(), role: String::new(), position: Some(position) };
        Cluster {
            leader: leader.map(str::to_owned),
            members: BTreeMap::from([
                ("region-1".to_owned(), member("running", 500)),
                ("region-2".to_owned(), member(standby, 500)),
            ]),
            synchronous: if synchronous { vec!["region-2".to_owned()] } else { vec![] },
            last_position: Some(700),
            synchronous_mode: true,
            ..Cluster::default()
        }
    }

    #[test]
    fn the_lead_goes_to_who_streams_in_step() {
        let good = cluster(Some("region-1"), "streaming", true);
        let pair = ("region-1".to_owned(), "region-2".to_owned());
        assert_eq!(successor(&good, None).unwrap(), pair);
        assert_eq!(successor(&good, Some("region-2")).unwrap(), pair);
        assert!(successor(&good, Some("region-1")).unwrap_err().message.contains("leads already"));
        assert!(successor(&good, Some("rack-1")).is_err());
        for bad in [cluster(Some("region-1"), "starting", true), cluster(Some("region-1"), "streaming", false)] {
            assert!(successor(&bad, None).unwrap_err().message.contains("no region can take over"));
        }
        assert!(successor(&cluster(None, "streaming", true), None).unwrap_err().hints[0].contains("promote"));
    }

    #[test]
    fn what_may_be_lost_is_said_before() {
        let in_step = prospect(&cluster(None, "running", true), "region-2").unwrap();
        assert!(in_step.contains("no commit that was acknowledged is lost"), "{in_step}");
        let behind = prospect(&cluster(None, "running", false), "region-2").unwrap();
        assert!(behind.contains("lacks 200 bytes"), "{behind}");
        assert!(prospect(&cluster(Some("region-1"), "running", true), "region-2").is_err());
        assert!(prospect(&cluster(None, "stopped", true), "region-2").is_err());
        assert!(prospect(&cluster(None, "running", true), "region-3").is_err());
        let mut ahead = cluster(None, "running", true);
        ahead.members.get_mut("region-1").unwrap().position = Some(501);
        assert!(prospect(&ahead, "region-2").unwrap_err().message.contains("has more"));
    }

    #[test]
    fn a_voter_whose_leaving_costs_the_quorum_is_held_back() {
        let ticket = ticket("rack-1");
        let own = ticket.own().unwrap();
        let member = |name: &str, last: u8| Member {
            id: "1".into(),
            name: name.into(),
            peer_url: format!("https://10.77.0.{last}:2380"),
            learner: false,
        };
        let members = [member("region-1", 11), member("region-2", 12), member("rack-1", 21)];
        let both = ["region-1".to_owned(), "region-2".to_owned()];
        assert!(etcd_objection(own, Some(&members), &both).is_none());
        assert!(etcd_objection(own, Some(&members), &both[..1]).unwrap().message.contains("1 of the other 2"));
        assert!(etcd_objection(own, None, &[]).is_some());
    }
}
