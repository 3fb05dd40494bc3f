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
    let mut users = Claims { what: "user", key: "uid", ..Claims::default() };
    for user in layers.iter().flat_map(|layer| &layer.before.users) {
        users.claim(&user.name, user.uid, &user.span, report);
    }
    // Where two users clash, so do the groups that bear their names and numbers: once is enough.
    let mut groups = Claims { what: "group", key: "gid", told: users.told, ..Claims::default() };
    for layer in layers {
        for group in &layer.before.groups {
            groups.claim(&group.name, group.gid, &group.span, report);
        }
        for user in &layer.before.users {
            groups.claim(&user.group, user.gid, &user.span, report);
        }
    }
}

/// Who has which number.
#[derive(Default)]
struct Claims<'layer> {
    what: &'static str,
    key: &'static str,
    names: BTreeMap<&'layer str, (u32, &'layer Span)>,
    numbers: BTreeMap<u32, (&'layer str, &'layer Span)>,
    /// Pairs of places whose clash has been said.
    told: Vec<(&'layer Span, &'layer Span)>,
}

impl<'layer> Claims<'layer> {
    /// Notes that `name` has `number`; reports another number of the name, or another name of the number.
    fn claim(&mut self, name: &'layer str, number: u32, span: &'layer Span, report: &mut Report) {
        let Self { what, key, .. } = *self;
        if let Some((other, place)) = self.names.get(name).copied() {
            if other != number {
                let message = format!("{what} `{name}` has two numbers");
                self.tell(
                    message,
                    (span, format!("{key} {number} here")),
                    (place, format!("{key} {other} here")),
                    report,
                );
            }
            return;
        }
        self.names.insert(name, (number, span));
        if let Some((other, place)) = self.numbers.get(&number).copied() {
            let message = format!("{what}s `{other}` and `{name}` have one {key}, {number}");
            self.tell(message, (span, format!("`{name}`")), (place, format!("`{other}`")), report);
        } else {
            self.numbers.insert(number, (name, span));
        }
    }

    fn tell(
        &mut self,
        message: String,
        (span, label): (&'layer Span, String),
        (place, other): (&'layer Span, String),
        report: &mut Report,
    ) {
        if !self.told.contains(&(span, place)) {
            self.told.push((span, place));
            report.push(Diagnostic::error(Kind::Input, message).at(span, label).at(place, other));
        }
    }
}
