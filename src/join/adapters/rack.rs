//! MAAS's rack on this machine, and the regions that it can reach.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::http::Http;
use super::packaging::is_snap;
use super::region::Loops;
use super::{maas, units};
use crate::join::tables::{Maas, patience};
use crate::join::world::{Rack, Trouble};
use crate::sys::Program;
use crate::ticket::Ticket;

/// How long an endpoint has to take a connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// [`crate::join::world::Question::Rack`].
///
/// # Errors
/// When the journal cannot be read.
pub fn look(http: &Http, ticket: &Ticket, table: &Maas) -> Result<Rack, Trouble> {
    let loops = places(ticket).iter().find_map(|base| Loops::ask(http, base).ok()).unwrap_or_default();
    let endpoints = loops.endpoints();
    let journal = match maas::controller(&table.units.rack, "rackd") {
        Some(unit) => units::journal(unit)?,
        None => String::new(),
    };
    let (registered, refused) = verdict(&journal);
    Ok(Rack {
        region_answers: !endpoints.is_empty(),
        unreachable: unreachable(&endpoints),
        has_identity: has_text(&table.paths.identity),
        configured: configured(table, ticket),
        registered,
        refused,
    })
}

/// Where regions answer: the virtual address first.
fn places(ticket: &Ticket) -> Vec<String> {
    let regions = ticket.cluster.regions().map(|node| format!("http://{}:5240", node.address));
    [format!("http://{}", ticket.cluster.vip)].into_iter().chain(regions).collect()
}

/// Whether a region has accepted this rack, and whether one has refused it, whichever came last.
fn verdict(journal: &str) -> (bool, bool) {
    let last = journal.lines().rev().find_map(|line| {
        let accepted = line.contains("registered (via");
        let refused = line.contains("FAILED authentication");
        (accepted || refused).then_some((accepted, refused))
    });
    last.unwrap_or_default()
}

/// The endpoints that take no connection, all tried at once.
fn unreachable(endpoints: &[(Ipv4Addr, u16)]) -> Vec<String> {
    thread::scope(|scope| {
        let tries: Vec<_> = endpoints
            .iter()
            .map(|(address, port)| {
                let place = SocketAddr::from((*address, *port));
                (place, scope.spawn(move || TcpStream::connect_timeout(&place, PATIENCE * patience()).is_ok()))
            })
            .collect();
        let failed = tries
            .into_iter()
            .filter_map(|(place, thread)| (!thread.join().unwrap_or(false)).then(|| place.to_string()));
        failed.collect()
    })
}

fn has_text(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| !text.trim().is_empty())
}

/// Whether URL and secret on disk are the ticket's.
fn configured(table: &Maas, ticket: &Ticket) -> bool {
    let url = fs::read_to_string(&table.paths.rackd).is_ok_and(|text| names_url(&text, &url(ticket)));
    let wanted = ticket.secrets.get("maas_secret").map(|secret| secret.0.trim());
    let secret = fs::read_to_string(&table.paths.secret).ok();
    url && wanted.is_some() && secret.as_deref().map(str::trim) == wanted
}

/// The URL by which racks know the regions.
fn url(ticket: &Ticket) -> String {
    format!("http://{}/MAAS", ticket.cluster.vip)
}

/// Whether `maas_url` of a rackd.conf, a string or a list, begins with `url`.
fn names_url(configuration: &str, url: &str) -> bool {
    let mut lines = configuration.lines().map(|line| line.split(" #").next().unwrap_or_default().trim_end());
    let Some(first) = lines.find_map(|line| line.strip_prefix("maas_url:")) else { return false };
    let bare = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    let flow = first.trim().trim_start_matches('[').split([',', ']']).next().unwrap_or_default();
    let value = match bare(flow) {
        value if !value.is_empty() => value,
        _ => lines.next().and_then(|line| line.trim().strip_prefix('-')).map(bare).unwrap_or_default(),
    };
    value == url
}

/// Registers this rack. The command drops its identity and replaces its list of URLs by one: the list is put back, and what
/// runs is restarted with it. It also enables the rack's unit, which would start it at the next boot before its turn, where
/// `/etc` is kept: that is taken back. A snap's unit is snapd's.
///
/// # Errors
/// When the command fails.
pub fn register(table: &Maas, ticket: &Ticket, command: Program) -> Result<(), Trouble> {
    let before = fs::read(&table.paths.rackd).ok();
    command.run().map_err(|error| Trouble(error.to_string()))?;
    let after = fs::read(&table.paths.rackd).ok();
    if let Some(before) = before
        && after.as_ref() != Some(&before)
        && names_url(&String::from_utf8_lossy(&before), &url(ticket))
    {
        maas::put(&table.paths.rackd, &before)?;
        units::restart(&table.units.rack)?;
    }
    if is_snap(table) { Ok(()) } else { units::disable(&table.units.rack) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_verdict_counts() {
        let accepted = "Event-loop a: authenticated\nRack controller 'x' registered (via a:pid=1) with MAAS\n";
        let refused = "Event-loop a FAILED authentication; dropping connection.\n";
        assert_eq!(verdict(accepted), (true, false));
        assert_eq!(verdict(refused), (false, true));
        assert_eq!(verdict(&format!("{refused}{accepted}")), (true, false));
        assert_eq!(verdict(&format!("{accepted}{refused}")), (false, true));
        assert_eq!(verdict(""), (false, false));
    }

    #[test]
    fn the_first_url_is_the_one_that_counts() {
        let url = "http://10.0.0.9/MAAS";
        for configured in [
            "maas_url: http://10.0.0.9/MAAS\n",
            "maas_url: 'http://10.0.0.9/MAAS' # written by MAAS\n",
            "# a comment\nmaas_url:\n  - http://10.0.0.9/MAAS\n  - http://10.0.0.1:5240/MAAS\n",
            "debug: true\nmaas_url: [\"http://10.0.0.9/MAAS\", http://10.0.0.1/MAAS]\n",
        ] {
            assert!(names_url(configured, url), "{configured}");
        }
        for other in
            ["", "maas_url:\n", "maas_url:\n- http://10.0.0.1/MAAS\n", "maas_url: http://10.0.0.9/MAAS2\n", "\0"]
        {
            assert!(!names_url(other, url), "{other}");
        }
    }

    #[test]
    fn a_port_that_nobody_has_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().port();
        let endpoints = [(Ipv4Addr::LOCALHOST, open), (Ipv4Addr::LOCALHOST, 1)];
        assert_eq!(unreachable(&endpoints), ["127.0.0.1:1"]);
    }
}
