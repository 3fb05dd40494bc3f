//! Secrets and seeds: what programs of others say of them, and that nothing secret lies open.
//!
//! The certificates pass OpenSSL's strict check, the key OpenSSH's, the volume mtools', the published configuration
//! dnsmasq's, and in the built roots cloud-init takes the seed. `apply` speaks with stand-ins for ssh.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rolecast::digest::Digest;
use rolecast::seed::{Vault, late_files};
use rolecast::spec::{self, Sources, Spec};
use rolecast::sys::HostKey;
use rolecast::ticket::Ticket;

use crate::boot::unpack;
use crate::support::command::{Rolecast, command, finish, run};
use crate::support::container::Container;
use crate::support::images::{ROLES, outputs};
use crate::support::project::Project;
use crate::support::turn;

const IMAGE: &str = "images/ha-lab.toml";
const NODES: [&str; 4] = ["region-1", "region-2", "rack-1", "rack-2"];

/// A copy of this repository's project with secrets made.
fn with_secrets() -> (Project, Rolecast) {
    let project = Project::of_this_repository();
    let rolecast = Rolecast::new(&project);
    rolecast.run(&["secrets", "init", IMAGE]).succeeds();
    (project, rolecast)
}

fn vault(project: &Project) -> Vault {
    let text = fs::read_to_string(project.root().join("secrets/ha-lab.toml")).expect("a secrets file");
    Vault::read(&text).unwrap_or_else(|problem| panic!("{problem:?}"))
}

fn lab() -> Spec {
    let sources = Sources::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the project reads");
    spec::read(&sources, IMAGE).expect("the lab is sound").0
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o7777
}

/// Every file under `directory`, sorted.
fn files_under(directory: &Path) -> Vec<PathBuf> {
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
fn ticket_in(user_data: &str) -> Ticket {
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

/// Manifests, netboot sets and updates as a build of `version` leaves them, with bytes that nothing boots.
pub fn pretend_to_build(output: &Path, version: &str) {
    let spec = lab();
    for role in &spec.roles {
        let late = late_files(&spec, role).into_iter().map(|late| {
            serde_json::json!({
                "path": late.path, "owner": late.owner, "group": late.group, "mode": late.mode,
                "source": late.template.source.path, "variables": late.template.variables,
            })
        });
        let digest = Digest::of(b"");
        let manifest = serde_json::json!({
            "format": 1, "rolecast": "0", "image": spec.name, "version": version, "role": role.name,
            "released": "2026-11-01T00:00:00Z",
            "distribution": "debian trixie amd64", "lock": digest, "late": late.collect::<Vec<_>>(),
            "tree": { "digest": digest, "files": 0, "directories": 0, "links": 0, "bytes": 0 },
            "root": {
                "hash": digest, "size": 0, "sha256": digest, "hash_area_size": 0, "kernel": "6.12", "initrd": digest,
                "command_line": format!("roothash={digest} console=ttyS0"),
            },
            "state": [], "packages": [], "outputs": [{
                "format": "update", "file": format!("{0}.update/{0}_{version}.efi", role.name), "size": role.name.len(),
                "sha256": Digest::of(role.name.as_bytes()),
            }],
        });
        let place = output.join(&role.name);
        let update = place.join(format!("{}.update", role.name));
        fs::create_dir_all(&update).unwrap();
        fs::write(update.join(format!("{}_{version}.efi", role.name)), &role.name).unwrap();
        let netboot = place.join(format!("{}.netboot", role.name));
        fs::create_dir_all(&netboot).unwrap();
        fs::write(place.join("manifest.json"), manifest.to_string()).unwrap();
        for name in ["vmlinuz", "initrd.img", "root.img"] {
            fs::write(netboot.join(name), format!("{name} of {}", role.name)).unwrap();
        }
    }
}

#[test]
fn the_published_tree_holds_what_machines_load_and_no_secret() {
    let (project, rolecast) = with_secrets();
    let output = project.root().join("out");
    pretend_to_build(&output, "2026.11.1");
    let top = project.root().join("tree");
    let url = "http://10.77.0.1:8080";
    let publish = ["publish", "tree", IMAGE, "--url", url];
    rolecast.run(&publish).succeeds();
    rolecast.run(&publish).succeeds();
    let conf = top.join("dnsmasq.conf");
    run("dnsmasq", ["--test".into(), format!("--conf-file={}", conf.display())]).succeeds();
    let conf = fs::read_to_string(conf).unwrap();
    for line in ["port=0", "dhcp-ignore=tag:!known", "dhcp-host=52:54:00:77:00:21,set:rack-1,10.77.0.21,rack-1"] {
        assert!(conf.lines().any(|have| have == line), "{line}\n{conf}");
    }
    // Every address that a script names leads into the tree.
    let mut named = 0;
    for file in files_under(&top) {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        for address in text.split([' ', '\n', ',', '\'', '=']).filter_map(|word| word.strip_prefix(url)) {
            assert!(top.join(address.trim_start_matches('/')).exists(), "{address} in {}", file.display());
            named += 1;
        }
    }
    assert!(named > 16, "{named}");
    let grub = fs::read_to_string(top.join("grub/grub.cfg-01-52-54-00-77-00-11")).unwrap();
    assert!(grub.contains("'ds=nocloud;s=http://10.77.0.1:8080/seed/region-1/'"), "{grub}");
    let built = fs::metadata(output.join("rack/rack.netboot/root.img")).unwrap().ino();
    assert_eq!(fs::metadata(top.join("images/2026.11.1/rack/root.img")).unwrap().ino(), built, "a copy of the root");

    // What sysupdate reads is what coreutils check.
    let sums = ["-c", "cd tree/updates/rack && sha256sum --check --strict SHA256SUMS"];
    let mut check = command("sh");
    check.args(sums).current_dir(project.root());
    assert_eq!(finish(check).succeeds(), "rack_2026.11.1.efi: OK\nrack_2026.11.1.efi.caibx: OK\n");

    let vault = vault(&project);
    // cloud-init asks for it again and again where there is none.
    assert_eq!(fs::read_to_string(top.join("seed/rack-1/vendor-data")).unwrap(), "");
    let secret = |text: &str| vault.secret.values().any(|kept| text.contains(&kept.value.0));
    for node in NODES {
        let ticket = ticket_in(&fs::read_to_string(top.join(format!("seed/{node}/user-data"))).unwrap());
        assert!(!secret(&ticket.write()) && !ticket.withheld.is_empty(), "{node}");
    }
    // Where they travel, only the group of the tree may read them.
    let path = top.join("seed/region-1/user-data");
    for more in [&["--secrets-over-http"][..], &[]] {
        let url = if more.is_empty() { "https://boot.example/pxe" } else { url };
        rolecast.run(&[&["publish", "tree", IMAGE, "--url", url], more].concat()).succeeds();
        assert!(secret(&ticket_in(&fs::read_to_string(&path).unwrap()).write()));
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o640, 0o750));
    }
    rolecast.run(&publish).succeeds();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o644, 0o755));
    assert!(!secret(&ticket_in(&fs::read_to_string(&path).unwrap()).write()));
    // An image of another state takes no seed of this one.
    let manifest = output.join("rack/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("/etc/etcd/node.key", "/etc/etcd/other.key")).unwrap();
    let refused = rolecast.run(&publish).fails();
    assert!(refused.contains("another state") && refused.contains("rolecast build"), "{refused}");
}

