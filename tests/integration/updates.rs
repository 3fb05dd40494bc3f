//! A machine becomes another version over HTTP, in QEMU, and fetches of it what it does not have: a good one stays, a bad
//! one is left again by itself, and the power may fail in the middle.
//!
//! Three versions of the lab's rack: 1 is installed; 2 is good; 3 has a service that crashes. Needs root.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::publish::pretend_to_build;
use crate::support::command::Rolecast;
use crate::support::gpt;
use crate::support::images::onto_disk;
use crate::support::machine::Machine;
use crate::support::namespace::Namespace;
use crate::support::outputs::Outputs;
use crate::support::project::Project;
use crate::support::report::Report;
use crate::support::server::{Manner, Server};
use crate::support::turn;

const IMAGE: &str = "images/ha-lab.toml";
const ROLE: &str = "rack";

/// Size of the machine's disk: room for the second slot and for state.
const DISK: u64 = 8 << 30;

/// Longest wait for the first written block of an update, from power-on.
const WRITING_WITHIN: Duration = Duration::from_secs(900);

/// Longest wait for version 2 to be back, from power-on: three boots, an update, and the bad version's two minutes.
const BACK_WITHIN: Duration = Duration::from_secs(3600);

/// What every look shows first: who booted, what is installed, and what the boot loader has.
const SHOW: &str = r#"
section() { echo "@@ $1"; }
stage=/var/lib/rolecast/test-stage
. /etc/os-release
kernels=$(bootctl --print-esp-path)/EFI/Linux
update() { systemctl start --wait systemd-sysupdate.service; echo "exit $?"; journalctl --boot --unit systemd-sysupdate --output cat --no-pager; }
show() {
    section state; systemctl is-system-running --wait
    section version; echo "$IMAGE_VERSION"
    section motd; cat /etc/motd
    section failed; systemctl --failed --plain --no-legend --no-pager
    section active; systemctl list-units --state=active --plain --no-legend --no-pager
    section failures; systemctl status --failed --no-pager --lines=20
    section errors; journalctl --boot --priority=err --no-pager --quiet --output=cat
    section loader; ls $kernels
    section health; journalctl --boot --unit rolecast-health --output cat --no-pager
}
"#;

/// Updates, and shows what came of it.
const UPDATE: &str = "show\nsection update; update\nsection loader-after; ls $kernels
section relay; journalctl --boot --unit 'rolecast-updates@*' --output cat --no-pager\nsection end\n";

/// On version 2, as it comes up on trial: keeps what it sees, updates to 3 and restarts; version 3 is left alone; on
/// version 2 again: shows both. One try is left to version 3, because each costs minutes in an emulator.
const THERE_AND_BACK: &str = r#"
[ "$IMAGE_VERSION" != 3 ] || exit 0
if [ ! -e "$stage" ]; then
    show >"$stage.new"
    update >"$stage.update"
    mv "$kernels/rack_3+3-0.efi" "$kernels/rack_3+1-2.efi"
    mv "$stage.new" "$stage"
    sync
    systemctl reboot
    exit 0
fi
show
section before; sed 's/^@@/--/' "$stage"
section update; cat "$stage.update"
section bad; journalctl --boot=-1 --unit rolecast-health --output cat --no-pager
section end
"#;

/// Builds version `version` after `change`, and publishes it.
#[track_caller]
fn release(version: &str, output: &Path, tree: &Path, url: &str, change: impl FnOnce(&Project)) {
    let project = Project::of_this_repository();
    project
        .replace(IMAGE, "version = \"2026.11.1\"", &format!("version = \"{version}\""))
        .replace(IMAGE, "vrid = 77\n", &format!("vrid = 77\nupdates = \"{url}/updates\"\n"))
        .write("overlays/base/etc/motd", format!("version {version}\n"));
    change(&project);
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("store");
    let rolecast = Rolecast::at(project.root(), &store, output);
    pretend_to_build(output, version);
    let formats = ["--role", ROLE, "--format", "disk", "--format", "update"];
    rolecast.build(IMAGE, &formats).succeeds();
    rolecast.run(&["secrets", "init", IMAGE]).succeeds();
    let (tree, images) = (tree.to_string_lossy(), output.to_string_lossy());
    let told = rolecast.run(&["publish", &tree, IMAGE, "--images", &images, "--url", url]).succeeds();
    assert!(told.contains(&format!("updates has {version} for machines of role {ROLE}")), "{told}");
}

