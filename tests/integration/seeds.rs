//! Secrets and seeds: what programs of others say of them, and that nothing secret lies open.
//!
//! The certificates pass OpenSSL's strict check, the key OpenSSH's, the volume mtools', and in the built roots cloud-init
//! takes the seed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rolecast::seed::{Vault, late_files};
use rolecast::spec::{self, Sources, Spec};
use rolecast::ticket::Ticket;

use crate::boot::unpack;
use crate::support::command::{Rolecast, command, finish, run};
use crate::support::container::Container;
use crate::support::images::{ROLES, outputs};
use crate::support::project::Project;
use crate::support::turn;

pub const IMAGE: &str = "images/ha-lab.toml";
pub const NODES: [&str; 4] = ["region-1", "region-2", "rack-1", "rack-2"];

/// A copy of this repository's project with secrets made.
pub fn with_secrets() -> (Project, Rolecast) {
    let project = Project::of_this_repository();
    let rolecast = Rolecast::new(&project);
    rolecast.run(&["secrets", "init", IMAGE]).succeeds();
    (project, rolecast)
}

pub fn vault(project: &Project) -> Vault {
    let text = fs::read_to_string(project.root().join("secrets/ha-lab.toml")).expect("a secrets file");
    Vault::read(&text).unwrap_or_else(|problem| panic!("{problem:?}"))
}

pub fn lab() -> Spec {
    let sources = Sources::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the project reads");
    spec::read(&sources, IMAGE).expect("the lab is sound").0
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o7777
}

/// Every file under `directory`, sorted.
pub fn files_under(directory: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter();
    walk.map(|entry| entry.expect("a folder of ours"))
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect()
}

