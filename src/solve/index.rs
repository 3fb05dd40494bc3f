//! The universe by name, and what satisfies a relation in the order in which apt would take it.
//!
//! Built once for all layers of a lock. Holds no decision: which of the candidates is taken is for `draft` and
//! `encode`. The order of versions is apt's pinning (archive priority, then version). Providers come in apt's order:
//! the package of that very name, essential ones, protected ones, then by `Priority`. Between equals apt takes the
//! one whose name its cache met last, in whatever field, while it read the indexes; so does this, but for `Suggests`
//! and `Enhances`, which are not kept.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::OnceLock;

use rayon::prelude::*;

use super::{Candidate, Field, Universe};
use crate::deb::package::MultiArch;
use crate::deb::relation::{RelationRef, alternatives_of};
use crate::digest::Digest;

/// How many candidates one task reads.
const PART: usize = 4096;

/// A candidate's place in the universe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(pub u32);

/// A package name's place in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name(pub u32);

/// The universe, arranged for solving on one architecture.
pub struct Index<'u> {
    universe: &'u Universe,
    architecture: &'u str,
    /// Names in alphabetical order, each with its candidates, best first.
    names: Vec<(&'u str, Vec<Id>)>,
    /// Who provides a name: candidates in the order of the universe, with the version provided.
    providers: BTreeMap<&'u str, Vec<(Id, Option<&'u str>)>>,
    /// The name of each candidate; none for those of another architecture.
    name_of: Vec<Option<Name>>,
    /// When each name was met first; made when two providers are equal otherwise.
    met: OnceLock<Vec<usize>>,
}

impl<'u> Index<'u> {
    /// Arranges `universe` for `architecture` (`amd64`); packages for another one are left out. Of the versions of
    /// a name, those whose digest is in `favoured` come first, then the higher priority, then the higher version.
    pub fn new(universe: &'u Universe, architecture: &'u str, favoured: &BTreeSet<Digest>) -> Self {
        let mut named: Vec<(&str, Id)> = Vec::with_capacity(universe.candidates.len());
        let mut providers: BTreeMap<&str, Vec<(Id, Option<&str>)>> = BTreeMap::new();
        for (at, candidate) in (0..).zip(&universe.candidates) {
            let package = &*candidate.package;
            if package.architecture != "all" && package.architecture != architecture {
                continue;
            }
            named.push((&package.name, Id(at)));
            for provided in package.provides.iter() {
                let version = provided.version.map(|(_, version)| version);
                providers.entry(provided.name).or_default().push((Id(at), version));
            }
        }
        let is_favoured =
            |candidate: &Candidate| candidate.package.sha256.is_some_and(|digest| favoured.contains(&digest));
        // Indexes are nearly in this order already, of which a merge sort makes use.
        named.sort_by_key(|(name, _)| *name);
        let mut names = Vec::with_capacity(named.len());
        let mut name_of = vec![None; universe.candidates.len()];
        for (index, group) in (0..).zip(named.chunk_by(|(one, _), (other, _)| one == other)) {
            let mut ids: Vec<Id> = group.iter().map(|(_, id)| *id).collect();
            // Stable: of two alike the one from the earlier archive stays first.
            ids.sort_by(|left, right| {
                let (left, right) = (candidate_at(universe, *left), candidate_at(universe, *right));
                let key = |candidate: &Candidate| Reverse((is_favoured(candidate), candidate.priority));
                key(left).cmp(&key(right)).then_with(|| right.package.version.cmp(&left.package.version))
            });
            for id in &ids {
                name_of[id.0 as usize] = Some(Name(index));
            }
            names.push((group[0].0, ids));
        }
        Self { universe, architecture, names, providers, name_of, met: OnceLock::new() }
    }

