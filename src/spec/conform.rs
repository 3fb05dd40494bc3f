//! Comparing what is written with the key table.
//!
//! Keeps what is right and reports what is not: a wrong value is left out of the tree once it has been reported, so
//! that no later check speaks of it a second time.

use std::sync::Arc;

use super::shape::{Absent, Key, Keys, Shape, Text};
use super::suggest;
use super::value::{Body, Entry, Table, Value, ports};
use crate::report::{Diagnostic, Kind, Report, Source, Span};

/// Compares values with shapes.
pub struct Checker<'check> {
    root: &'static Keys,
    source: &'check Arc<Source>,
    report: &'check mut Report,
}

impl<'check> Checker<'check> {
    /// A checker of a file whose top holds `root`.
    pub fn new(root: &'static Keys, source: &'check Arc<Source>, report: &'check mut Report) -> Self {
        Self { root, source, report }
    }

    /// What is right of a table with known keys. `place` is where it begins, `path` leads to it from the file's top.
    pub fn table(&mut self, table: Table, keys: &'static Keys, place: &Span, path: &[&str]) -> Table {
        for key in keys.keys {
            if key.absent == Absent::Required && table.entry(key.name).is_none() {
                self.missing(key, place, path);
            }
        }
        let mut checked = Table::default();
        for entry in table.entries {
            let Some(key) = keys.keys.iter().find(|key| key.name == entry.key) else {
                self.unknown(&entry, keys, path);
                continue;
            };
            let mut path = path.to_vec();
            path.push(key.name);
            match self.value(entry.value, &key.shape, &entry.key_span, &path) {
                Some(value) => checked.entries.push(Entry { value, ..entry }),
                None => checked.dropped.push(entry.key),
            }
        }
        checked
    }

    fn value(&mut self, value: Value, shape: &'static Shape, place: &Span, path: &[&str]) -> Option<Value> {
        let Value { span, body } = value;
        let body = match (shape, body) {
            (Shape::Text(kind), Body::Text(text)) => {
                if !kind.accepts(&text) {
                    self.not_of_kind(&span, *kind, path);
                    return None;
                }
                Body::Text(text)
            }
            (Shape::Choice(choices), Body::Text(text)) => {
                if !choices.contains(&text.as_str()) {
                    let mut diagnostic = Diagnostic::error(Kind::Input, format!("`{}` cannot be `{text}`", last(path)))
                        .at(&span, "not one of its values");
                    if let Some(advice) = suggest::advice(&text, choices.iter().copied()) {
                        diagnostic = diagnostic.hint(advice);
                    }
                    self.report.push(diagnostic);
                    return None;
                }
                Body::Text(text)
            }
            (Shape::Integer(least, most), Body::Integer(integer)) => {
                if !(*least..=*most).contains(&integer) {
                    self.report.push(
                        Diagnostic::error(Kind::Input, format!("`{}` has to be from {least} to {most}", last(path)))
                            .at(&span, "out of range"),
                    );
                    return None;
                }
                Body::Integer(integer)
            }
            (Shape::Ports, Body::Integer(integer)) if (1..=65535).contains(&integer) => Body::Integer(integer),
            (Shape::Ports, Body::Text(text)) if ports(&text).is_some() => Body::Text(text),
            (Shape::Ports, body @ (Body::Integer(_) | Body::Text(_))) => {
                let what =
                    if matches!(body, Body::Integer(_)) { "ports are from 1 to 65535" } else { "not a range of ports" };
                self.report.push(
                    Diagnostic::error(Kind::Input, format!("`{}` has to be {}", last(path), shape.noun()))
                        .at(&span, what),
                );
                return None;
            }
            (Shape::Boolean, body @ Body::Boolean(_)) => body,
            (Shape::Scalar, body @ (Body::Text(_) | Body::Integer(_) | Body::Boolean(_))) => body,
            (Shape::List(item, least, most), Body::List(items)) => {
                if !(*least..=*most).contains(&items.len()) {
                    let wanted = match (least, most) {
                        (least, most) if least == most => format!("exactly {least} items"),
                        (1, _) if items.is_empty() => "at least one item".to_owned(),
                        _ => format!("{least} to {most} items"),
                    };
                    self.report.push(
                        Diagnostic::error(Kind::Input, format!("`{}` has to have {wanted}", last(path)))
                            .at(&span, format!("this has {}", items.len())),
                    );
                    return None;
                }
                let items = items.into_iter().filter_map(|value| {
                    let place = value.span.clone();
                    self.value(value, item, &place, path)
                });
                Body::List(items.collect())
            }
            (Shape::Table(keys), Body::Table(table)) => Body::Table(self.table(table, keys, place, path)),
            (Shape::Map(kind, shape), Body::Table(table)) => Body::Table(self.map(table, *kind, shape, path)),
            (shape, body) => {
                self.wrong_type(&span, &body, shape, path);
                return None;
            }
        };
        Some(Value { span, body })
    }

