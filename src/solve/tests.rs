//! Debian's semantics on small universes, and against all possible answers on random ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::deb::control::Stanzas;
use crate::deb::package::Package;
use crate::digest::Digest;
use crate::report::{Source, Style, render};

/// A universe of stanzas such as `a 1; Depends: b, c; Provides: v`, one a line. `Architecture` is amd64 unless given.
fn universe(lines: &[&str]) -> Universe {
    archive("debian", 500, lines)
}

fn archive(name: &str, priority: i32, lines: &[&str]) -> Universe {
    let candidates = lines.iter().map(|line| {
        let (head, fields) = line.split_once(';').unwrap_or((line, ""));
        let (package, version) = head.split_once(' ').expect("name and version");
        let digest = Digest::of(format!("{name} {head}").as_bytes());
        let mut stanza =
            format!("Package: {package}\nVersion: {version}\nSHA256: {digest}\n{}\n", fields.replace(';', "\n"));
        stanza = stanza.replace("\n ", "\n");
        if !stanza.contains("Architecture:") {
            stanza.push_str("Architecture: amd64\n");
        }
        let stanza = stanza.replace("\n\n", "\n");
        let package = Package::parse(Stanzas::new(&stanza).next().expect("a stanza")).expect("a package");
        Candidate { package: Arc::new(package), archive: name.to_owned(), priority }
    });
    Universe { candidates: candidates.collect() }
}

fn wants(texts: &[&str]) -> Vec<Want> {
    let source = Arc::new(Source { path: "profiles/x.toml".into(), text: texts.join("\n") });
    let mut at = 0;
    let wants = texts.iter().map(|text| {
        let span = Span::new(&source, at..at + text.len());
        at += text.len() + 1;
        Want { relation: Alternatives::parse(text).expect("a relation"), span }
    });
    wants.collect()
}

fn ask(universe: &Universe, texts: &[&str], fixed: &[Chosen]) -> Result<Selection, String> {
    let request = Request { wants: &wants(texts), fixed, recommends: false, essential: false };
    solve(universe, "amd64", &request).map_err(|report| render(&report, Style::Plain))
}

fn shown(selection: &Selection) -> String {
    let show = |chosen: &Chosen| format!("{} {}", chosen.candidate.package.name, chosen.candidate.package.version);
    selection.chosen.iter().map(show).collect::<Vec<_>>().join(", ")
}

