//! What the image says of itself for the join: `maas.toml`, `database.toml` and the table of late files.
//!
//! Owns their form. They are baked and sealed, so what is wrong in them is a broken image.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::report::{Diagnostic, Kind};
use crate::sys::files;

/// Where they are.
const DIRECTORY: &str = "/usr/lib/rolecast";

/// What the image says of itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `maas.toml`.
    pub maas: Maas,
    /// `database.toml`; none on a machine without a database.
    pub database: Option<Database>,
}

/// How MAAS is handled on this machine.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Maas {
    /// `deb`, `snap` or `stub`.
    pub packaging: String,
    /// Its version, `3.7`.
    pub version: String,
    /// Where its files are.
    pub paths: Paths,
    /// What of it is started, in order.
    pub units: Units,
    /// How it is told what to do.
    #[serde(default)]
    pub commands: Commands,
    /// How its schema is versioned; none on a rack.
    pub schema: Option<SchemaSource>,
}

/// Where MAAS's files are.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Paths {
    /// The rack's configuration, YAML.
    pub rackd: PathBuf,
    /// The shared secret.
    pub secret: PathBuf,
    /// The controller's identity.
    pub identity: PathBuf,
}

/// MAAS's units.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Units {
    /// Those of a region. The one whose journal says why the API does not answer has `region` in its name, or is the last.
    pub region: Vec<String>,
    /// Those of a rack, likewise.
    pub rack: Vec<String>,
}

/// Commands as they are run, by root; `{vip}`, `{admin}` and `{email}` are filled in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Commands {
    /// Once, before its units start.
    pub initialise: Vec<String>,
    /// Brings the schema to the image's version.
    pub migrate: Vec<String>,
    /// Creates the administrator; asks for the password twice, then for ssh keys.
    pub create_admin: Vec<String>,
    /// Prints the administrator's API keys, a line each.
    pub api_key: Vec<String>,
    /// Registers a rack; reads the shared secret.
    pub register: Vec<String>,
}

/// How MAAS's schema is versioned.
#[derive(Clone, Debug, Deserialize)]
pub struct SchemaSource {
    /// The table that holds what was applied.
    pub table: String,
    /// The query that lists it, a name a line.
    pub query: String,
    /// Directories with what the image brings, one file per step; the first that exists is meant. A `*` stands for any
    /// one name.
    #[serde(default)]
    pub directories: Vec<String>,
    /// The newest step that the image brings, where no directory shows it.
    pub expected: Option<String>,
    /// Where a step's name ends: `_` where `0012_title.py` is known as `0012`; none where the file's stem is its name.
    pub ends: Option<String>,
}

/// The database, as `database.toml` has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Database {
    /// PostgreSQL's major version.
    pub version: String,
    /// The data directory.
    pub data: PathBuf,
    /// Where PostgreSQL's programs are.
    pub binaries: PathBuf,
    /// Name of MAAS's database.
    pub database: String,
    /// Name of MAAS's role.
    pub role: String,
    /// `automatic` or `manual`.
    pub failover: String,
    /// `off`, `on` or `strict`.
    pub synchronous: String,
}

impl Settings {
    /// Reads what the image says.
    ///
    /// # Errors
    /// When the machine does not run an image of rolecast, or a broken one.
    pub fn read() -> Result<Self, Diagnostic> {
        let place = |name: &str| Path::new(DIRECTORY).join(name);
        let database = place("database.toml");
        Ok(Self {
            maas: parse(&place("maas.toml"))?,
            database: database.exists().then(|| parse(&database)).transpose()?,
        })
    }
}

impl Maas {
    /// Whether this version keeps the shared secret in a file that is there before the first start (2.4), not in the
    /// database.
    pub fn secret_in_file(&self) -> bool {
        self.version == "2.4"
    }

    /// The unit among `units` whose journal is the controller's.
    pub fn controller<'a>(units: &'a [String], kind: &str) -> Option<&'a str> {
        units.iter().find(|unit| unit.contains(kind)).or(units.last()).map(String::as_str)
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Diagnostic> {
    let text = files::read(path)?;
    toml::from_str(&String::from_utf8_lossy(&text)).map_err(|error| {
        Diagnostic::error(Kind::World, format!("`{}` cannot be read: {}", path.display(), error.message()))
            .hint("the image is damaged or of another version: boot another one")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_to_read_is_the_controllers() {
        let units = ["named.service".to_owned(), "maas-regiond.service".to_owned(), "maas-proxy.service".to_owned()];
        assert_eq!(Maas::controller(&units, "region"), Some("maas-regiond.service"));
        assert_eq!(Maas::controller(&units, "rackd"), Some("maas-proxy.service"));
        assert_eq!(Maas::controller(&[], "rackd"), None);
    }
}
