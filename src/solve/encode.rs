//! The question as clauses for the SAT core (resolvo), encoded as far as the core asks.
//!
//! One resolvo name per package name, one solvable per candidate. A dependency is a union of sets of candidates in
//! order of preference, virtual packages already expanded; a conflict is, per package name it touches, the set of
//! candidates that remain allowed. Chooses nothing: the order of the candidates is all that it says.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;

use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider, Interner,
    KnownDependencies, NameId, Problem, Requirement, SolvableId, Solver, SolverCache, StringId, UnsolvableOrCancelled,
    VersionSetId, VersionSetUnionId,
};

use super::draft::Draft;
use super::index::{Id, Index, Name, needs, refuses};

/// Ids of candidates, names and sets are the solver's own, one to one.
fn solvable(id: Id) -> SolvableId {
    SolvableId::from_raw(id.0)
}

fn candidate_id(solvable: SolvableId) -> Id {
    Id(solvable.into_raw())
}

/// Decides whether all wishes can be had beside the fixed packages, and how.
///
/// `wishes` are each the candidates that satisfy it; what `draft` took is preferred. What the draft took for the sake
/// of `Recommends` is tried at the end and left out where it does not fit. Gives every chosen candidate, the fixed
/// ones included, or nothing when there is no answer.
pub(super) fn decide<'u>(
    index: &Index<'u>,
    draft: &Draft<'_, 'u>,
    fixed: &[Id],
    wishes: &[Vec<Id>],
) -> Option<Vec<Id>> {
    let provider = Provider {
        index,
        draft,
        fixed: fixed.iter().filter_map(|id| Some((index.name_of(*id)?, *id))).collect(),
        sets: RefCell::default(),
    };
    let all_fixed = fixed.iter().map(|id| vec![*id]);
    let requirements: Vec<ConditionalRequirement> =
        all_fixed.chain(wishes.iter().cloned()).map(|options| provider.any_of(options)).collect();
    let recommended: Vec<SolvableId> = draft.recommended().map(solvable).collect();
    let problem = Problem::new().requirements(requirements).soft_requirements(recommended);
    match Solver::new(provider).solve(problem) {
        Ok(chosen) => Some(chosen.into_iter().map(candidate_id).collect()),
        Err(UnsolvableOrCancelled::Unsolvable(_) | UnsolvableOrCancelled::Cancelled(_)) => None,
    }
}

/// Answers the core's questions from the index.
struct Provider<'s, 'u> {
    index: &'s Index<'u>,
    draft: &'s Draft<'s, 'u>,
    fixed: BTreeMap<Name, Id>,
    sets: RefCell<Sets>,
}

/// Sets of candidates of one name each, and unions of such sets, by their ids.
#[derive(Default)]
struct Sets {
    sets: Vec<(Name, Vec<Id>)>,
    unions: Vec<Vec<VersionSetId>>,
}

impl Sets {
    fn add(&mut self, name: Name, ids: Vec<Id>) -> VersionSetId {
        self.sets.push((name, ids));
        VersionSetId(u32::try_from(self.sets.len() - 1).unwrap_or(u32::MAX))
    }
}

impl Provider<'_, '_> {
    /// One of `options`; those that the draft took come first, else the order is kept.
    fn any_of(&self, options: Vec<Id>) -> ConditionalRequirement {
        let (mut ordered, others): (Vec<Id>, Vec<Id>) = options.into_iter().partition(|id| self.draft.is_taken(*id));
        ordered.extend(others);
        let mut sets = self.sets.borrow_mut();
        let mut union: Vec<VersionSetId> = Vec::new();
        for run in ordered.chunk_by(|left, right| self.index.name_of(*left) == self.index.name_of(*right)) {
            if let Some(name) = self.index.name_of(run[0]) {
                let set = sets.add(name, run.to_vec());
                union.push(set);
            }
        }
        let requirement = match union.as_slice() {
            [one] => Requirement::Single(*one),
            _ => {
                sets.unions.push(union);
                Requirement::Union(VersionSetUnionId(u32::try_from(sets.unions.len() - 1).unwrap_or(u32::MAX)))
            }
        };
        ConditionalRequirement { condition: None, requirement }
    }

