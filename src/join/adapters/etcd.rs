//! etcd, through the JSON gateway of its own API (etcd.io, "gRPC gateway", 3.4 and later).
//!
//! Over HTTPS with the node's certificate, so that no program has to be run for a question that is asked every few
//! seconds. Numbers of 64 bits are strings there, keys and values base64.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{self, Http};
use super::{local, units};
use crate::join::durable::{self, Belongs};
use crate::join::world::{Etcd, Member, Trouble};
use crate::ticket::{Kind, Node, Ticket};

/// Its unit.
pub const UNIT: &str = "etcd.service";

/// What a member has written once it was one.
const DATA: &str = "/var/lib/etcd/default/member";

/// What concerns the cluster as it is now; the unit reads it last.
const ENVIRONMENT: &str = "/run/rolecast/etcd.env";

/// How long a member has to answer. An election takes two seconds.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Keys and values under a prefix.
pub type Keys = BTreeMap<String, Vec<u8>>;

/// One member's API.
#[derive(Clone, Debug)]
pub struct Endpoint<'a> {
    http: &'a Http,
    address: Ipv4Addr,
}

impl<'a> Endpoint<'a> {
    /// The member at `address`.
    pub fn at(http: &'a Http, address: Ipv4Addr) -> Self {
        Self { http, address }
    }

    fn call(&self, method: &str, question: &Value, limit: Duration) -> Result<Vec<u8>, Trouble> {
        let url = format!("https://{}:2379/v3/{method}", self.address);
        let reply = self.http.send("POST", &url, &[], question.to_string().as_bytes(), limit)?;
        match reply.status {
            200 => Ok(reply.body),
            _ => Err(Trouble(format!("etcd on {}: {}", self.address, refusal(&reply.body)))),
        }
    }

    /// All keys that begin with `prefix`, as a quorum has them: a linearizable read.
    ///
    /// # Errors
    /// When there is no quorum, or this member is not part of it.
    pub fn keys(&self, prefix: &str) -> Result<Keys, Trouble> {
        let question = json!({ "key": STANDARD.encode(prefix), "range_end": STANDARD.encode(end_of(prefix)) });
        keys_in(&self.call("kv/range", &question, PATIENCE)?)
    }

    /// Whether there is a quorum and this member is part of it: a linearizable read of a key that nobody writes.
    ///
    /// # Errors
    /// When it is not.
    pub fn confirm(&self) -> Result<(), Trouble> {
        self.call("kv/range", &json!({ "key": STANDARD.encode("rolecast") }), PATIENCE).map(drop)
    }

    /// The members, as a quorum has them.
    ///
    /// # Errors
    /// When there is no quorum, or this member is not part of it.
    pub fn members(&self) -> Result<Vec<Member>, Trouble> {
        // Before 3.5 the list alone would be this member's own view.
        self.confirm()?;
        members_in(&self.call("cluster/member/list", &json!({ "linearizable": true }), PATIENCE)?)
    }

