//! A layer's packages over its parent's tree, as `dpkg --unpack` would lay them.
//!
//! Owns which name each shipped file gets (merged directories, diversions), who may overwrite whom (`Replaces`), and
//! the nodes of dpkg's database. A function of values but for the small files that it stores. Runs nothing.
//! Reference: dpkg's own behaviour (`dpkg --unpack`, deb-control(5) on Replaces, policy 7.6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind as Problem, Report};
use crate::store::{Store, StoreError};
use crate::tree::{Content, Kind, Meta, Node, Origin, Tree, TreePath};

use super::database::{self, Diversion, Installed, Interest};
use super::leaves::acts;
use super::unpack::Unpacked;

/// A layer's packages laid, none of their scripts run.
#[derive(Clone, Debug)]
pub struct Laid {
    /// Parent and layer, dpkg's database included.
    pub tree: Tree,
    /// The packages whose preinst is to be run, as dpkg names them, in order.
    pub preinsts: Vec<Preinst>,
    /// Whether nothing is left to do: the packages run nothing, and set off no trigger.
    pub is_configured: bool,
}

/// A preinst to run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Preinst {
    /// Package name.
    pub package: String,
    /// Its architecture.
    pub architecture: String,
    /// Name of its files in dpkg's `info`.
    pub instance: String,
}

/// Lays `packages` over `parent`. New files of the database get the time `epoch`.
///
/// # Errors
/// When two packages ship the same file, a path cannot stand where it should, or the store fails.
pub fn lay(store: &Store, parent: Option<&Tree>, packages: &[Unpacked], epoch: i64) -> Result<Laid, Report> {
    let database = match parent {
        Some(tree) => Existing::read(store, tree).map_err(Diagnostic::from)?,
        None => Existing::default(),
    };
    // What makes `/bin` a link comes first: every other package's files are laid through it.
    let mut order: Vec<&Unpacked> = packages.iter().collect();
    order.sort_by_key(|unpacked| (unpacked.package.name != "base-files", unpacked.package.name.clone()));

    let root = Node::new(Meta::root_owned(0o755), Kind::Directory, Origin::Built("root directory".to_owned()));
    let mut work = Work {
        tree: parent.cloned().unwrap_or_else(|| Tree::new(root)),
        owners: BTreeMap::new(),
        elided: BTreeSet::new(),
        packages: &order,
        existing: &database,
        report: Report::new(),
    };
    work.note_existing_owners();
    for index in 0..order.len() {
        work.lay_package(index);
    }
    if work.report.has_errors() {
        return Err(work.report);
    }
    let (tree, elided) = (work.tree, work.elided);
    let mut laid = Laid { tree, preinsts: Vec::new(), is_configured: false };
    write_database(store, &mut laid, &database, &order, &elided, epoch)?;
    for unpacked in order.iter().filter(|unpacked| unpacked.control.contains_key("preinst")) {
        laid.preinsts.push(Preinst {
            package: unpacked.package.name.clone(),
            architecture: unpacked.package.architecture.clone(),
            instance: database::instance_name(&unpacked.package),
        });
    }
    // base-passwd's preinst makes the first passwd and group; scripts of others may already ask for users.
    laid.preinsts.sort_by_key(|preinst| preinst.package != "base-passwd");
    Ok(laid)
}

/// The parent's database.
#[derive(Default)]
struct Existing {
    status: String,
    installed: Vec<Installed>,
    diversions: Vec<Diversion>,
}

impl Existing {
    fn read(store: &Store, tree: &Tree) -> Result<Self, StoreError> {
        let read = |path: &str| -> Result<String, StoreError> {
            let path = TreePath::parse(format!("{}/{path}", database::PLACE)).unwrap_or_default();
            match tree.get(&path).and_then(Node::content) {
                Some(content) => Ok(String::from_utf8_lossy(&store.read(content)?).into_owned()),
                None => Ok(String::new()),
            }
        };
        let status = read("status")?;
        let mut installed = Vec::new();
        for (package, _) in database::parse_status(&status) {
            let instance = database::instance_name(&package);
            let files = read(&format!("info/{instance}.list"))?.lines().map(str::to_owned).collect();
            let triggers = read(&format!("info/{instance}.triggers"))?;
            installed.push(Installed { package, instance, files, triggers });
        }
        let diversions = database::parse_diversions(&read("diversions")?);
        Ok(Self { status, installed, diversions })
    }
}