    fn with_set<T>(&self, set: VersionSetId, read: impl FnOnce(Name, &[Id]) -> T) -> T {
        let sets = self.sets.borrow();
        let (name, ids) = &sets.sets[set.0 as usize];
        read(*name, ids)
    }

    /// What of a name's candidates may stand beside a package that refuses `hit`.
    fn allowed(&self, name: Name, hit: &[Id]) -> VersionSetId {
        let rest = self.index.versions(name).iter().copied().filter(|id| !hit.contains(id)).collect();
        self.sets.borrow_mut().add(name, rest)
    }
}

impl Interner for Provider<'_, '_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        let package = &self.index.candidate(candidate_id(solvable)).package;
        format!("{} {}", package.name, package.version)
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        self.index.name_text(Name(name.into_raw()))
    }

    fn display_version_set(&self, version_set: VersionSetId) -> impl Display + '_ {
        self.with_set(version_set, |_, ids| {
            let versions: Vec<_> = ids.iter().map(|id| self.index.candidate(*id).package.version.as_str()).collect();
            versions.join(", ")
        })
    }

    fn display_string(&self, _: StringId) -> impl Display + '_ {
        "it depends on something that no archive offers"
    }

    fn version_set_name(&self, version_set: VersionSetId) -> NameId {
        self.with_set(version_set, |name, _| NameId::from_raw(name.0))
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        // Only candidates of the index become solvables, and each of them has a name.
        NameId::from_raw(self.index.name_of(candidate_id(solvable)).unwrap_or(Name(0)).0)
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        self.sets.borrow().unions[union.0 as usize].clone().into_iter()
    }

    fn resolve_condition(&self, _: ConditionId) -> Condition {
        // No requirement of ours has a condition, so the core has none to ask about.
        Condition::Requirement(VersionSetId::default())
    }
}

impl DependencyProvider for Provider<'_, '_> {
    async fn filter_candidates(&self, candidates: &[SolvableId], set: VersionSetId, inverse: bool) -> Vec<SolvableId> {
        self.with_set(set, |_, ids| {
            candidates.iter().copied().filter(|id| ids.contains(&candidate_id(*id)) != inverse).collect()
        })
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates<SolvableId>> {
        let name = Name(name.into_raw());
        let candidates = match self.fixed.get(&name) {
            Some(id) => vec![solvable(*id)],
            None => self.index.versions(name).iter().copied().map(solvable).collect(),
        };
        Some(Candidates { candidates, ..Candidates::default() })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        solvables.sort_by_cached_key(|solvable| {
            let id = candidate_id(*solvable);
            let rank = self
                .index
                .name_of(id)
                .and_then(|name| self.index.versions(name).iter().position(|version| *version == id));
            (!self.draft.is_taken(id), rank)
        });
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        let id = candidate_id(solvable);
        let candidate = self.index.candidate(id);
        let own = self.index.name_of(id);
        let mut dependencies = KnownDependencies::default();
        // The parent layer was solved: what its packages need is among them.
        if own.is_none_or(|name| !self.fixed.contains_key(&name)) {
            for (_, text) in needs(candidate, false) {
                let options = self.index.satisfying(text);
                if options.is_empty() {
                    return Dependencies::Unknown(StringId(0));
                }
                // A package that meets its own dependency by what it provides needs nothing more.
                if !options.contains(&id) {
                    dependencies.requirements.push(self.any_of(options));
                }
            }
        }
        for (_, relation) in refuses(candidate) {
            let mut hit = self.index.hit_by(relation);
            // A package never conflicts with itself, whatever it provides.
            hit.retain(|id| self.index.name_of(*id) != own);
            hit.sort_by_key(|id| self.index.name_of(*id));
            for same_name in hit.chunk_by(|left, right| self.index.name_of(*left) == self.index.name_of(*right)) {
                if let Some(name) = self.index.name_of(same_name[0]) {
                    let allowed = self.allowed(name, same_name);
                    dependencies.constrains.push(allowed);
                }
            }
        }
        Dependencies::Known(dependencies)
    }
}
