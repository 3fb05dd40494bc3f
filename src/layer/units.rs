//! Unit states as links, as `systemctl --root` makes them, without systemctl.
//!
//! Owns the reading of `[Install]` sections and the links that follow from them. Functions on values: unit files are
//! read through a closure. Specifications: systemd.unit(5) on `[Install]` and on the load path, systemctl(1) on
//! enable, disable, mask and set-default.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::report::{Diagnostic, Kind as Problem, Report, Span};
use crate::spec::{Units, Written};
use crate::tree::{Kind, Meta, Node, Origin, Tree, TreePath};

use super::overlay::Reader;
use super::place::make_parents;

/// Where an administrator's links are.
const LINKS: &str = "etc/systemd/system";
/// Where unit files are found, first match first (systemd.unit(5), without run-time directories).
const LOAD_PATH: [&str; 3] = [LINKS, "usr/local/lib/systemd/system", "usr/lib/systemd/system"];
/// Directories of a unit whose links are made for it, by the key of `[Install]`.
const DEPENDENCIES: [(&str, &str); 3] = [("WantedBy", "wants"), ("RequiredBy", "requires"), ("UpheldBy", "upholds")];

/// Disables, enables and masks units, in this order, and sets the default target.
///
/// # Errors
/// A unit that the root does not have, that cannot be enabled, or is masked, at its line; a unit file that cannot be
/// read.
pub fn set(tree: Tree, layer: &str, units: &Units, epoch: i64, read: Reader<'_>) -> Result<Tree, Report> {
    let mut work = Work { tree, layer, epoch, read, report: Report::new() };
    for unit in &units.disable {
        work.disable(unit);
    }
    for unit in &units.enable {
        work.enable(&unit.value, &unit.span, &mut BTreeSet::new());
    }
    for unit in &units.mask {
        work.mask(unit);
    }
    if let Some(target) = &units.default_target {
        match work.find(&target.value) {
            Some(file) => work.link("default.target", &format!("/{file}"), &target.span),
            None => work.missing(&target.value, &target.span),
        }
    }
    if work.report.has_errors() { Err(work.report) } else { Ok(work.tree) }
}

struct Work<'a> {
    tree: Tree,
    layer: &'a str,
    epoch: i64,
    read: Reader<'a>,
    report: Report,
}

/// The keys of `[Install]` with their words.
type Install = BTreeMap<String, Vec<String>>;

