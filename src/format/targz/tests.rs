//! Tarballs against the tar crate and GNU tar.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use flate2::read::MultiGzDecoder;
use proptest::prelude::*;

use super::super::recipe::testing::Objects;
use super::*;
use crate::tree::{File, Meta, Origin, Tree};

/// A tree with every kind of node that a tarball can hold, and its contents.
struct Sample {
    tree: Tree,
    contents: BTreeMap<Digest, Vec<u8>>,
}

impl Sample {
    fn new() -> Self {
        let mut sample = Self { tree: Tree::new(node(0o755, Kind::Directory)), contents: BTreeMap::new() };
        for directory in ["bin", "dev", "etc"] {
            sample.put(directory, node(0o755, Kind::Directory));
        }
        let mut shadow = sample.file(b"root:*:\n", None);
        (shadow.meta.mode, shadow.meta.gid) = (0o640, 42);
        sample.put("etc/shadow", shadow);
        let mut ping = sample.file(&vec![7; 100_000], None);
        // cap_net_raw=ep, as setcap(8) writes it.
        let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        ping.meta.xattrs.insert(b"security.capability".to_vec(), capability);
        ping.meta.xattrs.insert(b"user.note".to_vec(), b"not text: \xff\0".to_vec());
        sample.put("bin/ping", ping);
        for name in ["bin/gzip", "bin/gunzip"] {
            let mut file = sample.file(b"one content, two names", Some("bin/gunzip"));
            file.meta.mode = 0o4755;
            sample.put(name, file);
        }
        sample.put("bin/sh", node(0o777, Kind::Symlink(b"dash".to_vec())));
        sample.put("etc/target", node(0o777, Kind::Symlink(vec![b't'; 150])));
        sample.put("dev/null", node(0o666, Kind::Character(1, 3)));
        sample.put("dev/vda", node(0o660, Kind::Block(254, 16)));
        sample.put("dev/initctl", node(0o600, Kind::Fifo));
        let mut large = node(0o1777, Kind::Directory);
        (large.meta.uid, large.meta.gid, large.meta.mtime) = (3_000_000, u32::MAX - 1, -5);
        sample.put("etc/large", large);
        let split = format!("etc/{}", "s".repeat(90));
        sample.put(&split, node(0o755, Kind::Directory));
        let empty = sample.file(b"", None);
        sample.put(&format!("{split}/{}", "t".repeat(90)), empty.clone());
        sample.put(&format!("etc/{}", "l".repeat(200)), empty.clone());
        let latin = [b"etc/latin-\xe9".as_slice(), &[0xe9; 120]].concat();
        sample.tree.insert(TreePath::parse(latin).unwrap(), empty).unwrap();
        sample
    }

    fn put(&mut self, path: &str, node: Node) {
        self.tree.insert(TreePath::parse(path).unwrap(), node).unwrap();
    }

    fn file(&mut self, content: &[u8], group: Option<&str>) -> Node {
        let digest = Digest::of(content);
        self.contents.insert(digest, content.to_vec());
        let group = group.map(|group| TreePath::parse(group).unwrap());
        node(0o644, Kind::File(File { content: Content::whole(digest, content.len() as u64), group }))
    }

    /// One member for each directory directly under the root, and one for the rest.
    fn tarball(&self) -> Vec<u8> {
        let mut objects = Objects::default();
        let mut members = Vec::new();
        let mut keep = |bytes: Vec<u8>, label: &str| {
            members.push((Digest::of(&bytes), bytes.len() as u64, label.to_owned()));
            objects.keep(bytes);
        };
        for top in ["", "bin", "dev", "etc"] {
            let under = |path: &TreePath| path.components().next().unwrap_or_default() == top.as_bytes();
            keep(self.member(self.tree.iter().filter(|(path, _)| under(path))), top);
        }
        let mut last = Vec::new();
        end(6, &mut last).unwrap();
        keep(last, "end");
        objects.pour(&assemble(&members))
    }

    fn member<'a>(&self, nodes: impl Iterator<Item = (&'a TreePath, &'a Node)>) -> Vec<u8> {
        let mut bytes = Vec::new();
        member(nodes, |content| Ok(self.contents[&content.digest].as_slice()), 6, &mut bytes).unwrap();
        bytes
    }
}

fn node(mode: u16, kind: Kind) -> Node {
    let mut meta = Meta::root_owned(mode);
    meta.mtime = 1_763_993_874;
    Node::new(meta, kind, Origin::Built("test".into()))
}