/// Who ships a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// A package of the parent.
    Existing(usize),
    /// A package of this layer.
    New(usize),
}

struct Work<'a> {
    tree: Tree,
    owners: BTreeMap<TreePath, Owner>,
    /// Files that another package replaces: package, and the path as that package names it.
    elided: BTreeSet<(Elided, TreePath)>,
    packages: &'a [&'a Unpacked],
    existing: &'a Existing,
    report: Report,
}

/// A package by its place among the parent's or the layer's.
type Elided = (bool, usize);

fn elided(owner: Owner) -> Elided {
    match owner {
        Owner::Existing(index) => (false, index),
        Owner::New(index) => (true, index),
    }
}

impl Work<'_> {
    fn note_existing_owners(&mut self) {
        for (index, installed) in self.existing.installed.iter().enumerate() {
            for file in &installed.files {
                let name = self.diverted(file, &installed.package.name).unwrap_or(file);
                let Ok(path) = TreePath::parse(name) else { continue };
                let Ok(place) = self.tree.resolve_parents(&path) else { continue };
                if self.tree.get(&place).is_some_and(|node| !node.kind.is_directory()) {
                    self.owners.insert(place, Owner::Existing(index));
                }
            }
        }
    }

    /// Where a diversion of another package sends the file.
    fn diverted<'b>(&'b self, path: &str, package: &str) -> Option<&'b String> {
        let diversion = self.existing.diversions.iter().find(|diversion| diversion.from == path)?;
        (diversion.package != package).then_some(&diversion.to)
    }

    fn lay_package(&mut self, index: usize) {
        let unpacked = self.packages[index];
        let package = &unpacked.package;
        let origin = Arc::new(Origin::Package {
            layer: unpacked.layer.clone(),
            name: package.name.clone(),
            version: package.version.as_str().to_owned(),
        });
        // Names of a package's hard-link groups, as laid.
        let mut groups: BTreeMap<TreePath, TreePath> = BTreeMap::new();
        for (shipped, node) in unpacked.tree.iter() {
            let mut node = node.clone();
            node.origin = origin.clone();
            let absolute = format!("/{shipped}");
            let diverted = self.diverted(&absolute, &package.name).and_then(|to| TreePath::parse(to).ok());
            let place = match self.tree.resolve_parents(diverted.as_ref().unwrap_or(shipped)) {
                Ok(place) => place,
                Err(error) => {
                    self.refuse(index, format!("`{absolute}` cannot be laid: {error}"));
                    continue;
                }
            };
            if shipped.is_root() {
                // The root directory is whoever's comes first.
                if index == 0 && self.existing.installed.is_empty() {
                    let _ = self.tree.insert(place, node);
                }
                continue;
            }
            if !self.may_stand(index, shipped, &place, &node.kind) {
                continue;
            }
            if let Kind::File(file) = &mut node.kind {
                file.group =
                    file.group.take().map(|group| groups.entry(group).or_insert_with(|| place.clone()).clone());
            }
            if !node.kind.is_directory() {
                self.owners.insert(place.clone(), Owner::New(index));
            }
            if let Err(error) = self.tree.insert(place, node) {
                self.refuse(index, format!("`{absolute}` cannot be laid: {error}"));
            }
        }
    }

    /// Whether the package's node is laid at `place`, given what stands there.
    fn may_stand(&mut self, index: usize, shipped: &TreePath, place: &TreePath, kind: &Kind) -> bool {
        let Some(present) = self.tree.get(place) else { return true };
        let is_directory = match &present.kind {
            Kind::Directory => true,
            // A link to a directory is as good as the directory.
            Kind::Symlink(_) if kind.is_directory() => {
                let end = self.tree.resolve(place).ok();
                end.and_then(|end| self.tree.get(&end)).is_some_and(|node| node.kind.is_directory())
            }
            _ => false,
        };
        match (is_directory, kind) {
            (true, Kind::Directory | Kind::Symlink(_)) => return false,
            (true, _) => {
                self.refuse(index, format!("`/{shipped}` is a file in the package and a directory in the root"));
                return false;
            }
            (false, _) => {}
        }
        let Some(owner) = self.owners.get(place).copied() else { return true };
        let (other, other_name) = match owner {
            Owner::Existing(other) => {
                (&self.existing.installed[other].package, self.existing.installed[other].instance.clone())
            }
            Owner::New(other) => {
                (&self.packages[other].package, database::instance_name(&self.packages[other].package))
            }
        };
        let package = &self.packages[index].package;
        let replaces = |one: &crate::deb::package::Package, other: &crate::deb::package::Package| {
            one.replaces.iter().any(|relation| relation.name == other.name && relation.accepts(other.version.as_str()))
        };
        if replaces(package, other) {
            self.elided.insert((elided(owner), shipped.clone()));
            return true;
        }
        if replaces(other, package) {
            self.elided.insert((elided(Owner::New(index)), shipped.clone()));
            return false;
        }
        let message = format!("`/{shipped}` is in the package {other_name} too, and neither `Replaces` the other");
        self.refuse(index, message);
        false
    }

    fn refuse(&mut self, index: usize, message: String) {
        let Unpacked { package, layer, .. } = self.packages[index];
        let message = format!("the package {} {} does not fit: {message}", package.name, package.version.as_str());
        let diagnostic = Diagnostic::error(Problem::World, message).note(format!("in the layer `{layer}`"));
        self.report.push(diagnostic.hint("leave one of the packages out"));
    }
}