#[test]
fn the_secrets_file_is_private_kept_and_shown_without_values() {
    let (project, rolecast) = with_secrets();
    let path = project.root().join("secrets/ha-lab.toml");
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let before = fs::read(&path).unwrap();
    let again = rolecast.run(&["secrets", "init", IMAGE]).succeeds();
    assert!(again.contains("has all that the cluster needs"), "{again}");
    assert_eq!(fs::read(&path).unwrap(), before, "a second init changed the secrets");

    let vault = vault(&project);
    let shown = rolecast.run(&["secrets", "show", IMAGE]).succeeds();
    let json = rolecast.run(&["secrets", "show", IMAGE, "--json"]).succeeds();
    for (name, kept) in &vault.secret {
        assert!(shown.contains(name.as_str()) && !shown.contains(&kept.value.0), "{name}");
        assert!(json.contains(name.as_str()) && !json.contains(&kept.value.0), "{name}");
    }
    // Two years, less the second or so since they were made.
    let valid = ["729 days left", "730 days left"].iter().any(|left| shown.contains(left));
    assert!(valid && !shown.contains("PRIVATE"), "{shown}");
    let revealed = rolecast.run(&["secrets", "show", IMAGE, "--reveal", "maas_secret"]).succeeds();
    assert_eq!(revealed.trim(), vault.secret["maas_secret"].value.0);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    for verb in [&["secrets", "show", IMAGE][..], &["seed", IMAGE], &["secrets", "rotate", IMAGE]] {
        let refused = rolecast.run(verb).fails();
        assert!(refused.contains("can be read by others") && refused.contains("chmod 600"), "{refused}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_node_that_is_added_gets_its_certificate_with_the_next_seed() {
    let (project, rolecast) = with_secrets();
    let node = "\n[node.rack-3]\nrole = \"rack\"\naddress = \"10.77.0.23\"\n";
    let text = fs::read_to_string(project.root().join(IMAGE)).unwrap();
    project.write(IMAGE, text + node);
    let said = rolecast.run(&["seed", IMAGE, "rack-3"]).succeeds();
    assert!(said.contains("made the certificate of rack-3"), "{said}");
    assert_eq!(vault(&project).generation, 2);
    assert!(rolecast.run(&["seed", IMAGE, "rack-9"]).fails().contains("rack-3"), "the nodes that there are, are named");
}

#[test]
fn openssl_accepts_every_certificate_also_while_the_authority_changes() {
    let (project, rolecast) = with_secrets();
    let old = vault(&project);
    let mut vault = old.clone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let verify = |trusted: &str, certificate: &str, address: &str| {
        let (trusted, certificate) = (place("ca.pem", trusted), place("node.pem", certificate));
        for purpose in ["sslserver", "sslclient"] {
            let words = ["verify", "-x509_strict", "-purpose", purpose, "-verify_ip", address, "-CAfile"];
            let words = words.into_iter().map(Path::new).chain([trusted.as_path(), &certificate]);
            run("openssl", words).succeeds();
        }
    };
    let addresses = ["10.77.0.11", "10.77.0.12", "10.77.0.21", "10.77.0.22"];
    for now in 0..4 {
        for (name, address) in NODES.iter().zip(addresses) {
            let certificate = &vault.node[*name];
            verify(&vault.trusted(), &certificate.certificate, address);
            verify(&vault.trusted(), &certificate.certificate, "127.0.0.1");
            if name.starts_with("region") {
                verify(&vault.trusted(), &certificate.certificate, "10.77.0.10");
            }
        }
        // A machine that has this step speaks with one that has the step before, in both directions.
        let mut next = vault.clone();
        next.advance_authority("lab", vault.issued + now).unwrap();
        verify(&vault.trusted(), &next.node["rack-1"].certificate, "10.77.0.21");
        verify(&next.trusted(), &vault.node["rack-1"].certificate, "10.77.0.21");
        vault = next;
    }
    // The key belongs to the certificate, and to nobody's else.
    let key = place("node.key", &old.node["region-1"].key.0);
    let public = run("openssl", ["pkey", "-pubout", "-in", &key.to_string_lossy()]).succeeds();
    let certificate = place("node.pem", &old.node["region-1"].certificate);
    let words = ["x509", "-noout", "-pubkey", "-in", &certificate.to_string_lossy()].map(str::to_owned);
    assert_eq!(run("openssl", words).succeeds(), public);
    drop(rolecast);
}

#[test]
fn openssh_finds_the_public_half_of_the_operators_key() {
    let (project, _) = with_secrets();
    let key = vault(&project).operator;
    let path = project.root().join("secrets/key");
    project.write("secrets/key", &key.private.0);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let public = run("ssh-keygen", ["-y", "-f", &path.to_string_lossy()]).succeeds();
    assert_eq!(public.trim_end(), key.public);
}

#[test]
fn an_encrypted_secrets_file_needs_its_identity_and_never_lies_open() {
    let project = Project::of_this_repository();
    let identity = project.root().join("identity");
    let recipient = run("age-keygen", ["-o".as_ref(), identity.as_os_str()]);
    let recipient = recipient.stderr.trim().rsplit(' ').next().unwrap().to_owned();
    let rolecast = Rolecast::new(&project);
    rolecast.run(&["secrets", "init", IMAGE, "--recipient", &recipient]).succeeds();
    let path = project.root().join("secrets/ha-lab.toml.age");
    assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    let refused = rolecast.run(&["secrets", "show", IMAGE]).fails();
    assert!(refused.contains("ROLECAST_AGE_IDENTITY"), "{refused}");
    let rolecast = rolecast.environment("ROLECAST_AGE_IDENTITY", &identity);
    let reveal = ["secrets", "show", IMAGE, "--reveal", "database_password"];
    let first = rolecast.run(&reveal).succeeds();
    rolecast.run(&["secrets", "rotate", IMAGE, "database_password"]).succeeds();
    let second = rolecast.run(&reveal).succeeds();
    assert_ne!(first, second);
    for file in files_under(&project.root().join("secrets")) {
        let bytes = fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(first.trim()) && !text.contains(second.trim()), "{}", file.display());
    }
}

#[test]
fn seeds_are_private_whole_and_the_same_from_the_same_secrets() {
    let (project, rolecast) = with_secrets();
    let seeds = project.root().join("secrets/ha-lab");
    rolecast.run(&["seed", IMAGE]).succeeds();
    let files = files_under(&seeds);
    assert_eq!(files.iter().filter(|file| file.starts_with(seeds.join("rack-1"))).count(), 5, "{files:#?}");
    let before: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    for file in &files {
        assert_eq!((mode(file), mode(file.parent().unwrap())), (0o600, 0o700), "{}", file.display());
    }
    rolecast.run(&["seed", IMAGE]).succeeds();
    assert_eq!(before, files.iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>());

    let vault = vault(&project);
    for node in NODES {
        let place = seeds.join(node);
        let image = place.join("cidata.img").to_string_lossy().into_owned();
        assert!(run("mlabel", ["-s", "-i", &image, "::"]).succeeds().contains("CIDATA"));
        for name in ["user-data", "meta-data", "network-config"] {
            let read = run("mtype", ["-i", &image, &format!("::{name}")]).succeeds();
            assert_eq!(read, fs::read_to_string(place.join(name)).unwrap(), "{name} of {node}");
        }
        let ticket = ticket_in(&fs::read_to_string(place.join("user-data")).unwrap());
        assert_eq!((ticket.node.as_str(), ticket.withheld.len()), (node, 0));
        // MAAS hands it out over plain HTTP.
        let ticket = ticket_in(&fs::read_to_string(place.join("maas-user-data")).unwrap());
        assert!(ticket.secrets.is_empty() && !ticket.withheld.is_empty());
        assert!(!ticket.write().contains(&vault.secret["maas_secret"].value.0));
    }
    rolecast.run(&["seed", IMAGE, "rack-1", "--secrets-over-http"]).succeeds();
    assert!(ticket_in(&fs::read_to_string(seeds.join("rack-1/maas-user-data")).unwrap()).withheld.is_empty());
}

/// The ticket that a user-data file brings.
#[track_caller]
pub fn ticket_in(user_data: &str) -> Ticket {
    let content = user_data.lines().find_map(|line| line.trim().strip_prefix("content: ")).expect("a file to write");
    let mut decoder = command("base64");
    decoder.arg("--decode").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = decoder.spawn().expect("coreutils");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), content.as_bytes()).unwrap();
    Ticket::read(&child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn generic_images_are_seeded_for_any_cluster() {
    let project = Project::of_this_repository();
    let text = fs::read_to_string(project.root().join(IMAGE)).unwrap();
    let (generic, cluster) = text.split_at(text.find("[cluster]").unwrap());
    project.write("images/generic.toml", generic).write("sites/north.toml", cluster.replace("10.77.", "10.99."));
    let rolecast = Rolecast::new(&project);
    let refused = rolecast.run(&["secrets", "init", "images/generic.toml"]).fails();
    assert!(refused.contains("--cluster"), "{refused}");
    for verb in [&["secrets", "init"][..], &["seed"]] {
        let words = [verb, &["images/generic.toml", "--cluster", "sites/north.toml"]].concat();
        rolecast.run(&words).succeeds();
    }
    let ticket = ticket_in(&fs::read_to_string(project.root().join("secrets/north/region-1/user-data")).unwrap());
    assert_eq!((ticket.image.as_str(), ticket.cluster.vip.to_string().as_str()), ("generic", "10.99.0.10"));
    // What is baked where the cluster is known comes with the seed here.
    let haproxy = ticket.files.iter().find(|file| file.path == "/etc/haproxy/haproxy.cfg").expect("HAProxy's file");
    assert!(haproxy.content.0.contains("10.99.0.12:5240"), "{}", haproxy.content.0);
}

#[test]
fn cloud_init_takes_the_seeds_and_the_image_waits_for_what_they_bring() {
    let (project, rolecast) = with_secrets();
    rolecast.run(&["seed", IMAGE]).succeeds();
    let spec = lab();
    for (role, node) in [("region-primary", "region-1"), ("region-standby", "region-2"), ("rack", "rack-1")] {
        let manifest = outputs(role).manifest();
        let written = spec.roles.iter().find(|written| written.name == role).unwrap();
        let now: Vec<_> = late_files(&spec, written)
            .into_iter()
            .map(|late| serde_json::json!([late.path, late.owner, late.group, late.mode]))
            .collect();
        let late = manifest["late"].as_array().expect("a list");
        let then: Vec<_> = late
            .iter()
            .map(|late| serde_json::json!([late["path"], late["owner"], late["group"], late["mode"]]))
            .collect();
        assert_eq!(now, then, "the table of {role}");
        if role != "rack" {
            continue;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("root");
        unpack(&outputs(role).tarball(), &root);
        let place = project.root().join("secrets/ha-lab").join(node);
        for (name, kind) in
            [("user-data", "cloud-config"), ("maas-user-data", "cloud-config"), ("network-config", "network-config")]
        {
            fs::copy(place.join(name), root.join("tmp").join(name)).unwrap();
            let root = root.to_string_lossy();
            let file = format!("/tmp/{name}");
            let words = [&*root, "cloud-init", "schema", "--schema-type", kind, "--config-file", &file];
            let said = run("chroot", words).succeeds();
            assert!(said.contains("Valid schema"), "{said}");
        }
    }
    assert_eq!(ROLES.len(), 3);
}

#[test]
fn a_machine_comes_up_at_its_own_address_with_its_ticket_and_lets_the_operator_in() {
    let _turn = turn::beside_another();
    let (project, rolecast) = with_secrets();
    rolecast.run(&["seed", IMAGE, "rack-1"]).succeeds();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("root");
    unpack(&outputs("rack").tarball(), &root);
    let seed = root.join("var/lib/cloud/seed/nocloud");
    fs::create_dir_all(&seed).unwrap();
    for name in ["user-data", "meta-data", "network-config"] {
        fs::copy(project.root().join("secrets/ha-lab/rack-1").join(name), seed.join(name)).unwrap();
    }
    // A card whose other end leads nowhere: nobody answers DHCP.
    let mut container = Container::start_on(&root, |namespace| {
        let card = "link add wire type veth peer name card address 52:54:00:77:00:21";
        for words in [card, "link set wire up"] {
            let mut ip = namespace.command("ip");
            ip.args(words.split(' '));
            finish(ip).succeeds();
        }
    });
    let report = container.report();
    assert!(report.seconds_to_boot < 60.0, "{} s: it waited for an address", report.seconds_to_boot);
    let inside = |script: &str| container.enter("/bin/sh", &["-ec", script]).succeeds();
    let status = inside("cloud-init status --wait --long");
    assert!(status.contains("status: done") && status.contains("errors: []"), "{status}");
    let addresses = inside("ip -4 -brief address show dev card");
    assert_eq!(addresses.split_whitespace().filter(|word| word.contains('/')).collect::<Vec<_>>(), ["10.77.0.21/24"]);
    assert_eq!(inside("hostname").trim(), "rack-1");
    // Arrived, or accepted already.
    let ticket = inside("cat /run/rolecast/ticket.json || cat /var/lib/rolecast/ticket.json");
    assert_eq!(Ticket::read(ticket.as_bytes()).unwrap().node, "rack-1");
    let modes = inside("stat -c '%a %U' $(ls /run/rolecast/ticket.json /var/lib/rolecast/ticket.json 2>/dev/null)");
    assert!(modes.lines().all(|mode| mode == "600 root"), "{modes}");

    // From outside, as `apply` comes.
    let ssh = "#!/bin/sh\nexec nsenter --target $(cat \"$0.pid\") --net ssh \"$@\"\n";
    project.program("ssh", ssh).write("ssh.pid", container.init().to_string());
    let ssh = project.root().join("ssh").to_string_lossy().into_owned();
    let shown = inside("ssh-keygen -l -f /var/lib/rolecast/ssh/ssh_host_ed25519_key.pub");
    let key = format!("rack-1={}", shown.split_whitespace().nth(1).unwrap());
    let stranger = rolecast.run(&["apply", IMAGE, "rack-1", "--ssh", &ssh]).fails();
    assert!(stranger.contains(&format!("--host-key {key}")), "{stranger}");
    let said = rolecast.run(&["apply", IMAGE, "rack-1", "--ssh", &ssh, "--host-key", &key]);
    assert!(!format!("{said}").contains("cannot reach"), "{said}");
    assert!(project.root().join("secrets/ha-lab.known-hosts").exists());
    container.stop();
}
