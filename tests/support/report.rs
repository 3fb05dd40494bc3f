//! What a booted system says of itself: a unit that looks around once, and the reading of its findings.
//!
//! The same look is taken in a virtual machine (where the unit travels as a credential) and in a container (where the
//! script is run from outside). Findings are sections of text, each opened by a line `@@ NAME`; the last is `@@ end`.

use std::collections::BTreeMap;

use crate::support::machine::base64;

/// The look every system gets, a script for `/bin/sh` with its findings on standard output. Tools: util-linux and systemd only, which are in every image.
pub const LOOK: &str = r#"
section() { echo "@@ $1"; }
section state; systemctl is-system-running --wait
section failed; systemctl --failed --plain --no-legend --no-pager
section active; systemctl list-units --state=active --plain --no-legend --no-pager
section cmdline; cat /proc/cmdline
section mounts; findmnt --raw --noheadings --output TARGET,FSTYPE,SOURCE,OPTIONS
section verity; for dm in /sys/block/dm-*; do [ -e "$dm" ] && echo "$(cat $dm/dm/name) $(cat $dm/dm/uuid) $(cat $dm/ro) $(ls $dm/slaves | tr '\n' ' ')"; done
section partitions; lsblk --pairs --bytes --output NAME,TYPE,PARTLABEL,PARTUUID,FSTYPE,SIZE
section secure-boot; od --address-radix=n --format=u1 --skip-bytes=4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c 2>/dev/null
section pcr11; cat /sys/class/tpm/tpm0/pcr-sha256/11 2>/dev/null
section loader; ls /boot/EFI/Linux /efi/EFI/Linux 2>/dev/null
section memory; cat /proc/meminfo
section uptime; cat /proc/uptime
section time; systemd-analyze time 2>&1
section identity; cat /etc/machine-id /proc/sys/kernel/hostname
section failures; systemctl --failed --plain --no-legend --no-pager | while read unit rest; do systemctl status --no-pager --lines=20 "$unit"; done
section errors; journalctl --boot --priority=err --no-pager --quiet --output=cat
section release; cat /etc/os-release
section end
"#;

/// A system's findings.
#[derive(Debug)]
pub struct Report {
    sections: BTreeMap<String, String>,
    /// From power-on to the check's start, which is ordered after `multi-user.target`.
    pub seconds_to_boot: f64,
    /// User and system seconds of the emulator (or of the container's control group) at that moment.
    pub processor_seconds: f64,
    /// Starts that were repeated because no kernel spoke.
    pub restarts: u32,
    /// Everything on the console.
    pub console: String,
}

impl Report {
    /// The credentials that make a machine look at itself, write to `terminal` and power off: name and text of each.
    /// `look` is the script: [`LOOK`], or another that prints sections of which the first is `state` and the last `end`.
    pub fn units(terminal: &str, look: &str) -> [(&'static str, String); 2] {
        let script = format!("exec >{terminal} 2>&1\n{look}sync; systemctl poweroff\n");
        // Not `oneshot`: the boot's own queue would wait for it, and it waits for the end of the boot's queue.
        let unit = format!(
            "[Unit]\nDescription=look around and power off\nDefaultDependencies=no\nAfter=multi-user.target\n\
             [Service]\nType=simple\n\
             ExecStart=/bin/sh -c 'echo {} | base64 -d >/run/look.sh; exec /bin/sh /run/look.sh'\n",
            base64(script.as_bytes())
        );
        [
            ("systemd.extra-unit.rolecast-look.service", unit),
            ("systemd.unit-dropin.multi-user.target", "[Unit]\nWants=rolecast-look.service\n".to_owned()),
        ]
    }

    /// Reads findings; none while they are not complete.
    pub fn parse(text: &str) -> Option<Self> {
        let mut sections = BTreeMap::new();
        let mut name = None;
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            if let Some(next) = line.strip_prefix("@@ ") {
                name = Some(next.to_owned());
                sections.entry(next.to_owned()).or_insert_with(String::new);
            } else if let Some(text) = name.as_ref().and_then(|name| sections.get_mut(name)) {
                text.push_str(line);
                text.push('\n');
            }
        }
        let whole = sections.contains_key("end");
        whole.then(|| Self {
            sections,
            seconds_to_boot: 0.0,
            processor_seconds: 0.0,
            restarts: 0,
            console: String::new(),
        })
    }

    /// A section's text.
    #[track_caller]
    pub fn section(&self, name: &str) -> &str {
        self.sections.get(name).unwrap_or_else(|| panic!("no section `{name}` in {:?}", self.sections.keys()))
    }

    /// Asserts that the system runs and that no unit failed.
    #[track_caller]
    pub fn assert_healthy(&self) {
        let failed = self.section("failed").trim();
        assert!(failed.is_empty(), "failed units:\n{failed}\n{}", self.section("failures"));
        let state = self.section("state").trim();
        assert_eq!(state, "running", "journal:\n{}", self.section("errors"));
        assert!(self.is_active("multi-user.target"), "{}", self.section("active"));
    }

    /// Whether a unit is active.
    pub fn is_active(&self, unit: &str) -> bool {
        self.section("active").lines().any(|line| line.split_whitespace().next() == Some(unit))
    }

    /// The value of `NAME=` on the kernel's command line.
    pub fn kernel_argument(&self, name: &str) -> Option<&str> {
        self.section("cmdline").split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The mount at `target`: file system type, source, options.
    pub fn mount(&self, target: &str) -> Option<[&str; 3]> {
        self.section("mounts").lines().rev().find_map(|line| {
            let mut words = line.split(' ');
            (words.next() == Some(target)).then(|| [(); 3].map(|()| words.next().unwrap_or_default()))
        })
    }

    /// Block devices that `lsblk` sees, as maps from its column names.
    pub fn partitions(&self) -> Vec<BTreeMap<&str, &str>> {
        self.section("partitions").lines().map(pairs).collect()
    }

    /// `MemAvailable` in MiB.
    pub fn memory_available(&self) -> u64 {
        let line = self.section("memory").lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
    }
}

/// `NAME="value" …` as `lsblk --pairs` prints it.
fn pairs(line: &str) -> BTreeMap<&str, &str> {
    let mut found = BTreeMap::new();
    let mut rest = line;
    while let Some((name, after)) = rest.split_once("=\"") {
        let Some((value, tail)) = after.split_once('"') else { break };
        found.insert(name.trim(), value);
        rest = tail;
    }
    found
}

#[test]
fn findings_are_read_only_when_complete() {
    let text = "noise\r\n@@ partitions\r\nNAME=\"vda1\" PARTLABEL=\"esp\" SIZE=\"1\"\r\n@@ mounts\n/ overlay a b\n@@ cmdline\nx roothash=ab y\n";
    assert!(Report::parse(text).is_none());
    let report = Report::parse(&format!("{text}@@ end\n")).expect("complete");
    assert_eq!(report.partitions()[0]["PARTLABEL"], "esp");
    assert_eq!(report.mount("/"), Some(["overlay", "a", "b"]));
    assert_eq!(report.kernel_argument("roothash"), Some("ab"));
    assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
}
