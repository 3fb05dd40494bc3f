//! From written files to a checked [`Spec`]: the one way through the room.
//!
//! Each step reports its mistakes and goes on with what it has, so that a person sees all of them at once. A step is
//! left out when what an earlier one lost would make it speak of things that are not wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::image::{self, WrittenCluster};
use super::keys::IMAGE;
use super::layers::Composer;
use super::model::{Cluster, Format, OptionValue, Role, Spec, Written};
use super::options::{self, Declarations};
use super::profiles::{self, Profile, Profiles};
use super::sources::{Entry, Sources};
use super::value::{self, Table};
use super::{binding, cluster, machine, matrix, suggest, wanted};
use crate::report::{Diagnostic, Kind, Report, Span};

/// Name of the profile that is the tool layer.
const TOOLS: &str = "tools";

/// Reads, composes and checks the image file at `path` (from the project's root) with its profiles and overlays.
///
/// # Errors
/// Every mistake of every file that takes part, together with the warnings. Without an error the warnings come with
/// the spec.
pub fn read(sources: &Sources, path: &str) -> Result<(Spec, Report), Report> {
    let mut report = Report::new();
    let spec = compose(sources, path, &mut report);
    // One profile serves several roles, and its mistake would be told for each.
    let mut told: Vec<Diagnostic> = Vec::new();
    for diagnostic in std::mem::take(&mut report.diagnostics) {
        if !told.contains(&diagnostic) {
            told.push(diagnostic);
        }
    }
    report.diagnostics = told;
    match spec {
        Some(spec) if !report.has_errors() => Ok((spec, report)),
        _ => Err(report),
    }
}

/// Reads a stranger's `text` as an image file, as a profile and as a template, in a project without anything else,
/// and tells what is wrong with it. Any text will do: the entry for fuzzing.
pub fn read_text(text: &str) -> Report {
    const IMAGE_PATH: &str = "images/text.toml";
    const ROLE: &str =
        "version = \"1\"\n[distribution]\nid = \"debian\"\nsuite = \"trixie\"\n[role.text]\nformats = [\"tar\"]\n";
    let project = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), Entry::file(text.as_bytes(), false)));
        let sources =
            Sources::from_entries(files.chain([("profiles/tools.toml".to_owned(), Entry::file(&b""[..], false))]));
        read(&sources, IMAGE_PATH).map_or_else(|report| report, |(_, warnings)| warnings)
    };
    let mut report = project(&[(IMAGE_PATH, text), ("profiles/rack.toml", "")]);
    report.extend(project(&[(IMAGE_PATH, ROLE), ("profiles/text.toml", text)]));
    let overlay = "overlay = [\"text\"]";
    report.extend(project(&[(IMAGE_PATH, ROLE), ("profiles/text.toml", overlay), ("overlays/text/a.tera", text)]));
    report
}

fn compose(sources: &Sources, path: &str, report: &mut Report) -> Option<Spec> {
    let image = image_table(sources, path, report)?;
    let distribution = image::distribution(&image.table);
    let archives = distribution.as_ref().map(|known| image::archives(&image.table, known, sources, report));

    let mut profiles = Profiles::new(sources);
    let chains = Chains::read(&image, &mut profiles, report);
    let mut declarations = Declarations::new();
    let mut surveyed = BTreeSet::new();
    for profile in chains.profiles() {
        profiles.survey(profile, &mut declarations, &mut surveyed, report);
    }
    let place = image.table.entry("options").map_or_else(|| image.top.clone(), |entry| entry.key_span.clone());
    let options = options::settle(&image.table, &declarations, profiles.complete, &place, report);
    if profiles.complete {
        profiles.check_conditions(&declarations, report);
    }

    let cluster_is_described = image.has("cluster");
    let mut composer = Composer::new(sources, &profiles, &options, cluster_is_described);
    let roles = chains.roles.iter().map(|role| composer.role(&role.name, &role.formats, &role.chain, report));
    let roles: Vec<Role> = roles.collect();
    let tools = composer.top_layer(&chains.tools, TOOLS, &image.top, report);
    let layers = composer.finish();

    let roles_are_known = profiles.complete && chains.whole;
    let cluster = cluster(sources, path, &image, (&roles, roles_are_known), &options, report);
    let whole = profiles.complete && cluster.is_some() == cluster_is_described && distribution.is_some();
    if let Some(distribution) = &distribution {
        matrix::check(&options, distribution, &image.table, report);
    }
    let (distribution, archives) = (distribution?, archives?);
    let spec = Spec {
        name: path.trim_start_matches("images/").trim_end_matches(".toml").to_owned(),
        version: image.table.text("version").map(|version| version.value).unwrap_or_default(),
        digest: wanted::digest(&distribution, &archives, &layers, &tools),
        distribution,
        archives,
        options,
        layers,
        tools,
        roles,
        cluster,
    };
    machine::check(&spec, report);
    if whole {
        binding::check(&spec, report);
    }
    Some(spec)
}

