//! By hand: the real trixie.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;

/// `ROLECAST_DEBS` names a directory of .debs with the lists `base.txt` and `region.txt` of package names beside it;
/// `ROLECAST_STORE` an empty directory for the store. Writes beside the store what each step took and the trees.
#[test]
#[ignore = "by hand: needs some hundred .debs of trixie"]
fn base_and_region() {
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
    let workshop = Workshop::new(&store, helper()).unwrap();
    let mut parent: Option<Core> = None;
    for (layer, list) in [("base", "base.txt"), ("region", "region.txt")] {
        let packages = packages(list);
        let (started, spent) = (Instant::now(), own_cpu_time());
        unpack::unpack_all(&store, &asked(&packages), &|| {}).unwrap();
        let unpacked = own_cpu_time() - spent;
        let step = step(layer, packages);
        let result = workshop.configured(&step, || Ok(parent.clone()), &listener);
        let beside = |end: &str| store.root().with_extension(format!("{layer}.{end}"));
        fs::write(beside("log"), lines.lock().unwrap().as_str()).unwrap();
        let plain = |report| crate::report::render(&report, crate::report::Style::Plain);
        let core = result.unwrap_or_else(|report| panic!("{}", plain(report)));
        let laid = workshop
            .whole(&step, Some(core.clone()), Purpose::Root, &listener)
            .unwrap_or_else(|report| panic!("{}", plain(report)));
        let summary = format!(
            "{layer}: {} nodes, tree {}, unpack {unpacked:?}, own {:?}, wall {:?}, {:?}\n",
            laid.tree.len(),
            laid.tree.digest(),
            own_cpu_time() - spent,
            started.elapsed(),
            std::mem::take(&mut *took.lock().unwrap()),
        );
        fs::write(beside("summary"), summary).unwrap();
        fs::write(beside("dump"), crate::tree::write_dump(&laid.tree, crate::tree::Places::Left)).unwrap();
        parent = Some(core);
    }
}

fn own_cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.map(|field| field.parse::<u64>().unwrap()).sum::<u64>() * 10)
}