/// The host key of every stand-in.
const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDjwtn8fkz0jHA68ibuyBtIpXQ7NNnkLNYMqnTTQNQlc";

/// In place of ssh: keeps what it is given, and answers as an agent that follows at once.
const SSH: &str = r#"#!/bin/sh
set -e
for word; do case $word in
root@*) node=${word#root@} ;;
HostKeyAlias=*) name=${word#*=} ;;
UserKnownHostsFile=*) known=$(echo "${word#*=}" | tr -d '"') ;;
PreferredAuthentications=none) looks=yes ;;
esac; done
if [ "$looks" ]; then
    echo "$name $(cat "$(dirname "$0")/host-key")" >>"$known"
    echo 'Permission denied (publickey).' >&2
    exit 255
fi
place=$(dirname "$0")/machines/$node
mkdir -p "$place"
printf '%s\n' "$@" >"$place/arguments"
while [ "$1" != -i ]; do shift; done
ssh-keygen -y -f "$2" >"$place/key"
for word; do last=$word; done
case $last in
accept)
    cat >"$place/ticket"
    generation=$(sed -n 's/^  "generation": \([0-9]*\),$/\1/p' "$place/ticket")
    echo "$generation" >>"$place/generations"
    grep -c 'BEGIN CERTIFICATE' "$place/ticket" >/dev/null || true
    printf 'accepted: generation %s\033[2J\n' "$generation"
    ;;
*)
    if [ -e "$(dirname "$0")/stuck" ]; then state=waiting; else state=joined; fi
    printf '{"state":"%s","generation":%s,"what":null}\n' "$state" "$(tail -n 1 "$place/generations")"
    ;;
esac
"#;