/// An image file as written.
struct ImageFile {
    table: Table,
    /// Its very beginning, for what has no better place.
    top: Span,
}

impl ImageFile {
    /// Whether `key` is written, well or not.
    fn has(&self, key: &str) -> bool {
        self.table.entry(key).is_some() || self.table.dropped.iter().any(|dropped| dropped == key)
    }
}

fn image_table(sources: &Sources, path: &str, report: &mut Report) -> Option<ImageFile> {
    let Some(bytes) = sources.bytes(path) else {
        let mut diagnostic = Diagnostic::error(Kind::Input, format!("there is no image file `{path}`"));
        diagnostic.hints.extend(suggest::advice(path, sources.images()));
        report.push(diagnostic);
        return None;
    };
    let source = profiles::text(path, bytes, report)?;
    Some(ImageFile { table: value::read(&source, &IMAGE, report)?, top: Span::new(&source, 0..0) })
}

/// A role as written, with its profiles, lowest first.
struct WrittenRole {
    name: Written<String>,
    formats: Vec<Format>,
    chain: Vec<Rc<Profile>>,
}

/// The chains of profiles that roles and the tool layer stand on.
struct Chains {
    roles: Vec<WrittenRole>,
    tools: Vec<Rc<Profile>>,
    /// Whether every role that is written is one.
    whole: bool,
}

impl Chains {
    fn read(image: &ImageFile, profiles: &mut Profiles<'_>, report: &mut Report) -> Self {
        let written = image::roles(&image.table);
        if let (true, Some(entry)) = (written.is_empty(), image.table.entry("role")) {
            let broken = entry.value.table().is_some_and(|table| !table.dropped.is_empty());
            if !broken {
                report.push(
                    Diagnostic::error(Kind::Input, "the image file builds no role")
                        .at(&entry.key_span, "no role under it")
                        .hint("add one: `[role.rack]` with `formats = [\"disk\"]`"),
                );
            }
        }
        let mut whole = !written.is_empty() && image.table.table("role").is_some_and(|table| table.dropped.is_empty());
        let mut roles = Vec::new();
        for (name, formats) in written {
            if name.value == TOOLS {
                report.push(
                    Diagnostic::error(Kind::Input, format!("`{TOOLS}` cannot be a role"))
                        .at(&name.span, "it is the layer that makes initrd and boot loader"),
                );
                whole = false;
                continue;
            }
            let chain = profiles.chain(&name, "a role is built from the profile of its name", report);
            roles.push(WrittenRole { name, formats, chain });
        }
        let tools = Written { value: TOOLS.to_owned(), span: image.top.clone() };
        let tools = profiles.chain(&tools, "every image needs it: the tools that make initrd and boot loader", report);
        Self { roles, tools, whole }
    }

    fn profiles(&self) -> impl Iterator<Item = &Rc<Profile>> {
        self.roles.iter().flat_map(|role| &role.chain).chain(&self.tools)
    }
}

fn cluster(
    sources: &Sources,
    path: &str,
    image: &ImageFile,
    (roles, roles_are_known): (&[Role], bool),
    options: &BTreeMap<String, OptionValue>,
    report: &mut Report,
) -> Option<Cluster> {
    if !image.has("cluster") {
        cluster::check_absent(&image.table, report);
    }
    let written = image::cluster(&image.table)?;
    for neighbour in neighbours(sources, path) {
        cluster::check_neighbour(&written, &neighbour, report);
    }
    let (nodes, dhcp) = (image::nodes(&image.table), image::dhcp(&image.table));
    let plan = cluster::Plan {
        image: &image.table,
        roles,
        roles_are_known,
        cluster: &written,
        nodes: &nodes,
        dhcp: &dhcp,
        options,
    };
    plan.check(report)
}

/// The clusters of the project's other image files. What is wrong in them is said when they are read themselves.
fn neighbours(sources: &Sources, path: &str) -> Vec<WrittenCluster> {
    let others = sources.images().filter(|other| *other != path);
    let clusters = others.filter_map(|other| image::cluster(&image_table(sources, other, &mut Report::new())?.table));
    clusters.collect()
}
