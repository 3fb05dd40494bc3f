//! The images that the boot tests look at: `images/ha-lab.toml` built once a test run, by the product itself.
//!
//! `ROLECAST_TEST_IMAGES` names an output folder to use instead of building (to look again at what another run made).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::support::command::{Rolecast, run};
use crate::support::outputs::Outputs;

/// The roles of `images/ha-lab.toml`.
pub const ROLES: [&str; 3] = ["rack", "region-primary", "region-standby"];

/// The role whose disk is also built as qcow2, a format to ask for.
pub const QCOW2_ROLE: &str = "rack";

/// The outputs of `role`, built by the first caller; the others wait for it.
#[track_caller]
pub fn outputs(role: &str) -> Outputs {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    Outputs::new(FOLDER.get_or_init(build), role)
}

fn build() -> PathBuf {
    if let Some(folder) = std::env::var_os("ROLECAST_TEST_IMAGES") {
        return folder.into();
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let rolecast = Rolecast::at(project, &place.join("store"), &place.join("out"));
    for more in [&[][..], &["--role", QCOW2_ROLE, "--format", "qcow2"]] {
        let outcome = rolecast.build("images/ha-lab.toml", more);
        eprintln!("{outcome}");
        outcome.succeeds();
    }
    rolecast.output
}

/// Only one test at a time may boot: the machines would share two cores and overrun their bounds.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static BOOTING: Mutex<()> = Mutex::new(());
    BOOTING.lock().unwrap_or_else(PoisonError::into_inner)
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
