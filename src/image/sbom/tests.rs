//! A bill of a small root, in both forms, from every kind of origin. The official checkers look at whole builds in
//! `tests/integration/trust.rs`.

use serde_json::Value;

use super::*;
use crate::lock::{Lock, LockedLayer};
use crate::store::Store;
use crate::tree::{Content, Kind, Meta, Node, Origin};

const STATUS: &str = "Package: g++\nStatus: install ok installed\nArchitecture: amd64\nVersion: 4:14.2.0-1\n\
                      Source: gcc-defaults (1.220)\nMaintainer: Debian GCC Maintainers <gcc@lists.test>\n\
                      Homepage: https://gcc.test\nDescription: compiler\n and more\n";

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n\
                         Copyright: x\nLicense: GPL-3+\n";

struct World {
    _directory: tempfile::TempDir,
    store: Store,
    tree: Tree,
    lock: Lock,
    layers: Vec<String>,
}

fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let mut tree = Tree::new(Node::new(Meta::root_owned(0o755), Kind::Directory, Origin::Built("root".into())));
    let package = Origin::Package { layer: "base".into(), name: "g++".into(), version: "4:14.2.0-1".into() };
    let overlay = Origin::Overlay { layer: "base".into(), file: "overlays/base/etc/motd".into() };
    let files: [(&str, &str, &Origin); 4] = [
        ("usr/bin/g++", "program", &package),
        ("usr/share/doc/g++/copyright", COPYRIGHT, &package),
        ("var/lib/dpkg/status", STATUS, &Origin::Configure { layer: "base".into() }),
        ("etc/motd", "", &overlay),
    ];
    for (path, text, origin) in files {
        let path = TreePath::parse(path).unwrap();
        let mut parents = Vec::new();
        let mut next = path.parent();
        while let Some(parent) = next.filter(|parent| !parent.is_root()) {
            next = parent.parent();
            parents.push(parent);
        }
        for parent in parents.into_iter().rev().filter(|parent| tree.get(parent).is_none()).collect::<Vec<_>>() {
            tree.insert(parent, Node::new(Meta::root_owned(0o755), Kind::Directory, package.clone())).unwrap();
        }
        let content = Content::whole(store.put(text.as_bytes()).unwrap(), text.len() as u64);
        tree.insert(path, Node::new(Meta::root_owned(0o644), Kind::file(content), origin.clone())).unwrap();
    }
    let locked = LockedPackage {
        name: "g++".into(),
        version: "4:14.2.0-1".into(),
        architecture: "amd64".into(),
        archive: "debian".into(),
        size: 3,
        sha256: Digest::of(b"deb"),
        path: "pool/main/g/gcc-defaults/g++_14.2.0-1_amd64.deb".into(),
    };
    let layer = LockedLayer { name: "base".into(), wants: Vec::new(), recommends: false, packages: vec![locked] };
    let other = LockedLayer { name: "other".into(), ..layer.clone() };
    let lock = Lock {
        spec: Digest::of(b"spec"),
        distribution: "debian trixie amd64".into(),
        archives: Vec::new(),
        layers: vec![layer, other],
    };
    World { _directory: directory, store, tree, lock, layers: vec!["base".into()] }
}

impl World {
    fn documents(&self) -> Vec<Document> {
        let request = Request {
            image: "test",
            version: "1.0",
            role: "small",
            layers: &self.layers,
            distribution: &self.lock.distribution,
            lock: Digest::of(b"lock"),
            locked: &self.lock,
            materials: &[],
            options: Vec::new(),
            released: 1_735_689_599,
            tree: &self.tree,
            shown: self.tree.digest(),
            stored: Digest::of(b"stored"),
            base: Digest::of(b"base"),
            tools: &self.tree,
            initrd: None,
            signer: None,
            kernel_arguments: &[],
            formats: &[],
            slot: None,
            late: Vec::new(),
            state: Vec::new(),
            packages: Vec::new(),
            epoch: 0,
        };
        documents(&request, &self.store).unwrap()
    }

    fn parsed(&self) -> [Value; 2] {
        let documents = self.documents();
        [0, 1].map(|index| serde_json::from_slice(&documents[index].1).unwrap())
    }
}

#[test]
fn both_forms_say_what_the_root_says() {
    let world = world();
    let [spdx, cyclonedx] = world.parsed();
    let purl = "pkg:deb/debian/g%2B%2B@4:14.2.0-1?arch=amd64&distro=trixie&upstream=gcc-defaults%401.220";
    assert_eq!(spdx["creationInfo"]["created"], "2024-12-31T23:59:59Z");
    let package = &spdx["packages"][1];
    assert_eq!(spdx["packages"].as_array().unwrap().len(), 2, "a package of another role's layer is not in it");
    assert_eq!(package["licenseDeclared"], "GPL-3.0-or-later");
    assert_eq!(package["licenseConcluded"], "NOASSERTION");
    assert_eq!(package["originator"], "Organization: Debian GCC Maintainers (gcc@lists.test)");
    assert_eq!(package["externalRefs"][0]["referenceLocator"], purl);
    assert_eq!(package["checksums"][0]["checksumValue"], Digest::of(b"deb").to_string());
    let component = &cyclonedx["components"][0];
    assert_eq!(
        (&component["purl"], &component["licenses"][0]["expression"]),
        (&purl.into(), &"GPL-3.0-or-later".into())
    );
}

#[test]
fn each_file_has_both_digests_and_one_owner() {
    let [spdx, _] = world().parsed();
    let files = spdx["files"].as_array().unwrap();
    assert_eq!(files.len(), 4);
    let program = files.iter().find(|file| file["fileName"] == "./usr/bin/g++").unwrap();
    // `printf program | sha1sum`.
    assert_eq!(program["checksums"][0]["checksumValue"], "81d9aeea0e1a408d65b6660a176c5de83dc98e7b");
    assert_eq!(program["checksums"][1]["checksumValue"], Digest::of(b"program").to_string());
    let owners: Vec<&str> = spdx["relationships"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|relation| relation["relatedSpdxElement"] == program["SPDXID"])
        .map(|relation| relation["spdxElementId"].as_str().unwrap())
        .collect();
    assert_eq!(owners, [spdx["packages"][1]["SPDXID"].as_str().unwrap()]);
    // The overlay's and the scripts' files belong to the root itself.
    let of_root = spdx["relationships"].as_array().unwrap().iter().filter(|relation| {
        relation["spdxElementId"] == "SPDXRef-Root"
            && relation["relatedSpdxElement"].as_str().unwrap().contains("-File-")
    });
    assert_eq!(of_root.count(), 2);
}

#[test]
fn the_same_root_has_the_same_bytes() {
    // Two stores: nothing depends on what was there before, and the second call finds the SHA-1s.
    let (one, other) = (world(), world());
    let first = one.documents();
    assert_eq!(first, one.documents());
    assert_eq!(first, other.documents());
}

#[test]
fn altered_bytes_get_no_digest() {
    let world = world();
    let path = world.store.object_path(&Digest::of(b"program"));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"PROGRAM").unwrap();
    let content = Content::whole(Digest::of(b"program"), 7);
    // The process that wrote it does not look again; another one does.
    let later = Store::open(world.store.root()).unwrap();
    let refused = Report::from(files::digest(&content, &later).unwrap_err());
    assert_eq!(refused.exit_code(), 4, "{refused:?}");
}
