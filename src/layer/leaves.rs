//! When a package of a layer is configured: with the layer, or later, over all layers of a role at once.
//!
//! Owns that choice alone, a function of what the packages say of themselves. What others rely on comes first. A package that
//! runs something but that no other such package names is configured late, over whatever the layers above bring; one that
//! runs nothing, and that none of those names, is laid last. So adding or updating one of these runs hardly another
//! package's scripts again. Every order in which dependencies hold is one that packages have to bear (Debian policy 7.2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::deb::control::Stanzas;
use crate::plan::{Before, LockedPackage};
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

/// When a package is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// With its layer.
    First,
    /// Over all layers of a role, before what is laid last.
    Late,
    /// Laid over everything, and hardly configured.
    Last,
}

/// When each of the packages is configured, in the given order. `before` is what is put in place for the layer, which has to
/// be there when they are.
pub(super) fn turns(packages: &[Unpacked], before: &Before) -> Vec<Turn> {
    let names = Names::of(packages);
    let laid: Vec<TreePath> = before.files.iter().filter_map(|file| TreePath::parse(&file.path).ok()).collect();
    let acting: Vec<usize> = (0..packages.len()).filter(|index| acts(&packages[*index])).collect();
    let mut is_named = vec![false; packages.len()];
    // What is only suggested is no more relied on than what is not named at all.
    let relied_on = |index: &usize| names.named_in(*index, &["Pre-Depends", "Depends", "Recommends"]);
    acting.iter().flat_map(relied_on).for_each(|named| is_named[named] = true);
    let is_first = |index: usize| {
        let Unpacked { package, tree, .. } = &packages[index];
        let is_answered = before.debconf.iter().any(|answer| answer.package == package.name);
        let has_laid = laid.iter().any(|path| tree.get(path).is_some());
        package.essential || package.protected || is_answered || has_laid || (acts(&packages[index]) && is_named[index])
    };
    let mut turns = vec![Turn::Last; packages.len()];
    names.reach((0..packages.len()).filter(|index| is_first(*index)), Turn::First, &mut turns);
    names.reach(acting.into_iter(), Turn::Late, &mut turns);
    turns
}

/// Which of the packages name which others.
struct Names<'a> {
    packages: &'a [Unpacked],
    /// The packages of a name, or that provide it.
    places: BTreeMap<&'a str, Vec<usize>>,
    /// What improves a package: such a package may look for it.
    improvers: BTreeMap<usize, Vec<usize>>,
}

impl<'a> Names<'a> {
    fn of(packages: &'a [Unpacked]) -> Self {
        let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, unpacked) in packages.iter().enumerate() {
            let provided = unpacked.package.provides.iter().map(|relation| relation.name);
            for name in provided.chain([unpacked.package.name.as_str()]) {
                places.entry(name).or_default().push(index);
            }
        }
        let mut improvers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, unpacked) in packages.iter().enumerate() {
            for improved in names(unpacked, &["Enhances"]).filter_map(|name| places.get(name)).flatten() {
                improvers.entry(*improved).or_default().push(index);
            }
        }
        Self { packages, places, improvers }
    }

    /// The others that these fields of a package name.
    fn named_in(&self, index: usize, fields: &'a [&'a str]) -> impl Iterator<Item = usize> {
        let named = names(&self.packages[index], fields).filter_map(|name| self.places.get(name)).flatten().copied();
        named.filter(move |other| *other != index)
    }

    /// The others that a package names, and those that improve it.
    fn named_by(&self, index: usize) -> impl Iterator<Item = usize> {
        let named = self.named_in(index, &["Pre-Depends", "Depends", "Recommends", "Suggests"]);
        named.chain(self.improvers.get(&index).into_iter().flatten().copied().filter(move |other| *other != index))
    }

    /// Gives `turn` to packages and to what they name, as far as these have no earlier one.
    fn reach(&self, packages: impl Iterator<Item = usize>, turn: Turn, turns: &mut [Turn]) {
        let mut next: Vec<usize> = packages.collect();
        while let Some(index) = next.pop() {
            if turns[index] > turn {
                turns[index] = turn;
                next.extend(self.named_by(index));
            }
        }
    }
}

