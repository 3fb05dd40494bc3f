//! A machine leaves its cluster, or is taken out of it by another when it is gone.
//!
//! Owns the order in which it goes, and the refusals: nothing is taken out that the quorum needs, or that lives elsewhere.
//! etcd and MAAS do the deed, and refuse what they refuse. Never deletes a database: a machine that leaves keeps its own,
//! moved nowhere.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::adapters::etcd::{self, Endpoint};
use super::adapters::http::Http;
use super::adapters::{database, local, maas, patroni, peers, units};
use super::operate::{no_quorum, switchover, world};
use super::tables::Tables;
use super::world::{Member, Trouble};
use super::{record, status};
use crate::report::{Diagnostic, Kind};
use crate::ticket::{self, Kind as Controller, Node, Ticket};

/// A member's key lives for Patroni's `ttl`, 20 s, and its leader looks every 5 s.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(60);

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
    let controller = maas::find(ticket, tables, &Http::plain(), own);
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

/// Takes another machine, one that is gone, out of etcd, of Patroni and of MAAS. Its disks are not reached.
///
/// # Errors
/// When it lives, when that would cost the quorum, or when this is no region.
pub fn remove(ticket: &Ticket, tables: &Tables, name: &str, say: &mut dyn FnMut(&str)) -> Result<String, Diagnostic> {
    let node = ticket.cluster.nodes.iter().find(|node| node.name == name).ok_or_else(|| {
        let names: Vec<&str> = ticket.cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        Diagnostic::error(Kind::Usage, format!("`{name}` is no machine of this cluster"))
            .note(format!("machines are {}", names.join(", ")))
    })?;
    let http = Http::mutual().map_err(world)?;
    let cluster = database::cluster(&http, ticket).map_err(no_quorum)?;
    let alive = peers::lives(&http, node.address) || Endpoint::at(&http, node.address).confirm().is_ok();
    if let Some(objection) = removal_objection(ticket, node, alive, cluster.leader.as_deref()) {
        return Err(objection);
    }
    // Found before anything changes: a machine without the key changes nothing.
    let controller = maas::find(ticket, tables, &Http::plain(), node);
    if node.voter {
        let members = etcd::any_quorum(&http, ticket, |endpoint| endpoint.members()).map_err(world)?;
        let url = etcd::peer_url(node);
        if let Some(member) = members.iter().find(|member| member.peer_url == url) {
            allow(false, etcd_objection(node, Some(&members), &healthy(&http, ticket, node)))?;
            say(&format!("taking {name} out of etcd"));
            etcd::any_quorum(&http, ticket, |endpoint| endpoint.remove(&member.id)).map_err(world)?;
        }
    }
    let mut text = format!("{name} has been taken out of cluster {}\n", ticket.cluster.name);
    if node.kind == Controller::Region {
        say(&format!("waiting for Patroni to let go of {name}"));
        if !leave_patroni(&http, ticket, name).map_err(world)? {
            text += "what is left for you: Patroni still keeps its replication slot; look at \
                     `patronictl -c /etc/patroni/rolecast list`\n";
        }
    }
    match controller.and_then(|controller| controller.delete(&Http::plain())) {
        Ok(told) => say(&format!("{name} is {told}")),
        Err(Trouble(why)) => text += &format!("what is left for you: delete this controller in MAAS: {why}\n"),
    }
    text +=
        "what is left for you: take its seed away; with it, or with its disks, it joins again when it next starts\n";
    text += "what is left for you: take it out of the image file, and make the other machines' seeds again\n";
    Ok(text)
}

/// Waits until Patroni has neither key nor slot of a member that is gone. The key ends by itself; the slot would keep the
/// log for that member for half an hour more, so slots of members that are away are not kept meanwhile. Says whether both
/// are gone.
fn leave_patroni(http: &Http, ticket: &Ticket, name: &str) -> Result<bool, Trouble> {
    database::keep_slots(http, ticket, false)?;
    let slot = patroni::slot(name);
    let until = Instant::now() + FORGOTTEN_WITHIN;
    let gone = loop {
        // Without a quorum for a moment, it is asked again.
        let cluster = database::cluster(http, ticket);
        if cluster.is_ok_and(|cluster| !cluster.members.contains_key(name) && !cluster.slots.contains(&slot)) {
            break true;
        }
        if Instant::now() > until {
            break false;
        }
        thread::sleep(Duration::from_secs(1));
    };
    database::keep_slots(http, ticket, true)?;
    Ok(gone)
}

/// Why another machine is not taken out from here.
fn removal_objection(ticket: &Ticket, node: &Node, alive: bool, leader: Option<&str>) -> Option<Diagnostic> {
    let usage = |why: String| Diagnostic::error(Kind::Usage, why);
    if node.name == ticket.node {
        return Some(usage(format!("`{}` is this machine", node.name)).hint("run `rolecast-join leave`"));
    }
    if ticket.own().is_none_or(|own| own.kind != Controller::Region) {
        return Some(usage("only a region can take another machine out of MAAS".to_owned()).hint("run it on a region"));
    }
    if alive {
        return Some(
            usage(format!("`{}` lives, so nothing is taken away from under it", node.name))
                .hint("run `rolecast-join leave` there first, or switch it off"),
        );
    }
    if leader == Some(node.name.as_str()) {
        return Some(
            usage(format!("`{}` still holds the leader lock", node.name))
                .hint("wait until another region leads: `rolecast-join status`"),
        );
    }
    None
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

#[cfg(test)]
mod tests {
    use super::super::testing::ticket;
    use super::*;

    #[test]
    fn another_machine_is_taken_out_only_where_it_is_gone_and_by_a_region() {
        let objection = |from: &str, name: &str, alive: bool, leader: Option<&str>| {
            let own = ticket(from);
            let node = own.cluster.nodes.iter().find(|node| node.name == name).unwrap();
            removal_objection(&own, node, alive, leader).map(|objection| objection.message)
        };
        assert_eq!(objection("region-1", "rack-1", false, Some("region-1")), None);
        assert_eq!(objection("region-1", "region-2", false, Some("region-1")), None);
        assert!(objection("region-1", "rack-1", true, None).unwrap().contains("`rack-1` lives"));
        assert!(objection("region-1", "region-1", true, None).unwrap().contains("is this machine"));
        assert!(objection("rack-2", "rack-1", false, None).unwrap().contains("only a region"));
        assert!(objection("region-1", "region-2", false, Some("region-2")).unwrap().contains("leader lock"));
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
