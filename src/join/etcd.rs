//! Steps of a voter: it becomes one member of one etcd cluster, once.
//!
//! Owns who bootstraps: the one machine that the ticket names, and only after it has told its peers that it is about to
//! and every one of them has answered, after that, that it was never a member and holds no database. Everybody else, and
//! everybody later, is added to a live quorum, as a learner first. A machine that lost its data is replaced there. Two
//! machines whose tickets disagree about the bootstrapper each see the other's intention, and both wait.

use super::machine::{Decision, Turn, View, list, stop, wait, wait_briefly};
use super::world::{Action, Answer, EtcdRecord, Member, Peer};
use crate::ticket::Kind;

/// This machine has a place: a data directory, or an entry in the quorum that waits for it.
pub(super) fn member(view: &View<'_>) -> Turn {
    let etcd = view.etcd()?;
    match (etcd.has_data, view.record.etcd) {
        (true, EtcdRecord::Never) => Err(stop(
            "etcd's data is here, but the join's record says that this machine never was a member",
            "if the data is of an earlier use of this disk, re-image the machine with an empty state",
        )),
        (true, _) => Ok(()),
        (false, _) => newcomer(view),
    }
}

/// A machine without data.
fn newcomer(view: &View<'_>) -> Turn {
    let peers = view.peers()?;
    if let Some(members) = quorum(peers) {
        return place(view, members);
    }
    let mine = view.record.etcd;
    let others_new = others_are_new(view, peers);
    let bootstrapper = view.cluster().bootstrapper().is_some_and(|node| node.name == view.own.name);
    match mine {
        EtcdRecord::Member if others_new => Err(stop(
            "etcd's data is gone here, and no other machine has ever been a member: the cluster's state is lost",
            "bring this machine's etcd data back; without it, re-image all machines with an empty state",
        )),
        EtcdRecord::Never | EtcdRecord::Bootstrapping if bootstrapper && others_new => {
            // First told, then asked again: the record that is kept now is what peers are told, and facts that were
            // looked at before it was kept do not count.
            view.remember(|record| record.etcd = EtcdRecord::Bootstrapping)?;
            Err(Decision::Do(Action::BootstrapEtcd))
        }
        _ => Err(wait(absent(view, peers))),
    }
}

/// The members, as some voter that is part of a quorum lists them.
fn quorum(peers: &[Peer]) -> Option<&[Member]> {
    peers.iter().find_map(|peer| match &peer.answer {
        Answer::Quorum(members) => Some(members.as_slice()),
        _ => None,
    })
}

/// Whether every other voter and every other region is sure to have had no part in any cluster. One that was not
/// asked, or did not answer, is not sure.
fn others_are_new(view: &View<'_>, peers: &[Peer]) -> bool {
    let others = view.cluster().nodes.iter().filter(|node| node.name != view.own.name);
    let mut asked = others.filter(|node| node.voter || node.kind == Kind::Region);
    asked.all(|node| {
        let Some(peer) = peers.iter().find(|peer| peer.name == node.name) else { return false };
        let database = peer.says.as_ref().map(|says| says.database);
        peer.answer == Answer::NeverMember && (node.kind != Kind::Region || database == Some(false))
    })
}

/// An entry in the live quorum that this machine can start as.
fn place(view: &View<'_>, members: &[Member]) -> Turn {
    match entry(view, members) {
        // It started once, and its data is not here: the machine was re-imaged. What it had is never trusted again.
        Some(member) if !member.name.is_empty() => {
            view.remember(|record| record.etcd = EtcdRecord::Adding)?;
            Err(Decision::Do(Action::RemoveMember { id: member.id.clone() }))
        }
        Some(_) => view.remember(|record| record.etcd = EtcdRecord::Adding),
        None => {
            view.remember(|record| record.etcd = EtcdRecord::Adding)?;
            Err(Decision::Do(Action::AddMember))
        }
    }
}

/// This machine in a list of members.
fn entry<'m>(view: &View<'_>, members: &'m [Member]) -> Option<&'m Member> {
    let url = format!("https://{}:2380", view.own.address);
    members.iter().find(|member| member.peer_url == url)
}

