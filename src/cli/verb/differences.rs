//! Differences as sections of lines, and those as text, or as Markdown for a merge request.
//!
//! What a stranger's image holds reaches a terminal and a web page here: control characters are shown as escapes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::cli::output::size;
use crate::image::diff::{FileChange, FileFacts, ImageDiff, ManifestDiff, PackageChange};
use crate::lock::diff::{self as lock_diff, Change};

/// Lines of a section that Markdown shows unfolded at most.
const UNFOLDED: usize = 10;

/// Differences of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    title: String,
    lines: Vec<Line>,
    notes: Vec<String>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// `+` new, `-` gone, `~` changed.
    mark: char,
    subject: String,
    detail: String,
    origin: Option<String>,
    /// A unified diff.
    text: Option<String>,
}

impl Section {
    fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    fn line(&mut self, mark: char, subject: impl Into<String>, detail: impl Into<String>) {
        let (subject, detail) = (subject.into(), detail.into());
        self.lines.push(Line { mark, subject, detail, origin: None, text: None });
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.notes.is_empty()
    }

    /// `3 new, 1 gone, 2 changed`.
    fn counts(&self) -> String {
        let count = |mark| self.lines.iter().filter(|line| line.mark == mark).count();
        let parts = [('+', "new"), ('-', "gone"), ('~', "changed")].map(|(mark, word)| (count(mark), word));
        let told: Vec<String> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        told.join(", ")
    }
}

/// What differs between two locks.
pub fn of_locks(diff: &lock_diff::Diff) -> Vec<Section> {
    let mut sections = Vec::new();
    for layer in &diff.layers {
        let mut section = Section::new(format!("layer {}", layer.name));
        for change in &layer.changes {
            match change {
                Change::Added(package) => section.line('+', &package.name, &package.version),
                Change::Removed(package) => section.line('-', &package.name, &package.version),
                Change::Changed(before, after) if before.version == after.version => {
                    section.line('~', &after.name, format!("{} (other bytes)", after.version));
                }
                Change::Changed(before, after) => {
                    section.line('~', &after.name, arrow(&before.version, &after.version));
                }
            }
        }
        sections.push(section);
    }
    let mut suites = Section::new("Releases");
    for (name, before, after) in &diff.suites {
        let date = |date: &Option<i64>| date.map(crate::deb::date::format_rfc3339);
        match (date(before), date(after)) {
            (Some(before), Some(after)) => suites.line('~', name, arrow(&before, &after)),
            (None, after) => suites.line('+', name, after.unwrap_or_default()),
            (before, None) => suites.line('-', name, before.unwrap_or_default()),
        }
    }
    sections.push(suites);
    sections
}

/// What differs between two manifests.
pub fn of_manifests(diff: &ManifestDiff) -> Vec<Section> {
    let mut facts = Section::new("image");
    for fact in &diff.facts {
        facts.line('~', fact.name, arrow(&fact.before, &fact.after));
    }
    let mut words = Section::new("kernel command line");
    for word in &diff.words_removed {
        words.line('-', word, "");
    }
    for word in &diff.words_added {
        words.line('+', word, "");
    }
    let mut lists = Section::new("seed and state");
    for entry in &diff.lists {
        let (mark, name) = entry.split_once(' ').unwrap_or(("~", entry));
        lists.line(mark.chars().next().unwrap_or('~'), name, "");
    }
    let mut outputs = Section::new("outputs");
    for change in &diff.outputs {
        match (&change.before, &change.after) {
            (Some(before), Some(after)) => {
                let sizes = if before.size == after.size {
                    size(after.size)
                } else {
                    arrow(&size(before.size), &size(after.size))
                };
                let digests = arrow(&before.sha256.to_string()[..16], &after.sha256.to_string()[..16]);
                outputs.line('~', &change.file, format!("{sizes}, sha256 {digests}"));
            }
            (None, Some(after)) => outputs.line('+', &change.file, size(after.size)),
            (Some(before), None) => outputs.line('-', &change.file, size(before.size)),
            (None, None) => {}
        }
    }
    let mut sections = vec![facts];
    sections.extend(packages(&diff.packages));
    sections.extend([words, lists, outputs]);
    sections
}

