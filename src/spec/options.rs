//! Options: what profiles declare, what an image file sets, and conditions over both.

use std::collections::BTreeMap;

use super::model::{OptionValue, Written};
use super::suggest;
use super::value::{Body, Entry, Table, Value};
use crate::report::{Diagnostic, Kind, Report, Span};

/// A declared option.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Its type.
    pub kind: OptionKind,
    /// Its value where the image file gives none.
    pub default: Option<OptionValue>,
    /// What it decides.
    pub doc: String,
    /// Where its name is written.
    pub span: Span,
}

/// Type of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// One of these texts.
    Choice(Vec<String>),
    /// A truth value.
    Boolean,
    /// A whole number.
    Integer,
    /// A text.
    Text,
}

/// Declared options by name.
pub type Declarations = BTreeMap<String, Declaration>;

impl OptionKind {
    /// What a person is told to write.
    fn noun(&self) -> &'static str {
        match self {
            Self::Choice(_) => "one of its choices, a text",
            Self::Boolean => "`true` or `false`",
            Self::Integer => "a whole number",
            Self::Text => "a text",
        }
    }
}

impl Declaration {
    /// The value, when it is of this option's type.
    fn take(&self, name: &str, value: &Value) -> Result<OptionValue, Diagnostic> {
        match (&self.kind, &value.body) {
            (OptionKind::Boolean, Body::Boolean(boolean)) => Ok(OptionValue::Boolean(*boolean)),
            (OptionKind::Integer, Body::Integer(integer)) => Ok(OptionValue::Integer(*integer)),
            (OptionKind::Text, Body::Text(text)) => Ok(OptionValue::Text(text.clone())),
            (OptionKind::Choice(choices), Body::Text(text)) if choices.contains(text) => {
                Ok(OptionValue::Text(text.clone()))
            }
            (OptionKind::Choice(choices), Body::Text(text)) => {
                let diagnostic = Diagnostic::error(Kind::Input, format!("option `{name}` cannot be `{text}`"))
                    .at(&value.span, "not one of its choices")
                    .at(&self.span, "declared here");
                Err(match suggest::advice(text, choices.iter().map(String::as_str)) {
                    Some(advice) => diagnostic.hint(advice),
                    None => diagnostic,
                })
            }
            (kind, body) => Err(Diagnostic::error(Kind::Input, format!("option `{name}` has to be {}", kind.noun()))
                .at(&value.span, format!("this is {}", body.noun()))
                .at(&self.span, "declared here")),
        }
    }
}

/// Reads the `option` tables of one file into `declarations`. False when one is too broken to be kept.
pub fn declare(table: &Table, declarations: &mut Declarations, report: &mut Report) -> bool {
    let mut whole = !table.dropped.iter().any(|key| key == "option");
    whole &= table.table("option").is_none_or(|options| options.dropped.is_empty());
    for (entry, option) in table.tables("option") {
        match declaration(entry, option, report) {
            Some(declaration) => insert(&entry.key, declaration, declarations, report),
            None => whole = false,
        }
    }
    whole
}

fn declaration(entry: &Entry, option: &Table, report: &mut Report) -> Option<Declaration> {
    let name = &entry.key;
    let kind = option.text("type")?;
    let values = option.entry("values");
    if let (other, Some(values)) = (kind.value.as_str(), values)
        && other != "choice"
    {
        report.push(
            Diagnostic::error(Kind::Input, format!("option `{name}` has `values` but is not a choice"))
                .at(&values.key_span, "only a choice has values")
                .at(&kind.span, format!("`{other}` is its type")),
        );
    }
    let kind = match (kind.value.as_str(), values) {
        ("choice", Some(_)) => OptionKind::Choice(option.texts("values").into_iter().map(|text| text.value).collect()),
        ("choice", None) => {
            report.push(
                Diagnostic::error(Kind::Input, format!("option `{name}` is a choice without values"))
                    .at(&kind.span, "a choice")
                    .hint("list them: `values = [\"…\", \"…\"]`"),
            );
            OptionKind::Text
        }
        ("boolean", _) => OptionKind::Boolean,
        ("integer", _) => OptionKind::Integer,
        _ => OptionKind::Text,
    };
    let doc = option.text("doc").map(|doc| doc.value).unwrap_or_default();
    let mut declaration = Declaration { kind, default: None, doc, span: entry.key_span.clone() };
    if let Some(default) = option.entry("default") {
        match declaration.take(name, &default.value) {
            Ok(value) => declaration.default = Some(value),
            Err(diagnostic) => {
                report.push(diagnostic.note("this is the option's default"));
                // Some default it has: that it has none is not to be said as well.
                declaration.default = stand_in(&declaration);
            }
        }
    }
    Some(declaration)
}

fn insert(name: &str, declaration: Declaration, declarations: &mut Declarations, report: &mut Report) {
    if let Some(other) = declarations.get(name) {
        report.push(
            Diagnostic::error(Kind::Input, format!("option `{name}` is declared twice"))
                .at(&declaration.span, "declared again")
                .at(&other.span, "declared first")
                .hint("declare it once, in the lowest layer that all its users extend, or in a file that they include"),
        );
        return;
    }
    // Templates see `option.a.b` as a field of `option.a`, so no name may be the beginning of another.
    let inner = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    if let Some((other_name, other)) = declarations.iter().find(|(other, _)| inner(other, name) || inner(name, other)) {
        report.push(
            Diagnostic::error(Kind::Input, format!("options `{name}` and `{other_name}` cannot both exist"))
                .at(&declaration.span, "declared here")
                .at(&other.span, "and here")
                .note("templates read the one as a field of the other"),
        );
        return;
    }
    declarations.insert(name.to_owned(), declaration);
}

