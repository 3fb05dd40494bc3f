//! What a person gets wrong: each mistake in `images/ha-lab.toml` and its profiles gives one clear message, with the
//! place where it was written, before anything is fetched.

use crate::support::command::Rolecast;
use crate::support::project::Project;

const IMAGE: &str = "images/ha-lab.toml";

/// A mistake: in which file, what is replaced by what, and what the message has to say.
struct Mistake {
    file: &'static str,
    from: &'static str,
    to: &'static str,
    /// Words of the message. The first is also the text that the mistake stands at, unless it does not stand there.
    says: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    // An unknown key.
    Mistake { file: IMAGE, from: "[cluster]\n", to: "[cluster]\nviip = \"10.77.0.9\"\n", says: &["viip", "vip"] },
    // A wrong type.
    Mistake { file: IMAGE, from: "vrid = 77", to: "vrid = \"seventy-seven\"", says: &["vrid"] },
    // An option that no profile declares.
    Mistake { file: IMAGE, from: "\"kernel\" = ", to: "\"kernell\" = ", says: &["kernell", "kernel"] },
    // TLS of MAAS's own, which nothing here would set up.
    Mistake {
        file: IMAGE,
        from: "\"maas.packaging\" = \"stub\"\n",
        to: "\"maas.packaging\" = \"stub\"\n\"maas.tls\" = true\n",
        says: &["maas.tls"],
    },
    // A value that the option does not have.
    Mistake { file: IMAGE, from: "\"kernel\" = \"cloud\"", to: "\"kernel\" = \"clod\"", says: &["clod", "cloud"] },
    // A virtual router id that does not exist.
    Mistake { file: IMAGE, from: "vrid = 77", to: "vrid = 256", says: &["256", "255"] },
    // The virtual address elsewhere.
    Mistake {
        file: IMAGE,
        from: "vip = \"10.77.0.10\"",
        to: "vip = \"10.78.0.10\"",
        says: &["10.78.0.10", "10.77.0.0/24"],
    },
    // Two machines of one address.
    Mistake { file: IMAGE, from: "\"10.77.0.22\"", to: "\"10.77.0.21\"", says: &["10.77.0.21", "rack-1"] },
    // Too few voters.
    Mistake {
        file: IMAGE,
        from: "voter = true\n\n[node.rack-2]\n",
        to: "voter = false\n\n[node.rack-2]\nvoter = false\n",
        says: &["voters", "2 of the 3"],
    },
    // A role that is none.
    Mistake { file: IMAGE, from: "role = \"region-standby\"", to: "role = \"regoin\"", says: &["regoin"] },
    // An unknown variable of a template.
    Mistake {
        file: "overlays/base/etc/hosts.tera",
        from: "127.0.0.1",
        to: "{{ role.nmae }} 127.0.0.1",
        says: &["nmae", "name"],
    },
    // Two programs on one port.
    Mistake { file: "profiles/rack.toml", from: "port = 5248", to: "port = 22", says: &["22", "sshd"] },
];