#[test]
fn apply_brings_the_whole_ticket_and_leads_a_new_authority_to_its_end() {
    let (project, rolecast) = with_secrets();
    project.program("bin/ssh", SSH).write("bin/host-key", HOST_KEY);
    let ssh = project.root().join("bin/ssh").to_string_lossy().into_owned();
    let shown = HostKey::parse(HOST_KEY).unwrap().fingerprint();
    let machine = |address: &str, file: &str| {
        fs::read_to_string(project.root().join(format!("bin/machines/{address}/{file}"))).unwrap()
    };
    let all = ["apply", IMAGE, "--all", "--ssh", &ssh, "--patience", "0"];
    // Nobody is told anything before an operator has seen the machine's host key.
    let stranger = rolecast.run(&["apply", IMAGE, "region-1", "--ssh", &ssh]).fails();
    assert!(stranger.contains(&format!("--host-key region-1={shown}")), "{stranger}");
    let other = format!("region-1=SHA256:{}", "A".repeat(43));
    let refused = rolecast.run(&["apply", IMAGE, "region-1", "--ssh", &ssh, "--host-key", &other]).fails();
    assert!(refused.contains("offers another host key") && refused.contains(&shown), "{refused}");
    let typed = rolecast.run(&["apply", IMAGE, "region-1", "--ssh", &ssh, "--host-key", "region-1"]).fails();
    assert!(typed.contains("NODE=SHA256:"), "{typed}");
    let elsewhere = format!("rack-1={shown}");
    let usage = rolecast.run(&["apply", IMAGE, "region-1", "--ssh", &ssh, "--host-key", &elsewhere]).fails();
    assert!(usage.contains("names `rack-1`"), "{usage}");
    assert!(!project.root().join("bin/machines").exists());

    let accepted = format!("region-1={shown}");
    let said = rolecast.run(&["apply", IMAGE, "region-1", "--ssh", &ssh, "--host-key", &accepted]).succeeds();
    assert!(said.contains("region-1: accepted: generation 1") && !said.contains('\u{1b}'), "{said:?}");
    let known = project.root().join("secrets/ha-lab.known-hosts");
    assert_eq!(fs::read_to_string(&known).unwrap(), format!("region-1 {HOST_KEY}\n"));
    let ticket = Ticket::read(machine("10.77.0.11", "ticket").as_bytes()).unwrap();
    assert!(ticket.withheld.is_empty() && ticket.secrets.len() == 7);
    assert_eq!(machine("10.77.0.11", "key").trim(), vault(&project).operator.public);
    let arguments = machine("10.77.0.11", "arguments");
    for word in ["StrictHostKeyChecking=yes", "HostKeyAlias=region-1", "BatchMode=yes", "root@10.77.0.11"] {
        assert!(arguments.lines().any(|argument| argument == word), "{word}\n{arguments}");
    }
    assert!(!project.root().join("bin/machines/10.77.0.12").exists(), "only what was named");

    rolecast.run(&["secrets", "rotate", IMAGE]).succeeds();
    let strangers = rolecast.run(&all).fails();
    assert!(strangers.contains("the host keys of 3 machines are not known"), "{strangers}");
    let keys = ["region-2", "rack-1", "rack-2"].map(|node| format!("{node}={shown}"));
    let named = keys.iter().flat_map(|key| ["--host-key", key]);
    rolecast.run(&all.into_iter().chain(named).collect::<Vec<_>>()).succeeds();
    assert_eq!(machine("10.77.0.22", "generations"), "2\n");

    // A machine that does not follow holds the change up; the next run goes on.
    rolecast.run(&["secrets", "rotate", IMAGE, "--ca"]).succeeds();
    assert!(rolecast.run(&["secrets", "rotate", IMAGE, "--ca"]).fails().contains("already"));
    project.write("bin/stuck", "");
    let refused = rolecast.run(&all).fails();
    assert!(refused.contains("does not run with generation 3 yet") && refused.contains("goes on"), "{refused}");
    assert_eq!(machine("10.77.0.21", "generations"), "2\n3\n");
    fs::remove_file(project.root().join("bin/stuck")).unwrap();
    let old = vault(&project).authority.certificate;
    let said = rolecast.run(&all).succeeds();
    assert!(said.contains("the old authority is dropped"), "{said}");
    for address in ["10.77.0.11", "10.77.0.12", "10.77.0.21", "10.77.0.22"] {
        assert!(machine(address, "generations").ends_with("3\n3\n4\n5\n"), "{address}");
        let ticket = Ticket::read(machine(address, "ticket").as_bytes()).unwrap();
        let trusted = ticket.files.iter().find(|file| file.path == "/etc/rolecast/ca.pem").unwrap();
        assert!(trusted.content.0.matches("BEGIN").count() == 1 && trusted.content.0.trim() != old.trim());
    }
}

#[test]
fn apply_says_which_machine_cannot_be_reached_or_refuses() {
    let (project, rolecast) = with_secrets();
    project.program("ssh-none", "#!/bin/sh\necho 'ssh: connect to host: No route to host' >&2\nexit 255\n");
    project.program("ssh-no", "#!/bin/sh\ncat >/dev/null\necho 'error: it is for the role rack' >&2\nexit 1\n");
    let with = |ssh: &str| {
        let ssh = project.root().join(ssh).to_string_lossy().into_owned();
        rolecast.run(&["apply", IMAGE, "rack-1", "--ssh", &ssh]).fails()
    };
    let unreached = with("ssh-none");
    assert!(unreached.contains("`rack-1` at 10.77.0.21") && unreached.contains("No route"), "{unreached}");
    let refused = with("ssh-no");
    assert!(refused.contains("`rack-1` does not take its ticket") && refused.contains("role rack"), "{refused}");
    assert!(with("ssh-nowhere").contains("cannot run"));
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
