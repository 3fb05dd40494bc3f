//! What makes one machine that machine.

use crate::store::StoreError;
use crate::tree::Kind;

use super::{Finding, Subject};

/// `machine-id(5)`: empty or `uninitialized` in an image; D-Bus's copy is a link to it or absent.
pub fn machine_id(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = Vec::new();
    if let Some(id) = subject.bytes("etc/machine-id")?
        && !id.is_empty()
        && id.trim_ascii() != b"uninitialized"
    {
        findings.extend(subject.forbidden(&[("etc/machine-id", "a machine id")]));
    }
    if let Some((path, node)) = subject.node("var/lib/dbus/machine-id")
        && !matches!(node.kind, Kind::Symlink(_))
    {
        findings.push(Finding { path, what: "a machine id" });
    }
    Ok(findings)
}

/// A fixed `hostname(5)`.
pub fn host_name(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let name = subject.bytes("etc/hostname")?.unwrap_or_default();
    let fixed = !name.trim_ascii().is_empty() && name.trim_ascii() != b"localhost";
    Ok(if fixed { subject.forbidden(&[("etc/hostname", "a fixed host name")]) } else { Vec::new() })
}

/// SSH host keys, and the numbers of other host identities.
pub fn ssh_host_keys(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings =
        subject.forbidden(&[("etc/iscsi/initiatorname.iscsi", "an iSCSI initiator name"), ("etc/hostid", "a host id")]);
    for (path, _) in subject.below("etc/ssh") {
        if path.name().starts_with(b"ssh_host_") && path.name().windows(4).any(|part| part == b"_key") {
            findings.push(Finding { path: path.clone(), what: "an SSH host key" });
        }
    }
    Ok(findings)
}

/// cloud-init's memory of an instance.
pub fn cloud_instance(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = subject.forbidden(&[("var/lib/cloud/instance", "cloud-init's link to an instance")]);
    findings.extend(subject.forbidden_below(&[
        ("var/lib/cloud/instances", "an instance of cloud-init"),
        ("var/lib/cloud/data", "cloud-init's memory of a boot"),
        ("var/lib/cloud/seed", "a seed"),
    ]));
    Ok(findings)
}

/// A PostgreSQL cluster, an etcd member, a Corosync or Pacemaker node.
pub fn database_cluster(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = subject.forbidden_below(&[
        ("var/lib/etcd", "an etcd member's data"),
        ("var/lib/pacemaker", "a Pacemaker node's data"),
    ]);
    findings.extend(subject.forbidden(&[("etc/corosync/authkey", "a Corosync key")]));
    for (path, _) in subject.below("var/lib/postgresql") {
        if path.name() == b"PG_VERSION" {
            findings.push(Finding { path: path.clone(), what: "a database cluster" });
        }
    }
    Ok(findings)
}

/// What MAAS writes on a controller and never overwrites.
pub fn maas(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = subject.forbidden(&[
        ("var/lib/maas/maas_id", "a controller's system id"),
        ("var/lib/maas/maas_uuid", "a deployment's UUID"),
        ("var/lib/maas/rpc.state", "the addresses of another cluster's regions"),
        ("var/snap/maas/common/snap_mode", "the mode of an initialised MAAS snap"),
        ("etc/maas/agent.yaml", "an agent's configuration, secret included"),
    ]);
    findings.extend(subject.forbidden_below(&[
        ("var/lib/maas/certificates", "a cluster's certificates"),
        ("var/lib/maas/dhcp", "DHCP leases"),
        ("var/lib/maas/temporal", "Temporal's configuration, password included"),
        ("var/snap/maas", "an initialised MAAS snap's data"),
    ]));
    Ok(findings)
}
