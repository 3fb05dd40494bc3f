//! Relations between packages, as Debian policy 7.1 writes them.
//!
//! A whole index holds half a million relations and a solve looks at a few thousand, so a field is checked once
//! and kept as text ([`Relations`]); what a reader asks for is cut from it then. Restrictions for architectures and
//! build profiles belong in source packages only and are refused.

use std::cmp::Ordering;
use std::fmt;

use super::version::{self, Version, VersionError};

/// How a version is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    /// Whether a version that stands in `order` to the one named in the relation satisfies it.
    pub const fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order.is_lt(),
            Self::EarlierOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::LaterOrEqual => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }

    /// As written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }
}

/// Why a text is no relation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelationError {
    /// Nothing where a package name should stand.
    #[error("a package name is missing")]
    MissingName,
    /// A name that dpkg would refuse.
    #[error("`{0}` is not a package name: letters, digits and `+`, `-`, `.`, starting with a letter or digit")]
    Name(String),
    /// What follows the colon is no architecture.
    #[error("`{0}` is not an architecture, `any` or `native`")]
    Qualifier(String),
    /// No known operator after the parenthesis.
    #[error("`({0}` does not start with `<<`, `<=`, `=`, `>=` or `>>`")]
    Operator(String),
    /// A parenthesis that does not close, or text after it.
    #[error("`{0}` is not of the form `name (>= version)`")]
    Shape(String),
    /// A version that is none.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// `[arch]` or `<profile>`.
    #[error("`{0}` restricts by architecture or build profile, which only source packages may")]
    Restriction(String),
    /// `|` in a field without alternatives.
    #[error("`{0}` holds alternatives where none are allowed")]
    Alternatives(String),
    /// `Provides` with an operator other than `=`.
    #[error("`{0}` provides with an operator other than `=`")]
    Provides(String),
}

/// One relation: `name:qualifier (>= version)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Package name.
    pub name: String,
    /// What follows the colon: `any`, `native`, an architecture.
    pub qualifier: Option<String>,
    /// The version asked for.
    pub version: Option<(Operator, Version)>,
}

/// `a | b | c`: any one of them will do; the first is preferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternatives(pub Vec<Relation>);

/// A relation that borrows a field's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationRef<'a> {
    /// Package name.
    pub name: &'a str,
    /// What follows the colon.
    pub qualifier: Option<&'a str>,
    /// The version asked for, as text that is known to be a version.
    pub version: Option<(Operator, &'a str)>,
}

impl<'a> RelationRef<'a> {
    /// Reads one relation.
    ///
    /// # Errors
    /// When it breaks policy 7.1.
    pub fn parse(text: &'a str) -> Result<Self, RelationError> {
        // Half a million of these are read from one index: bytes, one pass, nothing allocated but for an error.
        let text = text.trim_ascii();
        let (name, rest) = split_while(text, is_name_byte);
        let (qualifier, rest) = match rest.strip_prefix(':') {
            None => (None, rest),
            Some(rest) => {
                let (qualifier, rest) = split_while(rest, |byte| !matches!(byte, b' ' | b'(' | b'\n' | b'\t'));
                (Some(qualifier), rest)
            }
        };
        let rest = rest.trim_ascii_start();
        let inside = match rest.strip_prefix('(') {
            None if rest.is_empty() => None,
            None => return Err(refuse(text)),
            Some(rest) => match rest.split_once(')') {
                Some((inside, "")) => Some(inside),
                _ => return Err(refuse(text)),
            },
        };
        if !is_package_name(name) {
            return Err(refuse(text));
        }
        if let Some(qualifier) = qualifier.filter(|qualifier| !is_architecture(qualifier)) {
            return Err(RelationError::Qualifier(shortened(qualifier)));
        }
        Ok(Self { name, qualifier, version: inside.map(parse_version).transpose()? })
    }

