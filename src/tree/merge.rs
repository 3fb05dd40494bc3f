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
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::{Content, Kind, Meta, Origin};
    use super::*;
    use crate::digest::Digest;

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

    fn trees() -> impl Strategy<Value = Tree> {
        let entry = ("[a-c]{1,2}(/[a-c]{1,2}){0,3}", 0..0o10000_u16, 0..5_u8, any::<bool>());
        proptest::collection::vec(entry, 0..30).prop_map(|entries| {
            let origin = Arc::new(Origin::Built("test".into()));
            let mut tree = Tree::new(Node::new(Meta::root_owned(0o755), Kind::Directory, origin.clone()));
            for (path, mode, kind, marked) in entries {
                let kind = match kind {
                    0 => Kind::Symlink(mode.to_le_bytes().to_vec()),
                    1 => Kind::file(Content::whole(Digest::of(&mode.to_le_bytes()), 2)),
                    2 => Kind::Character(u32::from(mode), 1),
                    _ => Kind::Directory,
                };
                let mut meta = Meta::root_owned(mode);
                if marked {
                    meta.xattrs.insert(b"user.\xff =,".to_vec(), mode.to_le_bytes().to_vec());
                }
                // Where the parent is no directory there is nothing to put.
                let _ = tree.insert(TreePath::parse(&path).unwrap(), Node::new(meta, kind, origin.clone()));
            }
            tree
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// The differences are all of them and no more: laid over the first tree they make the second.
        #[test]
        fn differences_make_one_tree_of_the_other(first in trees(), second in trees()) {
            let changes = difference(&first, &second);
            let mut made = first.clone();
            for (path, change) in changes.iter().rev() {
                if matches!(change, Change::Removed(_)) {
                    made.remove(path);
                }
            }
            for (path, change) in &changes {
                if let Change::Added(node) | Change::Changed(_, node) = change {
                    made.insert((*path).clone(), (*node).clone()).unwrap();
                }
            }
            prop_assert_eq!(&made, &second);
            prop_assert!(difference(&made, &second).is_empty());
            prop_assert_eq!(first.digest() == second.digest(), changes.is_empty());
            for (path, change) in changes {
                match change {
                    Change::Added(_) => prop_assert!(first.get(path).is_none()),
                    Change::Removed(_) => prop_assert!(second.get(path).is_none()),
                    Change::Changed(one, two) => prop_assert!(one.meta != two.meta || one.kind != two.kind),
                }
            }
        }

        /// A tree is stored as text over another one and read back, places and origins included.
        #[test]
        fn any_tree_over_another_reads_back_as_it_was_written(first in trees(), second in trees(), moved in any::<bool>()) {
            let mut second = second;
            for (index, (_, node)) in second.iter_mut().enumerate() {
                if moved && index % 2 == 0 {
                    node.origin = Arc::new(Origin::Configure { layer: "another".into() });
                    if let Kind::File(file) = &mut node.kind {
                        file.content.place.offset = 7;
                    }
                }
            }
            let stored = Digest::of(b"the first");
            let text = crate::tree::write_difference(&second, &first, &stored);
            prop_assert_eq!(crate::tree::difference_base(&text), Some(stored));
            let read = crate::tree::parse_difference(&text, &first).unwrap();
            // Places do not count where trees are compared.
            let dump = |tree: &Tree| crate::tree::write_dump(tree, crate::tree::Places::Kept);
            prop_assert_eq!(dump(&read), dump(&second));
        }

        /// A tree is stored as text and read back, places and origins included.
        #[test]
        fn any_tree_reads_back_as_it_was_written(tree in trees()) {
            let text = crate::tree::write_dump(&tree, crate::tree::Places::Kept);
            prop_assert_eq!(crate::tree::parse_dump(&text).unwrap(), tree);
        }
    }
}
