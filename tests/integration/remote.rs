//! A store that several machines share, on real servers: docker's registry, an S3-compatible server, a web server. Builds are
//! of the small world; needs root. What is believed and what is not is tried in `src/remote/tests.rs` too, case by case.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use super::builds::{manifest, undisturbed};
use crate::support::command::{Outcome, Rolecast};
use crate::support::gnupg::Gnupg;
use crate::support::host::World;
use crate::support::project::Project;
use crate::support::server::{Manner, Server};
use crate::support::shared::{Bucket, PASSWORD, Registry, USER};

const IMAGE: &str = "images/test.toml";

/// Nobody serves packages there: a build that wants one fails.
const NOWHERE: &str = "file:///nonexistent/mirror";

/// One build that all of these tests share, and the keys that sign its results.
struct Built {
    world: World,
    project: Project,
    rolecast: Rolecast,
    gnupg: Gnupg,
    key: String,
    keyring: String,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let gnupg = Gnupg::new();
        let (key, keyring) = keys(&gnupg, "ci");
        let world = World::new();
        let project = world.project();
        let rolecast = world.rolecast(&project);
        rolecast.build(IMAGE, &[]).succeeds();
        Built { world, project, rolecast, gnupg, key, keyring }
    })
}

/// The files of a new secret key and of its certificate.
fn keys(gnupg: &Gnupg, name: &str) -> (String, String) {
    let fingerprint = gnupg.key(&format!("{name} <{name}@test.invalid>"), "ed25519", "sign", "");
    let secret = gnupg.export("--export-secret-keys", &fingerprint, &format!("{name}.key"), "");
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    (text(secret), text(gnupg.keyring(&fingerprint)))
}

/// A place, and what a run of `rolecast` needs in its environment to reach it.
struct Place {
    remote: String,
    environment: Vec<(&'static str, String)>,
}

impl Place {
    fn of_registry(registry: &Registry) -> Self {
        let environment =
            vec![("ROLECAST_REMOTE_USER", USER.to_owned()), ("ROLECAST_REMOTE_PASSWORD", PASSWORD.to_owned())];
        Self { remote: registry.remote(), environment }
    }