    /// Whether the version `found` satisfies the relation's version, if it names one.
    pub fn accepts(&self, found: &str) -> bool {
        self.version.is_none_or(|(operator, wanted)| operator.accepts(version::compare(found, wanted)))
    }

    /// The same with text of its own.
    pub fn to_relation(self) -> Relation {
        Relation {
            name: self.name.to_owned(),
            qualifier: self.qualifier.map(str::to_owned),
            // The text was checked when it was cut.
            version: self.version.and_then(|(operator, text)| Some((operator, Version::parse(text).ok()?))),
        }
    }
}

/// What is wrong with a text that is not of the form `name:qualifier (>= version)`.
fn refuse(text: &str) -> RelationError {
    let head = text.split('(').next().unwrap_or(text).trim();
    let after = text.split_once(')').map_or("", |(_, after)| after);
    if [head, after].iter().any(|outside| outside.contains(['[', '<'])) {
        RelationError::Restriction(shortened(text))
    } else if head.is_empty() || head.starts_with(':') {
        RelationError::MissingName
    } else if !is_package_name(head.split(':').next().unwrap_or(head)) {
        RelationError::Name(shortened(head))
    } else {
        RelationError::Shape(shortened(text))
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Splits before the first byte that does not belong; that byte is ASCII or starts a character, as `belongs` takes
/// ASCII only or whole characters.
fn split_while(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !belongs(byte)).unwrap_or(text.len()))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_')
}

fn parse_version(inside: &str) -> Result<(Operator, &str), RelationError> {
    // `<` and `>` are the obsolete spellings of `<=` and `>=`, which dpkg still reads so.
    const OPERATORS: [(&str, Operator); 7] = [
        ("<<", Operator::Earlier),
        ("<=", Operator::EarlierOrEqual),
        (">>", Operator::Later),
        (">=", Operator::LaterOrEqual),
        ("=", Operator::Equal),
        ("<", Operator::EarlierOrEqual),
        (">", Operator::LaterOrEqual),
    ];
    let inside = inside.trim_ascii();
    let found =
        OPERATORS.iter().find_map(|(text, operator)| Some((*operator, inside.strip_prefix(text)?.trim_ascii())));
    let (operator, text) = found.ok_or_else(|| RelationError::Operator(inside.chars().take(80).collect()))?;
    version::check(text)?;
    Ok((operator, text))
}

/// Whether dpkg takes `name` for a package name. Such a name is safe as a file name.
pub fn is_package_name(name: &str) -> bool {
    name.len() <= 255
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(is_name_byte)
}

/// Whether `text` has the form of an architecture's name.
pub fn is_architecture(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Relation {
    /// Reads one relation.
    ///
    /// # Errors
    /// When it breaks policy 7.1.
    pub fn parse(text: &str) -> Result<Self, RelationError> {
        RelationRef::parse(text).map(|relation| relation.to_relation())
    }

    /// The same, borrowed.
    pub fn as_ref(&self) -> RelationRef<'_> {
        RelationRef {
            name: &self.name,
            qualifier: self.qualifier.as_deref(),
            version: self.version.as_ref().map(|(operator, version)| (*operator, version.as_str())),
        }
    }
}

impl Alternatives {
    /// Reads `a | b (>= 1)`.
    ///
    /// # Errors
    /// When an alternative breaks policy 7.1, or a comma makes it more than one group.
    pub fn parse(text: &str) -> Result<Self, RelationError> {
        text.split('|').map(Relation::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for RelationRef<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(formatter, ":{qualifier}")?;
        }
        match self.version {
            None => Ok(()),
            Some((operator, version)) => write!(formatter, " ({} {version})", operator.as_str()),
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(formatter)
    }
}

impl fmt::Display for Alternatives {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, relation) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " | " };
            write!(formatter, "{separator}{relation}")?;
        }
        Ok(())
    }
}

/// What a field's relations may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `Depends` and its like: alternatives.
    Alternatives,
    /// `Conflicts`, `Breaks`, `Replaces`: no alternatives.
    Plain,
    /// `Provides`: no alternatives, and `=` only.
    Provides,
}

