//! The .debs: fetched once, resumed, refused, or gone.

use super::*;

/// Pins every package of the content.
pub fn lock(content: &Content) -> Vec<LockedPackage> {
    let packages = content.packages.iter().map(|(name, bytes)| LockedPackage {
        name: name.clone(),
        version: "1.0+x~1".to_owned(),
        architecture: "amd64".to_owned(),
        archive: "ours".to_owned(),
        size: bytes.len() as u64,
        sha256: Digest::of(bytes),
        path: Content::path_of(name),
    });
    packages.collect()
}

#[test]
fn packages_are_fetched_once_and_from_files_too() {
    let content = Content::default();
    let world = World::new(&content);
    let packages = lock(&content);
    let bytes = packages.iter().map(|package| package.size).sum();
    assert_eq!(world.fetch(&packages), Ok(Fetched { packages: 2, bytes }));
    for package in &packages {
        let stored = std::fs::read(world.store.object_path(&package.sha256)).unwrap();
        assert_eq!(stored, content.packages[&package.name]);
    }
    world.server.take_requests();
    assert_eq!(world.fetch(&packages), Ok(Fetched::default()));
    assert!(world.server.take_requests().is_empty());
    assert_eq!(world.with(true, |access| fetch(&packages, &world.archives, access, 1)), Ok(Fetched::default()));

    let directory = tempfile::tempdir().unwrap();
    for (path, bytes) in content.signed(&world.signer) {
        let path = directory.path().join("a mirror").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let store = Store::open(&directory.path().join("store")).unwrap();
    let world = World { store, ..world };
    let mut archives = world.archives.clone();
    archives.get_mut("ours").unwrap().mirror = Some(format!("file://{}/a%20mirror", directory.path().display()));
    let world = World { archives, ..world };
    assert_eq!(names(&world.open().unwrap()), ["hello", "world"]);
    assert_eq!(world.fetch(&packages[..1]).unwrap().packages, 1);
    let path = directory.path().join("a mirror").join(&packages[1].path);
    std::fs::write(path, &content.packages["world"][..50]).unwrap();
    let error = told(&world.fetch(&packages).unwrap_err().report);
    assert!(error.contains("ended after 50 bytes"), "{error}");
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let content = Content::default();
    let world = World::new(&content);
    let packages = lock(&content);
    let (path, bytes) = (Content::path_of("world"), content.packages["world"].clone());
    world.server.answer(&path, Answer::Breaking(bytes.clone(), bytes.len() / 2 + 1));
    world.fetch(&packages).unwrap();
    assert_eq!(world.server.take_requests().iter().filter(|asked| **asked == path).count(), 2);

    // A server that knows no ranges sends all again; what is there already is passed over.
    let mut chunks = Vec::new();
    let client = Client::new(impatient());
    world.server.answer("x", Answer::Breaking(bytes.clone(), 1000));
    let progress = |length| {
        if length > 0 {
            world.server.answer("x", Answer::WholeFile(bytes.clone()));
        }
    };
    client.download(&format!("{}/x", world.server.url()), bytes.len() as u64, &mut chunks, &progress).unwrap();
    assert_eq!(chunks, bytes);
}

#[test]
fn a_package_that_is_not_the_pinned_one_is_refused_and_leaves_nothing() {
    let content = Content::default();
    let packages = lock(&content);
    let path = Content::path_of("hello");
    let good = content.packages["hello"].clone();
    let mut altered = good.clone();
    altered[100] ^= 1;
    let cases = [
        (Answer::File(altered), "not the one that the lock pins", Kind::Trust),
        (Answer::Endless, "not the one that the lock pins", Kind::Trust),
        (Answer::File([good.clone(), good.clone()].concat()), "not the one that the lock pins", Kind::Trust),
        (Answer::File(good[..20].to_vec()), "ended after 20 bytes", Kind::World),
        (Answer::Page, "web page", Kind::World),
        (Answer::Stalling(good.clone(), 10), "stalled after 20 bytes", Kind::World),
    ];
    for (answer, message, kind) in cases {
        let world = World::new(&content);
        world.server.answer(&path, answer);
        let error = world.fetch(&packages[..1]).unwrap_err();
        let told = told(&error.report);
        assert_eq!((error.report.diagnostics[0].kind, error.is_gone()), (kind, false), "{told}");
        for part in [message, "package `hello` 1.0+x~1 (amd64) of archive `ours`", &path, "the mirror is `http://"] {
            assert!(told.contains(part), "no `{part}` in:\n{told}");
        }
        if kind == Kind::Trust {
            assert!(
                told.contains(&format!("expected: {} bytes, SHA-256 {}", good.len(), packages[0].sha256)),
                "{told}"
            );
        }
        assert!(!world.store.has(&packages[0].sha256));
        let half_written = std::fs::read_dir(world.store.root().join("objects")).unwrap();
        assert!(half_written.map_while(Result::ok).all(|entry| entry.path().is_dir()));
    }
}

#[test]
fn packages_that_are_gone_are_all_named_and_told_apart() {
    let content = Content::default();
    let world = World::new(&content);
    let mut packages = lock(&content);
    let gone = LockedPackage { name: "old".to_owned(), sha256: Digest::of(b"old"), ..packages[0].clone() };
    let gone = LockedPackage { path: "pool/old.deb".to_owned(), ..gone };
    packages.insert(0, gone.clone());
    let error = world.fetch(&packages).unwrap_err();
    assert!(error.is_gone());
    assert_eq!(error.gone, [gone]);
    assert!(told(&error.report).contains("the mirror no longer has `old` 1.0+x~1"));
    // The others came.
    assert_eq!(world.with(false, |access| missing(&packages, access).unwrap().len()), 1);
    let error = world.with(true, |access| fetch(&packages, &world.archives, access, 1)).unwrap_err();
    let told = told(&error.report);
    assert!(told.contains("lacks 1 of the packages") && told.contains("`old` 1.0+x~1"), "{told}");
}
