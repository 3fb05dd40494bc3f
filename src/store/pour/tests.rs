//! What is poured is what recipes say, alone and together, and nothing that was altered.

use std::sync::Arc;

use super::*;
use crate::store::Parcel;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, store)
}

fn whole(object: Digest, length: u64) -> Bytes {
    Bytes::Object { object, offset: 0, length }
}

/// A root of two objects, and a disk that it is in.
fn root_and_disk(store: &Store) -> (Recipe, Recipe, [Digest; 2]) {
    let noise = |seed: u32| (0..1_500_000_u32).map(|at| (at.wrapping_mul(seed) >> 11) as u8).collect::<Vec<u8>>();
    let objects = [2_654_435_761, 2_246_822_519].map(|seed| store.put(&noise(seed)).unwrap());
    let mut root = Recipe::new();
    root.literal(*b"superblock", "head");
    objects.iter().for_each(|object| root.push(whole(*object, 1_500_000), "segment"));
    let mut disk = Recipe::new();
    disk.literal(*b"table", "head");
    disk.push(Bytes::Zeros(1_000_000), "gap");
    disk.push(Bytes::Recipe(Arc::new(root.clone())), "root");
    disk.push(Bytes::Zeros(77), "tail");
    (root, disk, objects)
}

#[test]
fn every_kind_of_piece_is_poured_and_hashed() {
    let (directory, store) = store();
    let object = store.put(b"0123456789").unwrap();
    let mut inner = Recipe::new();
    inner.push(Bytes::Object { object, offset: 2, length: 3 }, "inner");
    let mut recipe = Recipe::new();
    recipe.literal(b"head".as_slice(), "head");
    recipe.push(Bytes::Zeros(3_000_000), "gap");
    recipe.push(Bytes::Recipe(Arc::new(inner)), "nested");
    recipe.push(Bytes::Zeros(5), "tail");
    let path = directory.path().join("out");
    let poured = store.pour(&[Wanted { recipe: &recipe, path: path.clone(), expected: None }], &|_| {}).unwrap();
    let expected = [b"head".as_slice(), &vec![0; 3_000_000], b"234", &[0; 5]].concat();
    assert_eq!(std::fs::read(&path).unwrap(), expected);
    assert_eq!(poured, [Poured { digest: Digest::of(&expected), size: expected.len() as u64 }]);
    assert_eq!(store.digest_of(&recipe).unwrap(), poured[0]);
    assert_eq!(store.bytes_of(&recipe).unwrap(), expected);
}

#[test]
fn files_poured_together_are_what_they_are_alone() {
    let (directory, store) = store();
    let (root, disk, objects) = root_and_disk(&store);
    let mut kernel = Recipe::new();
    kernel.push(whole(objects[1], 1_500_000), "kernel");
    let recipes = [&kernel, &disk, &root];
    let store = Store::open(store.root()).unwrap();
    let path = |at: usize| directory.path().join(at.to_string());
    let wanted: Vec<_> =
        recipes.iter().enumerate().map(|(at, recipe)| Wanted { recipe, path: path(at), expected: None }).collect();
    let poured = store.pour(&wanted, &|_| {}).unwrap();
    for (at, recipe) in recipes.into_iter().enumerate() {
        let expected = store.bytes_of(recipe).unwrap();
        assert_eq!(poured[at], Poured { digest: Digest::of(&expected), size: recipe.length() }, "{at}");
        assert!(std::fs::read(path(at)).unwrap() == expected, "{at}");
    }
    assert!(objects.iter().all(|object| store.is_verified(object)));
}

#[test]
fn an_object_that_was_altered_is_in_none_of_the_files() {
    let (directory, store) = store();
    let (root, disk, objects) = root_and_disk(&store);
    let known = [&disk, &root].map(|recipe| Some(store.digest_of(recipe).unwrap().digest));
    let place = store.object_path(&objects[1]);
    let good = std::fs::read(&place).unwrap();
    let mut bad = good.clone();
    bad[1_400_000] ^= 1;
    let out = directory.path().join("out");
    std::fs::create_dir(&out).unwrap();
    // Hashed for itself, or in a file whose digest is known: of one, or of both.
    for expected in [[None, None], known, [None, known[1]]] {
        let wanted = [("disk", &disk, expected[0]), ("root", &root, expected[1])]
            .map(|(name, recipe, expected)| Wanted { recipe, path: out.join(name), expected });
        let store = Store::open(store.root()).unwrap();
        std::fs::remove_file(&place).unwrap();
        std::fs::write(&place, &bad).unwrap();
        let error = store.pour(&wanted, &|_| {}).unwrap_err();
        assert!(matches!(error, StoreError::Altered(object) if object == objects[1]), "{error}");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
        assert_eq!(store.take_discarded(), [objects[1]]);
        std::fs::write(&place, &good).unwrap();
        let poured = store.pour(&wanted, &|_| {}).unwrap();
        assert_eq!([Some(poured[0].digest), Some(poured[1].digest)], known);
        std::fs::remove_dir_all(&out).unwrap();
        std::fs::create_dir(&out).unwrap();
    }
}

