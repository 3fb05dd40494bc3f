//! Directories that keep a lock's inputs, and Releases that outlived their validity.

use super::*;
use crate::lock::{Lock, LockedLayer};

/// A world whose Release is valid for a week, and the lock of all its packages.
fn world() -> (World, Lock) {
    let content = Content::default();
    let fields = format!("{}Valid-Until: Fri, 12 Sep 2025 11:30:24 UTC\n", content.fields);
    let content = Content { fields, ..content };
    let world = World::new(&content);
    let archives = world.open().unwrap().archives;
    let packages = packages::lock(&content);
    let layer = LockedLayer { name: "base".to_owned(), wants: Vec::new(), recommends: false, packages };
    let lock = Lock { spec: Digest::of(b""), distribution: "test".to_owned(), archives, layers: vec![layer] };
    (world, lock)
}

fn at<T>(world: &World, now: i64, pinned: Pinned<'_>, work: impl FnOnce(&Access<'_>) -> T) -> T {
    world.with(false, |access| work(&Access { now, pinned, ..*access }))
}

#[test]
fn a_release_that_the_lock_pins_may_outlive_its_validity_and_no_other() {
    let (world, lock) = world();
    let later = NOW + 400 * DAY;
    let open =
        |pinned| at(&world, later, pinned, |access| open(&world.archives, "amd64", access).map_err(|e| told(&e)));
    let error = open(Pinned::Nothing).unwrap_err();
    assert!(error.contains("its validity ended"), "{error}");
    assert_eq!(names(&open(Pinned::Archives(&lock.archives)).unwrap()), ["hello", "world"]);
    // Another Release of the same suite, as expired, is another digest.
    let content = Content::default();
    let fields = format!("{}Valid-Until: Thu, 11 Sep 2025 11:30:24 UTC\n", content.fields);
    let other = Content { fields, ..content };
    let when = NOW - DAY;
    world.server.answer(IN_RELEASE, Answer::File(world.signer.clear_sign(&other.release(), when)));
    let error = open(Pinned::Archives(&lock.archives)).unwrap_err();
    assert!(error.contains("its validity ended"), "{error}");
    // The pinned bytes by a key that is not in the keyring are refused all the same.
    let (mut world, lock) = self::world();
    world.ours().keyring_bytes = Some(Signer::new(9).keyring());
    let opened =
        at(&world, later, Pinned::Archives(&lock.archives), |access| super::open(&world.archives, "amd64", access));
    assert!(told(&opened.unwrap_err()).contains("not in the keyring"));
}

#[test]
fn a_directory_is_filled_resumed_checked_and_mended() {
    let (world, lock) = world();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("kept");
    let fill = |now| {
        at(&world, now, Pinned::Nothing, |access| {
            super::super::vendor(&lock, &world.archives, "amd64", &place, access).map_err(|report| told(&report))
        })
    };
    let look = |lock: &Lock| {
        let later = NOW + 4000 * DAY;
        check_vendored(lock, &world.archives, "amd64", &place, later, &|_| {}).map_err(|report| told(&report))
    };
    assert!(look(&lock).unwrap_err().contains("is missing"));
    let filled = fill(NOW).unwrap();
    // Two packages, InRelease, one index, the keyring.
    assert_eq!((filled.packages, filled.brought, filled.warnings.diagnostics.len()), (2, 5, 0), "{filled:?}");
    assert_eq!(look(&lock).unwrap().bytes, filled.bytes);
    let mut sums = std::process::Command::new("sha256sum");
    assert!(sums.args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&place).status().unwrap().success());
    world.server.take_requests();
    assert_eq!(fill(NOW + 4000 * DAY).unwrap().brought, 0);

    let deb = place.join("ours").join(Content::path_of("hello"));
    std::fs::write(&deb, "x").unwrap();
    assert!(look(&lock).unwrap_err().contains("is not what the lock pins"));
    std::fs::remove_file(place.join("ours").join(Content::path_of("world"))).unwrap();
    assert!(look(&lock).unwrap_err().contains("is missing"));
    assert_eq!(fill(NOW).unwrap().brought, 2);
    look(&lock).unwrap();

    // A lock that pins what no Release vouches for.
    let mut forged = lock.clone();
    let bytes = b"evil";
    let package = &mut forged.layers[0].packages[0];
    (package.sha256, package.size, package.path) = (Digest::of(bytes), 4, "pool/evil_1_amd64.deb".to_owned());
    std::fs::write(place.join("ours/pool/evil_1_amd64.deb"), bytes).unwrap();
    assert!(look(&forged).unwrap_err().contains("no signed Release here vouches for"));
}

#[test]
fn a_mirror_that_went_on_is_told_and_the_packages_are_kept() {
    let (world, lock) = world();
    let content = Content::default();
    let newer = Content { date: "Sat, 06 Sep 2025 10:00:00 UTC".to_owned(), ..content };
    world.server.answer(IN_RELEASE, Answer::File(world.signer.clear_sign(&newer.release(), NOW - 3600)));
    let directory = tempfile::tempdir().unwrap();
    // A store of somebody else's: it never saw the pinned Release.
    let mut stranger = World::new(&newer);
    stranger.archives = world.archives.clone();
    let filled = at(&stranger, NOW, Pinned::Nothing, |access| {
        super::super::vendor(&lock, &stranger.archives, "amd64", directory.path(), access)
    });
    let filled = filled.map_err(|report| told(&report)).unwrap();
    let warning = told(&filled.warnings);
    assert!(
        filled.packages == 2 && warning.contains("is to be had no more") && warning.contains("snapshot"),
        "{warning}"
    );
    let checked = check_vendored(&lock, &world.archives, "amd64", directory.path(), NOW, &|_| {}).unwrap();
    assert_eq!(checked.warnings.diagnostics.len(), 1);
}
