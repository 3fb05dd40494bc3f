//! What the build host or the build itself left behind.

use crate::store::StoreError;

use super::{Finding, Subject};

/// Traces of the machine that built the image.
pub fn build_host(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = subject.forbidden_below(&[
        ("var/lib/dhcp", "a DHCP lease"),
        ("var/lib/NetworkManager", "a network's memory"),
        ("var/log", "a log with entries"),
        ("tmp", "a temporary file"),
        ("var/tmp", "a temporary file"),
        ("run", "a running system's state"),
    ]);
    // An empty log keeps its owner and mode for the program that will write it; a link says nothing of a host.
    findings.retain(|finding| {
        let content = subject.tree.get(&finding.path).and_then(|node| node.content());
        content.is_some_and(|content| content.size > 0)
    });
    findings.extend(subject.forbidden(&[
        ("etc/udev/rules.d/70-persistent-net.rules", "the network cards of another machine"),
        ("etc/netplan/50-cloud-init.yaml", "the network of another machine"),
        ("root/.bash_history", "somebody's history"),
    ]));
    for (path, node) in subject.below("etc/apt") {
        let Some(content) = node.content().filter(|content| content.size <= 64 * 1024) else { continue };
        let text = subject.read(content)?.to_ascii_lowercase();
        let proxied = text.split(|byte| *byte == b'\n').any(|line| {
            let line = line.trim_ascii();
            line.starts_with(b"acquire::") && line.windows(5).any(|part| part == b"proxy")
        });
        if proxied {
            findings.push(Finding { path: path.clone(), what: "the proxy of the build host" });
        }
    }
    Ok(findings)
}

/// What only the build needed.
pub fn leftovers(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = subject.forbidden(&[
        ("usr/sbin/policy-rc.d", "the policy that keeps services from starting while building"),
        ("var/cache/apt/pkgcache.bin", "apt's cache"),
        ("var/cache/apt/srcpkgcache.bin", "apt's cache"),
        ("var/cache/ldconfig/aux-cache", "the linker's cache of inode numbers"),
        ("var/lib/dpkg/status-old", "dpkg's previous database"),
        ("var/lib/dpkg/lock", "a lock"),
    ]);
    findings.extend(subject.forbidden_below(&[
        ("var/lib/apt/lists", "an index of a mirror"),
        ("var/cache/apt/archives", "a downloaded package"),
    ]));
    Ok(findings)
}
