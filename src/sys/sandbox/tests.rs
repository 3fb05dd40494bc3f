//! The sandbox on this machine: as root where the tests run as root, else through a user namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::*;

/// What a test asks of the inside.
#[derive(Serialize, Deserialize)]
struct Ask {
    place: PathBuf,
    shell: String,
    limit: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    failure: Option<String>,
    output: String,
}

/// Process 1 of the other tests; they start this test binary again, for this test alone.
#[test]
#[ignore = "started by the other tests as the inside of a sandbox"]
fn inside() {
    let mut connection = helper_main(std::env::args_os()).expect("started as an inside");
    let ask: Ask = connection.receive().expect("a request");
    rustix::process::chdir(&ask.place).expect("a directory");
    let overlay = Overlay { lower: vec!["lower".into()], upper: "upper".into(), work: "work".into() };
    overlay.mount(Path::new("root")).expect("an overlay");
    let room = Room::open(&ask.place.join("root")).expect("a room");
    // The host's own programs, so that a test needs no root file system of its own.
    rustix::mount::mount_bind("/usr", room.root().join("usr")).expect("a bind mount");
    let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), ask.shell];
    let program = Program { command, limit: ask.limit, ..Program::default() };
    let ended = room.run(&program, &mut |_| {}).expect("a shell");
    connection.send(&Answer { failure: ended.failure, output: ended.output }).expect("a listener");
}

fn helper() -> Helper {
    let arguments = ["--exact", "sys::sandbox::tests::inside", "--ignored", "--nocapture"];
    Helper { program: std::env::current_exe().unwrap(), arguments: arguments.map(Into::into).to_vec() }
}

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for name in ["dev", "proc", "run", "tmp", "usr", "etc"] {
        fs::create_dir_all(place.path().join("lower").join(name)).unwrap();
    }
    for link in ["bin", "lib", "lib64", "sbin"] {
        std::os::unix::fs::symlink(format!("usr/{link}"), place.path().join("lower").join(link)).unwrap();
    }
    for name in ["upper", "work", "root"] {
        fs::create_dir(place.path().join(name)).unwrap();
    }
    place
}

fn run(place: &Path, shell: &str, limit: Duration) -> Answer {
    let sandbox = Sandbox::probe(helper(), place).unwrap();
    let mut inside = sandbox.start("test").unwrap();
    inside.connection.send(&Ask { place: place.to_owned(), shell: shell.to_owned(), limit }).unwrap();
    inside.connection.receive().unwrap()
}

#[test]
fn a_program_sees_its_root_and_nothing_of_the_build() {
    let place = place();
    let script =
        "set -e; echo $HOME $LC_ALL $(umask) $(hostname) $$; env | grep -c CARGO || :; ls /proc/self/fd | wc -l
        id -u; cat /proc/net/dev | grep -c : ; ls /; echo kept > /etc/kept; : > /dev/null; chown 65534:65534 /etc/kept
        (: > /proc/sys/kernel/hostname) 2>/dev/null || echo guarded; mount -t tmpfs x /tmp 2>/dev/null || echo no mounts
        ! test -e /proc/1/root/work || echo escaped";
    let answer = run(place.path(), script, Duration::from_secs(20));
    assert_eq!(answer.failure, None, "{}", answer.output);
    let words: Vec<_> = answer.output.split_whitespace().collect();
    assert_eq!(words[..4], ["/root", "C.UTF-8", "0022", "localhost"]);
    // Of CARGO nothing; four descriptors, `ls`'s own among them; root; loopback alone.
    assert_eq!(words[5..9], ["0", "4", "0", "1"], "{}", answer.output);
    assert!(answer.output.contains("guarded") && answer.output.contains("no mounts"), "{}", answer.output);
    assert!(!answer.output.contains("escaped"), "{}", answer.output);
    let kept = fs::metadata(place.path().join("upper/etc/kept")).unwrap();
    assert_eq!((kept.len(), kept.permissions().mode() & 0o777), (5, 0o644));
    assert!(!place.path().join("lower/etc/kept").exists());
}

#[test]
fn failures_and_time_limits_are_told_and_daemons_do_not_outlive_their_starter() {
    let place = place();
    let started = Instant::now();
    let answer = run(place.path(), "echo oops >&2; sleep 300 & exit 3", Duration::from_secs(20));
    assert_eq!((answer.failure.as_deref(), answer.output.as_str()), (Some("exit code 3"), "oops\n"));
    let place = self::place();
    let answer = run(place.path(), "echo begun; sleep 300", Duration::from_secs(1));
    assert_eq!((answer.failure.as_deref(), answer.output.as_str()), (Some("no end after 1 seconds"), "begun\n"));
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn the_end_of_a_long_output_is_kept() {
    let place = place();
    let answer = run(place.path(), "seq 1 100000", Duration::from_secs(20));
    assert!(answer.output.ends_with("\n99999\n100000\n"));
    assert_eq!(answer.output.len(), 64 << 10);
}

#[test]
fn everything_inside_ends_with_the_build() {
    let place = place();
    let sandbox = Sandbox::probe(helper(), place.path()).unwrap();
    let mut inside = sandbox.start("test").unwrap();
    let shell = "while :; do date +%N > /etc/alive; done".to_owned();
    let ask = Ask { place: place.path().to_owned(), shell, limit: Duration::MAX };
    inside.connection.send(&ask).unwrap();
    let alive = place.path().join("upper/etc/alive");
    let started = Instant::now();
    while !alive.exists() && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(inside);
    std::thread::sleep(Duration::from_millis(200));
    let last = fs::read(&alive).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fs::read(&alive).unwrap(), last);
}