    fn of_bucket(bucket: &Bucket) -> Self {
        let environment = vec![
            ("AWS_ENDPOINT_URL", bucket.endpoint()),
            ("AWS_ACCESS_KEY_ID", bucket.id.clone()),
            ("AWS_SECRET_ACCESS_KEY", bucket.secret.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        Self { remote: bucket.remote(), environment }
    }

    fn of_server(server: &Server) -> Self {
        Self { remote: format!("{}/shared", server.url()), environment: Vec::new() }
    }

    fn reached_by(&self, rolecast: &Rolecast) -> Rolecast {
        self.environment.iter().fold(rolecast.clone(), |rolecast, (name, value)| rolecast.environment(name, value))
    }

    fn push(&self, rolecast: &Rolecast, key: &str) -> Outcome {
        self.reached_by(rolecast).run(&["--json", "store", "push", &self.remote, IMAGE, "--sign-key", key])
    }
}

/// A new machine: an empty store, nothing built, no mirror.
struct Runner {
    rolecast: Rolecast,
    _folder: tempfile::TempDir,
}

impl Runner {
    fn new(rolecast: &Rolecast, place: &Place) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
        let mut rolecast = place.reached_by(rolecast);
        for archive in ["debian", "debian-security"] {
            rolecast = rolecast.mirror(archive, NOWHERE);
        }
        (rolecast.store, rolecast.output) = (folder.path().join("store"), folder.path().join("out"));
        Self { rolecast, _folder: folder }
    }

    fn build(&self, place: &Place, keyring: &str, more: &[&str]) -> Outcome {
        let mut words = vec!["--locked", "--json", "--remote", &place.remote, "--remote-keyring", keyring];
        words.extend(more);
        self.rolecast.build(IMAGE, &words)
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn figures(what: &str, outcome: &Value, took: std::time::Duration) {
    let remote = &outcome["remote"];
    eprintln!(
        "{what}: {} results and {} objects, {} requests, {} bytes received, {} bytes sent, {:.2} s",
        remote["results"],
        remote["objects"],
        remote["requests"],
        remote["received"],
        remote["sent"],
        took.as_secs_f64()
    );
}

/// Pushes, and pulls on new machines: what the three kinds of places have in common.
#[track_caller]
fn a_warm_remote_builds_nothing(what: &str, place: &Place) {
    let built = built();
    let outcome = place.push(&built.rolecast, &built.key);
    let took = outcome.took;
    let pushed = json(&outcome.succeeds());
    figures(&format!("{what}: first push"), &pushed, took);
    assert!(pushed["pushed"]["results"].as_u64() > Some(3), "{pushed:#}");
    let outcome = place.push(&built.rolecast, &built.key);
    let took = outcome.took;
    let again = json(&outcome.succeeds());
    figures(&format!("{what}: second push"), &again, took);
    assert_eq!((&again["pushed"]["results"], &again["pushed"]["blobs"]), (&0.into(), &0.into()), "{again:#}");

    let runner = Runner::new(&built.rolecast, place);
    let outcome = runner.build(place, &built.keyring, &[]);
    let took = outcome.took;
    let made = json(&outcome.succeeds());
    figures(&format!("{what}: a new runner, all formats"), &made, took);
    assert_eq!(manifest(&runner.rolecast.output), undisturbed());
    // The outputs' recipes were all that was asked for: no layer, no root, no package.
    let steps: Vec<String> = names(&runner.rolecast.store.join("results"));
    assert_eq!(steps, ["role.outputs", "role.recipes"]);
    assert_eq!(made["remote"]["results"], 1);

    let runner = Runner::new(&built.rolecast, place);
    let outcome = runner.build(place, &built.keyring, &["--format", "disk"]);
    let took = outcome.took;
    let made = json(&outcome.succeeds());
    figures(&format!("{what}: a new runner, disk alone"), &made, took);
    let disk = |manifest: &str| {
        json(manifest)["outputs"]
            .as_array()
            .and_then(|outputs| outputs.iter().find(|output| output["format"] == "disk").cloned())
    };
    assert_eq!(disk(&manifest(&runner.rolecast.output)), disk(undisturbed()));
    // Nothing was pressed: of what was kept of all formats, the disk's part was written.
    assert_eq!(names(&runner.rolecast.store.join("results")), ["role.outputs", "role.recipes"]);
    assert_eq!(made["remote"]["results"], 1);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_registry_is_a_shared_store() {
    let registry = Registry::start();
    a_warm_remote_builds_nothing("registry", &Place::of_registry(&registry));
}

#[test]
fn a_bucket_is_a_shared_store() {
    let bucket = Bucket::start();
    a_warm_remote_builds_nothing("bucket", &Place::of_bucket(&bucket));
}

#[test]
fn a_web_server_is_a_shared_store() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
    let server = Server::start(folder.path());
    a_warm_remote_builds_nothing("web server", &Place::of_server(&server));
}

/// After a change, what did not change is taken, and what did is made: packages are not needed for it.
#[test]
fn a_changed_overlay_is_built_from_what_the_remote_has() {
    let built = built();
    let registry = Registry::start();
    let place = Place::of_registry(&registry);
    place.push(&built.rolecast, &built.key).succeeds();
    let project = built.world.project();
    project.write("images/test.lock", fs::read(built.project.root().join("images/test.lock")).expect("it was built"));
    project.write("overlays/base/etc/issue.net", "one changed overlay file\n");
    let here = built.world.rolecast(&project);
    here.build(IMAGE, &["--locked"]).succeeds();
    let runner = Runner::new(&here, &place);
    let outcome = runner.build(&place, &built.keyring, &[]);
    let took = outcome.took;
    let made = json(&outcome.succeeds());
    figures("registry: a new runner, one overlay file changed", &made, took);
    assert_eq!(manifest(&runner.rolecast.output), manifest(&here.output));
    let steps = names(&runner.rolecast.store.join("results"));
    assert!(!steps.iter().any(|step| step.starts_with("archive.") || step == "layer.unpack"), "{steps:?}");
    let outcome = place.push(&runner.rolecast, &built.key);
    let took = outcome.took;
    let pushed = json(&outcome.succeeds());
    figures("registry: push after one overlay file changed", &pushed, took);
    eprintln!("of that, objects: {}", pushed["pushed"]);
    let outcome = Runner::new(&here, &place).build(&place, &built.keyring, &[]);
    outcome.succeeds();
}

/// What was put there by someone else is refused, with the link that broke, and nothing is laid.
#[test]
fn a_lying_remote_is_refused() {
    let built = built();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
    let server = Server::start(folder.path());
    let place = Place::of_server(&server);
    place.push(&built.rolecast, &built.key).succeeds();
    let refused = |what: &str, keyring: &str, parts: &[&str]| {
        let runner = Runner::new(&built.rolecast, &place);
        let outcome = runner.build(&place, keyring, &[]);
        assert_eq!(outcome.code, Some(4), "{what}: {outcome}");
        for part in parts {
            assert!(outcome.stderr.contains(part), "{what}: no `{part}` in\n{}", outcome.stderr);
        }
        assert!(!runner.rolecast.output.join("small/manifest.json").exists(), "{what}");
    };
    let (_, other) = keys(&built.gnupg, "somebody");
    refused("another's key", &other, &["not signed by a key that is believed", "role.recipes", "--remote-keyring"]);
    server.behave("/results/role.recipes/", Manner::Flipped(400));
    refused("an altered record", &built.keyring, &["not signed by a key that is believed", "role.recipes"]);
    server.forgive();
    server.behave("/blobs/", Manner::Flipped(0));
    refused("altered blobs", &built.keyring, &["has other bytes than its digest says", "sha256:", "store push"]);
    server.forgive();
    // A record of nobody's.
    let records = folder.path().join("shared/results/role.recipes");
    let record = records.join(&names(&records)[0]);
    let text = fs::read_to_string(&record).expect("it was pushed");
    let (_, signed) = text.split_once('\n').expect("two lines");
    fs::write(&record, format!("unsigned\n{signed}")).expect("ours");
    refused("an unsigned record", &built.keyring, &["is not signed", "--remote-keyring"]);
    let runner = Runner::new(&built.rolecast, &place);
    let unsigned = ["--locked", "--remote", &place.remote, "--remote-unsigned"];
    runner.rolecast.build(IMAGE, &unsigned).succeeds();
    assert_eq!(manifest(&runner.rolecast.output), undisturbed());
    let outcome = runner.rolecast.build(IMAGE, &unsigned[..3]);
    assert_eq!(outcome.code, Some(2), "{outcome}");
    assert!(outcome.stderr.contains("--remote-keyring"), "{outcome}");
}

/// The registry's own disk lies.
#[test]
fn an_altered_blob_of_a_registry_is_refused() {
    let built = built();
    let registry = Registry::start();
    let place = Place::of_registry(&registry);
    place.push(&built.rolecast, &built.key).succeeds();
    let runner = Runner::new(&built.rolecast, &place);
    runner.build(&place, &built.keyring, &[]).succeeds();
    // The largest object of the outputs.
    let objects = runner.rolecast.store.join("objects");
    let shelves = names(&objects);
    let all = shelves
        .iter()
        .flat_map(|shelf| names(&objects.join(shelf)).into_iter().map(move |rest| format!("{shelf}{rest}")));
    let sizes: BTreeMap<u64, String> =
        all.filter_map(|digest| Some((fs::metadata(registry.blob(&digest)).ok()?.len(), digest))).collect();
    let (_, digest) = sizes.last_key_value().expect("segments do not compress");
    let mut bytes = fs::read(registry.blob(digest)).expect("it was pushed");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(registry.blob(digest), bytes).expect("ours");
    let runner = Runner::new(&built.rolecast, &place);
    let outcome = runner.build(&place, &built.keyring, &[]);
    assert_eq!(outcome.code, Some(4), "{outcome}");
    assert!(outcome.stderr.contains(digest) && outcome.stderr.contains("other bytes"), "{outcome}");
}

/// A cache never breaks a build.
#[test]
fn a_remote_that_fails_is_done_without() {
    let built = built();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
    let server = Server::start(folder.path());
    let place = Place::of_server(&server);
    place.push(&built.rolecast, &built.key).succeeds();
    let goes_on = |what: &str, told: &str| {
        let mut runner = Runner::new(&built.rolecast, &place);
        runner.rolecast = built.world.rolecast(&built.project);
        (runner.rolecast.store, runner.rolecast.output) =
            (runner._folder.path().join("store"), runner._folder.path().join("out"));
        let outcome = runner.build(&place, &built.keyring, &[]);
        eprintln!("{what}: {:.2} s", outcome.took.as_secs_f64());
        let made = json(&outcome.succeeds());
        assert!(made["warnings"].to_string().contains(told), "{what}: {made:#}");
        assert_eq!(manifest(&runner.rolecast.output), undisturbed(), "{what}");
    };
    // What the records name is gone; a push brings it back.
    let blobs = folder.path().join("shared/blobs");
    let shelves = names(&blobs);
    fs::remove_dir_all(&blobs).expect("ours");
    goes_on("every blob is gone", "are not there");
    place.push(&built.rolecast, &built.key).succeeds();
    assert_eq!(names(&blobs), shelves);
    // Every blob ends early, whenever it is asked for again: the server went away midway.
    server.behave("/blobs/", Manner::Closed);
    goes_on("no blob comes", "was of no use");
    server.behave("/shared/", Manner::Status(503));
    goes_on("the server fails", "503");
    drop(server);
    goes_on("nobody answers", "cannot reach");
}

#[test]
fn two_writers_at_once_do_no_harm() {
    let built = built();
    let registry = Registry::start();
    let place = Place::of_registry(&registry);
    let other = Runner::new(&built.rolecast, &place);
    let mirrors = built.world.rolecast(&built.project);
    let mut second = place.reached_by(&mirrors);
    (second.store, second.output) = (other.rolecast.store.clone(), other.rolecast.output.clone());
    second.build(IMAGE, &["--locked"]).succeeds();
    let first = place.reached_by(&built.rolecast);
    let words = ["store", "push", &place.remote, IMAGE, "--sign-key", &built.key];
    let started = [&first, &second].map(|rolecast| rolecast.start(&words));
    for outcome in started.map(crate::support::command::Started::wait) {
        assert!(!outcome.stderr.contains("another result"), "{outcome}");
        outcome.succeeds();
    }
    let runner = Runner::new(&built.rolecast, &place);
    runner.build(&place, &built.keyring, &[]).succeeds();
    assert_eq!(manifest(&runner.rolecast.output), undisturbed());
}

/// `pull` brings what a build without a network then needs.
#[test]
fn what_was_pulled_is_built_without_a_remote() {
    let built = built();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
    let server = Server::start(folder.path());
    let place = Place::of_server(&server);
    place.push(&built.rolecast, &built.key).succeeds();
    let runner = Runner::new(&built.rolecast, &place);
    let pull = ["store", "pull", &place.remote, "--remote-keyring", &built.keyring];
    let said = runner.rolecast.run(&pull).succeeds();
    assert!(said.contains("1 results"), "{said}");
    drop(server);
    runner.rolecast.build(IMAGE, &["--locked", "--offline"]).succeeds();
    assert_eq!(manifest(&runner.rolecast.output), undisturbed());
}

/// No password, key or token is printed, stored or put into a list of arguments, whatever goes wrong.
#[test]
fn secrets_stay_where_they_are() {
    let built = built();
    let mut registry = Registry::start();
    let place = Place::of_registry(&registry);
    let secrets = |said: &Outcome| {
        for secret in [PASSWORD, "hunter2", "Y2k6aHVudGVyMi1vZi10aGUtcmVnaXN0cnk="] {
            assert!(!said.stdout.contains(secret) && !said.stderr.contains(secret), "{said}");
        }
    };
    let pushed = place.push(&built.rolecast, &built.key);
    secrets(&pushed);
    pushed.succeeds();
    let wrong = place.reached_by(&built.rolecast).environment("ROLECAST_REMOTE_PASSWORD", "hunter2-but-wrong");
    let refused = wrong.run(&["store", "push", &place.remote, "--sign-key", &built.key]);
    secrets(&refused);
    let said = refused.fails();
    assert!(said.contains("401") && said.contains("docker login"), "{said}");
    // As docker keeps them.
    let docker = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
    let host = place.remote.trim_start_matches("oci://").split('/').next().expect("a host").to_owned();
    let config = format!(r#"{{"auths":{{"{host}":{{"auth":"Y2k6aHVudGVyMi1vZi10aGUtcmVnaXN0cnk="}}}}}}"#);
    fs::write(docker.path().join("config.json"), config).expect("a folder under target");
    let by_docker = Place {
        remote: place.remote.clone(),
        environment: vec![("DOCKER_CONFIG", docker.path().display().to_string())],
    };
    let runner = Runner::new(&built.rolecast, &by_docker);
    let outcome = runner.build(&by_docker, &built.keyring, &[]);
    secrets(&outcome);
    outcome.succeeds();
    registry.stop();
    let outcome = place.push(&built.rolecast, &built.key);
    secrets(&outcome);
    assert!(outcome.fails().contains("cannot reach"));
    let found = crate::support::command::run(
        "grep",
        [
            "--recursive",
            "--files-with-matches",
            PASSWORD,
            &runner.rolecast.store.to_string_lossy(),
            &built.rolecast.store.to_string_lossy(),
        ],
    );
    assert_eq!(found.stdout, "");
}

/// What `docs/shared-store.md` offers to copy.
#[test]
fn the_examples_for_ci_are_yaml_with_jobs_that_build_and_push() {
    let script = "import sys, yaml; print(sorted(yaml.safe_load(open(sys.argv[1])).get(sys.argv[2]) or 'none'))";
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    for (file, part, expected) in [
        ("github-actions.yml", "jobs", "['build', 'check']"),
        ("gitlab-ci.yml", "build", "['extends', 'rules', 'script']"),
    ] {
        let path = examples.join(file);
        let words = ["-c".as_ref(), script.as_ref(), path.as_os_str(), part.as_ref()];
        assert_eq!(crate::support::command::run("/usr/bin/python3", words).succeeds().trim(), expected, "{file}");
        let text = fs::read_to_string(&path).expect("an example");
        for part in ["build images/ha-lab.toml --locked", "store push \"$ROLECAST_REMOTE\" images/ha-lab.toml"] {
            assert!(text.contains(part), "no `{part}` in {file}");
        }
    }
}
