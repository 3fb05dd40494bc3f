//! A binary package's stanza, from a Packages index or a .deb's control file.
//!
//! Everything in a stanza that could name a file is checked here: name, version, architecture and `Filename` are
//! safe to build paths of. Specification: deb-control(5), policy 5.3, the repository format of the Debian wiki.

use super::control::{ControlError, ControlProblem, Field, Stanza};
use super::relation::{RelationError, Relations, Shape, is_architecture, is_package_name};
use super::version::{Version, VersionError};
use crate::digest::{Digest, ParseDigestError};

/// The `Multi-Arch` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultiArch {
    /// Absent or `no`.
    #[default]
    No,
    /// `same`.
    Same,
    /// `foreign`.
    Foreign,
    /// `allowed`.
    Allowed,
}

/// The `Priority` field; the most important is the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// `extra`, absent, or a word that policy does not know.
    #[default]
    Extra,
    /// `optional`.
    Optional,
    /// `standard`.
    Standard,
    /// `important`.
    Important,
    /// `required`.
    Required,
}

/// What the solver, the lock and the unpacker need of a stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// `Package`.
    pub name: String,
    /// `Version`.
    pub version: Version,
    /// `Architecture`.
    pub architecture: String,
    /// `Essential: yes`.
    pub essential: bool,
    /// `Protected: yes`, or its older spelling `Important: yes`.
    pub protected: bool,
    /// `Multi-Arch`.
    pub multi_arch: MultiArch,
    /// `Priority`.
    pub priority: Priority,
    /// `Depends`.
    pub depends: Relations,
    /// `Pre-Depends`.
    pub pre_depends: Relations,
    /// `Recommends`.
    pub recommends: Relations,
    /// `Conflicts`.
    pub conflicts: Relations,
    /// `Breaks`.
    pub breaks: Relations,
    /// `Replaces`.
    pub replaces: Relations,
    /// `Provides`; a version, where given, is with `=`.
    pub provides: Relations,
    /// `Filename`: path from the archive's root; empty in a .deb's own control file.
    pub filename: String,
    /// `Size` in bytes; 0 in a .deb's own control file.
    pub size: u64,
    /// `SHA256`; none in a .deb's own control file.
    pub sha256: Option<Digest>,
    /// `Installed-Size` in KiB; 0 where absent.
    pub installed_size: u64,
}

