//! From what was typed, and the environment, to what is meant. No verb sees clap or the environment.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use crate::report::{Diagnostic, Kind, Report, Style};
use crate::spec::Format;
use crate::store::Store;

use super::args::{ChosenArguments, ColorWhen, FormatName, Global, MirrorArguments};

/// Where Debian's package ca-certificates keeps the authorities that a host believes.
const HOST_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What holds for the whole run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Results as JSON.
    pub json: bool,
    /// Colour of messages.
    pub style: Style,
    /// Where the store is.
    pub store: PathBuf,
}

impl Settings {
    /// From what was typed and the environment.
    pub fn resolve(global: Global) -> Self {
        let colour = match global.color {
            Some(ColorWhen::Always) => true,
            Some(ColorWhen::Never) => false,
            // The convention of no-color.org.
            None => std::io::stderr().is_terminal() && variable("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Self {
            json: global.json,
            style: if colour { Style::Colour } else { Style::Plain },
            store: global.store.unwrap_or_else(|| Store::default_root(variable)),
        }
    }
}

/// A variable of the environment, when it is text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The project and the name that a path to an image file means: `…/PROJECT/images/NAME.toml`.
#[derive(Clone, Debug)]
pub struct ImagePath {
    /// The directory that holds `images`, `profiles` and `overlays`.
    pub project: PathBuf,
    /// The image file, from the project's root.
    pub file: String,
    /// Its name without `.toml`.
    pub name: String,
}

impl ImagePath {
    /// Reads a path as typed.
    ///
    /// # Errors
    /// When it is no `.toml` file in a directory named `images`.
    pub fn resolve(path: &Path) -> Result<Self, Report> {
        let refuse = |why: &str| {
            Report::from(
                Diagnostic::error(Kind::Usage, format!("`{}` is no image file: {why}", path.display()))
                    .hint("name a file such as `images/ha-lab.toml`, beside `profiles` and `overlays`"),
            )
        };
        let absolute = std::fs::canonicalize(path).map_err(|_| refuse("it does not exist"))?;
        let name = absolute.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".toml"));
        let name = name.ok_or_else(|| refuse("its name does not end in `.toml`"))?.to_owned();
        let images = absolute.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "images"));
        let project = images.and_then(Path::parent).ok_or_else(|| refuse("it is not in a directory `images`"))?;
        Ok(Self { project: project.to_owned(), file: format!("images/{name}.toml"), name })
    }

    /// Its lock, from the project's root.
    pub fn lock_name(&self) -> String {
        format!("images/{}.lock", self.name)
    }

    /// Where its lock is.
    pub fn lock(&self) -> PathBuf {
        self.project.join(self.lock_name())
    }
}

/// The certificate authorities that vouch for `https` mirrors, as a PEM file: the one that `SSL_CERT_FILE` names, else the
/// host's own; none where a host has none.
///
/// # Errors
/// When `SSL_CERT_FILE` names no file.
pub fn authorities() -> Result<Option<PathBuf>, Diagnostic> {
    match variable("SSL_CERT_FILE").filter(|named| !named.is_empty()).map(PathBuf::from) {
        Some(named) if named.is_file() => Ok(Some(named)),
        Some(named) => Err(Diagnostic::error(Kind::Usage, format!("SSL_CERT_FILE names no file: {}", named.display()))
            .hint("name a PEM file of certificate authorities, or unset it to use the host's")),
        None => Ok(Some(PathBuf::from(HOST_AUTHORITIES)).filter(|host| host.is_file())),
    }
}

/// The mirrors named on the command line, by archive.
///
/// # Errors
/// When one is not `ID=URL`.
pub fn mirrors(arguments: &MirrorArguments) -> Result<BTreeMap<String, String>, Report> {
    let mut mirrors = BTreeMap::new();
    for text in &arguments.mirrors {
        match text.split_once('=') {
            Some((id, url)) if !id.is_empty() && !url.is_empty() => {
                mirrors.insert(id.to_owned(), url.trim_end_matches('/').to_owned());
            }
            _ => {
                let message = format!("`--mirror {text}` is not of the form ID=URL");
                return Err(Diagnostic::error(Kind::Usage, message)
                    .hint("for example `--mirror debian=http://mirror.example/debian`")
                    .into());
            }
        }
    }
    Ok(mirrors)
}

/// The formats chosen on the command line.
pub fn formats(arguments: &ChosenArguments) -> Vec<Format> {
    let format = |name: &FormatName| match name {
        FormatName::Disk => Format::Disk,
        FormatName::Qcow2 => Format::Qcow2,
        FormatName::Netboot => Format::Netboot,
        FormatName::Tar => Format::Tar,
        FormatName::Update => Format::Update,
    };
    arguments.formats.iter().map(format).collect()
}

/// Bounds the processors that this run uses; called once, before any work.
///
/// # Errors
/// When threads cannot be started.
pub fn use_processors(jobs: Option<usize>) -> Result<(), Report> {
    let Some(jobs) = jobs else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs.max(1)).build_global();
    pool.map_err(|error| Diagnostic::error(Kind::World, error.to_string()).into())
}

/// The executable that becomes `rolecast-join` on the machines: the one named, else the one beside this program.
///
/// # Errors
/// When there is none.
pub fn agent(named: Option<&Path>) -> Result<PathBuf, Report> {
    let beside = || std::env::current_exe().ok().map(|own| own.with_file_name("rolecast-join"));
    match named.map(Path::to_owned).or_else(beside).filter(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => Err(Diagnostic::error(Kind::Usage, "there is no `rolecast-join` to lay into the images")
            .note("it is taken from beside the `rolecast` executable")
            .hint("build it (`cargo build --release` builds both), or name it with `--agent`")
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_path_finds_its_project() {
        let directory = tempfile::tempdir().unwrap();
        let images = directory.path().join("images");
        std::fs::create_dir(&images).unwrap();
        std::fs::write(images.join("lab.toml"), "").unwrap();
        let path = ImagePath::resolve(&images.join("lab.toml")).unwrap();
        assert_eq!((path.file.as_str(), path.name.as_str()), ("images/lab.toml", "lab"));
        assert_eq!(path.lock(), path.project.join("images/lab.lock"));
        std::fs::write(directory.path().join("lab.toml"), "").unwrap();
        for wrong in [directory.path().join("lab.toml"), images.join("none.toml"), images.clone()] {
            assert_eq!(ImagePath::resolve(&wrong).unwrap_err().exit_code(), 2, "{}", wrong.display());
        }
    }
}
