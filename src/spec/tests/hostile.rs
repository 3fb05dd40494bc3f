//! Texts that nobody means well with: read to the end, in bounded time, without a panic.

use proptest::prelude::*;

use super::project::Project;
use crate::report::{Style, render, render_json};
use crate::spec::read_text;

/// Pieces that steer random texts into the corners of TOML and Tera.
const PIECES: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "=",
    ".",
    ",",
    "\"",
    "'",
    "\"\"\"",
    "\n",
    " ",
    "#",
    "\\",
    "version",
    "distribution",
    "role",
    "node",
    "cluster",
    "dhcp",
    "option",
    "when",
    "before.user",
    "port",
    "state",
    "secret",
    "for x in ",
    "endfor",
    "if ",
    "endif",
    "set x = ",
    "raw",
    "endraw",
    "range(end=9)",
    "|",
    "?.",
    "[0]",
    "0x",
    "1e9",
    "true",
    "\"a\"",
    "[\"a\"]",
    "{ a = 1 }",
    "é",
    "\u{0}",
    "\u{feff}",
    "99999999999999999999",
    "2026-11-24",
    "\"/\"",
    "a=b & c!=d",
];

fn told(text: &str) {
    let report = read_text(text);
    // What is told can be shown, whatever the places point at.
    let _ = render(&report, Style::Plain);
    let _ = render_json(&report);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces_are_read(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        told(&pieces.concat());
    }

    #[test]
    fn any_text_is_read(text in any::<String>()) {
        told(&text);
    }

    #[test]
    fn any_damage_to_a_sound_file_is_read(at in any::<prop::sample::Index>(), piece in prop::sample::select(PIECES)) {
        for path in ["images/lab.toml", "profiles/base.toml", "profiles/region.toml"] {
            let text = Project::new().text(path);
            let mut at = at.index(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            let damaged = format!("{}{piece}{}", &text[..at], &text[at..]);
            let _ = Project::new().with(path, &damaged).messages();
        }
    }
}

#[test]
fn nesting_and_length_are_bounded() {
    for text in [
        "a = ".to_owned() + &"[".repeat(100_000),
        "a = ".to_owned() + &"{a=".repeat(100_000),
        "a.".repeat(100_000) + "a = 1",
        "[a".to_owned() + &".a".repeat(100_000) + "]",
        "{{ ".to_owned() + &"(".repeat(100_000),
        "{% if a %}".repeat(10_000),
        "{{ a".to_owned() + &".a".repeat(100_000) + " }}",
        "{{ a".to_owned() + &" + a".repeat(100_000) + " }}",
        "x = 1\n".repeat(100_000),
    ] {
        told(&text);
    }
}