/// Why a stanza is no package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// A line that is no field.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A field that must be there is not.
    #[error("the stanza at line {line} has no `{field}`")]
    Missing {
        /// First line of the stanza, from 1.
        line: usize,
        /// The field.
        field: &'static str,
    },
    /// A field's value is not what it has to be.
    #[error("line {line}: `{field}`: {problem}")]
    Value {
        /// The field's line, from 1.
        line: usize,
        /// The field.
        field: &'static str,
        /// What is wrong with the value.
        problem: ValueProblem,
    },
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueProblem {
    /// A relation.
    #[error(transparent)]
    Relation(#[from] RelationError),
    /// A version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A digest.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// A number.
    #[error("`{0}` is not a number of bytes")]
    Number(String),
    /// A word that is none of those allowed.
    #[error("`{0}` is none of the words allowed")]
    Word(String),
    /// A path that leaves the archive.
    #[error("`{0}` is not a path inside the archive")]
    Path(String),
}

/// The fields that are read.
#[derive(Clone, Copy)]
enum Known {
    Package,
    Version,
    Architecture,
    Essential,
    Protected,
    Important,
    MultiArch,
    Priority,
    Depends,
    PreDepends,
    Recommends,
    Conflicts,
    Breaks,
    Replaces,
    Provides,
    Filename,
    Size,
    Sha256,
    InstalledSize,
}

impl Known {
    const ALL: [(Self, &'static str); 19] = [
        (Self::Package, "Package"),
        (Self::Version, "Version"),
        (Self::Architecture, "Architecture"),
        (Self::Essential, "Essential"),
        (Self::Protected, "Protected"),
        (Self::Important, "Important"),
        (Self::MultiArch, "Multi-Arch"),
        (Self::Priority, "Priority"),
        (Self::Depends, "Depends"),
        (Self::PreDepends, "Pre-Depends"),
        (Self::Recommends, "Recommends"),
        (Self::Conflicts, "Conflicts"),
        (Self::Breaks, "Breaks"),
        (Self::Replaces, "Replaces"),
        (Self::Provides, "Provides"),
        (Self::Filename, "Filename"),
        (Self::Size, "Size"),
        (Self::Sha256, "SHA256"),
        (Self::InstalledSize, "Installed-Size"),
    ];

    /// The field of that name, in whatever case.
    fn of(name: &str) -> Option<Self> {
        let known = Self::ALL.iter().find(|(_, known)| name.len() == known.len() && name.eq_ignore_ascii_case(known));
        known.map(|(field, _)| *field)
    }

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The values of the known fields in one stanza.
struct Values<'a> {
    stanza: Stanza<'a>,
    found: [Option<Field<'a>>; Known::ALL.len()],
}

impl<'a> Values<'a> {
    /// One pass over the stanza.
    fn of(stanza: Stanza<'a>) -> Result<Self, ControlError> {
        let mut found = [None; Known::ALL.len()];
        for field in stanza.fields() {
            let field = field?;
            let Some(known) = Known::of(field.name) else { continue };
            if found[known as usize].replace(field).is_some() {
                let problem = ControlProblem::Duplicate(known.name().to_owned());
                return Err(ControlError { line: field.line, problem });
            }
        }
        Ok(Self { stanza, found })
    }

    /// The field read by `read`; `default` where it is absent.
    fn read<T, E: Into<ValueProblem>>(
        &self,
        known: Known,
        default: T,
        read: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Result<T, PackageError> {
        let Some(field) = &self.found[known as usize] else { return Ok(default) };
        read(field.value).map_err(|problem| PackageError::Value {
            line: field.line,
            field: known.name(),
            problem: problem.into(),
        })
    }

    /// The field read by `read`; an error where it is absent.
    fn require<T, E: Into<ValueProblem>>(
        &self,
        known: Known,
        read: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Result<T, PackageError> {
        let value = self.read(known, None, |text| read(text).map(Some))?;
        value.ok_or(PackageError::Missing { line: self.stanza.line(), field: known.name() })
    }

    fn relations(&self, known: Known, shape: Shape) -> Result<Relations, PackageError> {
        self.read(known, Relations::default(), |text| Relations::parse(text, shape))
    }
}

impl Package {
    /// Reads a stanza of a Packages index or of a .deb's control file. Fields that nobody here needs are skipped.
    ///
    /// # Errors
    /// A broken line, a missing `Package`, `Version` or `Architecture`, a field twice, a value that breaks its form.
    pub fn parse(stanza: Stanza<'_>) -> Result<Self, PackageError> {
        let values = Values::of(stanza)?;
        Ok(Self {
            name: values.require(Known::Package, |text| {
                is_package_name(text).then(|| text.to_owned()).ok_or(RelationError::Name(short(text)))
            })?,
            version: values.require(Known::Version, Version::parse)?,
            architecture: values.require(Known::Architecture, |text| {
                is_architecture(text).then(|| text.to_owned()).ok_or(RelationError::Qualifier(short(text)))
            })?,
            essential: values.read(Known::Essential, false, yes_or_no)?,
            protected: values.read(Known::Protected, false, yes_or_no)?
                | values.read(Known::Important, false, yes_or_no)?,
            multi_arch: values.read(Known::MultiArch, MultiArch::No, |text| match text {
                "no" => Ok(MultiArch::No),
                "same" => Ok(MultiArch::Same),
                "foreign" => Ok(MultiArch::Foreign),
                "allowed" => Ok(MultiArch::Allowed),
                other => Err(ValueProblem::Word(short(other))),
            })?,
            priority: values.read(Known::Priority, Priority::Extra, |text| {
                Ok::<_, ValueProblem>(match text {
                    "required" => Priority::Required,
                    "important" => Priority::Important,
                    "standard" => Priority::Standard,
                    "optional" => Priority::Optional,
                    _ => Priority::Extra,
                })
            })?,
            depends: values.relations(Known::Depends, Shape::Alternatives)?,
            pre_depends: values.relations(Known::PreDepends, Shape::Alternatives)?,
            recommends: values.relations(Known::Recommends, Shape::Alternatives)?,
            conflicts: values.relations(Known::Conflicts, Shape::Plain)?,
            breaks: values.relations(Known::Breaks, Shape::Plain)?,
            replaces: values.relations(Known::Replaces, Shape::Plain)?,
            provides: values.relations(Known::Provides, Shape::Provides)?,
            filename: values.read(Known::Filename, String::new(), archive_path)?,
            size: values.read(Known::Size, 0, number)?,
            sha256: values.read(Known::Sha256, None, |text| Digest::parse(text).map(Some))?,
            installed_size: values.read(Known::InstalledSize, 0, number)?,
        })
    }
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

fn yes_or_no(text: &str) -> Result<bool, ValueProblem> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => Err(ValueProblem::Word(short(other))),
    }
}

fn number(text: &str) -> Result<u64, ValueProblem> {
    text.parse().map_err(|_| ValueProblem::Number(short(text)))
}

/// A relative path of plain components. Flat repositories write `./name`; the dot is dropped.
fn archive_path(text: &str) -> Result<String, ValueProblem> {
    let path = text.strip_prefix("./").unwrap_or(text);
    if is_archive_path(path) { Ok(path.to_owned()) } else { Err(ValueProblem::Path(short(text))) }
}

/// Whether `path` leads to a file inside an archive: relative, plain components, nothing that a URL would read as
/// anything else.
pub fn is_archive_path(path: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(|byte| byte.is_ascii_graphic());
    path.len() <= 4096 && path.split('/').all(plain) && !path.contains(['\\', '?', '#'])
}

#[cfg(test)]
mod tests {
    use super::super::control::Stanzas;
    use super::*;

    const STANZA: &str = "Package: init\nProtected: yes\nPriority: important\nInstalled-Size: 12\n\
        Architecture: amd64\nMulti-Arch: foreign\nVersion: 1.69\n\
        Pre-Depends: systemd-sysv | orphan-sysvinit-scripts\nProvides: a, b (= 2)\nBreaks: c (<< 3)\n\
        Description: text: with (odd [things\n and, more\n\
        Filename: pool/main/i/init-system-helpers/init_1.69_amd64.deb\nSize: 1234\n\
        SHA256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";

    fn parse(text: &str) -> Result<Package, PackageError> {
        Package::parse(Stanzas::new(text).next().expect("a stanza"))
    }

    #[test]
    fn a_stanza_is_read() {
        let package = parse(STANZA).expect("a package");
        assert_eq!((package.name.as_str(), package.version.as_str()), ("init", "1.69"));
        assert!(package.protected && !package.essential);
        assert_eq!((package.multi_arch, package.priority), (MultiArch::Foreign, Priority::Important));
        assert_eq!(package.pre_depends.alternatives()[0].0.len(), 2);
        assert_eq!(package.provides.relations()[1].to_string(), "b (= 2)");
        assert_eq!((package.size, package.installed_size), (1234, 12));
        assert_eq!(package.sha256, Some(Digest::of(b"abc")));
        assert!(package.depends.is_empty());
    }

    #[test]
    fn hostile_values_are_refused_with_their_line() {
        let minimal = "Package: a\nVersion: 1\nArchitecture: all\n";
        assert!(parse(minimal).is_ok());
        for line in [
            "Package: b",
            "Filename: ../../etc/passwd",
            "Filename: /etc/passwd",
            "Filename: pool/a b.deb",
            "Filename: pool//a.deb",
            "Filename:",
            "Size: -1",
            "Size: 99999999999999999999",
            "SHA256: 12",
            "Multi-Arch: maybe",
            "Essential: perhaps",
            "Depends: a (>> 1",
            "Provides: a (>= 1)",
            "no field",
        ] {
            let error = parse(&format!("{minimal}{line}\n")).expect_err(line).to_string();
            assert!(error.contains("line 4"), "{line}: {error}");
        }
        for text in ["Package: ../a\nVersion: 1\nArchitecture: all\n", "Package: a\nVersion: 1\n", "Version: 1\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
