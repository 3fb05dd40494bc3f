//! Names in templates: every `option.a.b` or `node.address` that a template mentions, whatever branch it stands in.
//!
//! Rendering finds a wrong name only where it passes, and only the first. This reads the tags without running them
//! and compares each dotted name with facts, so that all wrong names of all branches are told at once. It says
//! nothing where it cannot be sure: about names that a loop or `set` binds, and about what follows a `[`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use super::facts::Facts;
use super::suggest;
use crate::report::{Diagnostic, Kind, Source, Span};

/// A dotted name in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// Its words with their places.
    pub words: Vec<(String, Range<usize>)>,
    /// Where it stands.
    pub range: Range<usize>,
}

impl Mention {
    /// Where the first word stands.
    pub fn root_range(&self) -> Range<usize> {
        self.words.first().map_or_else(|| self.range.clone(), |(_, range)| range.clone())
    }

    /// The first word.
    pub fn root(&self) -> &str {
        self.words.first().map_or("", |(word, _)| word.as_str())
    }
}

/// All dotted names inside the tags of a template, except those whose first word the template itself binds.
pub fn mentions(text: &str) -> Vec<Mention> {
    let mut scanner = Scanner { text, at: 0, mentions: Vec::new(), bound: BTreeSet::new() };
    scanner.run();
    let Scanner { mentions, bound, .. } = scanner;
    mentions.into_iter().filter(|mention| !bound.contains(mention.root())).collect()
}

/// Mistakes in the dotted names of a template, compared with facts of the right shape.
pub fn check(source: &Arc<Source>, facts: &Facts) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for mention in mentions(&source.text) {
        let Some(mut value) = facts.variables().get(mention.root()) else { continue };
        for (index, (word, range)) in mention.words.iter().enumerate().skip(1) {
            let span = Span::new(source, range.clone());
            match value {
                Value::Object(fields) => match fields.get(word) {
                    Some(inner) => value = inner,
                    None => {
                        let message = unknown(&mention.words, index);
                        diagnostics.push(no_field(message, word, fields.keys().map(String::as_str), &span));
                        break;
                    }
                },
                // A list has to be walked or indexed, and an absent value (`cluster.gateway`) has no fields to know.
                Value::Array(_) | Value::Null => break,
                Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                    let message = unknown(&mention.words, index);
                    diagnostics.push(
                        Diagnostic::error(Kind::Input, message)
                            .at(&span, "unknown")
                            .note("it is a plain value, without fields"),
                    );
                    break;
                }
            }
        }
    }
    diagnostics
}

/// What is wrong with the word at `index` of a dotted name.
fn unknown(words: &[(String, Range<usize>)], index: usize) -> String {
    let dotted =
        |words: &[(String, Range<usize>)]| words.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join(".");
    match words[0].0.as_str() {
        "option" => format!("no profile declares an option `{}`", dotted(&words[1..])),
        "secret" => format!("there is no secret `{}`", words[index].0),
        _ => format!("`{}` has no field `{}`", dotted(&words[..index]), words[index].0),
    }
}

/// A field that is not there.
pub fn no_field<'names>(
    message: String,
    field: &str,
    known: impl Iterator<Item = &'names str>,
    span: &Span,
) -> Diagnostic {
    let known: Vec<&str> = known.collect();
    let diagnostic = Diagnostic::error(Kind::Input, message).at(span, "unknown");
    match suggest::advice(field, known.iter().copied()) {
        Some(advice) => diagnostic.hint(advice),
        None => diagnostic,
    }
}

struct Scanner<'text> {
    text: &'text str,
    at: usize,
    mentions: Vec<Mention>,
    bound: BTreeSet<String>,
}

