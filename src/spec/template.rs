//! Templates: which variables they mention, when they are bound, and their text.
//!
//! The engine is Tera, one template at a time: no inheritance, no includes, no escaping. A template is written by a
//! stranger as far as this file is concerned: its size, its output and its counting loops are bounded.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tera::{ErrorKind, Kwargs, State, Tera};

use super::facts::Facts;
use super::model::Template;
use super::names::{self, Mention};
use super::suggest;
use crate::report::{Diagnostic, Kind, Source, Span};

/// Largest template.
const LARGEST_TEMPLATE: usize = 1 << 20;
/// Largest text that a template may make.
const LARGEST_OUTPUT: usize = 16 << 20;
/// Most numbers that all calls of `range` in one rendering may make together.
const MOST_NUMBERS: usize = 1 << 16;
/// What templates may mention.
pub const VARIABLES: [&str; 5] = ["option", "role", "cluster", "node", "secret"];

/// When a template is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// At build.
    Early,
    /// When a machine is seeded.
    Late,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with its syntax, or a variable that templates do not know; at its line.
    pub fn read(source: &Arc<Source>, mode: u16) -> Result<Self, Vec<Diagnostic>> {
        if source.text.len() > LARGEST_TEMPLATE {
            let message = format!("the template `{}` is larger than {} KiB", source.path, LARGEST_TEMPLATE >> 10);
            return Err(vec![Diagnostic::error(Kind::Input, message)]);
        }
        let engine = engine(source).map_err(|diagnostic| vec![*diagnostic])?;
        let variables = engine.get_template_variables(&source.path).map_err(|error| vec![explain(source, &error)])?;
        let mut variables: Vec<String> = variables.into_iter().map(str::to_owned).collect();
        variables.sort();
        let unknown: Vec<_> = variables.iter().filter(|name| !VARIABLES.contains(&name.as_str())).collect();
        if unknown.is_empty() {
            return Ok(Self { source: source.clone(), mode, variables });
        }
        let mentions = names::mentions(&source.text);
        let diagnostics = unknown.into_iter().map(|name| {
            let place = mentions.iter().find(|mention| mention.root() == name).map_or(0..0, Mention::root_range);
            let diagnostic = Diagnostic::error(Kind::Input, format!("templates know no variable `{name}`"))
                .at(&Span::new(source, place), "unknown variable");
            match suggest::advice(name, VARIABLES) {
                Some(advice) => diagnostic.hint(advice),
                None => diagnostic,
            }
        });
        Err(diagnostics.collect())
    }

    /// When it is bound: late if it mentions `node` or `secret`, or `cluster` where the image file describes none.
    pub fn binding(&self, cluster_is_described: bool) -> Binding {
        let mentions = |name: &str| self.variables.iter().any(|variable| variable == name);
        if mentions("node") || mentions("secret") || (mentions("cluster") && !cluster_is_described) {
            Binding::Late
        } else {
            Binding::Early
        }
    }
}

/// The text of `template` with `facts`.
///
/// # Errors
/// A variable or field that the facts do not have, a failing filter, or a text beyond the bound; at its line.
pub fn render(template: &Template, facts: &Facts) -> Result<String, Diagnostic> {
    let engine = engine(&template.source).map_err(|diagnostic| *diagnostic)?;
    let context = tera::Context::from_serialize(facts.variables())
        .map_err(|error| Diagnostic::error(Kind::Internal, format!("facts are no template context: {error}")))?;
    let mut output = Bounded(Vec::new());
    match engine.render_to(&template.source.path, &context, &mut output) {
        Ok(()) => String::from_utf8(output.0).map_err(|_| {
            Diagnostic::error(Kind::Internal, format!("`{}` made bytes that are no text", template.source.path))
        }),
        Err(_) if output.0.len() >= LARGEST_OUTPUT => {
            let message =
                format!("the template `{}` makes more than {} MiB", template.source.path, LARGEST_OUTPUT >> 20);
            Err(Diagnostic::error(Kind::Input, message))
        }
        Err(error) => Err(explain(&template.source, &error)),
    }
}

