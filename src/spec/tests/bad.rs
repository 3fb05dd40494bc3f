//! What a person is told: each mistake made in a sound project, and the exact text that answers it.
//!
//! The texts are in `bad/NAME.txt`. Set `ROLECAST_BLESS` to write them anew, and read the difference.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::project::{IMAGE, Project};
use crate::spec::sources::Entry;

const BASE: &str = "profiles/base.toml";
const REGION: &str = "profiles/region.toml";
const RACK: &str = "profiles/rack.toml";
const ETCD: &str = "profiles/etcd.toml";
const MOTD: &str = "overlays/base/etc/motd.tera";
const HAPROXY: &str = "overlays/region/etc/haproxy/haproxy.cfg.tera";
const PACKAGING: &str = "overlays/region-before/etc/maas/packaging.tera";

/// A change that makes a sound project wrong.
enum Change {
    /// This text in the file becomes that.
    Replace(&'static str, &'static str, &'static str),
    /// The file becomes this.
    Put(&'static str, &'static str),
    /// The file goes.
    Remove(&'static str),
    /// This comes after the file's text.
    Append(&'static str, &'static str),
    /// A link comes.
    Link(&'static str, &'static str),
}

use Change::{Append, Link, Put, Remove, Replace};

static CASES: &[(&str, &[Change])] = &[
    // The image file.
    ("toml-syntax", &[Replace(IMAGE, "vrid = 77", "vrid = ")]),
    ("toml-duplicate-key", &[Replace(IMAGE, "vrid = 77", "vrid = 77\nvrid = 78")]),
    ("unknown-key", &[Replace(IMAGE, "[options]", "colour = \"red\"\n[options]")]),
    ("unknown-key-near", &[Replace(IMAGE, "suite =", "siute =")]),
    ("unknown-key-of-another-table", &[Replace(IMAGE, "version =", "vrid = 3\nversion =")]),
    ("unknown-key-of-the-file", &[Replace(BASE, "[units]", "[units]\npackages = [\"vim\"]")]),
    ("missing-key", &[Replace(IMAGE, "vip = \"10.77.0.10\"\n", "")]),
    ("missing-version", &[Replace(IMAGE, "version = \"2026.11.1\"", "")]),
    ("wrong-type-quoted-number", &[Replace(IMAGE, "vrid = 77", "vrid = \"77\"")]),
    ("wrong-type-text-for-list", &[Replace(BASE, "overlay = [\"base\"]", "overlay = \"base\"")]),
    ("wrong-type-number-for-text", &[Replace(IMAGE, "suite = \"trixie\"", "suite = 13")]),
    ("wrong-type-table-for-list", &[Replace(IMAGE, "[[dhcp]]", "[dhcp]")]),
    ("wrong-type-fraction", &[Replace(IMAGE, "vrid = 77", "vrid = 7.7")]),
    ("bad-mode-number", &[Replace(BASE, "mode = \"0600\"", "mode = 600")]),
    ("bad-mode-digits", &[Replace(BASE, "mode = \"0600\"", "mode = \"0680\"")]),
    ("bad-choice", &[Replace(IMAGE, "id = \"debian\"", "id = \"debain\"")]),
    ("bad-address", &[Replace(IMAGE, "vip = \"10.77.0.10\"", "vip = \"10.77.0.300\"")]),
    ("bad-network", &[Replace(IMAGE, "network = \"10.77.0.0/24\"", "network = \"10.77.0.1/24\"")]),
    ("bad-host-name", &[Replace(IMAGE, "[node.rack-2]", "[node.Rack_2]")]),
    ("bad-mac", &[Replace(IMAGE, "52:54:00:77:00:12", "52:54:00:77:12")]),
    ("vrid-range", &[Replace(IMAGE, "vrid = 77", "vrid = 256")]),
    (
        "no-role",
        &[Replace(
            IMAGE,
            "[role.region]\nformats = [\"disk\", \"tar\"]\n[role.rack]\nformats = [\"netboot\"]",
            "[role]",
        )],
    ),
    ("no-format", &[Replace(IMAGE, "[\"netboot\"]", "[]")]),
    ("role-tools", &[Replace(IMAGE, "[role.rack]", "[role.tools]\nformats = [\"tar\"]\n[role.rack]")]),
    ("archive-without-suites", &[Replace(IMAGE, "[options]", "[archive.maas]\ncomponents = [\"main\"]\n[options]")]),
    (
        "archive-keyring-elsewhere",
        &[Replace(IMAGE, "[options]", "[archive.debian]\nkeyring = \"/usr/share/keyrings/a.gpg\"\n[options]")],
    ),
    ("not-utf-8", &[Link("profiles/rack.toml", "")]),
    // Options and conditions.
    ("undeclared-option", &[Replace(IMAGE, "\"maas.packaging\"", "\"maas.packing\"")]),
    ("option-not-quoted", &[Replace(IMAGE, "\"maas.packaging\"", "maas.packaging")]),
    ("option-wrong-type", &[Replace(IMAGE, "\"maas.packaging\" = \"stub\"", "\"maas.port\" = \"5240\"")]),
    ("option-unknown-choice", &[Replace(IMAGE, "\"stub\"", "\"stubb\"")]),
    ("option-without-value", &[Replace(BASE, "default = 5240\n", "")]),
    ("option-bad-default", &[Replace(BASE, "default = \"deb\"", "default = \"rpm\"")]),
    ("option-choice-without-values", &[Replace(BASE, "values = [\"deb\", \"snap\", \"stub\"]\n", "")]),
    ("option-values-without-choice", &[Replace(BASE, "type = \"integer\"", "type = \"integer\"\nvalues = [\"1\"]")]),
    (
        "option-declared-twice",
        &[Append(RACK, "[option.\"maas.port\"]\ntype = \"integer\"\ndefault = 1\ndoc = \"Again.\"\n")],
    ),
    (
        "option-inside-option",
        &[Append(RACK, "[option.\"maas.port.http\"]\ntype = \"integer\"\ndefault = 1\ndoc = \"Inside.\"\n")],
    ),
    ("condition-undeclared", &[Replace(REGION, "maas.packaging=deb", "maas.packging=deb")]),
    ("condition-never", &[Replace(REGION, "maas.packaging=deb", "maas.packaging=debs")]),
    ("condition-syntax", &[Replace(REGION, "maas.packaging=deb", "maas.packaging")]),
    ("mistake-in-inactive-section", &[Replace(REGION, "[\"maas-region-api\"]", "[\"maas-region-api\"]\npackage = []")]),
    // Profiles.
    ("profile-missing", &[Replace(RACK, "extends = \"base\"", "extends = \"bas\"")]),
    ("profile-of-role-missing", &[Remove(RACK)]),
    ("tools-missing", &[Remove("profiles/tools.toml")]),
    ("extends-cycle", &[Replace(BASE, "description", "extends = \"region\"\ndescription")]),
    (
        "include-cycle",
        &[
            Replace(ETCD, "packages", "include = [\"more\"]\npackages"),
            Put("profiles/more.toml", "include = [\"etcd\"]\n"),
        ],
    ),
    ("include-itself", &[Replace(ETCD, "packages", "include = [\"etcd\"]\npackages")]),
    ("include-missing", &[Replace(RACK, "include = [\"etcd\"]", "include = [\"ectd\"]")]),
    ("include-extends", &[Replace(ETCD, "packages", "extends = \"base\"\npackages")]),
    ("relation-syntax", &[Replace(BASE, "chrony | ntp", "chrony (~ 4)")]),
    ("unit-name", &[Replace(BASE, "\"chrony.service\"", "\"chrony\"")]),
    ("unit-enabled-and-masked", &[Replace(BASE, "[units]", "[units]\nmask = [\"chrony.service\"]")]),
    ("path-not-absolute", &[Replace(BASE, "\"/var/log/journal\"", "\"var/log/../journal\"")]),
    ("state-twice", &[Append(BASE, "[[state]]\npath = \"/var/log/journal\"\n")]),
    ("mode-of-unknown-file", &[Append(RACK, "[file.\"/etc/maas/rackd.conf\"]\ngroup = \"maas\"\n")]),
    ("port-missing", &[Replace(ETCD, "port = 2379\n", "")]),
    ("port-range", &[Replace(REGION, "\"5240-5247\"", "\"5247-5240\"")]),
    (
        "port-of-vrrp",
        &[Append(
            RACK,
            "[[port]]\nprogram = \"keepalived\"\nlisten = \"node\"\nprotocol = \"vrrp\"\nport = 112\nfrom = \"regions\"\n",
        )],
    ),
    (
        "port-clash",
        &[Append(REGION, "[[port]]\nprogram = \"nginx\"\nlisten = \"node\"\nport = 5242\nfrom = \"anyone\"\n")],
    ),
    (
        "port-clash-vrrp",
        &[Append(
            REGION,
            "[[port]]\nprogram = \"keepalived\"\nlisten = \"node\"\nprotocol = \"vrrp\"\nfrom = \"regions\"\n[[port]]\nprogram = \"ucarp\"\nlisten = \"any\"\nprotocol = \"vrrp\"\nfrom = \"regions\"\n",
        )],
    ),
    ("duplicate-uid", &[Replace(REGION, "uid = 990", "uid = 991")]),
    ("two-uids", &[Append(BASE, "[before.user.etcd]\nuid = 800\n")]),
    ("duplicate-gid", &[Append(BASE, "[before.group.ssl]\ngid = 990\n")]),
    // Overlays and templates.
    ("overlay-missing", &[Replace(BASE, "overlay = [\"base\"]", "overlay = [\"bases\"]")]),
    ("overlay-same-file", &[Put("overlays/base/etc/motd", "hello\n")]),
    (
        "overlay-file-and-directory",
        &[Replace(BASE, "[\"base\"]", "[\"base\", \"more\"]"), Put("overlays/more/etc/motd/part", "")],
    ),
    ("overlay-link-before", &[Link("overlays/region-before/etc/link", "target")]),
    ("template-syntax", &[Put(MOTD, "hello\n{{ role.name }\n")]),
    ("template-unclosed-if", &[Put(MOTD, "{% if role.name %}\nhello\n")]),
    ("template-unknown-variable", &[Put(MOTD, "one\n  {{ roles.name }}\n")]),
    ("template-unknown-filter", &[Put(MOTD, "{{ role.name | shout }}\n")]),
    ("template-include", &[Put(MOTD, "{% include \"other\" %}\n")]),
    ("template-unknown-option", &[Put(MOTD, "{{ option.maas.packing }}\n")]),
    ("template-unknown-role-field", &[Put(MOTD, "{% if false %}{{ role.nam }}{% endif %}\n")]),
    ("template-unknown-cluster-field", &[Put(MOTD, "{{ cluster.vips }}\n")]),
    ("template-unknown-node-field", &[Put(HAPROXY, "{{ node.adress }}\n")]),
    ("template-unknown-secret", &[Put(HAPROXY, "{{ secret.maas_password }}\n")]),
    ("template-unknown-loop-field", &[Put(MOTD, "{% for port in role.ports %}{{ port.number }}{% endfor %}\n")]),
    ("template-field-of-text", &[Put(MOTD, "{{ role.name.first }}\n")]),
    ("template-wrong-value", &[Put(MOTD, "{{ role.name + 1 }}\n")]),
    ("template-counts-too-far", &[Put(MOTD, "{% for x in range(end=1000000) %}{{ x }}{% endfor %}\n")]),
    (
        "template-too-long-output",
        &[Put(MOTD, "{% for x in range(end=60000) %}{{ role.name | indent(width=400, first=true) }}{% endfor %}\n")],
    ),
    ("template-before-role", &[Put(PACKAGING, "{{ role.name }}\n")]),
    ("template-before-option", &[Put(PACKAGING, "{{ option.maas.packagin }}\n")]),
    // The cluster.
    (
        "node-without-cluster",
        &[Replace(IMAGE, "[cluster]\nname = \"lab\"\nvip = \"10.77.0.10\"\nvrid = 77\nnetwork = \"10.77.0.0/24\"", "")],
    ),
    ("node-unknown-role", &[Replace(IMAGE, "[node.rack-2]\nrole = \"rack\"", "[node.rack-2]\nrole = \"racks\"")]),
    ("node-duplicate-name", &[Replace(IMAGE, "[node.rack-2]", "[node.rack-1]")]),
    ("node-duplicate-address", &[Replace(IMAGE, "10.77.0.22", "10.77.0.11")]),
    ("node-duplicate-mac", &[Replace(IMAGE, "52:54:00:77:00:12", "52:54:00:77:00:11")]),
    ("node-outside-network", &[Replace(IMAGE, "10.77.0.22", "10.78.0.22")]),
    ("node-broadcast", &[Replace(IMAGE, "10.77.0.22", "10.77.0.255")]),
    ("vip-outside-network", &[Replace(IMAGE, "vip = \"10.77.0.10\"", "vip = \"192.168.1.10\"")]),
    ("vip-is-a-node", &[Replace(IMAGE, "vip = \"10.77.0.10\"", "vip = \"10.77.0.12\"")]),
    (
        "vrid-of-another-image",
        &[Put(
            "images/other.toml",
            "version = \"1\"\n[distribution]\nid = \"debian\"\nsuite = \"trixie\"\n[role.rack]\nformats = [\"tar\"]\n[cluster]\nname = \"other\"\nvip = \"10.77.0.9\"\nvrid = 77\nnetwork = \"10.77.0.0/24\"\n",
        )],
    ),
    (
        "no-region",
        &[
            Put(REGION, "extends = \"base\"\n"),
            Replace(IMAGE, "[role.region]", "[role.base]"),
            Replace(IMAGE, "role = \"region\"", "role = \"base\"\nvoter = true"),
            Replace(IMAGE, "role = \"region\"", "role = \"base\"\nvoter = true"),
        ],
    ),
    (
        "too-few-voters",
        &[Replace(IMAGE, "[node.region-2]\nrole = \"region\"", "[node.region-2]\nvoter = false\nrole = \"region\"")],
    ),
    (
        "even-voters",
        &[
            Replace(IMAGE, "[node.rack-2]", "[node.rack-2]\nvoter = true"),
            Replace(IMAGE, "[node.rack-1]", "[node.rack-1]\nvoter = true"),
        ],
    ),
    ("dhcp-outside-subnet", &[Replace(IMAGE, "10.77.0.200", "10.77.1.200")]),
    ("dhcp-backwards", &[Replace(IMAGE, "\"10.77.0.100\", \"10.77.0.200\"", "\"10.77.0.200\", \"10.77.0.100\"")]),
    ("dhcp-one-address", &[Replace(IMAGE, "\"10.77.0.100\", \"10.77.0.200\"", "\"10.77.0.200\"")]),
    ("dhcp-over-a-node", &[Replace(IMAGE, "10.77.0.100", "10.77.0.20")]),
    (
        "dhcp-overlap",
        &[Append(
            IMAGE,
            "[[dhcp]]\nsubnet = \"10.77.0.0/24\"\nrange = [\"10.77.0.150\", \"10.77.0.210\"]\nprimary = \"rack-1\"\n",
        )],
    ),
    ("dhcp-unknown-rack", &[Replace(IMAGE, "secondary = \"rack-2\"", "secondary = \"rack-3\"")]),
    ("dhcp-on-a-region", &[Replace(IMAGE, "primary = \"rack-1\"", "primary = \"region-1\"")]),
    ("dhcp-one-rack-twice", &[Replace(IMAGE, "secondary = \"rack-2\"", "secondary = \"rack-1\"")]),
    // Versions.
    ("matrix-distribution", &[Replace(IMAGE, "\"stub\"", "\"deb\""), Append(BASE, VERSIONS)]),
    (
        "matrix-postgresql-old",
        &[Replace(IMAGE, "\"stub\"", "\"snap\"\n\"postgresql.version\" = \"13\""), Append(BASE, VERSIONS)],
    ),
    (
        "matrix-postgresql-new",
        &[Replace(IMAGE, "\"stub\"", "\"snap\"\n\"postgresql.version\" = \"17\""), Append(BASE, VERSIONS)],
    ),
    (
        "matrix-postgresql-deprecated",
        &[
            Replace(IMAGE, "\"stub\"", "\"snap\"\n\"postgresql.version\" = \"14\"\n\"maas.version\" = \"3.6\""),
            Append(BASE, VERSIONS),
        ],
    ),
    (
        "matrix-unknown-maas",
        &[Replace(IMAGE, "\"stub\"", "\"snap\"\n\"maas.version\" = \"4.2\""), Append(BASE, VERSIONS)],
    ),
    ("matrix-no-debs", &[Replace(IMAGE, "\"stub\"", "\"deb\"\n\"maas.version\" = \"3.8\""), Append(BASE, VERSIONS)]),
    // All at once.
    (
        "all-at-once",
        &[
            Replace(IMAGE, "suite =", "siute ="),
            Replace(IMAGE, "vrid = 77", "vrid = \"77\""),
            Replace(IMAGE, "10.77.0.22", "10.77.0.11"),
            Replace(IMAGE, "\"stub\"", "\"stubb\""),
            Replace(BASE, "\"chrony.service\"", "\"chrony\""),
            Replace(REGION, "include = [\"etcd\"]", "include = [\"ectd\"]"),
            Replace(RACK, "packages", "package"),
            Put(MOTD, "{{ role.nam }} {{ cluster.vips }}\n"),
        ],
    ),
    (
        "all-templates-at-once",
        &[
            Put(MOTD, "{{ role.nam }} {{ cluster.vips }}\n{% if false %}{{ option.maas.prt }}{% endif %}\n"),
            Put(HAPROXY, "{{ node.adress }}\n{{ secret.maas }}\n"),
        ],
    ),
];

/// Options that the version matrix asks for.
const VERSIONS: &str = r#"
[option."maas.version"]
type = "text"
default = "3.7"
doc = "Version of MAAS."
[option."postgresql.version"]
type = "choice"
values = ["13", "14", "16", "17"]
default = "16"
doc = "Major version of PostgreSQL."
"#;

fn changed(changes: &[Change]) -> Project {
    changes.iter().fold(Project::new(), |project, change| match change {
        Replace(path, old, new) => project.replacing(path, old, new),
        Put(path, text) => project.with(path, text),
        Remove(path) => project.without(path),
        Append(path, text) => {
            let whole = project.text(path) + text;
            project.with(path, &whole)
        }
        // An empty target stands for bytes that are no text.
        Link(path, "") => project.with_entry(path, Entry::file(&b"a = 1\nb = \"\xff\"\n"[..], false)),
        Link(path, target) => project.with_entry(path, Entry::Link { target: (*target).to_owned() }),
    })
}

#[test]
fn every_mistake_has_its_message() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/spec/tests/bad");
    let bless = std::env::var_os("ROLECAST_BLESS").is_some();
    let mut wrong = Vec::new();
    for (name, changes) in CASES {
        let messages = changed(changes).messages();
        let path = directory.join(format!("{name}.txt"));
        if bless {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(&path, &messages).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if messages.is_empty() || messages != expected {
            wrong.push(format!("== {name}: expected\n{expected}== found\n{messages}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_text_belongs_to_a_case() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/spec/tests/bad");
    let files: BTreeSet<_> =
        std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let cases: BTreeSet<_> = CASES.iter().map(|(name, _)| format!("{name}.txt")).collect();
    assert_eq!(files.difference(&cases).collect::<Vec<_>>(), Vec::<&String>::new(), "texts without a case");
    assert_eq!(cases.len(), CASES.len(), "two cases have one name");
}
