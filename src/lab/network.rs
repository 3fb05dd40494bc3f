//! The private layer 2 network of a lab: a namespace with bridges, and a port for each machine and each client.
//!
//! Owns ports, segments and the namespaces of clients. A cut never takes a port's carrier away: a machine that is cut
//! off sees a network that is silent, as behind a dead switch, not a cable that was pulled. Nothing here has a route to
//! the host. References: ip-link(8), ip-netns(8), bridge(8).

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::report::{Diagnostic, Kind};
use crate::sys::namespace;

use super::ledger::{Ledger, Port};
use super::tools;

/// The segment where every port begins.
const WHOLE: u32 = 0;

/// The network.
#[derive(Clone, Debug)]
pub struct Network {
    ledger: Arc<Ledger>,
}

impl Network {
    /// The network of a lab, made or not.
    pub(super) fn of(ledger: &Arc<Ledger>) -> Self {
        Self { ledger: Arc::clone(ledger) }
    }

    /// Makes it, without any port.
    pub(super) fn make(&self) -> Result<(), Diagnostic> {
        let switch = self.switch();
        tools::run("ip", &["netns", "add", &switch])?;
        self.configure("link set lo up\n")?;
        self.make_segment(WHOLE)
    }

    /// Plugs in a machine that is a container, in a namespace of its own, fresh: whatever the last boot left in it,
    /// addresses above all, is gone. Gives the namespace's name.
    pub(super) fn plug_container(&self, node: &str) -> Result<String, Diagnostic> {
        let mac = self.mac(node)?;
        let inside = self.ledger.read().node_namespace(node);
        self.unplug(node)?;
        self.plug_pair(node, &inside, &format!("address {mac}"))?;
        Ok(inside)
    }

    /// Plugs in a machine that QEMU runs inside the switch's namespace. Gives the tap's name.
    pub(super) fn plug_tap(&self, node: &str) -> Result<String, Diagnostic> {
        self.unplug(node)?;
        let port = self.port(node)?;
        let name = interface(&port);
        self.configure(&format!("tuntap add dev {name} mode tap\n{}", join(&port)))?;
        self.isolate(&port)?;
        Ok(name)
    }

    /// Takes a machine's port away, with everything on it.
    pub(super) fn unplug(&self, node: &str) -> Result<(), Diagnostic> {
        let inside = self.ledger.read().node_namespace(node);
        // The interface first: a namespace may outlive its name for as long as something is inside.
        let port = self.port(node)?;
        if self.has(&interface(&port))? {
            self.configure(&format!("link del {}\n", interface(&port)))?;
        }
        remove_namespace(&inside)
    }

    /// Puts a client on the network, in a namespace of its own, with an address. Its threads move in with
    /// [`Network::enter`].
    ///
    /// # Errors
    /// When the name is taken, or the namespace cannot be made.
    pub fn add_station(&self, name: &str, address: Ipv4Addr) -> Result<(), Diagnostic> {
        let (inside, prefix) = self.ledger.change(|written| {
            if written.ports.contains_key(name) {
                return Err(Diagnostic::error(Kind::Internal, format!("the network has a port `{name}` already")));
            }
            let number = written.ports.values().map(|port| port.number).max().unwrap_or_default() + 1;
            written.ports.insert(name.to_owned(), Port { number, segment: WHOLE, isolated: false });
            written.stations.insert(name.to_owned(), address);
            Ok((written.station_namespace(name), written.prefix))
        })??;
        self.plug_pair(name, &inside, "")?;
        let up = format!("addr add {address}/{prefix} dev eth0\nlink set eth0 up\n");
        tools::tell("ip", &["-n", &inside, "-batch", "-"], &up).map(drop)
    }