#[test]
fn semantics() {
    for (what, lines, texts, expected) in [
        ("the highest version", &["a 1", "a 2", "a 1.5"][..], &["a"][..], "a 2"),
        ("a version asked for", &["a 1", "a 2"], &["a (<< 2)"], "a 1"),
        ("dependencies, loops included", &["a 1;Depends: b", "b 1;Pre-Depends: a"], &["a"], "a 1, b 1"),
        ("the first alternative", &["a 1;Depends: b | c", "b 1", "c 1"], &["a"], "a 1, b 1"),
        ("the first that there is", &["a 1;Depends: x | c", "c 1"], &["a"], "a 1, c 1"),
        ("the one wanted elsewhere", &["a 1;Depends: b | c", "b 1", "c 1"], &["a", "c"], "a 1, c 1"),
        ("the one needed before", &["a 1;Depends: c, b | c", "b 1", "c 1"], &["a"], "a 1, c 1"),
        ("an alternative as a want", &["b 1", "c 1"], &["x | c", "b | c"], "c 1"),
        ("a provider", &["a 1;Depends: v", "b 1;Provides: v"], &["a"], "a 1, b 1"),
        ("the real package before a provider", &["b 1;Provides: v", "v 1"], &["v"], "v 1"),
        ("by priority", &["b 1;Provides: v", "c 1;Provides: v;Priority: important", "d 1;Provides: v"], &["v"], "c 1"),
        ("a versioned provision", &["b 1;Provides: v (= 1)", "c 1;Provides: v (= 3)"], &["v (>= 2)"], "c 1"),
        ("no version, no match", &["b 9;Provides: v", "c 1;Provides: v (= 3)"], &["v (>= 2)"], "c 1"),
        ("its own provision", &["a 1;Provides: v;Depends: v"], &["a"], "a 1"),
        ("no conflict with itself", &["a 1;Provides: v;Conflicts: v"], &["a"], "a 1"),
        ("around a conflict", &["a 1;Depends: b | c", "b 1;Conflicts: d", "c 1", "d 1"], &["a", "d"], "a 1, c 1, d 1"),
        (
            "around a conflict found late",
            &["a 1;Depends: b | c", "b 1;Depends: e", "e 1;Breaks: d", "c 1", "z 1;Depends: d", "d 1"],
            &["a", "z"],
            "a 1, c 1, d 1, z 1",
        ),
        (
            "a choice taken back that apt would not",
            &["a 1;Depends: b | c", "b 1;Depends: e | f", "e 1", "f 1", "c 1", "z 1;Conflicts: b"],
            &["a", "z | x"],
            "a 1, c 1, z 1",
        ),
        ("an older version where it must", &["a 1;Depends: b (<< 2)", "b 1", "b 2"], &["b", "a"], "a 1, b 1"),
        ("Breaks of old versions", &["a 1;Breaks: b (<< 2)", "b 1", "b 2"], &["a", "b"], "a 1, b 2"),
        ("a virtual conflict", &["m 1;Provides: v", "n 1;Provides: v;Conflicts: v", "o 1"], &["n", "o"], "n 1, o 1"),
        (
            "a versioned conflict passes by a bare provision",
            &["a 1;Conflicts: v (<< 9)", "b 1;Provides: v"],
            &["a", "b"],
            "a 1, b 1",
        ),
        ("all and native", &["a 1;Architecture: all", "a 2;Architecture: arm64"], &["a"], "a 1"),
        ("any, where it is allowed", &["p 1;Multi-Arch: allowed", "a 1;Depends: p:any"], &["a"], "a 1, p 1"),
        ("any, the second alternative", &["p 1", "q 1", "a 1;Depends: p:any | q:native"], &["a"], "a 1, q 1"),
        (
            "the architecture named",
            &["p 1", "a 1;Depends: p:amd64;Conflicts: q:arm64", "q 1"],
            &["a", "q"],
            "a 1, p 1, q 1",
        ),
        ("no Recommends", &["a 1;Recommends: b", "b 1"], &["a"], "a 1"),
        (
            "nothing for its priority or essence",
            &["a 1", "b 1;Priority: required", "c 1;Essential: yes"],
            &["a"],
            "a 1",
        ),
    ] {
        assert_eq!(ask(&universe(lines), texts, &[]).as_ref().map(shown), Ok(expected.to_owned()), "{what}");
    }
}

#[test]
fn recommends_and_essential_where_asked() {
    let universe = universe(&[
        "a 1;Recommends: b, x, d",
        "b 1;Depends: c;Recommends: e",
        "c 1",
        "d 1;Conflicts: a",
        "e 1",
        "f 1;Essential: yes;Depends: awk",
        "gawk 1;Provides: awk",
        "mawk 1;Provides: awk;Priority: required",
    ]);
    let (a, gawk) = (wants(&["a"]), wants(&["gawk"]));
    let mut request = Request { wants: &a, fixed: &[], recommends: true, essential: false };
    assert_eq!(shown(&solve(&universe, "amd64", &request).expect("an answer")), "a 1, b 1, c 1, e 1");
    request = Request { wants: &gawk, recommends: false, essential: true, ..request };
    assert_eq!(shown(&solve(&universe, "amd64", &request).expect("an answer")), "f 1, gawk 1");
    request.wants = &[];
    assert_eq!(shown(&solve(&universe, "amd64", &request).expect("an answer")), "f 1, mawk 1");
}

#[test]
fn archives_rank_by_priority_and_favours_before_that() {
    let mut all = archive("debian", 500, &["a 1", "a 3", "b 1"]);
    all.candidates.extend(archive("local", 900, &["a 2"]).candidates);
    let wants = wants(&["a"]);
    let request = Request { wants: &wants, fixed: &[], recommends: false, essential: false };
    assert_eq!(shown(&solve(&all, "amd64", &request).expect("an answer")), "a 2");
    let favoured = BTreeSet::from([Digest::of(b"debian a 1")]);
    assert_eq!(shown(&solve_with(&Index::new(&all, "amd64", &favoured), &request).expect("an answer")), "a 1");
}

