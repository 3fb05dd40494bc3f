//! Overlays and permissions: what a person wrote, laid over a configured tree.
//!
//! Pure functions of the tree. Owners are named by people and numbered by the tree's own `passwd(5)` and `group(5)`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::plan::{Permission, PlannedBody, PlannedFile, Written};
use crate::report::{Diagnostic, Kind, Report};
use crate::tree::{Content, Kind as NodeKind, Meta, Node, Origin, Tree, TreePath};

/// The numbers of names, from a tree's `passwd(5)` and `group(5)`.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Accounts {
    /// Reads the two files' texts; lines that are none are passed over, as the C library does.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let numbers = |text: &str| {
            let entries = text.lines().filter_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?.to_owned();
                Some((name, fields.nth(1)?.parse().ok()?))
            });
            entries.collect()
        };
        Self { users: numbers(passwd), groups: numbers(group) }
    }

    /// The number of a user, if there is one.
    pub fn user(&self, name: &str) -> Option<u32> {
        self.users.get(name).copied()
    }

    /// The number of a group, if there is one.
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).copied()
    }
}

/// Removes paths; one that is not there is an error at the line that names it.
///
/// # Errors
/// With every path that removes nothing.
pub fn remove(tree: &mut Tree, paths: &[Written<String>]) -> Result<(), Report> {
    let mut report = Report::new();
    for path in paths {
        let removed = TreePath::parse(&path.value).is_ok_and(|path| !path.is_root() && tree.remove(&path));
        if !removed {
            report.push(
                Diagnostic::error(Kind::Input, format!("`{}` is not in the root", path.value))
                    .at(&path.span, "removes nothing")
                    .hint("take it out of `remove`"),
            );
        }
    }
    if report.has_errors() { Err(report) } else { Ok(()) }
}

/// Lays the files. `store` keeps bytes and says where. Late files are not laid; their directories are made.
///
/// # Errors
/// When a path cannot be, or bytes cannot be stored.
pub fn lay(
    tree: &mut Tree,
    files: &[PlannedFile],
    epoch: i64,
    mut store: impl FnMut(&[u8]) -> Result<Content, Report>,
) -> Result<(), Report> {
    for file in files {
        let origin = Arc::new(Origin::Overlay { layer: file.layer.clone(), file: file.source.clone() });
        let path = place(tree, &file.path, &origin, epoch).map_err(|why| refuse(file, &why))?;
        let meta = |mode| Meta { mtime: epoch, ..Meta::root_owned(mode) };
        let node = match &file.body {
            PlannedBody::File { content, mode } => Node::new(meta(*mode), NodeKind::file(store(content)?), origin),
            PlannedBody::Link(target) => Node::new(meta(0o777), NodeKind::Symlink(target.clone().into_bytes()), origin),
            PlannedBody::Late { .. } => continue,
        };
        if tree.get(&path).is_some_and(|node| node.kind.is_directory()) {
            return Err(refuse(file, "there is a directory of that name in the root"));
        }
        tree.insert(path, node).map_err(|error| refuse(file, &error.to_string()))?;
    }
    Ok(())
}

fn refuse(file: &PlannedFile, why: &str) -> Report {
    Diagnostic::error(Kind::Input, format!("`{}` cannot be laid at `/{}`", file.source, file.path)).note(why).into()
}

/// The path with its parents' links followed, and the parents made where they are missing: `root:root`, 0755.
///
/// # Errors
/// What is wrong with the path, as text.
pub fn place(tree: &mut Tree, path: &str, origin: &Arc<Origin>, epoch: i64) -> Result<TreePath, String> {
    let path = TreePath::parse(path).map_err(|error| error.to_string())?;
    let path = tree.resolve_parents(&path).map_err(|error| error.to_string())?;
    let there = std::iter::successors(path.parent(), TreePath::parent).find(|parent| tree.get(parent).is_some());
    if let Some(parent) = there.filter(|parent| tree.get(parent).is_some_and(|node| !node.kind.is_directory())) {
        return Err(format!("`/{parent}` is no directory"));
    }
    super::place::make_parents(tree, &path, epoch, origin);
    Ok(path)
}

/// Sets owners and modes, and makes the directories that are asked for. `late` names paths that are not in the tree
/// because a seed brings them; for those only the names are checked.
///
/// # Errors
/// With every unknown owner, and every path that is not there.
pub fn permit(
    tree: &mut Tree,
    permissions: &[Permission],
    accounts: &Accounts,
    late: &[&str],
    layer_of: impl Fn(&Permission) -> String,
    epoch: i64,
) -> Result<(), Report> {
    let mut report = Report::new();
    for permission in permissions {
        let (uid, gid) = match owner(permission, accounts) {
            Ok(numbers) => numbers,
            Err(diagnostic) => {
                report.push(diagnostic);
                continue;
            }
        };
        if late.contains(&permission.path.as_str()) {
            continue;
        }
        let (line, _) = permission.span.line_and_column();
        let file = permission.span.source.path.clone();
        let origin = Arc::new(Origin::Written { layer: layer_of(permission), file, line });
        let path = match place(tree, &permission.path, &origin, epoch) {
            Ok(path) => path,
            Err(why) => {
                report.push(Diagnostic::error(Kind::Input, why).at(&permission.span, ""));
                continue;
            }
        };
        if permission.directory && tree.get(&path).is_none() {
            let meta = Meta { mtime: epoch, ..Meta::root_owned(permission.mode) };
            // `place` made the parent, so this cannot fail.
            let _ = tree.insert(path.clone(), Node::new(meta, NodeKind::Directory, origin));
        }
        match tree.get_mut(&path) {
            Some(node) if node.kind.is_directory() == permission.directory => {
                node.meta.uid = uid;
                node.meta.gid = gid;
                node.meta.mode = permission.mode;
            }
            Some(_) => report.push(
                Diagnostic::error(Kind::Input, format!("`/{}` is of another kind in the root", permission.path))
                    .at(&permission.span, "")
                    .hint("write `[directory.…]` for directories and `[file.…]` for files"),
            ),
            None => report.push(
                Diagnostic::error(Kind::Input, format!("there is no `/{}` in the root", permission.path))
                    .at(&permission.span, "its owner and mode are set here")
                    .hint("put the file in an overlay, or take this section out"),
            ),
        }
    }
    if report.has_errors() { Err(report) } else { Ok(()) }
}

