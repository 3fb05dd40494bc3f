//! What is laid beside what `dpkg --unpack` lays, from the same .debs.

use std::collections::{BTreeMap, BTreeSet};

use crate::deb::control::Stanzas;
use crate::tree::{Kind, Node, Tree, TreePath};

use super::*;

fn packages(place: &Path) -> Vec<PathBuf> {
    let base = [
        ("usr/bin", Item::Directory(0o755)),
        ("usr/lib", Item::Directory(0o755)),
        ("bin", link("usr/bin")),
        ("lib", link("usr/lib")),
        ("etc/issue", text("issue\n")),
        ("tmp", Item::Directory(0o1777)),
        ("root", Item::Directory(0o700)),
    ];
    let one = [
        ("bin/su", Item::File(0o4755, b"su".to_vec())),
        ("usr/bin/perl", Item::File(0o755, vec![7; 100_000])),
        ("usr/bin/perl5", Item::HardLink("usr/bin/perl".to_owned())),
        ("etc/one/one.conf", text("a = 1\n")),
        ("etc/one/two.conf", text("b = 2\n")),
        ("usr/lib/one.so", link("one.so.1")),
        ("usr/share/shared/mine", text("one's")),
        ("usr/share/doc", Item::Directory(0o750)),
    ];
    let two = [
        ("usr/share/shared/mine", text("two's")),
        ("usr/share/doc/two/README", text("read\n")),
        ("usr/lib", Item::Directory(0o755)),
    ];
    let lower = [("usr/share/shared/lower", text("zero's"))];
    let upper = [("usr/share/shared/lower", text("upper's")), ("usr/share/upper", text(""))];
    // Where they are missing, as in the first two packages, dpkg makes them.
    let sums = ("md5sums", "d41d8cd98f00b204e9800998ecf8427e  usr/share/x\n");
    let conffiles = [
        ("conffiles", "/etc/one/one.conf\n/etc/one/two.conf\n"),
        ("triggers", "interest-noawait /usr/share/doc\ninterest ldconfig\nactivate-noawait ldconfig\n"),
        ("postinst", "#!/bin/sh\nexit 0\n"),
        ("shlibs", "libone 1 one\n"),
    ];
    let same = "Architecture: amd64\nMulti-Arch: same\nSection: libs\nHomepage: http://e.x/\nInstalled-Size: 1200\n";
    vec![
        build_deb(place, "base-files", "Essential: yes\nPriority: required\n", &base, &[("conffiles", "/etc/issue\n")]),
        build_deb(place, "one", same, &one, &conffiles),
        build_deb(
            place,
            "two",
            "Replaces: one (<< 2)\nBreaks: one (<< 0.5)\nDepends: one,\n base-files\n",
            &two,
            &[sums],
        ),
        build_deb(place, "upper", "Replaces: zero\nSource: src (2)\n", &upper, &[sums]),
        // Replaced by what was unpacked before it.
        build_deb(place, "zero", "Tag: a::b\n", &lower, &[sums]),
    ]
}

/// Paths with kind, mode, and text, target or digest; dpkg's own database apart.
fn on_disk(root: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let metadata = entry.metadata().unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        let shown = if metadata.is_dir() {
            format!("d {mode:04o}")
        } else if metadata.is_symlink() {
            format!("l {}", fs::read_link(entry.path()).unwrap().display())
        } else {
            format!("f {mode:04o} {}", crate::digest::Digest::of(&fs::read(entry.path()).unwrap()))
        };
        seen.insert(path, shown);
    }
    seen
}

fn in_tree(tree: &Tree) -> BTreeMap<String, String> {
    let show = |node: &Node| match &node.kind {
        Kind::Directory => format!("d {:04o}", node.meta.mode),
        Kind::Symlink(target) => format!("l {}", String::from_utf8_lossy(target)),
        Kind::File(file) => format!("f {:04o} {}", node.meta.mode, file.content.digest),
        other => format!("{other:?}"),
    };
    tree.iter().filter(|(path, _)| !path.is_root()).map(|(path, node)| (path.to_string(), show(node))).collect()
}

/// A status file as packages of fields, white space made even.
fn fields(status: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let stanza = |stanza: crate::deb::control::Stanza<'_>| {
        let fields = stanza.fields().map(|field| field.unwrap());
        let even = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
        fields.map(|field| (field.name.to_owned(), even(field.value))).collect::<BTreeMap<_, _>>()
    };
    Stanzas::new(status).map(stanza).map(|fields| (fields["Package"].clone(), fields)).collect()
}

