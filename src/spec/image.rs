//! The image file: distribution, archives, roles, cluster.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::model::{Archive, Dhcp, Distribution, Format, NodeFacts, Written};
use super::shape;
use super::sources::Sources;
use super::value::{Entry, Table};
use crate::report::{Diagnostic, Kind, Report, Span};

/// `[distribution]`, when it is whole.
pub fn distribution(image: &Table) -> Option<Distribution> {
    let entry = image.entry("distribution")?;
    let table = entry.value.table()?;
    Some(Distribution {
        id: table.text("id")?.value,
        suite: table.text("suite")?.value,
        architecture: table.text("architecture").map_or_else(|| "amd64".to_owned(), |text| text.value),
        span: entry.key_span.clone(),
    })
}

/// The distribution's own archives with what the image file changes, and those that it adds.
pub fn archives(
    image: &Table,
    distribution: &Distribution,
    sources: &Sources,
    report: &mut Report,
) -> BTreeMap<String, Archive> {
    let written = image.table("distribution").map(|table| values(table, "components")).unwrap_or_default();
    let mut archives = own_archives(distribution, written);
    for (entry, table) in image.tables("archive") {
        let own = archives.remove(&entry.key);
        if own.is_none() && table.entry("suites").is_none() && !table.dropped.iter().any(|key| key == "suites") {
            report.push(
                Diagnostic::error(Kind::Input, format!("the archive `{}` has no suites", entry.key))
                    .at(&entry.key_span, "`suites` has to be written here")
                    .note(format!("only {} come with {}", quoted(archives.keys()), distribution.id)),
            );
        }
        let archive =
            own.unwrap_or_else(|| archive(&entry.key, &[], &["main".to_owned()], &entry.key, &entry.key_span));
        archives.insert(entry.key.clone(), changed(archive, entry, table));
    }
    for archive in archives.values_mut() {
        archive.keyring_bytes = sources.bytes(&archive.keyring).map(|bytes| bytes.to_vec());
    }
    archives
}

fn own_archives(distribution: &Distribution, components: Vec<String>) -> BTreeMap<String, Archive> {
    let Distribution { id, suite, span, .. } = distribution;
    let suites = |suffixes: &[&str]| suffixes.iter().map(|suffix| format!("{suite}{suffix}")).collect::<Vec<_>>();
    let usual: &[&str] = if id == "ubuntu" { &["main", "universe"] } else { &["main"] };
    let components =
        if components.is_empty() { usual.iter().map(|name| (*name).to_owned()).collect() } else { components };
    let keyring = format!("{id}-archive");
    let archives: &[(&str, &[&str])] = if id == "ubuntu" {
        &[("ubuntu", &["", "-updates", "-security"])]
    } else {
        &[("debian", &["", "-updates"]), ("debian-security", &["-security"])]
    };
    let archives = archives
        .iter()
        .map(|(name, suffixes)| ((*name).to_owned(), archive(name, &suites(suffixes), &components, &keyring, span)));
    archives.collect()
}

fn archive(name: &str, suites: &[String], components: &[String], keyring: &str, span: &Span) -> Archive {
    Archive {
        name: name.to_owned(),
        suites: suites.to_vec(),
        components: components.to_vec(),
        keyring: format!("images/keyrings/{keyring}.pgp"),
        keyring_bytes: None,
        fingerprints: Vec::new(),
        priority: 500,
        mirror: None,
        allow_expired: false,
        span: span.clone(),
    }
}

fn changed(mut archive: Archive, entry: &Entry, table: &Table) -> Archive {
    archive.span = entry.key_span.clone();
    let replace = |list: &mut Vec<String>, key: &str| {
        let written = values(table, key);
        if !written.is_empty() {
            *list = written;
        }
    };
    replace(&mut archive.suites, "suites");
    replace(&mut archive.components, "components");
    replace(&mut archive.fingerprints, "fingerprints");
    archive.fingerprints.iter_mut().for_each(|fingerprint| fingerprint.make_ascii_uppercase());
    if let Some(keyring) = table.text("keyring") {
        archive.keyring = keyring.value;
    }
    if let Some(priority) = table.integer("priority").and_then(|integer| i32::try_from(integer.value).ok()) {
        archive.priority = priority;
    }
    if let Some(mirror) = table.text("mirror") {
        archive.mirror = Some(mirror.value.trim_end_matches('/').to_owned());
    }
    if let Some(allow) = table.boolean("allow-expired") {
        archive.allow_expired = allow.value;
    }
    archive
}

fn values(table: &Table, key: &str) -> Vec<String> {
    table.texts(key).into_iter().map(|text| text.value).collect()
}

fn quoted<'names>(names: impl Iterator<Item = &'names String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}

/// Roles in the order of the file, with their formats.
pub fn roles(image: &Table) -> Vec<(Written<String>, Vec<Format>)> {
    let roles = image.tables("role").map(|(entry, table)| {
        let mut formats: Vec<Format> = values(table, "formats").iter().filter_map(|name| format(name)).collect();
        formats.sort();
        formats.dedup();
        (Written { value: entry.key.clone(), span: entry.key_span.clone() }, formats)
    });
    roles.collect()
}

