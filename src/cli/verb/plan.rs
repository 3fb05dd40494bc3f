//! `rolecast plan`: what a build would do and why.

use std::fmt::Write as _;

use crate::cli::Done;
use crate::cli::args::PlanArguments;
use crate::cli::settings::{self, Settings};
use crate::layer::Agent;
use crate::lock::fresh;
use crate::plan;
use crate::report::{Diagnostic, Kind, Report};
use crate::store::{Miss, Store};

use super::project::Project;

/// Shows every step, whether its result is in the store, and what changed where it is not.
///
/// # Errors
/// When the image file is wrong, or there is no lock that answers it.
pub fn run(arguments: &PlanArguments, settings: &Settings) -> Result<Done, Report> {
    let project = Project::read(&arguments.image)?;
    let store = Store::open(&settings.store).map_err(Diagnostic::from)?;
    let Some(lock) = project.lock()? else {
        return Err(Diagnostic::error(Kind::Input, format!("`{}` has no lock yet", project.path.file))
            .hint(format!("write it with `rolecast lock {}`", arguments.image.display()))
            .into());
    };
    fresh::check(&lock, &project.path.lock_name(), &project.spec)?;
    let agent = Agent::at(settings::agent(arguments.chosen.agent.as_deref())?).map_err(Diagnostic::from)?;
    let formats = settings::formats(&arguments.chosen);
    let plan = plan::draw(&project.spec, &lock, agent.digest(), &arguments.chosen.roles, &formats)?;
    let mut text = String::new();
    let mut steps = Vec::new();
    let layer_keys = plan.layers.iter().map(|step| (format!("configure {}", step.name), &step.key));
    let role_keys = plan.roles.iter().map(|role| (format!("lay {}", role.name), &role.key));
    for (name, key) in layer_keys.chain(role_keys) {
        let there = store.knows(key).map_err(Diagnostic::from)?;
        let miss = (!there).then(|| store.explain(key));
        let _ = writeln!(text, "{} {name}{}", if there { "=" } else { "+" }, reason(miss.as_ref()));
        steps.push(serde_json::json!({ "step": name, "key": key.digest(), "stored": there, "miss": miss }));
    }
    for role in &plan.roles {
        let formats: Vec<String> = role.formats.iter().map(plan::format_name).collect();
        let _ = writeln!(text, "  press {}: {}", role.name, formats.join(", "));
    }
    Ok(Done { text, json: serde_json::json!({ "steps": steps }), warnings: project.warnings })
}

/// Why a step has to be run: the inputs that changed, a few by name.
fn reason(miss: Option<&Miss>) -> String {
    match miss {
        None => String::new(),
        Some(Miss::NeverRun) => ": never run".to_owned(),
        Some(Miss::Incomplete) => ": its result is no longer whole".to_owned(),
        Some(Miss::Changed(inputs)) => {
            let shown: Vec<&str> = inputs.iter().take(5).map(|(name, _, _)| name.as_str()).collect();
            let more = if inputs.len() > 5 { format!(" and {} more", inputs.len() - 5) } else { String::new() };
            format!(": changed: {}{more}", shown.join(", "))
        }
    }
}