fn sorted(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_tree_and_the_database_are_those_of_dpkg_unpack() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("store")).unwrap();
    let debs = packages(place.path());

    let root = place.path().join("reference");
    for directory in ["info", "updates", "triggers", "parts", "alternatives"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(directory)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let mut command: Vec<String> = ["dpkg", "--force-all", "--force-unsafe-io"].map(str::to_owned).to_vec();
    command.push(format!("--root={}", root.display()));
    command.push("--unpack".to_owned());
    command.extend(debs.iter().map(|deb| deb.display().to_string()));
    let mut inside = sandbox(&store).start("reference").unwrap();
    inside.connection.send(&Reference { command }).unwrap();
    let (done, errors): (bool, String) = inside.connection.receive().unwrap();
    assert!(done, "{errors}");

    let packages: Vec<LockedPackage> = debs.iter().map(|deb| locked(&store, deb)).collect();
    let unpacked = unpack::unpack_all(&store, &asked(&packages), &|| {}).unwrap();
    let laid = lay::lay(&store, None, &unpacked, 1_790_000_000).unwrap();
    let read = |path: &str| {
        let node = laid.tree.get(&TreePath::parse(path).unwrap()).unwrap_or_else(|| panic!("no {path}"));
        String::from_utf8(store.read(node.content().unwrap()).unwrap()).unwrap()
    };

    // The files. A configuration file stands at its place, where dpkg waits until it is configured.
    let mut theirs = on_disk(&root);
    let waiting: Vec<String> = theirs.keys().filter(|path| path.ends_with(".dpkg-new")).cloned().collect();
    assert_eq!(waiting.len(), 3);
    for path in waiting {
        let node = theirs.remove(&path).unwrap();
        theirs.insert(path.trim_end_matches(".dpkg-new").to_owned(), node);
    }
    let is_file = |path: &String| !path.starts_with("var/");
    let mut ours = in_tree(&laid.tree);
    ours.retain(|path, _| is_file(path));
    let (mut theirs, database) = theirs.into_iter().partition::<BTreeMap<_, _>, _>(|(path, _)| is_file(path));
    theirs.retain(|path, _| is_file(path));
    assert_eq!(ours, theirs);

    // The lists and control files.
    let info = |path: &String| path.strip_prefix("var/lib/dpkg/info/").map(str::to_owned);
    let theirs: BTreeSet<String> = database.keys().filter_map(info).collect();
    let ours: BTreeSet<String> = in_tree(&laid.tree).keys().filter_map(info).collect();
    assert_eq!(ours, theirs);
    for name in &theirs {
        let path = format!("var/lib/dpkg/info/{name}");
        let text = fs::read_to_string(root.join(&path)).unwrap();
        assert_eq!(sorted(&read(&path)), sorted(&text), "{name}");
    }
    for name in ["triggers/File", "triggers/ldconfig", "triggers/Unincorp", "diversions"] {
        let path = format!("var/lib/dpkg/{name}");
        let text = fs::read_to_string(root.join(&path)).unwrap_or_default();
        assert_eq!(sorted(&read(&path)), sorted(&text), "{name}");
    }

    // The status. Where dpkg says `newconffile`, the file's MD5 stands, as it does once configured.
    let mut theirs = fields(&fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap());
    for package in theirs.values_mut() {
        if let Some(conffiles) = package.get_mut("Conffiles") {
            for path in ["/etc/issue", "/etc/one/one.conf", "/etc/one/two.conf"] {
                let file = fs::read(root.join(format!("{path}.dpkg-new").trim_start_matches('/'))).unwrap();
                let digest: String =
                    <md5::Md5 as md5::Digest>::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
                *conffiles = conffiles.replace(&format!("{path} newconffile"), &format!("{path} {digest}"));
            }
        }
    }
    assert_eq!(fields(&read("var/lib/dpkg/status")), theirs);
}

#[test]
fn two_packages_with_one_file_are_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("store")).unwrap();
    let debs = ["a", "b"].map(|name| build_deb(place.path(), name, "", &[("usr/bin/same", text(name))], &[]));
    let packages: Vec<LockedPackage> = debs.iter().map(|deb| locked(&store, deb)).collect();
    let unpacked = unpack::unpack_all(&store, &asked(&packages), &|| {}).unwrap();
    let report = lay::lay(&store, None, &unpacked, 0).unwrap_err();
    let message = &report.diagnostics[0].message;
    assert!(
        message.contains("the package b 1") && message.contains("`/usr/bin/same` is in the package a too"),
        "{message}"
    );
}
