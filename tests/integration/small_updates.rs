//! Updates of which a machine fetches what it does not have, without a machine: published twice, answered by the relay over
//! real connections, pulled by systemd's own puller, and chosen and written by its updater in a container of the image.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use rolecast::archive::{Client, Patience};
use rolecast::digest::Digest;
use rolecast::format::caibx::Index;
use rolecast::relay::Relay;

use super::boot::unpack;
use super::publish::pretend_to_build;
use crate::support::command::{Rolecast, run};
use crate::support::container::Container;
use crate::support::images::outputs;
use crate::support::noise::noise;
use crate::support::project::Project;
use crate::support::server::{Manner, Server};
use crate::support::turn;

const IMAGE: &str = "images/ha-lab.toml";

/// Updates by the image's own definitions, but for where they write: a folder stands for the disk's slots.
const UPDATE: &str = r#"
set -e
mkdir -p /run/rolecast /srv/slots /srv/definitions
ln -s /srv/published /run/rolecast/updates
for file in /etc/sysupdate.d/*.transfer; do
    name=${file##*/}
    sed '/^\[Target\]/,$d' "$file" >"/srv/definitions/$name"
    printf '[Target]\nType=regular-file\nPath=/srv/slots\nMatchPattern=%s_@v\n' "${name%.transfer}" >>"/srv/definitions/$name"
done
/usr/lib/systemd/systemd-sysupdate --definitions=/srv/definitions update >&2
cd /srv/slots
sha256sum *
"#;

/// A root's bytes: compressed segments, of which nothing can be said, with zeros between.
fn root() -> Vec<u8> {
    let segment = |seed: u64| [noise(2 << 20, seed), vec![0; 3000]].concat();
    (1..=16).flat_map(segment).collect()
}

/// Pretends to have built version `version` of the rack with this root and kernel image, and publishes it.
#[track_caller]
fn publish(tree: &Path, version: &str, root: &[u8], kernel: &[u8]) {
    let project = Project::of_this_repository();
    project.replace(IMAGE, "version = \"2026.11.1\"", &format!("version = \"{version}\""));
    let output = project.root().join("out");
    pretend_to_build(&output, version);
    let place = output.join("rack");
    let path = place.join("manifest.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("just written")).expect("just written");
    let hashes = hash_area(version);
    let files = [
        (format!("rack_{version}_{:0>32}.verity", 7), hashes.as_bytes()),
        (name(version, root), root),
        (format!("rack_{version}.efi"), kernel),
    ];
    let outputs = files.map(|(name, bytes)| {
        fs::write(place.join("rack.update").join(&name), bytes).expect("a folder under target");
        let file = format!("rack.update/{name}");
        serde_json::json!({"format": "update", "file": file, "size": bytes.len(), "sha256": Digest::of(bytes)})
    });
    manifest["outputs"] = outputs.to_vec().into();
    fs::write(&path, manifest.to_string()).expect("a folder under target");
    let rolecast = Rolecast::new(&project);
    rolecast.run(&["secrets", "init", IMAGE]).succeeds();
    let (tree, images) = (tree.to_string_lossy(), output.to_string_lossy());
    rolecast.run(&["publish", &tree, IMAGE, "--images", &images, "--url", "http://10.77.0.1:8080"]).succeeds();
}

/// A version's hash area, of which nobody here knows more than its bytes.
fn hash_area(version: &str) -> String {
    format!("the hashes of {version}")
}

/// As an update names a root: its partition's GUID is of what it holds.
fn name(version: &str, root: &[u8]) -> String {
    format!("rack_{version}_{}.root", &Digest::of(root).to_string()[..32])
}

/// A relay before `upstream`, on a machine that runs from `slot`; returns its address. It ends with the tests.
fn relay(upstream: String, slot: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        let client = Client::new(Patience::default());
        let own = |name: &str| if name.ends_with(".root") { vec![slot.clone()] } else { Vec::new() };
        for mut stream in listener.incoming().flatten() {
            let mut input = stream.try_clone().expect("a connection can be held twice");
            let relay = Relay { upstream: &upstream, client: &client, own: &own };
            // A puller that goes away is its own affair.
            let _ = relay.answer(&mut input, &mut stream, &mut |text| eprintln!("relay: {text}"));
        }
    });
    format!("http://{address}")
}

struct World {
    folder: tempfile::TempDir,
    tree: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl World {
    /// Two versions: of the second, the head, one segment and the tables at the end are other ones.
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
        let tree = folder.path().join("tree");
        let old = root();
        let mut new = old.clone();
        new[..96].fill(7);
        new.splice(9_000_000..9_300_000, vec![0x5a; 304_096]);
        let tables = new.len() - 100_000;
        new[tables..].iter_mut().for_each(|byte| *byte ^= 0x33);
        publish(&tree, "1", &old, b"kernel 1");
        publish(&tree, "2", &new, b"kernel 2");
        fs::write(folder.path().join("slot"), &old).expect("a folder under target");
        Self { folder, tree, old, new }
    }

