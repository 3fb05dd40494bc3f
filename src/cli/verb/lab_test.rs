//! `rolecast lab test`: scenarios played in a lab of their own, and their reports written.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::Done;
use crate::cli::args::LabTestArguments;
use crate::cli::output;
use crate::cli::settings::Settings;
use crate::deb::date;
use crate::lab::scenario::{self, Cast, Orders, Scenario};
use crate::lab::timeline::{Recording, Verdict};
use crate::lab::{BackEnd, Lab, LabPlan, junit, report};
use crate::report::{Diagnostic, Kind, Report};
use crate::sys::files;

use super::project::Project;

/// Plays scenarios.
///
/// # Errors
/// When the lab cannot be had, or a scenario fails.
pub fn run(arguments: &LabTestArguments, settings: &Settings) -> Result<Done, Report> {
    let scenarios = scenario::select(&arguments.scenarios)?;
    if arguments.list {
        return Ok(list(&scenarios));
    }
    let project = Project::read(&arguments.image)?;
    let cast = Cast::of(&project.spec, &arguments.machines.nodes)?;
    let back_end = super::lab::back_end(arguments.machines.back_end);
    let directory = arguments.report.join("machines");
    // What an earlier run left there, which may have been interrupted.
    Lab::down(&directory, false)?;
    let lab = Lab::make(&LabPlan {
        spec: &project.spec,
        image: project.path.project.join(&project.path.file),
        outputs: arguments.machines.output.clone(),
        back_end,
        nodes: arguments.machines.nodes.clone(),
        directory: directory.clone(),
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    let quiet = settings.json;
    let played = scenario::play(Orders {
        scenarios,
        lab: Arc::new(lab),
        spec: &project.spec,
        cast,
        subject: format!("{} {}, {back_end}", project.spec.name, project.spec.version),
        began: date::format_rfc3339(now).trim_end_matches('Z').to_owned(),
        output: arguments.report.clone(),
        live: Box::new(move |line| {
            if !quiet {
                output::err(&format!("{line}\n"));
            }
        }),
    });
    let ended = Lab::down(&directory, false);
    let recording = played?;
    ended?;
    write(&arguments.report, &recording)?;
    let place = arguments.report.display();
    let text = format!("\n{}report: {place}/report.html, {place}/junit.xml\n", recording.summary());
    if recording.failed() {
        if !quiet {
            output::err(&text);
        }
        return Err(failure(&recording).note(format!("the report is in `{place}`")).into());
    }
    Ok(Done { text, json: json(&recording), warnings: project.warnings })
}

fn list(scenarios: &[&Scenario]) -> Done {
    let mut text = String::new();
    for scenario in scenarios {
        let on: Vec<String> = scenario.on.iter().map(BackEnd::to_string).collect();
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "{:>2}  {} ({})\n    {}", scenario.number, scenario.name, on.join(", "), scenario.proves);
    }
    let json = scenarios.iter().map(
        |scenario| serde_json::json!({ "name": scenario.name, "number": scenario.number, "proves": scenario.proves }),
    );
    Done { text, json: json.collect(), ..Done::default() }
}

fn write(place: &Path, recording: &Recording) -> Result<(), Diagnostic> {
    files::make_directory(place)?;
    for (name, content) in [
        ("report.html", report::page(recording)),
        ("junit.xml", junit::document(recording)),
        ("timeline.txt", recording.text()),
    ] {
        files::write_atomically(&place.join(name), content.as_bytes())?;
    }
    Ok(())
}

/// The failed scenarios, each with its first line.
fn failure(recording: &Recording) -> Diagnostic {
    let failed = recording.scenarios.iter().filter_map(|played| match &played.verdict {
        Verdict::Failed(why) => Some(format!("{}: {}", played.name, why.lines().next().unwrap_or_default())),
        _ => None,
    });
    let failed: Vec<String> = failed.collect();
    let message = match failed.len() {
        1 => "a scenario failed".to_owned(),
        count => format!("{count} scenarios failed"),
    };
    failed.into_iter().fold(Diagnostic::error(Kind::World, message), Diagnostic::note)
}

fn json(recording: &Recording) -> serde_json::Value {
    let scenarios = recording.scenarios.iter().map(|played| {
        let figures = played.figures.iter().map(|figure| {
            serde_json::json!({ "name": figure.name, "value": figure.value, "unit": figure.unit, "aim": figure.aim })
        });
        serde_json::json!({
            "name": played.name,
            "number": played.number,
            "verdict": played.verdict.word(),
            "seconds": (played.to - played.from).as_secs_f64(),
            "figures": figures.collect::<Vec<_>>(),
        })
    });
    serde_json::json!({ "subject": recording.subject, "scenarios": scenarios.collect::<Vec<_>>() })
}
