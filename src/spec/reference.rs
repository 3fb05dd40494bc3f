//! The reference of the written language, as Markdown: every key, every declared option, every template variable.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::keys::{IMAGE, PROFILE};
use super::matrix::RELEASES;
use super::options::{Declaration, Declarations, OptionKind};
use super::profiles;
use super::secrets::SECRETS;
use super::shape::{Absent, Keys, Shape};
use super::sources::Sources;
use super::{OptionValue, options};
use crate::report::Report;

/// Variables of templates with their meaning; a test compares them with the facts.
static VARIABLES: &[(&str, &str)] = &[
    ("option.NAME", "Value of the option `NAME`; its dots are fields: `option.maas.packaging`."),
    ("role.name", "Name of the role: `region-primary`."),
    ("role.kind", "`region`, `rack` or `other`, by the layers that the role stands on."),
    ("role.ports[]", "Ports of all layers of the role: `program`, `listen`, `protocol`, `first`, `last`, `from`."),
    ("role.state[]", "State of all layers of the role: `path`, `owner`, `group`, `mode`."),
    ("role.kernel_arguments[]", "Words for the kernel command line of all layers of the role."),
    ("cluster.name", "Name of the cluster."),
    ("cluster.vip", "The virtual address."),
    ("cluster.vrid", "Virtual router id."),
    ("cluster.network", "Address of the network: `10.77.0.0`."),
    ("cluster.prefix", "Its prefix length: `24`."),
    ("cluster.netmask", "Its netmask: `255.255.255.0`."),
    ("cluster.cidr", "Both: `10.77.0.0/24`."),
    ("cluster.gateway", "The default gateway, none where there is none."),
    ("cluster.updates", "Where updates are, each role's below it; none where they are brought to each machine."),
    (
        "cluster.nodes[]",
        "All nodes in the order of the image file: `name`, `address`, `mac` (may be none), `role`, `kind`, `voter`, `index` (from 1).",
    ),
    ("cluster.regions[]", "Those of a region role."),
    ("cluster.racks[]", "Those of a rack role."),
    ("cluster.voters[]", "Those that vote in etcd."),
    (
        "cluster.dhcp[]",
        "DHCP ranges: `subnet`, `network`, `netmask`, `first`, `last`, `primary`, `secondary` (may be none).",
    ),
    ("node.name", "Host name of the machine."),
    ("node.address", "Its address."),
    ("node.prefix", "Prefix length of its network."),
    ("node.mac", "Its MAC address, none where none is written."),
    ("node.role", "Its role."),
    ("node.kind", "`region`, `rack` or `other`."),
    ("node.voter", "Whether it votes in etcd."),
    ("node.index", "Its number in the image file, from 1."),
    ("node.peers[]", "All other nodes, each as in `cluster.nodes`."),
    ("node.priority", "A region's VRRP priority, highest for the first region; none for others."),
];

/// The reference. Options are those of the profiles in `sources`.
pub fn reference(sources: &Sources) -> String {
    let mut text = String::from(
        "# Reference of the written language\n\n\
         Generated from the key table that the reader checks files against, and from the project's profiles. \
         JSON Schemas of both kinds of file are in `schema/`.\n\n",
    );
    file(&mut text, "Image file", "images/NAME.toml", &IMAGE);
    file(&mut text, "Profile", "profiles/NAME.toml", &PROFILE);
    declared(&mut text, sources);
    variables(&mut text);
    secrets(&mut text);
    versions(&mut text);
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(line);
    text.push('\n');
}

fn file(text: &mut String, title: &str, path: &str, keys: &'static Keys) {
    line(text, format_args!("## {title}: `{path}`\n"));
    table(text, keys);
    let mut told = BTreeSet::new();
    inner(text, keys, "", &mut told);
}

fn table(text: &mut String, keys: &Keys) {
    line(text, format_args!("| key | holds | without it | |\n|---|---|---|---|"));
    for key in keys.keys {
        let absent = match key.absent {
            Absent::Required => "an error".to_owned(),
            Absent::Nothing => String::new(),
            Absent::Default(default) => format!("`{default}`"),
        };
        line(text, format_args!("| `{}` | {} | {absent} | {} |", key.name, cell(&holds(&key.shape)), cell(key.doc)));
    }
    text.push('\n');
}

/// The tables inside `keys`, each where it is first met.
fn inner(text: &mut String, keys: &'static Keys, path: &str, told: &mut BTreeSet<&'static str>) {
    for key in keys.keys {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        let (header, keys) = match &key.shape {
            Shape::Table(keys) => (format!("[{path}]"), keys),
            Shape::List(Shape::Table(keys), ..) => (format!("[[{path}]]"), keys),
            Shape::Map(_, Shape::Table(keys)) => (format!("[{path}.NAME]"), keys),
            _ => continue,
        };
        if !told.insert(keys.name) {
            continue;
        }
        line(text, format_args!("### `{header}`: {}\n", keys.doc));
        if keys.name == "when" {
            let names: Vec<_> = keys.keys.iter().map(|key| format!("`{}`", key.name)).collect();
            line(text, format_args!("The keys of a profile that may depend on a condition: {}.\n", names.join(", ")));
        } else {
            table(text, keys);
        }
        inner(text, keys, &path, told);
    }
}

fn holds(shape: &Shape) -> String {
    match shape {
        Shape::Text(kind) => kind.noun().to_owned(),
        Shape::Choice(values) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
        Shape::Integer(least, most) => format!("a whole number from {least} to {most}"),
        Shape::List(item, ..) => format!("a list: {}", holds(item)),
        Shape::Table(_) => "a table".to_owned(),
        Shape::Map(kind, Shape::Table(_)) => format!("tables, each named: {}", kind.noun()),
        Shape::Map(kind, item) => format!("{}, each named: {}", holds(item), kind.noun()),
        Shape::Boolean | Shape::Scalar | Shape::Ports => shape.noun().to_owned(),
    }
}

