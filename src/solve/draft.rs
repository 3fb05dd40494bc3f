//! A first answer, made as apt makes it: depth first, the first alternative that works, nothing reconsidered.
//!
//! The draft decides what is preferred and, where there is no answer, what to tell. It is sound: when it fails
//! nowhere, its marks are an answer. It is not complete: a choice is not taken back once its dependencies were
//! settled, so a failure proves nothing; that is the SAT core's office. It is linear: what was refused once
//! stays refused, as apt discards a candidate.
//!
//! apt first marks everything named on its command line and then settles dependencies, which is why an alternative
//! that is wanted elsewhere wins over the first one. The same is done here.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Field;
use super::index::{Id, Index, Name, needs, refuses};
use crate::deb::relation::RelationRef;

/// How deep dependencies are followed one inside another; a bound on the stack. Trixie needs about a hundred.
const DEEPEST: usize = 400;

/// What made the draft take a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause<'u> {
    /// The want of that index.
    Want(usize),
    /// It is essential.
    Essential,
    /// The parent layer has it.
    Fixed,
    /// A package needs it.
    Needs {
        /// Who.
        by: Id,
        /// In which field.
        field: Field,
        /// The group's text.
        text: &'u str,
    },
}

/// Why a candidate was not taken.
#[derive(Debug)]
pub(super) enum Refusal<'u> {
    /// Another version is taken already.
    OtherVersion {
        /// The one refused.
        refused: Id,
        /// The one taken.
        taken: Id,
        /// What the one taken was taken for, step by step down to a want, an essential or a fixed package.
        chain: Vec<Cause<'u>>,
    },
    /// It and another that is taken exclude each other.
    Conflict {
        /// The one refused.
        refused: Id,
        /// The one taken.
        taken: Id,
        /// Whose field says so.
        declared_by: Id,
        /// The field.
        field: Field,
        /// The relation in it.
        relation: RelationRef<'u>,
        /// What the one taken was taken for, step by step down to a want, an essential or a fixed package.
        chain: Vec<Cause<'u>>,
    },
    /// Something that it needs cannot be had.
    Unmet {
        /// Who needs it.
        by: Id,
        /// In which field.
        field: Field,
        /// The group's text.
        text: &'u str,
        /// Why each possibility was refused, in order; empty when the archives offer none.
        because: Vec<Rc<Self>>,
    },
}

/// What was taken, in order, and which wishes failed.
pub(super) struct Draft<'s, 'u> {
    index: &'s Index<'u>,
    recommends: bool,
    marks: Vec<(Id, Cause<'u>)>,
    taken: Vec<Option<Id>>,
    /// What marked packages provide and refuse, by name; emptied from the back when marks are taken back.
    provided: BTreeMap<&'u str, Vec<Id>>,
    refused_by: BTreeMap<&'u str, Vec<(Id, Field, RelationRef<'u>)>>,
    refusals: BTreeMap<Id, Rc<Refusal<'u>>>,
    /// Whether dependencies were left unsettled at the bound.
    cut_short: bool,
    /// Failed wishes, in order: the cause and the reasons of all its possibilities.
    pub(super) failures: Vec<(Cause<'u>, Vec<Rc<Refusal<'u>>>)>,
}

impl<'s, 'u> Draft<'s, 'u> {
    /// A draft in which `fixed` is taken already.
    pub(super) fn new(index: &'s Index<'u>, fixed: &[Id], recommends: bool) -> Self {
        let mut draft = Self {
            index,
            recommends,
            marks: Vec::new(),
            taken: vec![None; index.name_count()],
            provided: BTreeMap::new(),
            refused_by: BTreeMap::new(),
            refusals: BTreeMap::new(),
            cut_short: false,
            failures: Vec::new(),
        };
        for id in fixed {
            draft.push(*id, Cause::Fixed);
        }
        draft
    }