/// What differs between two images. Files that a package's own change explains are counted, not listed.
pub fn of_images(diff: &ImageDiff) -> Vec<Section> {
    let mut sections = packages(&diff.packages);
    let changed: BTreeSet<&str> = diff.packages.iter().map(|package| package.name.as_str()).collect();
    let mut files = Section::new("files");
    let mut explained: BTreeMap<&str, usize> = BTreeMap::new();
    let mut time_alone = 0;
    for file in &diff.files {
        if file.is_time_alone() {
            time_alone += 1;
        } else if is_explained(file, &changed) {
            *explained.entry(file.origin()).or_default() += 1;
        } else {
            files.lines.push(file_line(file));
        }
    }
    if time_alone > 0 {
        files.notes.push(format!("{time_alone} more differ in their time of modification alone"));
    }
    for (origin, count) in explained {
        files.notes.push(format!("{count} more belong to {origin}, which changed"));
    }
    sections.push(files);
    sections
}

/// Whether a file differs because its package does: new, gone, or other content and nothing else to look at.
fn is_explained(file: &FileChange, changed: &BTreeSet<&str>) -> bool {
    let name = file.origin().strip_prefix("package ").and_then(|rest| rest.split(' ').next());
    let plain = file.differs.iter().all(|differs| matches!(*differs, "content" | "time" | "target"));
    let no_privilege = [&file.before, &file.after]
        .into_iter()
        .flatten()
        .all(|facts| facts.attributes.is_empty() && !facts.mode.starts_with(['4', '2', '6']));
    name.is_some_and(|name| changed.contains(name)) && plain && no_privilege && file.text.is_none()
}

fn packages(changes: &[PackageChange]) -> Vec<Section> {
    let mut layers: BTreeMap<Option<&str>, Section> = BTreeMap::new();
    for change in changes {
        let title = change.layer.as_ref().map_or("packages".to_owned(), |layer| format!("packages of layer {layer}"));
        let section = layers.entry(change.layer.as_deref()).or_insert_with(|| Section::new(title));
        match (&change.before, &change.after) {
            (Some(before), Some(after)) if before == after => {
                section.line('~', &change.name, format!("{after} (other bytes)"));
            }
            (Some(before), Some(after)) => section.line('~', &change.name, arrow(before, after)),
            (None, after) => section.line('+', &change.name, after.clone().unwrap_or_default()),
            (before, None) => section.line('-', &change.name, before.clone().unwrap_or_default()),
        }
    }
    layers.into_values().collect()
}

fn file_line(file: &FileChange) -> Line {
    let (mark, detail, origin) = match (&file.before, &file.after) {
        (Some(before), Some(after)) => {
            let origin = if before.origin == after.origin {
                after.origin.clone()
            } else {
                format!("{}; before from {}", after.origin, before.origin)
            };
            ('~', changed_facts(file, before, after), origin)
        }
        (None, Some(facts)) => ('+', new_facts(facts), facts.origin.clone()),
        (Some(facts), None) => ('-', new_facts(facts), facts.origin.clone()),
        (None, None) => ('~', String::new(), String::new()),
    };
    Line { mark, subject: file.path.clone(), detail, origin: Some(origin), text: file.text.clone() }
}

