//! A root file system as a value.
//!
//! Owns the nodes of a tree (owners, modes, times, extended attributes, hard links), where each came from, and
//! merging, comparing and writing a tree down as text. File contents are named by digest; a tree never holds or
//! reads them. Paths and link targets are bytes, as in POSIX. Touches no disk.

mod dump;
mod merge;
mod node;
mod over;
mod path;

pub use dump::{ParseDumpError, Places, describe, parse as parse_dump, write as write_dump};
pub use merge::{Change, difference};
pub use node::{Content, File, Kind, Meta, Node, Origin, Place};
pub use over::{base as difference_base, parse as parse_difference, write as write_difference};
pub use path::{PathError, TreePath};

use std::collections::BTreeMap;

use crate::digest::Digest;

/// A file system tree. Every node's parent is a directory of the tree; the root directory is always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<TreePath, Node>,
}

/// A node that cannot stand where it was put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The parent is missing or no directory.
    #[error("`/{0}` has no parent directory")]
    NoParent(TreePath),
    /// Symbolic links that lead back to themselves, or out of the tree.
    #[error("the symbolic links on the way to `/{0}` do not end")]
    LinkLoop(TreePath),
}

impl Tree {
    /// A tree of the root directory alone.
    pub fn new(root: Node) -> Self {
        Self { nodes: BTreeMap::from([(TreePath::root(), root)]) }
    }

    /// The tree of nodes that are in tree order already; none when they are not, do not begin with the root directory,
    /// or one's parent is no directory.
    fn of_ordered(nodes: Vec<(TreePath, Node)>) -> Option<Self> {
        // The directories from the root to the node that was looked at last.
        let mut above: Vec<&TreePath> = Vec::new();
        for (index, (path, node)) in nodes.iter().enumerate() {
            while above.last().is_some_and(|directory| !path.starts_with(directory)) {
                above.pop();
            }
            let parent = above.last().map_or(0, |directory| directory.as_bytes().len());
            let is_child = path.as_bytes().iter().rposition(|byte| *byte == b'/').unwrap_or(0) == parent;
            let follows = index.checked_sub(1).is_none_or(|before| nodes[before].0 < *path);
            if path.is_root() != (index == 0) || (above.is_empty() && index > 0) || !is_child || !follows {
                return None;
            }
            if node.kind.is_directory() {
                above.push(path);
            }
        }
        (!nodes.is_empty()).then(|| Self { nodes: nodes.into_iter().collect() })
    }

    /// The node at `path`, symbolic links not followed.
    pub fn get(&self, path: &TreePath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// As [`Tree::get`], to change a node in the function that builds the tree.
    pub fn get_mut(&mut self, path: &TreePath) -> Option<&mut Node> {
        self.nodes.get_mut(path)
    }

    /// Puts `node` at `path`. What was there is replaced; a directory put on a directory keeps its children, and
    /// anything else put on a directory removes them.
    ///
    /// # Errors
    /// [`TreeError::NoParent`] when the parent is no directory of this tree.
    pub fn insert(&mut self, path: TreePath, node: Node) -> Result<(), TreeError> {
        if let Some(parent) = path.parent()
            && !self.nodes.get(&parent).is_some_and(|parent| parent.kind.is_directory())
        {
            return Err(TreeError::NoParent(path));
        }
        if !node.kind.is_directory() && self.nodes.get(&path).is_some_and(|node| node.kind.is_directory()) {
            self.remove(&path);
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Removes the node at `path` and everything under it; returns whether there was one. The root stays.
    pub fn remove(&mut self, path: &TreePath) -> bool {
        if path.is_root() {
            let before = self.nodes.len();
            self.nodes.retain(|path, _| path.is_root());
            return self.nodes.len() < before;
        }
        let doomed: Vec<TreePath> = self.below(path).map(|(path, _)| path.clone()).collect();
        for path in &doomed {
            self.nodes.remove(path);
        }
        !doomed.is_empty()
    }

    /// All nodes; parents before children, siblings by their names' bytes.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&TreePath, &Node)> {
        self.nodes.iter()
    }

    /// As [`Tree::iter`], to change nodes in the function that builds the tree.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&TreePath, &mut Node)> {
        self.nodes.iter_mut()
    }

    /// The node at `path` and everything under it, in order.
    pub fn below<'a>(&'a self, path: &TreePath) -> impl Iterator<Item = (&'a TreePath, &'a Node)> {
        self.nodes.range(path.clone()..).take_while(move |(other, _)| other.starts_with(path))
    }

    /// Number of nodes, the root directory included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the tree is the root directory alone.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// The place that `path` means once every symbolic link among its *parents* is followed inside the tree
    /// (`bin/sh` is `usr/bin/sh` where `/bin` is a link). Components that the tree lacks are kept as they are.
    ///
    /// # Errors
    /// [`TreeError::LinkLoop`] after 40 links, as the kernel counts (`path_resolution(7)`), or when a link's
    /// target is no path.
    pub fn resolve_parents(&self, path: &TreePath) -> Result<TreePath, TreeError> {
        match path.parent() {
            None => Ok(path.clone()),
            Some(parent) => {
                let parent = self.resolve(&parent)?;
                Ok(parent.join_component(path.name()))
            }
        }
    }

    /// As [`Tree::resolve_parents`], with the last component followed too.
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&self, path: &TreePath) -> Result<TreePath, TreeError> {
        let mut links = 0;
        let mut pending: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let mut place = TreePath::root();
        while let Some(component) = pending.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    place = place.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = place.join_component(&component);
            if let Some(Kind::Symlink(target)) = self.nodes.get(&next).map(|node| &node.kind) {
                links += 1;
                if links > 40 {
                    return Err(TreeError::LinkLoop(path.clone()));
                }
                if target.first() == Some(&b'/') {
                    place = TreePath::root();
                }
                pending.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            } else {
                place = next;
            }
        }
        Ok(place)
    }

    /// The digest of everything that an image shows of this tree: paths, kinds, owners, modes, times, attributes,
    /// links and contents. Neither origins nor the places of contents in a store count.
    pub fn digest(&self) -> Digest {
        Digest::of(write_dump(self, Places::Left).as_bytes())
    }
}
