//! Every lint finds what it is for, and a clean root passes.

use std::sync::Arc;

use crate::store::Store;
use crate::tree::{Content, Kind, Meta, Node, Origin, Tree, TreePath};

fn root(store: &Store, files: &[(&str, &[u8])]) -> Tree {
    let origin = Arc::new(Origin::Built("test".into()));
    let directory = || Node::new(Meta::root_owned(0o755), Kind::Directory, origin.clone());
    let mut tree = Tree::new(directory());
    for (path, bytes) in files {
        let path = TreePath::parse(path).unwrap();
        let mut parents = Vec::new();
        let mut parent = path.parent();
        while let Some(place) = parent {
            parent = place.parent();
            parents.push(place);
        }
        for place in parents.into_iter().rev() {
            if tree.get(&place).is_none() {
                tree.insert(place, directory()).unwrap();
            }
        }
        let content = Content::whole(store.put(bytes).unwrap(), bytes.len() as u64);
        tree.insert(path, Node::new(Meta::root_owned(0o644), Kind::file(content), origin.clone())).unwrap();
    }
    tree
}

#[test]
fn a_clean_root_passes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let tree = root(
        &store,
        &[
            ("etc/machine-id", b""),
            ("etc/shadow", b"root:*:19000:0:99999:7:::\nmaas:!:19000::::::\n"),
            ("var/log/lastlog", b""),
            ("usr/bin/cloud-init", b"#!"),
            ("usr/share/example.pem", b"-----BEGIN PRIVATE KEY-----\nshipped to everyone, in a package\n"),
            ("etc/ssh/ssh_host_key.note", b""),
        ],
    );
    let mut tree = tree;
    tree.remove(&TreePath::parse("etc/ssh").unwrap());
    super::check("rack", &tree, &store, true).unwrap();
}

#[test]
fn every_lint_finds_what_it_is_for() {
    let key: &[u8] = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n";
    let cases: &[(&str, &[u8], &str)] = &[
        ("etc/machine-id", b"0123456789abcdef0123456789abcdef\n", "machine-id"),
        ("var/lib/dbus/machine-id", b"x", "machine-id"),
        ("etc/hostname", b"region-1\n", "host-name"),
        ("etc/ssh/ssh_host_ed25519_key.pub", b"ssh-ed25519 AAAA", "host-keys"),
        ("var/lib/cloud/instances/i-1/user-data.txt", b"x", "instance"),
        ("var/lib/postgresql/17/main/PG_VERSION", b"17\n", "cluster"),
        ("var/lib/etcd/member/snap/db", b"x", "cluster"),
        ("var/lib/maas/maas_id", b"abc123", "maas-identity"),
        ("var/lib/maas/certificates/cluster.pem", b"x", "maas-identity"),
        ("etc/custom/tls.key", key, "private-key"),
        ("etc/shadow", b"root:$y$j9T$abc$def:19000:0:99999:7:::\n", "password"),
        ("etc/maas/regiond.conf", b"database_host: localhost\ndatabase_pass: hunter2\n", "password"),
        ("etc/dbconfig-common/maas.conf", b"x", "password"),
        ("var/lib/maas/secret", b"00", "credential"),
        ("etc/bind/rndc.key", b"key", "credential"),
        ("root/.ssh/authorized_keys", b"ssh-ed25519 AAAA", "credential"),
        ("var/log/dpkg.log", b"2026", "build-host"),
        ("etc/apt/apt.conf.d/99proxy", b"Acquire::http::Proxy \"http://10.0.0.1\";\n", "build-host"),
        ("usr/sbin/policy-rc.d", b"exit 101", "leftovers"),
        ("var/lib/apt/lists/x_InRelease", b"x", "leftovers"),
        ("etc/fstab", b"/dev/sda1 / ext4\n", "maas-image"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for (path, bytes, lint) in cases {
        let tree = root(&store, &[("usr/bin/cloud-init", b"#!"), (path, bytes)]);
        let report = super::check("rack", &tree, &store, true).expect_err(path);
        let [diagnostic] = report.diagnostics.as_slice() else { panic!("{path}: {report:?}") };
        assert!(diagnostic.message.contains(&format!("`/{path}`")), "{path}: {}", diagnostic.message);
        assert!(diagnostic.notes[0].contains(&format!("lint `{lint}`")), "{path}: {:?}", diagnostic.notes);
    }
}

#[test]
fn a_tarball_for_maas_needs_cloud_init_with_its_data_source() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let tree = root(&store, &[("etc/cloud/cloud.cfg.d/90.cfg", b"datasource_list: [NoCloud, None]\n")]);
    super::check("rack", &tree, &store, false).unwrap();
    let report = super::check("rack", &tree, &store, true).unwrap_err();
    assert_eq!(report.diagnostics.len(), 2);
}
