//! Layers configured in the sandbox: a small root made of this machine's own dpkg and shell.

use std::collections::BTreeSet;

use crate::plan::{BeforeFile, Debconf, Group, User};
use crate::report::{Report, Source, Span, Style, render};
use crate::tree::{Kind, Node, Origin, TreePath};

use super::*;

/// Programs that maintainer scripts and dpkg need.
const PROGRAMS: [&str; 24] = [
    "dash",
    "dpkg",
    "dpkg-query",
    "dpkg-divert",
    "dpkg-deb",
    "dpkg-trigger",
    "rm",
    "cat",
    "chown",
    "chmod",
    "mkdir",
    "rmdir",
    "ln",
    "mv",
    "touch",
    "id",
    "true",
    "env",
    "tar",
    "diff",
    "sed",
    "ls",
    "setcap",
    "cp",
];

fn host_program(name: &str) -> PathBuf {
    let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(|place| Path::new(place).join(name));
    places.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("this machine has no `{name}`"))
}

/// A package of this machine's programs and the libraries that they load.
fn tools(place: &Path) -> PathBuf {
    let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
    for program in PROGRAMS {
        let path = host_program(program);
        let output = Command::new("ldd").arg(&path).output().expect("ldd runs");
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            paths.insert(PathBuf::from(word));
        }
        paths.insert(path);
    }
    let mut items: Vec<(String, Item)> = Vec::new();
    for path in paths {
        let inside = path.strip_prefix("/").unwrap();
        let inside = if inside.starts_with("usr") { inside.to_owned() } else { Path::new("usr").join(inside) };
        items.push((inside.to_string_lossy().into_owned(), Item::File(0o755, fs::read(&path).unwrap())));
    }
    for stub in ["usr/sbin/ldconfig", "usr/sbin/start-stop-daemon"] {
        items.push((stub.to_owned(), Item::File(0o755, b"#!/bin/sh\nexit 0\n".to_vec())));
    }
    items.push(("usr/bin/ssh-keygen".to_owned(), Item::File(0o755, b"#!/bin/sh\necho key > /etc/key\n".to_vec())));
    items.push(("usr/bin/sh".to_owned(), link("dash")));
    // Reads its answers, as debconf's own does, and keeps them.
    let answers = b"#!/bin/sh\ncat \"$1\" > /var/answers\n".to_vec();
    items.push(("usr/bin/debconf-set-selections".to_owned(), Item::File(0o755, answers)));
    let items: Vec<(&str, Item)> =
        items.iter_mut().map(|(path, item)| (path.as_str(), std::mem::replace(item, link("x")))).collect();
    build_deb(place, "tools", "Essential: yes\n", &items, &[])
}

fn base(place: &Path) -> Vec<PathBuf> {
    let directories = ["dev", "proc", "run", "tmp", "var/log", "var/cache", "etc", "root", "usr/bin", "usr/lib64"];
    let mut items: Vec<(&str, Item)> = directories.map(|path| (path, Item::Directory(0o755))).into();
    for (name, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        items.push((name, link(target)));
    }
    let passwd = "#!/bin/sh\nset -e\ntest \"$1\" = install\necho root:*:0:0:root:/root:/bin/sh > /etc/passwd
echo root:*:0: > /etc/group\n";
    let app = [
        ("etc/app.conf", text("shipped\n")),
        ("usr/share/app/data", text("data\n")),
        ("usr/share/app/gone", text("gone\n")),
        ("usr/share/app/old/inner", text("old\n")),
        ("usr/bin/app", Item::File(0o755, b"app".to_vec())),
        ("usr/bin/app2", Item::HardLink("usr/bin/app".to_owned())),
    ];
    let postinst = "#!/bin/sh\nset -e\ntest \"$(cat /etc/app.conf)\" = mine\numask 077\nmkdir /var/lib/app
echo made > /var/lib/app/made\nln /var/lib/app/made /var/lib/app/twin\nchown maas:maas /var/lib/app
echo x > /var/log/app.log\nrm /usr/share/app/gone\nrm -r /usr/share/app/old\nmkdir /usr/share/app/old
echo new > /usr/share/app/old/fresh\nchmod 600 /usr/share/app/data\nssh-keygen\necho $SOURCE_DATE_EPOCH > /etc/epoch
test ! -e /usr/sbin/policy-rc.d && exit 9; /usr/sbin/policy-rc.d && exit 8; exit 0\n";
    vec![
        build_deb(place, "base-files", "Essential: yes\n", &items, &[]),
        build_deb(place, "base-passwd", "Essential: yes\n", &[], &[("preinst", passwd), ("postinst", "#!/bin/sh\n")]),
        tools(place),
        build_deb(place, "app", "", &app, &[("conffiles", "/etc/app.conf\n"), ("postinst", postinst)]),
    ]
}

