//! The target's own deb-systemd-helper, started quickly.
//!
//! Owns what stands before its text while packages are configured. debhelper's scripts start it three times for every
//! unit, and four fifths of a run is Perl that compiles modules of which it uses a function each: those functions, in the
//! plain form in which it calls them, are in `deb-systemd-helper.pl`, which loads the modules for any other. What it does
//! is decided by the target's text alone. References: deb-systemd-helper(1p), perlfunc(1) on `require`.

use crate::sys::sandbox::Room;

use super::inside::InsideError;

const PROGRAM: &str = "usr/bin/deb-systemd-helper";

/// Where the text stands that covers it: emptied when the tree is settled.
const COVER: &str = "run/rolecast-deb-systemd-helper";

const MODULES: &str = include_str!("deb-systemd-helper.pl");

/// Lets the quick one stand in the place of the root's own, where there is one.
pub(super) fn cover(room: &Room) -> Result<(), InsideError> {
    let Some(text) = room.read(PROGRAM)? else { return Ok(()) };
    let Some(quick) = quick(&text) else { return Ok(()) };
    room.write(COVER, 0o755, &quick)?;
    Ok(room.cover(PROGRAM, COVER)?)
}

/// The text with the functions before it; none for what is no Perl.
fn quick(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().position(|&byte| byte == b'\n')?;
    let (first, rest) = text.split_at(end + 1);
    if !first.starts_with(b"#!/usr/bin/perl") {
        return None;
    }
    // Its messages name the lines of its own text.
    Some([first, b"BEGIN {\n", MODULES.as_bytes(), b"}\n#line 2\n", rest].concat())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    const UNITS: [(&str, &str); 4] = [
        ("a.service", "[Install]\nWantedBy=multi-user.target graphical.target\nAlias=other.service\nAlso=a.timer\n"),
        ("a.timer", "[Install]\nWantedBy=timers.target\n"),
        ("plain.service", "[Service]\nExecStart=/bin/true\n"),
        ("-.mount", "[Install]\nRequiredBy=local-fs.target\n"),
    ];

    fn host() -> Vec<u8> {
        fs::read(Path::new("/").join(PROGRAM)).expect("Debian's init-system-helpers is installed")
    }

    /// What the calls print and answer, and what they leave in a root of their own.
    fn run(text: &[u8], calls: &[&str]) -> (Vec<String>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let (program, root) = (directory.path().join("deb-systemd-helper"), directory.path().join("root"));
        fs::write(&program, text).unwrap();
        fs::create_dir_all(root.join("usr/lib/systemd/system")).unwrap();
        for (name, text) in UNITS {
            fs::write(root.join("usr/lib/systemd/system").join(name), text).unwrap();
        }
        let place = directory.path().to_str().unwrap();
        let said = |call: &&str| {
            let mut command = Command::new("perl");
            command.arg("-w").arg(&program).args(call.split(' '));
            let output = command.env("DPKG_ROOT", &root).env("DPKG_MAINTSCRIPT_PACKAGE", "a").output().unwrap();
            let words =
                [output.stdout, output.stderr].map(|words| String::from_utf8(words).unwrap().replace(place, ""));
            format!("{call}: {} {words:?}", output.status)
        };
        let said = calls.iter().map(said).collect();
        let mut left: Vec<String> = walkdir::WalkDir::new(&root)
            .into_iter()
            .map(|entry| {
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                let link = fs::read_link(entry.path()).unwrap_or_default();
                let text = if meta.is_file() { fs::read_to_string(entry.path()).unwrap() } else { String::new() };
                let line = format!("{:?} {:o} {link:?} {text:?}", entry.path(), meta.permissions().mode());
                line.replace(place, "")
            })
            .collect();
        left.sort();
        (said, left)
    }

    #[test]
    fn the_quick_one_says_and_leaves_what_the_targets_own_does() {
        let own = host();
        let quick = quick(&own).expect("it is a Perl script");
        let installed = [
            "unmask a.service",
            "--quiet was-enabled a.service",
            "enable a.service",
            "enable plain.service",
            "update-state a.service a.timer",
            "debian-installed a.service",
            "--user enable a.service",
        ];
        let more = [
            "was-enabled a.service plain.service",
            "is-enabled a.service",
            "enable -- -.mount",
            "-q was-enabled a.timer",
            "--no-such-option enable a.service",
            "mask a.service",
            "unmask a.service",
            "reenable a.service",
            "disable a.timer",
            "purge a.service",
        ];
        for calls in [&installed[..], &[&installed[..], &more[..]].concat()] {
            let expected = run(&own, calls);
            assert!(expected.1.len() > 12, "{expected:#?}");
            assert_eq!(run(&quick, calls), expected);
        }
    }

    #[test]
    fn what_it_uses_in_an_unknown_form_is_the_modules_own() {
        let own = String::from_utf8(host()).unwrap();
        let calls = ["enable a.service", "update-state a.service"];
        for (known, unknown) in
            [("qw(make_path)", "qw(make_path remove_tree)"), ("UNLINK => 0", "UNLINK => 0, EXLOCK => 0")]
        {
            let other = own.replace(known, unknown);
            assert_ne!(other, own);
            assert_eq!(run(&quick(other.as_bytes()).unwrap(), &calls), run(own.as_bytes(), &calls));
        }
    }

    #[test]
    fn a_plain_call_loads_none_of_the_modules() {
        let directory = tempfile::tempdir().unwrap();
        let loaded = |text: &[u8]| {
            let program = directory.path().join("helper");
            fs::write(&program, text).unwrap();
            let listing = "END { print join qq(\\n), values %INC } do shift";
            let output = Command::new("perl")
                .args(["-e", listing])
                .arg(&program)
                .args(["--quiet", "was-enabled", "a.service"])
                .env("DPKG_MAINTSCRIPT_PACKAGE", "a")
                .output()
                .unwrap();
            let words = String::from_utf8(output.stdout).unwrap();
            ["File/Path.pm", "File/Temp.pm", "Getopt/Long.pm"].map(|module| words.contains(module))
        };
        assert_eq!(loaded(&host()), [true; 3]);
        assert_eq!(loaded(&quick(&host()).unwrap()), [false; 3]);
    }

    #[test]
    fn another_program_of_that_name_is_left_alone() {
        assert_eq!(quick(b"#!/bin/sh\nexit 0\n"), None);
        assert_eq!(quick(b"\x7fELF"), None);
    }
}
