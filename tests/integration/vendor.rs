//! `rolecast vendor`: a build years later, from nothing but a directory. Offline; needs root.

use std::fs;

use super::builds::assert_undisturbed;
use crate::support::host::World;

const IMAGE: &str = "images/test.toml";
/// Exit codes: the world, a signature or digest.
const WORLD: i32 = 3;
const UNTRUSTED: i32 = 4;

#[test]
fn a_vendored_lock_builds_the_same_bytes_with_no_mirror_at_all() {
    let world = World::new();
    let project = world.project();
    let rolecast = world.rolecast(&project);
    rolecast.run(&["lock", IMAGE]).succeeds();
    let place = project.root().with_file_name("vendored archive");
    let kept = place.to_string_lossy().into_owned();
    rolecast.run(&["vendor", &kept, IMAGE]).succeeds();
    let again = rolecast.run(&["vendor", &kept, IMAGE]).succeeds();
    assert!(again.contains("0 files brought now"), "{again}");
    rolecast.run(&["vendor", &kept, IMAGE, "--check"]).succeeds();

    // The mirrors are gone, and so is the store.
    drop(world);
    let mut later = rolecast.clone();
    later.store = rolecast.store.with_file_name("new-store");
    // A mirror that is a directory may be asked offline too; this one is empty now.
    let error = later.build(IMAGE, &["--locked", "--offline"]).fails();
    assert!(error.contains("the mirror no longer has `base-files`"), "{error}");
    later.build(IMAGE, &["--locked", "--offline", "--vendor", &kept]).succeeds();
    assert_undisturbed(&later.output);
    // A new lock can be made from it, and is the same.
    let lock = project.root().join("images/test.lock");
    let before = fs::read_to_string(&lock).expect("a lock was written");
    later.run(&["lock", IMAGE, "--offline", "--vendor", &kept]).succeeds();
    assert_eq!(fs::read_to_string(&lock).expect("a lock was written"), before);

    let deb = fs::read_dir(place.join("debian/pool/main/d/dpkg")).expect("dpkg was kept").flatten().next();
    let deb = deb.expect("dpkg was kept").path();
    let mut bytes = fs::read(&deb).expect("just kept");
    bytes[1000] ^= 1;
    fs::write(&deb, &bytes).expect("ours to break");
    let outcome = later.run(&["vendor", &kept, IMAGE, "--check"]);
    assert_eq!(outcome.code, Some(UNTRUSTED), "{outcome}");
    assert!(outcome.stderr.contains("dpkg_") && outcome.stderr.contains("not what the lock pins"), "{outcome}");
    let mut third = later.clone();
    third.store = later.store.with_file_name("third-store");
    let outcome = third.build(IMAGE, &["--locked", "--offline", "--vendor", &kept]);
    assert_eq!(outcome.code, Some(UNTRUSTED), "{outcome}");
    fs::remove_file(&deb).expect("ours to break");
    let outcome = later.run(&["vendor", &kept, IMAGE, "--check"]);
    assert_eq!(outcome.code, Some(WORLD), "{outcome}");
    // The store still has it.
    let mended = later.run(&["vendor", &kept, IMAGE, "--offline"]).succeeds();
    assert!(mended.contains("1 files brought now"), "{mended}");
    later.run(&["vendor", &kept, IMAGE, "--check"]).succeeds();
}