fn before() -> Before {
    let source = Source { path: "profiles/base.toml".into(), text: "x".into() };
    let span = Span::new(&source.into(), 0..1);
    Before {
        debconf: vec![Debconf {
            package: "app".into(),
            question: "app/q".into(),
            kind: "string".into(),
            value: "a b".into(),
        }],
        users: vec![User {
            name: "maas".into(),
            uid: 950,
            group: "maas".into(),
            gid: 951,
            home: "/var/lib/maas".into(),
            shell: "/bin/sh".into(),
            comment: String::new(),
            span: span.clone(),
        }],
        groups: vec![Group { name: "etcd".into(), gid: 960, span: span.clone() }],
        files: vec![BeforeFile {
            path: "etc/app.conf".into(),
            mode: 0o600,
            content: b"mine\n".to_vec(),
            source: "overlays/app.conf".into(),
            span,
        }],
    }
}

/// A child that changes its parent's files, with a trigger of the parent's.
fn child(place: &Path) -> Vec<PathBuf> {
    let items = [("usr/share/app/data2", text("2\n")), ("usr/share/child/x", text("x\n"))];
    let postinst = "#!/bin/sh\nset -e\nrm -r /usr/share/app/old\nrm /usr/bin/app2\necho child >> /var/lib/app/made\n";
    vec![build_deb(place, "child", "Depends: app\n", &items, &[("postinst", postinst)])]
}

fn plain(report: &Report) -> String {
    render(report, Style::Plain)
}

fn packages(store: &Store, debs: &[PathBuf]) -> Vec<LockedPackage> {
    debs.iter().map(|deb| locked(store, deb)).collect()
}

fn first(store: &Store, place: &Path) -> LayerStep {
    LayerStep { before: before(), ..step("base", packages(store, &base(place))) }
}

fn configure(store: &Store, place: &Path) -> (Laid, Laid) {
    let workshop = Workshop::new(store, helper()).unwrap();
    let (first, second) = (first(store, place), step("child", packages(store, &child(place))));
    let base = core(&workshop, &first, None);
    let child = core(&workshop, &second, Some(base.clone()));
    (whole(&workshop, &first, base), whole(&workshop, &second, child))
}

fn core(workshop: &Workshop<'_>, step: &LayerStep, parent: Option<Core>) -> Core {
    workshop.configured(step, || Ok(parent), &|_| {}).unwrap_or_else(|report| panic!("{}", plain(&report)))
}

fn whole(workshop: &Workshop<'_>, step: &LayerStep, core: Core) -> Laid {
    workshop.whole(step, Some(core), Purpose::Root, &|_| {}).unwrap_or_else(|report| panic!("{}", plain(&report)))
}

fn node<'a>(laid: &'a Laid, path: &str) -> Option<&'a Node> {
    laid.tree.get(&TreePath::parse(path).unwrap())
}

#[test]
fn layers_are_configured_captured_and_remembered() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("store")).unwrap();
    let (base, child) = configure(&store, place.path());
    let read = |laid: &Laid, path: &str| {
        let node = node(laid, path).unwrap_or_else(|| panic!("no {path}"));
        String::from_utf8(store.read(node.content().unwrap()).unwrap()).unwrap()
    };

    // What the scripts did, and what they were told.
    let made = node(&base, "var/lib/app/made").unwrap();
    assert_eq!((made.meta.mode, made.meta.mtime), (0o600, 1_790_000_000));
    assert_eq!(*made.origin, Origin::Configure { layer: "base".into() });
    assert!(matches!(&made.kind, Kind::File(file) if file.group.is_some()));
    let owned = node(&base, "var/lib/app").unwrap();
    assert_eq!((owned.meta.uid, owned.meta.gid, owned.meta.mode), (950, 951, 0o700));
    assert_eq!(read(&base, "etc/epoch"), "1790000000\n");
    assert_eq!(read(&base, "var/answers"), "app app/q string a b\n");
    assert!(read(&base, "etc/group").contains("etcd:*:960:"));
    for gone in ["usr/share/app/gone", "usr/share/app/old/inner", "var/log/app.log", "usr/sbin/policy-rc.d", "etc/key"]
    {
        assert!(node(&base, gone).is_none(), "{gone}");
    }
    assert_eq!(read(&base, "usr/share/app/old/fresh"), "new\n");

    // A file laid before counts as the administrator's; one whose mode alone changed is still the package's.
    assert_eq!(read(&base, "etc/app.conf"), "mine\n");
    assert!(
        matches!(&*node(&base, "etc/app.conf").unwrap().origin, Origin::Overlay { file, .. } if file == "overlays/app.conf")
    );
    let data = node(&base, "usr/share/app/data").unwrap();
    assert_eq!(data.meta.mode, 0o600);
    assert!(matches!(&*data.origin, Origin::Package { name, layer, .. } if name == "app" && layer == "base"));
    let status = read(&base, "var/lib/dpkg/status");
    assert_eq!(status.matches("Status: install ok installed").count(), 4, "{status}");

    // The child changed its parent's files in its own tree alone.
    assert!(node(&base, "usr/share/app/old").is_some() && node(&child, "usr/share/app/old").is_none());
    assert!(matches!(&node(&child, "usr/bin/app").unwrap().kind, Kind::File(file) if file.group.is_none()));
    assert_eq!(
        (read(&base, "var/lib/app/made"), read(&child, "var/lib/app/made")),
        ("made\n".into(), "made\nchild\n".into())
    );
    assert_eq!(read(&child, "var/lib/dpkg/status").matches("Status: install ok installed").count(), 5);

    // Again in another store: the same trees. Again in this one: nothing is run.
    let other = Store::open(&place.path().join("other")).unwrap();
    let again = configure(&other, place.path());
    assert_eq!((again.0.tree.digest(), again.1.tree.digest()), (base.tree.digest(), child.tree.digest()));
    let remembered = configure(&store, place.path());
    assert_eq!((remembered.0.digest, remembered.1.digest), (base.digest, child.digest));
}