/// The numbers of a permission's owner and group.
fn owner(permission: &Permission, accounts: &Accounts) -> Result<(u32, u32), Diagnostic> {
    let unknown = |what: &str, name: &str| {
        Diagnostic::error(Kind::Input, format!("the root has no {what} `{name}`"))
            .at(&permission.span, "")
            .hint(format!("give it a number under `[before.{what}.{name}]`, or install the package that makes it"))
    };
    let uid = accounts.user(&permission.owner).ok_or_else(|| unknown("user", &permission.owner))?;
    let gid = accounts.group(&permission.group).ok_or_else(|| unknown("group", &permission.group))?;
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use crate::digest::Digest;
    use crate::report::{Source, Span};

    use super::*;

    fn tree() -> Tree {
        let origin = || Origin::Built("test".into());
        let directory = || Node::new(Meta::root_owned(0o755), NodeKind::Directory, origin());
        let mut tree = Tree::new(directory());
        for path in ["usr", "usr/lib"] {
            tree.insert(TreePath::parse(path).unwrap(), directory()).unwrap();
        }
        let link = Node::new(Meta::root_owned(0o777), NodeKind::Symlink(b"usr/lib".to_vec()), origin());
        tree.insert(TreePath::parse("lib").unwrap(), link).unwrap();
        tree
    }

    fn file(path: &str, body: PlannedBody) -> PlannedFile {
        PlannedFile { layer: "base".into(), path: path.into(), source: format!("overlays/base/{path}"), body }
    }

    fn keep(bytes: &[u8]) -> Result<Content, Report> {
        Ok(Content::whole(Digest::of(bytes), bytes.len() as u64))
    }

    fn permission(path: &str, owner: &str, directory: bool) -> Permission {
        let source = Arc::new(Source { path: "profiles/base.toml".into(), text: "[file.x]\n".into() });
        Permission {
            path: path.into(),
            owner: owner.into(),
            group: "root".into(),
            mode: 0o640,
            directory,
            span: Span::new(&source, 0..8),
        }
    }

    #[test]
    fn files_are_laid_through_links_and_parents_are_made() {
        let mut tree = tree();
        let body = || PlannedBody::File { content: b"x".to_vec(), mode: 0o755 };
        let late = PlannedBody::Late { mode: 0o600, variables: vec!["secret".into()] };
        let files = [file("lib/a/b", body()), file("etc/late/pw", late), file("l", PlannedBody::Link("usr".into()))];
        lay(&mut tree, &files, 7, keep).unwrap();
        let node = tree.get(&TreePath::parse("usr/lib/a/b").unwrap()).unwrap();
        assert_eq!((node.meta.mode, node.meta.mtime), (0o755, 7));
        assert!(tree.get(&TreePath::parse("etc/late").unwrap()).unwrap().kind.is_directory());
        assert!(tree.get(&TreePath::parse("etc/late/pw").unwrap()).is_none());
        assert!(lay(&mut tree, &[file("usr/lib", body())], 7, keep).is_err());
    }

    #[test]
    fn owners_are_looked_up_in_the_tree_and_unknown_ones_named() {
        let accounts = Accounts::parse("root:x:0:0::/root:/bin/sh\nmaas:x:990:990:::\n", "root:x:0:\n");
        let mut tree = tree();
        lay(&mut tree, &[file("etc/x", PlannedBody::File { content: vec![], mode: 0o644 })], 0, keep).unwrap();
        let layer = |_: &Permission| "base".to_owned();
        let good = [permission("etc/x", "maas", false), permission("var/lib/maas", "maas", true)];
        permit(&mut tree, &good, &accounts, &[], layer, 0).unwrap();
        for path in ["etc/x", "var/lib/maas"] {
            let node = tree.get(&TreePath::parse(path).unwrap()).unwrap();
            assert_eq!((node.meta.uid, node.meta.mode), (990, 0o640), "{path}");
        }
        let bad = [permission("etc/x", "nobody", false), permission("etc/gone", "root", false)];
        let report = permit(&mut tree, &bad, &accounts, &[], layer, 0).unwrap_err();
        assert_eq!(report.diagnostics.len(), 2);
        permit(&mut tree, &[permission("etc/gone", "root", false)], &accounts, &["etc/gone"], layer, 0).unwrap();
    }
}
