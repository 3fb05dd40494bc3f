//! Texts that people wrote, and places in them.

use std::ops::Range;
use std::sync::Arc;

/// A file that a person wrote.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path as shown to people: from the project's root.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A run of bytes in a source.
#[derive(Clone, PartialEq, Eq)]
pub struct Span {
    /// The source.
    pub source: Arc<Source>,
    /// Byte range in its text.
    pub range: Range<usize>,
}

impl Span {
    /// A span.
    pub fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        Self { source: source.clone(), range }
    }

    /// Line and column of the span's start, both from 1; the column counts characters.
    pub fn line_and_column(&self) -> (usize, usize) {
        let text = &self.source.text;
        let mut start = self.range.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// `path:line:column`, as editors follow it.
    pub fn place(&self) -> String {
        let (line, column) = self.line_and_column();
        format!("{}:{line}:{column}", self.source.path)
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.place())
    }
}
