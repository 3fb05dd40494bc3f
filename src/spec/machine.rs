//! Checks of what one machine gets from all its layers: ports, users and groups.

use std::collections::BTreeMap;

use super::model::{Layer, Listen, Port, Role, Spec};
use crate::report::{Diagnostic, Kind, Report, Span};

/// Reports what clashes on a machine of any role.
pub fn check(spec: &Spec, report: &mut Report) {
    for role in &spec.roles {
        let layers: Vec<&Layer> = role.layers.iter().filter_map(|index| spec.layers.get(*index)).collect();
        check_ports(role, &layers, report);
        check_accounts(&layers, report);
    }
}

fn check_ports(role: &Role, layers: &[&Layer], report: &mut Report) {
    let ports: Vec<&Port> = layers.iter().flat_map(|layer| &layer.ports).collect();
    for (index, port) in ports.iter().enumerate() {
        for other in ports[..index].iter().filter(|other| clash(port, other)) {
            let what = if port.protocol == "vrrp" {
                "speak VRRP".to_owned()
            } else {
                let (first, last) = (port.first.max(other.first), port.last.min(other.last));
                let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
                format!("want {} port {range}", port.protocol)
            };
            report.push(
                Diagnostic::error(Kind::Input, format!("`{}` and `{}` both {what}", other.program, port.program))
                    .at(&port.span, listens(port))
                    .at(&other.span, listens(other))
                    .note(format!("both run on a `{}`", role.name)),
            );
        }
    }
}

fn clash(one: &Port, other: &Port) -> bool {
    let addresses = one.listen == other.listen || one.listen == Listen::Any || other.listen == Listen::Any;
    let ports = one.first <= other.last && other.first <= one.last;
    one.program != other.program && one.protocol == other.protocol && addresses && ports
}

fn listens(port: &Port) -> String {
    let on = match port.listen {
        Listen::Any => "every address",
        Listen::Node => "the node's address",
        Listen::Loopback => "loopback",
        Listen::Vip => "the virtual address",
    };
    format!("`{}` listens on {on}", port.program)
}

fn check_accounts(layers: &[&Layer], report: &mut Report) {
    let mut users: BTreeMap<&str, (u32, &Span)> = BTreeMap::new();
    let mut numbers: BTreeMap<u32, (&str, &Span)> = BTreeMap::new();
    for user in layers.iter().flat_map(|layer| &layer.before.users) {
        claim("user", "uid", (&user.name, user.uid, &user.span), &mut users, &mut numbers, report);
    }
    let mut groups: BTreeMap<&str, (u32, &Span)> = BTreeMap::new();
    let mut numbers: BTreeMap<u32, (&str, &Span)> = BTreeMap::new();
    for layer in layers {
        for group in &layer.before.groups {
            claim("group", "gid", (&group.name, group.gid, &group.span), &mut groups, &mut numbers, report);
        }
        for user in &layer.before.users {
            claim("group", "gid", (&user.group, user.gid, &user.span), &mut groups, &mut numbers, report);
        }
    }
}

/// Notes that `name` has `number`; reports another number of the name, or another name of the number.
fn claim<'layer>(
    what: &str,
    key: &str,
    (name, number, span): (&'layer str, u32, &'layer Span),
    names: &mut BTreeMap<&'layer str, (u32, &'layer Span)>,
    numbers: &mut BTreeMap<u32, (&'layer str, &'layer Span)>,
    report: &mut Report,
) {
    if let Some((other, place)) = names.get(name) {
        if *other != number {
            report.push(
                Diagnostic::error(Kind::Input, format!("{what} `{name}` has two numbers"))
                    .at(span, format!("{key} {number} here"))
                    .at(place, format!("{key} {other} here")),
            );
        }
        return;
    }
    names.insert(name, (number, span));
    if let Some((other, place)) = numbers.get(&number) {
        report.push(
            Diagnostic::error(Kind::Input, format!("{what}s `{other}` and `{name}` have one {key}, {number}"))
                .at(span, format!("`{name}`"))
                .at(place, format!("`{other}`")),
        );
    } else {
        numbers.insert(number, (name, span));
    }
}
