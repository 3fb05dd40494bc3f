//! Putting single nodes into a tree, with the directories that lead there.

use std::sync::Arc;

use crate::tree::{Kind, Meta, Node, Origin, Tree, TreePath};

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
