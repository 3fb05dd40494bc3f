//! The lab's machines, seeded in memory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use super::*;
use crate::spec::{self, Cluster, RoleKind, Sources, Spec};

const NOW: u64 = 1_764_000_000;

static LAB: LazyLock<Spec> = LazyLock::new(|| {
    let sources = Sources::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the project reads");
    spec::read(&sources, "images/ha-lab.toml").expect("the lab is sound").0
});

fn lab() -> (&'static Spec, &'static Cluster) {
    (&LAB, LAB.cluster.as_ref().expect("the lab is a cluster"))
}

fn vault() -> Vault {
    let (spec, cluster) = lab();
    Vault::create(spec, cluster, NOW).expect("secrets")
}

/// Every secret value of a vault: what no message may show.
fn values(vault: &Vault) -> Vec<String> {
    let passwords = vault.secret.values().map(|kept| &kept.value.0);
    let keys = vault.node.values().map(|node| &node.key.0);
    let own = [&vault.authority.key.0, &vault.operator.private.0];
    passwords.chain(keys).chain(own).cloned().collect()
}

#[test]
fn a_vault_comes_back_as_it_was_written() {
    let vault = vault();
    assert_eq!(Vault::read(&vault.write()).unwrap(), vault);
    assert_eq!((vault.generation, vault.issued, vault.step), (1, NOW, Step::Settled));
    assert_eq!(vault.node.len(), 4);
    assert_eq!(vault.secret.len(), 7);
}

#[test]
fn no_secret_is_shown_by_debug_or_by_an_error() {
    let (spec, cluster) = lab();
    let vault = vault();
    let planted = plant(spec, cluster, "region-1", &vault, Terms::default()).unwrap();
    let text = vault.write();
    let password = vault.secret["database_password"].value.0.clone();
    let broken = [
        text.replace(&password, &format!("{password}\"")),
        text.replace("value = ", "worth = "),
        text.replace("format = 1", "format = 2"),
        text.replace("step = \"settled\"", "step = \"introduced\""),
    ];
    let errors = broken.map(|text| format!("{:?}", Vault::read(&text).unwrap_err())).concat();
    let shown = format!("{vault:?} {planted:?} {:?} {errors}", planted.nocloud());
    for value in values(&vault) {
        // A key's first lines are the same for all.
        let part = value.lines().nth(1).unwrap_or(&value);
        assert!(!shown.contains(part), "a secret is shown");
    }
}

#[test]
fn every_node_is_seeded_with_what_its_role_waits_for() {
    let (spec, cluster) = lab();
    let vault = vault();
    for node in &cluster.nodes {
        let planted = plant(spec, cluster, &node.name, &vault, Terms::default()).unwrap();
        let ticket = &planted.ticket;
        assert_eq!(crate::ticket::Ticket::read(ticket.write().as_bytes()).unwrap(), *ticket);
        assert!(ticket.withheld.is_empty());
        let role = spec.roles.iter().find(|role| role.name == node.role).unwrap();
        let paths: Vec<&str> = ticket.files.iter().map(|file| file.path.as_str()).collect();
        let late = late_files(spec, role);
        assert_eq!(paths, late.iter().map(|file| file.path.as_str()).collect::<Vec<_>>());
        assert!(paths.is_sorted() && paths.contains(&"/etc/ssh/authorized_keys/root"), "{paths:?}");
        let region = role.kind == RoleKind::Region;
        assert_eq!(ticket.secrets.len(), if region { 7 } else { 1 }, "{:?}", ticket.secrets);
        assert!(ticket.secrets.contains_key("maas_secret"));
        // Nothing of a region is on a rack, and nobody's key on another.
        let text = ticket.write();
        for (name, certificate) in &vault.node {
            let line = certificate.key.0.lines().nth(1).unwrap();
            assert_eq!(text.contains(line), *name == node.name, "key of {name} at {}", node.name);
        }
        assert_eq!(text.contains(&vault.secret["superuser_password"].value.0), region);
        assert!(!text.contains(vault.authority.key.0.lines().nth(1).unwrap()));
    }
}

#[test]
fn over_an_open_way_no_secret_travels() {
    let (spec, cluster) = lab();
    let vault = vault();
    let terms = Terms { open: true, ..Terms::default() };
    let planted = plant(spec, cluster, "region-2", &vault, terms).unwrap();
    let whole = plant(spec, cluster, "region-2", &vault, Terms::default()).unwrap();
    let text = planted.ticket.write();
    for value in values(&vault) {
        assert!(!text.contains(value.lines().nth(1).unwrap_or(&value)));
    }
    assert!(planted.ticket.secrets.is_empty());
    let mut paths: BTreeSet<&str> = planted.ticket.files.iter().map(|file| file.path.as_str()).collect();
    assert!(!paths.is_empty() && !planted.ticket.withheld.is_empty());
    paths.extend(planted.ticket.withheld.iter().map(String::as_str));
    assert_eq!(paths, whole.ticket.files.iter().map(|file| file.path.as_str()).collect());
}

