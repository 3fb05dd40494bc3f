//! On a file system that can share blocks, outputs lie in the store's, and every byte is the same. Offline; needs root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::support::command::run;
use crate::support::host::World;
use crate::support::outputs::Outputs;

const IMAGE: &str = "images/test.toml";
const ROLE: &str = "small";

/// What is to be shared: a file that no compressor makes smaller.
const NOISE: usize = 8 << 20;

#[test]
fn outputs_share_the_blocks_of_the_store_and_are_the_same_without() {
    let world = World::new();
    let project = world.project();
    project.write("overlays/base/usr/share/noise", noise());
    let plain = world.rolecast(&project);
    plain.build(IMAGE, &[]).succeeds();
    let volume = Volume::new(project.root().parent().expect("a project lies in a temporary folder"));
    let mut shared = world.rolecast(&project);
    (shared.store, shared.output) = (volume.path.join("store"), volume.path.join("out"));
    shared.build(IMAGE, &[]).succeeds();

    let manifests = [&plain, &shared].map(|rolecast| {
        let path = rolecast.output.join(ROLE).join("manifest.json");
        fs::read_to_string(path).expect("a manifest")
    });
    assert_eq!(manifests[0], manifests[1]);
    run("sh", ["-c", &format!("cd '{}' && sha256sum --check --quiet SHA256SUMS", shared.output.join(ROLE).display())])
        .succeeds();
    let outputs = Outputs::new(&shared.output, ROLE);
    for path in [outputs.disk(), outputs.netboot_root(), outputs.tarball()] {
        let bytes = shared_bytes(&path);
        eprintln!("{}: {bytes} bytes are shared", path.display());
        assert!(bytes >= NOISE as u64, "only {bytes} bytes of {} are shared", path.display());
    }
}

/// The same each time: xorshift64 (Marsaglia 2003).
fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..NOISE).map(|_| next()).collect()
}

/// Bytes of a file that lie in blocks of other files too (`filefrag(8)`: extents with the flag `shared`).
fn shared_bytes(path: &Path) -> u64 {
    let told = run("filefrag", ["-b1".as_ref(), "-v".as_ref(), path.as_os_str()]).succeeds();
    let extents = told.lines().filter(|line| line.contains("shared") && line.contains(".."));
    // `  0:   0.. 4095:   1234.. 5329:   4096:   shared`
    extents.map(|line| line.split(':').nth(3).and_then(|bytes| bytes.trim().parse::<u64>().ok()).expect(line)).sum()
}

/// An XFS in a file, mounted while it is needed.
struct Volume {
    path: PathBuf,
}

impl Volume {
    fn new(directory: &Path) -> Self {
        let (image, path) = (directory.join("xfs.img"), directory.join("xfs"));
        File::create(&image).and_then(|file| file.set_len(2 << 30)).expect("room for a volume");
        fs::create_dir(&path).expect("a place for a volume");
        run("mkfs.xfs", ["-q".as_ref(), "-m".as_ref(), "reflink=1".as_ref(), image.as_os_str()]).succeeds();
        run("mount", ["-o".as_ref(), "loop".as_ref(), image.as_os_str(), path.as_os_str()]).succeeds();
        Self { path }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // What panicked may still hold it.
        run("umount", ["--lazy".as_ref(), self.path.as_os_str()]);
    }
}