/// What a voter waits for that finds no quorum.
fn absent(view: &View<'_>, peers: &[Peer]) -> String {
    let silent = peers.iter().filter_map(|peer| match &peer.answer {
        Answer::Nothing(why) => Some(format!("{} ({why})", peer.name)),
        _ => None,
    });
    let silent: Vec<String> = silent.collect();
    let known = peers.iter().filter(|peer| peer.answer == Answer::NoQuorum);
    let known: Vec<String> = known.map(|peer| format!("{} {}", peer.name, standing(peer))).collect();
    let holding = peers.iter().filter(|peer| peer.says.as_ref().is_some_and(|says| says.database));
    let holding: Vec<&str> = holding.map(|peer| peer.name.as_str()).collect();
    let mut what = "a quorum of etcd".to_owned();
    if !silent.is_empty() {
        what += &format!("; no answer from {}", list(silent.iter().map(String::as_str)));
    }
    if !known.is_empty() {
        what += &format!("; {}", list(known.iter().map(String::as_str)));
    }
    if known.is_empty() && !holding.is_empty() {
        what += &format!("; {} already holds a database, so none is bootstrapped", list(holding.iter().copied()));
    }
    if silent.is_empty() && known.is_empty() && holding.is_empty() {
        let first = view.cluster().bootstrapper().map_or("nobody", |node| node.name.as_str());
        what += &format!("; {first} is to bootstrap it");
    }
    what
}

/// What a peer without a quorum is to etcd, as it says itself.
fn standing(peer: &Peer) -> &'static str {
    match peer.says.as_ref().map(|says| says.etcd) {
        Some(EtcdRecord::Bootstrapping) => "is about to bootstrap it",
        Some(EtcdRecord::Adding) => "is on its way into it",
        Some(EtcdRecord::Never) => "has data of it",
        Some(EtcdRecord::Member) | None => "is a member, without a quorum now",
    }
}

/// Its member runs.
pub(super) fn start(view: &View<'_>) -> Turn {
    if view.etcd()?.running { Ok(()) } else { Err(Decision::Do(Action::StartEtcd)) }
}

/// It has a vote and is part of a quorum; from here on it remembers that it is a member.
pub(super) fn vote(view: &View<'_>) -> Turn {
    if view.etcd()?.healthy {
        return view.remember(|record| record.etcd = EtcdRecord::Member);
    }
    let peers = view.peers()?;
    let Some(members) = quorum(peers) else {
        // Without a quorum nobody writes: all of them wait for each other.
        return Err(wait_briefly(match others_are_new(view, peers) {
            true => "its own member of etcd to start".to_owned(),
            false => absent(view, peers),
        }));
    };
    match entry(view, members) {
        Some(member) if member.learner => Err(Decision::Do(Action::PromoteMember)),
        Some(_) => Err(wait_briefly("its member of etcd to catch up with the quorum")),
        None => Err(stop(
            "the quorum of etcd has removed this machine, and its etcd data is of no use any more",
            format!(
                "if no other machine has taken the place of {}, stop etcd.service, move /var/lib/etcd/default away and \
                 restart rolecast-join.service",
                view.own.name
            ),
        )),
    }
}

/// Who leads the database does not lead etcd too. When both are lost at once, a new leader of etcd gives every lock its full
/// time again, and a failover takes the election and up to five seconds longer.
pub(super) fn lead(view: &View<'_>) -> Turn {
    if !view.own.voter || !view.leads()? || !view.etcd()?.leads || view.done.contains(&Action::YieldEtcdLead) {
        return Ok(());
    }
    Err(Decision::Do(Action::YieldEtcdLead))
}