/// What is poured of these objects, with a store that has hashed nothing yet.
fn poured_of(store: &Store, objects: &[(Digest, u64)], path: &std::path::Path) -> Result<Poured, StoreError> {
    let store = Store::open(store.root()).unwrap();
    let mut recipe = Recipe::new();
    objects.iter().for_each(|(object, length)| recipe.push(whole(*object, *length), "member"));
    let wanted = Wanted { recipe: &recipe, path: path.to_owned(), expected: None };
    Ok(store.pour(&[wanted], &|_| {})?[0])
}

#[test]
fn a_file_that_begins_as_another_one_is_hashed_from_there_and_its_objects_all_the_same() {
    let (directory, store) = store();
    let path = directory.path().join("out");
    // Of unlike lengths, so that those that are read in turns begin and end at unlike times.
    let length = |seed: u8| 1_200_000 + 50_001 * u32::from(seed % 14);
    let bytes = |seed: u8| (0..length(seed)).map(|at| (at >> 9) as u8 ^ seed).collect::<Vec<u8>>();
    let objects: Vec<(Digest, u64)> =
        (0..13).map(|seed| (store.put(&bytes(seed)).unwrap(), u64::from(length(seed)))).collect();
    let whole_of = |seeds: &[u8]| Digest::of(&seeds.iter().flat_map(|seed| bytes(*seed)).collect::<Vec<u8>>());
    let seeds: Vec<u8> = (0..12).collect();
    assert_eq!(poured_of(&store, &objects[..12], &path).unwrap().digest, whole_of(&seeds));
    // Half of it, and a quarter more.
    let kept = store.parcels("pour.beginning").unwrap();
    assert_eq!(kept.len(), 2);
    let changed: Vec<(Digest, u64)> = objects[..11].iter().chain(&objects[12..]).copied().collect();
    let expected = whole_of(&[&seeds[..11], &[12]].concat());
    assert_eq!(poured_of(&store, &changed, &path).unwrap().digest, expected);
    assert_eq!(Digest::of(&std::fs::read(&path).unwrap()), expected);
    assert_eq!(store.parcels("pour.beginning").unwrap().len(), 2);
    // Whoever remembers wrongly gets it wrong: it is not hashed again.
    let place = |parcel: &Parcel| store.root().join("results/pour.beginning").join(parcel.key.to_string());
    for parcel in &kept {
        let (_, json) = std::str::from_utf8(&parcel.bytes).unwrap().split_once('\n').unwrap();
        let mut told: serde_json::Value = serde_json::from_str(json).unwrap();
        told["value"]["state"][0] = 1.into();
        let json = told.to_string();
        std::fs::write(place(parcel), format!("{}\n{json}", Digest::of(json.as_bytes()))).unwrap();
    }
    assert_ne!(poured_of(&store, &changed, &path).unwrap().digest, expected);
    kept.iter().for_each(|parcel| std::fs::write(place(parcel), &parcel.bytes).unwrap());
    // An object that needs no hashing for the file is hashed for itself, at whichever of the two places it is read.
    for at in [3, 7] {
        let place = store.object_path(&objects[usize::from(at)].0);
        std::fs::remove_file(&place).unwrap();
        std::fs::write(&place, bytes(at + 14)).unwrap();
        let _ = std::fs::remove_file(&path);
        let error = poured_of(&store, &changed, &path).unwrap_err();
        assert!(matches!(error, StoreError::Altered(object) if object == objects[usize::from(at)].0), "{error}");
        assert!(!path.exists());
        assert_eq!(store.put(&bytes(at)).unwrap(), objects[usize::from(at)].0);
    }
}

#[test]
fn an_object_cut_short_is_noticed_and_nothing_is_left() {
    let (directory, store) = store();
    let object = store.put(b"0123456789").unwrap();
    let mut recipe = Recipe::new();
    recipe.push(Bytes::Object { object, offset: 5, length: 6 }, "too long");
    let out = directory.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let wanted = [Wanted { recipe: &recipe, path: out.join("x"), expected: None }];
    assert!(matches!(store.pour(&wanted, &|_| {}), Err(StoreError::Altered(_))));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
}
