//! Lints: what must not be in an image, whoever put it there.
//!
//! Every lint is a small named function over a finished root. All run on every build, and a finding stops it: an
//! image with an identity or a secret in it is copied to every machine that boots it.

mod identity;
mod maas;
mod secrets;
mod traces;

use crate::report::{Diagnostic, Kind, Report};
use crate::store::{Store, StoreError};
use crate::tree::{Content, Node, Tree, TreePath};

/// A root under examination.
pub struct Subject<'a> {
    /// The root.
    pub tree: &'a Tree,
    store: &'a Store,
}

/// One finding.
struct Finding {
    path: TreePath,
    what: &'static str,
}

type Lint = fn(&Subject<'_>) -> Result<Vec<Finding>, StoreError>;

/// The lints of every root: name, reason, function.
const LINTS: &[(&str, &str, Lint)] = &[
    ("machine-id", "every machine would have the same identity", identity::machine_id),
    ("host-name", "two controllers of one host name become one in MAAS", identity::host_name),
    ("host-keys", "every machine would prove the same identity", identity::ssh_host_keys),
    ("instance", "cloud-init would take the machine for one that it has set up", identity::cloud_instance),
    ("cluster", "two nodes with one system identifier pass for replicas of each other", identity::database_cluster),
    ("maas-identity", "a stale MAAS identity or certificate keeps a controller from joining", identity::maas),
    ("private-key", "whoever has the image has the key", secrets::private_keys),
    ("password", "whoever has the image can try it at leisure", secrets::passwords),
    ("credential", "whoever has the image has the secret", secrets::credentials),
    ("build-host", "the image would differ with the machine that built it", traces::build_host),
    ("leftovers", "it was needed while building and misleads afterwards", traces::leftovers),
];

/// The lints of a root tarball for MAAS.
const MAAS_LINTS: &[(&str, &str, Lint)] =
    &[("maas-image", "MAAS could not deploy it (curtin's contract for custom images)", maas::custom_image)];

/// Examines a finished root; `for_maas` adds the contract of MAAS custom images.
///
/// # Errors
/// A report with one error a finding: the path, who put it there, why it matters.
pub fn check(role: &str, tree: &Tree, store: &Store, for_maas: bool) -> Result<(), Report> {
    let subject = Subject { tree, store };
    let mut report = Report::new();
    let maas = MAAS_LINTS.iter().filter(|_| for_maas);
    for (name, why, lint) in LINTS.iter().chain(maas) {
        for finding in lint(&subject).map_err(|error| Report::from(Diagnostic::from(error)))? {
            report.push(diagnostic(role, name, why, &finding, subject.tree));
        }
    }
    if report.has_errors() { Err(report) } else { Ok(()) }
}

fn diagnostic(role: &str, name: &str, why: &str, finding: &Finding, tree: &Tree) -> Diagnostic {
    let message = format!("the image `{role}` must not hold `/{}`: {}", finding.path, finding.what);
    let diagnostic = Diagnostic::error(Kind::Input, message).note(format!("{why} (lint `{name}`)"));
    match tree.get(&finding.path) {
        Some(node) => diagnostic
            .note(format!("it comes from {}", node.origin))
            .hint("list the path under `remove` in the profile of that layer, or keep it from being made"),
        None => diagnostic.hint("add the package or file that provides it to the profile"),
    }
}

impl Subject<'_> {
    fn node(&self, path: &str) -> Option<(TreePath, &Node)> {
        let path = TreePath::parse(path).ok()?;
        let node = self.tree.get(&path)?;
        Some((path, node))
    }

    /// The bytes of a regular file; none for anything else.
    fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.node(path).and_then(|(_, node)| node.content()) {
            Some(content) => self.read(content).map(Some),
            None => Ok(None),
        }
    }

    fn read(&self, content: &Content) -> Result<Vec<u8>, StoreError> {
        self.store.read(content)
    }

    /// Everything strictly below a directory.
    fn below(&self, directory: &str) -> Vec<(&TreePath, &Node)> {
        let Ok(directory) = TreePath::parse(directory) else { return Vec::new() };
        self.tree.below(&directory).filter(|(path, _)| **path != directory).collect()
    }

    /// A finding for every path of `paths` that is there and not an empty file.
    fn forbidden(&self, paths: &[(&str, &'static str)]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (path, what) in paths {
            if let Some((path, node)) = self.node(path)
                && node.content().is_none_or(|content| content.size > 0)
            {
                findings.push(Finding { path, what });
            }
        }
        findings
    }

    /// A finding for every file, of any kind, below each directory.
    fn forbidden_below(&self, directories: &[(&str, &'static str)]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (directory, what) in directories {
            for (path, node) in self.below(directory) {
                if !node.kind.is_directory() {
                    findings.push(Finding { path: path.clone(), what });
                }
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests;
