//! Units enabled, disabled and masked, as `systemctl --root` would leave them.
//!
//! Links are made from the `[Install]` sections of the tree's own unit files (`systemd.unit(5)`): `WantedBy=`,
//! `RequiredBy=`, `UpheldBy=`, `Alias=`, `Also=`, `DefaultInstance=`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::plan::{Units, Written};
use crate::report::{Diagnostic, Kind, Report};
use crate::tree::{Kind as NodeKind, Meta, Node, Origin, Tree, TreePath};

use super::overlay::place;

/// Where unit files lie, first wins.
const UNIT_PATHS: &[&str] = &["etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];

/// The directory of links.
const LINKS: &str = "etc/systemd/system";

/// What `[Install]` says.
#[derive(Debug, Default)]
struct Install {
    wanted_by: Vec<String>,
    required_by: Vec<String>,
    upheld_by: Vec<String>,
    alias: Vec<String>,
    also: Vec<String>,
    default_instance: Option<String>,
}

/// Applies the unit states of one layer. `text` reads a regular file of the tree.
///
/// # Errors
/// With every unit that is not in the tree or has nothing to enable, at the line that names it.
pub fn apply(
    tree: &mut Tree,
    units: &Units,
    layer: &str,
    epoch: i64,
    text: &dyn Fn(&Tree, &TreePath) -> Result<String, Report>,
) -> Result<(), Report> {
    let mut report = Report::new();
    let mut linker = Linker { tree, layer, epoch, text };
    for unit in &units.disable {
        linker.disable(&unit.value);
    }
    for unit in &units.enable {
        if let Err(problem) = linker.enable(unit, &unit.value, &mut BTreeSet::new()) {
            report.extend(problem);
        }
    }
    for unit in &units.mask {
        let name = unit.value.clone();
        if let Err(why) = linker.link(unit, &format!("{LINKS}/{name}"), "/dev/null") {
            report.push(Diagnostic::error(Kind::Input, why).at(&unit.span, ""));
        }
    }
    if let Some(target) = &units.default_target {
        let found = linker.find(&target.value);
        match found {
            Some(path) => {
                if let Err(why) = linker.link(target, &format!("{LINKS}/default.target"), &format!("/{path}")) {
                    report.push(Diagnostic::error(Kind::Input, why).at(&target.span, ""));
                }
            }
            None => report.push(missing(target, &target.value)),
        }
    }
    if report.has_errors() { Err(report) } else { Ok(()) }
}

fn missing(written: &Written<String>, name: &str) -> Diagnostic {
    Diagnostic::error(Kind::Input, format!("the root has no unit `{name}`"))
        .at(&written.span, "named here")
        .hint("install the package or lay the overlay that brings it")
}

struct Linker<'a> {
    tree: &'a mut Tree,
    layer: &'a str,
    epoch: i64,
    text: &'a dyn Fn(&Tree, &TreePath) -> Result<String, Report>,
}

impl Linker<'_> {
    /// The unit's file; for an instance `a@b.service`, the template's `a@.service`.
    fn find(&self, name: &str) -> Option<TreePath> {
        let template = template_of(name);
        [Some(name.to_owned()), template].into_iter().flatten().find_map(|name| {
            UNIT_PATHS.iter().find_map(|directory| {
                let path = TreePath::parse(format!("{directory}/{name}")).ok()?;
                self.tree.get(&path).and_then(|node| node.content()).map(|_| path)
            })
        })
    }

    fn enable(&mut self, written: &Written<String>, name: &str, done: &mut BTreeSet<String>) -> Result<(), Report> {
        if !done.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.find(name) else { return Err(missing(written, name).into()) };
        let install = parse_install(&(self.text)(self.tree, &path)?);
        // Enabling a template enables its default instance.
        let instance = match (&install.default_instance, name.split_once("@.")) {
            (Some(instance), Some((stem, kind))) => format!("{stem}@{instance}.{kind}"),
            _ => name.to_owned(),
        };
        let mut links = Vec::new();
        for (directory, targets) in
            [("wants", &install.wanted_by), ("requires", &install.required_by), ("upholds", &install.upheld_by)]
        {
            links.extend(targets.iter().map(|target| format!("{LINKS}/{target}.{directory}/{instance}")));
        }
        links.extend(install.alias.iter().map(|alias| format!("{LINKS}/{alias}")));
        if links.is_empty() && install.also.is_empty() {
            return Err(Diagnostic::error(Kind::Input, format!("`{name}` cannot be enabled"))
                .at(&written.span, "named here")
                .note("its unit file has no `WantedBy=`, `RequiredBy=` or `Alias=` in `[Install]`")
                .into());
        }
        for link in links {
            self.link(written, &link, &format!("/{path}"))
                .map_err(|why| Report::from(Diagnostic::error(Kind::Input, why).at(&written.span, "")))?;
        }
        for also in &install.also {
            // As systemctl: a unit named by `Also=` that has nothing to enable, or is not installed, is passed over.
            if self.find(also).is_some() {
                let _ = self.enable(written, also, done);
            }
        }
        Ok(())
    }

    /// Removes every link to the unit that enabling makes, whoever made it.
    fn disable(&mut self, name: &str) {
        let Ok(directory) = TreePath::parse(LINKS) else { return };
        let is_link = |path: &TreePath, node: &Node| {
            let NodeKind::Symlink(target) = &node.kind else { return false };
            let target_name = target.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            path.name() == name.as_bytes() || target_name == name.as_bytes()
        };
        let doomed: Vec<TreePath> = self
            .tree
            .below(&directory)
            .filter(|(path, node)| is_link(path, node))
            .map(|(path, _)| path.clone())
            .collect();
        for path in doomed {
            self.tree.remove(&path);
        }
    }

    fn link(&mut self, written: &Written<String>, path: &str, target: &str) -> Result<(), String> {
        let (line, _) = written.span.line_and_column();
        let origin = Origin::Written { layer: self.layer.to_owned(), file: written.span.source.path.clone(), line };
        let origin = Arc::new(origin);
        let path = place(self.tree, path, &origin, self.epoch)?;
        let meta = Meta { mtime: self.epoch, ..Meta::root_owned(0o777) };
        let node = Node::new(meta, NodeKind::Symlink(target.as_bytes().to_vec()), origin);
        self.tree.insert(path, node).map_err(|error| error.to_string())
    }
}

