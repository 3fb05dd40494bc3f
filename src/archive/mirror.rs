//! Where an archive's bytes come from.
//!
//! A mirror is the user's choice and never part of a lock: any of them serves the same bytes or is refused. The first
//! of these that speaks decides: `--mirror ID=URL`, `--vendor DIR`, the variable `ROLECAST_MIRROR_<ID>`, `mirror` in the image file.
//! Where none does, the URIs of the build host's own apt sources are candidates, to be tried in turn until one serves
//! a Release for the wanted suite that verifies.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::{sources, url};
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::Archive;

/// Reads one variable of the environment.
pub type Variable<'a> = Box<dyn Fn(&str) -> Option<String> + Send + Sync + 'a>;

/// What the user and the machine say of mirrors.
pub struct Mirrors<'a> {
    given: BTreeMap<String, String>,
    variable: Variable<'a>,
    apt: PathBuf,
    vendored: Option<PathBuf>,
    found: Mutex<BTreeMap<String, Mirror>>,
}

/// A mirror of one archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// URL of the directory that holds `dists`, without a trailing `/`.
    pub url: String,
    /// Who named it, as told to people.
    pub origin: String,
}

/// The mirrors of one archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidates {
    /// The one that was named.
    Named(Mirror),
    /// Those of the host's apt sources, the likeliest first; may be empty.
    Host(Vec<Mirror>),
}

impl<'a> Mirrors<'a> {
    /// `given` maps names of archives to the URLs of `--mirror`; `variable` reads the environment; `apt` is the
    /// directory of the apt sources, `/etc/apt` outside of tests.
    pub fn new(given: BTreeMap<String, String>, variable: Variable<'a>, apt: PathBuf) -> Self {
        Self { given, variable, apt, vendored: None, found: Mutex::default() }
    }

    /// The same with a directory that [`super::vendor`] filled, an absolute path: the mirror of every archive that
    /// `given` does not name.
    #[must_use]
    pub fn vendored(mut self, directory: Option<PathBuf>) -> Self {
        self.vendored = directory;
        self
    }

    /// The mirrors to try for `archive`.
    ///
    /// # Errors
    /// When a mirror was named by something that is no URL of a mirror.
    pub fn candidates(&self, archive: &Archive) -> Result<Candidates, Report> {
        let name = variable_name(&archive.name);
        if let Some(url) = self.given.get(&archive.name) {
            let option = format!("--mirror {}={url}", archive.name);
            let wrong = Diagnostic::error(Kind::Usage, format!("`{option}` names no mirror"));
            return Ok(Candidates::Named(named(url, option, wrong)?));
        }
        if let Some(directory) = &self.vendored {
            let place = directory.join(&archive.name);
            let url = format!("file://{}", url::encode(&place.to_string_lossy()));
            let option = format!("--vendor {}", directory.display());
            let wrong = Diagnostic::error(Kind::Usage, format!("`{option}` names no directory"));
            return Ok(Candidates::Named(named(&url, option, wrong)?));
        }
        if let Some(url) = (self.variable)(&name).filter(|url| !url.is_empty()) {
            let wrong = Diagnostic::error(Kind::Usage, format!("`{name}={url}` names no mirror"));
            return Ok(Candidates::Named(named(&url, name, wrong)?));
        }
        if let Some(url) = &archive.mirror {
            let message = format!("archive `{}` names no mirror with `{url}`", archive.name);
            let wrong = Diagnostic::error(Kind::Input, message).at(&archive.span, "");
            return Ok(Candidates::Named(named(url, format!("the image file ({})", archive.span.place()), wrong)?));
        }
        Ok(Candidates::Host(self.of_the_host(archive)))
    }

    /// Whether the archive's mirror was named and is a directory of this machine, which no network is needed for.
    ///
    /// # Errors
    /// As [`Mirrors::candidates`].
    pub(super) fn is_local(&self, archive: &Archive) -> Result<bool, Report> {
        Ok(matches!(self.candidates(archive)?, Candidates::Named(mirror) if mirror.is_local()))
    }

    /// The mirror that was found for the archive in this run.
    pub(super) fn found(&self, archive: &str) -> Option<Mirror> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get(archive).cloned()
    }

    /// Remembers a mirror that serves the archive's Releases, so that it is looked for once.
    pub(super) fn remember(&self, archive: &str, mirror: &Mirror) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(archive.to_owned(), mirror.clone());
    }

    /// Each URI of the apt sources once. First those that already serve the wanted suite, then those whose last path
    /// element is the archive's name (`…/debian-security`), then the rest, in apt's order.
    fn of_the_host(&self, archive: &Archive) -> Vec<Mirror> {
        let mut found = sources::read(&self.apt);
        found.sort_by_key(|source| {
            let serves = source.suites.iter().any(|suite| archive.suites.contains(suite));
            let named = source.uri.rsplit('/').next() == Some(archive.name.as_str());
            (!serves, !named)
        });
        let mut mirrors: Vec<Mirror> = Vec::new();
        for source in found {
            if !mirrors.iter().any(|mirror| mirror.url == source.uri) {
                mirrors
                    .push(Mirror { url: source.uri, origin: format!("this machine's apt sources ({})", source.file) });
            }
        }
        mirrors
    }
}