fn on_disk(tarball: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(tarball).unwrap();
    file
}

fn gnu_tar(arguments: &[&str], tarball: &Path) -> String {
    let output = Command::new("tar").args(arguments).arg("-f").arg(tarball).env("TZ", "UTC").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}{text}");
    text
}

#[test]
fn every_member_ends_with_a_block_and_what_fills_it_is_nothing() {
    let sample = Sample::new();
    let member = sample.member(sample.tree.iter());
    assert_eq!(member.len() as u64 % ALIGNMENT, 0);
    let mut nothing = Vec::new();
    fill(&mut nothing, ALIGNMENT).unwrap();
    assert!(nothing.is_empty());
    for length in 1..ALIGNMENT {
        let mut filled = Vec::new();
        fill(&mut filled, length).unwrap();
        assert_eq!((length + filled.len() as u64) % ALIGNMENT, 0, "{length}");
        let mut read = Vec::new();
        MultiGzDecoder::new(&*filled).read_to_end(&mut read).unwrap();
        assert!(read.is_empty(), "{length}");
        // flate2 knows the field for one.
        let header = flate2::read::GzDecoder::new(&*filled).header().map(|header| header.extra().map(<[u8]>::len));
        assert_eq!(header.flatten(), Some(filled.len() - 22), "{length}");
    }
}

