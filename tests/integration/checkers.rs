//! Every configuration passes its own program's checker, inside the root that was built.
//!
//! What a seed will bring is rendered here with the facts of the lab's nodes and sample secrets.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rolecast::spec::{self, Body, NodeFacts, Secrets, Sources, Spec, facts, template};

use crate::support::command::run;
use crate::support::images::outputs;

/// Checkers of every role: shell commands in the root, with a network namespace of their own that holds the node's
/// address.
const EVERY_ROLE: &[&str] = &[
    "nft -c -f /etc/nftables.conf",
    "mkdir -p /run/sshd /var/lib/rolecast/ssh && ssh-keygen -q -t ed25519 -N '' -f \
     /var/lib/rolecast/ssh/ssh_host_ed25519_key && sshd -t",
    "chronyd -p -f /etc/chrony/chrony.conf",
    "cloud-init schema -c /etc/cloud/cloud.cfg.d/90-rolecast.cfg",
    "cd /usr/lib/systemd/system && systemd-analyze verify --man=no rolecast-*.service $(ls maas-*.service 2>/dev/null)",
];

/// Checkers of a region.
const REGION: &[&str] = &[
    "haproxy -c -f /etc/haproxy/haproxy.cfg",
    "mkdir -p /run/rolecast && /usr/libexec/rolecast/keepalived-interface && keepalived -t -f /etc/keepalived/keepalived.conf",
    "named-checkconf -z /etc/bind/named.conf",
    // etcd is not there, which Patroni says of each voter; nothing else may be wrong.
    "! timeout 60 unshare --net patroni --validate-config /etc/patroni/rolecast 2>&1 | grep -v 'is not reachable$'",
    POSTGRESQL,
];

/// PostgreSQL starts with the parameters and the access rules that Patroni would give it, and finds no fault in them.
const POSTGRESQL: &str = r#"
set -e
cat > /tmp/settings.py <<'PYTHON'
import yaml
cluster = yaml.safe_load(open("/etc/patroni/rolecast/10-cluster.yml"))
parameters = {**cluster["postgresql"]["parameters"], **cluster["bootstrap"]["dcs"]["postgresql"]["parameters"]}
with open("/tmp/database/postgresql.conf", "a") as conf:
    conf.writelines(f"{name} = '{value}'\n" for name, value in parameters.items())
with open("/tmp/database/pg_hba.conf", "w") as rules:
    rules.write("\n".join(cluster["postgresql"]["pg_hba"]) + "\n")
PYTHON
cat > /tmp/database.sh <<'SHELL'
set -e
initdb -D /tmp/database --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C.UTF-8 \
    --data-checksums --auth-host=scram-sha-256 --auth-local=peer > /tmp/log
python3 /tmp/settings.py
pg_ctl -w -D /tmp/database -o "-c listen_addresses=127.0.0.1" -l /tmp/log start || { cat /tmp/log; exit 1; }
psql -h /run/postgresql -XAtq postgres -c "select * from pg_hba_file_rules where error is not null" \
    -c "select * from pg_file_settings where error is not null" > /tmp/faults
pg_ctl -w -m fast -D /tmp/database stop
cat /tmp/faults
test ! -s /tmp/faults
SHELL
mkdir -p /run/postgresql && chown postgres /run/postgresql
exec timeout 120 setpriv --reuid=postgres --regid=postgres --init-groups env LC_ALL=C.UTF-8 PATH=/usr/lib/postgresql/17/bin:$PATH \
    sh /tmp/database.sh
"#;

/// Checkers of a rack; dhcpd's own configuration is MAAS's to write, so it is a sample one.
const RACK: &[&str] =
    &["printf 'subnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.100 10.77.0.200; }\\n' > /tmp/dhcpd.conf && \
     dhcpd -t -4 -cf /tmp/dhcpd.conf"];

#[test]
fn every_configuration_passes_its_own_checker() {
    let sources = Sources::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the project reads");
    let (spec, _) = spec::read(&sources, "images/ha-lab.toml").expect("the lab is sound");
    let cluster = spec.cluster.as_ref().expect("the lab is a cluster");
    let mut checked = BTreeMap::new();
    for node in &cluster.nodes {
        // One node of each role: the others differ in address and name only.
        if checked.contains_key(&node.role) {
            continue;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let words = ["--extract".as_ref(), "--preserve-permissions".as_ref(), "--xattrs".as_ref(), "--file".as_ref()];
        let (tarball, place) = (outputs(&node.role).tarball(), folder.path());
        let words = words.into_iter().chain([tarball.as_os_str(), "--directory".as_ref(), place.as_os_str()]);
        run("tar", words).succeeds();
        let late = seed(&spec, node, place);
        let more = if node.role == "rack" { RACK } else { REGION };
        for check in EVERY_ROLE.iter().chain(more) {
            inside(place, &node.address.to_string(), check);
        }
        checked.insert(node.role.clone(), late);
    }
    assert_eq!(checked.len(), 3, "{checked:?}");
    assert!(checked.values().all(|late| *late > 0), "every role waits for files of a seed: {checked:?}");
}

/// Lays the files that a seed brings to `node`; says how many.
fn seed(spec: &Spec, node: &NodeFacts, root: &Path) -> usize {
    let role = spec.roles.iter().find(|role| role.name == node.role).expect("the node's role");
    let cluster = spec.cluster.as_ref().expect("the lab is a cluster");
    let facts = facts::for_node(spec, cluster, node, &Secrets::sample()).expect("a node of the lab");
    let mut late = 0;
    for layer in role.layers.iter().map(|layer| &spec.layers[*layer]) {
        for file in &layer.files {
            let Body::Late { template } = &file.body else { continue };
            let text = template::render(template, &facts).unwrap_or_else(|problem| panic!("{problem:?}"));
            let path = root.join(&file.path);
            fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("its directory");
            fs::write(&path, text).expect("a late file");
            let permissions = role.layers.iter().flat_map(|layer| &spec.layers[*layer].permissions);
            if let Some(permission) = permissions.into_iter().find(|permission| permission.path == file.path) {
                fs::set_permissions(&path, fs::Permissions::from_mode(permission.mode.into())).expect("its mode");
                let owner = format!("{}:{}", permission.owner, permission.group);
                let target = format!("/{}", file.path);
                run("chroot", [root.as_os_str(), "chown".as_ref(), owner.as_ref(), target.as_ref()]).succeeds();
            }
            late += 1;
        }
    }
    late
}

/// Runs a checker in the root, in mount and network namespaces of its own.
fn inside(root: &Path, address: &str, check: &str) {
    let script = format!(
        "mount --bind /proc {root}/proc && mount --bind /dev {root}/dev && mount -t tmpfs none {root}/run && \
         ip link set lo up && ip link add card type veth peer name wire && ip link set card up && \
         ip address add {address}/24 dev card && exec chroot {root} /bin/sh -c \"$0\"",
        root = root.display(),
    );
    let words = ["--mount", "--net", "sh", "-ec", script.as_str(), check];
    let outcome = run("unshare", words);
    assert!(outcome.code == Some(0), "`{check}` in {}:\n{outcome}", root.display());
}