impl Mirror {
    /// Whether it is a directory of this machine.
    pub fn is_local(&self) -> bool {
        self.url.starts_with("file:")
    }

    /// The URL of a path from the archive's root.
    pub fn url_of(&self, path: &str) -> String {
        format!("{}/{}", self.url, url::encode(path))
    }
}

/// The three ways to name a mirror for `archive`, as advice.
pub fn ways_to_name(archive: &str, diagnostic: Diagnostic) -> Diagnostic {
    diagnostic
        .hint(format!("name one on the command line: `--mirror {archive}=URL`"))
        .hint(format!("or in the environment: `{}=URL`", variable_name(archive)))
        .hint(format!("or in the image file: `mirror = \"URL\"` in `[archive.{archive}]`"))
}

/// `ROLECAST_MIRROR_<ID>`: upper case, `-` as `_`.
fn variable_name(archive: &str) -> String {
    format!("ROLECAST_MIRROR_{}", archive.to_uppercase().replace('-', "_"))
}

fn named(url: &str, origin: String, wrong: Diagnostic) -> Result<Mirror, Report> {
    let understood = ["http://", "https://", "file:///"]
        .iter()
        .any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')));
    if understood && !url.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Ok(Mirror { url: url.trim_end_matches('/').to_owned(), origin });
    }
    let note = "a mirror is the URL of the directory that holds `dists`: https://, http:// or file:///";
    Err(wrong.note(note).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::testing;

    fn origins(mirrors: &Mirrors<'_>, archive: &Archive) -> (String, String) {
        match mirrors.candidates(archive).unwrap() {
            Candidates::Named(mirror) => (mirror.url, mirror.origin),
            Candidates::Host(mirrors) => {
                let urls: Vec<_> = mirrors.into_iter().map(|mirror| mirror.url).collect();
                (urls.join(" "), "host".to_owned())
            }
        }
    }

    #[test]
    fn the_command_line_comes_before_environment_image_file_and_host() {
        let directory = tempfile::tempdir().unwrap();
        let list = "deb http://other.example/ubuntu noble main\ndeb http://one.example/debian-security bookworm main\n\
                    deb http://one.example/debian bookworm main\ndeb http://two.example/mirror trixie-security main\n\
                    deb http://one.example/debian bookworm-updates main\n";
        std::fs::write(directory.path().join("sources.list"), list).unwrap();
        let mut archive = testing::archive("debian-security", "trixie-security");
        let mut given = BTreeMap::new();
        let mut variables = BTreeMap::new();
        let ask = |given: &BTreeMap<_, _>, variables: &BTreeMap<String, String>, archive: &Archive| {
            let variables = variables.clone();
            let variable = Box::new(move |name: &str| variables.get(name).cloned());
            origins(&Mirrors::new(given.clone(), variable, directory.path().to_owned()), archive)
        };
        let (urls, origin) = ask(&given, &variables, &archive);
        assert_eq!(origin, "host");
        assert_eq!(
            urls,
            "http://two.example/mirror http://one.example/debian-security http://other.example/ubuntu \
             http://one.example/debian"
        );
        archive.mirror = Some("file:///srv/mirror/".to_owned());
        let (url, origin) = ask(&given, &variables, &archive);
        assert_eq!(url, "file:///srv/mirror");
        assert!(origin.starts_with("the image file ("), "{origin}");
        variables.insert("ROLECAST_MIRROR_DEBIAN_SECURITY".to_owned(), "http://three.example/s".to_owned());
        let expected = ("http://three.example/s".to_owned(), "ROLECAST_MIRROR_DEBIAN_SECURITY".to_owned());
        assert_eq!(ask(&given, &variables, &archive), expected);
        given.insert("debian-security".to_owned(), "https://four.example".to_owned());
        assert_eq!(ask(&given, &variables, &archive).0, "https://four.example");
    }

    #[test]
    fn what_is_no_mirror_is_refused_by_who_named_it() {
        for url in ["", "four.example", "ftp://four.example", "http://", "http:///debian", "file://x", "http://a b/"] {
            let given = BTreeMap::from([("debian".to_owned(), url.to_owned())]);
            let mirrors = Mirrors::new(given, Box::new(|_| None), PathBuf::from("/nonexistent"));
            let report = mirrors.candidates(&testing::archive("debian", "trixie")).unwrap_err();
            assert_eq!(report.diagnostics[0].kind, Kind::Usage, "{url}");
            assert!(report.diagnostics[0].message.contains("--mirror debian="), "{url}");
        }
    }
}
