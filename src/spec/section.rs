//! What the sections of one layer say, put together.
//!
//! Lists add up in the order of the sections; for what has a name (a user, a file's owner, a debconf question) and for
//! single values the later section wins, so that a layer can change what it includes.

use std::collections::BTreeMap;

use super::model::{Debconf, Group, Listen, Port, Reach, State, Units, User, Want, Written};
use super::profiles::Section;
use super::shape;
use super::value::{self, Body, Entry, Table};
use crate::deb::relation::Alternatives;
use crate::report::{Diagnostic, Kind, Report, Span};

/// The sections of a layer put together; overlays are still names.
#[derive(Debug, Default)]
pub struct Draft {
    /// Packages.
    pub wants: Vec<Want>,
    /// `recommends`, where a section says it.
    pub recommends: Option<bool>,
    /// Names of overlays for after configuration.
    pub overlays: Vec<Written<String>>,
    /// Names of overlays for before it.
    pub before_overlays: Vec<Written<String>>,
    /// Words for the kernel.
    pub kernel_arguments: Vec<String>,
    /// Paths to remove.
    pub remove: Vec<Written<String>>,
    /// debconf answers by package and question.
    pub debconf: BTreeMap<(String, String), Debconf>,
    /// Users by name.
    pub users: BTreeMap<String, User>,
    /// Groups by name.
    pub groups: BTreeMap<String, Group>,
    /// Units.
    pub units: Units,
    /// Owners and modes by path without the leading `/`.
    pub permissions: BTreeMap<String, DraftPermission>,
    /// State.
    pub state: Vec<State>,
    /// Ports.
    pub ports: Vec<Port>,
}

/// Owner and mode of a path; the mode may come from an overlay later.
#[derive(Clone, Debug)]
pub struct DraftPermission {
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Permission bits, where written.
    pub mode: Option<u16>,
    /// A directory to make where there is nothing.
    pub directory: bool,
    /// Where it is written.
    pub span: Span,
}

impl Draft {
    /// Puts `sections` together.
    pub fn of(sections: &[Section], report: &mut Report) -> Self {
        let mut draft = Self::default();
        for section in sections {
            draft.add(section.table(), report);
        }
        draft.check_units(report);
        draft.check_state(report);
        draft
    }

    fn add(&mut self, table: &Table, report: &mut Report) {
        for text in table.texts("packages") {
            match Alternatives::parse(&text.value) {
                Ok(relation) => self.wants.push(Want { relation, span: text.span }),
                Err(error) => report.push(
                    Diagnostic::error(Kind::Input, format!("`{}` is not a relation to packages", text.value))
                        .at(&text.span, error.to_string())
                        .hint("write it as in `Depends`: `name`, `a | b`, `name (>= version)`"),
                ),
            }
        }
        if let Some(recommends) = table.boolean("recommends") {
            self.recommends = Some(recommends.value);
        }
        self.overlays.extend(table.texts("overlay"));
        self.kernel_arguments.extend(table.texts("kernel-arguments").into_iter().map(|text| text.value));
        self.remove.extend(
            table
                .texts("remove")
                .into_iter()
                .map(|text| Written { value: without_slash(&text.value), span: text.span }),
        );
        if let Some(before) = table.table("before") {
            self.add_before(before);
        }
        if let Some(units) = table.table("units") {
            self.units.enable.extend(units.texts("enable"));
            self.units.disable.extend(units.texts("disable"));
            self.units.mask.extend(units.texts("mask"));
            if let Some(target) = units.text("default-target") {
                self.units.default_target = Some(target);
            }
        }
        for (entry, file) in table.tables("file") {
            self.add_permission(entry, file, false);
        }
        for (entry, directory) in table.tables("directory") {
            self.add_permission(entry, directory, true);
        }
        for value in table.list("state") {
            self.state.extend(value.table().and_then(state));
        }
        for value in table.list("port") {
            self.ports.extend(value.table().and_then(|table| port(table, &value.span, report)));
        }
    }

    fn add_before(&mut self, before: &Table) {
        self.before_overlays.extend(before.text("overlay"));
        for (entry, answer) in before.tables("debconf") {
            let (Some((package, question)), Some(kind), Some(value)) =
                (entry.key.split_once(' '), answer.text("type"), answer.text("value"))
            else {
                continue;
            };
            let answer = Debconf {
                package: package.to_owned(),
                question: question.to_owned(),
                kind: kind.value,
                value: value.value,
            };
            self.debconf.insert((package.to_owned(), question.to_owned()), answer);
        }
        for (entry, user) in before.tables("user") {
            let Some(uid) = number(user, "uid") else { continue };
            let text = |key: &str, default: &str| user.text(key).map_or_else(|| default.to_owned(), |text| text.value);
            let user = User {
                name: entry.key.clone(),
                uid,
                group: text("group", &entry.key),
                gid: number(user, "gid").unwrap_or(uid),
                home: text("home", "/nonexistent"),
                shell: text("shell", "/usr/sbin/nologin"),
                comment: text("comment", ""),
                span: entry.key_span.clone(),
            };
            self.users.insert(entry.key.clone(), user);
        }
        for (entry, group) in before.tables("group") {
            let Some(gid) = number(group, "gid") else { continue };
            self.groups.insert(entry.key.clone(), Group { name: entry.key.clone(), gid, span: entry.key_span.clone() });
        }
    }

