//! Diagnostics as text: for a terminal, for a log, for a machine.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, Report, Severity};

/// How to render.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No colour.
    Plain,
    /// With ANSI colours; colour never carries meaning of its own.
    Colour,
}

/// The report for people: every diagnostic with its place, reasons and advice.
pub fn render(report: &Report, style: Style) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Colour => Renderer::styled(),
    };
    let mut text = String::new();
    for diagnostic in &report.diagnostics {
        text.push_str(&renderer.render(&[group(diagnostic)]));
        text.push_str("\n\n");
    }
    text
}

fn group(diagnostic: &Diagnostic) -> Group<'_> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
    let mut labels = diagnostic.labels.iter().enumerate().peekable();
    while let Some((_, first)) = labels.peek().copied() {
        // Neighbours in one file share its snippet.
        let source = &first.span.source;
        let mut snippet = Snippet::source(source.text.as_str()).path(source.path.as_str());
        while let Some((index, label)) = labels.next_if(|(_, label)| label.span.source == *source) {
            let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let length = source.text.len();
            let range = label.span.range.start.min(length)..label.span.range.end.min(length);
            let mut annotation = kind.span(range);
            if !label.text.is_empty() {
                annotation = annotation.label(label.text.as_str());
            }
            snippet = snippet.annotation(annotation);
        }
        group = group.element(snippet);
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    for hint in &diagnostic.hints {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    group
}

/// The report for machines: one JSON object a diagnostic, in order.
pub fn render_json(report: &Report) -> serde_json::Value {
    let diagnostics = report.diagnostics.iter().map(|diagnostic| {
        let labels: Vec<_> = diagnostic
            .labels
            .iter()
            .map(|label| {
                let (line, column) = label.span.line_and_column();
                serde_json::json!({
                    "file": label.span.source.path, "line": line, "column": column, "text": label.text,
                })
            })
            .collect();
        serde_json::json!({
            "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "kind": format!("{:?}", diagnostic.kind).to_lowercase(),
            "message": diagnostic.message,
            "at": labels,
            "notes": diagnostic.notes,
            "hints": diagnostic.hints,
        })
    });
    serde_json::Value::Array(diagnostics.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Kind, Source, Span};
    use super::*;

    fn report() -> Report {
        let source = Arc::new(Source { path: "images/x.toml".into(), text: "version = \"1\"\ncolour = 3\n".into() });
        let diagnostic = Diagnostic::error(Kind::Input, "unknown key `colour`")
            .at(&Span::new(&source, 14..20), "not a key of an image file")
            .hint("the keys are `version`, …");
        diagnostic.into()
    }

    #[test]
    fn a_person_sees_file_line_column_and_advice() {
        let text = render(&report(), Style::Plain);
        for part in ["error: unknown key `colour`", "images/x.toml:2:1", "help: the keys are"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_machine_sees_the_same() {
        let json = render_json(&report());
        assert_eq!(json[0]["at"][0]["line"], 2);
        assert_eq!(json[0]["kind"], "input");
        assert_eq!(report().exit_code(), 1);
    }
}
