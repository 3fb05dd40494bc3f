//! Patroni: what it has written into etcd, and its REST API.
//!
//! What the cluster is comes from etcd, which answers with a quorum behind it; a member's own API is asked for itself
//! alone, and told what to do (patroni.readthedocs.io, "Patroni REST API").

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::etcd::Keys;
use super::http::{Http, Reply};
use crate::join::world::Trouble;
use crate::ticket::Secret;

/// Its unit.
pub const UNIT: &str = "patroni.service";

/// How long its API has to answer a question.
const PATIENCE: Duration = Duration::from_secs(3);

/// The cluster as Patroni has it in etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The system identifier; empty while a member bootstraps it.
    pub initialised: Option<String>,
    /// Who holds the leader lock.
    pub leader: Option<String>,
    /// Whether Patroni is paused.
    pub paused: bool,
    /// The members that have been heard of within the time to live.
    pub members: BTreeMap<String, Member>,
    /// The members that a commit waits for.
    pub synchronous: Vec<String>,
    /// Where the last leader was in the log, as far as it told.
    pub last_position: Option<u64>,
    /// Whether commits wait for a standby.
    pub synchronous_mode: bool,
    /// The replication slots that the leader has, or keeps for members that are away.
    pub slots: BTreeSet<String>,
}

/// A member as it tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// `running`, `streaming`, `stopped`, `creating replica`, …
    pub state: String,
    /// `primary`, `replica`, …
    pub role: String,
    /// Where it is in the log, bytes.
    pub position: Option<u64>,
}

/// Where Patroni's keys begin.
pub fn prefix(cluster: &str) -> String {
    format!("/rolecast/{cluster}/")
}

impl Cluster {
    /// What the keys under [`prefix`] say.
    pub fn of(keys: &Keys, prefix: &str) -> Self {
        let text = |name: &str| {
            let value = keys.get(&format!("{prefix}{name}"))?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let value = |name: &str| text(name).and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let config = value("config").unwrap_or_default();
        let sync = value("sync").unwrap_or_default();
        let names = sync["sync_standby"].as_str().unwrap_or_default();
        let member = |(key, value): (&String, &Vec<u8>)| {
            let name = key.strip_prefix(prefix)?.strip_prefix("members/")?;
            Some((name.to_owned(), Member::of(&serde_json::from_slice(value).ok()?)))
        };
        Self {
            initialised: text("initialize"),
            leader: text("leader").filter(|leader| !leader.is_empty()),
            paused: config["pause"].as_bool().unwrap_or(false),
            members: keys.iter().filter_map(member).collect(),
            synchronous: names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            last_position: value("status").and_then(|status| status["optime"].as_u64()),
            synchronous_mode: config["synchronous_mode"].as_bool().unwrap_or(false),
            slots: value("status").map(|status| slots(&status)).unwrap_or_default(),
        }
    }

    /// Names of the members that stream from the leader.
    pub fn streaming(&self) -> Vec<String> {
        let streams = |(name, member): (&String, &Member)| (member.state == "streaming").then(|| name.clone());
        self.members.iter().filter_map(streams).collect()
    }
}

impl Member {
    /// A member's key in etcd, or what its API answers; both name the same things.
    pub(super) fn of(told: &Value) -> Self {
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let streams = told["replication_state"] == "streaming";
        let log = &told["xlog"];
        let position = [&told["xlog_location"], &log["location"], &log["replayed_location"]];
        Self {
            state: if streams { "streaming".to_owned() } else { text("state") },
            role: text("role"),
            position: position.iter().find_map(|value| value.as_u64()),
        }
    }
}

/// Slots that the leader writes down: by their positions, and those of members that it keeps for a while.
fn slots(status: &Value) -> BTreeSet<String> {
    let placed = status["slots"].as_object().into_iter().flat_map(|slots| slots.keys().cloned());
    let kept = status["retain_slots"].as_array().into_iter().flatten();
    placed.chain(kept.filter_map(|name| name.as_str().map(str::to_owned))).collect()
}

/// The name of a member's slot; a member is a label of a host name here.
pub fn slot(member: &str) -> String {
    member.replace('-', "_")
}

/// One member's API.
#[derive(Clone, Debug)]
pub struct Api<'a> {
    http: &'a Http,
    address: Ipv4Addr,
    password: Option<&'a Secret>,
}

impl<'a> Api<'a> {
    /// The member at `address`; `password` is wanted for changes only.
    pub fn at(http: &'a Http, address: Ipv4Addr, password: Option<&'a Secret>) -> Self {
        Self { http, address, password }
    }