    /// Takes what satisfies the wishes: each a cause and its possibilities in order.
    pub(super) fn take(&mut self, wishes: &[(Cause<'u>, Vec<Id>)]) {
        // A wish that names one package is marked before any dependency is settled, one that leaves a choice after.
        let mut marked = vec![None; wishes.len()];
        for ((cause, options), marked) in wishes.iter().zip(&mut marked) {
            let one_name = options.windows(2).all(|pair| self.index.name_of(pair[0]) == self.index.name_of(pair[1]));
            if !one_name || options.iter().any(|id| self.is_taken(*id)) {
                continue;
            }
            *marked = options.iter().copied().find(|id| self.obstacle(*id).is_none());
            if let Some(id) = *marked {
                self.push(id, *cause);
            }
        }
        for ((cause, options), marked) in wishes.iter().zip(marked) {
            let settled = match marked {
                Some(id) => self.settle(id, 0).map_err(|refusal| vec![refusal]),
                None => self.satisfy(*cause, options, 0),
            };
            if let Err(because) = settled {
                self.failures.push((*cause, because));
            }
        }
    }

    /// Whether what was taken answers the question.
    pub(super) fn is_answer(&self) -> bool {
        self.failures.is_empty() && !self.cut_short
    }

    /// What was taken only because something recommends it, in order.
    pub(super) fn recommended(&self) -> impl Iterator<Item = Id> {
        self.marks.iter().filter_map(|(id, cause)| match cause {
            Cause::Needs { field: Field::Recommends, .. } => Some(*id),
            _ => None,
        })
    }

    /// The causes of a taken candidate, from its own to the one that no package is behind.
    fn chain(&self, id: Id) -> Vec<Cause<'u>> {
        let mut chain = Vec::new();
        let mut next = Some(id);
        while let Some((_, cause)) = next.and_then(|id| self.marks.iter().find(|(marked, _)| *marked == id)) {
            chain.push(*cause);
            // What needs a package was marked before it, so this ends.
            next = match cause {
                Cause::Needs { by, .. } => Some(*by),
                Cause::Want(_) | Cause::Essential | Cause::Fixed => None,
            };
        }
        chain
    }

    /// Whether it was taken.
    pub(super) fn is_taken(&self, id: Id) -> bool {
        self.name(id).is_some_and(|name| self.taken[name] == Some(id))
    }

    fn name(&self, id: Id) -> Option<usize> {
        self.index.name_of(id).map(|Name(name)| name as usize)
    }

    /// Makes one of `options` taken, unless one is.
    fn satisfy(&mut self, cause: Cause<'u>, options: &[Id], depth: usize) -> Result<(), Vec<Rc<Refusal<'u>>>> {
        if options.iter().any(|id| self.is_taken(*id)) {
            return Ok(());
        }
        let mut because = Vec::new();
        for id in options {
            match self.mark(*id, cause, depth) {
                Ok(()) => return Ok(()),
                Err(refusal) => because.push(refusal),
            }
        }
        Err(because)
    }

    fn mark(&mut self, id: Id, cause: Cause<'u>, depth: usize) -> Result<(), Rc<Refusal<'u>>> {
        if let Some(refusal) = self.refusals.get(&id) {
            return Err(refusal.clone());
        }
        if let Some(refusal) = self.obstacle(id) {
            return Err(Rc::new(refusal));
        }
        let before = self.marks.len();
        self.push(id, cause);
        let settled = self.settle(id, depth);
        if let Err(refusal) = &settled {
            while self.marks.len() > before {
                self.pop();
            }
            self.refusals.insert(id, refusal.clone());
        }
        settled
    }

    /// Sees to the dependencies of a taken candidate. At the bound they are left to the SAT core.
    fn settle(&mut self, id: Id, depth: usize) -> Result<(), Rc<Refusal<'u>>> {
        if depth == DEEPEST {
            self.cut_short = true;
            return Ok(());
        }
        let index = self.index;
        for (field, text) in needs(index.candidate(id), self.recommends) {
            let options = index.satisfying(text);
            let settled = self.satisfy(Cause::Needs { by: id, field, text }, &options, depth + 1);
            match settled {
                Err(because) if field != Field::Recommends => {
                    return Err(Rc::new(Refusal::Unmet { by: id, field, text, because }));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What keeps a candidate from being taken beside those that are.
    fn obstacle(&self, id: Id) -> Option<Refusal<'u>> {
        let candidate = self.index.candidate(id);
        if let Some(taken) = self.taken[self.name(id)?] {
            return (taken != id).then(|| Refusal::OtherVersion { refused: id, taken, chain: self.chain(taken) });
        }
        let package = &*candidate.package;
        let spoken_of =
            std::iter::once(package.name.as_str()).chain(package.provides.iter().map(|provided| provided.name));
        for name in spoken_of {
            for (by, field, relation) in self.refused_by.get(name).into_iter().flatten() {
                if self.index.name_of(*by) != self.index.name_of(id)
                    && self.index.speaks_of(*relation, candidate, false)
                {
                    let (taken, field, relation, chain) = (*by, *field, *relation, self.chain(*by));
                    return Some(Refusal::Conflict { refused: id, taken, declared_by: taken, field, relation, chain });
                }
            }
        }
        for (field, relation) in refuses(candidate) {
            let named = self.index.name(relation.name).and_then(|Name(name)| self.taken[name as usize]);
            let providing = self.provided.get(relation.name).into_iter().flatten().copied();
            for taken in named.into_iter().chain(providing) {
                let other = self.index.name_of(taken) != self.index.name_of(id);
                if other && self.index.speaks_of(relation, self.index.candidate(taken), false) {
                    let chain = self.chain(taken);
                    return Some(Refusal::Conflict { refused: id, taken, declared_by: id, field, relation, chain });
                }
            }
        }
        None
    }

    fn push(&mut self, id: Id, cause: Cause<'u>) {
        let Some(name) = self.name(id) else { return };
        let candidate = self.index.candidate(id);
        self.taken[name] = Some(id);
        self.marks.push((id, cause));
        for provided in candidate.package.provides.iter() {
            self.provided.entry(provided.name).or_default().push(id);
        }
        for (field, relation) in refuses(candidate) {
            self.refused_by.entry(relation.name).or_default().push((id, field, relation));
        }
    }

    fn pop(&mut self) {
        let Some((id, _)) = self.marks.pop() else { return };
        if let Some(name) = self.name(id) {
            self.taken[name] = None;
        }
        let candidate = self.index.candidate(id);
        for provided in candidate.package.provides.iter() {
            self.provided.entry(provided.name).or_default().pop();
        }
        for (_, relation) in refuses(candidate) {
            self.refused_by.entry(relation.name).or_default().pop();
        }
    }
}