impl Work<'_> {
    /// The file of a unit, or of the template of an instance.
    fn find(&self, unit: &str) -> Option<TreePath> {
        let names = std::iter::once(unit.to_owned()).chain(template_of(unit));
        names.into_iter().find_map(|name| {
            LOAD_PATH.iter().find_map(|directory| {
                let path = TreePath::parse(format!("{directory}/{name}")).ok()?;
                self.tree.get(&path).filter(|node| !node.kind.is_directory())?;
                Some(path)
            })
        })
    }

    fn refuse(&mut self, span: &Span, message: String, hint: &str) {
        let diagnostic = Diagnostic::error(Problem::Input, message).at(span, "");
        self.report.push(if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) });
    }

    fn missing(&mut self, unit: &str, span: &Span) {
        let hint = "is the package that ships it in this layer or under it, and the name whole (`x.service`)?";
        self.refuse(span, format!("the built root has no unit `{unit}`"), hint);
    }

    fn enable(&mut self, unit: &str, span: &Span, seen: &mut BTreeSet<String>) {
        if !seen.insert(unit.to_owned()) {
            return;
        }
        let Some(found) = self.find(unit) else { return self.missing(unit, span) };
        if is_mask(self.tree.get(&found)) {
            return self.refuse(span, format!("the unit `{unit}` is masked"), "unmask it, or do not enable it");
        }
        // A unit known by an alias is enabled under its own name.
        let file = self.tree.resolve(&found).unwrap_or(found);
        let own = String::from_utf8_lossy(file.name()).into_owned();
        let mut name = if template_of(unit).as_deref() == Some(own.as_str()) { unit.to_owned() } else { own };
        let install = match self.install(&file) {
            Ok(install) => install,
            Err(error) => return self.report.extend(error),
        };
        if install.is_empty() {
            let hint = "a unit without it is started by others; to have it wanted, lay a drop-in or a link";
            return self.refuse(span, format!("the unit `{unit}` has no `[Install]` section to enable it by"), hint);
        }
        let words = |key: &str| install.get(key).cloned().unwrap_or_default();
        if name.contains("@.") {
            match words("DefaultInstance").first() {
                Some(instance) => name = name.replacen("@.", &format!("@{instance}."), 1),
                None => {
                    let hint = "name an instance: `x@NAME.service`";
                    return self.refuse(
                        span,
                        format!("the unit `{unit}` is a template without a default instance"),
                        hint,
                    );
                }
            }
        }
        let target = format!("/{file}");
        for (key, directory) in DEPENDENCIES {
            for wanting in words(key) {
                let wanting = expand(&wanting, &name);
                self.link(&format!("{wanting}.{directory}/{name}"), &target, span);
            }
        }
        for alias in words("Alias") {
            let alias = expand(&alias, &name);
            if alias != name {
                self.link(&alias, &target, span);
            }
        }
        for also in words("Also") {
            self.enable(&expand(&also, &name), span, seen);
        }
    }

    /// Removes every link of the administrator's that enables the unit, under any of its names.
    fn disable(&mut self, unit: &Written<String>) {
        let mut pending = vec![unit.value.clone()];
        let mut doomed: BTreeSet<String> = BTreeSet::new();
        while let Some(name) = pending.pop() {
            if !doomed.insert(name.clone()) {
                continue;
            }
            let Some(found) = self.find(&name) else {
                if name == unit.value {
                    return self.missing(&name, &unit.span);
                }
                continue;
            };
            let file = self.tree.resolve(&found).unwrap_or(found);
            doomed.insert(String::from_utf8_lossy(file.name()).into_owned());
            match self.install(&file) {
                Ok(install) => pending.extend(install.get("Also").cloned().unwrap_or_default()),
                Err(error) => return self.report.extend(error),
            }
        }
        let links = TreePath::parse(LINKS).unwrap_or_default();
        let is_doomed = |path: &TreePath, node: &Node| {
            let Kind::Symlink(target) = &node.kind else { return false };
            if target == b"/dev/null" {
                return false;
            }
            let target =
                String::from_utf8_lossy(target.rsplit(|byte| *byte == b'/').next().unwrap_or_default()).into_owned();
            let name = String::from_utf8_lossy(path.name()).into_owned();
            // Disabling a template disables its instances; disabling an instance leaves its sisters alone.
            let is_instance = template_of(&name).is_some();
            doomed.contains(&name)
                || (!is_instance && doomed.contains(&target))
                || (is_instance && doomed.contains(&target) && doomed.iter().all(|name| template_of(name).is_none()))
        };
        let gone: Vec<TreePath> = self
            .tree
            .below(&links)
            .filter(|(path, node)| is_doomed(path, node))
            .map(|(path, _)| path.clone())
            .collect();
        for path in &gone {
            self.tree.remove(path);
            let parent = path.parent().unwrap_or_default();
            if parent != links && self.tree.below(&parent).count() == 1 {
                self.tree.remove(&parent);
            }
        }
    }

    fn mask(&mut self, unit: &Written<String>) {
        if self.find(&unit.value).is_none() {
            return self.missing(&unit.value, &unit.span);
        }
        let place = TreePath::parse(format!("{LINKS}/{}", unit.value)).unwrap_or_default();
        if self.tree.get(&place).is_some_and(|node| node.content().is_some()) {
            let message = format!("the unit `{}` cannot be masked: `/{place}` is its file", unit.value);
            return self.refuse(&unit.span, message, "remove that file");
        }
        self.link(&unit.value, "/dev/null", &unit.span);
    }

    fn link(&mut self, name: &str, target: &str, span: &Span) {
        let (line, _) = span.line_and_column();
        let origin = Origin::Written { layer: self.layer.to_owned(), file: span.source.path.clone(), line };
        let origin = Arc::new(origin);
        let made = TreePath::parse(format!("{LINKS}/{name}")).map_err(|error| error.to_string()).and_then(|place| {
            make_parents(&mut self.tree, &place, self.epoch, &origin);
            let meta = Meta { mtime: self.epoch, ..Meta::root_owned(0o777) };
            let node = Node::new(meta, Kind::Symlink(target.as_bytes().to_vec()), origin);
            self.tree.insert(place, node).map_err(|error| error.to_string())
        });
        if let Err(error) = made {
            self.refuse(span, format!("the link `/{LINKS}/{name}` cannot be made: {error}"), "");
        }
    }

    /// The `[Install]` section of a unit file and its drop-ins.
    fn install(&self, file: &TreePath) -> Result<Install, Report> {
        let mut install = Install::new();
        let mut texts = vec![file.clone()];
        let name = String::from_utf8_lossy(file.name()).into_owned();
        let mut dropins: BTreeMap<Vec<u8>, TreePath> = BTreeMap::new();
        for directory in LOAD_PATH.iter().rev() {
            let Ok(directory) = TreePath::parse(format!("{directory}/{name}.d")) else { continue };
            for (path, _) in self.tree.below(&directory).filter(|(path, _)| path.name().ends_with(b".conf")) {
                dropins.insert(path.name().to_vec(), path.clone());
            }
        }
        texts.extend(dropins.into_values());
        for path in texts {
            if let Some(content) = self.tree.get(&path).and_then(Node::content) {
                let bytes = (self.read)(content).map_err(Diagnostic::from)?;
                read_install(&String::from_utf8_lossy(&bytes), &mut install);
            }
        }
        Ok(install)
    }
}

