//! `rolecast lab`: the built images as a cluster on this host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::Done;
use crate::cli::args::{LabBackEnd, LabPlace, LabShellArguments, LabUpArguments, LabVerb};
use crate::cli::output;
use crate::cli::settings::{ImagePath, Settings};
use crate::lab::{BackEnd, Exec, Lab, LabPlan, Step};
use crate::report::{Diagnostic, Kind, Report};

use super::project::Project;

/// Longest wait for all machines to join, on containers; emulated machines get ten times as long.
const JOINED_WITHIN: Duration = Duration::from_secs(240);

/// Where a lab is unless its place is named, from the project's root or else from here.
const DEFAULT: &str = ".rolecast/lab";

/// Runs a verb of the lab.
///
/// # Errors
/// When the lab cannot be had, or its machines do not join.
pub fn run(verb: &LabVerb, settings: &Settings) -> Result<Done, Report> {
    match verb {
        LabVerb::Up(arguments) => up(arguments, settings),
        LabVerb::Status(place) => status(place),
        LabVerb::Test(arguments) => super::lab_test::run(arguments, settings),
        LabVerb::Shell(arguments) => shell(arguments),
        LabVerb::Down(arguments) => down(&directory(&arguments.place, None), arguments.keep),
    }
}

/// The lab's directory: as named, else beside the project.
pub fn directory(place: &LabPlace, project: Option<&Path>) -> PathBuf {
    match (&place.directory, project) {
        (Some(directory), _) => directory.clone(),
        (None, Some(project)) => project.join(DEFAULT),
        (None, None) => {
            // Like a version control tool: this directory, or the nearest one above that has a lab.
            let here = std::env::current_dir().unwrap_or_default();
            let found = here.ancestors().map(|above| above.join(DEFAULT)).find(|lab| lab.exists());
            found.unwrap_or_else(|| PathBuf::from(DEFAULT))
        }
    }
}

/// What machines are made of, as the lab names it.
pub(super) fn back_end(typed: LabBackEnd) -> BackEnd {
    match typed {
        LabBackEnd::Container => BackEnd::Container,
        LabBackEnd::Qemu => BackEnd::Qemu,
    }
}

fn up(arguments: &LabUpArguments, settings: &Settings) -> Result<Done, Report> {
    let project = Project::read(&arguments.image)?;
    let path = ImagePath::resolve(&arguments.image)?;
    let back_end = back_end(arguments.machines.back_end);
    let since = Instant::now();
    let lab = Lab::make(&LabPlan {
        spec: &project.spec,
        image: path.project.join(&path.file),
        outputs: arguments.machines.output.clone(),
        back_end,
        nodes: arguments.machines.nodes.clone(),
        directory: directory(&arguments.place, Some(&path.project)),
    })?;
    lab.start_all().map_err(|diagnostic| diagnostic.hint("`rolecast lab down` removes what was made so far"))?;
    let within = match back_end {
        BackEnd::Container => JOINED_WITHIN,
        BackEnd::Qemu => JOINED_WITHIN * 10,
    };
    let mut view = View::new(&lab, settings, since);
    let joined = lab.watch(&[], within, &mut |node, step| view.tell(node, step));
    drop(view);
    let place = lab.directory().display().to_string();
    joined.map_err(|diagnostic| {
        diagnostic
            .note(format!("the lab in `{place}` runs on"))
            .hint("look at a machine with `rolecast lab shell NODE`, and end it all with `rolecast lab down`")
    })?;
    let seconds = since.elapsed().as_secs_f64();
    let text = format!(
        "all machines joined after {seconds:.1} s; the lab in `{place}` runs until `rolecast lab down`\n{}",
        table(&lab)
    );
    Ok(Done { text, json: json(&lab), warnings: project.warnings })
}

/// Shows how far each machine is: a line each on a terminal, else a line a change.
struct View {
    since: Instant,
    bars: BTreeMap<String, ProgressBar>,
    silent: bool,
}

impl View {
    fn new(lab: &Lab, settings: &Settings, since: Instant) -> Self {
        let mut bars = BTreeMap::new();
        if std::io::stderr().is_terminal() && !settings.json {
            let screen = MultiProgress::new();
            for machine in lab.machines() {
                let style = ProgressStyle::with_template("  {spinner} {prefix:16} {msg} {elapsed}");
                let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
                let bar = screen.add(ProgressBar::new_spinner().with_style(style));
                bar.set_prefix(machine.identity().name.clone());
                bar.enable_steady_tick(Duration::from_millis(120));
                bars.insert(machine.identity().name.clone(), bar);
            }
        }
        Self { since, bars, silent: settings.json }
    }

    fn tell(&mut self, node: &str, step: &Step) {
        match self.bars.get(node) {
            Some(bar) => {
                bar.set_message(step.to_string());
                bar.reset_elapsed();
            }
            None if self.silent => {}
            None => output::err(&format!("{:7.1} s  {node}: {step}\n", self.since.elapsed().as_secs_f64())),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.bars.values().for_each(ProgressBar::finish);
    }
}

fn status(place: &LabPlace) -> Result<Done, Report> {
    let lab = Lab::open(&directory(place, None))?;
    Ok(Done { text: table(&lab), json: json(&lab), ..Done::default() })
}

fn table(lab: &Lab) -> String {
    let mut text = String::new();
    for machine in lab.machines() {
        let identity = machine.identity();
        let step = Step::of(machine);
        let _ = writeln!(text, "  {:16} {:16} {:16} {step}", identity.name, identity.role, identity.address);
    }
    text
}

fn json(lab: &Lab) -> serde_json::Value {
    let machines = lab.machines().map(|machine| {
        serde_json::json!({
            "identity": machine.identity(),
            "step": Step::of(machine).to_string(),
            "processor_seconds": machine.processor_seconds(),
            "restarts": machine.restarts(),
            "console": machine.console(),
        })
    });
    serde_json::json!({
        "directory": lab.directory(),
        "back_end": lab.back_end(),
        "machines": machines.collect::<Vec<_>>(),
    })
}

fn shell(arguments: &LabShellArguments) -> Result<Done, Report> {
    let lab = Lab::open(&directory(&arguments.place, None))?;
    let machine = lab.machine(&arguments.node)?;
    let Some((program, rest)) = arguments.command.split_first() else {
        machine.interact()?;
        return Ok(Done::default());
    };
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let outcome = machine.exec(&Exec::new(program, &rest).within(Duration::from_secs(600)))?;
    output::err(&outcome.errors);
    let json = serde_json::json!({ "code": outcome.code, "output": outcome.output, "errors": outcome.errors });
    if outcome.succeeded() {
        return Ok(Done { text: outcome.output, json, ..Done::default() });
    }
    // What it said is a result, whatever its exit code.
    let _ = output::out(&outcome.output);
    let how = outcome.code.map_or("it was cut off".to_owned(), |code| format!("exit code {code}"));
    let message = format!("`{program}` on `{}` failed: {how}", arguments.node);
    Err(Diagnostic::error(Kind::World, message).into())
}

fn down(directory: &Path, keep: bool) -> Result<Done, Report> {
    let place = directory.display();
    let text = match Lab::down(directory, keep)? {
        false => format!("there is no lab in `{place}`\n"),
        true if keep => format!("the lab is down; its files are kept in `{place}`\n"),
        true => "the lab is down\n".to_owned(),
    };
    Ok(Done { text, ..Done::default() })
}