    fn map(&mut self, table: Table, kind: Text, shape: &'static Shape, path: &[&str]) -> Table {
        let mut checked = Table::default();
        for entry in table.entries {
            if !kind.accepts(&entry.key) {
                let message = format!("`{}` is not a name for `[{}]`", entry.key, path.join("."));
                self.report.push(
                    Diagnostic::error(Kind::Input, message).at(&entry.key_span, format!("has to be {}", kind.noun())),
                );
                checked.dropped.push(entry.key);
                continue;
            }
            let quoted = quoted(&entry.key);
            let mut path = path.to_vec();
            path.push(&quoted);
            match self.value(entry.value, shape, &entry.key_span, &path) {
                Some(value) => checked.entries.push(Entry { value, ..entry }),
                None => checked.dropped.push(entry.key),
            }
        }
        checked
    }

    fn unknown(&mut self, entry: &Entry, keys: &'static Keys, path: &[&str]) {
        let place = if path.is_empty() { format!("`{}`", self.source.path) } else { format!("`[{}]`", path.join(".")) };
        let mut diagnostic = Diagnostic::error(Kind::Input, format!("unknown key `{}` in {place}", entry.key))
            .at(&entry.key_span, "no such key");
        let home = if path.is_empty() { home_of(&entry.key, self.root) } else { None };
        if !path.is_empty() && self.root.keys.iter().any(|key| key.name == entry.key) {
            diagnostic = diagnostic.hint(format!(
                "`{}` belongs to the {} itself: write it above the first `[…]` line",
                entry.key, self.root.name
            ));
        } else if let Some(home) = home {
            diagnostic = diagnostic.hint(format!("`{}` is a key of `[{home}]`", entry.key));
        } else if let Some(advice) = suggest::advice(&entry.key, keys.keys.iter().map(|key| key.name)) {
            diagnostic = diagnostic.hint(advice);
        }
        self.report.push(diagnostic);
    }

    fn missing(&mut self, key: &Key, place: &Span, path: &[&str]) {
        let (table, label) = if path.is_empty() {
            (format!("`{}`", self.source.path), format!("`{}` has to be written at the top", key.name))
        } else {
            (format!("`[{}]`", path.join(".")), format!("`{}` has to be written here", key.name))
        };
        let diagnostic = Diagnostic::error(Kind::Input, format!("{table} has no `{}`", key.name)).at(place, label);
        self.report.push(diagnostic.note(format!("`{}`: {}", key.name, key.doc)));
    }

    fn not_of_kind(&mut self, span: &Span, kind: Text, path: &[&str]) {
        self.report.push(
            Diagnostic::error(Kind::Input, format!("`{}` is not well-formed", last(path)))
                .at(span, format!("has to be {}", kind.noun())),
        );
    }

    fn wrong_type(&mut self, span: &Span, body: &Body, shape: &Shape, path: &[&str]) {
        let name = last(path);
        let mut diagnostic = Diagnostic::error(Kind::Input, format!("`{name}` has to be {}", shape.noun()))
            .at(span, format!("this is {}", body.noun()));
        match (shape, body) {
            (Shape::Integer(..), Body::Text(text)) if text.parse::<i64>().is_ok() => {
                diagnostic = diagnostic.hint(format!("write it without quotes: `{name} = {text}`"));
            }
            (Shape::Boolean, Body::Text(text)) if text == "true" || text == "false" => {
                diagnostic = diagnostic.hint(format!("write it without quotes: `{name} = {text}`"));
            }
            (Shape::Text(Text::Mode), Body::Integer(_)) => {
                diagnostic = diagnostic.hint(format!("a mode is written in octal and in quotes: `{name} = \"0640\"`"));
            }
            (Shape::Text(_), Body::Integer(integer)) => {
                diagnostic = diagnostic.hint(format!("write it in quotes: `{name} = \"{integer}\"`"));
            }
            (Shape::List(Shape::Text(_) | Shape::Choice(_), ..), Body::Text(text)) => {
                diagnostic =
                    diagnostic.hint(format!("write a list: `{name} = [{}]`", toml::Value::from(text.as_str())));
            }
            (Shape::List(Shape::Table(_), ..), Body::Table(_)) => {
                diagnostic = diagnostic.hint(format!("write it with two brackets: `[[{name}]]`"));
            }
            (Shape::Scalar, Body::Table(table)) => {
                if let Some(inner) = table.entries.first() {
                    diagnostic = diagnostic
                        .note("a dot without quotes makes a table")
                        .hint(format!("write the option's name in quotes: `\"{name}.{}\" = …`", inner.key));
                }
            }
            _ => {}
        }
        self.report.push(diagnostic);
    }
}

/// The table of `keys` that knows `key`, when only one does.
fn home_of(key: &str, keys: &'static Keys) -> Option<&'static str> {
    let mut homes = keys.keys.iter().filter(|outer| match &outer.shape {
        Shape::Table(inner) => inner.keys.iter().any(|inner| inner.name == key),
        _ => false,
    });
    let home = homes.next()?;
    homes.next().is_none().then_some(home.name)
}

fn last<'path>(path: &[&'path str]) -> &'path str {
    path.last().copied().unwrap_or_default()
}

/// A key as TOML wants it.
fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { key.to_owned() } else { toml::Value::from(key).to_string() }
}
