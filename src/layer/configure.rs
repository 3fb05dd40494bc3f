//! From a layer's step to its configured tree, at most once for what decides it.
//!
//! Owns which packages are configured in which layer's step and which come last, and what the store remembers of it. Where
//! that is done is the `workshop`'s, what configuring *is* lies in `scripts`, `lay`, `capture` and `settle`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Key};
use crate::plan::{Before, LayerStep};
use crate::report::{Diagnostic, Kind as Problem, Report};
use crate::store::{Store, StoreError};
use crate::tree::{Content, Kind, Meta, Node, Origin, Tree, TreePath};

use super::accounts::{Account, Accounts};
use super::inside::{Configure, Request};
use super::lay;
use super::leaves::{self, Asked, Turn};
use super::settle::settle;
use super::unpack::{self, Unpacked};
use super::workshop::{Laid, Listener, Progress, Workshop};

/// A layer over its parents without the packages that come late or last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Core {
    /// Digest of the stored tree (of its dump with places).
    tree: Digest,
    /// The packages that come late or last, of this layer and of those below it.
    leaves: Vec<Asked>,
}

impl Core {
    /// Digest of the stored tree.
    pub fn tree(&self) -> Digest {
        self.tree
    }

    /// The digests of the packages that come late or last.
    pub fn leaves(&self) -> impl Iterator<Item = Digest> {
        self.leaves.iter().map(|asked| asked.package.sha256)
    }
}

/// What a whole tree is for, which decides the packages that come late or last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A role's root: all of them.
    Root,
    /// What the initrd is made from: not those of other layers that an initrd takes nothing of, so that it stays as it is
    /// when one is added.
    Initrd,
}

/// What the store remembers of a tree that was made.
#[derive(Serialize, Deserialize)]
struct Made {
    tree: Digest,
}

