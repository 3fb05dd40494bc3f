//! What sound projects become.

use super::project::Project;
use crate::spec::facts;
use crate::spec::sources::Entry;
use crate::spec::template::render;
use crate::spec::{Body, Format, Layer, OptionValue, RoleKind, Spec};

fn layer<'spec>(spec: &'spec Spec, name: &str) -> &'spec Layer {
    spec.layers.iter().find(|layer| layer.name == name).unwrap()
}

fn wants(layer: &Layer) -> Vec<String> {
    layer.wants.iter().map(|want| want.relation.to_string()).collect()
}

#[test]
fn layers_come_parents_first_and_hold_includes_and_conditions() {
    let spec = Project::new().spec();
    let names: Vec<_> = spec.layers.iter().map(|layer| (layer.name.as_str(), layer.parent)).collect();
    assert_eq!(names, [("base", None), ("region", Some(0)), ("rack", Some(0))]);
    assert_eq!(wants(&spec.layers[0]), ["systemd", "chrony | ntp"]);
    // The included file comes before the text that includes it, a condition after it.
    assert_eq!(wants(&spec.layers[1]), ["etcd-server (>= 3.5)", "haproxy", "python3-minimal"]);
    assert_eq!(wants(&spec.layers[2]), ["etcd-server (>= 3.5)", "isc-dhcp-server"]);
    assert_eq!((spec.tools.name.as_str(), spec.tools.parent), ("tools", Some(0)));
    let deb = Project::new().replacing("images/lab.toml", "\"stub\"", "\"deb\"");
    let deb = deb.replacing("images/lab.toml", "debian", "ubuntu").replacing("images/lab.toml", "trixie", "noble");
    assert_eq!(wants(layer(&deb.spec(), "region")), ["etcd-server (>= 3.5)", "haproxy", "maas-region-api"]);
}

#[test]
fn every_want_points_at_its_line() {
    let spec = Project::new().spec();
    assert_eq!(spec.layers[1].wants[0].span.place(), "profiles/etcd.toml:1:13");
    assert_eq!(spec.layers[1].wants[2].span.place(), "profiles/region.toml:25:13");
}

#[test]
fn roles_options_and_archives_are_settled() {
    let spec = Project::new().spec();
    assert_eq!((spec.name.as_str(), spec.version.as_str()), ("lab", "2026.11.1"));
    let roles: Vec<_> = spec.roles.iter().map(|role| (role.name.as_str(), role.kind, role.layers.clone())).collect();
    assert_eq!(roles, [("region", RoleKind::Region, vec![0, 1]), ("rack", RoleKind::Rack, vec![0, 2])]);
    assert_eq!(spec.roles[0].formats, [Format::Disk, Format::Tar]);
    assert_eq!(spec.options["maas.packaging"], OptionValue::Text("stub".into()));
    assert_eq!(spec.options["maas.port"], OptionValue::Integer(5240));
    assert_eq!(spec.archives["debian"].suites, ["trixie", "trixie-updates"]);
    assert_eq!(spec.archives["debian-security"].suites, ["trixie-security"]);
    assert_eq!(spec.archives["debian-security"].keyring, "images/keyrings/debian-archive.pgp");
    assert!(spec.archives["debian"].keyring_bytes.is_none());
}

#[test]
fn an_archive_table_changes_or_adds() {
    let project = Project::new().replacing(
        "images/lab.toml",
        "[options]",
        r#"[archive.debian]
mirror = "https://deb.example/debian/"
priority = 400
[archive.local]
suites = ["lab"]
fingerprints = ["0123456789abcdef0123456789abcdef01234567"]
allow-expired = true

[options]"#,
    );
    let spec = project.with("images/keyrings/local.pgp", "keys").spec();
    let debian = &spec.archives["debian"];
    assert_eq!(debian.mirror.as_deref(), Some("https://deb.example/debian"));
    assert_eq!((debian.priority, debian.suites.len()), (400, 2));
    let local = &spec.archives["local"];
    assert_eq!((local.components.as_slice(), local.priority), (&["main".to_owned()][..], 500));
    assert_eq!(local.keyring_bytes.as_deref(), Some(&b"keys"[..]));
    assert_eq!(local.fingerprints, ["0123456789ABCDEF0123456789ABCDEF01234567"]);
    assert!(local.allow_expired);
}

