//! What the image says of itself: its table of late files, how MAAS is handled, where the database is.
//!
//! Owns the forms of `image.json`, `maas.toml`, `database.toml` and `cluster.toml` under `/usr/lib/rolecast`, as the image's profiles
//! write them. Reads them once at start; they are sealed with the image. Never writes.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::report::{Diagnostic, Kind};
use crate::sys::files;

/// Where an image keeps its tables.
const DIRECTORY: &str = "/usr/lib/rolecast";

/// `image.json`: what the image is and what it leaves to a seed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Image {
    /// Name of the image file that it was built from.
    pub image: String,
    /// Version of the image.
    pub version: String,
    /// Its role.
    pub role: String,
    /// Files that a seed brings.
    pub late: Vec<Late>,
}

/// A file that a seed brings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Late {
    /// Absolute path.
    pub path: String,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Permission bits, four octal digits.
    pub mode: String,
}

/// `maas.toml`: how MAAS is handled on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Maas {
    /// `deb`, `snap` or `stub`.
    pub packaging: String,
    /// Version, as `3.7`.
    pub version: String,
    /// Where its files are.
    pub paths: Paths,
    /// Its units, in the order in which they start.
    pub units: Units,
    /// Its commands, as they are run.
    #[serde(default)]
    pub commands: Commands,
    /// How its schema is versioned; none on a rack.
    #[serde(default)]
    pub schema: Option<SchemaSource>,
}

impl Maas {
    /// Whether this version keeps the shared secret in a file that is there before the first start (2.4), not in the
    /// database.
    pub fn keeps_secret_in_file(&self) -> bool {
        self.version == "2.4"
    }
}

/// How MAAS's schema is versioned.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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

/// Places of MAAS's files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Paths {
    /// Configuration of a region.
    pub regiond: PathBuf,
    /// Configuration of a rack.
    pub rackd: PathBuf,
    /// The shared secret.
    pub secret: PathBuf,
    /// The identity that a region gave to this machine.
    pub identity: PathBuf,
    /// Where a snap says whether it is a region or a rack; none but of a snap.
    #[serde(default)]
    pub mode: Option<PathBuf>,
    /// What is there once MAAS is installed; none where it is part of the image.
    #[serde(default)]
    pub installed: Option<PathBuf>,
}

/// MAAS's units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Units {
    /// A region's.
    #[serde(default)]
    pub region: Vec<String>,
    /// A rack's.
    #[serde(default)]
    pub rack: Vec<String>,
}

/// MAAS's commands; `{word}` is filled in. A command that a version does not have is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Commands {
    /// Installs MAAS, where it is not part of the image.
    pub install: Vec<String>,
    /// Keeps what was installed from becoming another version by itself.
    pub hold: Vec<String>,
    /// Done once before MAAS's units start.
    pub initialise: Vec<String>,
    /// Migrates the schema.
    pub migrate: Vec<String>,
    /// Creates the administrator.
    pub create_admin: Vec<String>,
    /// Prints the administrator's API key.
    pub api_key: Vec<String>,
    /// Registers a rack.
    pub register: Vec<String>,
}

/// `database.toml`: a region's database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DatabaseTable {
    /// Major version of PostgreSQL.
    pub version: String,
    /// The data directory.
    pub data: PathBuf,
    /// Where PostgreSQL's programs are.
    pub binaries: PathBuf,
    /// Name of MAAS's database.
    pub database: String,
    /// Name of MAAS's role.
    pub role: String,
    /// Who decides that a replica is promoted.
    pub failover: Failover,
}

/// Who decides that a replica is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failover {
    /// Patroni.
    Automatic,
    /// The operator; Patroni is paused.
    Manual,
}

/// All tables of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// What the image is.
    pub image: Image,
    /// How MAAS is handled; none on a role without MAAS.
    pub maas: Option<Maas>,
    /// The database; none but on a region.
    pub database: Option<DatabaseTable>,
}

impl Tables {
    /// Reads the tables of the image that this machine runs; `root` is `/` but in tests.
    ///
    /// # Errors
    /// When the machine does not run an image of rolecast, or a damaged one.
    pub fn read(root: &Path) -> Result<Self, Diagnostic> {
        let directory = root.join(DIRECTORY.trim_start_matches('/'));
        let image = directory.join("image.json");
        let text = files::read(&image).map_err(|error| {
            Diagnostic::error(Kind::World, "this machine does not run an image of rolecast").note(error.to_string())
        })?;
        let image = serde_json::from_slice(&text).map_err(|error| damaged(&image, &error))?;
        Ok(Self {
            image,
            maas: toml_table(&directory.join("maas.toml"))?,
            database: toml_table(&directory.join("database.toml"))?,
        })
    }
}

/// `cluster.toml`: how the machines of the cluster get on with each other.
#[derive(Deserialize)]
struct Cluster {
    patience: u32,
}

/// How many times as long as usual this machine waits for another one's answer: what the image says, once where it says
/// nothing.
pub fn patience() -> u32 {
    static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
        let table: Result<Option<Cluster>, _> = toml_table(&Path::new(DIRECTORY).join("cluster.toml"));
        table.ok().flatten().map_or(1, |cluster| cluster.patience.max(1))
    });
    *PATIENCE
}

/// A table that not every role has.
fn toml_table<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, Diagnostic> {
    if !path.exists() {
        return Ok(None);
    }
    let text = files::read(path)?;
    toml::from_slice(&text).map(Some).map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(Kind::World, format!("`{}` cannot be read: {error}", path.display()))
        .hint("the image is damaged: boot another one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_as_profiles_write_them() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("usr/lib/rolecast");
        std::fs::create_dir_all(&directory).unwrap();
        assert!(Tables::read(root.path()).unwrap_err().message.contains("does not run an image"));
        std::fs::write(
            directory.join("image.json"),
            r#"{"format":1,"image":"lab","version":"1","role":"region-primary","state":[],
                "late":[{"path":"/etc/x","owner":"root","group":"root","mode":"0644","source":"s","variables":[]}]}"#,
        )
        .unwrap();
        let tables = Tables::read(root.path()).unwrap();
        assert_eq!((tables.image.late[0].path.as_str(), &tables.maas, &tables.database), ("/etc/x", &None, &None));
        std::fs::write(
            directory.join("database.toml"),
            "version = \"17\"\ndata = \"/d\"\nbinaries = \"/p\"\ndatabase = \"maasdb\"\nrole = \"maas\"\n\
             failover = \"manual\"\nsynchronous = \"on\"\n",
        )
        .unwrap();
        assert_eq!(Tables::read(root.path()).unwrap().database.unwrap().failover, Failover::Manual);
        std::fs::write(directory.join("maas.toml"), "packaging = 3\n").unwrap();
        assert!(Tables::read(root.path()).unwrap_err().message.contains("maas.toml"));
    }
}
