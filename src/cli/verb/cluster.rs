//! What several verbs begin with: a project, the cluster that is meant, and where its secrets are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::args::ClusterArguments;
use crate::report::{Diagnostic, Kind, Report, Source, Span};
use crate::seed::{self, Planted, SecretsFile, Terms, Vault};
use crate::spec::sources::{Entry, Sources};
use crate::spec::{self, Cluster, NodeFacts};
use crate::sys::files;

use super::project::Project;

/// A project, one cluster of machines that run its images, and the cluster's secrets file.
pub struct Named {
    /// The project.
    pub project: Project,
    /// The cluster.
    pub cluster: Cluster,
    /// Its secrets file.
    pub file: SecretsFile,
    /// What names files of this cluster: the image file, or the file that describes the cluster.
    pub name: String,
}

impl Named {
    /// Reads the project and the cluster; finds the secrets file, which need not be there.
    ///
    /// # Errors
    /// With everything that is wrong, or when no cluster is described.
    pub fn read(arguments: &ClusterArguments) -> Result<Self, Report> {
        let project = Project::read(&arguments.image)?;
        let (cluster, name) = match (&project.spec.cluster, &arguments.cluster) {
            (Some(cluster), None) => (cluster.clone(), project.path.name.clone()),
            (None, Some(file)) => (described(&project, file)?, stem(file)),
            (Some(cluster), Some(_)) => {
                let message = format!("`{}` describes a cluster itself", project.path.file);
                return Err(Diagnostic::error(Kind::Usage, message)
                    .at(&cluster.span, "it is baked into the images")
                    .hint("leave out `--cluster`, or take `[cluster]` out of the image file for generic images")
                    .into());
            }
            (None, None) => {
                let message = format!("`{}` describes no cluster", project.path.file);
                return Err(Diagnostic::error(Kind::Usage, message)
                    .note("its images are generic: any cluster's machines can run them")
                    .hint("describe the cluster in a file of its own and name it with `--cluster`")
                    .into());
            }
        };
        let path = arguments.secrets.clone().unwrap_or_else(|| default_path(&project.path.project, &name));
        let file = SecretsFile { path, identity: arguments.identity.clone() };
        Ok(Self { project, cluster, file, name })
    }

    /// The secrets, with what a changed image file asks for added; that is said, and kept.
    ///
    /// # Errors
    /// When there are none, or they cannot be read or written.
    pub fn vault(&self) -> Result<(Vault, Vec<String>), Report> {
        let old = self.file.read()?;
        let mut vault = old.clone();
        let added = self.complete(&mut vault)?;
        if !added.is_empty() {
            self.file.replace(&old, &vault)?;
        }
        Ok((vault, added))
    }

    /// Adds to `vault` what the cluster needs; says what.
    ///
    /// # Errors
    /// When the vault is another image file's.
    pub fn complete(&self, vault: &mut Vault) -> Result<Vec<String>, Report> {
        seed::fits(&self.project.spec, vault)?;
        Ok(vault.complete(&self.project.spec, &self.cluster, now())?)
    }

    /// The nodes with these names; all when none is named.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn nodes(&self, names: &[String]) -> Result<Vec<&NodeFacts>, Report> {
        match names {
            [] => Ok(self.cluster.nodes.iter().collect()),
            names => names.iter().map(|name| seed::find(&self.cluster, name)).collect(),
        }
    }

    /// The seed of one node.
    ///
    /// # Errors
    /// As [`seed::plant`].
    pub fn plant(&self, node: &str, vault: &Vault, terms: Terms) -> Result<Planted, Report> {
        seed::plant(&self.project.spec, &self.cluster, node, vault, terms)
    }
}

/// Seconds since the Epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `secrets/NAME.toml`, or its encrypted form where there is that.
fn default_path(project: &Path, name: &str) -> PathBuf {
    let plain = project.join(format!("secrets/{name}.toml"));
    let encrypted = project.join(format!("secrets/{name}.toml.age"));
    if encrypted.exists() && !plain.exists() { encrypted } else { plain }
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The cluster that `file` describes, checked as if the image file held it.
fn described(project: &Project, file: &Path) -> Result<Cluster, Report> {
    let sources = Sources::read(&project.path.project)?;
    let text = files::read(file).map_err(Diagnostic::from)?;
    let image = sources.bytes(&project.path.file).cloned().unwrap_or_else(|| Arc::from([]));
    let whole = [&*image, b"\n", &text].concat();
    let directories = ["images", "profiles", "overlays"].into_iter();
    let entries = directories.flat_map(|directory| sources.under(directory));
    let entries = entries.map(|(path, entry)| (path.to_owned(), entry.clone()));
    let whole = (project.path.file.clone(), Entry::file(whole, false));
    let sources = Sources::from_entries(entries.chain([whole]));
    let relocated = |report| relocated(report, &project.path.file, file, &text, image.len() + 1);
    let (spec, _) = spec::read(&sources, &project.path.file).map_err(relocated)?;
    spec.cluster.ok_or_else(|| {
        Diagnostic::error(Kind::Input, format!("`{}` describes no cluster: there is no `[cluster]`", file.display()))
            .into()
    })
}

/// A report on the image file with a cluster's file behind it, with the places that are in the cluster's file named there.
/// `begins` is where that file begins.
fn relocated(mut report: Report, image: &str, file: &Path, text: &[u8], begins: usize) -> Report {
    let text = String::from_utf8_lossy(text).into_owned();
    let source = Arc::new(Source { path: file.display().to_string(), text });
    let spans =
        report.diagnostics.iter_mut().flat_map(|diagnostic| &mut diagnostic.labels).map(|label| &mut label.span);
    for span in spans.filter(|span| span.source.path == image && span.range.start >= begins) {
        *span = Span::new(&source, span.range.start - begins..span.range.end - begins);
    }
    report
}