/// Whether every other region says that it holds no database.
pub(super) fn no_database_elsewhere(view: &View<'_>) -> Turn {
    let peers = view.peers()?;
    let regions = view.cluster().regions().filter(|node| node.name != view.own.name);
    let mut silent = vec![];
    let mut holding = vec![];
    for region in regions {
        let peer = peers.iter().find(|peer| peer.name == region.name);
        match peer.and_then(|peer| peer.says.as_ref()) {
            Some(says) if !says.database => {}
            Some(_) => holding.push(region.name.as_str()),
            None => silent.push(region.name.as_str()),
        }
    }
    if !holding.is_empty() {
        return Err(stop(
            format!("{} holds a database, but etcd knows of none, so none is bootstrapped beside it", list(holding)),
            "bring etcd's data back, or move that data directory away if the database is not wanted any more",
        ));
    }
    match silent.is_empty() {
        true => Ok(()),
        false => Err(wait(format!("{} to say that no database is there, before one is bootstrapped", list(silent)))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, members};
    use super::super::world::Etcd;
    use super::*;

    #[test]
    fn only_the_bootstrapper_bootstraps_and_it_says_so_first() {
        let first = Bench::fresh("region-1");
        let kept = first.keeps();
        assert_eq!(kept.etcd, EtcdRecord::Bootstrapping);
        assert_eq!(first.record(|record| *record = kept.clone()).action(), Action::BootstrapEtcd);
        for other in ["region-2", "rack-1"] {
            let (step, what) = Bench::fresh(other).waits();
            assert_eq!((step, what.as_str()), ("etcd-member", "a quorum of etcd; region-1 is to bootstrap it"));
        }
    }

    #[test]
    fn nobody_bootstraps_while_anybody_may_have_data() {
        let begun = || Bench::fresh("region-1").record(|record| record.etcd = EtcdRecord::Bootstrapping);
        let silent = begun().peer("rack-1", |peer| peer.answer = Answer::Nothing("no route".into()));
        assert!(silent.waits().1.contains("no answer from rack-1 (no route)"));
        let member = begun().peer("region-2", |peer| peer.answer = Answer::NoQuorum);
        assert!(
            member.waits().1.contains("region-2 is on its way") || member.waits().1.contains("region-2 is a member")
        );
        let database = begun().peer("region-2", |peer| peer.says.as_mut().unwrap().database = true);
        assert!(database.waits().1.contains("region-2 already holds a database"));
        let mute = begun().peer("region-2", |peer| peer.says = None);
        assert_eq!(mute.waits().0, "etcd-member");
        let mut unasked = begun();
        unasked.facts.peers.as_mut().unwrap().pop();
        assert_eq!(unasked.waits().0, "etcd-member");
        let was = Bench::fresh("region-1").record(|record| record.etcd = EtcdRecord::Member);
        assert!(was.stops().1.contains("data is gone"));
    }

    #[test]
    fn a_re_imaged_machine_is_replaced_in_the_live_quorum() {
        for node in ["region-1", "region-2", "rack-1"] {
            let listed = members(&Bench::fresh(node).ticket);
            let live = Bench::fresh(node).peer("rack-1", |peer| peer.answer = Answer::Quorum(listed.clone()));
            let live = live.peer("region-2", |peer| peer.answer = Answer::Quorum(listed.clone()));
            let kept = live.keeps();
            assert_eq!(kept.etcd, EtcdRecord::Adding);
            let own = live.ticket.own().unwrap().address;
            let own = listed.iter().find(|member| member.peer_url == format!("https://{own}:2380")).unwrap();
            assert_eq!(
                live.record(|record| *record = kept.clone()).action(),
                Action::RemoveMember { id: own.id.clone() }
            );
        }
    }

    #[test]
    fn a_newcomer_is_added_starts_and_gets_its_vote() {
        let mut bench = Bench::fresh("rack-1").record(|record| record.etcd = EtcdRecord::Adding);
        let mut listed = members(&bench.ticket);
        let own = listed.pop().unwrap();
        let answer = |bench: Bench, listed: &[Member]| {
            bench.peer("region-1", |peer| peer.answer = Answer::Quorum(listed.to_vec()))
        };
        bench = answer(bench, &listed);
        assert_eq!(bench.action(), Action::AddMember);
        listed.push(Member { name: String::new(), learner: true, ..own.clone() });
        bench = answer(bench, &listed);
        assert_eq!(bench.action(), Action::StartEtcd);
        bench.facts.etcd = Some(Etcd { has_data: true, running: true, healthy: false, leads: false });
        listed.pop();
        listed.push(Member { learner: true, ..own });
        bench = answer(bench, &listed);
        assert_eq!(bench.action(), Action::PromoteMember);
        bench.facts.etcd = Some(Etcd { has_data: true, running: true, healthy: true, leads: false });
        assert_eq!(bench.keeps().etcd, EtcdRecord::Member);
    }

    #[test]
    fn a_member_that_was_cut_off_looks_for_its_quorum_every_second() {
        let mut alone = Bench::joined("region-1");
        alone.facts.etcd = Some(Etcd { has_data: true, running: true, healthy: false, leads: false });
        for peer in alone.facts.peers.iter_mut().flatten() {
            (peer.answer, peer.says) = (Answer::Nothing("no route".into()), None);
        }
        let waits = |bench: &Bench| match bench.next().decision {
            Decision::Wait(wait) => (wait.what.contains("a quorum of etcd"), wait.soon),
            other => panic!("does not wait: {other:?}"),
        };
        assert_eq!(waits(&alone), (true, true));
        // A newcomer may wait for days: its peers are not switched on yet.
        assert_eq!(waits(&Bench::fresh("region-2")), (true, false));
    }

    #[test]
    fn data_that_nothing_remembers_and_a_member_that_was_removed_stop_the_machine() {
        let strange = Bench::joined("rack-1").record(|record| record.etcd = EtcdRecord::Never);
        assert!(strange.stops().1.contains("never was a member"));
        let mut removed = Bench::joined("rack-1").peer("region-1", |peer| peer.answer = Answer::Quorum(vec![]));
        removed.facts.etcd = Some(Etcd { has_data: true, running: true, healthy: false, leads: false });
        assert!(removed.stops().1.contains("has removed this machine"));
    }
}
