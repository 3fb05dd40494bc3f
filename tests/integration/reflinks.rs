//! On a file system that can share blocks, outputs lie in the store's, and every byte is the same. Offline; needs root.

use std::fs::{self, File};
use std::path::Path;

use crate::support::command::{command, finish, run};
use crate::support::host::World;
use crate::support::mounted::Mounted;
use crate::support::noise::noise;
use crate::support::outputs::Outputs;

const IMAGE: &str = "images/test.toml";
const ROLE: &str = "small";

/// What is to be shared: a file that no compressor makes smaller.
const NOISE: usize = 8 << 20;

#[test]
fn outputs_share_the_blocks_of_the_store_and_are_the_same_without() {
    let world = World::new();
    let project = world.project();
    project.write("overlays/base/usr/share/noise", noise(NOISE, 1));
    let plain = world.rolecast(&project);
    plain.build(IMAGE, &[]).succeeds();
    let place = project.root().parent().expect("a project lies in a temporary folder");
    let image = place.join("xfs.img");
    File::create(&image).and_then(|file| file.set_len(2 << 30)).expect("room for a volume");
    run("mkfs.xfs", ["-q".as_ref(), "-m".as_ref(), "reflink=1".as_ref(), image.as_os_str()]).succeeds();
    let volume = Mounted::new(&image, "xfs", "loop", &place.join("xfs"));
    let mut shared = world.rolecast(&project);
    (shared.store, shared.output) = (volume.path().join("store"), volume.path().join("out"));
    shared.build(IMAGE, &[]).succeeds();

    let manifests = [&plain, &shared].map(|rolecast| {
        let path = rolecast.output.join(ROLE).join("manifest.json");
        fs::read_to_string(path).expect("a manifest")
    });
    assert_eq!(manifests[0], manifests[1]);
    let mut check = command("sha256sum");
    check.args(["--check", "--quiet", "SHA256SUMS"]).current_dir(shared.output.join(ROLE));
    finish(check).succeeds();
    let outputs = Outputs::new(&shared.output, ROLE);
    for path in [outputs.disk(), outputs.netboot_root(), outputs.tarball()] {
        let bytes = shared_bytes(&path);
        eprintln!("{}: {bytes} bytes are shared", path.display());
        assert!(bytes >= NOISE as u64, "only {bytes} bytes of {} are shared", path.display());
    }
}

/// Bytes of a file that lie in blocks of other files too (`filefrag(8)`: extents with the flag `shared`).
fn shared_bytes(path: &Path) -> u64 {
    let told = run("filefrag", ["-b1".as_ref(), "-v".as_ref(), path.as_os_str()]).succeeds();
    let extents = told.lines().filter(|line| line.contains("shared") && line.contains(".."));
    // `  0:   0.. 4095:   1234.. 5329:   4096:   shared`
    extents.map(|line| line.split(':').nth(3).and_then(|bytes| bytes.trim().parse::<u64>().ok()).expect(line)).sum()
}
