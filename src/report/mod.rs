//! Diagnostics: what is wrong, where, why, and what to do.
//!
//! Owns the one shape in which every room tells a person of a problem, its rendering (plain, colour, JSON) and the
//! exit code of each kind. Decides nothing and prints nothing: `cli` writes what [`render`] returns.

mod progress;
mod render;
mod source;

pub use progress::{Progress, Silent, Task, Unit};
pub use render::{Style, render, render_json};
pub use source::{Source, Span};

use std::sync::Arc;

/// What kind of problem; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Something a person wrote is wrong and they can mend it: image file, profile, overlay, lock.
    Input,
    /// The command line is wrong.
    Usage,
    /// The world: network, mirror, disk, permission, a maintainer script.
    World,
    /// Trust: a signature, a digest, an expired Release.
    Trust,
    /// Bytes that should be the same are not.
    NotReproducible,
    /// Packages have holes that advisories know.
    Vulnerable,
    /// A bug of rolecast.
    Internal,
}

impl Kind {
    /// The process's exit code for this kind.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Input => 1,
            Self::Usage => 2,
            Self::World => 3,
            Self::Trust => 4,
            Self::NotReproducible => 5,
            Self::Vulnerable => 6,
            Self::Internal => 70,
        }
    }
}

/// Whether a diagnostic stops the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// A place in a source with what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there; may be empty.
    pub text: String,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its kind.
    pub kind: Kind,
    /// Whether it stops the work.
    pub severity: Severity,
    /// What is wrong: one line, lower case, no full stop, literals in backticks.
    pub message: String,
    /// Where: the first label is the place itself, others are related places.
    pub labels: Vec<Label>,
    /// Why: facts that led here, one line each.
    pub notes: Vec<String>,
    /// What to do, one line each.
    pub hints: Vec<String>,
}

impl Diagnostic {
    /// An error of `kind`.
    pub fn error(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            notes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A warning; its kind is [`Kind::Input`].
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(Kind::Input, message) }
    }

    /// Adds a place.
    #[must_use]
    pub fn at(mut self, span: &Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span: span.clone(), text: text.into() });
        self
    }

    /// Adds a reason.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// One or more problems; what a room's function fails with when a person has to read about it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// The problems in the order in which they were found.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// A report of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Adds all problems of another report.
    pub fn extend(&mut self, other: Self) {
        self.diagnostics.extend(other.diagnostics);
    }

    /// Whether any problem stops the work.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The exit code: of the most serious error, 0 without one.
    pub fn exit_code(&self) -> u8 {
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        errors.map(|diagnostic| diagnostic.kind).max().map_or(0, Kind::exit_code)
    }
}

impl From<Diagnostic> for Report {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }
}

/// A text that a person wrote, shared by all spans in it.
pub type SharedSource = Arc<Source>;