/// The value of every declared option: the image file's, else its default.
///
/// `complete` says whether all profiles could be read: without them an option may only seem undeclared.
pub fn settle(
    image: &Table,
    declarations: &Declarations,
    complete: bool,
    place: &Span,
    report: &mut Report,
) -> BTreeMap<String, OptionValue> {
    let mut values = BTreeMap::new();
    let written = image.table("options").map_or(&[][..], |table| &table.entries);
    for entry in written {
        match declarations.get(&entry.key) {
            Some(declaration) => match declaration.take(&entry.key, &entry.value) {
                Ok(value) => {
                    values.insert(entry.key.clone(), value);
                }
                Err(diagnostic) => {
                    report.push(diagnostic);
                    // Go on with the default, so that nothing else is said about it.
                    let default = declaration.default.clone().or_else(|| stand_in(declaration));
                    values.extend(default.map(|value| (entry.key.clone(), value)));
                }
            },
            None if complete => report.push(undeclared(&entry.key, &entry.key_span, declarations)),
            None => {}
        }
    }
    for (name, declaration) in declarations {
        if values.contains_key(name) {
            continue;
        }
        let value = declaration.default.clone().or_else(|| {
            report.push(
                Diagnostic::error(Kind::Input, format!("option `{name}` has no value"))
                    .at(place, "this image file does not set it")
                    .at(&declaration.span, "declared here, without a default")
                    .hint(format!("add `\"{name}\" = …` under `[options]`: {}", declaration.kind.noun())),
            );
            stand_in(declaration)
        });
        values.extend(value.map(|value| (name.clone(), value)));
    }
    values
}

/// Some value of the right type, for going on after an error.
fn stand_in(declaration: &Declaration) -> Option<OptionValue> {
    Some(match &declaration.kind {
        OptionKind::Choice(values) => OptionValue::Text(values.first()?.clone()),
        OptionKind::Boolean => OptionValue::Boolean(false),
        OptionKind::Integer => OptionValue::Integer(0),
        OptionKind::Text => OptionValue::Text(String::new()),
    })
}

fn undeclared(name: &str, span: &Span, declarations: &Declarations) -> Diagnostic {
    let diagnostic =
        Diagnostic::error(Kind::Input, format!("no profile declares an option `{name}`")).at(span, "unknown option");
    match suggest::advice(name, declarations.keys().map(String::as_str)) {
        Some(advice) => diagnostic.hint(advice),
        None => diagnostic.hint(format!("a profile declares it with `[option.\"{name}\"]`")),
    }
}

/// One comparison of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The option's name.
    pub name: String,
    /// `!=` instead of `=`.
    pub differs: bool,
    /// The value as written.
    pub value: String,
}

/// A condition of a `when` section: all comparisons have to hold.
#[derive(Clone, Debug)]
pub struct Condition(pub Written<Vec<Comparison>>);

impl Condition {
    /// Reads the key of a `when` section.
    ///
    /// # Errors
    /// When it is not made of comparisons.
    pub fn read(entry: &Entry) -> Result<Self, Diagnostic> {
        let mut comparisons = Vec::new();
        for part in entry.key.split('&') {
            let part = part.trim();
            let split = part.split_once("!=").map(|(name, value)| (name, true, value));
            let split = split.or_else(|| part.split_once('=').map(|(name, value)| (name, false, value)));
            match split {
                Some((name, differs, value)) if !name.trim().is_empty() && !value.contains('=') => {
                    let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
                    comparisons.push(Comparison { name, differs, value });
                }
                _ => {
                    return Err(Diagnostic::error(Kind::Input, format!("`{}` is not a condition", entry.key))
                        .at(&entry.key_span, format!("`{part}` compares nothing"))
                        .hint("write `option=value` or `option!=value`; join several by ` & `"));
                }
            }
        }
        Ok(Self(Written { value: comparisons, span: entry.key_span.clone() }))
    }

    /// Reports comparisons that can never be meant.
    pub fn check(&self, declarations: &Declarations, report: &mut Report) {
        for comparison in &self.0.value {
            let Comparison { name, value, .. } = comparison;
            let Some(declaration) = declarations.get(name) else {
                report.push(undeclared(name, &self.0.span, declarations));
                continue;
            };
            let (possible, advice) = match &declaration.kind {
                OptionKind::Choice(choices) => {
                    (choices.contains(value), suggest::advice(value, choices.iter().map(String::as_str)))
                }
                OptionKind::Boolean => (value == "true" || value == "false", None),
                OptionKind::Integer => (value.parse::<i64>().is_ok_and(|integer| integer.to_string() == *value), None),
                OptionKind::Text => (true, None),
            };
            if !possible {
                let mut diagnostic = Diagnostic::error(Kind::Input, format!("option `{name}` is never `{value}`"))
                    .at(&self.0.span, format!("it has to be {}", declaration.kind.noun()))
                    .at(&declaration.span, "declared here");
                diagnostic.hints.extend(advice);
                report.push(diagnostic);
            }
        }
    }

    /// Whether it holds. A comparison with an option that has no value does not.
    pub fn holds(&self, values: &BTreeMap<String, OptionValue>) -> bool {
        self.0.value.iter().all(|comparison| {
            let value = values.get(&comparison.name).map(ToString::to_string);
            value.is_some_and(|value| (value == comparison.value) != comparison.differs)
        })
    }
}
