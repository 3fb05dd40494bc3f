//! Why there is no answer, in the words of the person who wrote the wants.
//!
//! Looks for the fewest wants that cannot be had together, lets the draft run into the wall with them alone, and
//! tells its way: want, dependency, conflict, with the lines of every want involved. Decides nothing: that there is no
//! answer was decided by the SAT core.

use std::rc::Rc;

use super::draft::{Cause, Refusal};
use super::index::{Id, Index};
use super::{Candidate, Question, Request, Want, Why, encode};
use crate::deb::relation::{RelationRef, alternatives_of};
use crate::report::{Diagnostic, Kind, Report};

/// Contradictions told at once; each one found costs a solve per want.
const MOST_DIAGNOSTICS: usize = 8;

/// How deep a refusal is told, and how many possibilities at each step.
const DEEPEST_TOLD: usize = 8;
const MOST_TOLD: usize = 4;

/// A package of the parent layer that the universe lacks; the lock room never asks so.
pub(super) fn unknown_fixed(candidate: &Candidate) -> Diagnostic {
    let package = &candidate.package;
    let message = format!("`{}` {} of the layer below is not in the universe", package.name, package.version);
    Diagnostic::error(Kind::Internal, message)
}

/// A want that nothing satisfies by itself.
pub(super) fn unavailable(index: &Index<'_>, want: &Want) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(Kind::Input, format!("no archive offers `{}`", want.relation));
    let known = want.relation.0.iter().any(|relation| index.name(&relation.name).is_some());
    let label = if known { "no such version" } else { "unknown package" };
    diagnostic = diagnostic.at(&want.span, label);
    for relation in &want.relation.0 {
        if let Some(offered) = offered(index, relation.as_ref()) {
            diagnostic = diagnostic.note(offered);
            continue;
        }
        let near = nearest(index, &relation.name);
        if !near.is_empty() {
            let names: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
            diagnostic = diagnostic.hint(format!("did you mean {}?", names.join(" or ")));
        }
    }
    if diagnostic.hints.is_empty() && !known {
        diagnostic = diagnostic.hint("check the spelling, or add the archive that has it under `[archive.NAME]`");
    }
    diagnostic
}

/// What there is of a name where the version or the qualifier does not fit.
fn offered(index: &Index<'_>, relation: RelationRef<'_>) -> Option<String> {
    if let Some(name) = index.name(relation.name) {
        let text = |id: &Id| {
            let candidate = index.candidate(*id);
            format!("{} ({})", candidate.package.version, candidate.archive)
        };
        let versions: Vec<String> = index.versions(name).iter().take(MOST_TOLD).map(text).collect();
        return Some(format!("of `{}` there is {}", relation.name, versions.join(", ")));
    }
    let bare = RelationRef { version: None, ..relation };
    let provider = *index.hit_by(bare).first()?;
    let package = &index.candidate(provider).package;
    Some(format!("`{}` is provided by `{}`, but not in a version that fits", relation.name, package.name))
}