/// The alternatives of one group's text, in order. The text comes from a checked field, so nothing is dropped.
pub fn alternatives_of(group: &str) -> impl Iterator<Item = RelationRef<'_>> {
    group.split('|').filter_map(|one| RelationRef::parse(one).ok())
}

/// A relation field: checked text, read on demand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations(Box<str>);

impl Relations {
    /// Checks a field's value.
    ///
    /// # Errors
    /// The first relation that breaks policy 7.1 or `shape`.
    pub fn parse(text: &str, shape: Shape) -> Result<Self, RelationError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        for group in text.split(',') {
            if shape != Shape::Alternatives && group.contains('|') {
                return Err(RelationError::Alternatives(shortened(group.trim())));
            }
            for one in group.split('|') {
                let relation = RelationRef::parse(one)?;
                let provides = relation.version.is_none_or(|(operator, _)| operator == Operator::Equal);
                if shape == Shape::Provides && !provides {
                    return Err(RelationError::Provides(shortened(group.trim())));
                }
            }
        }
        Ok(Self(text.into()))
    }

    /// Whether the field is absent or empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The field's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The texts of the groups that commas separate; [`alternatives_of`] reads one.
    pub fn group_texts(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').map(str::trim).filter(|group| !group.is_empty())
    }

    /// The groups that commas separate, each as its alternatives in order.
    pub fn groups(&self) -> impl Iterator<Item = impl Iterator<Item = RelationRef<'_>>> {
        self.group_texts().map(alternatives_of)
    }

    /// All relations in order, whatever group they are in; for fields without alternatives.
    pub fn iter(&self) -> impl Iterator<Item = RelationRef<'_>> {
        self.groups().flatten()
    }

    /// The groups with text of their own.
    pub fn alternatives(&self) -> Vec<Alternatives> {
        self.groups().map(|group| Alternatives(group.map(|one| one.to_relation()).collect())).collect()
    }

    /// The relations with text of their own.
    pub fn relations(&self) -> Vec<Relation> {
        self.iter().map(|one| one.to_relation()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::test_runner::TestRunner;

    use super::*;

    #[test]
    fn a_field_is_cut_into_groups_and_alternatives() {
        let field = "libc6 (>= 2.38), default-mta | mail-transport-agent,\n python3:any (<<3.14), a:amd64 (= 1:2-3)";
        let relations = Relations::parse(field, Shape::Alternatives).expect("a field");
        let texts: Vec<String> = relations.alternatives().iter().map(ToString::to_string).collect();
        let expected =
            ["libc6 (>= 2.38)", "default-mta | mail-transport-agent", "python3:any (<< 3.14)", "a:amd64 (= 1:2-3)"];
        assert_eq!(texts, expected);
        assert!(Relations::parse(" \n ", Shape::Plain).expect("empty").is_empty());
    }

    #[test]
    fn operators_decide_as_policy_says() {
        for (text, version, expected) in [
            ("a (<< 2)", "2", false),
            ("a (<= 2)", "2", true),
            ("a (= 2)", "2.0", false),
            ("a (= 2)", "02", true),
            ("a (>= 2)", "2~", false),
            ("a (>> 2)", "2+b1", true),
            ("a (> 2)", "2", true),
            ("a", "anything", true),
        ] {
            assert_eq!(RelationRef::parse(text).expect(text).accepts(version), expected, "{text} {version}");
        }
    }

    #[test]
    fn broken_relations_are_refused() {
        for (text, shape) in [
            ("a,,b", Shape::Alternatives),
            ("a |", Shape::Alternatives),
            ("a (1)", Shape::Alternatives),
            ("a (>= )", Shape::Alternatives),
            ("a (>= 1", Shape::Alternatives),
            ("a (>= 1) b", Shape::Alternatives),
            ("a b", Shape::Alternatives),
            ("../a", Shape::Alternatives),
            ("-a", Shape::Alternatives),
            ("a:", Shape::Alternatives),
            ("a:b/c", Shape::Alternatives),
            ("a [amd64]", Shape::Alternatives),
            ("a (>= 1) [amd64]", Shape::Alternatives),
            ("a <!nocheck>", Shape::Alternatives),
            ("a (>= 1) <!nocheck>", Shape::Alternatives),
            ("a | b", Shape::Plain),
            ("a | b", Shape::Provides),
            ("a (>= 1)", Shape::Provides),
        ] {
            assert!(Relations::parse(text, shape).is_err(), "{text}");
        }
    }

    /// dpkg reads the field from a file of available packages and prints it as it understood it.
    #[test]
    fn random_fields_are_read_as_dpkg_reads_them() {
        let mut runner = TestRunner::deterministic();
        // Most parts are right, so that whole fields are, now and then.
        let name = "([a-z0-9][a-z0-9+.-]{1,5}|[a-z][a-z0-9+.-]{1,5}|[a-z][a-z0-9]{1,5}|[A-Z_]{0,3})";
        let version = "( ?\\( ?(<<|<=|=|>=|>>|>=|<=|==|~) ?[0-9][0-9a.+~-]{0,4}\\)|| ?\\(=? ?[a-z_]{0,2} ?\\)?|)";
        let one = format!("[ ]{{0,1}}{name}(:any|||:|){version}");
        let field = proptest::collection::vec((one.as_str(), "(,|,  |\\||)"), 1..4);
        let fields: Vec<String> = (0..300)
            .map(|_| {
                let parts = field.new_tree(&mut runner).expect("a field").current();
                let text: String = parts.into_iter().map(|(relation, separator)| relation + &separator).collect();
                text.trim().trim_end_matches([',', '|', ' ']).to_owned()
            })
            .filter(|text| !text.is_empty())
            .collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut accepted, mut refused) = (0, 0);
        for text in fields {
            let ours = Relations::parse(&text, Shape::Alternatives).map(|relations| {
                let groups = relations.alternatives();
                groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            });
            let theirs = dpkg_reads(folder.path(), &text);
            match (&ours, &theirs) {
                (Ok(ours), Some(theirs)) => {
                    accepted += 1;
                    // dpkg writes names in lower case, as policy wants them.
                    assert_eq!(&ours.to_lowercase(), theirs, "`{text}`");
                }
                // Stricter than dpkg here is a package refused, which is safe; laxer would not be.
                (Ok(ours), None) => panic!("`{text}`: dpkg refuses what is read as `{ours}`"),
                (Err(_), _) => refused += 1,
            }
        }
        assert!(accepted > 40 && refused > 40, "{accepted} accepted, {refused} refused");
    }

    /// The field as dpkg prints it; none when it refuses it.
    fn dpkg_reads(folder: &std::path::Path, text: &str) -> Option<String> {
        let admin = folder.join("admin");
        let _ = std::fs::remove_dir_all(&admin);
        std::fs::create_dir_all(admin.join("updates")).expect("a folder");
        std::fs::write(admin.join("status"), "").expect("a file");
        std::fs::write(admin.join("available"), "").expect("a file");
        let list = folder.join("list");
        let stanza = format!(
            "Package: probe\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.invalid>\nDescription: x\nDepends: {text}\n"
        );
        std::fs::write(&list, stanza).expect("a file");
        let dpkg = |words: &[&std::ffi::OsStr]| {
            let option = format!("--admindir={}", admin.display());
            let command = std::process::Command::new("dpkg").arg(option).args(words).env("LC_ALL", "C").output();
            command.expect("dpkg runs")
        };
        if !dpkg(&["--merge-avail".as_ref(), list.as_os_str()]).status.success() {
            return None;
        }
        let printed = dpkg(&["--print-avail".as_ref(), "probe".as_ref()]);
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
        Some(printed.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default().to_owned())
    }
}