// Eight boots, three of them of a version that has to fail.
#[test]
#[ignore = "half an hour where machines are emulated: tests/run --test integration -- --ignored updates::"]
fn a_good_version_stays_a_bad_one_is_left_and_the_power_may_fail() {
    let _turn = turn::beside_another();
    let namespace = Namespace::new();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
    let (output, tree) = (folder.path().join("out"), folder.path().join("tree"));
    fs::create_dir(&tree).expect("in a temporary folder");
    let server = namespace.inside(|| Server::start(&tree));
    // The host, as QEMU's user network shows it to a machine.
    let url = format!("http://10.0.2.2:{}", server.port());
    release("1", &output, &tree, &url, |_| {});
    let disk = onto_disk(&Outputs::new(&output, ROLE).disk(), folder.path(), DISK);
    release("2", &output, &tree, &url, |_| {});
    let good = Outputs::new(&output, ROLE).root_hash();
    let machine = || Machine::from_disk(&disk).networked();

    // The power fails while the root of version 2 is written. The little that travels has to take its time for that.
    server.behave(".root", Manner::Slow(16 << 10));
    let cut = machine().looking(&format!("{SHOW}\nupdate\n")).start(&namespace);
    wait_for_written(&disk);
    drop(cut);
    assert_eq!(slots(&disk), ["verity_1", "root_1", "_empty", "_empty"]);
    server.forgive();

    // Version 1 is what boots, and the update is done over.
    server.take_promised();
    let first = machine().looking(&format!("{SHOW}{UPDATE}")).report(&namespace);
    assert_little_travelled(&server, &tree, &first);
    assert_eq!(first.section("version").trim(), "1");
    first.assert_healthy();
    assert_eq!(first.section("loader").trim(), "rack_1.efi");
    assert!(first.section("update").starts_with("exit 0"), "{}", first.section("update"));
    assert_eq!(words(&first, "loader-after"), ["rack_1.efi", "rack_2+3-0.efi"]);
    assert_eq!(slots(&disk), ["verity_1", "root_1", "verity_2", "root_2"]);
    let identifier = |label: &str| {
        let table = gpt::partitions(&disk);
        let found = table.into_iter().find(|partition| partition.label == label).expect("just seen");
        found.identifier.replace('-', "")
    };
    assert_eq!(format!("{}{}", identifier("root_2"), identifier("verity_2")), good);

    // Version 2 is good and stays; version 3 is not, and version 2 comes back.
    release("3", &output, &tree, &url, |project| {
        project
            .write(
                "overlays/base/usr/lib/systemd/system/crashes.service",
                "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=2\n\
                 [Install]\nWantedBy=multi-user.target\n",
            )
            .replace(
                "profiles/base.toml",
                "\"rolecast-health.service\",",
                "\"rolecast-health.service\", \"crashes.service\",",
            );
    });
    let back = machine().looking(&format!("{SHOW}{THERE_AND_BACK}")).within(BACK_WITHIN).report(&namespace);
    let before = back.section("before");
    for line in ["-- version\n2\n", "-- motd\nversion 2\n", "-- state\nrunning\n", "is healthy on this machine"] {
        assert!(before.contains(line), "{before}");
    }
    assert!(before.contains("-- loader\nrack_1.efi\nrack_2.efi\n"), "version 2 was not marked as good: {before}");
    assert!(back.section("update").starts_with("exit 0"), "{}", back.section("update"));
    assert_eq!(back.section("version").trim(), "2", "{}", back.section("bad"));
    back.assert_healthy();
    let bad = back.section("bad");
    assert!(bad.contains("rack 3 is not healthy on this machine: crashes.service crashes again and again"), "{bad}");
    assert_eq!(words(&back, "loader"), ["rack_2.efi", "rack_3+0-3.efi"]);
    assert_eq!(slots(&disk), ["verity_3", "root_3", "verity_2", "root_2"]);
}

/// Of each part of version 2, which differs from version 1 by a file, the server was asked for a small piece.
#[track_caller]
fn assert_little_travelled(server: &Server, tree: &Path, report: &Report) {
    let promised = server.take_promised();
    let relay = report.section("relay");
    eprintln!("updates: {promised:?}\n{relay}");
    let files = fs::read_dir(tree.join("updates").join(ROLE)).expect("it was published");
    let (mut whole, mut travelled) = (0, 0);
    for file in files.map(|file| file.expect("it was published")) {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{ROLE}_2")) {
            whole += file.metadata().expect("it was published").len();
            assert!(relay.contains(&format!("{name}: ")), "{name} did not come through the relay: {relay}");
        }
    }
    for (path, bytes) in &promised {
        travelled += bytes;
        let of_two = [format!("/{ROLE}_2"), format!("/index-{ROLE}_2")].iter().any(|start| path.contains(start));
        assert!(path.contains("SHA256SUMS") || of_two, "{path}");
    }
    assert!(travelled < whole / 20, "{travelled} of {whole} bytes travelled: {relay}");
}

/// Names of the partitions that hold a version, in the disk's order.
fn slots(disk: &Path) -> Vec<String> {
    let table = gpt::partitions(disk).into_iter();
    table.filter(|part| [gpt::ROOT, gpt::ROOT_VERITY].contains(&&*part.kind)).map(|part| part.label).collect()
}

/// Waits until the second slot begins as a squashfs does.
#[track_caller]
fn wait_for_written(disk: &Path) {
    let begun = Instant::now();
    let file = File::open(disk).expect("the machine's disk");
    loop {
        let slot = gpt::partitions(disk).into_iter().filter(|partition| partition.kind == gpt::ROOT).nth(1);
        let mut magic = [0; 4];
        if slot.is_some_and(|slot| file.read_exact_at(&mut magic, slot.start).is_ok()) && &magic == b"hsqs" {
            return;
        }
        assert!(begun.elapsed() < WRITING_WITHIN, "nothing was written within {WRITING_WITHIN:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn words<'r>(report: &'r Report, section: &str) -> Vec<&'r str> {
    report.section(section).split_whitespace().collect()
}
