//! What a profile lays over a configured root: files, links, owners and modes, removals.
//!
//! Owns the meaning of an overlay on a tree. Functions on values: contents are stored already, names of owners are
//! looked up in the tree's own passwd and group, and every mistake is told at the line that a person wrote.

use std::sync::Arc;

use crate::report::{Diagnostic, Kind as Problem, Report};
use crate::spec::{Permission, Written};
use crate::store::StoreError;
use crate::tree::{Content, File, Kind, Meta, Node, Origin, Tree, TreePath};

use super::accounts;
use super::place::{make_parents, repair_groups};

/// Gives the bytes of a content.
pub type Reader<'a> = &'a dyn Fn(&Content) -> Result<Vec<u8>, StoreError>;

/// One file to lay.
#[derive(Clone, Debug)]
pub struct Put<'a> {
    /// Path in the root, no leading `/`.
    pub path: &'a str,
    /// The overlay file that it comes from, from the project's root.
    pub source: &'a str,
    /// What is laid.
    pub body: PutBody<'a>,
}

/// What is laid at a path.
#[derive(Clone, Debug)]
pub enum PutBody<'a> {
    /// A regular file of root.
    File {
        /// Its stored bytes.
        content: Content,
        /// Permission bits.
        mode: u16,
    },
    /// A symbolic link.
    Link {
        /// Its target.
        target: &'a str,
    },
}

