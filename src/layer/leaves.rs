//! Which packages of a layer are laid last: those whose place in the order changes nothing for any other package.
//!
//! Owns that choice alone, a function of what the packages say of themselves. A package is a leaf when it runs nothing as it
//! is configured and none that does names it; a leaf is then laid over all layers of a role at once, as if it had been
//! installed after everything else, so that adding or updating it runs no other package's scripts again. Every order in
//! which dependencies hold is one that packages have to bear (Debian policy 7.2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::deb::control::Stanzas;
use crate::plan::{BeforeFile, LockedPackage};
use crate::tree::TreePath;

use super::unpack::Unpacked;

/// A package and the layer that asks for it: the origin of its files, whenever it is laid.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The layer's name.
    pub layer: String,
    /// The package.
    pub package: LockedPackage,
}

/// Which of the packages are leaves, in the given order. `before` are the files that are laid over them, which packages that
/// come last would lie over.
pub(super) fn leaves(packages: &[Unpacked], before: &[BeforeFile]) -> Vec<bool> {
    let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, unpacked) in packages.iter().enumerate() {
        let provided = unpacked.package.provides.iter().map(|relation| relation.name);
        for name in provided.chain([unpacked.package.name.as_str()]) {
            named.entry(name).or_default().push(index);
        }
    }
    let mut leaves = vec![true; packages.len()];
    let laid: Vec<TreePath> = before.iter().filter_map(|file| TreePath::parse(&file.path).ok()).collect();
    let acts = |unpacked: &Unpacked| acts(unpacked) || laid.iter().any(|path| unpacked.tree.get(path).is_some());
    let mut next: Vec<usize> = (0..packages.len()).filter(|index| acts(&packages[*index])).collect();
    // What a leaf improves may look for it.
    let mut improvers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, unpacked) in packages.iter().enumerate() {
        for improved in names(unpacked, &["Enhances"]).filter_map(|name| named.get(name)).flatten() {
            improvers.entry(*improved).or_default().push(index);
        }
    }
    while let Some(index) = next.pop() {
        if !std::mem::take(&mut leaves[index]) {
            continue;
        }
        let fields = ["Pre-Depends", "Depends", "Recommends", "Suggests"];
        next.extend(names(&packages[index], &fields).filter_map(|name| named.get(name)).flatten());
        next.extend(improvers.get(&index).into_iter().flatten());
    }
    leaves
}

/// Whether the package does something as it is configured, or others rely on it without naming it. Its configuration files
/// are dpkg's to compare with what lies there already.
pub(super) fn acts(unpacked: &Unpacked) -> bool {
    let runs = ["preinst", "postinst"].iter().any(|script| unpacked.control.contains_key(*script));
    let package = &unpacked.package;
    runs || package.essential || package.protected || !unpacked.conffiles.is_empty()
}

/// Whether the package ships only what people call or read: nothing that an initrd is made of.
pub(super) fn is_for_people(unpacked: &Unpacked) -> bool {
    let places: [&[u8]; 3] = [b"usr/bin/", b"usr/games/", b"usr/share/"];
    let mut files = unpacked.tree.iter().filter(|(_, node)| !node.kind.is_directory());
    files.all(|(path, _)| places.iter().any(|place| path.as_bytes().starts_with(place)))
}

/// The packages that these fields name.
fn names<'a>(unpacked: &'a Unpacked, fields: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let stanza = Stanzas::new(&unpacked.stanza).next();
    let values = fields.iter().filter_map(move |field| Some(stanza.as_ref()?.get(field)?.value));
    let relations = values.flat_map(|value| value.split([',', '|'])).map(str::trim);
    // Versions and qualifiers do not matter, nor whether a `Suggests` is written as it should be.
    relations
        .filter_map(|relation| relation.split([' ', '\t', '\n', '(', ':', '[']).next())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::package::Package;
    use crate::digest::Digest;
    use crate::layer::unpack::{Conffile, Member};
    use crate::tree::{Content, Kind, Meta, Node, Origin, Tree};

    fn package(name: &str, fields: &str, control: &[&str]) -> Unpacked {
        let stanza = format!("Package: {name}\nVersion: 1\nArchitecture: all\n{fields}");
        let package = Package::parse(Stanzas::new(&stanza).next().unwrap()).unwrap();
        let member = Member { mode: 0o755, content: Content::whole(Digest::of(b""), 0) };
        let control = control.iter().map(|file| ((*file).to_owned(), member)).collect();
        let root = Node::new(Meta::root_owned(0o755), Kind::Directory, Origin::Built("test".to_owned()));
        let (conffiles, triggers) = (Vec::new(), String::new());
        Unpacked { layer: "base".to_owned(), stanza, package, control, conffiles, triggers, tree: Tree::new(root) }
    }

    #[test]
    fn what_runs_nothing_and_is_named_by_nothing_that_runs_is_a_leaf() {
        let mut packages = vec![
            package("shell", "Essential: yes\nPre-Depends: libc (>= 2)\n", &[]),
            package("libc", "", &[]),
            package("daemon", "Depends: lib-a | mail, lib-b:any\nSuggests: helper\n", &["postinst"]),
            package("lib-a", "Depends: lib-c\n", &[]),
            package("lib-b", "", &[]),
            package("lib-c", "", &[]),
            package("postman", "Provides: mail (= 2)\n", &[]),
            package("helper", "", &[]),
            package("plugin", "Enhances: daemon\n", &[]),
            package("configured", "", &[]),
            // Leaves: one names what acts, one a leaf; a library of leaves alone; one that only cleans up after itself.
            package("tree", "Depends: libc, shell\nRecommends: daemon\n", &["md5sums"]),
            package("forest", "Depends: tree, lib-d\n", &[]),
            package("lib-d", "", &["triggers"]),
            package("tidy", "", &["prerm", "postrm"]),
        ];
        packages[9].conffiles = vec![Conffile { path: "/etc/x".to_owned(), md5: None, removed: false }];
        let found = leaves(&packages, &[]);
        let named = packages.iter().zip(found).filter(|(_, leaf)| *leaf).map(|(one, _)| one.package.name.clone());
        assert_eq!(named.collect::<Vec<_>>(), ["tree", "forest", "lib-d", "tidy"]);
    }
}
