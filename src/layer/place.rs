//! Small changes to a tree that several files here make: directories on the way, hard-link groups after a loss.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::tree::{File, Kind, Meta, Node, Origin, Tree, TreePath};

/// Makes the directories above `path` that are missing: root's, 0755, of the time `epoch`.
pub(super) fn make_parents(tree: &mut Tree, path: &TreePath, epoch: i64, origin: &Arc<Origin>) {
    let missing: Vec<TreePath> = std::iter::successors(path.parent(), TreePath::parent)
        .take_while(|parent| tree.get(parent).is_none())
        .collect();
    for directory in missing.into_iter().rev() {
        let meta = Meta { mtime: epoch, ..Meta::root_owned(0o755) };
        // Its own parent was made just before, or is there; a parent that is no directory shows at the next insert.
        let _ = tree.insert(directory, Node::new(meta, Kind::Directory, origin.clone()));
    }
}

/// A group that lost members (one was copied up and is a file of its own now) is named by its first remaining path,
/// and is none when one name remains.
pub(super) fn repair_groups(tree: &mut Tree) {
    let mut members: BTreeMap<TreePath, Vec<TreePath>> = BTreeMap::new();
    for (path, node) in tree.iter() {
        if let Kind::File(File { group: Some(group), .. }) = &node.kind {
            members.entry(group.clone()).or_default().push(path.clone());
        }
    }
    for paths in members.values() {
        let name = (paths.len() > 1).then(|| paths[0].clone());
        for path in paths {
            if let Some(Kind::File(file)) = tree.get_mut(path).map(|node| &mut node.kind) {
                file.group = name.clone();
            }
        }
    }
}
