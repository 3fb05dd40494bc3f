//! From the chains of profiles to layers: sections put together, overlays read, early files of `before` rendered.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::facts::Facts;
use super::model::{
    Before, BeforeFile, Body, Format, Layer, OptionValue, OverlayFile, Permission, Role, RoleKind, Template, Units,
    Written,
};
use super::profiles::{Profile, Profiles};
use super::section::{Draft, DraftPermission};
use super::sources::Sources;
use super::{names, overlay, template};
use crate::report::{Diagnostic, Kind, Report, Span};

/// Makes layers, each once.
pub struct Composer<'read> {
    sources: &'read Sources,
    profiles: &'read Profiles<'read>,
    options: &'read BTreeMap<String, OptionValue>,
    cluster_is_described: bool,
    layers: Vec<Layer>,
}

impl<'read> Composer<'read> {
    /// A composer without layers yet.
    pub fn new(
        sources: &'read Sources,
        profiles: &'read Profiles<'read>,
        options: &'read BTreeMap<String, OptionValue>,
        cluster_is_described: bool,
    ) -> Self {
        Self { sources, profiles, options, cluster_is_described, layers: Vec::new() }
    }

    /// The layers made so far: every one after its parent.
    pub fn finish(self) -> Vec<Layer> {
        self.layers
    }

    /// A role whose profiles are `chain`, lowest first.
    pub fn role(
        &mut self,
        name: &Written<String>,
        formats: &[Format],
        chain: &[Rc<Profile>],
        report: &mut Report,
    ) -> Role {
        let layers = self.chain(chain, report);
        let has = |wanted: &str| chain.iter().any(|profile| profile.name == wanted);
        let kind = match (has("region"), has("rack")) {
            (true, _) => RoleKind::Region,
            (false, true) => RoleKind::Rack,
            (false, false) => RoleKind::Other,
        };
        Role { name: name.value.clone(), layers, kind, formats: formats.to_vec(), span: name.span.clone() }
    }

    /// The last profile of `chain` as a layer of its own, on the others as layers of the spec; empty when there is
    /// no profile.
    pub fn top_layer(&mut self, chain: &[Rc<Profile>], name: &str, place: &Span, report: &mut Report) -> Layer {
        match chain.split_last() {
            Some((profile, under)) => {
                let parent = self.chain(under, report).last().copied();
                self.layer(profile, parent, report)
            }
            None => empty(name, None, place),
        }
    }

    fn chain(&mut self, chain: &[Rc<Profile>], report: &mut Report) -> Vec<usize> {
        let mut indexes: Vec<usize> = Vec::new();
        for profile in chain {
            let known = self.layers.iter().position(|layer| layer.name == profile.name);
            let index = known.unwrap_or_else(|| {
                let layer = self.layer(profile, indexes.last().copied(), report);
                self.layers.push(layer);
                self.layers.len() - 1
            });
            indexes.push(index);
        }
        indexes
    }

    fn layer(&self, profile: &Rc<Profile>, parent: Option<usize>, report: &mut Report) -> Layer {
        let draft = Draft::of(&self.profiles.sections(profile, self.options), report);
        let files = overlay::read(self.sources, &draft.overlays, self.cluster_is_described, report);
        let before_files = self.before_files(&draft.before_overlays, report);
        let permissions = draft
            .permissions
            .iter()
            .filter_map(|(path, permission)| self.permission(path, permission, &files, parent, report))
            .collect();
        Layer {
            wants: draft.wants,
            recommends: draft.recommends.unwrap_or(false),
            before: Before {
                debconf: draft.debconf.into_values().collect(),
                users: draft.users.into_values().collect(),
                groups: draft.groups.into_values().collect(),
                files: before_files,
            },
            files,
            permissions,
            units: draft.units,
            remove: draft.remove,
            kernel_arguments: draft.kernel_arguments,
            state: draft.state,
            ports: draft.ports,
            ..empty(&profile.name, parent, &profile.top)
        }
    }

