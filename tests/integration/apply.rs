//! `apply`: who is told what, and when. A stand-in speaks in ssh's place; real machines are reached in `seeds` and in the lab.

use std::fs;

use rolecast::sys::HostKey;
use rolecast::ticket::Ticket;

use super::seeds::{IMAGE, vault, with_secrets};

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