    /// Whether this member leads.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn leads(&self) -> Result<bool, Trouble> {
        Ok(leads_in(&self.call("maintenance/status", &json!({}), PATIENCE)?))
    }

    /// Has this member, which leads, hand the lead to another.
    ///
    /// # Errors
    /// When it does not lead, or the other cannot.
    pub fn yield_to(&self, id: &str) -> Result<(), Trouble> {
        let question = json!({ "targetID": decimal(id)? });
        self.call("maintenance/transfer-leadership", &question, Duration::from_secs(10)).map(drop)
    }

    /// Adds a learner.
    ///
    /// # Errors
    /// When the quorum does not take it now.
    pub fn add(&self, peer_url: &str) -> Result<(), Trouble> {
        let question = json!({ "peerURLs": [peer_url], "isLearner": true });
        self.call("cluster/member/add", &question, Duration::from_secs(10)).map(drop)
    }

    /// Removes a member.
    ///
    /// # Errors
    /// When the quorum does not let it go now.
    pub fn remove(&self, id: &str) -> Result<(), Trouble> {
        self.call("cluster/member/remove", &json!({ "ID": decimal(id)? }), Duration::from_secs(10)).map(drop)
    }

    /// Deletes a key where it is empty; one that is not there is fine, one that holds something stays.
    ///
    /// # Errors
    /// When there is no quorum, or the key holds something.
    pub fn delete_empty(&self, key: &str) -> Result<(), Trouble> {
        let encoded = STANDARD.encode(key);
        let question = json!({
            "compare": [{ "key": encoded, "target": "VALUE", "result": "EQUAL", "value": "" }],
            "success": [{ "requestDeleteRange": { "key": encoded } }],
            "failure": [{ "requestRange": { "key": encoded } }],
        });
        let answer: Value = parse(&self.call("kv/txn", &question, Duration::from_secs(5))?)?;
        let kept = &answer["responses"][0]["response_range"]["kvs"];
        match answer["succeeded"].as_bool() == Some(true) || !kept.is_array() {
            true => Ok(()),
            false => Err(Trouble(format!("`{key}` is claimed by a database that exists"))),
        }
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// When it has not caught up yet.
    pub fn promote(&self, id: &str) -> Result<(), Trouble> {
        self.call("cluster/member/promote", &json!({ "ID": decimal(id)? }), Duration::from_secs(10)).map(drop)
    }
}

/// [`crate::join::world::Question::Etcd`].
///
/// # Errors
/// When systemd does not answer.
pub fn look(http: Option<&Http>, own: &Node) -> Result<Etcd, Trouble> {
    let running = !units::running(&[UNIT.to_owned()])?.is_empty();
    let healthy = running && http.is_some_and(|http| Endpoint::at(http, own.address).confirm().is_ok());
    let leads = healthy && http.is_some_and(|http| Endpoint::at(http, own.address).leads().unwrap_or(false));
    Ok(Etcd { has_data: has_data(), running, healthy, leads })
}

/// Whether the data directory holds a member.
pub fn has_data() -> bool {
    Path::new(DATA).exists()
}

/// Starts etcd as the only member of a new cluster. With data in its directory, etcd goes on with that instead.
///
/// # Errors
/// When it cannot be started.
pub fn bootstrap(own: &Node) -> Result<(), Trouble> {
    let members = format!("{}={}", own.name, peer_url(own));
    environment(&members, "new")?;
    units::begin(UNIT)
}

/// Starts etcd as a member of the cluster that `members` lists.
///
/// # Errors
/// When it cannot be started.
pub fn start(own: &Node, members: &[Member]) -> Result<(), Trouble> {
    environment(&initial_cluster(own, members), "existing")?;
    units::begin(UNIT)
}

/// Moves a member's data aside. Deletes nothing.
///
/// # Errors
/// When it cannot be moved.
pub fn set_aside() -> Result<(), Trouble> {
    let data = Path::new(DATA);
    let aside = data.with_file_name(format!("left-{}", local::now()));
    match has_data() {
        true => std::fs::rename(data, &aside)
            .map_err(|error| Trouble(format!("cannot move etcd's data to `{}`: {error}", aside.display()))),
        false => Ok(()),
    }
}

/// Hands the lead of etcd to another voter, a witness before a region. Where none can take it, it stays.
///
/// # Errors
/// When the members cannot be listed.
pub fn yield_lead(http: &Http, ticket: &Ticket, own: &Node) -> Result<(), Trouble> {
    let endpoint = Endpoint::at(http, own.address);
    let members = endpoint.members()?;
    let mut others: Vec<&Node> = ticket.cluster.voters().filter(|node| node.name != own.name).collect();
    others.sort_by_key(|node| node.kind == Kind::Region);
    for node in others {
        let member = members.iter().find(|member| member.name == node.name && !member.learner);
        // A member that is behind or cut off cannot become leader; one that answers is not.
        if let Some(member) = member.filter(|_| Endpoint::at(http, node.address).confirm().is_ok())
            && endpoint.yield_to(&member.id).is_ok()
        {
            break;
        }
    }
    Ok(())
}

