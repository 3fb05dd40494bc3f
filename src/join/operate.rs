//! What an operator does to a joined cluster: hand the lead of the database over, promote by hand.
//!
//! Owns the refusals and what is said of a loss before it can happen; Patroni does the deed, and refuses what it refuses.

use std::thread;
use std::time::{Duration, Instant};

use super::adapters::database;
use super::adapters::http::Http;
use super::adapters::patroni::{Api, Cluster};
use super::world::Trouble;
use crate::report::{Diagnostic, Kind};
use crate::ticket::{Node, Secret, Ticket};

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

pub(super) fn world(Trouble(why): Trouble) -> Diagnostic {
    Diagnostic::error(Kind::World, why)
}

pub(super) fn no_quorum(Trouble(why): Trouble) -> Diagnostic {
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

    use super::super::adapters::patroni::Member as Standby;
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
}
