//! A TOML file as a tree of values with their places.
//!
//! What the tree holds has been compared with the key table ([`super::conform`]), so that who takes a value from it
//! need not ask whether it is well-formed.

use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::conform::Checker;
use super::model::Written;
use super::shape::Keys;
use crate::report::{Diagnostic, Kind, Report, Source, Span};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Value {
    /// Where.
    pub span: Span,
    /// What.
    pub body: Body,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Body {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
    /// A list.
    List(Vec<Value>),
    /// A table.
    Table(Table),
    /// What no key takes: a number that is not whole or too big, a date.
    Other(&'static str),
}

/// A table: entries in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Keys that were written wrongly, and so are reported and left out.
    pub dropped: Vec<String>,
}

/// One entry of a table.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its key, unquoted.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Its value.
    pub value: Value,
}

/// Reads a file that holds `keys`. What is wrong goes into `report`; `None` when the text is not TOML at all.
pub fn read(source: &Arc<Source>, keys: &'static Keys, report: &mut Report) -> Option<Table> {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    if !errors.is_empty() {
        // A table written twice has all its keys twice as well, and one broken line makes the recovering parser
        // stumble again soon after: the first few say it all.
        let mut repeated = false;
        let errors = errors.iter().filter(|error| {
            let again = error.message() == "duplicate key";
            !(again && std::mem::replace(&mut repeated, again))
        });
        for error in errors.take(3) {
            let end = source.text.len();
            let span = Span::new(source, error.span().unwrap_or(end..end));
            report.push(
                Diagnostic::error(Kind::Input, format!("`{}` is not valid TOML", source.path))
                    .at(&span, error.message()),
            );
        }
        return None;
    }
    let table = table_of(source, document.get_ref());
    let top = Span::new(source, 0..0);
    Some(Checker::new(keys, source, report).table(table, keys, &top, &[]))
}

fn table_of(source: &Arc<Source>, table: &DeTable<'_>) -> Table {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_span: Span::new(source, key.span()),
            value: value_of(source, value),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span.range.start);
    Table { entries, dropped: Vec::new() }
}

fn value_of(source: &Arc<Source>, value: &toml::Spanned<DeValue<'_>>) -> Value {
    let body = match value.get_ref() {
        DeValue::String(text) => Body::Text(text.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Body::Other("a number beyond 64 bits"), Body::Integer),
        DeValue::Boolean(boolean) => Body::Boolean(*boolean),
        DeValue::Array(array) => Body::List(array.iter().map(|item| value_of(source, item)).collect()),
        DeValue::Table(table) => Body::Table(table_of(source, table)),
        DeValue::Float(_) => Body::Other("a number with a fraction"),
        DeValue::Datetime(_) => Body::Other("a date or time"),
    };
    Value { span: Span::new(source, value.span()), body }
}

impl Body {
    /// What it is, for messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "a truth value",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(noun) => noun,
        }
    }
}

impl Table {
    /// The entry of `key`.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The text of `key`.
    pub fn text(&self, key: &str) -> Option<Written<String>> {
        self.entry(key).and_then(|entry| entry.value.text())
    }

    /// The texts of the list `key`; none when it is not written.
    pub fn texts(&self, key: &str) -> Vec<Written<String>> {
        self.list(key).iter().filter_map(Value::text).collect()
    }

    /// The whole number of `key`.
    pub fn integer(&self, key: &str) -> Option<Written<i64>> {
        let value = &self.entry(key)?.value;
        match value.body {
            Body::Integer(integer) => Some(Written { value: integer, span: value.span.clone() }),
            _ => None,
        }
    }

    /// The truth value of `key`.
    pub fn boolean(&self, key: &str) -> Option<Written<bool>> {
        let value = &self.entry(key)?.value;
        match value.body {
            Body::Boolean(boolean) => Some(Written { value: boolean, span: value.span.clone() }),
            _ => None,
        }
    }

    /// The items of the list `key`; none when it is not written.
    pub fn list(&self, key: &str) -> &[Value] {
        match self.entry(key).map(|entry| &entry.value.body) {
            Some(Body::List(items)) => items,
            _ => &[],
        }
    }

    /// The table `key`.
    pub fn table(&self, key: &str) -> Option<&Table> {
        self.entry(key).and_then(|entry| entry.value.table())
    }

    /// The entries of the table `key` that are tables themselves; none when it is not written.
    pub fn tables(&self, key: &str) -> impl Iterator<Item = (&Entry, &Table)> {
        let entries = self.table(key).map_or(&[][..], |table| &table.entries);
        entries.iter().filter_map(|entry| entry.value.table().map(|table| (entry, table)))
    }
}

impl Value {
    /// Its text.
    pub fn text(&self) -> Option<Written<String>> {
        match &self.body {
            Body::Text(text) => Some(Written { value: text.clone(), span: self.span.clone() }),
            _ => None,
        }
    }

    /// Its table.
    pub fn table(&self) -> Option<&Table> {
        match &self.body {
            Body::Table(table) => Some(table),
            _ => None,
        }
    }
}

/// First and last port of a text `FIRST-LAST`, or `PORT`.
pub fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}