impl Workshop<'_> {
    /// The core of `step` over that of its parent: out of the store where it is there, else made. The parent is asked for
    /// when the layer's own packages are unpacked.
    ///
    /// # Errors
    /// A package that is refused, files that do not fit together, a maintainer script that fails (with the end of its
    /// output and how to look at what it left), no space; and whatever `parent` answers.
    pub fn configured(
        &self,
        step: &LayerStep,
        parent: impl FnOnce() -> Result<Option<Core>, Report>,
        listener: Listener<'_>,
    ) -> Result<Core, Report> {
        if let Some(core) = core(self.store, &step.key)? {
            return Ok(core);
        }
        let _held = self.store.hold(&step.key).map_err(Diagnostic::from)?;
        // Another build may have made it while this one waited.
        if let Some(core) = core(self.store, &step.key)? {
            return Ok(core);
        }
        let own = step.packages.iter().map(|package| Asked { layer: step.name.clone(), package: package.clone() });
        let mut asked: Vec<Asked> = own.collect();
        let done = AtomicUsize::new(0);
        let mut unpacked = unpack::unpack_all(self.store, &asked, &|| {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            listener(Progress::Unpacked { done, total: step.packages.len() });
        })?;
        let parent = parent()?;
        // The step was in the store when its parent was not asked for.
        if step.parent.is_some() && parent.is_none() {
            return Err(gone(step).into());
        }
        if let Some(parent) = &parent {
            unpacked.extend(unpack::unpack_all(self.store, &parent.leaves, &|| {})?);
            asked.extend(parent.leaves.iter().cloned());
        }
        let turns = leaves::turns(&unpacked, &step.before);
        let (mut first, mut leaves) = (Vec::new(), Vec::new());
        for ((asked, unpacked), turn) in asked.into_iter().zip(unpacked).zip(turns) {
            if turn == Turn::First { first.push((asked, unpacked)) } else { leaves.push(asked) }
        }
        let parent = parent.map(|parent| parent.tree);
        let tree = match parent {
            Some(parent) if first.is_empty() && step.before.is_empty() => parent,
            parent => self.core(step, parent, first, listener)?,
        };
        let core = Core { tree, leaves };
        let objects = objects(tree, &self.laid(tree)?.tree);
        self.store.record(&step.key, objects, &core).map_err(Diagnostic::from)?;
        Ok(core)
    }

    /// The tree of `packages` configured over `parent`, with what `step` puts in place before. Its name in the store is what
    /// goes in, so that a package which comes late or last changes nothing here.
    fn core(
        &self,
        step: &LayerStep,
        parent: Option<Digest>,
        packages: Vec<(Asked, Unpacked)>,
        listener: Listener<'_>,
    ) -> Result<Digest, Report> {
        let mut key = Key::new("layer.core", 1).input("step", step.alone.digest());
        if let Some(parent) = parent {
            key = key.input("parent", parent);
        }
        for (Asked { layer, package }, _) in &packages {
            key = key.input(format!("package {}:{} of {layer}", package.name, package.architecture), package.sha256);
        }
        if let Some(Made { tree }) = self.store.result(&key).map_err(Diagnostic::from)? {
            return Ok(tree);
        }
        let _held = self.store.hold(&key).map_err(Diagnostic::from)?;
        if let Some(Made { tree }) = self.store.result(&key).map_err(Diagnostic::from)? {
            return Ok(tree);
        }
        let _permit = self.permits.take();
        let parent = parent.map(|tree| self.laid(tree)).transpose()?;
        let packages: Vec<Unpacked> = packages.into_iter().map(|(_, unpacked)| unpacked).collect();
        let mut laid = lay::lay(self.store, parent.as_ref().map(|parent| &*parent.tree), &packages, step.epoch)?;
        self.lay_before(&mut laid.tree, step)?;
        self.made(&key, step, &step.before, parent.as_ref(), laid, listener)
    }

    /// The whole tree of `step`: its core, and over it the packages that come late or last. Where the store has it the core is
    /// not needed.
    ///
    /// # Errors
    /// As [`Workshop::configured`].
    pub fn whole(
        &self,
        step: &LayerStep,
        core: Option<Core>,
        purpose: Purpose,
        listener: Listener<'_>,
    ) -> Result<Laid, Report> {
        let key = step.whole();
        if let Some(tree) = whole_tree(self.store, step)? {
            return self.laid(tree);
        }
        let core = core.ok_or_else(|| gone(step))?;
        let _held = self.store.hold(&key).map_err(Diagnostic::from)?;
        if let Some(tree) = whole_tree(self.store, step)? {
            return self.laid(tree);
        }
        let (tree, packages) = self.late(step, core, purpose, listener)?;
        let _permit = self.permits.take();
        let below = self.laid(tree)?;
        if packages.is_empty() {
            self.store.record(&key, objects(tree, &below.tree), &Made { tree }).map_err(Diagnostic::from)?;
            return Ok(below);
        }
        let laid = lay::lay(self.store, Some(&below.tree), &packages, step.epoch)?;
        if !laid.is_configured {
            let tree = self.made(&key, step, &Before::default(), Some(&below), laid, listener)?;
            return self.laid(tree);
        }
        let store = |bytes: &[u8]| Ok::<_, StoreError>(Content::whole(self.store.put(bytes)?, bytes.len() as u64));
        let tree = settle(laid.tree, step.epoch, store).map_err(Diagnostic::from)?;
        let digest = self.store.put_tree(&tree).map_err(Diagnostic::from)?;
        self.store.record(&key, objects(digest, &tree), &Made { tree: digest }).map_err(Diagnostic::from)?;
        Ok(Laid { over: Some(below.digest), ..self.shared(digest, || Ok(tree))? })
    }

    /// The core with the packages over it that are configured late; also those that are still to be laid.
    fn late(
        &self,
        step: &LayerStep,
        core: Core,
        purpose: Purpose,
        listener: Listener<'_>,
    ) -> Result<(Digest, Vec<Unpacked>), Report> {
        let Core { tree, leaves } = core;
        let mut unpacked = unpack::unpack_all(self.store, &leaves, &|| {})?;
        let mut asked = leaves;
        if purpose == Purpose::Initrd {
            let wanted = |package: &Unpacked| package.layer == step.name || !leaves::is_for_people(package);
            let keep = leaves::of_initrd(&unpacked, wanted);
            let kept = asked.into_iter().zip(unpacked).zip(keep).filter_map(|(package, keep)| keep.then_some(package));
            (asked, unpacked) = kept.unzip();
        }
        let turns = leaves::turns(&unpacked, &Before::default());
        let (mut late, mut last) = (Vec::new(), Vec::new());
        for ((asked, unpacked), turn) in asked.into_iter().zip(unpacked).zip(turns) {
            if turn == Turn::Last { last.push(unpacked) } else { late.push((asked, unpacked)) }
        }
        // Whatever layer is uppermost: of two over the same tree, what they have in common is configured once.
        let Some(layer) = late.first().map(|(asked, _)| asked.layer.clone()) else { return Ok((tree, last)) };
        Ok((self.core(&step.late(&layer), Some(tree), late, listener)?, last))
    }

    /// Runs the scripts of what was laid over `parent`, and records the tree that they leave.
    fn made(
        &self,
        key: &Key,
        step: &LayerStep,
        before: &Before,
        parent: Option<&Laid>,
        laid: lay::Laid,
        listener: Listener<'_>,
    ) -> Result<Digest, Report> {
        // The sandbox sees the store's files, and no network to bring others from.
        self.store.bring_tree(&laid.tree).map_err(Diagnostic::from)?;
        let request = Configure {
            layer: step.name.clone(),
            directory: self.directory(),
            lower: match parent {
                Some(parent) => self.checkout(parent, listener)?,
                None => Vec::new(),
            },
            parent: parent.map(|parent| parent.digest),
            laid: self.store.put_tree(&laid.tree).map_err(Diagnostic::from)?,
            epoch: step.epoch,
            preinsts: laid.preinsts,
            accounts: accounts(before),
            debconf: debconf(before),
        };
        let (directory, lower) = (request.directory.clone(), request.lower.clone());
        let objects = self.ask(Request::Configure(request), &step.name, &directory, listener)?;
        let objects: Vec<Digest> = objects.into_iter().map(|(digest, _)| digest).collect();
        let Some(&tree) = objects.first() else {
            return Err(Diagnostic::error(Problem::Internal, "the sandbox configured a layer and named no tree").into());
        };
        self.store.record(key, objects, &Made { tree }).map_err(Diagnostic::from)?;
        let own = ["upper", "lay"].map(|name| format!("{directory}/{name}"));
        self.keep_checkout(&tree, own.into_iter().chain(lower).collect());
        Ok(tree)
    }

    /// Lays the files that have to be there before packages are configured.
    fn lay_before(&self, tree: &mut Tree, step: &LayerStep) -> Result<(), Report> {
        let mut report = Report::new();
        for file in &step.before.files {
            let origin = Arc::new(Origin::Overlay { layer: step.name.clone(), file: file.source.clone() });
            let digest = self.store.put(&file.content).map_err(Diagnostic::from)?;
            let meta = Meta { mtime: step.epoch, ..Meta::root_owned(file.mode) };
            let kind = Kind::file(Content::whole(digest, file.content.len() as u64));
            let laid = TreePath::parse(&file.path)
                .map_err(|error| error.to_string())
                .and_then(|path| tree.resolve_parents(&path).map_err(|error| error.to_string()))
                .and_then(|place| {
                    super::place::make_parents(tree, &place, step.epoch, &origin);
                    tree.insert(place, Node::new(meta, kind, origin)).map_err(|error| error.to_string())
                });
            if let Err(error) = laid {
                let message = format!("`{}` cannot be laid before configuring: {error}", file.path);
                let diagnostic = Diagnostic::error(Problem::Input, message).at(&file.span, "asked for here");
                report.push(diagnostic.note(format!("it comes from `{}`", file.source)));
            }
        }
        if report.has_errors() { Err(report) } else { Ok(()) }
    }
}

