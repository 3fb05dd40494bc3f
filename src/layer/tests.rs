//! Whole layers, from .debs to trees.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::deb::file::DebFile;
use crate::digest::{Digest, Key};
use crate::lock::LockedPackage;
use crate::plan::LayerStep;
use crate::spec::Before;
use crate::store::Store;
use crate::sys::sandbox::{Helper, Sandbox};

use super::*;

/// Process 1 of the other tests' sandboxes.
#[test]
#[ignore = "started by the other tests as the inside of a sandbox"]
fn inside() {
    helper_main(std::env::args_os()).expect("started as an inside");
}

fn sandbox(store: &Store) -> Sandbox {
    let arguments = ["--exact", "layer::tests::inside", "--ignored", "--nocapture"];
    let helper = Helper { program: std::env::current_exe().unwrap(), arguments: arguments.map(Into::into).to_vec() };
    Sandbox::probe(helper, &store.root().join("scratch")).unwrap()
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

fn step(name: &str, parent: Option<&Laid>, packages: Vec<LockedPackage>) -> LayerStep {
    let mut key = Key::new("layer.configure", 1);
    if let Some(parent) = parent {
        key = key.input("parent", parent.digest);
    }
    for package in &packages {
        key = key.input(package.name.clone(), package.sha256);
    }
    LayerStep { name: name.to_owned(), parent: None, packages, before: Before::default(), epoch: 1_790_000_000, key }
}

/// The real trixie: `ROLECAST_DEBS` names a directory of .debs with the lists `base.txt` and `region.txt` of package
/// names beside it; `ROLECAST_STORE` an empty directory for the store. Prints what each step took.
#[test]
#[ignore = "by hand: needs some hundred .debs of trixie"]
fn trixie() {
    let debs = PathBuf::from(std::env::var_os("ROLECAST_DEBS").expect("ROLECAST_DEBS"));
    let store = Store::open(Path::new(&std::env::var_os("ROLECAST_STORE").expect("ROLECAST_STORE"))).unwrap();
    let packages = |list: &str| -> Vec<LockedPackage> {
        let names = fs::read_to_string(debs.with_file_name(list)).unwrap();
        let find = |name: &str| {
            let start = format!("{name}_");
            let mut entries = fs::read_dir(&debs).unwrap().map(|entry| entry.unwrap().path());
            entries.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&start)).expect(name)
        };
        names.lines().map(|name| locked(&store, &find(name))).collect()
    };
    let took: Mutex<Vec<(String, Duration)>> = Mutex::default();
    let lines: Mutex<String> = Mutex::default();
    let listener = |progress: Progress| match progress {
        Progress::Took(step, time) => took.lock().unwrap().push((step, time)),
        Progress::Line(line) => *lines.lock().unwrap() += &(line + "\n"),
        _ => {}
    };
    let workshop = Workshop::new(&store, sandbox(&store)).unwrap();
    let mut parent: Option<Laid> = None;
    for (layer, list) in [("base", "base.txt"), ("region", "region.txt")] {
        let packages = packages(list);
        let started = (std::time::Instant::now(), own_cpu_time());
        super::unpack::unpack_all(&store, &packages, &|_| {}).unwrap();
        let unpacked = own_cpu_time() - started.1;
        let step = step(layer, parent.as_ref(), packages);
        let result = workshop.configured(&step, parent.as_ref(), &listener);
        fs::write(store.root().with_extension(layer), lines.lock().unwrap().as_str()).unwrap();
        let laid =
            result.unwrap_or_else(|report| panic!("{}", crate::report::render(&report, crate::report::Style::Plain)));
        let times = std::mem::take(&mut *took.lock().unwrap());
        let image: Digest = laid.tree.digest();
        let summary = format!(
            "{layer}: {} nodes, tree {image}, unpack {unpacked:?}, own total {:?}, wall {:?}, {times:?}\n",
            laid.tree.len(),
            own_cpu_time() - started.1,
            started.0.elapsed(),
        );
        fs::write(store.root().with_extension(format!("{layer}.summary")), summary).unwrap();
        let dump = crate::tree::write_dump(&laid.tree, crate::tree::Places::Left);
        fs::write(store.root().with_extension(format!("{layer}.dump")), dump).unwrap();
        parent = Some(laid);
    }
}

fn own_cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.map(|field| field.parse::<u64>().unwrap()).sum::<u64>() * 10)
}