    /// What the member says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn member(&self) -> Result<Member, Trouble> {
        // 503 only says that it is not the leader, or does not run: what matters is in the body.
        let reply = self.http.get(&self.url("patroni"), &[], PATIENCE)?;
        let told: Value =
            serde_json::from_slice(&reply.body).map_err(|error| Trouble(format!("Patroni's answer: {error}")))?;
        Ok(Member::of(&told))
    }

    /// Whether it is a primary that holds the leader lock: what HAProxy asks.
    pub fn leads(&self) -> bool {
        self.http.get(&self.url("primary"), &[], PATIENCE).is_ok_and(|reply| reply.status == 200)
    }

    /// Changes Patroni's configuration in etcd.
    ///
    /// # Errors
    /// When Patroni does not take it.
    pub fn configure(&self, change: &Value) -> Result<(), Trouble> {
        self.tell("PATCH", "config", change, Duration::from_secs(10))?.good("Patroni").map(drop)
    }

    /// Has the member throw away what it has and clone again; Patroni refuses that on a leader.
    ///
    /// # Errors
    /// When Patroni refuses.
    pub fn reinitialise(&self) -> Result<(), Trouble> {
        let wish = json!({ "force": false });
        self.tell("POST", "reinitialize", &wish, Duration::from_secs(15))?.good("Patroni").map(drop)
    }

    /// Hands the leader lock over to `candidate`, in good order; minutes may pass.
    ///
    /// # Errors
    /// When Patroni refuses; its reason is in the message.
    pub fn switchover(&self, leader: &str, candidate: &str) -> Result<String, Trouble> {
        let wish = json!({ "leader": leader, "candidate": candidate });
        let reply = self.tell("POST", "switchover", &wish, Duration::from_secs(120))?;
        let text = reply.text();
        reply.good("Patroni").map(|_| text)
    }

    /// Makes `candidate` the leader where there is none, or in spite of the one there is.
    ///
    /// # Errors
    /// When Patroni refuses; its reason is in the message.
    pub fn failover(&self, candidate: &str) -> Result<String, Trouble> {
        let reply = self.tell("POST", "failover", &json!({ "candidate": candidate }), Duration::from_secs(120))?;
        let text = reply.text();
        reply.good("Patroni").map(|_| text)
    }

    fn tell(&self, method: &str, what: &str, wish: &Value, limit: Duration) -> Result<Reply, Trouble> {
        let password = self.password.ok_or_else(|| Trouble("the ticket has no `patroni_rest_password`".to_owned()))?;
        let authorization = format!("Basic {}", STANDARD.encode(format!("patroni:{}", password.0)));
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        self.http.send(method, &self.url(what), &headers, wish.to_string().as_bytes(), limit)
    }

    fn url(&self, what: &str) -> String {
        format!("https://{}:8008/{what}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> Keys {
        pairs.iter().map(|(key, value)| (format!("/rolecast/lab/{key}"), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_cluster_is_read_from_its_keys() {
        let keys = keys(&[
            ("initialize", "7533104925573165001"),
            ("leader", "region-1"),
            ("config", r#"{"ttl":20,"pause":true,"synchronous_mode":true}"#),
            ("status", r#"{"optime":67109120,"slots":{"region_1":1},"retain_slots":["region_1","region_2"]}"#),
            ("sync", r#"{"leader":"region-1","sync_standby":"region-2"}"#),
            ("members/region-1", r#"{"state":"running","role":"primary","xlog_location":67109120}"#),
            (
                "members/region-2",
                r#"{"state":"running","role":"replica","xlog_location":67109000,"replication_state":"streaming"}"#,
            ),
        ]);
        let cluster = Cluster::of(&keys, &prefix("lab"));
        assert_eq!(cluster.initialised.as_deref(), Some("7533104925573165001"));
        assert_eq!((cluster.leader.as_deref(), cluster.paused), (Some("region-1"), true));
        assert_eq!(cluster.streaming(), ["region-2"]);
        assert_eq!(cluster.synchronous, ["region-2"]);
        assert_eq!(cluster.last_position, Some(67_109_120));
        assert_eq!(cluster.slots, ["region-1", "region-2"].map(slot).into());
        assert_eq!(cluster.members["region-1"].position, Some(67_109_120));
    }

    #[test]
    fn what_is_missing_or_broken_is_nothing() {
        assert_eq!(Cluster::of(&Keys::new(), &prefix("lab")), Cluster::default());
        let broken =
            keys(&[("leader", ""), ("config", "[1]"), ("sync", "{"), ("members/a", "nonsense"), ("members", "{}")]);
        assert_eq!(Cluster::of(&broken, &prefix("lab")), Cluster::default());
        let bootstrapping = Cluster::of(&keys(&[("initialize", "")]), &prefix("lab"));
        assert_eq!(bootstrapping.initialised.as_deref(), Some(""));
    }

    #[test]
    fn a_member_speaks_for_itself() {
        let told = json!({ "state": "running", "role": "replica", "replication_state": "streaming", "xlog": { "replayed_location": 5 } });
        assert_eq!(Member::of(&told), Member { state: "streaming".into(), role: "replica".into(), position: Some(5) });
        assert_eq!(Member::of(&json!([])), Member::default());
    }
}
