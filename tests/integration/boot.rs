//! The images boot: from disk under UEFI, over the network, as a container; and a changed byte is refused.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use crate::support::command::run;
use crate::support::container::Container;
use crate::support::gpt;
use crate::support::images::{ROLES, onto_disk, outputs};
use crate::support::machine::Machine;
use crate::support::namespace::Namespace;
use crate::support::outputs::Outputs;
use crate::support::report::Report;
use crate::support::server::Server;
use crate::support::turn;

/// Size of the machine's disk: room for the second slot and for state.
const DISK: u64 = 8 << 30;

#[test]
fn a_rack_boots_from_disk_through_verity() {
    boots_from_disk("rack", |_, _| ());
}

#[test]
fn a_standby_boots_from_disk_through_verity() {
    boots_from_disk("region-standby", |_, _| ());
}

#[test]
fn a_primary_boots_from_disk_through_verity_and_boots_again() {
    boots_from_disk("region-primary", assert_second_boot_keeps);
}

#[track_caller]
fn boots_from_disk(role: &str, then: impl FnOnce(&Path, &Report)) {
    let outputs = outputs(role);
    let _turn = turn::beside_another();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = onto_disk(&outputs.disk(), folder.path(), DISK);
    let report = Machine::from_disk(&disk).report(&Namespace::new());
    tell(role, "disk", &report);
    report.assert_healthy();
    assert_root_is_sealed(&report, &outputs.root_hash());
    assert_slots_and_state(&report, &disk);
    then(&disk, &report);
}

/// Boots the disk again: the same machine, the same partitions, the boot marked as good.
#[track_caller]
fn assert_second_boot_keeps(disk: &Path, first: &Report) {
    let made = gpt::partitions(disk);
    let second = Machine::from_disk(disk).report(&Namespace::new());
    tell("region-primary", "disk, second boot", &second);
    second.assert_healthy();
    assert_eq!(gpt::partitions(disk), made, "the second boot changed the partition table");
    assert_slots_and_state(&second, disk);
    assert_eq!(first.section("identity"), second.section("identity"), "the machine is another one after a reboot");
    // Boot counting: the first boot that came through took the counter from the UKI's name.
    let loader = second.section("loader");
    assert!(loader.contains(".efi") && !loader.contains('+'), "not marked as good: {loader}");
}

#[test]
fn a_changed_byte_of_the_root_is_refused() {
    let _turn = turn::beside_another();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = onto_disk(&outputs("rack").disk(), folder.path(), DISK);
    // In the superblock, which mounting reads.
    flip(&disk, gpt::find(&disk, gpt::ROOT).start + 40);
    let namespace = Namespace::new();
    let mut machine = Machine::from_disk(&disk).unchecked().start(&namespace);
    machine.wait_for("Kernel panic - not syncing: dm-verity device corrupted", Duration::from_secs(600));
    let console = machine.console();
    assert!(console.contains("is corrupted"), "{console}");
    assert!(!console.contains("Reached target multi-user.target"), "{console}");
    machine.wait_for_restart(Duration::from_secs(600));
}

#[test]
fn a_machine_without_its_root_restarts() {
    // Not alone: it waits, idle, for most of its time, so another machine can boot meanwhile.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = onto_disk(&outputs("rack").disk(), folder.path(), DISK);
    // Another identifier: the root is there, and is not the one that the command line names.
    let number = gpt::partitions(&disk).iter().position(|partition| partition.kind == gpt::ROOT).expect("a root") + 1;
    let identifier = format!("--partition-guid={number}:{}", "00000000-1111-2222-3333-444444444444");
    run("sgdisk", [identifier.as_ref(), disk.as_os_str()]).succeeds();
    let namespace = Namespace::new();
    let mut machine = Machine::from_disk(&disk).unchecked().start(&namespace);
    machine.wait_for_restart(Duration::from_secs(900));
    let console = machine.console();
    assert!(!console.contains("Reached target multi-user.target"), "{console}");
}