/// The core of the step named by `key`, where the store has it.
///
/// # Errors
/// When the store cannot be read.
pub fn core(store: &Store, key: &Key) -> Result<Option<Core>, Report> {
    Ok(store.result::<Core>(key).map_err(Diagnostic::from)?)
}

/// The whole tree of the step, where the store has it.
///
/// # Errors
/// When the store cannot be read.
pub fn whole_tree(store: &Store, step: &LayerStep) -> Result<Option<Digest>, Report> {
    Ok(store.result::<Made>(&step.whole()).map_err(Diagnostic::from)?.map(|made| made.tree))
}

/// A layer that was there when the build looked what it needs, and is not any more.
fn gone(step: &LayerStep) -> Diagnostic {
    Diagnostic::error(Problem::World, format!("the layer `{}` is no longer in the store", step.name))
        .note("another program removed it while it was about to be used")
        .hint("run again: what is missing is made anew")
}

/// What a result that names the tree stands on: the tree and the objects of its files.
fn objects(digest: Digest, tree: &Tree) -> Vec<Digest> {
    let contents: BTreeSet<Digest> =
        tree.iter().filter_map(|(_, node)| node.content()).map(|content| content.place.object).collect();
    std::iter::once(digest).chain(contents).collect()
}

fn accounts(before: &Before) -> Accounts {
    let user = |user: &crate::plan::User| Account {
        name: user.name.clone(),
        uid: user.uid,
        group: user.group.clone(),
        gid: user.gid,
        comment: user.comment.clone(),
        home: user.home.clone(),
        shell: user.shell.clone(),
    };
    Accounts {
        users: before.users.iter().map(user).collect(),
        groups: before.groups.iter().map(|group| (group.name.clone(), group.gid)).collect(),
    }
}

/// The answers as debconf-set-selections(1) reads them.
fn debconf(before: &Before) -> String {
    let mut text = String::new();
    for answer in &before.debconf {
        let _ = writeln!(text, "{} {} {} {}", answer.package, answer.question, answer.kind, answer.value);
    }
    text
}
