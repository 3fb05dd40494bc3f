//! The images that the boot tests look at: `images/ha-lab.toml` built once a test run, by the product itself.
//!
//! `ROLECAST_TEST_IMAGES` names an output folder to use instead of building (to look again at what another run made).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::command::{Rolecast, run};
use crate::support::outputs::Outputs;
use crate::support::project::Project;

/// The roles of `images/ha-lab.toml`.
pub const ROLES: [&str; 3] = ["rack", "region-primary", "region-standby"];

/// The role whose disk is also built as qcow2, a format to ask for.
pub const QCOW2_ROLE: &str = "rack";

/// The name of its lock.
const LOCK: &str = "ha-lab.lock";

/// The outputs of `role`, built by the first caller; the others wait for it.
#[track_caller]
pub fn outputs(role: &str) -> Outputs {
    Outputs::new(folder(), role)
}

/// The outputs of the build that asked for qcow2 alone.
#[track_caller]
pub fn qcow2_outputs() -> Outputs {
    Outputs::new(&folder().join("qcow2"), QCOW2_ROLE)
}

/// The project, store and output folder of that build, to run another verb on them. The lock is the one it used.
pub fn rolecast() -> (Project, Rolecast) {
    let folder = folder();
    let project = Project::of_this_repository();
    let kept = folder.join(LOCK);
    if kept.is_file() {
        fs::copy(kept, project.root().join("images").join(LOCK)).expect("a file in the copy");
    }
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("store");
    let rolecast = Rolecast::at(project.root(), &store, folder);
    (project, rolecast)
}

/// The output folder, built by the first caller.
#[track_caller]
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build)
}

fn build() -> PathBuf {
    if let Some(folder) = std::env::var_os("ROLECAST_TEST_IMAGES") {
        return folder.into();
    }
    // A copy, so that a lock whose packages are gone is not written anew in the work tree.
    let project = Project::of_this_repository();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut rolecast = Rolecast::at(project.root(), &place.join("store"), &place.join("out"));
    let folder = rolecast.output.clone();
    for more in [&[][..], &["--role", QCOW2_ROLE, "--format", "qcow2"]] {
        let outcome = rolecast.build("images/ha-lab.toml", more);
        eprintln!("{outcome}");
        outcome.succeeds();
        rolecast.output = folder.join("qcow2");
    }
    // A mirror may have dropped packages meanwhile: then it is another one than the repository's.
    fs::copy(project.root().join("images").join(LOCK), folder.join(LOCK)).expect("the build has a lock");
    folder
}

/// A copy of a disk image in `folder`, holes kept, on a disk of `size` bytes as a machine would have it.
#[track_caller]
pub fn onto_disk(image: &Path, folder: &Path, size: u64) -> PathBuf {
    let disk = folder.join("disk.raw");
    let words = ["--sparse=always".as_ref(), "--reflink=auto".as_ref(), image.as_os_str(), disk.as_os_str()];
    run("cp", words).succeeds();
    let file = File::options().write(true).open(&disk).expect("the copy can be opened");
    assert!(fs::metadata(image).expect("just copied").len() <= size, "the disk is smaller than the image");
    file.set_len(size).expect("the copy can grow");
    disk
}