#[test]
fn the_netboot_set_boots_the_same_root() {
    let _turn = turn::beside_another();
    let outputs = outputs("rack");
    let namespace = Namespace::new();
    let server = namespace.inside(|| Server::start(&outputs.netboot()));
    let folder = tempfile::tempdir().expect("a temporary folder");
    // As a DHCP server hands it out: a first script by TFTP that goes on with the set's own over HTTP.
    let script = format!("#!ipxe\ndhcp\nchain http://10.0.2.2:{}/{}\n", server.port(), Outputs::IPXE_SCRIPT);
    fs::write(folder.path().join("first.ipxe"), script).expect("a file in the temporary folder");
    let report = Machine::from_network(folder.path(), "first.ipxe").report(&namespace);
    tell("rack", "netboot", &report);
    report.assert_healthy();
    assert_root_is_sealed(&report, &outputs.root_hash());
    let asked = server.take_requests();
    assert!(asked.iter().any(|path| path.ends_with("root.img")), "the root came from elsewhere: {asked:?}");
}

#[test]
fn the_tarballs_run_as_containers() {
    let _turn = turn::beside_another();
    for role in ROLES {
        let outputs = outputs(role);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("root");
        unpack(&outputs.tarball(), &root);
        let mut container = Container::start(&root);
        let report = container.report();
        tell(role, "container", &report);
        report.assert_healthy();
        container.enter("dpkg", &["--audit"]).succeeds();
        container.stop();
    }
}

/// The figures of a boot, for the closing note.
fn tell(role: &str, medium: &str, report: &Report) {
    let (seconds, processor) = (report.seconds_to_boot, report.processor_seconds);
    let (restarts, memory) = (report.restarts, report.memory_available());
    eprintln!(
        "boot: {role} {medium}: multi-user.target after {seconds:.1} s, {processor:.1} CPU s, {memory} MiB free, \
         {restarts} restarts"
    );
}

/// The mapped root is a read-only verity device with the manifest's root hash, and what is mounted at `/` lies on it.
#[track_caller]
fn assert_root_is_sealed(report: &Report, root_hash: &str) {
    assert_eq!(report.kernel_argument("roothash"), Some(root_hash));
    let verity = report.section("verity");
    let device = verity.lines().find(|line| line.starts_with("root "));
    let words: Vec<&str> = device.unwrap_or_else(|| panic!("no device `root`: {verity}")).split(' ').collect();
    assert!(words[1].starts_with("CRYPT-VERITY-"), "{verity}");
    assert_eq!(words[2], "1", "the mapped root can be written: {verity}");
    let [kind, _, options] = report.mount("/").expect("there is a root");
    let read_only = options.split(',').any(|option| option == "ro" || option.starts_with("lowerdir="));
    assert!(matches!(kind, "squashfs" | "overlay") && read_only, "{}", report.section("mounts"));
    let console = &report.console;
    assert!(console.is_empty() || !console.contains("is corrupted"), "{console}");
}

/// Two slots of root and verity, and a mounted file system for state.
#[track_caller]
fn assert_slots_and_state(report: &Report, disk: &Path) {
    let table = gpt::partitions(disk);
    for (kind, count) in [(gpt::ESP, 1), (gpt::ROOT, 2), (gpt::ROOT_VERITY, 2)] {
        let found = table.iter().filter(|partition| partition.kind == kind).count();
        assert_eq!(found, count, "{kind} in {table:#?}");
    }
    let state = report.partitions().into_iter().find(|partition| partition["PARTLABEL"] == "state");
    let state = state.unwrap_or_else(|| panic!("no partition `state`: {}", report.section("partitions")));
    let device = format!("/dev/{}", state["NAME"]);
    let mounts = report.section("mounts");
    assert!(mounts.lines().any(|line| line.split(' ').nth(2) == Some(&device)), "{device} is not mounted:\n{mounts}");
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).expect("the copy can be opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("the byte lies in the image");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("the copy can be written");
}

/// Unpacks as the tool that deploys it would: numbers for owners, modes and extended attributes kept.
#[track_caller]
pub fn unpack(tarball: &Path, root: &Path) {
    fs::create_dir(root).expect("the temporary folder takes a folder");
    let (tarball, root) = (tarball.to_string_lossy(), root.to_string_lossy());
    let flags = ["--extract", "--gzip", "--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*"];
    run("tar", flags.into_iter().chain(["--file", &*tarball, "--directory", &*root])).succeeds();
}
