//! Advisory data: which form a file has, bounded reading, and the findings in it.

use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Finding, Subject, ordered, osv, tracker};
use crate::report::{Diagnostic, Kind};
use crate::sys::files::{self, Context as _, FileError};

/// Largest file of advisory data, in bytes; the tracker's whole data has some 70 MB.
const LARGEST_FILE: u64 = 1 << 30;

/// Most files of a directory of OSV records; Debian's have 60 000.
const MOST_FILES: usize = 1_000_000;

/// Largest OSV record that stands in a file of its own, in bytes.
const LARGEST_RECORD: u64 = 64 << 20;

/// Advisory data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advisories {
    /// The whole data of Debian's security tracker.
    Tracker(PathBuf),
    /// One OSV record or a list of them.
    Osv(PathBuf),
    /// A directory of OSV records, one a file.
    OsvDirectory(Vec<PathBuf>),
}

/// What tells an OSV record from the tracker's data: `id` and `modified` are demanded of one, and no packages.
#[derive(Deserialize)]
struct Probe {
    id: Option<IgnoredAny>,
    modified: Option<IgnoredAny>,
}

impl Advisories {
    /// Looks at `path` and says what it is.
    ///
    /// # Errors
    /// When it cannot be read, is no JSON, too large, or a directory without records.
    pub fn at(path: &Path) -> Result<Self, Diagnostic> {
        if path.is_dir() {
            let mut records = Vec::new();
            for entry in fs::read_dir(path).on("read", path)? {
                let entry = entry.on("read", path)?.path();
                if entry.extension().is_some_and(|extension| extension == "json") {
                    records.push(entry);
                }
                if records.len() > MOST_FILES {
                    return Err(refuse(path, format!("it holds more than {MOST_FILES} records")));
                }
            }
            records.sort();
            return match records.is_empty() {
                true => Err(refuse(path, "it holds no `.json` file".to_owned())),
                false => Ok(Self::OsvDirectory(records)),
            };
        }
        let mut first = [0];
        let mut reader = open(path, LARGEST_FILE)?;
        let blank = |byte: u8| byte.is_ascii_whitespace();
        while reader.read(&mut first).on("read", path)? == 1 && blank(first[0]) {}
        match first[0] {
            b'[' => Ok(Self::Osv(path.to_owned())),
            b'{' => {
                let probe: Probe =
                    serde_json::from_reader(open(path, LARGEST_FILE)?).map_err(|error| broken(path, &error))?;
                let is_record = probe.id.is_some() && probe.modified.is_some();
                Ok(if is_record { Self::Osv(path.to_owned()) } else { Self::Tracker(path.to_owned()) })
            }
            b'P' => {
                Err(refuse(path, "it is a ZIP archive, it seems".to_owned()).hint("unpack it, and name the directory"))
            }
            _ => Err(refuse(path, "it is no JSON".to_owned())),
        }
    }

    /// The holes of `subject`, sorted.
    ///
    /// # Errors
    /// When the data does not read, or says nothing at all about the subject's distribution and suite: that nothing is found
    /// in it would mean nothing.
    pub fn findings(&self, subject: &Subject) -> Result<Vec<Finding>, Diagnostic> {
        let (findings, path) = match self {
            Self::Tracker(path) => {
                let data = tracker::read(open(path, LARGEST_FILE)?, subject).map_err(|error| broken(path, &error))?;
                (data, path.as_path())
            }
            Self::Osv(path) => {
                let records = osv::read(open(path, LARGEST_FILE)?, subject).map_err(|error| broken(path, &error))?;
                (records, path.as_path())
            }
            Self::OsvDirectory(paths) => {
                let mut all: Option<Vec<Finding>> = None;
                for path in paths {
                    let found =
                        osv::read(open(path, LARGEST_RECORD)?, subject).map_err(|error| broken(path, &error))?;
                    if let Some(found) = found {
                        all.get_or_insert_default().extend(found);
                    }
                }
                (all, paths.first().and_then(|path| path.parent()).unwrap_or(Path::new(".")))
            }
        };
        findings.map(ordered).ok_or_else(|| {
            refuse(path, format!("it says nothing about {} {}", subject.distribution, subject.suite))
                .note("so that nothing is found in it would mean nothing")
                .hint("take the data of that distribution, and newer data for a new suite")
        })
    }
}

fn refuse(path: &Path, why: String) -> Diagnostic {
    Diagnostic::error(Kind::Input, format!("`{}` is no advisory data that can be used: {why}", path.display()))
}

fn broken(path: &Path, error: &serde_json::Error) -> Diagnostic {
    let text: String = error.to_string().chars().take(300).collect();
    refuse(path, text)
}

/// A file that is no larger than `limit` when it is opened; what grows later is cut there.
fn open(path: &Path, limit: u64) -> Result<BufReader<std::io::Take<File>>, Diagnostic> {
    let file = files::open(path)?;
    let size = file.metadata().map_err(|source| FileError { doing: "look at", path: path.to_owned(), source })?.len();
    if size > limit {
        return Err(refuse(path, format!("it has {size} bytes, and more than {limit} are not read")));
    }
    Ok(BufReader::with_capacity(1 << 16, file.take(limit)))
}