/// The URL at which other members reach `node`.
pub fn peer_url(node: &Node) -> String {
    format!("https://{}:2380", node.address)
}

/// The first voter beside this machine, then this machine, that answers `question` with a quorum behind it.
///
/// # Errors
/// When none does; what the last one said.
pub fn any_quorum<T>(
    http: &Http,
    ticket: &Ticket,
    question: impl Fn(&Endpoint<'_>) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let mut last = Trouble("no voter of etcd is known".to_owned());
    let (own, others): (Vec<&Node>, Vec<&Node>) = ticket.cluster.voters().partition(|node| node.name == ticket.node);
    // Its own member is asked first, where it runs: that costs no network.
    for voter in own.into_iter().filter(|_| has_data()).chain(others) {
        let endpoint = Endpoint::at(http, voter.address);
        match question(&endpoint) {
            Ok(answer) => return Ok(answer),
            // What a quorum refuses, another member of it does not grant.
            Err(trouble) if endpoint.confirm().is_ok() => return Err(trouble),
            Err(trouble) => last = trouble,
        }
    }
    Err(last)
}

fn environment(members: &str, state: &str) -> Result<(), Trouble> {
    let text = format!("ETCD_INITIAL_CLUSTER={members}\nETCD_INITIAL_CLUSTER_STATE={state}\n");
    let belongs = Belongs { mode: 0o644, ..Belongs::mine() };
    durable::write(Path::new("/"), Path::new(ENVIRONMENT), text.as_bytes(), belongs)
        .map_err(|error| Trouble(error.to_string()))
}

/// The members as a new one has to be told: one that has not started yet has no name, and is this machine.
fn initial_cluster(own: &Node, members: &[Member]) -> String {
    let own_url = peer_url(own);
    let entry = |member: &Member| match member.peer_url == own_url {
        true => format!("{}={own_url}", own.name),
        false => format!("{}={}", member.name, member.peer_url),
    };
    let named = members.iter().filter(|member| member.peer_url == own_url || !member.name.is_empty());
    named.map(entry).collect::<Vec<_>>().join(",")
}

/// The key after all that begin with `prefix`.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Sixteen hexadecimal digits, as people see an id, as the decimal number of the API.
fn decimal(id: &str) -> Result<String, Trouble> {
    let number = u64::from_str_radix(id, 16).map_err(|_| Trouble(format!("`{id}` is no id of a member of etcd")))?;
    Ok(number.to_string())
}

pub(super) fn keys_in(answer: &[u8]) -> Result<Keys, Trouble> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        kvs: Vec<Pair>,
    }
    #[derive(Deserialize)]
    struct Pair {
        key: String,
        #[serde(default)]
        value: String,
    }
    let answer: Answer = parse(answer)?;
    let pair = |Pair { key, value }: Pair| {
        let key = STANDARD.decode(key).ok().and_then(|key| String::from_utf8(key).ok());
        let broken = || Trouble("etcd answers with what is no base64".to_owned());
        Ok((key.ok_or_else(broken)?, STANDARD.decode(value).map_err(|_| broken())?))
    };
    answer.kvs.into_iter().map(pair).collect()
}

pub(super) fn members_in(answer: &[u8]) -> Result<Vec<Member>, Trouble> {
    #[derive(Deserialize)]
    struct Answer {
        members: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        #[serde(rename = "ID")]
        id: String,
        #[serde(default)]
        name: String,
        #[serde(rename = "peerURLs", default)]
        peer_urls: Vec<String>,
        #[serde(rename = "isLearner", default)]
        learner: bool,
    }
    let answer: Answer = parse(answer)?;
    let member = |Listed { id, name, peer_urls, learner }: Listed| {
        let id: u64 = id.parse().map_err(|_| Trouble(format!("etcd lists a member with the id `{id}`")))?;
        let peer_url = peer_urls.into_iter().next().unwrap_or_default();
        Ok(Member { id: format!("{id:016x}"), name, peer_url, learner })
    };
    answer.members.into_iter().map(member).collect()
}