fn write_database(
    store: &Store,
    laid: &mut Laid,
    existing: &Existing,
    packages: &[&Unpacked],
    elided: &BTreeSet<(Elided, TreePath)>,
    epoch: i64,
) -> Result<(), Report> {
    let mut writer = Writer { store, tree: &mut laid.tree, epoch };
    let built = Arc::new(Origin::Built("dpkg's database".to_owned()));
    for directory in ["", "/info", "/triggers", "/updates", "/parts", "/alternatives"] {
        writer.directory(&format!("{}{directory}", database::PLACE), &built)?;
    }
    let sets_off = write_triggers(&mut writer, existing, packages, &built)?;
    laid.is_configured = !sets_off && !packages.iter().any(|unpacked| acts(unpacked));
    let state = if laid.is_configured { "installed" } else { "unpacked" };
    let mut status = existing.status.trim_end().to_owned();
    for unpacked in packages {
        if !status.is_empty() {
            status.push_str("\n\n");
        }
        status.push_str(database::status_stanza(unpacked, state).trim_end());
    }
    writer.file("status", format!("{status}\n").as_bytes(), &built)?;
    if existing.status.is_empty() {
        writer.file("info/format", b"1\n", &built)?;
        for empty in ["diversions", "statoverride", "available"] {
            writer.file(empty, b"", &built)?;
        }
    }
    for (index, unpacked) in packages.iter().enumerate() {
        let package = &unpacked.package;
        let instance = database::instance_name(package);
        let origin = Arc::new(Origin::Package {
            layer: unpacked.layer.clone(),
            name: package.name.clone(),
            version: package.version.as_str().to_owned(),
        });
        let kept = unpacked.tree.iter().map(|(path, _)| path);
        let kept = kept.filter(|path| !elided.contains(&((true, index), (*path).clone())));
        let mut list = b"/.\n".to_vec();
        for path in kept.filter(|path| !path.is_root()) {
            list.extend([b"/", path.as_bytes(), b"\n"].concat());
        }
        writer.file(&format!("info/{instance}.list"), &list, &origin)?;
        for (name, member) in &unpacked.control {
            let mut meta = Meta::root_owned(member.mode);
            meta.mtime = epoch;
            let node = Node::new(meta, Kind::file(member.content), origin.clone());
            writer.node(&format!("info/{instance}.{name}"), node)?;
        }
    }
    for (index, installed) in existing.installed.iter().enumerate() {
        let lost =
            |file: &&String| TreePath::parse(file.as_str()).is_ok_and(|path| elided.contains(&((false, index), path)));
        if installed.files.iter().any(|file| lost(&file)) {
            let kept: String =
                installed.files.iter().filter(|file| !lost(file)).map(|file| format!("{file}\n")).collect();
            writer.file(&format!("info/{}.list", installed.instance), kept.as_bytes(), &built)?;
        }
    }
    Ok(())
}