/// A text inside a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn declared(text: &mut String, sources: &Sources) {
    line(text, format_args!("## Options that the profiles declare\n"));
    line(text, format_args!("Set under `[options]` of the image file, seen by templates as `option.NAME`.\n"));
    line(text, format_args!("| option | type | default | declared in | |\n|---|---|---|---|---|"));
    for (name, declaration) in declarations(sources) {
        let Declaration { kind, default, doc, span } = &declaration;
        let kind = match kind {
            OptionKind::Choice(values) => {
                values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
            }
            OptionKind::Boolean => "truth value".to_owned(),
            OptionKind::Integer => "whole number".to_owned(),
            OptionKind::Text => "text".to_owned(),
        };
        let default = match default {
            None => "none: has to be set".to_owned(),
            Some(OptionValue::Text(value)) => format!("`\"{value}\"`"),
            Some(value) => format!("`{value}`"),
        };
        let (kind, default, doc) = (cell(&kind), cell(&default), cell(doc.trim()));
        line(text, format_args!("| `{name}` | {kind} | {default} | `{}` | {doc} |", span.source.path));
    }
    text.push('\n');
}

/// The options of every profile that can be read.
fn declarations(sources: &Sources) -> Declarations {
    let mut declarations = Declarations::new();
    let mut ignored = Report::new();
    for name in sources.profiles() {
        let path = format!("profiles/{name}.toml");
        let source = sources.bytes(&path).and_then(|bytes| profiles::text(&path, bytes, &mut ignored));
        if let Some(profile) = source.and_then(|source| profiles::read(name, &source, &mut ignored)) {
            options::declare(&profile.table, &mut declarations, &mut ignored);
        }
    }
    declarations
}

fn variables(text: &mut String) {
    line(text, format_args!("## Template variables\n"));
    line(
        text,
        format_args!(
            "A file `NAME.tera` of an overlay is a Tera template and becomes `NAME`. One that mentions `node` or \
             `secret`, or `cluster` where the image file describes none, is rendered by `rolecast seed`; every other one is \
             rendered at build. Templates of `[before]` see `option` only. There is no escaping, and a template cannot \
             include or extend another.\n"
        ),
    );
    line(text, format_args!("| variable | |\n|---|---|"));
    for (name, doc) in VARIABLES {
        line(text, format_args!("| `{name}` | {} |", cell(doc)));
    }
    text.push('\n');
}

fn secrets(text: &mut String) {
    line(text, format_args!("## Secrets\n"));
    line(text, format_args!("Seen by late templates as `secret.NAME`. No image holds one.\n"));
    line(text, format_args!("| secret | who needs it | |\n|---|---|---|"));
    for secret in SECRETS {
        line(text, format_args!("| `{}` | {} | {} |", secret.name, secret.who, cell(secret.doc)));
    }
    text.push('\n');
}

fn versions(text: &mut String) {
    line(text, format_args!("## Versions that go together\n"));
    line(
        text,
        format_args!(
            "Compared with the options `maas.version`, `maas.packaging` (`stub` goes with everything) and \
             `postgresql.version`.\n"
        ),
    );
    line(text, format_args!("| MAAS | its debs are for Ubuntu | PostgreSQL | recommended |\n|---|---|---|---|"));
    for release in RELEASES {
        let range = if release.oldest == release.newest {
            release.oldest.to_string()
        } else {
            format!("{} to {}", release.oldest, release.newest)
        };
        let ubuntu = release.ubuntu.unwrap_or("none: snap only");
        line(text, format_args!("| {} | {ubuntu} | {range} | {} |", release.maas, release.recommended));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::spec::facts;
    use crate::spec::tests::project::Project;

    #[test]
    fn every_variable_is_told_and_no_other() {
        let spec = Project::new().spec();
        let facts = facts::sample(&spec, &spec.roles[0]).remove(0);
        let mut found = BTreeSet::new();
        for (root, value) in facts.variables().iter().filter(|(root, _)| !["option", "secret"].contains(&root.as_str()))
        {
            for (field, value) in value.as_object().unwrap() {
                let list = if matches!(value, Value::Array(_)) { "[]" } else { "" };
                found.insert(format!("{root}.{field}{list}"));
                let Some(Value::Object(item)) = value.as_array().and_then(|items| items.first()) else { continue };
                let (_, doc) = VARIABLES.iter().find(|(name, _)| *name == format!("{root}.{field}[]")).unwrap();
                if !doc.contains("as in") && doc.contains(':') {
                    assert!(
                        item.keys().all(|key| doc.contains(&format!("`{key}`"))),
                        "{root}.{field}: {:?}",
                        item.keys()
                    );
                }
            }
        }
        let told: BTreeSet<_> =
            VARIABLES.iter().map(|(name, _)| (*name).to_owned()).filter(|name| name != "option.NAME").collect();
        assert_eq!(found, told);
    }

    #[test]
    fn options_are_told_with_type_default_and_meaning() {
        let text = reference(&Project::new().sources());
        for row in [
            "| `maas.packaging` | `deb`, `snap`, `stub` | `\"deb\"` | `profiles/base.toml` | How MAAS is installed. |",
            "| `maas.port` | whole number | `5240` | `profiles/base.toml` | Port of MAAS. |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
    }

    #[test]
    fn every_key_is_told() {
        let text = reference(&Sources::default());
        for keys in [&IMAGE, &PROFILE] {
            for key in keys.keys {
                assert!(text.contains(&format!("| `{}` |", key.name)), "{}", key.name);
            }
        }
    }
}