/// Whether the member that answers is the leader that it names.
pub(super) fn leads_in(answer: &[u8]) -> bool {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    answer["leader"].is_string() && answer["leader"] == answer["header"]["member_id"]
}

fn parse<T: serde::de::DeserializeOwned>(answer: &[u8]) -> Result<T, Trouble> {
    http::object(answer, "etcd's")
}

/// What the gateway says when it refuses: `{"error": …, "code": …, "message": …}`.
pub(super) fn refusal(body: &[u8]) -> String {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = said["message"].as_str().or(said["error"].as_str()).unwrap_or("no reason given");
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_answers_are_understood() {
        let listed = br#"{"header":{"cluster_id":"1"},"members":[
            {"ID":"10276657743932975437","name":"a","peerURLs":["https://10.0.0.1:2380"],"clientURLs":["x"]},
            {"ID":"1","peerURLs":["https://10.0.0.2:2380"],"isLearner":true}]}"#;
        let members = members_in(listed).unwrap();
        assert_eq!(members[0].id, "8e9e05c52164694d");
        assert_eq!((members[0].name.as_str(), members[0].learner), ("a", false));
        assert_eq!((members[1].name.as_str(), members[1].learner), ("", true));
        let keys = keys_in(br#"{"kvs":[{"key":"L2E=","value":"Yg=="},{"key":"L2M="}],"count":"2"}"#).unwrap();
        assert_eq!(keys, Keys::from([("/a".to_owned(), b"b".to_vec()), ("/c".to_owned(), vec![])]));
        assert!(keys_in(b"{}").unwrap().is_empty());
        for hostile in [&b"[]"[..], b"{\"kvs\":[{\"key\":\"/\"}]}", b"\xff", b"{\"kvs\":[{\"key\":\"/w==\"}]}"] {
            assert!(keys_in(hostile).is_err(), "{hostile:?}");
        }
        assert!(members_in(br#"{"members":[{"ID":"-1"}]}"#).is_err());
        assert!(leads_in(br#"{"header":{"member_id":"7"},"leader":"7"}"#));
        assert!(!leads_in(br#"{"header":{"member_id":"7"},"leader":"8"}"#));
        assert!(!leads_in(b"{}") && !leads_in(b"["));
        assert_eq!(
            refusal(br#"{"error":"etcdserver: no leader","code":14,"message":"etcdserver: no leader"}"#),
            "etcdserver: no leader"
        );
        assert_eq!(refusal(b"<html>"), "no reason given");
    }

    #[test]
    fn a_new_member_is_told_who_is_there() {
        let own = Node { name: "b".into(), kind: Kind::Region, address: Ipv4Addr::new(10, 0, 0, 2), voter: true };
        let member =
            |name: &str, url: &str| Member { id: "1".into(), name: name.into(), peer_url: url.into(), learner: false };
        let members = [
            member("a", "https://10.0.0.1:2380"),
            member("", "https://10.0.0.2:2380"),
            member("", "https://10.0.0.3:2380"),
        ];
        assert_eq!(initial_cluster(&own, &members), "a=https://10.0.0.1:2380,b=https://10.0.0.2:2380");
    }

    #[test]
    fn ids_and_ranges_are_etcds() {
        assert_eq!(decimal("8e9e05c52164694d").unwrap(), "10276657743932975437");
        assert!(decimal("no id").is_err());
        assert_eq!(end_of("/rolecast/lab/"), b"/rolecast/lab0");
    }
}