#[test]
fn a_package_that_comes_late_or_last_runs_hardly_anybody_elses_scripts_again() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("store")).unwrap();
    let leaf = |name: &str| {
        // Whoever asked for it would be told that files came: dpkg has to run.
        let control: &[(&str, &str)] = match name {
            "forest" => &[("triggers", "activate-noawait wood\n")],
            "service" => &[("postinst", "#!/bin/sh\ntest ! -e /usr/bin/tree && echo served >> /var/lib/app/made\n")],
            _ => &[],
        };
        build_deb(place.path(), name, "Depends: app\n", &[(&format!("usr/bin/{name}"), text(name))], control)
    };
    let postinst = "#!/bin/sh\ntest ! -e /usr/bin/tree\n";
    let late = build_deb(place.path(), "late", "Depends: app\n", &[], &[("postinst", postinst)]);
    let build = |store: &Store, leaves: &[&str]| {
        let workshop = Workshop::new(store, helper()).unwrap();
        let mut debs = base(place.path());
        debs.extend(leaves.iter().map(|name| leaf(name)));
        let first = LayerStep { before: before(), ..step("base", packages(store, &debs)) };
        let mut second = step("child", packages(store, std::slice::from_ref(&late)));
        second.key = second.key.input("parent", first.key.digest());
        let lines = std::sync::Mutex::new(String::new());
        let listener = |progress: Progress| {
            if let Progress::Line(line) = progress {
                *lines.lock().unwrap() += &(line + "\n");
            }
        };
        let below = workshop.configured(&first, || Ok(None), &listener).unwrap();
        let made = workshop.configured(&second, || Ok(Some(below.clone())), &listener).unwrap();
        let laid = workshop.whole(&second, Some(made.clone()), Purpose::Root, &listener).unwrap();
        (below, made, laid, lines.into_inner().unwrap())
    };
    let one = build(&store, &["tree"]);
    let two = build(&store, &["tree", "forest"]);

    assert!(one.3.contains("Setting up app ") && one.3.contains("Setting up late "), "{}", one.3);
    assert!(!one.3.contains("Setting up tree"), "{}", one.3);
    assert_eq!((one.0.tree(), one.1.tree()), (two.0.tree(), two.1.tree()));
    let set_up = |lines: &str| {
        let mut set_up: Vec<String> =
            lines.lines().filter_map(|line| line.strip_prefix("Setting up ")).map(str::to_owned).collect();
        set_up.sort_unstable();
        set_up
    };
    assert_eq!(set_up(&two.3), ["forest (1) ...", "tree (1) ..."]);

    // What runs something and is named by nobody comes after all layers, and before what is laid last.
    let three = build(&store, &["tree", "forest", "service"]);
    assert_eq!((one.0.tree(), one.1.tree()), (three.0.tree(), three.1.tree()));
    assert_eq!(set_up(&three.3), ["forest (1) ...", "late (1) ...", "service (1) ...", "tree (1) ..."]);
    let made = node(&three.2, "var/lib/app/made").and_then(Node::content).unwrap();
    assert!(store.read(made).unwrap().ends_with(b"served\n"));

    let binary = node(&two.2, "usr/bin/forest").expect("laid over all layers");
    assert!(matches!(&*binary.origin, Origin::Package { name, layer, .. } if name == "forest" && layer == "base"));
    let status = node(&two.2, "var/lib/dpkg/status").and_then(Node::content).unwrap();
    let status = String::from_utf8(store.read(status).unwrap()).unwrap();
    assert_eq!(status.matches("Status: install ok installed").count(), 7, "{status}");

    // From nothing it is the same.
    let other = Store::open(&place.path().join("other")).unwrap();
    assert_eq!(build(&other, &["tree", "forest"]).2.tree.digest(), two.2.tree.digest());
    assert_eq!(build(&other, &["tree", "forest", "service"]).2.tree.digest(), three.2.tree.digest());
}

