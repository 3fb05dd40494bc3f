//! Profiles as written: loading, `extends` chains, `include`, `when`.
//!
//! Answers, for one layer, which sections of which files count and in what order. What the sections say is
//! [`super::section`]'s matter.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::keys::PROFILE;
use super::model::{OptionValue, Written};
use super::options::{self, Condition, Declarations};
use super::sources::Sources;
use super::suggest;
use super::value::{self, Table};
use crate::report::{Diagnostic, Kind, Report, Source, Span};

/// One file of `profiles/`.
#[derive(Debug)]
pub struct Profile {
    /// Its name: file name without `.toml`.
    pub name: String,
    /// What it holds.
    pub table: Table,
    /// Its `when` sections, in the order of the file.
    pub whens: Vec<(Condition, Table)>,
    /// Its very beginning, for what has no better place.
    pub top: Span,
}

/// The profiles of a project, each read once.
pub struct Profiles<'sources> {
    sources: &'sources Sources,
    files: BTreeMap<String, Option<Rc<Profile>>>,
    /// False once a file was missing or broken: what it would have declared is not known.
    pub complete: bool,
    /// What has been said and is not said again: circles by their members, files that are included and extend.
    told: BTreeSet<Vec<String>>,
}

impl<'sources> Profiles<'sources> {
    /// None read yet.
    pub fn new(sources: &'sources Sources) -> Self {
        Self { sources, files: BTreeMap::new(), complete: true, told: BTreeSet::new() }
    }

    /// The profile `name`; reads it the first time. `wanted` says who asks, for the message when it is missing.
    fn get(&mut self, name: &Written<String>, wanted: &str, report: &mut Report) -> Option<Rc<Profile>> {
        if let Some(known) = self.files.get(&name.value) {
            return known.clone();
        }
        let path = format!("profiles/{}.toml", name.value);
        let profile = match self.sources.bytes(&path) {
            Some(bytes) => {
                text(&path, bytes, report).and_then(|source| read(&name.value, &source, report)).map(Rc::new)
            }
            None => {
                let mut diagnostic = Diagnostic::error(Kind::Input, format!("there is no profile `{}`", name.value))
                    .at(&name.span, wanted);
                diagnostic = diagnostic.note(format!("it would be the file `{path}`"));
                if let Some(advice) = suggest::advice(&name.value, self.sources.profiles()) {
                    diagnostic = diagnostic.hint(advice);
                }
                report.push(diagnostic);
                None
            }
        };
        self.complete &= profile.is_some();
        self.files.insert(name.value.clone(), profile.clone());
        profile
    }

    /// The profile `name` and those under it, lowest first. Broken chains are reported and end where they break.
    pub fn chain(&mut self, name: &Written<String>, wanted: &str, report: &mut Report) -> Vec<Rc<Profile>> {
        let mut chain: Vec<Rc<Profile>> = Vec::new();
        let mut links: Vec<Written<String>> = Vec::new();
        let mut next = (name.clone(), wanted);
        while let Some(profile) = self.get(&next.0, next.1, report) {
            if let Some(start) = chain.iter().position(|other| other.name == profile.name) {
                let names: Vec<_> = chain[start..].iter().map(|profile| profile.name.clone()).collect();
                self.report_circle("extend", &names, &links[start..], report);
                break;
            }
            let parent = profile.table.text("extends");
            chain.push(profile);
            let Some(parent) = parent else { break };
            links.push(parent.clone());
            next = (parent, "extended here");
        }
        chain.reverse();
        chain
    }

    /// Loads everything that `profile` includes under any condition, reports cycles, and gathers what is declared.
    ///
    /// `seen` holds the files whose declarations are known, so that a file which two layers include counts once.
    pub fn survey(
        &mut self,
        profile: &Rc<Profile>,
        declarations: &mut Declarations,
        seen: &mut BTreeSet<String>,
        report: &mut Report,
    ) {
        let mut walk = Survey { profiles: self, declarations, seen, report, path: Vec::new(), links: Vec::new() };
        walk.visit(profile);
    }

    /// Reports a circle of profiles, once for its members.
    fn report_circle(&mut self, verb: &str, names: &[String], links: &[Written<String>], report: &mut Report) {
        self.complete = false;
        let mut members = names.to_vec();
        members.sort();
        if !self.told.insert(members) {
            return;
        }
        let circle: Vec<_> = names.iter().chain(names.first()).map(|name| format!("`{name}`")).collect();
        let mut diagnostic = Diagnostic::error(Kind::Input, format!("profiles {verb} each other in a circle"));
        for link in links.iter().rev() {
            diagnostic = diagnostic.at(&link.span, format!("`{}`, {verb}ed here", link.value).replace("eed", "ed"));
        }
        report.push(diagnostic.note(circle.join(" → ")));
    }

