//! The writer against other people's readers, and our reader against hostile volumes.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Write as _};
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::super::{Bytes, recipe::testing::Objects};
use super::*;

const EPOCH: i64 = 1_763_993_874;

/// What an EFI system partition looks like, its files in `objects`.
fn esp(objects: &mut Objects) -> Directory {
    let mut root = Directory::new();
    root.file("EFI/BOOT/BOOTX64.EFI", objects.keep(vec![1; 100_000])).unwrap();
    root.file("EFI/Linux/node_2026.11.1+3.efi", objects.keep(vec![2; 3_000_001])).unwrap();
    root.file("loader/loader.conf", objects.keep(*b"timeout 0\n")).unwrap();
    root.file("loader/entries.srel", objects.keep(*b"type1\n")).unwrap();
    root.file("empty", Recipe::new()).unwrap();
    root.directory("loader/keys").unwrap();
    root
}

fn on_disk(image: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(image).unwrap();
    file
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").env("TZ", "UTC").output();
    let output = output.unwrap_or_else(|error| panic!("{program} has to be installed: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Everything that the `fatfs` crate finds: contents by path, none for directories.
fn by_fatfs(image: &[u8]) -> BTreeMap<String, Option<Vec<u8>>> {
    type Directory<'a> = fatfs::Dir<'a, Cursor<Vec<u8>>>;
    fn walk(directory: &Directory<'_>, path: &str, found: &mut BTreeMap<String, Option<Vec<u8>>>) {
        for entry in directory.iter().map(Result::unwrap) {
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            if entry.is_dir() {
                walk(&entry.to_dir(), &path, found);
                found.insert(path, None);
            } else {
                let mut content = Vec::new();
                entry.to_file().read_to_end(&mut content).unwrap();
                found.insert(path, Some(content));
            }
        }
    }
    let file_system = fatfs::FileSystem::new(Cursor::new(image.to_vec()), fatfs::FsOptions::new()).unwrap();
    let mut found = BTreeMap::new();
    walk(&file_system.root_dir(), "", &mut found);
    found
}

/// As [`by_fatfs`], with our reader.
fn by_reader(image: &[u8]) -> BTreeMap<String, Option<Vec<u8>>> {
    let reader = Reader::open(image).unwrap();
    let content = |found: &Found| (!found.directory).then(|| reader.read_found(found, u32::MAX).unwrap());
    reader.list().unwrap().iter().map(|found| (found.path.clone(), content(found))).collect()
}

#[test]
fn fsck_and_mtools_agree_with_the_volume() {
    let mut objects = Objects::default();
    let root = esp(&mut objects);
    let recipe = volume(64 * 1024 * 1024, 0x1234_abcd, "ESP", &root, EPOCH).unwrap();
    assert_eq!(recipe, volume(64 * 1024 * 1024, 0x1234_abcd, "ESP", &root, EPOCH).unwrap());
    let file = on_disk(&objects.pour(&recipe));
    let path = file.path().to_str().unwrap();
    run("fsck.fat", &["-n", path]);
    let listed = run("mdir", &["-i", path, "-/", "-a", "::"]);
    for expected in ["ESP", "1234-ABCD", "node_2026.11.1+3.efi", "2025-11-24  14:17", "loader.conf"] {
        assert!(listed.contains(expected), "{expected} in {listed}");
    }
    assert_eq!(run("mtype", &["-i", path, "::loader/LOADER.CONF"]), "timeout 0\n");
    assert_eq!(run("mtype", &["-i", path, "::EFI/Linux/node_2026.11.1+3.efi"]).into_bytes(), vec![2; 3_000_001]);
}

#[test]
fn files_lie_in_one_run_and_know_their_origin() {
    let mut objects = Objects::default();
    let recipe = volume(64 * 1024 * 1024, 1, "ESP", &esp(&mut objects), EPOCH).unwrap();
    let large = recipe.leaves().find(|leaf| leaf.bytes.length() == 3_000_001).unwrap();
    assert_eq!(
        recipe.origins_at(large.offset + 3_000_000)[..2],
        ["FAT data region", "/EFI/Linux/node_2026.11.1+3.efi"]
    );
    let literal: u64 =
        recipe.leaves().filter(|leaf| matches!(leaf.bytes, Bytes::Literal(_))).map(|l| l.bytes.length()).sum();
    assert!(literal < 200_000, "{literal} literal bytes for a volume of 64 MiB");
}

#[test]
fn the_smallest_volume_holds_its_content_and_one_unit_less_does_not() {
    let mut objects = Objects::default();
    let mut root = esp(&mut objects);
    for large in [0, 40_000_000, 300_000_000] {
        if large > 0 {
            let mut content = Recipe::new();
            content.push(Bytes::Zeros(large), "large");
            root.file(&format!("large-{large}"), content).unwrap();
        }
        let size = minimum_size(&root).unwrap();
        let recipe = volume(size, 1, "ESP", &root, EPOCH).unwrap();
        assert_eq!(recipe.length(), size);
        assert_eq!(volume(size - 4096, 1, "ESP", &root, EPOCH), Err(FatError::Size { size: size - 4096, least: size }));
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        // Boot sectors, FATs and directories; fsck.fat reads no more.
        file.as_file().write_all(&objects.pour(&recipe.slice(0, 16 * 1024 * 1024))).unwrap();
        run("fsck.fat", &["-n", file.path().to_str().unwrap()]);
    }
    // 65541 clusters of 512 bytes and the 1080 sectors before them, rounded up to 4096.
    assert_eq!(minimum_size(&Directory::new()).unwrap(), 34_111_488);
}

#[test]
fn names_that_clash_or_are_none_are_refused() {
    let mut root = Directory::new();
    root.file("EFI/BOOT/x", Recipe::new()).unwrap();
    for path in ["EFI/BOOT/X", "efi/boot", "EFI/BOOT/x/y", "EFI"] {
        assert!(matches!(root.file(path, Recipe::new()), Err(FatError::Exists(_))), "{path}");
    }
    for path in ["", "/a", "a//b", "../a", "a/b?"] {
        assert!(matches!(root.file(path, Recipe::new()), Err(FatError::Name { .. })), "{path}");
    }
    let mut large = Recipe::new();
    large.push(Bytes::Zeros(1 << 32), "large");
    assert!(matches!(root.file("large", large), Err(FatError::FileTooLarge { .. })));
    for number in 0..22_000 {
        root.file(&format!("a long name {number}"), Recipe::new()).unwrap();
    }
    assert_eq!(minimum_size(&root), Err(FatError::DirectoryFull));
}

#[test]
fn a_hostile_volume_ends_in_an_error() {
    let mut objects = Objects::default();
    let root = esp(&mut objects);
    let good = objects.pour(&volume(64 * 1024 * 1024, 1, "ESP", &root, EPOCH).unwrap());
    let layout = layout::Layout::of(64 * 1024 * 1024).unwrap();
    let table = usize::from(layout.reserved) * 512;
    let data = layout.data_start() as usize;
    let patched = |at: usize, bytes: &[u8]| {
        let mut image = good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    };
    for (what, image) in [
        ("sectors", patched(11, &[0, 16])),
        ("clusters", patched(13, &[3])),
        ("no clusters", patched(36, &[0xff; 4])),
        ("few sectors", patched(32, &[1, 0, 0, 0])),
    ] {
        assert!(matches!(Reader::open(&image), Err(ReadFatError::NotFat(_))), "{what}");
    }
    // The root directory's chain leads back to itself; its one cluster is full of entries, so that the reader goes on.
    let mut looped = patched(table + 8, &[2, 0, 0, 0]);
    let entry: [u8; 32] = looped[data + 32..data + 64].try_into().unwrap();
    looped[data..data + layout.cluster_size() as usize].as_chunks_mut::<32>().0.fill(entry);
    assert!(Reader::open(&looped).unwrap().list().is_err());
    let mut into_nowhere = good.clone();
    into_nowhere[table + 8..table + 12].copy_from_slice(&[0xf0, 0xff, 0xff, 0x0f]);
    let mut entry = [0; 32];
    entry[..12].copy_from_slice(b"FILE    TXT\x20");
    into_nowhere[data..data + layout.cluster_size() as usize].as_chunks_mut::<32>().0.fill(entry);
    let reader = Reader::open(&into_nowhere).unwrap();
    assert!(matches!(reader.list(), Err(ReadFatError::Broken(_))));
    let reader = Reader::open(&good).unwrap();
    assert!(matches!(reader.read("EFI/Linux/node_2026.11.1+3.efi", 1000), Err(ReadFatError::OverLimit(_))));
    assert!(matches!(reader.read("EFI/Linux", 1000), Err(ReadFatError::Missing(_))));
    let cut = &good[..data + 100];
    assert!(matches!(Reader::open(cut).unwrap().list(), Err(ReadFatError::Io(_))));
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[A-Z]{1,8}(\\.[A-Z]{1,3})?", "[a-z0-9_+.-]{1,30}[a-z]", "[a-zäß☃𝄞 ]{0,20}[a-z]"]
        .prop_filter("FAT allows it", |name| names::check(name).is_ok())
}

fn trees() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let path = proptest::collection::vec(names(), 1..4).prop_map(|names| names.join("/"));
    proptest::collection::vec((path, proptest::collection::vec(any::<u8>(), 0..5000)), 0..40)
}

#[test]
fn a_volume_with_too_many_names_is_not_listed() {
    let mut root = Directory::new();
    let deep = vec!["d".repeat(255); 20].join("/");
    for number in 0..5000 {
        root.file(&format!("{deep}/{number}"), Recipe::new()).unwrap();
    }
    let image = Objects::default().pour(&volume(64 * 1024 * 1024, 1, "DEEP", &root, EPOCH).unwrap());
    assert!(matches!(Reader::open(&image).unwrap().list(), Err(ReadFatError::OverLimit(_))));
}

#[test]
fn random_damage_never_panics() {
    let mut objects = Objects::default();
    let root = esp(&mut objects);
    let mut image = objects.pour(&volume(64 * 1024 * 1024, 1, "ESP", &root, EPOCH).unwrap());
    let layout = layout::Layout::of(64 * 1024 * 1024).unwrap();
    let table = usize::from(layout.reserved) * 512;
    let data = layout.data_start() as usize;
    let targets: Vec<usize> = (0..512).chain(table..table + 100).chain(data..data + 5 * 512).collect();
    let mut read = 0;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let damage = proptest::collection::vec((proptest::sample::select(targets), any::<u8>()), 1..6);
    for _ in 0..100 {
        let damage = damage.new_tree(&mut runner).unwrap().current();
        let before: Vec<_> = damage.iter().map(|(at, byte)| (*at, std::mem::replace(&mut image[*at], *byte))).collect();
        if let Ok(reader) = Reader::open(&image) {
            for found in reader.list().unwrap_or_default() {
                read += reader.read_found(&found, 4_000_000).map_or(0, |content| content.len());
            }
        }
        // Backwards, since a place may have been hit twice.
        before.into_iter().rev().for_each(|(at, byte)| image[at] = byte);
    }
    assert!(read > 0, "no damaged volume could be read at all");
    assert_eq!(by_reader(&image).len(), 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(files in trees()) {
        let mut objects = Objects::default();
        let mut root = Directory::new();
        let mut expected = BTreeMap::new();
        for (path, content) in files {
            // Names that clash are another test's.
            if root.file(&path, objects.keep(content.clone())).is_ok() {
                for (end, _) in path.match_indices('/') {
                    expected.insert(path[..end].to_owned(), None);
                }
                expected.insert(path, Some(content));
            }
        }
        let image = objects.pour(&volume(minimum_size(&root).unwrap(), 7, "CIDATA", &root, EPOCH).unwrap());
        let read = by_reader(&image);
        for (path, content) in &expected {
            prop_assert_eq!(read.get(path), Some(content), "{}", path);
        }
        prop_assert_eq!(&read, &by_fatfs(&image));
        let file = on_disk(&image);
        run("fsck.fat", &["-n", file.path().to_str().unwrap()]);
    }
}