#[test]
fn why_is_remembered() {
    let universe = universe(&["a 1;Depends: b | c", "b 1;Pre-Depends: d (>= 1)", "d 1"]);
    let selection = ask(&universe, &["a"], &[]).expect("an answer");
    let [a, b, d] = selection.chosen.as_slice() else { panic!("{}", shown(&selection)) };
    assert!(matches!(&a.why, Why::Wanted(want) if want.span.place() == "profiles/x.toml:1:1"));
    assert!(matches!(&b.why, Why::Needed { by, field: Field::Depends, relation } if by == "a" && relation == "b | c"));
    assert!(matches!(&d.why, Why::Needed { by, field: Field::PreDepends, .. } if by == "b"));
}

#[test]
fn what_a_parent_has_stays() {
    let universe =
        universe(&["a 1;Depends: b (<< 2)", "b 1", "b 2", "c 1;Depends: b | d", "d 1", "e 1;Depends: b (>= 2)"]);
    let parent = ask(&universe, &["a"], &[]).expect("an answer").chosen;
    assert_eq!(ask(&universe, &["c", "b"], &parent).as_ref().map(shown), Ok("c 1".to_owned()));
    let told = ask(&universe, &["e"], &parent).expect_err("b is fixed");
    for part in [
        "`e` cannot be installed",
        "`e` 1 needs `b (>= 2)` (`Depends`)",
        "`b` 2 cannot stand beside `b` 1",
        "`b` of a layer below is there because `a` needs `b (<< 2)`",
        "wanted here, in a layer below",
        "a layer keeps what the layer below has",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
}

#[test]
fn what_cannot_be_had_is_explained() {
    let lines = [
        "postfix 3;Provides: mta;Conflicts: mta",
        "exim4 4;Provides: mta;Conflicts: mta",
        "cron 1;Depends: mta",
        "monitor 1;Depends: mailer",
        "mailer 1;Depends: exim4 | sendmail",
        "broken 1;Depends: cron, libx (>= 9) | liby",
        "libx 2",
    ];
    for (texts, parts) in [
        (&["postfx"][..], &["no archive offers `postfx`", "profiles/x.toml:1:1", "did you mean `postfix`?"][..]),
        (&["cron", "libx (>= 3)"], &["no such version", "profiles/x.toml:2:1", "of `libx` there is 2 (debian)"]),
        (&["nothing-like-it"], &["unknown package", "[archive.NAME]"]),
        (&["mat"], &["did you mean `mta`?"]),
        (
            &["broken"],
            &[
                "`broken` cannot be installed",
                "`broken` 1 needs `libx (>= 9) | liby` (`Depends`), which no archive offers",
                "of `libx` there is 2",
            ],
        ),
        (
            &["cron", "postfix", "monitor"],
            &[
                "`postfix` and `monitor` cannot be installed together",
                "profiles/x.toml:3:1",
                "2 | postfix",
                "`monitor` 1 needs `mailer`",
                "`mailer` 1 needs `exim4 | sendmail`",
                "`postfix` 3 excludes `exim4` 4 (`Conflicts: mta`)",
                "leave one of them out",
            ],
        ),
    ] {
        let told = ask(&universe(&lines), texts, &[]).expect_err("no answer");
        for part in parts {
            assert!(told.contains(part), "{part} in\n{told}");
        }
    }
    let told = ask(&universe(&lines), &["postfix", "exim4", "broken", "nothing"], &[]).expect_err("no answer");
    assert_eq!(told.matches("error: ").count(), 1, "unknown names come first:\n{told}");
    let told = ask(&universe(&lines), &["postfix", "exim4", "broken"], &[]).expect_err("no answer");
    assert_eq!(told.matches("error: ").count(), 2, "then all contradictions:\n{told}");
}

#[test]
fn a_long_chain_does_not_overflow() {
    let lines: Vec<String> = (0..5000).map(|number| format!("p{number} 1;Depends: p{}", (number + 1) % 5000)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(ask(&universe(&lines), &["p0"], &[]).expect("an answer").chosen.len(), 5000);
}

/// Whether `set` (indexes into the universe) answers the wants, by the definitions of policy alone.
fn is_answer(universe: &Universe, set: &[usize], texts: &[Want]) -> bool {
    let chosen: Vec<&Package> = set.iter().map(|at| &*universe.candidates[*at].package).collect();
    let meets = |package: &Package, relation: crate::deb::relation::RelationRef<'_>| {
        let by_name = package.name == relation.name && relation.accepts(package.version.as_str());
        by_name
            || package.provides.iter().any(|provided| {
                let version = provided.version.map(|(_, version)| version);
                provided.name == relation.name
                    && (relation.version.is_none() || version.is_some_and(|version| relation.accepts(version)))
            })
    };
    let names: BTreeSet<&str> = chosen.iter().map(|package| package.name.as_str()).collect();
    let wanted =
        |want: &Want| want.relation.0.iter().any(|one| chosen.iter().any(|package| meets(package, one.as_ref())));
    let needs_met = |package: &Package| {
        let mut groups = package
            .pre_depends
            .groups()
            .map(Iterator::collect::<Vec<_>>)
            .chain(package.depends.groups().map(Iterator::collect));
        groups.all(|group| group.iter().any(|one| chosen.iter().any(|other| meets(other, *one))))
    };
    let refusals_met = |package: &Package| {
        let mut refused = package.conflicts.iter().chain(package.breaks.iter());
        refused.all(|one| !chosen.iter().any(|other| other.name != package.name && meets(other, one)))
    };
    names.len() == chosen.len()
        && texts.iter().all(wanted)
        && chosen.iter().all(|package| needs_met(package) && refusals_met(package))
}

/// Ten candidates of five names with random relations: an answer is found exactly where one of the 1024 sets is one.
#[test]
fn random_universes_are_answered_exactly_when_they_can_be() {
    let relation = || {
        ("[a-ev]", prop_oneof![Just(""), Just(" (>= 2)"), Just(" (<< 2)"), Just(" (= 1)")])
            .prop_map(|(name, version)| name + version)
    };
    let group = move || proptest::collection::vec(relation(), 1..3).prop_map(|group| group.join(" | "));
    let package = move || {
        let depends = proptest::collection::vec(group(), 0..3).prop_map(|groups| groups.join(", "));
        (
            depends,
            proptest::option::weighted(0.4, relation()),
            proptest::option::weighted(0.3, prop_oneof![Just("v"), Just("v (= 2)")]),
        )
    };
    let question = (proptest::collection::vec(package(), 10), proptest::collection::vec(group(), 1..4));
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 400, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let answered = std::cell::Cell::new(0);
    let result = runner.run(&question, |(packages, texts)| {
        let lines: Vec<String> = (0..)
            .zip(&packages)
            .map(|(at, (depends, conflicts, provides))| {
                let name = ["a", "b", "c", "d", "e"][at / 2];
                let mut line = format!("{name} {}", at % 2 + 1);
                let fields = [
                    ("Depends", Some(depends.as_str()).filter(|text| !text.is_empty())),
                    ("Conflicts", conflicts.as_deref()),
                    ("Provides", *provides),
                ];
                for (field, value) in fields {
                    line.extend(value.map(|value| format!(";{field}: {value}")));
                }
                line
            })
            .collect();
        let universe = universe(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let wants = wants(&texts);
        let sets = (0_usize..1 << 10).map(|bits| (0..10).filter(|at| bits >> at & 1 == 1).collect::<Vec<_>>());
        let possible = sets.into_iter().any(|set| is_answer(&universe, &set, &wants));
        match ask(&universe, &texts, &[]) {
            Ok(selection) => {
                let index = |chosen: &Chosen| {
                    universe
                        .candidates
                        .iter()
                        .position(|candidate| Arc::ptr_eq(&candidate.package, &chosen.candidate.package))
                };
                let set: Vec<usize> = selection.chosen.iter().filter_map(index).collect();
                prop_assert!(is_answer(&universe, &set, &wants), "{}", shown(&selection));
                answered.set(answered.get() + 1);
            }
            Err(told) => {
                prop_assert!(!possible, "{told}");
                prop_assert!(told.contains("profiles/x.toml"), "{told}");
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!((40..360).contains(&answered.get()), "both outcomes are tried: {} answers", answered.get());
}