    /// Reports conditions that name no option, or a value that it never has.
    pub fn check_conditions(&self, declarations: &Declarations, report: &mut Report) {
        for profile in self.files.values().flatten() {
            for (condition, _) in &profile.whens {
                condition.check(declarations, report);
            }
        }
    }

    /// The sections of one layer in order: an included file before the section that includes it, a file's own text
    /// before its `when` sections, of which only those count whose condition holds. No file counts twice.
    pub fn sections(&self, profile: &Rc<Profile>, values: &BTreeMap<String, OptionValue>) -> Vec<Section> {
        let mut sections = Vec::new();
        self.gather(profile, values, &mut BTreeSet::new(), &mut sections);
        sections
    }

    fn gather(
        &self,
        profile: &Rc<Profile>,
        values: &BTreeMap<String, OptionValue>,
        seen: &mut BTreeSet<String>,
        sections: &mut Vec<Section>,
    ) {
        // A cycle has been reported by now; here it must only end.
        if !seen.insert(profile.name.clone()) {
            return;
        }
        let active = profile.whens.iter().enumerate().filter(|(_, (condition, _))| condition.holds(values));
        let parts = std::iter::once(None).chain(active.map(|(index, _)| Some(index)));
        for when in parts {
            let section = Section { profile: profile.clone(), when };
            for name in section.table().texts("include") {
                if let Some(Some(included)) = self.files.get(&name.value) {
                    self.gather(included, values, seen, sections);
                }
            }
            sections.push(section);
        }
    }
}

/// A profile's own text, or one of its `when` sections.
pub struct Section {
    profile: Rc<Profile>,
    when: Option<usize>,
}

impl Section {
    /// What it says.
    pub fn table(&self) -> &Table {
        match self.when {
            None => &self.profile.table,
            Some(index) => &self.profile.whens[index].1,
        }
    }
}

struct Survey<'walk, 'sources> {
    profiles: &'walk mut Profiles<'sources>,
    declarations: &'walk mut Declarations,
    seen: &'walk mut BTreeSet<String>,
    report: &'walk mut Report,
    path: Vec<String>,
    links: Vec<Written<String>>,
}

impl Survey<'_, '_> {
    fn visit(&mut self, profile: &Rc<Profile>) {
        if let Some(start) = self.path.iter().position(|name| *name == profile.name) {
            self.profiles.report_circle("include", &self.path[start..], &self.links[start..], self.report);
            return;
        }
        if !self.seen.insert(profile.name.clone()) {
            return;
        }
        self.profiles.complete &= options::declare(&profile.table, self.declarations, self.report);
        self.path.push(profile.name.clone());
        let tables = std::iter::once(&profile.table).chain(profile.whens.iter().map(|(_, table)| table));
        let includes: Vec<_> = tables.flat_map(|table| table.texts("include")).collect();
        for name in includes {
            if let Some(included) = self.profiles.get(&name, "included here", self.report) {
                if let Some(extends) = included.table.entry("extends")
                    && self.profiles.told.insert(vec!["extends".to_owned(), included.name.clone()])
                {
                    self.report.push(
                        Diagnostic::error(Kind::Input, format!("the included file `{}` extends a layer", name.value))
                            .at(&extends.key_span, "only a layer's own file may")
                            .at(&name.span, "included here")
                            .note("an included file is put into the layer that includes it"),
                    );
                }
                self.links.push(name);
                self.visit(&included);
                self.links.pop();
            }
        }
        self.path.pop();
    }
}

/// The text of a written file.
pub fn text(path: &str, bytes: &[u8], report: &mut Report) -> Option<Arc<Source>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Arc::new(Source { path: path.to_owned(), text: text.to_owned() })),
        Err(error) => {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            report.push(Diagnostic::error(Kind::Input, format!("`{path}` is not UTF-8 text (line {line})")));
            None
        }
    }
}

/// Reads one profile.
pub fn read(name: &str, source: &Arc<Source>, report: &mut Report) -> Option<Profile> {
    let table = value::read(source, &PROFILE, report)?;
    let mut whens = Vec::new();
    for (entry, section) in table.tables("when") {
        match Condition::read(entry) {
            Ok(condition) => whens.push((condition, section.clone())),
            Err(diagnostic) => report.push(diagnostic),
        }
    }
    Some(Profile { name: name.to_owned(), table, whens, top: Span::new(source, 0..0) })
}
