//! Whole layers, from .debs to trees.

mod compare;
mod hostile;
mod layers;
mod trixie;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::deb::file::DebFile;
use crate::digest::Key;
use crate::plan::{Before, LayerStep, LockedPackage};
use crate::store::Store;
use crate::sys::sandbox::{self, Helper, Sandbox};

use super::leaves::Asked;
use super::*;

/// A program that the inside runs as root of its namespace, for a reference to compare with.
#[derive(Serialize, Deserialize)]
struct Reference {
    command: Vec<String>,
}

/// Process 1 of the other tests' sandboxes.
#[test]
#[ignore = "started by the other tests as the inside of a sandbox"]
fn inside() {
    let mut connection = sandbox::helper_main(std::env::args_os()).expect("started as an inside");
    if connection.purpose() != "reference" {
        super::inside::answer(connection);
        return;
    }
    let Reference { command } = connection.receive().expect("a command");
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    let output = program.output().expect("a program");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    connection.send(&(output.status.success(), text)).expect("a listener");
}

fn helper() -> Helper {
    let arguments = ["--exact", "layer::tests::inside", "--ignored", "--nocapture"];
    Helper { program: std::env::current_exe().unwrap(), arguments: arguments.map(Into::into).to_vec() }
}

fn sandbox(store: &Store) -> Sandbox {
    Sandbox::probe(helper(), &store.root().join("scratch")).unwrap()
}

/// Stores a .deb and locks it.
fn locked(store: &Store, deb: &Path) -> LockedPackage {
    let bytes = fs::read(deb).unwrap();
    let package = DebFile::from_bytes(&bytes).unwrap().control().unwrap().package().unwrap();
    LockedPackage {
        name: package.name,
        version: package.version.as_str().to_owned(),
        architecture: package.architecture,
        archive: "test".to_owned(),
        size: bytes.len() as u64,
        sha256: store.put(&bytes).unwrap(),
        path: deb.file_name().unwrap().to_string_lossy().into_owned(),
    }
}

fn asked(packages: &[LockedPackage]) -> Vec<Asked> {
    packages.iter().map(|package| Asked { layer: "base".to_owned(), package: package.clone() }).collect()
}

fn step(name: &str, packages: Vec<LockedPackage>) -> LayerStep {
    let alone = Key::new("layer.configure", 1).input("name", name);
    let mut key = alone.clone();
    for package in &packages {
        key = key.input(package.name.clone(), package.sha256);
    }
    LayerStep {
        name: name.to_owned(),
        parent: None,
        packages,
        before: Before::default(),
        epoch: 1_790_000_000,
        alone,
        key,
    }
}

/// Something in a package: a file with its mode, a link, or another name of a file.
enum Item {
    File(u32, Vec<u8>),
    Link(String),
    HardLink(String),
    Directory(u32),
}

fn text(text: &str) -> Item {
    Item::File(0o644, text.as_bytes().to_vec())
}

fn link(target: &str) -> Item {
    Item::Link(target.to_owned())
}

/// Builds a .deb with dpkg-deb. `fields` are lines of its control file beyond the name; `control` are its other
/// control files, executable.
fn build_deb(place: &Path, name: &str, fields: &str, items: &[(&str, Item)], control: &[(&str, &str)]) -> PathBuf {
    let deb = place.join(format!("{name}.deb"));
    if deb.exists() {
        return deb;
    }
    let root = place.join(format!("{name}.root"));
    fs::create_dir_all(root.join("DEBIAN")).unwrap();
    let version = if fields.contains("Version:") { "" } else { "Version: 1\n" };
    let architecture = if fields.contains("Architecture:") { "" } else { "Architecture: all\n" };
    let stanza =
        format!("Package: {name}\n{version}{architecture}Maintainer: T <t@e.x>\n{fields}Description: test\n long\n");
    fs::write(root.join("DEBIAN/control"), stanza).unwrap();
    for (file, text) in control {
        let path = root.join("DEBIAN").join(file);
        fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (path, item) in items {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match item {
            Item::File(mode, bytes) => {
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Item::Link(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            Item::HardLink(other) => fs::hard_link(root.join(other), &path).unwrap(),
            Item::Directory(mode) => {
                fs::create_dir_all(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
    let mut command = Command::new("dpkg-deb");
    command
        .args(["--root-owner-group", "-Zgzip", "-z1", "-b"])
        .args([&root, &deb])
        .env("SOURCE_DATE_EPOCH", "1700000000");
    let output = command.output().expect("dpkg-deb runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    deb
}