fn format(name: &str) -> Option<Format> {
    Some(match name {
        "disk" => Format::Disk,
        "qcow2" => Format::Qcow2,
        "netboot" => Format::Netboot,
        "tar" => Format::Tar,
        "update" => Format::Update,
        _ => return None,
    })
}

/// `[cluster]` without its nodes. What is missing or wrong has been reported and is none.
#[derive(Clone, Debug)]
pub struct WrittenCluster {
    /// Its name.
    pub name: Option<Written<String>>,
    /// The virtual address.
    pub vip: Option<Written<Ipv4Addr>>,
    /// Virtual router id.
    pub vrid: Option<Written<u8>>,
    /// Network and prefix length.
    pub network: Option<Written<(Ipv4Addr, u8)>>,
    /// Default gateway.
    pub gateway: Option<Written<Ipv4Addr>>,
    /// Where updates are.
    pub updates: Option<String>,
    /// Where `[cluster]` stands.
    pub span: Span,
}

/// `[node.NAME]` with the places of its values.
#[derive(Clone, Debug)]
pub struct WrittenNode {
    /// Host name.
    pub name: Written<String>,
    /// Role.
    pub role: Written<String>,
    /// Address.
    pub address: Written<Ipv4Addr>,
    /// MAC address, lower case.
    pub mac: Option<Written<String>>,
    /// `voter`, where written.
    pub voter: Option<Written<bool>>,
}

/// `[[dhcp]]` with the places of its values.
#[derive(Clone, Debug)]
pub struct WrittenDhcp {
    /// Network and prefix length.
    pub subnet: Written<(Ipv4Addr, u8)>,
    /// First address.
    pub first: Written<Ipv4Addr>,
    /// Last address.
    pub last: Written<Ipv4Addr>,
    /// Rack that answers.
    pub primary: Written<String>,
    /// Rack that takes over.
    pub secondary: Option<Written<String>>,
    /// Where the table stands.
    pub span: Span,
}

fn address(text: Written<String>) -> Option<Written<Ipv4Addr>> {
    Some(Written { value: text.value.parse().ok()?, span: text.span })
}

fn network(text: Written<String>) -> Option<Written<(Ipv4Addr, u8)>> {
    Some(Written { value: shape::network(&text.value)?, span: text.span })
}

/// `[cluster]`, when there is one.
pub fn cluster(image: &Table) -> Option<WrittenCluster> {
    let entry = image.entry("cluster")?;
    let table = entry.value.table()?;
    let vrid = table.integer("vrid");
    let vrid = vrid.and_then(|vrid| Some(Written { value: u8::try_from(vrid.value).ok()?, span: vrid.span }));
    Some(WrittenCluster {
        name: table.text("name"),
        vip: table.text("vip").and_then(address),
        vrid,
        network: table.text("network").and_then(network),
        gateway: table.text("gateway").and_then(address),
        updates: table.text("updates").map(|updates| updates.value.trim_end_matches('/').to_owned()),
        span: entry.key_span.clone(),
    })
}

/// The nodes that are whole, in the order of the file.
pub fn nodes(image: &Table) -> Vec<WrittenNode> {
    let nodes = image.tables("node").filter_map(|(entry, table)| {
        Some(WrittenNode {
            name: Written { value: entry.key.clone(), span: entry.key_span.clone() },
            role: table.text("role")?,
            address: address(table.text("address")?)?,
            mac: table.text("mac").map(|mac| Written { value: mac.value.to_ascii_lowercase(), span: mac.span }),
            voter: table.boolean("voter"),
        })
    });
    nodes.collect()
}

/// The DHCP ranges that are whole.
pub fn dhcp(image: &Table) -> Vec<WrittenDhcp> {
    let ranges = image.list("dhcp").iter().filter_map(|value| {
        let table = value.table()?;
        let mut range = table.texts("range").into_iter();
        Some(WrittenDhcp {
            subnet: network(table.text("subnet")?)?,
            first: address(range.next()?)?,
            last: address(range.next()?)?,
            primary: table.text("primary")?,
            secondary: table.text("secondary"),
            span: value.span.clone(),
        })
    });
    ranges.collect()
}

impl WrittenNode {
    /// The node as the rooms after this one see it.
    pub fn facts(&self, voter: bool) -> NodeFacts {
        NodeFacts {
            name: self.name.value.clone(),
            role: self.role.value.clone(),
            address: self.address.value,
            mac: self.mac.as_ref().map(|mac| mac.value.clone()),
            voter,
            span: self.name.span.clone(),
        }
    }
}

impl WrittenDhcp {
    /// The range as the rooms after this one see it.
    pub fn facts(&self) -> Dhcp {
        Dhcp {
            subnet: self.subnet.value,
            range: (self.first.value, self.last.value),
            primary: self.primary.value.clone(),
            secondary: self.secondary.as_ref().map(|secondary| secondary.value.clone()),
            span: self.span.clone(),
        }
    }
}