#[test]
fn one_vault_gives_one_seed_and_a_changed_one_another_instance() {
    let (spec, cluster) = lab();
    let mut vault = vault();
    let seed = |vault: &Vault| plant(spec, cluster, "rack-1", vault, Terms::default()).unwrap().nocloud();
    let first = seed(&vault);
    assert_eq!(first, seed(&Vault::read(&vault.write()).unwrap()));
    assert_eq!(first.volume().unwrap(), seed(&vault).volume().unwrap());
    vault.rotate(&["maas_secret".to_owned()], NOW + 1).unwrap();
    assert_ne!(first.meta_data, seed(&vault).meta_data);
}

#[test]
fn a_node_that_was_added_moved_or_taken_away_is_followed() {
    let (spec, cluster) = lab();
    let mut vault = vault();
    let before = vault.clone();
    assert_eq!(vault.complete(spec, cluster, NOW + 1).unwrap(), Vec::<String>::new());
    assert_eq!(vault, before, "nothing to do changes nothing");
    let mut other = cluster.clone();
    other.nodes[0].address = "10.77.0.99".parse().unwrap();
    let refused = plant(spec, &other, "region-1", &vault, Terms::default()).unwrap_err();
    assert!(format!("{refused:?}").contains("secrets init"), "{refused:?}");
    other.nodes[3].name = "rack-9".into();
    let done = vault.complete(spec, &other, NOW + 1).unwrap();
    assert_eq!(done.len(), 3, "{done:?}");
    assert_eq!(vault.generation, 2);
    assert!(vault.node["region-1"].names.contains(&"10.77.0.99".to_owned()));
    assert!(vault.node.contains_key("rack-9") && !vault.node.contains_key("rack-2"));
    assert_eq!(vault.node["region-2"], before.node["region-2"]);
    plant(spec, &other, "rack-9", &vault, Terms::default()).unwrap();
}

#[test]
fn rotation_changes_what_is_named_or_everything_but_the_authority() {
    let before = vault();
    let mut vault = before.clone();
    assert!(vault.rotate(&["nothing".to_owned()], NOW).is_err());
    assert_eq!(vault, before);
    vault.rotate(&["rewind_password".to_owned(), "rack-1".to_owned()], NOW + 5).unwrap();
    assert_eq!((vault.generation, vault.issued), (2, NOW + 5));
    let changed = vault.secret.iter().filter(|(name, kept)| before.secret[*name] != **kept).count();
    assert_eq!(changed, 1);
    assert_ne!(vault.node["rack-1"], before.node["rack-1"]);
    assert_eq!(vault.node["rack-2"], before.node["rack-2"]);
    // A clock that was put back does not take the file back in time.
    vault.rotate(&[], NOW).unwrap();
    assert_eq!((vault.generation, vault.issued), (3, NOW + 5));
    assert!(vault.secret.iter().all(|(name, kept)| before.secret[name] != *kept));
    assert_eq!(vault.authority, before.authority);
}

#[test]
fn an_authority_changes_in_three_steps_and_nobody_is_left_without_trust() {
    let (_, cluster) = lab();
    let mut vault = vault();
    let old = vault.clone();
    let bundle = |vault: &Vault| vault.trusted().matches("BEGIN CERTIFICATE").count();
    assert_eq!(vault.advance_authority(&cluster.name, NOW + 1).unwrap(), Step::Introduced);
    assert_eq!((bundle(&vault), &vault.node), (2, &old.node));
    assert_eq!(vault.advance_authority(&cluster.name, NOW + 2).unwrap(), Step::Replaced);
    assert_eq!(bundle(&vault), 2);
    assert!(vault.trusted().contains(old.authority.certificate.trim_end()));
    assert!(vault.node.values().all(|node| node.signed_by == vault.authority.name));
    assert_eq!(vault.advance_authority(&cluster.name, NOW + 3).unwrap(), Step::Settled);
    assert_eq!((bundle(&vault), vault.generation), (1, 4));
    assert_ne!(vault.authority, old.authority);
    assert_eq!(Vault::read(&vault.write()).unwrap(), vault);
}
