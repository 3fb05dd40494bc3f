//! A lock as text: canonical, so that one lock has one text, and with one package a line, so that a review sees what
//! changed and nothing else.

use std::fmt::Write as _;

use super::{FORMAT, Lock, LockedArchive, LockedLayer, LockedPackage};
use crate::deb::date::format_rfc3339;

/// The text of a lock: TOML, UTF-8, ends with a line break.
pub fn write(lock: &Lock) -> String {
    let mut text = String::from(
        "# What `rolecast build` puts into the images, byte for byte. `rolecast lock` writes it: review it, do not edit it.\n",
    );
    line(&mut text, &format!("format = {FORMAT}"));
    line(&mut text, &format!("spec = \"{}\"", lock.spec));
    line(&mut text, &format!("distribution = {}", quote(&lock.distribution)));
    for archive in &lock.archives {
        write_archive(&mut text, archive);
    }
    for layer in &lock.layers {
        write_layer(&mut text, layer);
    }
    text
}

fn write_archive(text: &mut String, archive: &LockedArchive) {
    line(text, "\n[[archive]]");
    line(text, &format!("name = {}", quote(&archive.name)));
    for suite in &archive.suites {
        line(text, "\n[[archive.suite]]");
        line(text, &format!("name = {}", quote(&suite.name)));
        line(text, &format!("date = \"{}\"", format_rfc3339(suite.date)));
        line(text, &format!("release = \"{}\"", suite.release));
        let signers: Vec<String> = suite.signed_by.iter().map(|signer| quote(signer)).collect();
        line(text, &format!("signed-by = [{}]", signers.join(", ")));
    }
}

fn write_layer(text: &mut String, layer: &LockedLayer) {
    line(text, "\n[[layer]]");
    line(text, &format!("name = {}", quote(&layer.name)));
    line(text, &format!("recommends = {}", layer.recommends));
    write_list(text, "wants", layer.wants.iter().map(|want| quote(want)));
    write_list(text, "packages", layer.packages.iter().map(package));
}

fn write_list(text: &mut String, name: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.map(|item| format!("    {item},\n")).collect();
    let start = if items.is_empty() { "" } else { "\n" };
    line(text, &format!("{name} = [{start}{}]", items.concat()));
}

fn package(package: &LockedPackage) -> String {
    let LockedPackage { name, version, architecture, archive, size, sha256, path } = package;
    let [name, version, architecture, archive, path] =
        [name, version, architecture, archive, path].map(|text| quote(text));
    format!(
        "{{ name = {name}, version = {version}, architecture = {architecture}, archive = {archive}, size = {size}, \
         sha256 = \"{sha256}\", path = {path} }}"
    )
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
