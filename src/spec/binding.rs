//! Every template is rendered once at check: early ones with the facts of each role, late ones with facts like those
//! of each node. So no machine meets a template that nobody has rendered.

use std::collections::BTreeSet;

use super::facts::{self, Facts};
use super::model::{Body, Spec, Template};
use super::{names, template};
use crate::report::Report;

/// Reports what is wrong in the templates of all roles.
pub fn check(spec: &Spec, report: &mut Report) {
    // One mistake of a template is enough, in whatever role it shows first.
    let mut failed: BTreeSet<&str> = BTreeSet::new();
    for role in &spec.roles {
        let early = [facts::for_role(spec, role)];
        let late = facts::sample(spec, role);
        for layer in role.layers.iter().filter_map(|index| spec.layers.get(*index)) {
            for file in &layer.files {
                let (template, facts): (_, &[Facts]) = match &file.body {
                    Body::Early { template } => (template, &early),
                    Body::Late { template } => (template, &late),
                    Body::Plain { .. } | Body::Link { .. } => continue,
                };
                if failed.contains(template.source.path.as_str()) {
                    continue;
                }
                if !check_template(template, facts, &role.name, report) {
                    failed.insert(&template.source.path);
                }
            }
        }
    }
}

fn check_template(template: &Template, facts: &[Facts], role: &str, report: &mut Report) -> bool {
    let mistakes = facts.first().map(|facts| names::check(&template.source, facts)).unwrap_or_default();
    if !mistakes.is_empty() {
        mistakes.into_iter().for_each(|mistake| report.push(mistake));
        return false;
    }
    for facts in facts {
        if let Err(mistake) = template::render(template, facts) {
            report.push(mistake.note(format!("rendered for role `{role}`")));
            return false;
        }
    }
    true
}
