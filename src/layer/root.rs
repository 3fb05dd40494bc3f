//! A role's root: the configured tree of its top layer, with everything laid that a person wrote.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::digest::Digest;
use crate::plan::Permission;
use crate::plan::{PlannedBody, RolePlan};
use crate::report::{Diagnostic, Kind, Report};
use crate::store::Store;
use crate::tree::{Content, Kind as NodeKind, Meta, Node, Origin, Tree, TreePath};

use super::agent::Agent;
use super::overlay::{self, Accounts};
use super::workshop::Laid;
use super::{settle, units};

/// Where the agent lies on the machines.
pub const AGENT: &str = "usr/libexec/rolecast/rolecast-join";

/// Where the machine finds what image it runs, and which files it waits for.
pub const TABLE: &str = "usr/lib/rolecast/image.json";

/// What names the image on the machine.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Name of the image file.
    pub name: &'a str,
    /// Its `version`.
    pub version: &'a str,
    /// Names of the role's layers, lowest first.
    pub layers: &'a [String],
    /// The agent's executable.
    pub agent: &'a Agent,
    /// Seconds since the Epoch of what is made here.
    pub epoch: i64,
}

/// A finished root.
#[derive(Clone, Debug)]
pub struct RoleRoot {
    /// The root.
    pub tree: Tree,
    /// The stored tree.
    pub stored: Digest,
    /// Whether it came from the store.
    pub reused: bool,
}

/// The role's root, from the store when it has it.
///
/// # Errors
/// When something written does not fit the configured tree, at its line.
pub fn assemble(plan: &RolePlan, laid: &Laid, image: Image<'_>, store: &Store) -> Result<RoleRoot, Report> {
    if let Some(stored) = store.result::<Digest>(&plan.key)? {
        let tree = store.tree_over(&stored, &laid.tree, &laid.digest)?;
        return Ok(RoleRoot { tree, stored, reused: true });
    }
    let mut tree = (*laid.tree).clone();
    overlay::remove(&mut tree, &plan.remove)?;
    let keep = |bytes: &[u8]| Ok(Content::whole(store.put(bytes)?, bytes.len() as u64));
    overlay::lay(&mut tree, &plan.files, image.epoch, keep)?;
    add(&mut tree, AGENT, 0o755, image.agent.content(store)?, "the agent", image.epoch)?;
    let accounts = Accounts::parse(&text(&tree, &path("etc/passwd"), store)?, &text(&tree, &path("etc/group"), store)?);
    permit(&mut tree, plan, &accounts, image)?;
    for (units, layer) in plan.units.iter().zip(image.layers) {
        units::apply(&mut tree, units, layer, image.epoch, &|tree, path| text(tree, path, store))?;
    }
    tables(&mut tree, plan, image, store)?;
    let tree = settle::settle(tree, image.epoch, keep)?;
    let stored = store.put_tree_over(&tree, &laid.tree, &laid.digest)?;
    store.record(&plan.key, objects(&tree, [stored, laid.digest]), &stored)?;
    Ok(RoleRoot { tree, stored, reused: false })
}

/// A path that is written in this room; all of them parse.
fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap_or_default()
}

/// Everything in a store that a tree needs.
fn objects(tree: &Tree, stored: [Digest; 2]) -> Vec<Digest> {
    let contents = tree.iter().filter_map(|(_, node)| Some(node.content()?.place.object));
    let needed: BTreeSet<Digest> = contents.chain(stored).collect();
    needed.into_iter().collect()
}

/// The text of a regular file; empty when it is not there.
fn text(tree: &Tree, path: &TreePath, store: &Store) -> Result<String, Report> {
    let place = tree.resolve(path).map_err(|error| Diagnostic::error(Kind::Input, error.to_string()))?;
    match tree.get(&place).and_then(Node::content) {
        Some(content) => Ok(String::from_utf8_lossy(&store.read(content)?).into_owned()),
        None => Ok(String::new()),
    }
}

fn permit(tree: &mut Tree, plan: &RolePlan, accounts: &Accounts, image: Image<'_>) -> Result<(), Report> {
    let late: Vec<&str> = plan
        .files
        .iter()
        .filter(|file| matches!(file.body, PlannedBody::Late { .. }))
        .map(|file| file.path.as_str())
        .collect();
    // A permission belongs to the layer of the file that it is about, or else to the lowest that could hold it.
    let layer_of = |permission: &Permission| {
        let file = plan.files.iter().find(|file| file.path == permission.path);
        let layer = file.map(|file| file.layer.clone());
        layer.or_else(|| image.layers.last().cloned()).unwrap_or_default()
    };
    overlay::permit(tree, &plan.permissions, accounts, &late, layer_of, image.epoch)?;
    let states: Vec<Permission> = plan
        .state
        .iter()
        .map(|state| Permission {
            path: state.path.clone(),
            owner: state.owner.clone(),
            group: state.group.clone(),
            mode: state.mode,
            directory: true,
            span: state.span.clone(),
        })
        .collect();
    overlay::permit(tree, &states, accounts, &late, layer_of, image.epoch)
}

/// What rolecast itself puts into a root: the image's name in `os-release(5)`, and the table for the agent.
fn tables(tree: &mut Tree, plan: &RolePlan, image: Image<'_>, store: &Store) -> Result<(), Report> {
    let os_release = path("usr/lib/os-release");
    let shipped = text(tree, &os_release, store)?;
    if !shipped.is_empty() {
        let mut release: String =
            shipped.lines().filter(|line| !line.starts_with("IMAGE_")).collect::<Vec<_>>().join("\n");
        release.push_str(&format!("\nIMAGE_ID={}\nIMAGE_VERSION={}\n", plan.name, image.version));
        let content = Content::whole(store.put(release.as_bytes())?, release.len() as u64);
        add(tree, "usr/lib/os-release", 0o644, content, "the image's name in os-release", image.epoch)?;
    }
    let state: Vec<String> = plan.state.iter().map(|state| format!("/{}", state.path)).collect();
    let table = serde_json::json!({
        "format": 1, "image": image.name, "version": image.version, "role": plan.name,
        "late": plan.late(), "state": state,
    });
    let table = format!("{table:#}\n");
    let content = Content::whole(store.put(table.as_bytes())?, table.len() as u64);
    add(tree, TABLE, 0o644, content, "the table for the agent", image.epoch)
}

fn add(tree: &mut Tree, to: &str, mode: u16, content: Content, part: &str, epoch: i64) -> Result<(), Report> {
    let origin = Arc::new(Origin::Built(part.to_owned()));
    let place = overlay::place(tree, to, &origin, epoch).map_err(|why| Diagnostic::error(Kind::Input, why))?;
    let meta = Meta { mtime: epoch, ..Meta::root_owned(mode) };
    tree.insert(place, Node::new(meta, NodeKind::file(content), origin))
        .map_err(|error| Diagnostic::error(Kind::Input, error.to_string()).into())
}