    /// The candidate of that id.
    pub(super) fn candidate(&self, id: Id) -> &'u Candidate {
        candidate_at(self.universe, id)
    }

    /// How many names there are.
    pub(super) fn name_count(&self) -> usize {
        self.names.len()
    }

    /// The text of a name.
    pub(super) fn name_text(&self, name: Name) -> &'u str {
        self.names[name.0 as usize].0
    }

    /// The name of a candidate of the right architecture.
    pub(super) fn name_of(&self, id: Id) -> Option<Name> {
        self.name_of.get(id.0 as usize).copied().flatten()
    }

    /// The candidates of a name, best first.
    pub(super) fn versions(&self, name: Name) -> &[Id] {
        &self.names[name.0 as usize].1
    }

    /// A name's place, where a real package bears it.
    pub(super) fn name(&self, text: &str) -> Option<Name> {
        let found = self.names.binary_search_by_key(&text, |(name, _)| name).ok()?;
        u32::try_from(found).ok().map(Name)
    }

    /// All names of real packages and of what they provide, alphabetically and the real ones first.
    pub(super) fn all_names(&self) -> impl Iterator<Item = &'u str> {
        self.names.iter().map(|(name, _)| *name).chain(self.providers.keys().copied())
    }

    /// Where `wanted` lies, by what identifies a .deb.
    pub(super) fn find(&self, wanted: &Candidate) -> Option<Id> {
        let package = &wanted.package;
        let same = |found: &Candidate| {
            found.package.version.as_str() == package.version.as_str()
                && found.package.architecture == package.architecture
                && found.package.sha256 == package.sha256
        };
        let ids = self.versions(self.name(&package.name)?);
        ids.iter().copied().find(|id| same(self.candidate(*id)))
    }

    /// The best candidates of all essential packages, by name.
    pub(super) fn essential(&self) -> impl Iterator<Item = Id> {
        self.names.iter().filter_map(|(_, ids)| ids.first().copied()).filter(|id| self.candidate(*id).package.essential)
    }

    /// What satisfies one of the alternatives in `group`, each once, in the order in which it is to be tried.
    pub(super) fn satisfying(&self, group: &str) -> Vec<Id> {
        self.satisfying_any(alternatives_of(group))
    }

    /// The same for relations that are already read.
    pub(super) fn satisfying_any<'r>(&self, alternatives: impl Iterator<Item = RelationRef<'r>>) -> Vec<Id> {
        let mut found = Vec::new();
        for relation in alternatives {
            self.collect(relation, true, &mut found);
        }
        found
    }

    /// What a negative relation speaks of. A package's own name is for the caller to except.
    pub(super) fn hit_by(&self, relation: RelationRef<'_>) -> Vec<Id> {
        let mut found = Vec::new();
        self.collect(relation, false, &mut found);
        found
    }

    fn collect(&self, relation: RelationRef<'_>, positive: bool, found: &mut Vec<Id>) {
        if let Some(name) = self.name(relation.name) {
            for id in self.versions(name) {
                if self.is_met_by_name(relation, self.candidate(*id), positive) && !found.contains(id) {
                    found.push(*id);
                }
            }
        }
        let Some(providers) = self.providers.get(relation.name) else { return };
        let mut fitting: Vec<Id> = providers
            .iter()
            .filter(|(_, version)| is_met_by_provision(relation, *version))
            .map(|(id, _)| *id)
            .filter(|id| !found.contains(id))
            .collect();
        if positive && fitting.len() > 1 {
            fitting.sort_by_cached_key(|id| {
                let package = &self.candidate(*id).package;
                let name = self.name_of(*id);
                let rank = name.and_then(|name| self.versions(name).iter().position(|version| version == id));
                let met = name.map(|name| self.met()[name.0 as usize]);
                (Reverse((package.essential, package.protected, package.priority, met)), rank)
            });
        }
        fitting.dedup();
        found.extend(fitting);
    }

    /// When each name is first mentioned: by its own stanza, or by an earlier one in any of its relations. Counted
    /// for what provides something; the others are never compared.
    fn met(&self) -> &[usize] {
        self.met.get_or_init(|| {
            let ids = self.providers.values().flatten();
            // A hash map for speed: half a million look-ups. It is only asked, never walked, so its order is no one's.
            let asked: HashMap<&str, Name> =
                ids.filter_map(|(id, _)| self.name_of(*id)).map(|name| (self.name_text(name), name)).collect();
            let names_in = |candidate: &'u Candidate| {
                let package = &*candidate.package;
                let fields = [
                    &package.pre_depends,
                    &package.depends,
                    &package.conflicts,
                    &package.breaks,
                    &package.recommends,
                    &package.replaces,
                    &package.provides,
                ];
                let mentioned = fields.into_iter().flat_map(|field| field.as_str().split([',', '|']));
                let mentioned =
                    mentioned.map(|one| one.trim_start().split([' ', ':', '(', '\n']).next().unwrap_or(one));
                std::iter::once(package.name.as_str()).chain(mentioned)
            };
            let first_in = |part: &'u [Candidate]| {
                let mut seen = BTreeSet::new();
                let names = part.iter().flat_map(names_in).filter_map(|name| asked.get(name).copied());
                names.filter(|name| seen.insert(*name)).collect::<Vec<Name>>()
            };
            let parts: Vec<_> = self.universe.candidates.par_chunks(PART).map(first_in).collect();
            let mut met = vec![usize::MAX; self.names.len()];
            for (count, name) in parts.into_iter().flatten().enumerate() {
                let first = &mut met[name.0 as usize];
                *first = count.min(*first);
            }
            met
        })
    }

    /// Whether `relation` speaks of `candidate`, by its name or by what it provides.
    pub(super) fn speaks_of(&self, relation: RelationRef<'_>, candidate: &Candidate, positive: bool) -> bool {
        let package = &candidate.package;
        package.name == relation.name && self.is_met_by_name(relation, candidate, positive)
            || package.provides.iter().any(|provided| {
                provided.name == relation.name
                    && is_met_by_provision(relation, provided.version.map(|(_, version)| version))
            })
    }

    fn is_met_by_name(&self, relation: RelationRef<'_>, candidate: &Candidate, positive: bool) -> bool {
        let qualified = match relation.qualifier {
            None | Some("native") => true,
            // Only a package that says so may serve another architecture's dependency (`Multi-Arch: allowed`); a
            // conflict with `:any` means every architecture.
            Some("any") => !positive || candidate.package.multi_arch == MultiArch::Allowed,
            Some(architecture) => architecture == self.architecture,
        };
        qualified && relation.accepts(candidate.package.version.as_str())
    }
}