/// Whether the package does something as it is configured, or others rely on it without naming it. Its configuration files
/// are dpkg's to compare with what lies there already.
pub(super) fn acts(unpacked: &Unpacked) -> bool {
    let runs = ["preinst", "postinst"].iter().any(|script| unpacked.control.contains_key(*script));
    let package = &unpacked.package;
    runs || package.essential || package.protected || !unpacked.conffiles.is_empty()
}

/// Which of the packages that come late or last an initrd is made over: those that are `wanted`, and what one of them that
/// acts names, because dpkg asks for it.
pub(super) fn of_initrd(packages: &[Unpacked], wanted: impl Fn(&Unpacked) -> bool) -> Vec<bool> {
    let wanted: Vec<bool> = packages.iter().map(wanted).collect();
    let mut turns = vec![Turn::Last; packages.len()];
    let acting = (0..packages.len()).filter(|index| wanted[*index] && acts(&packages[*index]));
    Names::of(packages).reach(acting, Turn::Late, &mut turns);
    turns.into_iter().zip(wanted).map(|(turn, wanted)| wanted || turn == Turn::Late).collect()
}

/// Whether the package ships only what people call or read, or what is started once the root is there: nothing that an
/// initrd is made of.
pub(super) fn is_for_people(unpacked: &Unpacked) -> bool {
    let places: [&[u8]; 7] = [
        b"etc/default/",
        b"etc/init.d/",
        b"etc/logrotate.d/",
        b"usr/bin/",
        b"usr/games/",
        b"usr/lib/systemd/system/",
        b"usr/share/",
    ];
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
    fn what_others_rely_on_comes_first_and_what_runs_nothing_last() {
        let mut packages = vec![
            package("shell", "Essential: yes\nPre-Depends: libc (>= 2)\n", &[]),
            package("libc", "", &[]),
            package("daemon", "Depends: lib-a | mail, lib-b:any\nSuggests: helper\n", &["postinst"]),
            package("lib-a", "Depends: lib-c\n", &[]),
            package("lib-b", "", &["postinst"]),
            package("lib-c", "", &[]),
            package("postman", "Provides: mail (= 2)\n", &[]),
            package("helper", "", &["preinst"]),
            package("plugin", "Enhances: daemon\n", &[]),
            package("configured", "", &[]),
            package("answered", "", &["postinst"]),
            // Laid last: one names what acts, one another; a library of these alone; one that only cleans up after itself.
            package("tree", "Depends: libc, shell\nRecommends: daemon\n", &["md5sums"]),
            package("forest", "Depends: tree, lib-d\n", &[]),
            package("lib-d", "", &["triggers"]),
            package("tidy", "", &["prerm", "postrm"]),
        ];
        packages[9].conffiles = vec![Conffile { path: "/etc/x".to_owned(), md5: None, removed: false }];
        let answer = crate::plan::Debconf {
            package: "answered".into(),
            question: "q".into(),
            kind: "string".into(),
            value: "a".into(),
        };
        let found = turns(&packages, &Before { debconf: vec![answer], ..Before::default() });
        let of = |turn: Turn| -> Vec<&str> {
            let named = packages.iter().zip(&found).filter(|(_, found)| **found == turn);
            named.map(|(unpacked, _)| unpacked.package.name.as_str()).collect()
        };
        assert_eq!(of(Turn::First), ["shell", "libc", "lib-b", "answered"]);
        let late = ["daemon", "lib-a", "lib-c", "postman", "helper", "plugin", "configured"];
        assert_eq!(of(Turn::Late), late);
        assert_eq!(of(Turn::Last), ["tree", "forest", "lib-d", "tidy"]);
    }

    #[test]
    fn an_initrd_is_made_over_all_that_a_script_may_rely_on() {
        let packages = [
            package("driver", "Depends: lib\n", &["postinst"]),
            package("lib", "Depends: data\n", &[]),
            package("data", "", &[]),
            package("server", "Depends: lib, manual\n", &["postinst"]),
            package("manual", "", &[]),
        ];
        let wanted = |unpacked: &Unpacked| ["driver", "lib"].contains(&unpacked.package.name.as_str());
        assert_eq!(of_initrd(&packages, wanted), [true, true, true, false, false]);
    }
}
