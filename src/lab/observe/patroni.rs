//! Whether a machine holds the leader lock, asked as HAProxy asks it: `/primary` of Patroni's own interface.

use std::net::Ipv4Addr;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::TlsConfig;

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_millis(700);

/// Patroni of one machine, asked by a thread inside that machine's network namespace.
#[derive(Debug)]
pub struct Endpoint {
    agent: Agent,
    url: String,
}

impl Endpoint {
    /// The machine with this address.
    pub fn new(address: Ipv4Addr) -> Self {
        // Asked over the machine's own loopback, where no one stands between; its certificate is the checks' to prove.
        let tls = TlsConfig::builder().disable_verification(true).build();
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(LIMIT)).tls_config(tls);
        Self { agent: config.build().into(), url: format!("https://{address}:8008/primary") }
    }

    /// Whether it answers 200. No answer is no.
    pub fn leads(&self) -> bool {
        self.agent.get(&self.url).call().is_ok_and(|answer| answer.status() == 200)
    }
}
