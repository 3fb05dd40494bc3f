//! The canonical text: TOML, one package a line, so that a change is one line of a review.

use std::fmt::Write as _;

use super::{FORMAT, Lock, LockedPackage};

/// The lock's text. Two equal locks have the same bytes.
pub fn write(lock: &Lock) -> String {
    let mut text = String::new();
    text.push_str("# Written by `rolecast lock`; any mirror serves the same bytes or is refused.\n");
    let _ = writeln!(text, "format = {FORMAT}");
    let _ = writeln!(text, "spec = \"{}\"", lock.spec);
    let _ = writeln!(text, "distribution = {}", quoted(&lock.distribution));
    for archive in &lock.archives {
        for suite in &archive.suites {
            let _ = writeln!(text, "\n[[release]]");
            let _ = writeln!(text, "archive = {}", quoted(&archive.name));
            let _ = writeln!(text, "suite = {}", quoted(&suite.name));
            let _ = writeln!(text, "sha256 = \"{}\"", suite.release);
            let _ = writeln!(text, "date = {}", suite.date);
            let signers: Vec<String> = suite.signed_by.iter().map(|signer| quoted(signer)).collect();
            let _ = writeln!(text, "signed-by = [{}]", signers.join(", "));
        }
    }
    for layer in &lock.layers {
        let _ = writeln!(text, "\n[[layer]]");
        let _ = writeln!(text, "name = {}", quoted(&layer.name));
        if layer.packages.is_empty() {
            text.push_str("packages = []\n");
            continue;
        }
        text.push_str("packages = [\n");
        for package in &layer.packages {
            let _ = writeln!(text, "  {{ {} }},", line(package));
        }
        text.push_str("]\n");
    }
    text
}

fn line(package: &LockedPackage) -> String {
    let LockedPackage { name, version, architecture, archive, size, sha256, path } = package;
    format!(
        "name = {}, version = {}, architecture = {}, archive = {}, size = {size}, sha256 = \"{sha256}\", path = {}",
        quoted(name),
        quoted(version),
        quoted(architecture),
        quoted(archive),
        quoted(path)
    )
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