/// Lays files over the tree, in order: a later one wins. Links among a path's parents are followed; what stood at the
/// path itself is replaced. New files and directories get the time `epoch`.
///
/// # Errors
/// A path that leaves the root, or a file where the root has a directory.
pub fn put(mut tree: Tree, layer: &str, files: &[Put<'_>], epoch: i64) -> Result<Tree, Report> {
    let mut report = Report::new();
    for file in files {
        let origin = Arc::new(Origin::Overlay { layer: layer.to_owned(), file: file.source.to_owned() });
        let mut lay = || -> Result<(), String> {
            let path = TreePath::parse(file.path).map_err(|error| error.to_string())?;
            let place = tree.resolve_parents(&path).map_err(|error| error.to_string())?;
            if tree.get(&place).is_some_and(|node| node.kind.is_directory()) {
                return Err("the root has a directory there".to_owned());
            }
            let (mode, kind) = match &file.body {
                PutBody::File { content, mode } => (*mode, Kind::file(*content)),
                PutBody::Link { target } => (0o777, Kind::Symlink(target.as_bytes().to_vec())),
            };
            make_parents(&mut tree, &place, epoch, &origin);
            let meta = Meta { mtime: epoch, ..Meta::root_owned(mode) };
            tree.insert(place, Node::new(meta, kind, origin.clone())).map_err(|error| error.to_string())
        };
        if let Err(error) = lay() {
            let message = format!("the overlay file `{}` cannot be laid at `/{}`: {error}", file.source, file.path);
            report.push(Diagnostic::error(Problem::Input, message).note(format!("in the layer `{layer}`")));
        }
    }
    repair_groups(&mut tree);
    if report.has_errors() { Err(report) } else { Ok(tree) }
}

/// Gives owners and modes to paths; makes directories where it is asked to. The last component is followed where it
/// is a link.
///
/// # Errors
/// A path that is not there, or an owner that the tree's passwd or group does not have, at its line.
pub fn permit(
    mut tree: Tree,
    layer: &str,
    permissions: &[Permission],
    epoch: i64,
    read: Reader<'_>,
) -> Result<Tree, Report> {
    let mut report = Report::new();
    if permissions.is_empty() {
        return Ok(tree);
    }
    let passwd = text_of(&tree, "etc/passwd", read)?;
    let group = text_of(&tree, "etc/group", read)?;
    for permission in permissions {
        let (line, _) = permission.span.line_and_column();
        let file = permission.span.source.path.clone();
        let origin = Arc::new(Origin::Written { layer: layer.to_owned(), file, line });
        let refuse = |message: String| Diagnostic::error(Problem::Input, message).at(&permission.span, "");
        let uid = number(&passwd, &permission.owner);
        let gid = number(&group, &permission.group);
        let (Some(uid), Some(gid)) = (uid, gid) else {
            let (what, name) = if uid.is_none() { ("user", &permission.owner) } else { ("group", &permission.group) };
            let hint =
                "make it before packages are configured (`users` or `groups` in the profile), or install its package";
            report.push(refuse(format!("the built root has no {what} `{name}`")).hint(hint));
            continue;
        };
        let place = TreePath::parse(&permission.path)
            .map_err(|error| error.to_string())
            .and_then(|path| tree.resolve(&path).map_err(|error| error.to_string()));
        let place = match place {
            Ok(place) => place,
            Err(error) => {
                report.push(refuse(error));
                continue;
            }
        };
        match tree.get(&place) {
            None if permission.directory => {
                make_parents(&mut tree, &place, epoch, &origin);
                let meta = Meta { uid, gid, mtime: epoch, ..Meta::root_owned(permission.mode) };
                if let Err(error) = tree.insert(place, Node::new(meta, Kind::Directory, origin)) {
                    report.push(refuse(error.to_string()));
                }
            }
            None => {
                let diagnostic = refuse(format!("the built root has no `/{}`", permission.path));
                report.push(diagnostic.hint("to have a directory made there, write `directory = true`"));
            }
            Some(_) => {
                for name in names(&tree, &place) {
                    if let Some(node) = tree.get_mut(&name) {
                        (node.meta.uid, node.meta.gid, node.meta.mode) = (uid, gid, permission.mode);
                    }
                }
            }
        }
    }
    if report.has_errors() { Err(report) } else { Ok(tree) }
}

/// Removes paths and all under them.
///
/// # Errors
/// A path that is not there, at its line.
pub fn remove(mut tree: Tree, paths: &[Written<String>]) -> Result<Tree, Report> {
    let mut report = Report::new();
    for written in paths {
        let place = TreePath::parse(&written.value).ok().and_then(|path| tree.resolve_parents(&path).ok());
        let place = place.filter(|place| !place.is_root());
        if !place.is_some_and(|place| tree.remove(&place)) {
            let message = format!("the built root has no `/{}` to remove", written.value.trim_start_matches('/'));
            report.push(Diagnostic::error(Problem::Input, message).at(&written.span, ""));
        }
    }
    repair_groups(&mut tree);
    if report.has_errors() { Err(report) } else { Ok(tree) }
}

/// All names of the file at `path`.
fn names(tree: &Tree, path: &TreePath) -> Vec<TreePath> {
    let Some(Kind::File(File { group: Some(group), .. })) = tree.get(path).map(|node| &node.kind) else {
        return vec![path.clone()];
    };
    let is_member = |node: &Node| matches!(&node.kind, Kind::File(file) if file.group.as_ref() == Some(group));
    tree.iter().filter(|(_, node)| is_member(node)).map(|(path, _)| path.clone()).collect()
}

fn number(text: &str, name: &str) -> Option<u32> {
    accounts::number_of(text, name).or_else(|| name.parse().ok().filter(|number| *number < 65536))
}

fn text_of(tree: &Tree, path: &str, read: Reader<'_>) -> Result<String, Report> {
    let node = TreePath::parse(path).ok().and_then(|path| tree.get(&path));
    match node.and_then(Node::content) {
        None => Ok(String::new()),
        Some(content) => Ok(String::from_utf8_lossy(&read(content).map_err(Diagnostic::from)?).into_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use crate::digest::Digest;
    use crate::report::{Source, Span};

    use super::*;

    /// Trees with contents in memory.
    #[derive(Default)]
    pub(in crate::layer) struct Memory(RefCell<BTreeMap<Digest, Vec<u8>>>);

    impl Memory {
        pub(in crate::layer) fn content(&self, text: &str) -> Content {
            let digest = Digest::of(text.as_bytes());
            self.0.borrow_mut().insert(digest, text.as_bytes().to_vec());
            Content::whole(digest, text.len() as u64)
        }

        pub(in crate::layer) fn read(&self, content: &Content) -> Result<Vec<u8>, StoreError> {
            self.0.borrow().get(&content.digest).cloned().ok_or(StoreError::Missing(content.digest))
        }

        /// Paths with their text; `-> ` begins a link's target, `/` is a directory.
        pub(in crate::layer) fn tree(&self, paths: &[(&str, &str)]) -> Tree {
            let origin = Arc::new(Origin::Built("test".to_owned()));
            let mut tree = Tree::new(Node::new(Meta::root_owned(0o755), Kind::Directory, origin.clone()));
            for (path, text) in paths {
                let path = TreePath::parse(path).unwrap();
                make_parents(&mut tree, &path, 0, &origin);
                let kind = match text.strip_prefix("-> ") {
                    Some(target) => Kind::Symlink(target.as_bytes().to_vec()),
                    None if *text == "/" => Kind::Directory,
                    None => Kind::file(self.content(text)),
                };
                tree.insert(path, Node::new(Meta::root_owned(0o644), kind, origin.clone())).unwrap();
            }
            tree
        }
    }

    /// Every path that is no directory, with its text or target.
    pub(in crate::layer) fn shown(tree: &Tree, memory: &Memory) -> Vec<String> {
        let show = |(path, node): (&TreePath, &Node)| match &node.kind {
            Kind::Symlink(target) => Some(format!("{path} -> {}", String::from_utf8_lossy(target))),
            Kind::File(file) => {
                Some(format!("{path} = {}", String::from_utf8_lossy(&memory.read(&file.content).unwrap())))
            }
            _ => None,
        };
        tree.iter().filter_map(show).collect()
    }

    pub(in crate::layer) fn written(text: &str) -> Written<String> {
        let source = Arc::new(Source { path: "profiles/x.toml".into(), text: text.to_owned() });
        Written { value: text.to_owned(), span: Span::new(&source, 0..text.len()) }
    }

    fn permission(path: &str, owner: &str, directory: bool) -> Permission {
        let span = written(path).span;
        Permission { path: path.into(), owner: owner.into(), group: "root".into(), mode: 0o640, directory, span }
    }

    #[test]
    fn files_go_through_merged_directories_and_replace_links() {
        let memory = Memory::default();
        let tree = memory.tree(&[("usr/lib", "/"), ("lib", "-> usr/lib"), ("etc/resolv.conf", "-> ../run/x")]);
        let content = memory.content("new");
        let file = |path| Put { path, source: "overlays/x", body: PutBody::File { content, mode: 0o644 } };
        let link = Put { path: "etc/a/link", source: "overlays/x", body: PutBody::Link { target: "b" } };
        let tree = put(tree, "base", &[file("lib/x"), file("etc/resolv.conf"), link], 9).unwrap();
        assert_eq!(
            shown(&tree, &memory),
            ["etc/a/link -> b", "etc/resolv.conf = new", "lib -> usr/lib", "usr/lib/x = new"]
        );
        let report = put(tree, "base", &[file("usr/lib"), file("../x")], 9).unwrap_err();
        assert_eq!(report.diagnostics.len(), 2);
    }

    #[test]
    fn owners_are_looked_up_in_the_root_and_given_to_every_name_of_a_file() {
        let memory = Memory::default();
        let mut tree = memory.tree(&[
            ("etc/passwd", "root:x:0:0::/:\nmaas:x:950:950::/:\n"),
            ("etc/group", "root:x:0:\n"),
            ("a", "1"),
            ("b", "1"),
        ]);
        for name in ["a", "b"] {
            if let Kind::File(file) = &mut tree.get_mut(&TreePath::parse(name).unwrap()).unwrap().kind {
                file.group = Some(TreePath::parse("a").unwrap());
            }
        }
        let read = |content: &Content| memory.read(content);
        let asked = [permission("b", "maas", false), permission("var/lib/maas", "maas", true)];
        let tree = permit(tree, "base", &asked, 9, &read).unwrap();
        for name in ["a", "b", "var/lib/maas"] {
            let node = tree.get(&TreePath::parse(name).unwrap()).unwrap();
            assert_eq!((node.meta.uid, node.meta.gid, node.meta.mode), (950, 0, 0o640), "{name}");
        }
        let asked = [permission("b", "nobody", false), permission("none", "maas", false)];
        let report = permit(tree.clone(), "base", &asked, 9, &read).unwrap_err();
        let messages: Vec<_> = report.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
        assert_eq!(messages, ["the built root has no user `nobody`", "the built root has no `/none`"]);

        // A group of which one name is left is none.
        let tree = remove(tree, &[written("a")]).unwrap();
        let left = tree.get(&TreePath::parse("b").unwrap()).unwrap();
        assert!(matches!(&left.kind, Kind::File(File { group: None, .. })));
        assert_eq!(
            remove(tree, &[written("/a")]).unwrap_err().diagnostics[0].labels[0].span.place(),
            "profiles/x.toml:1:1"
        );
    }
}