    fn add_permission(&mut self, entry: &Entry, table: &Table, directory: bool) {
        let (owner, group) = owner(table);
        let written = table.text("mode").and_then(|text| shape::mode(&text.value));
        let mode = written.or(directory.then_some(0o755));
        let permission = DraftPermission { owner, group, mode, directory, span: entry.key_span.clone() };
        self.permissions.insert(without_slash(&entry.key), permission);
    }

    fn check_units(&self, report: &mut Report) {
        let lists = [("enabled", &self.units.enable), ("disabled", &self.units.disable), ("masked", &self.units.mask)];
        for (index, (state, units)) in lists.iter().enumerate() {
            for (other_state, others) in &lists[index + 1..] {
                // To disable a unit and mask it as well contradicts nothing.
                if *state == "disabled" {
                    continue;
                }
                for unit in *units {
                    if let Some(other) = others.iter().find(|other| other.value == unit.value) {
                        let message = format!("one layer has `{}` {state} and {other_state}", unit.value);
                        report.push(
                            Diagnostic::error(Kind::Input, message)
                                .at(&other.span, *other_state)
                                .at(&unit.span, *state),
                        );
                    }
                }
            }
        }
    }

    fn check_state(&self, report: &mut Report) {
        let mut known: BTreeMap<&str, &State> = BTreeMap::new();
        for state in &self.state {
            if let Some(other) = known.insert(&state.path, state) {
                report.push(
                    Diagnostic::error(Kind::Input, format!("`/{}` is state twice", state.path))
                        .at(&state.span, "again here")
                        .at(&other.span, "first here"),
                );
            }
        }
    }
}

fn without_slash(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

fn number(table: &Table, key: &str) -> Option<u32> {
    table.integer(key).and_then(|integer| u32::try_from(integer.value).ok())
}

fn owner(table: &Table) -> (String, String) {
    let name = |key| table.text(key).map_or_else(|| "root".to_owned(), |text| text.value);
    (name("owner"), name("group"))
}

fn state(table: &Table) -> Option<State> {
    let path = table.text("path")?;
    let (owner, group) = owner(table);
    let mode = table.text("mode").and_then(|text| shape::mode(&text.value)).unwrap_or(0o755);
    Some(State { path: without_slash(&path.value), owner, group, mode, span: path.span })
}

fn port(table: &Table, span: &Span, report: &mut Report) -> Option<Port> {
    let program = table.text("program")?.value;
    let protocol = table.text("protocol").map_or_else(|| "tcp".to_owned(), |text| text.value);
    let range = match table.entry("port").map(|entry| &entry.value.body) {
        Some(Body::Integer(port)) => u16::try_from(*port).ok().map(|port| (port, port)),
        Some(Body::Text(text)) => value::ports(text),
        _ => None,
    };
    let written = table.entry("port");
    let (first, last) = match (protocol.as_str(), range, written) {
        ("vrrp", _, None) => (0, 0),
        ("vrrp", _, Some(entry)) => {
            report.push(
                Diagnostic::error(Kind::Input, format!("`{program}` gives a port for `vrrp`"))
                    .at(&entry.key_span, "an IP protocol of its own, without ports")
                    .hint("leave out `port`"),
            );
            return None;
        }
        (_, Some(range), _) => range,
        _ if table.dropped.iter().any(|key| key == "port") => return None,
        _ => {
            report.push(
                Diagnostic::error(Kind::Input, format!("`{program}` listens on `{protocol}` but gives no port"))
                    .at(span, "`port` has to be written here"),
            );
            return None;
        }
    };
    let listen = match table.text("listen")?.value.as_str() {
        "any" => Listen::Any,
        "node" => Listen::Node,
        "loopback" => Listen::Loopback,
        _ => Listen::Vip,
    };
    let from = match table.text("from")?.value.as_str() {
        "loopback" => Reach::Loopback,
        "regions" => Reach::Regions,
        "racks" => Reach::Racks,
        "peers" => Reach::Peers,
        _ => Reach::Anyone,
    };
    let span = written.map_or_else(|| span.clone(), |entry| entry.value.span.clone());
    Some(Port { program, listen, protocol, first, last, from, span })
}
