//! .debs as an attacker writes them.

use std::io::Write as _;

use crate::tree::{Kind, TreePath};

use super::*;

/// One entry of a data tar, unchecked.
struct Entry<'a> {
    kind: u8,
    name: &'a str,
    link: &'a str,
    mode: u32,
    uid: u64,
    content: &'a [u8],
}

fn entry<'a>(kind: u8, name: &'a str, link: &'a str) -> Entry<'a> {
    Entry { kind, name, link, mode: 0o644, uid: 0, content: b"" }
}

fn file<'a>(name: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry { content, ..entry(b'0', name, "") }
}

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.as_mut_bytes()[157..157 + entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.as_mut_bytes()[156] = entry.kind;
        header.set_mode(entry.mode);
        header.set_uid(entry.uid);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        bytes.extend(header.as_bytes());
        bytes.extend(entry.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend([0; 1024]);
    bytes
}

fn deb(control: &[(&str, &str)], data_name: &str, data: &[u8]) -> Vec<u8> {
    let control: Vec<_> = control.iter().map(|(name, text)| file(name, text.as_bytes())).collect();
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &tar(&control)), (data_name, data)] {
        let _ = writeln!(bytes, "{name:<16}{:<32}{:<10}`", 0, content.len());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

const CONTROL: &str = "Package: evil\nVersion: 1\nArchitecture: all\nInstalled-Size: 1\n";

fn try_unpack(bytes: &[u8]) -> Result<unpack::Unpacked, String> {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let locked = LockedPackage {
        name: "evil".into(),
        version: "1".into(),
        architecture: "all".into(),
        archive: "test".into(),
        size: bytes.len() as u64,
        sha256: store.put(bytes).unwrap(),
        path: "pool/evil.deb".into(),
    };
    unpack::unpack(&store, &asked(&[locked])[0]).map_err(|diagnostic| {
        assert!(diagnostic.message.starts_with("the package evil 1 is refused: "), "{}", diagnostic.message);
        assert!(diagnostic.notes[0].contains("pool/evil.deb"));
        diagnostic.message
    })
}

fn refusal(entries: &[Entry<'_>]) -> String {
    try_unpack(&deb(&[("control", CONTROL)], "data.tar", &tar(entries))).expect_err("refused")
}

#[test]
fn members_that_packages_must_not_have_are_refused_by_name() {
    let long = "x".repeat(90);
    let cases: [(&[Entry<'_>], &str); 15] = [
        (&[file("./../etc/passwd", b"")], "climbs out with `..`"),
        (&[file("./a/../../b", b"")], "climbs out with `..`"),
        (&[entry(b'1', "./a", "/etc/passwd")], "hard link to `/etc/passwd`"),
        (&[entry(b'1', "./a", "../../etc/passwd")], "climbs out with `..`"),
        (&[entry(b'1', "./a", "./missing")], "hard link to `./missing`"),
        (&[entry(b'5', "./d/", ""), entry(b'1', "./a", "./d")], "hard link to `./d`"),
        (&[entry(b'2', "./l", "x"), entry(b'1', "./a", "./l")], "hard link to `./l`"),
        (&[entry(b'3', "./dev/null", "")], "`./dev/null`: is a device"),
        (&[entry(b'4', "./dev/sda", "")], "is a device"),
        (&[entry(b'6', "./pipe", "")], "tar type `6`"),
        // The tar reader refuses its map of holes before its type is looked at.
        (&[entry(b'S', "./sparse", "")], "its data: "),
        (&[file("./a", b"1"), file("./a", b"2")], "`./a`: is there twice"),
        (&[entry(b'2', "./l", "/etc"), file("./l/passwd", b"")], "lies under `l`"),
        (&[entry(b'2', "./l", "")], "link target that is empty"),
        (&[Entry { uid: 70_000, ..file(&long, b"") }], "ids end at 65535"),
    ];
    for (entries, message) in cases {
        let refusal = refusal(entries);
        assert!(refusal.contains(message), "{message} in {refusal}");
    }
}

#[test]
fn an_absolute_name_is_one_inside_the_root() {
    let data = tar(&[file("/etc/passwd", b"x"), entry(b'2', "./out", "/../../etc/shadow")]);
    let unpacked = try_unpack(&deb(&[("control", CONTROL)], "data.tar", &data)).unwrap();
    assert!(unpacked.tree.get(&TreePath::parse("etc/passwd").unwrap()).is_some());
    // A link's target is text: the tree's own paths follow it inside the tree only.
    let through = unpacked.tree.resolve(&TreePath::parse("out").unwrap()).unwrap();
    assert_eq!(through.to_string(), "etc/shadow");
}

#[test]
fn bombs_broken_streams_and_strangers_are_refused() {
    let zeros = vec![0; 80 << 20];
    let bomb = zstd::encode_all(&tar(&[file("./zeros", &zeros)])[..], 1).unwrap();
    assert!(bomb.len() < 100_000);
    let refusal = try_unpack(&deb(&[("control", CONTROL)], "data.tar.zst", &bomb)).unwrap_err();
    assert!(refusal.contains("more than its `Installed-Size` allows"), "{refusal}");

    let refusal = try_unpack(&deb(&[("control", CONTROL)], "data.tar.xz", b"not xz")).unwrap_err();
    assert!(refusal.contains("its data: "), "{refusal}");
    let cut = &tar(&[file("./a", &[1; 5000])])[..2000];
    let refusal = try_unpack(&deb(&[("control", CONTROL)], "data.tar", cut)).unwrap_err();
    assert!(refusal.contains("its data: "), "{refusal}");

    let other = CONTROL.replace("evil", "good");
    let refusal = try_unpack(&deb(&[("control", &other)], "data.tar", &tar(&[]))).unwrap_err();
    assert!(refusal.contains("its control file says good 1 all"), "{refusal}");
    let conffiles = [("control", CONTROL), ("conffiles", "/etc/../../x\n")];
    let refusal = try_unpack(&deb(&conffiles, "data.tar", &tar(&[]))).unwrap_err();
    assert!(refusal.contains("`conffiles`"), "{refusal}");
    assert!(try_unpack(b"!<arch>\n").is_err());
}

#[test]
fn modes_links_and_long_names_survive() {
    let long = format!("./{}/{}", "d".repeat(200), "f".repeat(150));
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(4);
    archive.append_data(&mut header, &long[2..], &b"long"[..]).unwrap();
    let mut data = archive.into_inner().unwrap();
    data.truncate(data.len() - 1024);
    data.extend(tar(&[
        Entry { mode: 0o104_755, ..file("./bin/su", b"su") },
        entry(b'1', "./bin/sudo", "./bin/su"),
        entry(b'2', "./bin/sh", "dash"),
    ]));
    let unpacked = try_unpack(&deb(&[("control", CONTROL)], "data.tar", &data)).unwrap();
    let node = |path: &str| unpacked.tree.get(&TreePath::parse(path).unwrap()).unwrap();
    assert_eq!(node(&long).content().unwrap().size, 4);
    assert_eq!(node("bin/su").meta.mode, 0o4755);
    assert_eq!(node("bin/sudo"), node("bin/su"));
    assert!(matches!(&node("bin/su").kind, Kind::File(file) if file.group.is_some()));
    assert_eq!(node("bin/sh").kind, Kind::Symlink(b"dash".to_vec()));
}