fn is_mask(node: Option<&Node>) -> bool {
    node.is_some_and(|node| matches!(&node.kind, Kind::Symlink(target) if target == b"/dev/null"))
}

/// `x@.service` for `x@y.service`.
fn template_of(unit: &str) -> Option<String> {
    let (prefix, rest) = unit.split_once('@')?;
    let (instance, suffix) = rest.rsplit_once('.')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{suffix}"))
}

/// The specifiers that `[Install]` may use for names: `%n`, `%N`, `%p`, `%i`, `%j`.
fn expand(text: &str, unit: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let whole = unit.rsplit_once('.').map_or(unit, |(whole, _)| whole);
    let (prefix, instance) = whole.split_once('@').unwrap_or((whole, ""));
    let last = prefix.rsplit('-').next().unwrap_or(prefix);
    [("%n", unit), ("%N", whole), ("%p", prefix), ("%i", instance), ("%j", last)]
        .iter()
        .fold(text.to_owned(), |text, (specifier, value)| text.replace(specifier, value))
}

/// Adds the words of a unit file's `[Install]` section; an empty value forgets those before it (systemd.syntax(7)).
fn read_install(text: &str, install: &mut Install) {
    let joined = text.replace("\\\n", " ");
    let mut inside = false;
    for line in joined.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[Install]";
            continue;
        }
        let is_comment = line.starts_with(['#', ';']);
        let Some((key, value)) = line.split_once('=').filter(|_| inside && !is_comment) else { continue };
        let words = install.entry(key.trim().to_owned()).or_default();
        if value.trim().is_empty() {
            words.clear();
        }
        words.extend(value.split_whitespace().map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use crate::tree::Content;

    use super::super::overlay::tests::{Memory, shown, written};
    use super::*;

    fn root(memory: &Memory) -> Tree {
        memory.tree(&[
            (
                "usr/lib/systemd/system/ssh.service",
                "[Unit]\nWantedBy=no\n[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\nAlso=ssh.socket\n",
            ),
            (
                "usr/lib/systemd/system/ssh.socket",
                "[Install]\n# WantedBy=no\nWantedBy=\\\n sockets.target\nRequiredBy=ssh.service\n",
            ),
            ("usr/lib/systemd/system/getty@.service", "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n"),
            ("usr/lib/systemd/system/wg@.service", "[Install]\nWantedBy=multi-user.target\nAlias=vpn-%i.service\n"),
            ("usr/lib/systemd/system/static.service", "[Service]\nExecStart=/bin/true\n"),
            ("usr/lib/systemd/system/multi-user.target", ""),
            ("etc/systemd/system/static.service.d/install.conf", "[Install]\nWantedBy=\nWantedBy=rescue.target\n"),
            ("usr/lib/systemd/system/plain.service", ""),
            ("etc/systemd/system/old.service", "[Install]\nWantedBy=multi-user.target\n"),
        ])
    }

    fn links(units: &Units, tree: Tree, memory: &Memory) -> Result<(Tree, Vec<String>), Report> {
        let read = |content: &Content| memory.read(content);
        let tree = set(tree, "base", units, 9, &read)?;
        let lines = shown(&tree, memory).into_iter().filter(|line| line.contains(" -> "));
        let lines = lines.map(|line| line.replace("etc/systemd/system/", "").replace("/usr/lib/systemd/system/", "^"));
        let lines = lines.collect();
        Ok((tree, lines))
    }

    fn list(names: &[&str]) -> Vec<Written<String>> {
        names.iter().map(|name| written(name)).collect()
    }

    #[test]
    fn enabling_makes_the_links_of_the_install_section() {
        let memory = Memory::default();
        let enable = list(&["sshd.service", "getty@.service", "wg@home.service", "static.service"]);
        let tree = root(&memory);
        // `sshd.service` is a name of it only once the first enabling has made the alias.
        let (tree, _) = links(&Units { enable: list(&["ssh.service"]), ..Units::default() }, tree, &memory).unwrap();
        let default_target = Some(written("multi-user.target"));
        let units = Units { enable, default_target, ..Units::default() };
        let (tree, lines) = links(&units, tree, &memory).unwrap();
        let expected = [
            "default.target -> ^multi-user.target",
            "getty.target.wants/getty@tty1.service -> ^getty@.service",
            "multi-user.target.wants/ssh.service -> ^ssh.service",
            "multi-user.target.wants/wg@home.service -> ^wg@.service",
            "rescue.target.wants/static.service -> ^static.service",
            "sockets.target.wants/ssh.socket -> ^ssh.socket",
            "ssh.service.requires/ssh.socket -> ^ssh.socket",
            "sshd.service -> ^ssh.service",
            "vpn-home.service -> ^wg@.service",
        ];
        assert_eq!(lines, expected);

        let disable = list(&["ssh.service", "getty@.service", "wg@home.service"]);
        let units = Units { disable, mask: list(&["plain.service", "static.service"]), ..Units::default() };
        let (tree, lines) = links(&units, tree, &memory).unwrap();
        let expected = [
            "default.target -> ^multi-user.target",
            "plain.service -> /dev/null",
            "rescue.target.wants/static.service -> ^static.service",
            "static.service -> /dev/null",
        ];
        assert_eq!(lines, expected);
        let gone = TreePath::parse("etc/systemd/system/getty.target.wants").unwrap();
        assert!(tree.get(&gone).is_none());
        let report = links(&Units { enable: list(&["plain.service"]), ..Units::default() }, tree, &memory).unwrap_err();
        assert!(report.diagnostics[0].message.contains("masked"));
    }

    #[test]
    fn what_cannot_be_is_told_at_its_line() {
        let memory = Memory::default();
        let cases = [
            (Units { enable: list(&["none.service"]), ..Units::default() }, "has no unit `none.service`"),
            (Units { enable: list(&["plain.service"]), ..Units::default() }, "no `[Install]` section"),
            (Units { enable: list(&["wg@.service"]), ..Units::default() }, "template without a default instance"),
            (Units { disable: list(&["none.service"]), ..Units::default() }, "has no unit `none.service`"),
            (Units { mask: list(&["old.service"]), ..Units::default() }, "is its file"),
            (Units { default_target: Some(written("x.target")), ..Units::default() }, "has no unit `x.target`"),
        ];
        for (units, message) in cases {
            let report = links(&units, root(&memory), &memory).unwrap_err();
            assert!(report.diagnostics[0].message.contains(message), "{message}: {report:?}");
            assert_eq!(report.diagnostics[0].labels[0].span.place(), "profiles/x.toml:1:1");
        }
    }
}