#[test]
fn ubuntu_has_one_archive_with_universe() {
    let project = Project::new().replacing("images/lab.toml", "debian", "ubuntu");
    let spec = project.replacing("images/lab.toml", "trixie", "noble").spec();
    let archive = &spec.archives["ubuntu"];
    assert_eq!(spec.archives.len(), 1);
    assert_eq!(archive.suites, ["noble", "noble-updates", "noble-security"]);
    assert_eq!(archive.components, ["main", "universe"]);
    assert_eq!(archive.keyring, "images/keyrings/ubuntu-archive.pgp");
}

#[test]
fn overlays_become_files_links_and_templates() {
    let link = Entry::Link { target: "../usr/share/zoneinfo/UTC".into() };
    let project = Project::new().with_entry("overlays/base/etc/localtime", link);
    let project = project.with_entry("overlays/base/usr/bin/hello", Entry::file(&b"#!/bin/sh\n"[..], true));
    let spec = project.spec();
    let base = layer(&spec, "base");
    let files: Vec<_> = base.files.iter().map(|file| (file.path.as_str(), file.mode())).collect();
    assert_eq!(
        files,
        [
            ("etc/chrony/chrony.conf", Some(0o644)),
            ("etc/localtime", None),
            ("etc/motd", Some(0o644)),
            ("usr/bin/hello", Some(0o755)),
        ]
    );
    assert_eq!((base.permissions[0].path.as_str(), base.permissions[0].mode), ("etc/chrony/chrony.conf", 0o600));
    // Without a mode of its own a permission keeps the overlay's.
    let haproxy = &layer(&spec, "region").permissions[0];
    assert_eq!((haproxy.mode, haproxy.owner.as_str(), haproxy.group.as_str()), (0o644, "root", "haproxy"));
}

#[test]
fn files_of_before_are_rendered_with_options() {
    let spec = Project::new().spec();
    let before = &layer(&spec, "region").before;
    assert_eq!(before.files[0].path, "etc/maas/packaging");
    assert_eq!(before.files[0].content, b"stub\n");
    let users: Vec<_> = before.users.iter().map(|user| (user.name.as_str(), user.uid, user.gid)).collect();
    assert_eq!(users, [("etcd", 991, 991), ("maas", 990, 990)]);
}

#[test]
fn the_variables_of_a_template_decide_when_it_is_bound() {
    let late = |spec: &Spec, name: &str, path: &str| {
        let file = layer(spec, name).files.iter().find(|file| file.path == path).unwrap();
        match &file.body {
            Body::Early { .. } => false,
            Body::Late { .. } => true,
            other => panic!("{other:?}"),
        }
    };
    let spec = Project::new().spec();
    assert!(!late(&spec, "base", "etc/motd"), "`role` and a described `cluster` are known at build");
    assert!(late(&spec, "region", "etc/haproxy/haproxy.cfg"), "`node` is not");
    let text = Project::new().text("images/lab.toml");
    let generic = Project::new().with("images/lab.toml", text.split("[cluster]").next().unwrap());
    assert!(late(&generic.spec(), "base", "etc/motd"), "without a cluster nothing of it is known at build");
    let secret = Project::new().with("overlays/base/etc/motd.tera", "{{ secret.maas_secret }}");
    assert!(late(&secret.spec(), "base", "etc/motd"));
    let shadowed = "{% for node in cluster.nodes %}{{ node.name }}\n{% endfor %}";
    let shadowed = Project::new().with("overlays/base/etc/motd.tera", shadowed).spec();
    assert!(!late(&shadowed, "base", "etc/motd"), "a loop's own `node` is no fact of a node");
}

