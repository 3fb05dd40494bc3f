//! The published tree: what dnsmasq and coreutils say of it, and that nothing secret lies open in it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rolecast::digest::Digest;
use rolecast::seed::late_files;

use super::seeds::{IMAGE, NODES, files_under, lab, mode, ticket_in, vault, with_secrets};
use crate::support::command::{command, finish, run};

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
                "hash": digest, "size": 0, "hash_area_size": 0, "kernel": "6.12", "initrd": digest,
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
    assert_eq!(finish(check).succeeds(), "index-rack_2026.11.1.efi.caibx: OK\nrack_2026.11.1.efi: OK\n");

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