/// `a@b.service` → `a@.service`.
fn template_of(name: &str) -> Option<String> {
    let (stem, rest) = name.split_once('@')?;
    let (instance, kind) = rest.rsplit_once('.')?;
    (!instance.is_empty()).then(|| format!("{stem}@.{kind}"))
}

fn parse_install(text: &str) -> Install {
    let mut install = Install::default();
    let mut inside = false;
    let joined = text.replace("\\\n", " ");
    for line in joined.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[Install]";
        }
        let Some((key, value)) = line.split_once('=').filter(|_| inside && !line.starts_with(['#', ';'])) else {
            continue;
        };
        let words = || value.split_whitespace().map(str::to_owned);
        let list = match key.trim() {
            "WantedBy" => &mut install.wanted_by,
            "RequiredBy" => &mut install.required_by,
            "UpheldBy" => &mut install.upheld_by,
            "Alias" => &mut install.alias,
            "Also" => &mut install.also,
            "DefaultInstance" => {
                install.default_instance = words().next();
                continue;
            }
            _ => continue,
        };
        // An empty assignment resets the list, systemd.unit(5).
        if value.trim().is_empty() {
            list.clear();
        }
        list.extend(words());
    }
    install
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::digest::Digest;
    use crate::report::{Source, Span};
    use crate::tree::Content;

    use super::*;

    struct World {
        tree: Tree,
        texts: BTreeMap<Digest, String>,
    }

    fn world(units: &[(&str, &str)]) -> World {
        let origin = || Origin::Built("test".into());
        let mut tree = Tree::new(Node::new(Meta::root_owned(0o755), NodeKind::Directory, origin()));
        let mut texts = BTreeMap::new();
        for (name, text) in units {
            let path = place(&mut tree, &format!("usr/lib/systemd/system/{name}"), &Arc::new(origin()), 0).unwrap();
            let content = Content::whole(Digest::of(text.as_bytes()), text.len() as u64);
            tree.insert(path, Node::new(Meta::root_owned(0o644), NodeKind::file(content), origin())).unwrap();
            texts.insert(content.digest, (*text).to_owned());
        }
        World { tree, texts }
    }

    fn written(names: &[&str]) -> Vec<Written<String>> {
        let source = Arc::new(Source { path: "profiles/base.toml".into(), text: "[units]\n".into() });
        names.iter().map(|name| Written { value: (*name).to_owned(), span: Span::new(&source, 0..7) }).collect()
    }

    fn links(world: &mut World, units: &Units) -> Result<Vec<String>, Report> {
        let texts = world.texts.clone();
        let text =
            |tree: &Tree, path: &TreePath| Ok(texts[&tree.get(path).and_then(Node::content).unwrap().digest].clone());
        apply(&mut world.tree, units, "base", 0, &text)?;
        let nodes = world.tree.iter().filter_map(|(path, node)| match &node.kind {
            NodeKind::Symlink(target) => Some(format!("{path} -> {}", String::from_utf8_lossy(target))),
            _ => None,
        });
        Ok(nodes.collect())
    }

    #[test]
    fn enabling_makes_the_links_of_the_install_section() {
        let mut world = world(&[
            (
                "a.service",
                "[Unit]\nWantedBy=no\n[Install]\nWantedBy=multi-user.target \\\n  b.target\nAlias=c.service\n",
            ),
            ("t@.service", "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n"),
        ]);
        let units = Units { enable: written(&["a.service", "t@.service", "t@tty2.service"]), ..Units::default() };
        assert_eq!(
            links(&mut world, &units).unwrap(),
            [
                "etc/systemd/system/b.target.wants/a.service -> /usr/lib/systemd/system/a.service",
                "etc/systemd/system/c.service -> /usr/lib/systemd/system/a.service",
                "etc/systemd/system/getty.target.wants/t@tty1.service -> /usr/lib/systemd/system/t@.service",
                "etc/systemd/system/getty.target.wants/t@tty2.service -> /usr/lib/systemd/system/t@.service",
                "etc/systemd/system/multi-user.target.wants/a.service -> /usr/lib/systemd/system/a.service",
            ]
        );
    }

    #[test]
    fn a_layer_can_disable_and_mask_what_another_enabled() {
        let mut world = world(&[("a.service", "[Install]\nWantedBy=multi-user.target\n")]);
        links(&mut world, &Units { enable: written(&["a.service"]), ..Units::default() }).unwrap();
        let units = Units { disable: written(&["a.service"]), mask: written(&["x.timer"]), ..Units::default() };
        assert_eq!(links(&mut world, &units).unwrap(), ["etc/systemd/system/x.timer -> /dev/null"]);
    }

    #[test]
    fn a_unit_that_is_not_there_or_cannot_be_enabled_is_an_error_at_its_line() {
        let mut world = world(&[("static.service", "[Service]\nExecStart=/bin/true\n")]);
        let units = Units { enable: written(&["static.service", "gone.service"]), ..Units::default() };
        let report = links(&mut world, &units).unwrap_err();
        assert_eq!(report.diagnostics.len(), 2);
        assert_eq!(report.diagnostics[1].labels[0].span.place(), "profiles/base.toml:1:1");
    }
}