#[test]
fn templates_render_with_facts_of_roles_and_nodes() {
    let text = concat!(
        "{{ node.name }} {{ node.address }}/{{ node.prefix }} {{ node.kind }} {{ node.priority }}\n",
        "{% for peer in node.peers %}{{ peer.name }} {% endfor %}\n",
        "{% for voter in cluster.voters %}{{ voter.name }}={{ voter.address }} {% endfor %}\n",
        "{% for port in role.ports %}{{ port.program }}:{{ port.first }}-{{ port.last }} {% endfor %}\n",
        "{{ cluster.cidr }} {{ cluster.netmask }} {% if cluster.gateway %}{{ cluster.gateway }}{% else %}none{% endif %}\n",
    );
    let spec = Project::new().with("overlays/region/etc/haproxy/haproxy.cfg.tera", text).spec();
    let file = &layer(&spec, "region").files[0];
    let Body::Late { template } = &file.body else { panic!("{file:?}") };
    let texts: Vec<_> =
        facts::sample(&spec, &spec.roles[0]).iter().map(|facts| render(template, facts).unwrap()).collect();
    assert_eq!(
        texts[0],
        "region-1 10.77.0.11/24 region 200\n\
         region-2 rack-1 rack-2 \n\
         region-1=10.77.0.11 region-2=10.77.0.12 rack-1=10.77.0.21 \n\
         sshd:22-22 etcd:2379-2379 maas:5240-5247 \n\
         10.77.0.0/24 255.255.255.0 none\n"
    );
    assert!(texts[1].starts_with("region-2 10.77.0.12/24 region 190\n"));
    assert_eq!(texts.len(), 2);
}

#[test]
fn the_first_rack_witnesses_only_where_it_is_needed() {
    let voters = |project: &Project| {
        let cluster = project.spec().cluster.unwrap();
        let voters = cluster.nodes.iter().filter(|node| node.voter);
        voters.map(|node| node.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(voters(&Project::new()), ["region-1", "region-2", "rack-1"]);
    let third = "[node.region-3]\nrole = \"region\"\naddress = \"10.77.0.13\"\n\n[node.rack-1]";
    assert_eq!(
        voters(&Project::new().replacing("images/lab.toml", "[node.rack-1]", third)),
        ["region-1", "region-2", "region-3"]
    );
    let refused = Project::new().replacing(
        "images/lab.toml",
        "address = \"10.77.0.21\"",
        "address = \"10.77.0.21\"\nvoter = false",
    );
    assert_eq!(voters(&refused), ["region-1", "region-2", "rack-2"]);
}

#[test]
fn only_what_decides_the_packages_changes_the_digest() {
    let digest = |project: Project| project.spec().digest;
    let image = "images/lab.toml";
    let before = digest(Project::new());
    let same = [
        Project::new().with("overlays/base/etc/issue", "hello\n"),
        Project::new().replacing(image, "2026.11.1", "2026.11.2"),
        Project::new().replacing(image, "10.77.0.10\"", "10.77.0.9\""),
        Project::new().replacing(image, "[\"netboot\"]", "[\"netboot\", \"qcow2\"]"),
        Project::new().replacing(image, "[options]", "[archive.debian]\nmirror = \"http://m.example/\"\n[options]"),
        Project::new().replacing(image, "\"stub\"", "\"snap\""),
        Project::new().replacing(
            "profiles/base.toml",
            "[\"systemd\", \"chrony | ntp\"]",
            "[\"chrony|ntp\", \"systemd\"]",
        ),
        Project::new().replacing("profiles/base.toml", "[\"quiet\"]", "[\"debug\"]"),
    ];
    for (index, project) in same.into_iter().enumerate() {
        assert_eq!(digest(project), before, "case {index}");
    }
    let different = [
        Project::new().replacing(image, "trixie", "sid"),
        Project::new().replacing(image, "[options]", "[archive.debian]\npriority = 600\n[options]"),
        Project::new().replacing("profiles/base.toml", "systemd\"", "systemd (>= 257)\""),
        Project::new().replacing("profiles/base.toml", "chrony | ntp", "ntp | chrony"),
        Project::new().replacing("profiles/rack.toml", "include", "recommends = true\ninclude"),
        Project::new().replacing("profiles/tools.toml", "dracut-core", "dracut"),
        Project::new()
            .replacing(image, "\"maas.packaging\" = \"stub\"", "\"maas.packaging\" = \"deb\"")
            .replacing(image, "debian", "ubuntu"),
    ];
    let mut seen = vec![before];
    for (index, project) in different.into_iter().enumerate() {
        let digest = digest(project);
        assert!(!seen.contains(&digest), "case {index}");
        seen.push(digest);
    }
}

#[test]
fn a_sound_project_says_nothing() {
    assert_eq!(Project::new().messages(), "");
}
