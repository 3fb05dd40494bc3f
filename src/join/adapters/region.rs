//! MAAS's region on this machine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::http::{self, Http};
use super::units;
use crate::join::world::{Region, Trouble};
use crate::ticket::Ticket;

/// How long a region may take: it asks its database.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Where regions say how racks reach them: `/MAAS/rpc/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Loops {
    /// By process, address and port of each.
    #[serde(default)]
    eventloops: Option<BTreeMap<String, Vec<(String, u16)>>>,
}

impl Loops {
    /// Asks the region at `base`, `http://address:port`.
    ///
    /// # Errors
    /// When no region answers there.
    pub fn ask(http: &Http, base: &str) -> Result<Self, Trouble> {
        Self::parse(&http.get(&format!("{base}/MAAS/rpc/"), &[], PATIENCE)?.good(base)?)
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, Trouble> {
        http::object(body, "the region's")
    }

    /// The endpoints of all processes.
    pub fn endpoints(&self) -> Vec<(Ipv4Addr, u16)> {
        let all = self.eventloops.iter().flatten().flat_map(|(_, endpoints)| endpoints);
        // Machines are known by IPv4 addresses here; a peer does not make this one connect without end.
        all.filter_map(|(address, port)| Some((address.parse().ok()?, *port))).take(256).collect()
    }
}

/// [`crate::join::world::Question::Region`]; `controllers` is the API's list, where it could be asked for.
pub fn look(http: &Http, ticket: &Ticket, unit: Option<&str>, controllers: Option<&Value>) -> Region {
    let healthy = Loops::ask(http, "http://127.0.0.1:5240").is_ok_and(|loops| !loops.endpoints().is_empty());
    let journal = || unit.and_then(|unit| units::journal(unit).ok());
    Region {
        healthy,
        trouble: if healthy { None } else { journal().and_then(|text| complaint(&text)) },
        merged_with: controllers.and_then(|list| merged_with(list, ticket)),
    }
}

/// The last line of a journal that complains.
pub fn complaint(journal: &str) -> Option<String> {
    let complains = |line: &&str| {
        let line = line.to_lowercase();
        ["error", "fail", "secret", "refuse", "denied", "fatal", "mismatch"].iter().any(|word| line.contains(word))
    };
    journal.lines().rev().map(str::trim).find(complains).map(|line| line.chars().take(300).collect())
}

/// Controllers by host name, with their IPv4 addresses, as the API lists them.
pub fn addresses(controllers: &Value) -> BTreeMap<String, Vec<Ipv4Addr>> {
    let mut found: BTreeMap<String, Vec<Ipv4Addr>> = BTreeMap::new();
    // What a peer is told has bounds.
    for controller in controllers.as_array().into_iter().flatten().take(1000) {
        if let Some(name) = controller["hostname"].as_str() {
            found.entry(name.to_owned()).or_default().extend(ipv4(controller));
        }
    }
    found
}

fn ipv4(controller: &Value) -> Vec<Ipv4Addr> {
    let listed = controller["ip_addresses"].as_array().into_iter().flatten();
    listed.filter_map(|address| address.as_str()?.parse().ok()).take(64).collect()
}

/// The one of `addresses` in the machines' own network that neither this machine nor the cluster as a whole has.
pub fn foreign(addresses: &[Ipv4Addr], ticket: &Ticket) -> Option<Ipv4Addr> {
    let own = ticket.own()?.address;
    let mask = u32::MAX.checked_shl(u32::from(32 - ticket.cluster.prefix.min(32))).unwrap_or(0);
    let near = |address: &Ipv4Addr| u32::from(*address) & mask == u32::from(own) & mask;
    addresses.iter().copied().find(|one| near(one) && *one != own && *one != ticket.cluster.vip)
}

/// The machine of the cluster that MAAS takes for this one: it has this one's name and the other's address.
fn merged_with(controllers: &Value, ticket: &Ticket) -> Option<String> {
    // A network may hold machines that are not in the ticket: two addresses in the machines' own network say the same.
    let other = foreign(addresses(controllers).get(&ticket.node)?, ticket)?;
    let name = ticket.cluster.nodes.iter().find(|node| node.address == other).map(|node| node.name.clone());
    Some(name.unwrap_or_else(|| other.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::testing::ticket;
    use serde_json::json;

    #[test]
    fn event_loops_are_understood() {
        let body = br#"{"eventloops":{"a:pid=1":[["10.0.0.1",5250],["fe80::1",5250]],"b:pid=2":[["10.0.0.2",5251]]}}"#;
        let endpoints = Loops::parse(body).unwrap().endpoints();
        assert_eq!(endpoints, [(Ipv4Addr::new(10, 0, 0, 1), 5250), (Ipv4Addr::new(10, 0, 0, 2), 5251)]);
        for starting in [&br#"{"eventloops":null}"#[..], br#"{"eventloops":{}}"#, b"{}"] {
            assert!(Loops::parse(starting).unwrap().endpoints().is_empty());
        }
        for hostile in [&b"[]"[..], br#"{"eventloops":{"a":[["x",70000]]}}"#, b"MAAS is starting"] {
            assert!(Loops::parse(hostile).is_err());
        }
    }

    #[test]
    fn the_last_complaint_is_told() {
        let journal = "starting\nAssertionError: secrets differ\nretrying in 3 s\n";
        assert_eq!(complaint(journal).as_deref(), Some("AssertionError: secrets differ"));
        assert_eq!(complaint("all is well\n"), None);
    }

    #[test]
    fn a_machine_that_shares_our_name_is_found() {
        let ticket = ticket("region-1");
        let list = |addresses: &[&str]| json!([{ "hostname": "region-1", "ip_addresses": addresses }]);
        assert_eq!(merged_with(&list(&["10.77.0.11", "10.77.0.10", "192.168.1.1"]), &ticket), None);
        assert_eq!(merged_with(&list(&["10.77.0.11", "10.77.0.12"]), &ticket).as_deref(), Some("region-2"));
        assert_eq!(merged_with(&list(&["10.77.0.11", "10.77.0.99"]), &ticket).as_deref(), Some("10.77.0.99"));
        assert_eq!(merged_with(&json!({ "hostname": 1 }), &ticket), None);
        assert_eq!(merged_with(&json!([{ "hostname": "region-1", "ip_addresses": "x" }]), &ticket), None);
    }
}
