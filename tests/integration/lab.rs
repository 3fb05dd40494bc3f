//! A lab: machines that keep what they should and forget the rest, a network that can be cut, and nothing left behind.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rolecast::lab::{BackEnd, BootServer, Exec, Lab, LabPlan, Machine, wait_for};
use rolecast::spec::{self, Spec, sources::Sources};

use crate::support::command::{Rolecast, run};
use crate::support::images::outputs;
use crate::support::project::Project;
use crate::support::turn;

/// Longest wait for a container to boot; 1 to 20 s were measured.
const BOOTED_WITHIN: Duration = Duration::from_secs(120);

/// Longest wait for an emulated machine to know who it is; four times what a loaded host was measured to need.
const EMULATED_WITHIN: Duration = Duration::from_secs(1800);

/// A lab's directory in a temporary place, with the image of a role that no other lab uses; taken down when dropped.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// With the images of these roles.
    fn with(roles: &[&str]) -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        fs::create_dir(place.outputs()).expect("a folder in the temporary folder");
        for role in roles {
            let folder = place.outputs().join(role);
            fs::create_dir(&folder).expect("a folder in the temporary folder");
            let image = outputs(role).disk();
            run("cp", ["--sparse=always".as_ref(), image.as_os_str(), folder.as_os_str()]).succeeds();
        }
        place
    }

    fn outputs(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn lab(&self) -> PathBuf {
        self.folder.path().join("lab")
    }

    fn make(&self, nodes: &[&str]) -> Lab {
        Lab::make(&self.plan(&spec(), BackEnd::Container, self.outputs(), nodes)).expect("a lab can be made")
    }

    fn plan<'a>(&self, spec: &'a Spec, back_end: BackEnd, outputs: PathBuf, nodes: &[&str]) -> LabPlan<'a> {
        LabPlan {
            spec,
            image: Path::new(env!("CARGO_MANIFEST_DIR")).join("images/ha-lab.toml"),
            outputs,
            back_end,
            nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
            directory: self.lab(),
        }
    }

    /// Everything on this host that is the lab's: namespaces, control groups, mounts of any process, loop devices.
    fn traces(&self, id: &str) -> BTreeSet<String> {
        let place = self.folder.path().to_string_lossy().into_owned();
        let ours = |line: &str| line.contains(id) || line.contains(&place);
        let mut found = BTreeSet::new();
        let mut see = |what: &str, text: &str| {
            found.extend(text.lines().filter(|line| ours(line)).map(|line| format!("{what}: {line}")));
        };
        see("namespace", &run("ip", ["netns", "list"]).succeeds());
        see("loop device", &run("losetup", ["--list", "--noheadings", "--output", "NAME,BACK-FILE"]).succeeds());
        see("control group", &run("find", ["/sys/fs/cgroup", "-maxdepth", "3", "-name", "rolecast-*"]).stdout);
        see("process", &run("ps", ["-eo", "pid,args"]).succeeds());
        for process in fs::read_dir("/proc").expect("proc is mounted").flatten() {
            see("mount", &fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default());
        }
        found
    }

    #[track_caller]
    fn assert_nothing_left(&self, id: &str) {
        let since = Instant::now();
        loop {
            let traces = self.traces(id);
            if traces.is_empty() && !self.lab().exists() {
                return;
            }
            // The kernel frees a loop device a moment after its last user.
            assert!(since.elapsed() < Duration::from_secs(10), "left behind: {traces:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Lab::down(&self.lab(), false);
    }
}

fn spec() -> Spec {
    let sources = Sources::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the repository is a project");
    spec::read(&sources, "images/ha-lab.toml").expect("its image file is sound").0
}

/// What begins the name of all that the lab made.
fn id(directory: &Path) -> Option<String> {
    let written: serde_json::Value = serde_json::from_slice(&fs::read(directory.join("lab.json")).ok()?).ok()?;
    Some(written["id"].as_str().expect("the ledger has an id").to_owned())
}

#[track_caller]
fn boot(machine: &dyn Machine) {
    machine.start().expect("the machine starts");
    wait_for("multi-user.target", BOOTED_WITHIN, || {
        let outcome = machine.exec(&Exec::new("systemctl", &["is-active", "multi-user.target"]))?;
        Ok((outcome.output.trim() == "active").then_some(()))
    })
    .expect("the machine boots");
}

#[track_caller]
fn said(machine: &dyn Machine, script: &str) -> String {
    machine.exec(&Exec::shell(script)).and_then(|outcome| outcome.expect(script)).expect("the script succeeds")
}

#[test]
fn a_machine_keeps_its_state_and_forgets_the_rest() {
    let _turn = turn::beside_another();
    let place = Place::with(&["rack"]);
    let lab = place.make(&["rack-1"]);
    let id = id(&place.lab()).expect("the ledger is there");
    let machine = lab.machine("rack-1").expect("it was asked for");

    let since = Instant::now();
    boot(machine);
    let (seconds, processor) = (since.elapsed().as_secs_f64(), machine.processor_seconds());
    eprintln!("lab: rack-1 with its seed at multi-user.target after {seconds:.1} s, {processor:.1} CPU s");
    wait_for("the ticket to be accepted", BOOTED_WITHIN, || machine.read("/var/lib/rolecast/ticket.json"))
        .expect("the seed reaches the machine");
    let host_key = said(machine, "cat /var/lib/rolecast/ssh/ssh_host_ed25519_key.pub");
    let machine_id = said(machine, "cat /etc/machine-id");
    assert_eq!(machine_id.trim(), machine.identity().machine_id);
    machine.write("/var/lib/rolecast/kept", 0o640, b"state").expect("state can be written");
    machine.write("/etc/drift", 0o644, b"drift").expect("the root can be written");
    assert_eq!(said(machine, "stat -c '%a %U' /var/lib/rolecast/kept").trim(), "640 root");

    // In good order, and with no seed source from now on.
    machine.set_seed(None).expect("the seed can be taken away");
    machine.stop(BOOTED_WITHIN).expect("it shuts down");
    assert!(!machine.is_running());
    assert!(machine.exec(&Exec::new("true", &[])).is_err(), "a program ran on a machine that is off");
    boot(machine);
    assert_eq!(machine.read("/var/lib/rolecast/kept").expect("it runs").as_deref(), Some(&b"state"[..]));
    assert_eq!(machine.read("/etc/drift").expect("it runs"), None, "drift survived a reboot");
    assert_eq!(said(machine, "cat /var/lib/rolecast/ssh/ssh_host_ed25519_key.pub"), host_key);
    assert_eq!(said(machine, "cat /etc/machine-id"), machine_id);
    let address = machine.identity().address.to_string();
    wait_for("the address from the accepted seed", BOOTED_WITHIN, || {
        Ok(said(machine, "ip -4 -brief address show dev eth0").contains(&address).then_some(()))
    })
    .expect("a joined machine needs no seed source");

    // By a power cut, and re-imaged.
    assert!(machine.wipe_state().is_err(), "state was removed under a machine that runs");
    machine.kill().expect("its power can be cut");
    machine.wipe_state().expect("it is off");
    boot(machine);
    assert_eq!(machine.read("/var/lib/rolecast/kept").expect("it runs"), None, "state survived a new image");
    wait_for("new host keys", BOOTED_WITHIN, || machine.read("/var/lib/rolecast/ssh/ssh_host_ed25519_key.pub"))
        .map(|key| assert_ne!(String::from_utf8_lossy(&key), host_key))
        .expect("a new machine makes host keys");

    // A full state partition, and put right.
    machine.fill_state().expect("it can be filled");
    assert!(machine.write("/var/lib/rolecast/more", 0o600, &[0; 1 << 20]).is_err(), "there was room left");
    machine.free_state().expect("it can be freed");
    machine.write("/var/lib/rolecast/more", 0o600, &[0; 1 << 20]).expect("there is room again");

    // Bounds and hostile paths.
    let late = machine.exec(&Exec::new("sleep", &["60"]).within(Duration::from_secs(1))).expect("it starts");
    assert_eq!(late.code, None, "{late:?}");
    said(machine, "ln -sfn /etc/passwd /run/link && ln -sfn ../../../../../../etc/shadow /run/up");
    let inside = String::from_utf8(machine.read("/run/link").expect("it runs").expect("it is there")).expect("text");
    assert_eq!(inside, said(machine, "cat /etc/passwd"), "a link of the machine led out of it");

    assert!(Lab::down(&place.lab(), false).expect("the lab can be removed"));
    place.assert_nothing_left(&id);
    assert!(!Lab::down(&place.lab(), false).expect("twice is as good as once"));
}

/// Whether one client of the network hears another.
fn hears(lab: &Lab, from: &str, to: Ipv4Addr) -> bool {
    let namespace = lab.network().station_namespace(from);
    let to = to.to_string();
    // Who asked in vain while the network was cut asks again a second later, and the ping would not wait for that.
    run("ip", ["-n", &namespace, "neigh", "flush", "dev", "eth0"]).succeeds();
    run("ip", ["netns", "exec", &namespace, "ping", "-c", "1", "-W", "1", "-q", &to]).code == Some(0)
}

#[test]
fn the_network_is_cut_in_every_way_and_heals() {
    let place = Place::with(&["rack"]);
    let lab = place.make(&["rack-1"]);
    let id = id(&place.lab()).expect("the ledger is there");
    let network = lab.network();
    let names = ["a", "b", "c"];
    let address = |name: &str| Ipv4Addr::new(10, 77, 0, name.as_bytes()[0]);
    for name in names {
        network.add_station(name, address(name)).expect("a client can be added");
    }
    assert!(network.add_station("a", address("c")).is_err(), "two clients of one name");
    // Which of ab, ac, bc hear each other, both ways.
    let heard = || {
        let pairs = [("a", "b"), ("a", "c"), ("b", "c")];
        let hear = |(one, other): (&str, &str)| {
            let ways = (hears(&lab, one, address(other)), hears(&lab, other, address(one)));
            assert_eq!(ways.0, ways.1, "a cut in one direction between {one} and {other}");
            ways.0
        };
        pairs.map(hear)
    };
    assert_eq!(heard(), [true, true, true]);
    network.cut("a").expect("it can be cut");
    assert_eq!(heard(), [false, false, true]);
    // No carrier is lost: the other end is alive and silent.
    let inside = network.station_namespace("a");
    let link = run("ip", ["-n", &inside, "-brief", "link", "show", "eth0"]).succeeds();
    assert!(link.contains("LOWER_UP"), "{link}");
    network.heal("a").expect("it heals");
    assert_eq!(heard(), [true, true, true]);
    network.partition(&[&["a", "b"], &["c"]]).expect("it can be split");
    assert_eq!(heard(), [true, false, false]);
    network.partition(&[&["a"], &["b"], &["c"]]).expect("it can be split");
    assert_eq!(heard(), [false, false, false]);
    network.heal_all().expect("it heals");
    assert_eq!(heard(), [true, true, true]);
    network.sever(&["a", "b"]).expect("two can be kept apart");
    assert_eq!(heard(), [false, true, true]);
    network.heal_all().expect("it heals");
    assert_eq!(heard(), [true, true, true]);
    assert!(network.cut("nobody").is_err());

    // A thread moves in, and no other does.
    let entered = std::thread::scope(|scope| {
        scope.spawn(|| network.enter("a").map(|()| std::net::UdpSocket::bind((address("a"), 0)).is_ok())).join()
    });
    assert!(entered.expect("the thread ends").expect("root may enter"), "the client's address is not there");
    assert!(std::net::UdpSocket::bind((address("a"), 0)).is_err(), "this thread moved too");
    network.remove_station("b").expect("a client can go");
    assert!(!hears(&lab, "a", address("b")));

    Lab::down(&place.lab(), false).expect("the lab can be removed");
    place.assert_nothing_left(&id);
}

#[test]
fn what_a_killed_run_leaves_is_removed() {
    let _turn = turn::beside_another();
    let place = Place::with(&["rack"]);
    let rolecast =
        Rolecast::at(Path::new(env!("CARGO_MANIFEST_DIR")), &place.folder.path().join("store"), &place.outputs());
    let (lab, outputs) = (place.lab(), place.outputs());
    let (lab, outputs) = (lab.to_string_lossy(), outputs.to_string_lossy());
    let up = ["lab", "up", "images/ha-lab.toml", "--nodes=rack-1,rack-2", "--output", &outputs, "--directory", &lab];
    let down = ["lab", "down", "--directory", &lab];
    // From the moment that it has written down what it is about to make.
    for after in [0, 50, 300, 3000].map(Duration::from_millis) {
        let started = rolecast.start(&up);
        let id = wait_for("the ledger", BOOTED_WITHIN, || Ok(id(&place.lab()))).expect("it gets that far");
        std::thread::sleep(after);
        started.kill();
        // Once half a file stayed, with secrets in it, when the kill came while that was being brought to the disk.
        fs::write(place.lab().join(".secrets.toml.17-0.part"), "half").expect("the lab's folder is ours");
        let found = place.traces(&id).len();
        let again = rolecast.run(&up).fails();
        assert!(again.contains("there is a lab in"), "{again}");
        rolecast.run(&down).succeeds();
        eprintln!("lab: {found} traces {after:?} after the ledger, none after down");
        place.assert_nothing_left(&id);
    }
    let twice = rolecast.run(&down).succeeds();
    assert!(twice.contains("there is no lab in"), "{twice}");
}

#[test]
fn what_is_missing_is_said_at_once() {
    let place = Place::with(&[]);
    let project = Project::of_this_repository();
    let rolecast = Rolecast::at(project.root(), &place.folder.path().join("store"), &place.outputs());
    let (lab, outputs) = (place.lab(), place.outputs());
    let (lab, outputs) = (lab.to_string_lossy(), outputs.to_string_lossy());
    let up = ["lab", "up", "images/ha-lab.toml", "--output", &outputs, "--directory", &lab];
    let said = rolecast.run(&up).fails();
    assert!(said.contains("no disk image of role `region-primary`") && said.contains("rolecast build"), "{said}");
    assert!(!place.lab().exists(), "something was made");
    let said = rolecast.run(&["lab", "up", "images/ha-lab.toml", "--nodes=rack-9"]).fails();
    assert!(said.contains("no node `rack-9`") && said.contains("region-1, region-2, rack-1, rack-2"), "{said}");
    let said = rolecast.run(&["lab", "shell", "rack-1", "--directory", &lab]).fails();
    assert!(said.contains("there is no lab in"), "{said}");
    // Anyone may ask; only root may have one.
    run("chmod", ["-R".as_ref(), "a+rX".as_ref(), project.root().parent().expect("a temporary folder").as_os_str()])
        .succeeds();
    let said = rolecast.under(["setpriv", "--reuid=65534", "--clear-groups"]).run(&up).fails();
    assert!(said.contains("a lab needs root") && said.contains("sudo"), "{said}");
    // A place that is somebody's is not taken, because `down` would clear it.
    fs::create_dir(place.lab()).expect("a folder");
    fs::write(place.lab().join("thesis.txt"), "mine").expect("a file");
    let report = Lab::make(&place.plan(&spec(), BackEnd::Container, built(), &["rack-1"])).expect_err("it is taken");
    assert!(report.diagnostics[0].message.contains("is not empty"), "{report:?}");
    assert!(place.lab().join("thesis.txt").exists());
}

/// The folder that holds the built images of all roles.
fn built() -> PathBuf {
    outputs("rack").disk().ancestors().nth(2).expect("OUT/rack/rack.raw").to_owned()
}

/// Waits until an emulated machine's join has accepted the ticket for its node; tells how long that took.
#[track_caller]
fn wait_for_the_seed(machine: &dyn Machine, medium: &str) {
    let since = Instant::now();
    wait_for(&format!("the seed to reach {medium}"), EMULATED_WITHIN, || {
        std::thread::sleep(Duration::from_secs(5));
        assert!(machine.is_running(), "it went off: {}", fs::read_to_string(machine.console()).unwrap_or_default());
        // It cannot be reached for its first minutes.
        let status = machine.status().unwrap_or_default().unwrap_or_default();
        Ok((status["node"] == machine.identity().name.as_str()).then_some(()))
    })
    .expect("the machine learns who it is");
    let (seconds, processor) = (since.elapsed().as_secs_f64(), machine.processor_seconds());
    eprintln!(
        "lab: {medium}: the seed accepted after {seconds:.1} s, {processor:.1} CPU s, {} restarts",
        machine.restarts()
    );
}

#[test]
fn a_virtual_machine_boots_from_its_disk_and_over_the_network() {
    let _turn = turn::beside_another();
    let place = Place::with(&[]);
    let spec = spec();
    let lab = Lab::make(&place.plan(&spec, BackEnd::Qemu, built(), &["rack-1"])).expect("a lab can be made");
    let id = id(&place.lab()).expect("the ledger is there");
    let machine = lab.machine("rack-1").expect("it was asked for");
    machine.start().expect("it powers on");
    wait_for_the_seed(machine, "a disk with a volume");
    assert!(said(machine, "cat /proc/cmdline").contains("roothash="));
    // It can be looked at while it is cut off.
    lab.network().cut("rack-1").expect("it can be cut");
    machine.write("/var/lib/rolecast/kept", 0o600, b"state of it").expect("it is reached all the same");
    lab.network().heal("rack-1").expect("it heals");
    assert_eq!(machine.read("/var/lib/rolecast/kept").expect("it runs").as_deref(), Some(&b"state of it"[..]));
    machine.kill().expect("its power can be cut");
    assert!(!machine.is_running());

    machine.set_seed(None).expect("the volume can be taken away");
    machine.set_network_boot(true).expect("its back end can");
    let server = BootServer::start(&lab, &spec, Ipv4Addr::new(10, 77, 0, 2), true).expect("a boot server");
    machine.start().expect("it powers on");
    wait_for_the_seed(machine, "the network with a seed by HTTP");
    assert!(said(machine, "cat /proc/cmdline").contains("roothash="));
    let asked = server.requests();
    for path in ["rack/root.img", "rack-1/user-data"] {
        assert!(asked.iter().any(|asked| asked.ends_with(path)), "{path} came from elsewhere: {asked:?}");
    }
    drop(server);
    Lab::down(&place.lab(), false).expect("the lab can be removed");
    place.assert_nothing_left(&id);
}