impl Scanner<'_> {
    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.at.min(self.text.len())..]
    }

    fn run(&mut self) {
        while let Some(open) = self.text[self.at..].find('{') {
            self.at += open;
            let tag = self.rest();
            if tag.starts_with(b"{#") {
                self.skip_past("#}");
            } else if tag.starts_with(b"{%") {
                self.at += 2;
                if self.tag("%}") == Some("raw") {
                    self.skip_raw();
                }
            } else if tag.starts_with(b"{{") {
                self.at += 2;
                self.tag("}}");
            } else {
                self.at += 1;
            }
        }
    }

    fn skip_past(&mut self, end: &str) {
        self.at = self.text[self.at..].find(end).map_or(self.text.len(), |found| self.at + found + end.len());
    }

    /// Skips to the `endraw` tag.
    fn skip_raw(&mut self) {
        while self.at < self.text.len() {
            let Some(open) = self.text[self.at..].find("{%") else {
                self.at = self.text.len();
                return;
            };
            self.at += open + 2;
            let inside = self.text[self.at..].trim_start_matches(['-', ' ', '\t', '\n', '\r']);
            if inside.starts_with("endraw") {
                self.skip_past("%}");
                return;
            }
        }
    }

    /// Reads one tag up to `end`; returns its keyword, the first word.
    fn tag(&mut self, end: &str) -> Option<&'static str> {
        let mut words = 0;
        let mut keyword = None;
        let mut binding = false;
        while let Some(&byte) = self.rest().first() {
            if self.rest().starts_with(end.as_bytes()) {
                self.at += end.len();
                return keyword;
            }
            match byte {
                b'"' | b'\'' | b'`' => {
                    self.at += 1;
                    while let Some(&inner) = self.rest().first() {
                        self.at += if inner == b'\\' { 2 } else { 1 };
                        if inner == byte {
                            break;
                        }
                    }
                    self.at = self.at.min(self.text.len());
                }
                b'.' => {
                    // What follows `x[0].` or `f().` is a field of something unknown.
                    self.at += 1;
                    self.word();
                }
                _ if is_word(byte) => {
                    let start = self.at;
                    let name = self.name();
                    words += 1;
                    let first = name.first().map(|(word, _)| word.clone()).unwrap_or_default();
                    if words == 1 && end == "%}" {
                        keyword =
                            ["raw", "for", "set", "set_global", "component"].into_iter().find(|known| *known == first);
                        binding = matches!(keyword, Some("for" | "set" | "set_global"));
                        continue;
                    }
                    if first == "in" {
                        binding = false;
                    } else if binding {
                        self.bound.insert(first);
                        binding = keyword == Some("for");
                    } else if !byte.is_ascii_digit() && !self.is_argument_or_call() {
                        self.mentions.push(Mention { words: name, range: start..self.at });
                    }
                }
                _ => self.at += 1,
            }
            // A multi-byte character is stepped over whole.
            while !self.text.is_char_boundary(self.at) {
                self.at += 1;
            }
        }
        keyword
    }

    /// Whether what was just read is a keyword argument (`end=3`) or a function (`range(…)`).
    fn is_argument_or_call(&self) -> bool {
        let rest = self.text[self.at..].trim_start().as_bytes();
        rest.starts_with(b"(") || (rest.starts_with(b"=") && !rest.starts_with(b"=="))
    }

    /// Reads `a.b.c`; stops before a `[` or `(`.
    fn name(&mut self) -> Vec<(String, Range<usize>)> {
        let mut words = vec![self.word()];
        loop {
            let rest = self.rest();
            let dot = if rest.starts_with(b"?.") { 2 } else { usize::from(rest.starts_with(b".")) };
            if dot == 0 || !rest.get(dot).copied().is_some_and(is_word) {
                return words;
            }
            self.at += dot;
            words.push(self.word());
        }
    }

    fn word(&mut self) -> (String, Range<usize>) {
        let start = self.at;
        self.at += self.rest().iter().take_while(|byte| is_word(**byte)).count();
        (self.text[start..self.at].to_owned(), start..self.at)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_every_branch_and_nowhere_else() {
        let table: &[(&str, &[&str])] = &[
            ("plain node.x {# node.y #}", &[]),
            (
                "{{ node.address }}:{{ option.maas.port | default(value=cluster.vip) }}",
                &["node.address", "option.maas.port", "cluster.vip"],
            ),
            ("{% if a.b and not c.d %}x{% elif e.f == \"g.h\" %}{% endif %}", &["a.b", "and", "not", "c.d", "e.f"]),
            ("{% for node in cluster.nodes %}{{ node.name }}{% endfor %}", &["cluster.nodes"]),
            ("{% for key, value in role.map %}{{ key.a }}{{ value.b }}{% endfor %}", &["role.map"]),
            ("{% set x = node.a %}{{ x.y }}", &["node.a"]),
            ("{% raw %}{{ node.a }}{% endraw %}{{ node.b }}", &["node.b"]),
            ("{{ cluster.nodes[0].name }}{{ range(end=role.n) }}", &["cluster.nodes", "role.n"]),
            ("{{ \"é\" ~ node.é }}{{ 1.5 }}{", &["node"]),
        ];
        for (text, expected) in table {
            let found: Vec<_> = mentions(text).into_iter().map(|mention| text[mention.range].to_owned()).collect();
            assert_eq!(&found, expected, "{text}");
        }
    }

    #[test]
    fn broken_tags_end_the_scan() {
        for text in ["{{", "{%", "{{ a.", "{{ \"", "{{ '\\", "{% raw %}", "{#", "{{ a.b ", "{% for", "{{ é"] {
            let _ = mentions(text);
        }
    }
}