fn changed_facts(file: &FileChange, before: &FileFacts, after: &FileFacts) -> String {
    let attributes = |facts: &FileFacts| {
        let list: Vec<String> = facts.attributes.iter().map(|(name, value)| format!("{name} {value}")).collect();
        if list.is_empty() { "none".to_owned() } else { list.join(", ") }
    };
    let none = || "none".to_owned();
    let told = file.differs.iter().map(|differs| match *differs {
        "kind" => arrow(before.kind, after.kind),
        "mode" => format!("mode {}", arrow(&before.mode, &after.mode)),
        "owner" => format!(
            "owner {}",
            arrow(&format!("{}:{}", before.uid, before.gid), &format!("{}:{}", after.uid, after.gid))
        ),
        "content" => match (before.size, after.size) {
            (Some(one), Some(two)) if one != two => format!("size {one} -> {two} bytes"),
            (Some(_), Some(two)) => format!("content ({two} bytes)"),
            _ => "content".to_owned(),
        },
        "target" => format!(
            "leads to {}",
            arrow(&before.target.clone().unwrap_or_else(none), &after.target.clone().unwrap_or_else(none))
        ),
        "links" => format!(
            "other name of {}",
            arrow(&before.links_to.clone().unwrap_or_else(none), &after.links_to.clone().unwrap_or_else(none))
        ),
        "attributes" => format!("attributes {}", arrow(&attributes(before), &attributes(after))),
        _ => format!("time {}", arrow(&before.time.to_string(), &after.time.to_string())),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn new_facts(facts: &FileFacts) -> String {
    let mut text = facts.kind.to_owned();
    if !facts.mode.is_empty() {
        let _ = write!(text, " {} {}:{}", facts.mode, facts.uid, facts.gid);
    }
    if let Some(bytes) = facts.size {
        let _ = write!(text, ", {bytes} bytes");
    }
    if let Some(target) = &facts.target {
        let _ = write!(text, ", leads to {target}");
    }
    for (name, value) in &facts.attributes {
        let _ = write!(text, ", {name} {value}");
    }
    text
}

fn arrow(before: &str, after: &str) -> String {
    format!("{before} -> {after}")
}

/// Control characters as escapes; tabs and line breaks stay.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    shown
}

/// The sections as text; `(equal)` when there is nothing in them.
pub fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections.iter().filter(|section| !section.is_empty()) {
        let _ = writeln!(text, "{}", section.title);
        for line in &section.lines {
            let _ =
                writeln!(text, "  {} {}", line.mark, plain(format!("{}  {}", line.subject, line.detail).trim_end()));
            if let Some(origin) = &line.origin {
                let _ = writeln!(text, "      from {}", plain(origin));
            }
            for line in line.text.iter().flat_map(|diff| diff.lines()) {
                let _ = writeln!(text, "      {}", plain(line));
            }
        }
        for note in &section.notes {
            let _ = writeln!(text, "  {}", plain(note));
        }
    }
    if text.is_empty() { "equal\n".to_owned() } else { text }
}

/// The sections as Markdown with long ones folded; `title` is its heading.
pub fn markdown(title: &str, sections: &[Section]) -> String {
    let mut text = format!("### {title}\n\n");
    let full = || sections.iter().filter(|section| !section.is_empty());
    if full().next().is_none() {
        text.push_str("Nothing differs.\n");
        return text;
    }
    text.push_str("| what | differences |\n|---|---|\n");
    for section in full() {
        let counts = [section.counts(), section.notes.join("; ")];
        let counts: Vec<&str> = counts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let _ = writeln!(text, "| {} | {} |", cell(&section.title), cell(&counts.join("; ")));
    }
    for section in full().filter(|section| !section.lines.is_empty()) {
        let folded = section.lines.len() > UNFOLDED;
        let heading = format!("{}: {}", section.title, section.counts());
        if folded {
            let _ = writeln!(text, "\n<details><summary>{}</summary>\n", html(&heading));
        } else {
            let _ = writeln!(text, "\n**{}**\n", cell(&heading));
        }
        for line in &section.lines {
            let _ = write!(text, "- `{}` {}", line.mark, code(&line.subject));
            if !line.detail.is_empty() {
                let _ = write!(text, " {}", cell(&line.detail));
            }
            if let Some(origin) = &line.origin {
                let _ = write!(text, " *from {}*", cell(origin));
            }
            text.push('\n');
            if let Some(diff) = &line.text {
                text.push_str(&fenced(diff));
            }
        }
        if folded {
            text.push_str("\n</details>\n");
        }
    }
    text
}

/// A code span that no back quote inside can end (CommonMark, 6.1).
fn code(text: &str) -> String {
    let text = plain(text).replace('\n', " ");
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    if longest == 0 { format!("{fence}{text}{fence}") } else { format!("{fence} {text} {fence}") }
}

/// A diff in a list item, fenced by more back quotes than it holds.
fn fenced(diff: &str) -> String {
    let longest = diff.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let mut text = format!("\n  {fence}diff\n");
    for line in diff.lines() {
        let _ = writeln!(text, "  {}", plain(line));
    }
    let _ = writeln!(text, "  {fence}");
    text
}

/// Text of a table's cell or of a line: nothing in it is Markdown or HTML.
fn cell(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in plain(text).chars() {
        match character {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' => shown.extend(['\\', character]),
            '<' => shown.push_str("&lt;"),
            '&' => shown.push_str("&amp;"),
            '\n' | '\t' => shown.push(' '),
            other => shown.push(other),
        }
    }
    shown.replace(" -> ", " → ").replace(" -&gt; ", " → ")
}

fn html(text: &str) -> String {
    plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(mode: &str, origin: &str) -> FileFacts {
        FileFacts {
            kind: "file",
            mode: mode.to_owned(),
            uid: 0,
            gid: 0,
            time: 0,
            size: Some(4),
            sha256: Some("x".to_owned()),
            target: None,
            links_to: None,
            attributes: BTreeMap::new(),
            origin: origin.to_owned(),
        }
    }

    fn change(path: &str, differs: &[&'static str], origin: &str) -> FileChange {
        FileChange {
            path: path.to_owned(),
            before: Some(facts("0644", origin)),
            after: Some(facts("4755", origin)),
            differs: differs.to_vec(),
            text: None,
        }
    }

    fn package(name: &str) -> PackageChange {
        PackageChange {
            layer: None,
            name: name.to_owned(),
            architecture: "amd64".to_owned(),
            before: Some("1".to_owned()),
            after: Some("2".to_owned()),
        }
    }

    #[test]
    fn a_package_explains_its_files_but_never_a_privilege() {
        let mut content = change("/usr/share/a", &["content"], "package a 2 (layer base)");
        content.after = Some(facts("0644", "package a 2 (layer base)"));
        let diff = ImageDiff {
            packages: vec![package("a")],
            files: vec![
                content,
                change("/usr/bin/su", &["mode"], "package a 2 (layer base)"),
                change("/etc/x", &["time"], "overlays/x"),
            ],
        };
        let text = text(&of_images(&diff));
        assert!(text.contains("~ a  1 -> 2"), "{text}");
        assert!(text.contains("/usr/bin/su  mode 0644 -> 4755"), "{text}");
        assert!(!text.contains("/usr/share/a") && text.contains("1 more belong to package a 2"), "{text}");
        assert!(text.contains("1 more differ in their time"), "{text}");
    }

    #[test]
    fn hostile_names_reach_neither_terminal_nor_page() {
        let mut file = change("/a\u{1b}[2J`|<script>", &["mode"], "x");
        file.text = Some("--- a\n+```\n".to_owned());
        let sections = of_images(&ImageDiff { packages: Vec::new(), files: vec![file] });
        assert!(!text(&sections).contains('\u{1b}'));
        let page = markdown("a → b", &sections);
        assert!(page.contains("`` /a\\u{1b}[2J`|<script> ``"), "{page}");
        assert!(page.contains("````diff"), "{page}");
    }

    #[test]
    fn long_sections_are_folded() {
        let packages: Vec<PackageChange> = (0..20).map(|number| package(&format!("p{number}"))).collect();
        let page = markdown("x", &of_images(&ImageDiff { packages, files: Vec::new() }));
        assert!(page.contains("<details><summary>packages: 20 changed</summary>"), "{page}");
        assert!(page.contains("- `~` `p7` 1 → 2\n"), "{page}");
        assert!(markdown("x", &[]).contains("Nothing differs"));
    }
}