    /// Takes a client away. Sockets that its threads still have open keep what they hold until they are closed.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_station(&self, name: &str) -> Result<(), Diagnostic> {
        let inside = self.ledger.read().station_namespace(name);
        let port = self.port(name)?;
        if self.has(&interface(&port))? {
            self.configure(&format!("link del {}\n", interface(&port)))?;
        }
        remove_namespace(&inside)?;
        self.ledger.change(|written| {
            written.ports.remove(name);
            written.stations.remove(name);
        })
    }

    /// The name of a client's namespace, as ip-netns(8) takes it.
    pub fn station_namespace(&self, name: &str) -> String {
        self.ledger.read().station_namespace(name)
    }

    /// Moves the calling thread into a client's namespace, for good: sockets that it makes are the client's.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn enter(&self, station: &str) -> Result<(), Diagnostic> {
        namespace::enter(&self.station_namespace(station)).map_err(Diagnostic::from)
    }

    /// Cuts a machine or client off from everyone.
    ///
    /// # Errors
    /// When there is no such port, or the kernel refuses.
    pub fn cut(&self, name: &str) -> Result<(), Diagnostic> {
        // A segment of its own, numbered as no group is.
        let number = self.port(name)?.number;
        self.move_ports(&[(name, 1000 + number)])
    }

    /// Puts a machine or client back among the others, undoing [`Network::cut`], [`Network::partition`] and
    /// [`Network::sever`] for it.
    ///
    /// # Errors
    /// As [`Network::cut`].
    pub fn heal(&self, name: &str) -> Result<(), Diagnostic> {
        self.mark(&[name], false)?;
        self.move_ports(&[(name, WHOLE)])
    }

    /// Splits the network: each group hears itself and nobody else. Whoever is in no group stays with the first one.
    ///
    /// # Errors
    /// As [`Network::cut`].
    pub fn partition(&self, groups: &[&[&str]]) -> Result<(), Diagnostic> {
        let everyone: Vec<String> = self.ledger.read().ports.keys().cloned().collect();
        let segment_of = |name: &str| {
            let group = groups.iter().position(|group| group.contains(&name)).unwrap_or_default();
            u32::try_from(group).unwrap_or(WHOLE)
        };
        for name in groups.iter().flat_map(|group| group.iter()) {
            self.port(name)?;
        }
        let moves: Vec<(&str, u32)> = everyone.iter().map(|name| (name.as_str(), segment_of(name))).collect();
        self.move_ports(&moves)
    }

    /// Keeps those named from hearing one another, while everyone else still hears each of them: a cut that is not a
    /// partition.
    ///
    /// # Errors
    /// As [`Network::cut`].
    pub fn sever(&self, names: &[&str]) -> Result<(), Diagnostic> {
        self.mark(names, true)
    }

    /// Undoes every cut.
    ///
    /// # Errors
    /// As [`Network::cut`].
    pub fn heal_all(&self) -> Result<(), Diagnostic> {
        let everyone: Vec<String> = self.ledger.read().ports.keys().cloned().collect();
        let names: Vec<&str> = everyone.iter().map(String::as_str).collect();
        self.mark(&names, false)?;
        self.move_ports(&names.iter().map(|name| (*name, WHOLE)).collect::<Vec<_>>())
    }

    /// The bridge that a port is plugged into: the scope of its link-local address.
    pub(super) fn bridge_of(&self, name: &str) -> Result<String, Diagnostic> {
        Ok(bridge(self.port(name)?.segment))
    }

    /// The namespace of the bridges.
    pub(super) fn switch(&self) -> String {
        self.ledger.read().switch_namespace()
    }

    fn plug_pair(&self, name: &str, inside: &str, peer: &str) -> Result<(), Diagnostic> {
        let port = self.port(name)?;
        let outer = interface(&port);
        tools::run("ip", &["netns", "add", inside])?;
        tools::run("ip", &["-n", inside, "link", "set", "lo", "up"])?;
        let pair = format!("link add {outer} type veth peer name eth0 netns {inside} {peer}\n");
        self.configure(&(pair + &join(&port)))?;
        self.isolate(&port)
    }

    /// Moves ports, in the ledger first: a machine that is off is plugged into its segment when it starts.
    fn move_ports(&self, moves: &[(&str, u32)]) -> Result<(), Diagnostic> {
        for (name, segment) in moves {
            let before = self.port(name)?;
            if before.segment == *segment {
                continue;
            }
            self.make_segment(*segment)?;
            let port = Port { segment: *segment, ..before };
            self.ledger.change(|written| written.ports.insert((*name).to_owned(), port.clone()))?;
            if self.has(&interface(&port))? {
                self.configure(&format!("link set {} master {}\n", interface(&port), bridge(*segment)))?;
                self.isolate(&port)?;
            }
        }
        Ok(())
    }

    fn mark(&self, names: &[&str], isolated: bool) -> Result<(), Diagnostic> {
        for name in names {
            let port = Port { isolated, ..self.port(name)? };
            self.ledger.change(|written| written.ports.insert((*name).to_owned(), port.clone()))?;
            if self.has(&interface(&port))? {
                self.isolate(&port)?;
            }
        }
        Ok(())
    }

    /// Gives the kernel the port's mark; leaving a bridge loses it.
    fn isolate(&self, port: &Port) -> Result<(), Diagnostic> {
        let state = if port.isolated { "on" } else { "off" };
        let switch = self.switch();
        tools::run("bridge", &["-n", &switch, "link", "set", "dev", &interface(port), "isolated", state]).map(drop)
    }

    /// Makes the bridge of a segment unless it is there. It learns at once, and floods what it does not know.
    fn make_segment(&self, segment: u32) -> Result<(), Diagnostic> {
        let name = bridge(segment);
        if self.has(&name)? {
            return Ok(());
        }
        self.configure(&format!(
            "link add {name} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\nlink set {name} up\n"
        ))
    }

    fn has(&self, interface: &str) -> Result<bool, Diagnostic> {
        let switch = self.switch();
        tools::ask("ip", &["-n", &switch, "link", "show", "dev", interface])
    }

    fn configure(&self, batch: &str) -> Result<(), Diagnostic> {
        tools::tell("ip", &["-n", &self.switch(), "-batch", "-"], batch).map(drop)
    }

    fn port(&self, name: &str) -> Result<Port, Diagnostic> {
        self.ledger
            .read()
            .ports
            .get(name)
            .cloned()
            .ok_or_else(|| Diagnostic::error(Kind::Usage, format!("the lab's network has no port `{name}`")))
    }

    fn mac(&self, node: &str) -> Result<String, Diagnostic> {
        let written = self.ledger.read();
        let found = written.nodes.iter().find(|known| known.identity.name == node);
        found
            .map(|known| known.identity.mac.clone())
            .ok_or_else(|| Diagnostic::error(Kind::Usage, format!("the lab has no machine `{node}`")))
    }
}

/// Removes a namespace's name, when it is there.
pub(super) fn remove_namespace(name: &str) -> Result<(), Diagnostic> {
    match namespace::path(name).exists() {
        true => tools::run("ip", &["netns", "del", name]).map(drop),
        false => Ok(()),
    }
}

/// Plugs the port into its segment's bridge.
fn join(port: &Port) -> String {
    let name = interface(port);
    format!("link set {name} master {}\nlink set {name} up\n", bridge(port.segment))
}

fn interface(port: &Port) -> String {
    format!("port{}", port.number)
}

fn bridge(segment: u32) -> String {
    format!("lan{segment}")
}