#[test]
fn the_tar_crate_reads_the_tree_back() {
    let sample = Sample::new();
    let tarball = sample.tarball();
    let mut archive = tar::Archive::new(MultiGzDecoder::new(&*tarball));
    let mut read = 0;
    for (entry, (path, node)) in archive.entries().unwrap().zip(sample.tree.iter()) {
        let mut entry = entry.unwrap();
        let expected = [b"./", path.as_bytes()].concat();
        let written = entry.path_bytes().into_owned();
        let name = if path.is_root() { &written[..] } else { written.strip_suffix(b"/").unwrap_or(&written) };
        assert_eq!(name, expected, "{path}");
        assert_eq!(entry.header().mode().unwrap(), u32::from(node.meta.mode), "{path}");
        assert_eq!(written.ends_with(b"/"), node.kind.is_directory(), "{path}");
        let records: Vec<_> = entry.pax_extensions().unwrap().into_iter().flatten().map(Result::unwrap).collect();
        let record = |key: &str| {
            records
                .iter()
                .find(|record| record.key_bytes() == key.as_bytes())
                .map(|record| record.value_bytes().to_vec())
        };
        for (name, value) in &node.meta.xattrs {
            let key = format!("SCHILY.xattr.{}", String::from_utf8_lossy(name));
            assert_eq!(record(&key).as_ref(), Some(value), "{path}");
        }
        if node.meta.mtime < 0 {
            assert_eq!(record("mtime").as_deref(), Some(&b"-5"[..]));
            assert_eq!(record("uid").as_deref(), Some(&b"3000000"[..]));
        } else {
            assert_eq!(entry.header().mtime().unwrap(), node.meta.mtime as u64);
            assert_eq!(entry.header().gid().unwrap(), u64::from(node.meta.gid));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if let Some(body) = body(path, node) {
            assert_eq!(Digest::of(&content), body.digest, "{path}");
        }
        read += 1;
    }
    assert_eq!(read, sample.tree.len());
}

#[test]
fn gnu_tar_lists_it_without_a_complaint() {
    let file = on_disk(&Sample::new().tarball());
    let listed = gnu_tar(&["--xattrs", "--xattrs-include=*", "--numeric-owner", "--full-time", "-tvvz"], file.path());
    for expected in [
        "drwxr-xr-x  0/0               0 2025-11-24 14:17:54 ./\n",
        "-rw-r----- ",
        " 0/42 ",
        "x: 20 security.capability",
        "x: 12 user.note",
        "-rwsr-xr-x ",
        " ./bin/gzip link to ./bin/gunzip\n",
        " ./bin/sh -> dash\n",
        "1,3 ",
        "254,16 ",
        "prw------- ",
        "drwxrwxrwt",
        "3000000/4294967294",
        "1969-12-31 23:59:55 ./etc/large/",
        &format!("./etc/{}\n", "l".repeat(200)),
        "./etc/latin-\\351\\351",
    ] {
        assert!(listed.contains(expected), "{expected:?} in {listed}");
    }
}

#[test]
fn a_member_is_the_same_bytes_every_time_and_knows_no_host() {
    let sample = Sample::new();
    let first = sample.member(sample.tree.iter());
    assert_eq!(first, sample.member(sample.tree.iter()));
    // RFC 1952: magic, deflate, no flags (so no name), no time; the byte 9 is the system.
    assert_eq!(first[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    assert_eq!(first[9], UNKNOWN_SYSTEM);
}

#[test]
fn what_a_tarball_cannot_hold_is_refused() {
    let write = |node: &Node, content: &'static [u8]| {
        member([(&TreePath::parse("x").unwrap(), node)], |_| Ok(content), 6, &mut Vec::new())
    };
    assert!(matches!(write(&node(0o600, Kind::Socket), b""), Err(TarError::Socket(_))));
    assert!(matches!(write(&node(0o600, Kind::Block(1, 1 << 24),), b""), Err(TarError::Device { .. })));
    let file = node(0o644, Kind::file(Content::whole(Digest::of(b"four"), 4)));
    for wrong in [&b"fou"[..], b"fours"] {
        assert!(matches!(write(&file, wrong), Err(TarError::Length { size: 4, .. })));
    }
    write(&file, b"four").unwrap();
}

#[test]
#[ignore = "makes devices and changes owners: needs root, and `getfattr` from the package attr"]
fn gnu_tar_extracts_the_tree_as_root() {
    let sample = Sample::new();
    let file = on_disk(&sample.tarball());
    let root = tempfile::tempdir().unwrap();
    let place = root.path().to_str().unwrap();
    // It warns of times before 1970, which one of the nodes has.
    let arguments =
        ["-C", place, "--xattrs", "--xattrs-include=*", "--numeric-owner", "--warning=no-timestamp", "-xpz"];
    gnu_tar(&arguments, file.path());
    for (path, node) in sample.tree.iter() {
        use std::os::unix::ffi::OsStrExt as _;
        let path = root.path().join(std::ffi::OsStr::from_bytes(path.as_bytes()));
        let found = path.symlink_metadata().unwrap();
        let Meta { mode, uid, gid, mtime, ref xattrs } = node.meta;
        assert_eq!((found.uid(), found.gid(), found.mtime()), (uid, gid, mtime), "{path:?}");
        if !found.is_symlink() {
            assert_eq!(found.mode() & 0o7777, u32::from(mode), "{path:?}");
        }
        match &node.kind {
            Kind::File(file) => {
                assert_eq!(Digest::of(&std::fs::read(&path).unwrap()), file.content.digest, "{path:?}");
                assert_eq!(found.nlink(), if file.group.is_some() { 2 } else { 1 }, "{path:?}");
            }
            Kind::Symlink(target) => assert_eq!(std::fs::read_link(&path).unwrap().as_os_str().as_bytes(), target),
            Kind::Character(..) => assert!(found.file_type().is_char_device() && found.rdev() == 0x103),
            Kind::Block(..) => assert!(found.file_type().is_block_device() && found.rdev() == 0xfe10),
            Kind::Fifo => assert!(found.file_type().is_fifo()),
            Kind::Directory => assert!(found.is_dir()),
            Kind::Socket => unreachable!("the sample has none"),
        }
        for (name, value) in xattrs {
            let name = String::from_utf8_lossy(name).into_owned();
            let output =
                Command::new("getfattr").args(["-h", "--only-values", "-n", &name]).arg(&path).output().unwrap();
            assert_eq!(&output.stdout, value, "{path:?} {name}");
        }
    }
}

/// What our reader finds: nodes as a tree has them, and the bytes of its files.
fn read_back(tarball: &[u8]) -> BTreeMap<TreePath, (Meta, read::EntryKind, Vec<u8>)> {
    let mut reader = read::Reader::new(tarball);
    let mut found = BTreeMap::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut reader.content(), &mut bytes).unwrap();
        found.insert(entry.path, (entry.meta, entry.kind, bytes));
    }
    found
}