    /// Files laid before configuration. They are part of the configured root's key, so nothing but options may
    /// decide them.
    fn before_files(&self, overlays: &[Written<String>], report: &mut Report) -> Vec<BeforeFile> {
        let facts = Facts::of_options(self.options);
        let files = overlay::read(self.sources, overlays, self.cluster_is_described, report);
        let files = files.into_iter().filter_map(|OverlayFile { path, source, span, body }| {
            let (content, mode) = match body {
                Body::Plain { content, mode } => (content, mode),
                Body::Early { template } | Body::Late { template } => {
                    (self.render_before(&template, &facts, report)?.into_bytes(), template.mode)
                }
                Body::Link { .. } => {
                    report.push(
                        Diagnostic::error(Kind::Input, format!("`{source}` is a symbolic link"))
                            .at(&span, "laid before packages are configured")
                            .note("only plain files and templates can be"),
                    );
                    return None;
                }
            };
            Some(BeforeFile { path, mode, content, source, span })
        });
        files.collect()
    }

    fn render_before(&self, template: &Template, facts: &Facts, report: &mut Report) -> Option<String> {
        let allowed = |name: &str| facts.variables().contains_key(name);
        let mut sound = self.profiles.complete;
        for name in template.variables.iter().filter(|name| !allowed(name)) {
            let mentions = names::mentions(&template.source.text);
            let place = mentions.iter().find(|mention| mention.root() == name).map_or(0..0, names::Mention::root_range);
            report.push(
                Diagnostic::error(Kind::Input, format!("`{name}` is not known before packages are configured"))
                    .at(&Span::new(&template.source, place), "mentioned here")
                    .note("a layer is configured once and shared by all its roles and nodes")
                    .hint("use `option` only, or lay the file after configuration: `overlay = […]`"),
            );
            sound = false;
        }
        if !sound {
            return None;
        }
        let mistakes = names::check(&template.source, facts);
        if !mistakes.is_empty() {
            mistakes.into_iter().for_each(|mistake| report.push(mistake));
            return None;
        }
        template::render(template, facts).map_err(|mistake| report.push(mistake)).ok()
    }

    fn permission(
        &self,
        path: &str,
        draft: &DraftPermission,
        files: &[OverlayFile],
        parent: Option<usize>,
        report: &mut Report,
    ) -> Option<Permission> {
        let mode = draft.mode.or_else(|| self.overlay_mode(path, files, parent));
        let Some(mode) = mode else {
            report.push(
                Diagnostic::error(Kind::Input, format!("the mode of `/{path}` is not known"))
                    .at(&draft.span, "no overlay of this layer or one under it has this file")
                    .hint("write its mode, or correct the path: `mode = \"0640\"`"),
            );
            return None;
        };
        let DraftPermission { owner, group, directory, span, .. } = draft.clone();
        Some(Permission { path: path.to_owned(), owner, group, mode, directory, span })
    }

    /// The mode that the nearest overlay gives to `path`, from this layer downwards.
    fn overlay_mode(&self, path: &str, files: &[OverlayFile], mut parent: Option<usize>) -> Option<u16> {
        let mut files = files;
        let mut seen = BTreeSet::new();
        loop {
            if let Some(file) = files.iter().find(|file| file.path == path) {
                return file.mode();
            }
            let layer = parent.filter(|index| seen.insert(*index)).and_then(|index| self.layers.get(index))?;
            files = &layer.files;
            parent = layer.parent;
        }
    }
}

fn empty(name: &str, parent: Option<usize>, span: &Span) -> Layer {
    Layer {
        name: name.to_owned(),
        parent,
        wants: Vec::new(),
        recommends: false,
        before: Before::default(),
        files: Vec::new(),
        permissions: Vec::new(),
        units: Units::default(),
        remove: Vec::new(),
        kernel_arguments: Vec::new(),
        state: Vec::new(),
        ports: Vec::new(),
        span: span.clone(),
    }
}