/// Returns whether a trigger was set off.
fn write_triggers(
    writer: &mut Writer<'_>,
    existing: &Existing,
    packages: &[&Unpacked],
    built: &Arc<Origin>,
) -> Result<bool, Report> {
    let mut all: BTreeSet<Interest> = BTreeSet::new();
    for installed in &existing.installed {
        all.extend(database::interests(&installed.instance, &installed.triggers));
    }
    for unpacked in packages {
        all.extend(database::interests(&database::instance_name(&unpacked.package), &unpacked.triggers));
    }
    for (name, text) in database::trigger_files(&all) {
        writer.file(&format!("triggers/{name}"), text.as_bytes(), built)?;
    }
    let shipped = packages.iter().flat_map(|unpacked| unpacked.tree.iter());
    let paths: Vec<String> =
        shipped.filter(|(_, node)| !node.kind.is_directory()).map(|(path, _)| format!("/{path}")).collect();
    let configured: BTreeSet<&str> = existing.installed.iter().map(|installed| installed.instance.as_str()).collect();
    let waiting = |instance: &str| configured.contains(instance);
    let pending = database::pending_triggers(&all, waiting, paths.iter().map(String::as_str));
    writer.file("triggers/Unincorp", pending.as_bytes(), built)?;
    Ok(!pending.is_empty() || packages.iter().any(|unpacked| database::activates(&unpacked.triggers)))
}

/// Puts files of dpkg's database into the tree.
struct Writer<'a> {
    store: &'a Store,
    tree: &'a mut Tree,
    epoch: i64,
}

impl Writer<'_> {
    fn directory(&mut self, path: &str, origin: &Arc<Origin>) -> Result<(), Report> {
        let mut place = TreePath::root();
        for component in path.split('/') {
            place = place.join(&TreePath::parse(component).unwrap_or_default());
            if self.tree.get(&place).is_none() {
                let meta = Meta { mtime: self.epoch, ..Meta::root_owned(0o755) };
                self.insert(place.clone(), Node::new(meta, Kind::Directory, origin.clone()))?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, bytes: &[u8], origin: &Arc<Origin>) -> Result<(), Report> {
        let digest: Digest = self.store.put(bytes).map_err(Diagnostic::from)?;
        let meta = Meta { mtime: self.epoch, ..Meta::root_owned(0o644) };
        self.node(path, Node::new(meta, Kind::file(Content::whole(digest, bytes.len() as u64)), origin.clone()))
    }

    fn node(&mut self, path: &str, node: Node) -> Result<(), Report> {
        let place = TreePath::parse(format!("{}/{path}", database::PLACE)).unwrap_or_default();
        self.insert(place, node)
    }

    fn insert(&mut self, place: TreePath, node: Node) -> Result<(), Report> {
        let refuse =
            |error: crate::tree::TreeError| Diagnostic::error(Problem::World, format!("dpkg's database: {error}"));
        Ok(self.tree.insert(place, node).map_err(refuse)?)
    }
}