/// What should be found: further names of a file have no attributes of their own.
fn expected(sample: &Sample) -> BTreeMap<TreePath, (Meta, read::EntryKind, Vec<u8>)> {
    let entry = |(path, node): (&TreePath, &Node)| {
        let mut meta = node.meta.clone();
        let mut bytes = Vec::new();
        let kind = match &node.kind {
            Kind::Directory => read::EntryKind::Directory,
            Kind::File(file) => match &file.group {
                Some(first) if first != path => {
                    meta.xattrs.clear();
                    read::EntryKind::HardLink(first.clone())
                }
                _ => {
                    bytes.clone_from(&sample.contents[&file.content.digest]);
                    read::EntryKind::File(file.content.size)
                }
            },
            Kind::Symlink(target) => read::EntryKind::Symlink(target.clone()),
            Kind::Character(major, minor) => read::EntryKind::Character(*major, *minor),
            Kind::Block(major, minor) => read::EntryKind::Block(*major, *minor),
            Kind::Fifo => read::EntryKind::Fifo,
            Kind::Socket => unreachable!("a tarball holds no socket"),
        };
        (path.clone(), (meta, kind, bytes))
    };
    sample.tree.iter().map(entry).collect()
}

#[test]
fn our_reader_reads_the_tree_back() {
    let sample = Sample::new();
    assert_eq!(read_back(&sample.tarball()), expected(&sample));
}

#[test]
fn a_tarball_that_is_cut_or_broken_ends_in_an_error() {
    let whole = Sample::new().tarball();
    let all = |bytes: &[u8]| {
        let mut reader = read::Reader::new(bytes);
        while reader.next_entry()?.is_some() {}
        Ok::<(), read::ReadTarError>(())
    };
    all(&whole).unwrap();
    for length in [0, 1, 20, whole.len() / 2, whole.len() - 200] {
        assert!(all(&whole[..length]).is_err(), "{length}");
    }
    // Every header says what kind it is; nonsense is refused, and so is a name that climbs out.
    let block = |name: &str, kind: u8, size: &str| {
        let mut block = [0_u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..124 + size.len()].copy_from_slice(size.as_bytes());
        block[156] = kind;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut bytes = Vec::new();
        let mut gzip = gzip(&mut bytes, 1);
        io::Write::write_all(&mut gzip, &[&block[..], &[0; 1024]].concat()).unwrap();
        gzip.finish().unwrap();
        bytes
    };
    all(&block("good", b'0', "0")).unwrap();
    for (name, kind, size) in [
        ("../x", b'0', "0"),
        ("x", b'S', "0"),
        ("x", b'V', "0"),
        ("x", b'0', "8"),
        ("x", b'x', "77777777777"),
        ("x", b'L', "4000001"),
    ] {
        assert!(all(&block(name, kind, size)).is_err(), "{name} {kind} {size}");
    }
}

/// Name, mode, owner, time, content, and what kind of node it is.
type Drawn = (Vec<u8>, u16, u32, i64, Vec<u8>, u8);

/// Directories and files.
fn nodes() -> impl Strategy<Value = Vec<Drawn>> {
    let name =
        proptest::collection::vec(any::<u8>().prop_filter("no separator", |byte| !matches!(byte, 0 | b'/')), 1..120);
    let name = name.prop_filter("no dots alone", |name| name != b"." && name != b"..");
    let content = proptest::collection::vec(any::<u8>(), 0..2000);
    proptest::collection::vec((name, 0..0o10000_u16, any::<u32>(), -100..1_i64 << 34, content, any::<u8>()), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(nodes in nodes()) {
        let mut sample = Sample { tree: Tree::new(node(0o755, Kind::Directory)), contents: BTreeMap::new() };
        let mut above = TreePath::root();
        for (name, mode, owner, mtime, content, kind) in nodes {
            let path = above.join(&TreePath::parse(&name).unwrap());
            if sample.tree.get(&path).is_some() || path.as_bytes().len() > 4000 {
                continue;
            }
            let mut made = match kind % 5 {
                0 => node(0, Kind::Directory),
                1 => node(0, Kind::Symlink(content)),
                2 => node(0, Kind::Character(u32::from(kind), owner & 0o777_7777)),
                _ => sample.file(&content, None),
            };
            (made.meta.mode, made.meta.uid, made.meta.gid, made.meta.mtime) = (mode, owner, owner.rotate_left(9), mtime);
            if kind % 3 == 0 {
                made.meta.xattrs.insert(format!("user.{kind}").into_bytes(), name.clone());
            }
            let is_directory = made.kind.is_directory();
            // A link target of no bytes is nothing that a tarball says.
            if matches!(&made.kind, Kind::Symlink(target) if target.is_empty() || target.contains(&0)) {
                continue;
            }
            sample.tree.insert(path.clone(), made).unwrap();
            if is_directory {
                above = path;
            }
        }
        let mut bytes = sample.member(sample.tree.iter());
        end(1, &mut bytes).unwrap();
        prop_assert_eq!(read_back(&bytes), expected(&sample));
    }
}
