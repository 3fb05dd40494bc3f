//! From wants and a universe to a selection, or an explanation of why there is none.
//!
//! Owns Debian's dependency semantics (policy chapter 7, deb-src-control(5), Multi-Arch specification) and their
//! encoding for a SAT core. Knows no network, no file and no version order of its own.
//!
//! Three steps. `draft` answers as apt would: it knows what a person expects. `encode` puts the whole question to
//! resolvo with the draft as its preference, so an answer is found wherever there is one, and it is apt's where apt's
//! holds. Where there is none, `explain` looks for the fewest wants that cannot be had together, and tells the
//! draft's way into the wall.

mod draft;
mod encode;
mod explain;
mod index;
#[cfg(test)]
mod tests;
pub mod universe;

pub use index::Index;
pub use universe::{Candidate, Universe};

use std::collections::BTreeSet;

use crate::deb::relation::Alternatives;
use crate::report::{Report, Span};
use draft::{Cause, Draft};
use index::{Id, needs};

/// A wanted package and the place where a person wrote it.
#[derive(Clone, Debug)]
pub struct Want {
    /// The relation, alternatives included.
    pub relation: Alternatives,
    /// Where it is written.
    pub span: Span,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What is wanted, in the order in which it is written.
    pub wants: &'a [Want],
    /// The parent layer's packages, its own parents' included: installed already, kept at exactly their version.
    pub fixed: &'a [Chosen],
    /// Whether `Recommends` are followed.
    pub recommends: bool,
    /// Whether all essential packages are wanted too, as in the lowest layer. Nothing is wanted for its `Priority`.
    pub essential: bool,
}

/// An answer: the packages chosen beside the fixed ones.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By name.
    pub chosen: Vec<Chosen>,
}

/// A chosen package.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Which.
    pub candidate: Candidate,
    /// What it was chosen for.
    pub why: Why,
}

/// What a package was chosen for: the first thing that asked for it.
#[derive(Clone, Debug)]
pub enum Why {
    /// A want.
    Wanted(Want),
    /// It is essential.
    Essential,
    /// Another package.
    Needed {
        /// That package's name.
        by: String,
        /// The field that asks.
        field: Field,
        /// The group of alternatives in it.
        relation: String,
    },
}

/// A field that relates packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `Pre-Depends`.
    PreDepends,
    /// `Depends`.
    Depends,
    /// `Recommends`.
    Recommends,
    /// `Conflicts`.
    Conflicts,
    /// `Breaks`.
    Breaks,
}

impl Field {
    /// The field's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreDepends => "Pre-Depends",
            Self::Depends => "Depends",
            Self::Recommends => "Recommends",
            Self::Conflicts => "Conflicts",
            Self::Breaks => "Breaks",
        }
    }
}

/// Chooses packages for one question on the native `architecture`. For several questions to one universe build the
/// [`Index`] once and call [`solve_with`].
///
/// # Errors
/// A report that names the wants that cannot be had, and why.
pub fn solve(universe: &Universe, architecture: &str, request: &Request<'_>) -> Result<Selection, Report> {
    solve_with(&Index::new(universe, architecture, &BTreeSet::new()), request)
}

/// Chooses packages for one question.
///
/// # Errors
/// A report that names the wants that cannot be had, and why.
pub fn solve_with(index: &Index<'_>, request: &Request<'_>) -> Result<Selection, Report> {
    let question = Question::of(index, request)?;
    let draft = question.draft(request);
    match encode::decide(index, &draft, &question.fixed, &question.options()) {
        Some(ids) => Ok(question.selection(index, request, &draft, &ids)),
        None => Err(explain::unsolvable(index, request, &question)),
    }
}

/// A request with its names looked up.
struct Question<'s, 'u> {
    index: &'s Index<'u>,
    fixed: Vec<Id>,
    /// Wants in order, then essential packages: what satisfies each.
    wishes: Vec<(Cause<'u>, Vec<Id>)>,
}

impl<'s, 'u> Question<'s, 'u> {
    fn of(index: &'s Index<'u>, request: &Request<'_>) -> Result<Self, Report> {
        let mut report = Report::new();
        let mut fixed = Vec::with_capacity(request.fixed.len());
        for chosen in request.fixed {
            match index.find(&chosen.candidate) {
                Some(id) => fixed.push(id),
                None => report.push(explain::unknown_fixed(&chosen.candidate)),
            }
        }
        let mut wishes = Vec::with_capacity(request.wants.len());
        for (number, want) in request.wants.iter().enumerate() {
            let options = index.satisfying_any(want.relation.0.iter().map(|relation| relation.as_ref()));
            if options.is_empty() {
                report.push(explain::unavailable(index, want));
            }
            wishes.push((Cause::Want(number), options));
        }
        if request.essential {
            wishes.extend(index.essential().map(|id| (Cause::Essential, vec![id])));
        }
        if report.has_errors() { Err(report) } else { Ok(Self { index, fixed, wishes }) }
    }

    fn draft(&self, request: &Request<'_>) -> Draft<'s, 'u> {
        let mut draft = Draft::new(self.index, &self.fixed, request.recommends);
        draft.take(&self.wishes);
        draft
    }

    fn options(&self) -> Vec<Vec<Id>> {
        self.wishes.iter().map(|(_, options)| options.clone()).collect()
    }

    /// Walks from the wishes through what was chosen, so that each package knows what first asked for it, and a
    /// package that nothing asks for is left out.
    fn selection(&self, index: &Index<'u>, request: &Request<'_>, draft: &Draft<'_, 'u>, ids: &[Id]) -> Selection {
        let chosen: BTreeSet<Id> = ids.iter().copied().collect();
        let fixed: BTreeSet<Id> = self.fixed.iter().copied().collect();
        let mut reached: Vec<(Id, Cause<'u>)> = Vec::new();
        let mut seen = fixed.clone();
        // Of several that satisfy, what the draft took first, then the order of preference; nothing where the parent
        // layer or something reached has it already.
        let mut reach = |cause: Cause<'u>, options: &[Id], reached: &mut Vec<(Id, Cause<'u>)>| {
            if options.iter().any(|id| seen.contains(id)) {
                return;
            }
            let taken = options.iter().find(|id| chosen.contains(id) && draft.is_taken(**id));
            if let Some(id) = taken.or_else(|| options.iter().find(|id| chosen.contains(id))) {
                seen.insert(*id);
                reached.push((*id, cause));
            }
        };
        for (cause, options) in &self.wishes {
            reach(*cause, options, &mut reached);
        }
        let mut next = 0;
        while let Some((by, _)) = reached.get(next).copied() {
            for (field, text) in needs(index.candidate(by), request.recommends) {
                reach(Cause::Needs { by, field, text }, &index.satisfying(text), &mut reached);
            }
            next += 1;
        }
        let mut chosen: Vec<Chosen> = reached
            .into_iter()
            .map(|(id, cause)| Chosen { candidate: index.candidate(id).clone(), why: why(index, request, cause) })
            .collect();
        chosen.sort_by(|left, right| left.candidate.package.name.cmp(&right.candidate.package.name));
        Selection { chosen }
    }
}

fn why(index: &Index<'_>, request: &Request<'_>, cause: Cause<'_>) -> Why {
    match cause {
        Cause::Want(number) => Why::Wanted(request.wants[number].clone()),
        Cause::Essential | Cause::Fixed => Why::Essential,
        Cause::Needs { by, field, text } => {
            Why::Needed { by: index.candidate(by).package.name.clone(), field, relation: text.to_owned() }
        }
    }
}
