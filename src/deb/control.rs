//! Control data: paragraphs of fields, as deb822(5) writes them, read without copying.
//!
//! A [`Stanza`] is a slice of the text with the line it starts at; a [`Field`] is a slice of a stanza. Nothing is
//! allocated, so a whole Packages index costs one pass over its bytes. Comments are for source packages only and
//! are refused; so is signed text, because a signature has to be verified and cut off before anything is read.

/// A line that is neither a field nor a continuation, or a field twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ControlError {
    /// Line in the text, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: ControlProblem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlProblem {
    /// No colon.
    #[error("`{0}` is not a field (`Name: value`)")]
    NoColon(String),
    /// A field's name is empty or holds characters that it must not.
    #[error("`{0}` is not the name of a field")]
    Name(String),
    /// A continuation line with no field before it.
    #[error("a continuation line without a field before it")]
    Orphan,
    /// The same field twice in one stanza.
    #[error("field `{0}` is here twice")]
    Duplicate(String),
}

/// Iterates over the stanzas of a text.
#[derive(Clone, Debug)]
pub struct Stanzas<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Stanzas<'a> {
    /// The stanzas of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }
}

impl<'a> Iterator for Stanzas<'a> {
    type Item = Stanza<'a>;

    fn next(&mut self) -> Option<Stanza<'a>> {
        // Blank lines before a stanza, however many.
        loop {
            let (line, rest) = split_line(self.rest)?;
            if !is_blank(line) {
                break;
            }
            self.rest = rest;
            self.line += 1;
        }
        let (start, first) = (self.rest, self.line);
        let mut after = self.rest;
        while let Some((line, rest)) = split_line(after) {
            if is_blank(line) {
                break;
            }
            after = rest;
            self.line += 1;
        }
        self.rest = after;
        Some(Stanza { text: &start[..start.len() - after.len()], line: first })
    }
}

/// The first line without its end, and what follows; nothing at the end of the text.
fn split_line(text: &str) -> Option<(&str, &str)> {
    match memchr::memchr(b'\n', text.as_bytes()) {
        Some(end) => Some((&text[..end], &text[end + 1..])),
        None => (!text.is_empty()).then_some((text, "")),
    }
}

fn is_blank(line: &str) -> bool {
    line.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

/// One paragraph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stanza<'a> {
    text: &'a str,
    line: usize,
}

impl<'a> Stanza<'a> {
    /// The line on which it starts, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Its text, without the blank line that ends it.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Its fields in order.
    pub fn fields(&self) -> Fields<'a> {
        Fields { rest: self.text, line: self.line }
    }

    /// The field of that name, in whatever case. Reads up to it, so it is for few fields; nothing where the text
    /// before it is broken.
    pub fn get(&self, name: &str) -> Option<Field<'a>> {
        self.fields().map_while(Result::ok).find(|field| field.name.eq_ignore_ascii_case(name))
    }
}

/// Iterates over the fields of a stanza.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, ControlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.rest;
        let (first, mut rest) = split_line(start)?;
        let line = self.line;
        let mut lines = 1;
        while rest.starts_with([' ', '\t']) {
            let Some((_, after)) = split_line(rest) else { break };
            rest = after;
            lines += 1;
        }
        self.rest = rest;
        self.line += lines;
        let fail = |problem| Some(Err(ControlError { line, problem }));
        let short = |text: &str| text.chars().take(80).collect::<String>();
        if first.starts_with([' ', '\t']) {
            return fail(ControlProblem::Orphan);
        }
        let Some(name) = first.bytes().position(|byte| byte == b':').map(|colon| &first[..colon]) else {
            return fail(ControlProblem::NoColon(short(first)));
        };
        if name.is_empty() || name.starts_with(['-', '#']) || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return fail(ControlProblem::Name(short(name)));
        }
        let value = start[name.len() + 1..start.len() - rest.len()].trim();
        Some(Ok(Field { name, value, line }))
    }
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as written; names are compared without regard to case.
    pub name: &'a str,
    /// Its value without white space at both ends; line breaks and the space before continuations are kept.
    pub value: &'a str,
    /// The line on which it starts, from 1.
    pub line: usize,
}

impl<'a> Field<'a> {
    /// The value's lines: the rest of the first, which may be empty, then each continuation without the white space
    /// around it.
    pub fn lines(&self) -> impl Iterator<Item = &'a str> {
        self.value.split('\n').map(str::trim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\n\nPackage: a\nDescription: short\n long one\n .\n\tend\nSize: 3\n \t\n\r\nPackage:b\n";

    #[test]
    fn stanzas_and_fields_know_their_lines() {
        let stanzas: Vec<_> = Stanzas::new(TEXT).collect();
        assert_eq!(stanzas.iter().map(Stanza::line).collect::<Vec<_>>(), [3, 11]);
        let fields: Vec<_> = stanzas[0].fields().map(|field| field.expect("a field")).collect();
        let seen: Vec<_> = fields.iter().map(|field| (field.name, field.line)).collect();
        assert_eq!(seen, [("Package", 3), ("Description", 4), ("Size", 8)]);
        assert_eq!(fields[1].value, "short\n long one\n .\n\tend");
        assert_eq!(fields[1].lines().collect::<Vec<_>>(), ["short", "long one", ".", "end"]);
        assert_eq!(stanzas[1].get("package").map(|field| field.value), Some("b"));
        assert_eq!(stanzas[1].get("absent"), None);
    }

    #[test]
    fn broken_lines_are_named() {
        for (text, line) in [
            ("Package: a\nnonsense\n", 2),
            (" orphan\n", 1),
            ("# comment: x\n", 1),
            (": value\n", 1),
            ("A b: c\n", 1),
            ("-----BEGIN PGP SIGNED MESSAGE-----\n", 1),
        ] {
            let stanza = Stanzas::new(text).next().expect("a stanza");
            let error = stanza.fields().find_map(Result::err).expect("an error");
            assert_eq!(error.line, line, "{text:?}");
        }
    }

    #[test]
    fn nothing_is_no_stanza() {
        for text in ["", "\n", " \n\t\n", "\r\n\r\n"] {
            assert_eq!(Stanzas::new(text).next(), None, "{text:?}");
        }
    }
}
