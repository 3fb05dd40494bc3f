//! All that a peer can make this machine read, as one function of its bytes: what the fuzzer calls, and the replay of
//! its corpora.

use std::collections::BTreeMap;

use serde_json::Value;

use super::patroni::{self, Cluster};
use super::region::Loops;
use super::{certificate, etcd, peers};
use crate::join::world::{EtcdRecord, Says};

/// Reads `bytes` as every answer and request that comes from a peer: etcd's gateway, Patroni, MAAS's regions, the
/// listener of the join and a certificate. Reading is total: it may refuse, and it ends.
pub fn read(bytes: &[u8]) {
    if let Ok(keys) = etcd::keys_in(bytes) {
        let _ = Cluster::of(&keys, &patroni::prefix("lab")).streaming();
    }
    let _ = etcd::members_in(bytes);
    let _ = etcd::leads_in(bytes);
    assert!(etcd::refusal(bytes).chars().count() <= 300, "a refusal is cut to what a person reads");
    if let Ok(told) = serde_json::from_slice::<Value>(bytes) {
        let _ = patroni::Member::of(&told);
    }
    if let Ok(loops) = Loops::parse(bytes) {
        let _ = loops.endpoints();
    }
    let says = || Says {
        etcd: EtcdRecord::Never,
        etcd_data: false,
        database: false,
        generation: 1,
        secrets_generation: 1,
        version: "1".to_owned(),
        racks: BTreeMap::new(),
    };
    if peers::ended(bytes) {
        assert!(peers::response(bytes, &says).starts_with("HTTP/1.1 "), "a request has an answer");
    }
    let _ = peers::understood(bytes);
    let _ = certificate::not_after(bytes);
}
