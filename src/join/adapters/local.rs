//! This machine: its name, its address, its clock and its state.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::{certificate, http};
use crate::join::world::Trouble;
use crate::sys::Program;
use crate::sys::arp::Probe;

/// Where the join keeps what it must not forget.
pub const STATE: &str = "/var/lib/rolecast";

/// How long another machine has to answer for our address.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long nobody's answer is believed.
const BELIEVED: Duration = Duration::from_secs(30);

/// A card and its addresses, as `ip -json address` lists it (ip-address(8)).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Card {
    ifindex: u32,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Address {
    #[serde(default)]
    local: Option<String>,
}

/// Whether this machine has its address, and whether another one has it too.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    last: Option<(Instant, Option<String>)>,
}

impl Neighbours {
    /// Whether a card carries `address`, and who else answers for it.
    ///
    /// # Errors
    /// When `ip` cannot be asked.
    pub fn look(&mut self, address: Ipv4Addr) -> Result<(bool, Option<String>), Trouble> {
        let listed = Program::new("ip", ["-json", "address"]).run().map_err(|error| Trouble(error.to_string()))?;
        let Some(card) = carrier(&listed, address)? else {
            self.last = None;
            return Ok((false, None));
        };
        if let Some((when, None)) = &self.last
            && when.elapsed() < BELIEVED
        {
            return Ok((true, None));
        }
        let own = card.address.as_deref().and_then(link_address);
        let other = match own {
            // What cannot be asked (no such right in a container) is not a conflict.
            Some(own) => Probe { interface: card.ifindex, own, address }.ask(PATIENCE).unwrap_or(None),
            None => None,
        };
        let other = other.map(|bytes| bytes.map(|byte| format!("{byte:02x}")).join(":"));
        self.last = Some((Instant::now(), other.clone()));
        Ok((true, other))
    }
}

/// The card that carries `address`.
fn carrier(listed: &str, address: Ipv4Addr) -> Result<Option<Card>, Trouble> {
    let cards: Vec<Card> =
        serde_json::from_str(listed).map_err(|error| Trouble(format!("`ip -json address`: {error}")))?;
    let wanted = address.to_string();
    let carries = |card: &Card| card.addr_info.iter().any(|one| one.local.as_deref() == Some(wanted.as_str()));
    Ok(cards.into_iter().find(carries))
}

/// Six octets of `aa:bb:cc:dd:ee:ff`.
fn link_address(text: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    octets?.try_into().ok()
}

/// The host name.
pub fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// Seconds since the Epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether the clock follows a source. Where this machine may not set its clock (a container), it is its host's.
pub fn synchronised() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !may_set_the_clock(&status) {
        return true;
    }
    Program::new("chronyc", ["-c", "tracking"])
        .limit(Duration::from_secs(2))
        .run()
        .is_ok_and(|tracking| follows_a_source(&tracking))
}

/// CAP_SYS_TIME in the bounding set, as proc_pid_status(5) shows it.
fn may_set_the_clock(status: &str) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_none_or(|set| set >> 25 & 1 == 1)
}

/// The last field of `chronyc -c tracking` is the leap status (chronyc(1)).
fn follows_a_source(tracking: &str) -> bool {
    let fields: Vec<&str> = tracking.trim().split(',').collect();
    fields.len() >= 14 && fields.last().is_some_and(|leap| !leap.eq_ignore_ascii_case("Not synchronised"))
}

/// Whether what is kept in [`STATE`] is gone at the next boot.
pub fn state_in_memory() -> bool {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    // Only a sealed root has its changes in memory; a container's overlay is its host's affair.
    let sealed = text("/proc/cmdline").split_whitespace().any(|word| word.starts_with("roothash="));
    let container = Path::new("/run/systemd/container").exists();
    is_memory(&text("/proc/self/mountinfo"), STATE, sealed && !container)
}