/// Policy 7.5: a versioned relation is met by a versioned provision only.
fn is_met_by_provision(relation: RelationRef<'_>, version: Option<&str>) -> bool {
    relation.qualifier.is_none_or(|qualifier| qualifier != "any")
        && (relation.version.is_none() || version.is_some_and(|version| relation.accepts(version)))
}

fn candidate_at(universe: &Universe, id: Id) -> &Candidate {
    &universe.candidates[id.0 as usize]
}

/// The groups that a candidate needs, in the order in which apt sees to them.
pub(super) fn needs(candidate: &Candidate, recommends: bool) -> impl Iterator<Item = (Field, &str)> {
    let package = &*candidate.package;
    let recommended = recommends.then_some((Field::Recommends, &package.recommends));
    [(Field::PreDepends, &package.pre_depends), (Field::Depends, &package.depends)]
        .into_iter()
        .chain(recommended)
        .flat_map(|(field, relations)| relations.group_texts().map(move |text| (field, text)))
}

/// What a candidate cannot stand beside.
pub(super) fn refuses(candidate: &Candidate) -> impl Iterator<Item = (Field, RelationRef<'_>)> {
    let package = &*candidate.package;
    [(Field::Conflicts, &package.conflicts), (Field::Breaks, &package.breaks)]
        .into_iter()
        .flat_map(|(field, relations)| relations.iter().map(move |relation| (field, relation)))
}