/// Names that a slip of the hand away from `wanted`: the nearest, at most three.
fn nearest<'u>(index: &Index<'u>, wanted: &str) -> Vec<&'u str> {
    let allowed = (wanted.chars().count() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = index
        .all_names()
        .filter(|name| name.len().abs_diff(wanted.len()) <= allowed)
        .map(|name| (edit_distance(name.as_bytes(), wanted.as_bytes()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    near.sort_unstable();
    near.dedup();
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.into_iter().filter(|(distance, _)| *distance == best).map(|(_, name)| name).take(3).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that lie between two names.
fn edit_distance(left: &[u8], right: &[u8]) -> usize {
    let mut before = vec![0; right.len() + 1];
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for at in 0..left.len() {
        let mut next = vec![at + 1; right.len() + 1];
        for column in 0..right.len() {
            let replaced = row[column] + usize::from(left[at] != right[column]);
            next[column + 1] = replaced.min(row[column + 1] + 1).min(next[column] + 1);
            let swapped = at > 0 && column > 0 && left[at] == right[column - 1] && left[at - 1] == right[column];
            if swapped {
                next[column + 1] = next[column + 1].min(before[column - 1] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[right.len()]
}

/// Tells why the wishes cannot all be had. Called when the core found no answer.
pub(super) fn unsolvable<'u>(index: &Index<'u>, request: &Request<'_>, question: &Question<'_, 'u>) -> Report {
    let mut report = Report::new();
    let mut left = question.wishes.clone();
    while report.diagnostics.len() < MOST_DIAGNOSTICS && !is_solvable(question, request, &left) {
        let fewest = fewest(question, request, &left);
        let (diagnostic, culprit) = tell(index, request, question, &fewest);
        report.push(diagnostic);
        let before = left.len();
        left.retain(|(cause, _)| Some(*cause) != culprit);
        if left.len() == before {
            break;
        }
    }
    report
}

type Wishes<'u> = Vec<(Cause<'u>, Vec<Id>)>;

fn draft<'s, 'u>(question: &Question<'s, 'u>, request: &Request<'_>, wishes: &Wishes<'u>) -> super::Draft<'s, 'u> {
    let mut draft = super::Draft::new(question.index, &question.fixed, request.recommends);
    draft.take(wishes);
    draft
}

fn is_solvable<'u>(question: &Question<'_, 'u>, request: &Request<'_>, wishes: &Wishes<'u>) -> bool {
    let draft = draft(question, request, wishes);
    // A draft without a failure is an answer; only a failed one leaves the question open.
    let options: Vec<Vec<Id>> = wishes.iter().map(|(_, options)| options.clone()).collect();
    draft.is_answer() || encode::decide(question.index, &draft, &question.fixed, &options).is_some()
}

/// Wishes that cannot be had together although they can without any one of them.
fn fewest<'u>(question: &Question<'_, 'u>, request: &Request<'_>, wishes: &Wishes<'u>) -> Wishes<'u> {
    let mut left = wishes.clone();
    let mut at = left.len();
    while at > 0 {
        at -= 1;
        let dropped = left.remove(at);
        if is_solvable(question, request, &left) {
            left.insert(at, dropped);
        }
    }
    left
}

/// Tells of a smallest contradiction; also which wish to leave out when looking for the next one.
fn tell<'u>(
    index: &Index<'u>,
    request: &Request<'_>,
    question: &Question<'_, 'u>,
    fewest: &Wishes<'u>,
) -> (Diagnostic, Option<Cause<'u>>) {
    let draft = draft(question, request, fewest);
    let failure = draft.failures.first();
    let culprit = failure.map(|(cause, _)| *cause).or_else(|| fewest.last().map(|(cause, _)| *cause));
    let names: Vec<String> = fewest.iter().map(|(cause, options)| name_wish(index, request, *cause, options)).collect();
    let message = match names.as_slice() {
        [] => "the layer below contradicts itself".to_owned(),
        [one] => format!("{one} cannot be installed"),
        [first @ .., last] => format!("{} and {last} cannot be installed together", first.join(", ")),
    };
    let mut story = Story { index, request, diagnostic: Diagnostic::error(Kind::Input, message), with_parent: false };
    let wants = fewest.iter().filter_map(|(cause, _)| match cause {
        Cause::Want(number) => Some((*cause, &request.wants[*number])),
        Cause::Essential | Cause::Fixed | Cause::Needs { .. } => None,
    });
    let (blamed, others): (Vec<_>, Vec<_>) = wants.partition(|(cause, _)| Some(*cause) == culprit);
    for (_, want) in blamed.into_iter().chain(others) {
        story.label(want, "wanted here");
    }
    for refusal in failure.iter().flat_map(|(_, because)| one_a_name(index, because)) {
        story.tell(refusal, 0);
    }
    let mut diagnostic = story.diagnostic;
    diagnostic = match (story.with_parent, names.len()) {
        (true, _) => diagnostic.hint("a layer keeps what the layer below has: change one of the two wants"),
        (false, 0 | 1) => diagnostic,
        (false, _) => diagnostic.hint("leave one of them out, or put them into different roles"),
    };
    (diagnostic, culprit)
}

fn name_wish(index: &Index<'_>, request: &Request<'_>, cause: Cause<'_>, options: &[Id]) -> String {
    match (cause, options) {
        (Cause::Want(number), _) => format!("`{}`", request.wants[number].relation),
        (_, [id, ..]) => format!("the essential `{}`", index.candidate(*id).package.name),
        (_, []) => "a package".to_owned(),
    }
}

/// The refusals of the best version of each name: those of its other versions rarely say more.
fn one_a_name<'r, 'u>(index: &Index<'u>, because: &'r [Rc<Refusal<'u>>]) -> impl Iterator<Item = &'r Refusal<'u>> {
    let mut told = Vec::new();
    let fresh = because.iter().filter(move |refusal| {
        let name = index.name_of(refused(refusal));
        let fresh = !told.contains(&name);
        told.push(name);
        fresh
    });
    fresh.map(|refusal| &**refusal).take(MOST_TOLD)
}

fn refused(refusal: &Refusal<'_>) -> Id {
    match refusal {
        Refusal::OtherVersion { refused, .. } | Refusal::Conflict { refused, .. } => *refused,
        Refusal::Unmet { by, .. } => *by,
    }
}

/// A diagnostic while it is written.
struct Story<'a, 'u> {
    index: &'a Index<'u>,
    request: &'a Request<'a>,
    diagnostic: Diagnostic,
    with_parent: bool,
}

impl<'u> Story<'_, 'u> {
    fn label(&mut self, want: &Want, text: &str) {
        if !self.diagnostic.labels.iter().any(|label| label.span == want.span) {
            self.diagnostic.labels.push(crate::report::Label { span: want.span.clone(), text: text.to_owned() });
        }
    }

    fn line(&mut self, depth: usize, text: &str) {
        let line = format!("{:indent$}{text}", "", indent = depth * 2);
        if !self.diagnostic.notes.contains(&line) {
            self.diagnostic.notes.push(line);
        }
    }

    fn named(&self, id: Id) -> String {
        let package = &self.index.candidate(id).package;
        format!("`{}` {}", package.name, package.version)
    }

    fn tell(&mut self, refusal: &Refusal<'u>, depth: usize) {
        match refusal {
            Refusal::OtherVersion { refused, taken, chain } => {
                let text = format!("{} cannot stand beside {}", self.named(*refused), self.named(*taken));
                self.line(depth, &text);
                self.tell_chain(*taken, chain, depth);
            }
            Refusal::Conflict { refused, taken, declared_by, field, relation, chain } => {
                let other = if declared_by == refused { taken } else { refused };
                let (one, other, field) = (self.named(*declared_by), self.named(*other), field.as_str());
                self.line(depth, &format!("{one} excludes {other} (`{field}: {relation}`)"));
                self.tell_chain(*taken, chain, depth);
            }
            Refusal::Unmet { by, field, text, because } => {
                let field = field.as_str();
                let missing = because.is_empty();
                let end = if missing { ", which no archive offers" } else { "" };
                let text_line = format!("{} needs `{text}` (`{field}`){end}", self.named(*by));
                self.line(depth, &text_line);
                if missing {
                    let offers: Vec<_> = alternatives_of(text).filter_map(|one| offered(self.index, one)).collect();
                    offers.iter().for_each(|offer| self.line(depth + 1, offer));
                } else if depth < DEEPEST_TOLD {
                    one_a_name(self.index, because).for_each(|refusal| self.tell(refusal, depth + 1));
                }
            }
        }
    }

    /// Why a package was taken, down to the line that wanted it.
    fn tell_chain(&mut self, taken: Id, chain: &[Cause<'u>], depth: usize) {
        let mut id = taken;
        for cause in chain {
            match cause {
                Cause::Needs { by, field, text } => {
                    let line = format!(
                        "{} is there because {} needs `{text}` (`{}`)",
                        self.named(id),
                        self.named(*by),
                        field.as_str()
                    );
                    self.line(depth + 1, &line);
                    id = *by;
                }
                Cause::Want(number) => {
                    let want = self.request.wants[*number].clone();
                    self.label(&want, "wanted here");
                }
                Cause::Essential => {
                    let line = format!("{} is essential", self.named(id));
                    self.line(depth + 1, &line);
                }
                Cause::Fixed => self.tell_parent(id, depth),
            }
        }
    }

    /// The same inside the layers below, which remember names.
    fn tell_parent(&mut self, id: Id, depth: usize) {
        self.with_parent = true;
        let mut name = self.index.candidate(id).package.name.clone();
        // Each step leads to a package that asked earlier, so there are no more steps than packages.
        for _ in 0..self.request.fixed.len() {
            let Some(chosen) = self.request.fixed.iter().find(|chosen| chosen.candidate.package.name == name) else {
                return;
            };
            match &chosen.why {
                Why::Wanted(want) => return self.label(want, "wanted here, in a layer below"),
                Why::Essential => return self.line(depth + 1, &format!("`{name}` of a layer below is essential")),
                Why::Needed { by, field, relation } => {
                    let field = field.as_str();
                    self.line(
                        depth + 1,
                        &format!("`{name}` of a layer below is there because `{by}` needs `{relation}` (`{field}`)"),
                    );
                    name.clone_from(by);
                }
            }
        }
    }
}