    /// What `systemd-pull` says to the file `name` with `digest` at `url`, and what it wrote.
    fn pull(&self, url: &str, name: &str, verify: &str) -> (Option<i32>, String, Vec<u8>) {
        let to = self.folder.path().join("pulled");
        let _ = fs::remove_file(&to);
        let (verify, url) = (format!("--verify={verify}"), format!("{url}/{name}"));
        let words = ["raw", "--direct", &verify, &url].map(AsRef::as_ref);
        let pulled = run("/usr/lib/systemd/systemd-pull", words.into_iter().chain([to.as_os_str()]));
        (pulled.code, pulled.stderr, fs::read(&to).unwrap_or_default())
    }
}

#[test]
fn systemd_pulls_the_new_version_and_little_travels() {
    let world = World::new();
    let server = Server::start(&world.tree.join("updates/rack"));
    let relay = relay(server.url(), world.folder.path().join("slot"));
    let (_, _, list) = world.pull(&relay, "SHA256SUMS", "no");
    assert_eq!(list, fs::read(world.tree.join("updates/rack/SHA256SUMS")).expect("it was published"));

    server.take_promised();
    let (name, digest) = (name("2", &world.new), Digest::of(&world.new).to_string());
    let (code, said, pulled) = world.pull(&relay, &name, &digest);
    assert!(code == Some(0) && pulled == world.new, "{code:?}: {said}");
    let promised = server.take_promised();
    let travelled: u64 = promised.values().sum();
    eprintln!("small updates: {travelled} of {} bytes travelled: {promised:?}", world.new.len());
    assert!(travelled < world.new.len() as u64 / 20, "{promised:?}");

    // A server that knows no parts, or breaks: the same bytes, all of them.
    server.behave(&format!("index-{name}.caibx"), Manner::Status(404));
    let (code, said, pulled) = world.pull(&relay, &name, &digest);
    assert!(code == Some(0) && pulled == world.new, "{code:?}: {said}");
    assert_eq!(server.take_promised()[&format!("/{name}")], world.new.len() as u64);

    // One whose file is another: refused by systemd.
    server.behave(&name, Manner::Flipped(10));
    let (code, said, _) = world.pull(&relay, &name, &digest);
    assert!(code != Some(0) && said.contains("hecksum"), "{code:?}: {said}");
}

#[test]
fn casync_says_the_same_of_what_is_published_and_reads_it() {
    let world = World::new();
    let published = world.tree.join("updates/rack");
    for (version, root) in [("1", &world.old), ("2", &world.new)] {
        let name = name(version, root);
        let file = published.join(&name);
        let index = published.join(format!("index-{name}.caibx")).display().to_string();
        let (theirs, store) = (world.folder.path().join("theirs.caibx"), world.folder.path().join("store.castr"));
        let store = format!("--store={}", store.display());
        let make = ["--digest=sha512-256", "make", &store].map(AsRef::as_ref);
        run("casync", make.into_iter().chain([theirs.as_os_str(), file.as_os_str()])).succeeds();
        assert!(fs::read(&index).ok() == fs::read(&theirs).ok(), "version {version}: the indexes differ");
        let to = world.folder.path().join(format!("extracted-{version}"));
        let extract = ["--digest=sha512-256", "extract", &store, &index].map(AsRef::as_ref);
        run("casync", extract.into_iter().chain([to.as_os_str()])).succeeds();
        assert!(fs::read(&to).ok().as_ref() == Some(root), "version {version}: casync made other bytes");
        // And what casync wrote is read here.
        let read = Index::read(&fs::read(&theirs).expect("just written"));
        assert_eq!(read, Ok(Index::of(root.as_slice()).expect("bytes can be read")));
    }
}

// systemd-sysupdate 257 does not look at what comes after a `MatchPattern=`: the index, named as the root with `.caibx` at
// its end, was written to the slot.
#[test]
fn systemd_sysupdate_takes_each_file_for_what_it_is() {
    let _turn = turn::beside_another();
    let world = World::new();
    let root = world.folder.path().join("machine");
    unpack(&outputs("rack").tarball(), &root);
    let published = root.join("srv/published");
    run("cp", ["-r".as_ref(), world.tree.join("updates/rack").as_os_str(), published.as_os_str()]).succeeds();
    let mut container = Container::start(&root);
    container.report();
    let written = container.enter("/bin/sh", &["-c", UPDATE]).succeeds();
    let hashes = hash_area("2");
    let parts = [("10-verity", hashes.as_bytes()), ("20-root", &world.new), ("30-kernel", b"kernel 2")];
    assert_eq!(written, parts.map(|(name, bytes)| format!("{}  {name}_2\n", Digest::of(bytes))).concat());
    container.stop();
}