#[test]
fn a_layer_whose_parent_is_gone_is_not_made_without_it() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("store")).unwrap();
    let workshop = Workshop::new(&store, helper()).unwrap();
    let orphan = LayerStep { parent: Some(0), ..step("child", Vec::new()) };
    let report = workshop.configured(&orphan, || Ok(None), &|_| {}).unwrap_err();
    assert!(plain(&report).contains("the layer `child` is no longer in the store"), "{}", plain(&report));
    assert!(crate::layer::core(&store, &orphan.key).unwrap().is_none());
}

#[test]
fn a_child_over_a_remembered_parent_is_the_same_as_over_a_fresh_one() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("store")).unwrap();
    let (_, before) = configure(&store, place.path());
    let workshop = Workshop::new(&store, helper()).unwrap();
    let mut again = step("child", packages(&store, &child(place.path())));
    (again.alone, again.key) = (again.alone.input("again", 1), again.key.input("again", 1));
    // This workshop has no checkout of the parent: it comes from the stored tree.
    let parent = core(&workshop, &first(&store, place.path()), None);
    let made = core(&workshop, &again, Some(parent));
    let fresh = whole(&workshop, &again, made);
    assert_eq!(fresh.tree.digest(), before.tree.digest());

    // Programs run over a tree, see extra files, and leave the tree alone.
    let job = |outputs: &'static [&'static str]| Job {
        key: Key::new("test.run", 1).input("tree", before.digest).input("outputs", outputs.len()),
        epoch: 5,
        files: &[("run/in", 0o755, b"#!/bin/sh\ncat /usr/share/app/data2 > /out; echo $SOURCE_DATE_EPOCH >> /out\n")],
        command: &["/run/in"],
        outputs,
    };
    let outputs = workshop.run(&before, &job(&["out"]), &|_| {}).unwrap();
    let content = crate::tree::Content::whole(outputs[0].0, outputs[0].1);
    assert_eq!(store.read(&content).unwrap(), b"2\n5\n");
    assert_eq!(workshop.run(&before, &job(&["out"]), &|_| {}).unwrap(), outputs);
    assert!(workshop.run(&before, &job(&["out", "none"]), &|_| {}).is_err());
}

#[test]
#[ignore = "started by another test, away from the terminal"]
fn entering() {
    let directory = PathBuf::from(std::env::var_os("ENTERED").expect("ENTERED"));
    let store = Store::open(directory.ancestors().nth(3).unwrap()).unwrap();
    enter(&sandbox(&store), &directory).unwrap_or_else(|report| panic!("{}", plain(&report)));
}

#[test]
fn a_failing_script_is_told_with_its_output_and_a_way_to_look() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("store")).unwrap();
    let mut debs = base(place.path());
    let postinst = "#!/bin/sh\necho about to fail\necho because of this >&2\nexit 7\n";
    debs.push(build_deb(place.path(), "broken", "", &[], &[("postinst", postinst)]));
    let mut step = step("base", packages(&store, &debs));
    step.before = before();
    let workshop = Workshop::new(&store, helper()).unwrap();
    // Nobody names it: it comes late.
    let below = core(&workshop, &step, None);
    let report = workshop.whole(&step, Some(below), Purpose::Root, &|_| {}).unwrap_err();
    drop(workshop);
    let text = plain(&report);
    for part in [
        "the postinst of the package broken failed",
        "exit status 7",
        "about to fail",
        "because of this",
        "layer `base`",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let hint = report.diagnostics[0].hints.last().unwrap();
    let directory = hint.split_once("rolecast enter ").unwrap().1.trim_end_matches('`');
    assert!(Path::new(directory).join("upper").exists(), "{hint}");
    assert_eq!(report.exit_code(), 3);
    let foreign = plain(&enter(&sandbox(&store), place.path()).unwrap_err());
    assert!(foreign.contains("is not what a failed step left"), "{foreign}");
    // Everything is mounted again for the shell, which then asks for the terminal that a pipe is not.
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "layer::tests::layers::entering", "--ignored", "--nocapture"]).env("ENTERED", directory);
    let output = again.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("standard error is no terminal"), "{errors}");
    let remaining: Vec<_> =
        fs::read_dir(store.root().join("scratch")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!remaining.iter().any(|name| name.to_string_lossy().starts_with("layers.")), "{remaining:?}");
}
