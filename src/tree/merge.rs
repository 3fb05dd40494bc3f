//! What differs between two trees.

use super::{Node, Tree, TreePath};

/// How one path differs between two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Only in the second.
    Added(&'a Node),
    /// Only in the first.
    Removed(&'a Node),
    /// In both, not alike (origins do not count).
    Changed(&'a Node, &'a Node),
}

/// Every path that differs between `first` and `second`, in tree order.
pub fn difference<'a>(first: &'a Tree, second: &'a Tree) -> Vec<(&'a TreePath, Change<'a>)> {
    let mut changes = Vec::new();
    let mut left = first.iter().peekable();
    let mut right = second.iter().peekable();
    loop {
        match (left.peek(), right.peek()) {
            (None, None) => return changes,
            (Some(&(path, node)), other) if other.is_none_or(|(other, _)| path < *other) => {
                changes.push((path, Change::Removed(node)));
                left.next();
            }
            (other, Some(&(path, node))) if other.is_none_or(|(other, _)| path < *other) => {
                changes.push((path, Change::Added(node)));
                right.next();
            }
            (Some(&(path, one)), Some(&(_, two))) => {
                if one.meta != two.meta || one.kind != two.kind {
                    changes.push((path, Change::Changed(one, two)));
                }
                left.next();
                right.next();
            }
            // The guards above take every case with one side empty.
            (Some(_), None) | (None, Some(_)) => return changes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Meta, Origin};
    use super::*;

    #[test]
    fn added_removed_and_changed_paths_are_found() {
        let node = |mode| Node::new(Meta::root_owned(mode), Kind::Directory, Origin::Built("test".into()));
        let tree = |paths: &[(&str, u16)]| {
            let mut tree = Tree::new(node(0o755));
            for (path, mode) in paths {
                tree.insert(TreePath::parse(path).unwrap(), node(*mode)).unwrap();
            }
            tree
        };
        let first = tree(&[("a", 0o755), ("b", 0o755), ("d", 0o755)]);
        let second = tree(&[("b", 0o700), ("c", 0o755), ("d", 0o755)]);
        let changes: Vec<_> = difference(&first, &second)
            .into_iter()
            .map(|(path, change)| match change {
                Change::Added(_) => format!("+{path}"),
                Change::Removed(_) => format!("-{path}"),
                Change::Changed(..) => format!("~{path}"),
            })
            .collect();
        assert_eq!(changes, ["-a", "~b", "+c"]);
    }
}
