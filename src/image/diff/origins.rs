//! Where the files of an image come from: the store that built it knows, else dpkg's database inside.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::Report;
use crate::tree::{Tree, TreePath};

use super::contents::Contents;
use super::packages::{self, Installed};

/// What dpkg's database may take in memory, a file.
const MOST_DATABASE_BYTES: u64 = 64 << 20;

/// Where dpkg keeps what it knows (dpkg(1), FILES).
const STATUS: &str = "var/lib/dpkg/status";
const INFO: &str = "var/lib/dpkg/info";

/// The origins of an image's files, and its packages.
pub struct Origins {
    stored: Option<Tree>,
    listed: BTreeMap<TreePath, String>,
    /// The packages that dpkg says are installed.
    pub packages: Vec<Installed>,
}

impl Origins {
    /// Reads dpkg's database in `contents`; `stored` is the tree that a store kept of the image, if one did.
    ///
    /// # Errors
    /// When the image is broken there.
    pub fn read(contents: &mut Contents, stored: Option<Tree>) -> Result<Self, Report> {
        let status = place(STATUS);
        let mut wanted = BTreeSet::from([status.clone()]);
        if stored.is_none() {
            let info = place(INFO);
            let lists = contents.tree.below(&info).map(|(path, _)| path.clone());
            wanted.extend(lists.filter(|path| path.as_bytes().ends_with(b".list")));
        }
        let mut database = contents.bytes(&wanted, MOST_DATABASE_BYTES)?;
        let packages = packages::installed(&String::from_utf8_lossy(&database.remove(&status).unwrap_or_default()));
        let mut listed = BTreeMap::new();
        for (path, bytes) in &database {
            let name = String::from_utf8_lossy(path.name()).into_owned();
            let name = name.strip_suffix(".list").unwrap_or(&name);
            let is = |package: &&Installed| {
                name == package.name || name == format!("{}:{}", package.name, package.architecture)
            };
            let Some(package) = packages.iter().find(is) else { continue };
            let origin = format!("package {} {}", package.name, package.version);
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let Ok(path) = TreePath::parse(line) else { continue };
                let path = contents.tree.resolve_parents(&path).unwrap_or(path);
                listed.insert(path, origin.clone());
            }
        }
        Ok(Self { stored, listed, packages })
    }

    /// Who put `path` there.
    pub fn of(&self, path: &TreePath) -> String {
        match (&self.stored, self.listed.get(path)) {
            (Some(tree), _) => {
                tree.get(path).map_or("not in the tree that was built".to_owned(), |node| node.origin.to_string())
            }
            (None, Some(origin)) => origin.clone(),
            (None, None) => "no package".to_owned(),
        }
    }
}

fn place(path: &str) -> TreePath {
    TreePath::parse(path).unwrap_or_default()
}