/// Whether `path` is on a file system in memory; an overlay is one where the root is sealed. proc_pid_mountinfo(5).
fn is_memory(mounts: &str, path: &str, sealed: bool) -> bool {
    let of = |line: &str| {
        let (place, source) = line.split_once(" - ")?;
        let point = place.split(' ').nth(4)?;
        let under = Path::new(path).starts_with(point);
        under.then(|| (point.len(), source.split(' ').next().unwrap_or_default().to_owned()))
    };
    // Of two mounts on one point the later one is seen.
    let kind = mounts.lines().filter_map(of).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind).unwrap_or_default();
    matches!(kind.as_str(), "tmpfs" | "ramfs") || (sealed && kind == "overlay")
}

/// Why state cannot be written, by trying: the record needs far less than what is tried.
pub fn state_trouble() -> Option<String> {
    let path = Path::new(STATE).join(".try");
    let tried = fs::File::create(&path).and_then(|mut file| {
        file.write_all(&[0x55; 64 << 10])?;
        file.sync_data()
    });
    let _ = fs::remove_file(&path);
    let error = tried.err()?;
    Some(match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => "the state partition is full".to_owned(),
        std::io::ErrorKind::ReadOnlyFilesystem => "the state partition is read-only".to_owned(),
        _ => format!("`{STATE}` cannot be written: {error}"),
    })
}

/// Days until this machine's certificate ends, as seen at `now`.
pub fn certificate_days(now: u64) -> Option<i64> {
    let chain = http::certificates(http::CERTIFICATE).ok()?;
    let end = certificate::not_after(chain.first()?)?;
    Some((end - i64::try_from(now).ok()?).div_euclid(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_with_the_address_is_found() {
        let listed = r#"[{"ifindex":1,"ifname":"lo","addr_info":[{"local":"127.0.0.1"}]},{"deleted":true,"ifindex":9},
            {"ifindex":2,"ifname":"host0","address":"52:54:00:77:00:11","addr_info":[{"family":"inet","local":"10.77.0.11"},{}]}]"#;
        let card = carrier(listed, Ipv4Addr::new(10, 77, 0, 11)).unwrap().unwrap();
        assert_eq!(
            (card.ifindex, card.address.as_deref().and_then(link_address)),
            (2, Some([0x52, 0x54, 0, 0x77, 0, 0x11]))
        );
        assert_eq!(carrier(listed, Ipv4Addr::new(10, 77, 0, 12)).unwrap(), None);
        assert!(carrier("{", Ipv4Addr::LOCALHOST).is_err());
        assert_eq!(link_address("52:54:00:77:00"), None);
        assert_eq!(link_address("52:54:00:77:00:xx"), None);
    }

    #[test]
    fn what_is_in_memory_is_known() {
        let mounts = "22 1 0:20 / / rw - overlay overlay rw\n30 22 0:30 / /var/lib/rolecast rw - ext4 /dev/vda5 rw\n";
        assert!(!is_memory(mounts, STATE, true));
        let root = mounts.lines().next().unwrap();
        assert!(is_memory(root, STATE, true));
        assert!(!is_memory(root, STATE, false));
        assert!(is_memory("1 1 0:1 / / rw - ext4 a rw\n2 1 0:2 / /var/lib rw - tmpfs t rw", STATE, false));
        assert!(!is_memory("2 1 0:2 / /var/lib/role rw - tmpfs t rw", STATE, false));
        assert!(!is_memory("nonsense", STATE, true));
    }

    #[test]
    fn a_clock_that_follows_a_source_is_known() {
        let line = |leap: &str| format!("C0000201,192.0.2.1,3,1.0,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,64.0,{leap}\n");
        assert!(follows_a_source(&line("Normal")));
        assert!(!follows_a_source(&line("Not synchronised")));
        assert!(!follows_a_source("506 Cannot talk to daemon\n"));
        assert!(!may_set_the_clock("CapBnd:\t00000000fdecbfff\n"));
        assert!(may_set_the_clock("CapBnd:\t000001ffffffffff\n"));
        assert!(may_set_the_clock(""));
    }
}