#[test]
fn every_mistake_is_told_once_with_its_place() {
    let rolecast = |project: &Project| Rolecast::new(project);
    for Mistake { file, from, to, says } in MISTAKES {
        let project = Project::of_this_repository();
        project.replace(file, from, to);
        let rolecast = rolecast(&project);
        let outcome = rolecast.run(&["check", IMAGE]);
        assert_eq!(outcome.code, Some(1), "{file}: `{to}`\n{outcome}");
        let error = outcome.fails();
        for part in says.iter().chain([file]) {
            assert!(error.contains(part), "{file}: `{to}`: no `{part}` in:\n{error}");
        }
        assert!(!rolecast.store.exists(), "`check` fetched or built something");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let project = Project::of_this_repository();
    project.replace(IMAGE, "vrid = 77", "vrid = 256").replace(IMAGE, "\"kernel\" = \"cloud\"", "\"kernel\" = \"clod\"");
    let error = Rolecast::new(&project).run(&["check", IMAGE]).fails();
    assert!(error.contains("256") && error.contains("clod"), "{error}");
}

#[test]
fn includes_in_a_circle_are_told() {
    let project = Project::of_this_repository();
    project
        .write("profiles/one.toml", "include = [\"two\"]\n")
        .write("profiles/two.toml", "include = [\"one\"]\n")
        .replace("profiles/rack.toml", "include = [", "include = [\"one\", ");
    let error = Rolecast::new(&project).run(&["check", IMAGE]).fails();
    assert!(error.contains("profiles/one.toml") && error.contains("profiles/two.toml"), "{error}");
}

#[test]
fn the_lab_and_noble_check_clean() {
    let project = Project::of_this_repository();
    for image in [IMAGE, "images/ha-noble.toml"] {
        let outcome = Rolecast::new(&project).run(&["check", image]);
        assert!(!outcome.stderr.contains("warning"), "{outcome}");
        outcome.succeeds();
    }
}

#[test]
fn a_wrong_command_line_is_told_as_such() {
    let project = Project::new();
    let rolecast = Rolecast::new(&project);
    for arguments in
        [&["bake"][..], &["build"], &["build", "--frmt", "disk", IMAGE], &["build", IMAGE, "--format", "iso"]]
    {
        let outcome = rolecast.run(arguments);
        assert_eq!(outcome.code, Some(2), "{outcome}");
    }
    let outcome = rolecast.run(&["check", "images/none.toml"]);
    assert!(outcome.stderr.contains("images/none.toml"), "{outcome}");
    outcome.fails();
}

/// Once a manifest that is not there had no signature and was no mistake, a mirror of an archive that is not there was
/// passed over, and a vendored directory that is not there was told as hundreds of packages that its mirror had dropped.
#[test]
fn what_is_named_and_is_not_there_is_told() {
    let project = Project::of_this_repository();
    let rolecast = Rolecast::new(&project);
    let cases: [(&[&str], &str); 14] = [
        (&["inspect", "out/rack/none.json"], "there is no manifest `out/rack/none.json`"),
        (&["inspect", "out/rack/none.raw"], "there is no image `out/rack/none.raw`"),
        (&["inspect", IMAGE, "--keyring", "none.pgp"], "'none.pgp' for '--keyring <FILE>': there is no such file"),
        (&["verify-signature", "none", "--keyring", IMAGE], "'none' for '<PATH>': there is no such file"),
        (&["sign", "images", "--sign-key", "none.key"], "'none.key' for '--sign-key <FILE>': there is no such file"),
        (&["audit", IMAGE, "--against", "none"], "'none' for '--against <FILE|DIR>': there is no such file"),
        (&["seed", IMAGE, "--cluster", "none.toml"], "'none.toml' for '--cluster <FILE>': there is no such file"),
        (&["enter", "none"], "`none` is not there"),
        (&["inspect", "images"], "`images` is a directory"),
        (&["diff", "none.raw", "none.raw"], "`none.raw` is not there"),
        (&["lock", IMAGE, "--mirror", "debain=http://mirror.invalid"], "its archives: debian, debian-security"),
        (&["build", IMAGE, "--locked", "--vendor", "none"], "`--vendor none` names no directory"),
        (&["vendor", "none", IMAGE, "--check"], "there is no directory `none`"),
        (&["generate", "reference", "none"], "`none` is no project"),
    ];
    for (arguments, says) in cases {
        let outcome = rolecast.run(arguments);
        assert_eq!(outcome.code, Some(2), "{outcome}");
        assert!(outcome.stderr.contains(says), "{outcome}");
    }
}

/// Once its place was named in the image file, at a line that this file does not have.
#[test]
fn a_mistake_in_a_file_of_a_cluster_is_told_at_its_place() {
    let project = Project::of_this_repository();
    let text = std::fs::read_to_string(project.root().join(IMAGE)).expect("a copy of ours");
    let (generic, cluster) = text.split_once("[cluster]").expect("it describes a cluster");
    let cluster = cluster.replace("vrid = 77", "vrid = 256");
    project.write(IMAGE, generic).write("sites/north.toml", format!("[cluster]{cluster}"));
    let outcome = Rolecast::new(&project).run(&["secrets", "init", IMAGE, "--cluster", "sites/north.toml"]);
    assert!(outcome.stderr.contains("sites/north.toml:4:8"), "{outcome}");
    outcome.fails();
}

/// Once `plan` told the steps of a lock that no build would take.
#[test]
fn a_lock_that_answers_no_more_has_no_plan() {
    let project = Project::of_this_repository();
    project.replace(IMAGE, "\"kernel\" = \"cloud\"", "\"kernel\" = \"full\"");
    let outcome = Rolecast::new(&project).run(&["plan", IMAGE]);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    assert!(outcome.stderr.contains("does not answer the image file any more"), "{outcome}");
}