/// A text that cannot grow beyond its bound.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LARGEST_OUTPUT - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn engine(source: &Arc<Source>) -> Result<Tera, Box<Diagnostic>> {
    let mut engine = Tera::new();
    engine.autoescape_on(Vec::<&'static str>::new());
    let made = AtomicUsize::new(0);
    engine.register_function("range", move |arguments: Kwargs, _: &State<'_>| range(&arguments, &made));
    engine.add_raw_template(&source.path, &source.text).map_err(|error| Box::new(explain(source, &error)))?;
    Ok(engine)
}

/// Tera's `range(start=0, end, step_by=1)`, with a bound on what one rendering counts through.
fn range(arguments: &Kwargs, made: &AtomicUsize) -> tera::TeraResult<Vec<i64>> {
    let start = arguments.get::<i64>("start")?.unwrap_or(0);
    let end = arguments.must_get::<i64>("end")?;
    let step = usize::try_from(arguments.get::<i64>("step_by")?.unwrap_or(1)).unwrap_or(0);
    if step == 0 {
        return Err(tera::Error::message("`step_by` of `range` has to be 1 or more"));
    }
    let count = usize::try_from(end.saturating_sub(start)).unwrap_or(0).div_ceil(step);
    if made.fetch_add(count.min(MOST_NUMBERS + 1), Ordering::Relaxed) + count > MOST_NUMBERS {
        return Err(tera::Error::message(format!("`range` makes more than {MOST_NUMBERS} numbers")));
    }
    Ok((start..end).step_by(step).collect())
}

/// Tera's error in our words, at its place.
fn explain(source: &Arc<Source>, error: &tera::Error) -> Diagnostic {
    match error.kind() {
        ErrorKind::SyntaxError(report) => {
            let message = format!("`{}` is not a valid template", source.path);
            Diagnostic::error(Kind::Input, message)
                .at(&Span::new(source, report.span().range.clone()), lower_first(report.message()))
        }
        ErrorKind::RenderingError(report) => {
            let message = report.message();
            let span = Span::new(source, report.span().range.clone());
            if let Some(rest) = message.strip_prefix("Field `") {
                let (field, rest) = rest.split_once('`').unwrap_or((rest, ""));
                let known = rest.split_once("Available fields: ").map_or("", |(_, fields)| fields);
                return names::no_field(
                    format!("there is no field `{field}` here"),
                    field,
                    known.split(", ").filter(|field| !field.is_empty()),
                    &span,
                );
            }
            Diagnostic::error(Kind::Input, format!("the template `{}` fails", source.path))
                .at(&span, lower_first(message))
        }
        ErrorKind::MissingParent { .. } | ErrorKind::TemplateNotFound(_) => {
            let message = format!("the template `{}` asks for another template", source.path);
            Diagnostic::error(Kind::Input, message).note("each file of an overlay is a template of its own")
        }
        other => {
            // Unknown filters, tests and functions come as a rendered report: its title, then ` --> PATH:LINE:COLUMN`.
            let text = other.to_string();
            let title = text.lines().next().unwrap_or_default();
            let title = lower_first(title.strip_prefix("error: ").unwrap_or(title));
            let place = text.lines().find_map(|line| line.trim().strip_prefix("--> ")?.strip_prefix(&source.path));
            let diagnostic = Diagnostic::error(Kind::Input, format!("`{}` is not a valid template", source.path));
            match place.and_then(|place| offset(&source.text, place)) {
                Some(at) => diagnostic.at(&Span::new(source, at..at + 1), title),
                None => diagnostic.note(title),
            }
        }
    }
}

/// The byte at `:LINE:COLUMN`, both from 1, columns in characters.
fn offset(text: &str, place: &str) -> Option<usize> {
    let mut numbers = place.split(':').skip(1).map(|number| number.trim().parse::<usize>().ok());
    let (line, column) = (numbers.next()??, numbers.next()??);
    let mut start = 0;
    for _ in 1..line {
        start += text[start..].find('\n')? + 1;
    }
    text[start..].char_indices().nth(column.checked_sub(1)?).map(|(at, _)| start + at)
}

fn lower_first(text: &str) -> String {
    let mut characters = text.trim_end_matches('.').chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}
