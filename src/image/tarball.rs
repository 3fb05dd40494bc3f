//! The root as `tar.gz`, in members: one for the directories, one for each group of files, one for hard links.
//!
//! For MAAS custom images, LXD and systemd-nspawn: a writable root without dm-verity. A member is a step of its own
//! and shared by every role that has the same group.

use rayon::prelude::*;

use crate::digest::{Digest, Hasher, Key};
use crate::format::{Recipe, targz};
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::store::Store;
use crate::tree::{Kind as NodeKind, Node, Tree, TreePath};

use super::group::{self, Group};

/// Version of what a member holds for the same nodes (a format break).
const MEMBER_VERSION: u32 = 2;

/// gzip's level: a tarball is downloaded over a local network and unpacked once.
const LEVEL: u32 = 1;

/// The recipe of the tarball. `layers` names the role's layers, lowest first.
///
/// # Errors
/// When a content is missing from the store, or the store cannot be written.
pub fn press(tree: &Tree, layers: &[String], store: &Store, progress: &dyn Progress) -> Result<Recipe, Report> {
    let groups = members(tree, layers);
    let task = progress.begin("tarball", groups.len() as u64, Unit::Things);
    let made: Result<Vec<(Digest, u64, String)>, Report> = groups
        .par_iter()
        .map(|group| {
            let made = member(group, store);
            task.advance(1);
            made
        })
        .collect();
    let mut made = made?;
    let mut end = Vec::new();
    targz::end(LEVEL, &mut end).map_err(failed)?;
    made.push((store.put(&end)?, end.len() as u64, "end of archive".to_owned()));
    Ok(targz::assemble(&made))
}

/// Directories come first, so that each is there with its owner and mode before anything is put in it; second names
/// of hard links come last, when their first names are there.
fn members<'a>(tree: &'a Tree, layers: &[String]) -> Vec<Group<'a>> {
    let list = |label: &str, wanted: &dyn Fn(&TreePath, &Node) -> bool| Group {
        label: label.to_owned(),
        nodes: tree.iter().filter(|(path, node)| wanted(path, node)).collect(),
    };
    let mut groups = vec![list("directories", &|_, node| node.kind.is_directory())];
    groups.extend(group::groups(tree, layers, |path, node| !node.kind.is_directory() && !is_second_name(path, node)));
    groups.push(list("hard links", &is_second_name));
    groups.retain(|group| !group.nodes.is_empty());
    groups
}

fn is_second_name(path: &TreePath, node: &Node) -> bool {
    matches!(&node.kind, NodeKind::File(file) if file.group.as_ref().is_some_and(|first| first != path))
}

fn member(group: &Group<'_>, store: &Store) -> Result<(Digest, u64, String), Report> {
    let nodes = &group.nodes;
    let key = Key::new("tar.member", MEMBER_VERSION).input("level", LEVEL).input("nodes", nodes_digest(nodes));
    if let Some((object, size)) = store.result::<(Digest, u64)>(&key)? {
        return Ok((object, size, group.label.clone()));
    }
    let mut writer = store.writer()?;
    let open = |content: &crate::tree::Content| store.reader(content).map_err(std::io::Error::other);
    targz::member(nodes.iter().copied(), open, LEVEL, &mut writer).map_err(failed)?;
    let (object, size) = writer.finish()?;
    store.record(&key, vec![object], &(object, size))?;
    Ok((object, size, group.label.clone()))
}

/// A digest of everything that a member says of its nodes.
fn nodes_digest(nodes: &[(&TreePath, &Node)]) -> Digest {
    let mut hasher = Hasher::new();
    for (path, node) in nodes {
        let line = crate::tree::describe(path, node);
        hasher.update(&(line.len() as u64).to_le_bytes());
        hasher.update(line.as_bytes());
    }
    hasher.finish()
}

fn failed(error: impl std::error::Error) -> Report {
    let cause = error.source().map_or(String::new(), |source| format!(": {source}"));
    Diagnostic::error(Kind::World, format!("the tarball cannot be made: {error}{cause}")).into()
}
