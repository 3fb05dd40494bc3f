//! The command line: clap structures, settings, one file a verb, progress.
//!
//! Owns what is typed and what is printed: results on standard output, everything else on standard error. Decides
//! nothing about images.

pub mod args;
mod output;
mod progress;
mod settings;
mod verb;

use std::process::ExitCode;

use clap::Parser as _;

use crate::report::{Diagnostic, Kind, Report, render, render_json};

use args::{Arguments, SecretsVerb, StoreVerb, Verb};
use settings::Settings;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // Started once more by itself, inside the sandbox.
    if let Some(code) = crate::layer::helper_main(std::env::args_os()) {
        return code;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are asked for, not mistakes; clap prints each where it belongs.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Kind::Usage.exit_code() } else { 0 });
        }
    };
    let settings = Settings::resolve(arguments.global);
    let outcome = match arguments.verb {
        Verb::Check(arguments) => verb::check::run(&arguments, &settings),
        Verb::Lock(arguments) => verb::lock::run(&arguments, &settings),
        Verb::Plan(arguments) => verb::plan::run(&arguments, &settings),
        Verb::Build(arguments) => verb::build::run(&arguments, &settings),
        Verb::Inspect(arguments) => verb::inspect::run(&arguments, &settings),
        Verb::Diff(arguments) => verb::diff::run(&arguments, &settings),
        Verb::Verify(arguments) => verb::verify::run(&arguments, &settings),
        Verb::Audit(arguments) => verb::audit::run(&arguments, &settings),
        Verb::Sign(arguments) => verb::sign::run(&arguments, &settings),
        Verb::VerifySignature(arguments) => verb::verify_signature::run(&arguments, &settings),
        Verb::Vendor(arguments) => verb::vendor::run(&arguments, &settings),
        Verb::Enter { directory } => verb::enter::run(&directory),
        Verb::Lab(verb) => verb::lab::run(&verb, &settings),
        Verb::Secrets(SecretsVerb::Init { cluster, recipients }) => verb::secrets::init(&cluster, recipients),
        Verb::Secrets(SecretsVerb::Show { cluster, reveal }) => verb::secrets::show(&cluster, reveal.as_deref()),
        Verb::Secrets(SecretsVerb::Rotate { cluster, names, ca }) => verb::secrets::rotate(&cluster, &names, ca),
        Verb::Seed(arguments) => verb::seed::run(&arguments),
        Verb::Publish(arguments) => verb::publish::run(&arguments),
        Verb::Apply(arguments) => verb::apply::run(&arguments, &settings),
        Verb::Store(StoreVerb::Stats) => verb::store::stats(&settings),
        Verb::Store(StoreVerb::Gc { older_than }) => verb::store::collect(older_than, &settings),
        Verb::Store(StoreVerb::Push(arguments)) => verb::store_push::run(&arguments, &settings),
        Verb::Store(StoreVerb::Pull(arguments)) => verb::store_pull::run(&arguments, &settings),
        Verb::Generate(verb) => verb::generate::run(&verb),
    };
    match outcome {
        Ok(done) => finish(&done, &settings),
        Err(report) => {
            complain(&report, &settings);
            ExitCode::from(report.exit_code().max(Kind::Input.exit_code()))
        }
    }
}

/// What a verb has to say when it is done.
#[derive(Debug, Default)]
pub struct Done {
    /// For people: lines for standard output.
    pub text: String,
    /// For machines.
    pub json: serde_json::Value,
    /// Warnings. An error among them is told too, and decides the exit code: the verb has a result all the same.
    pub warnings: Report,
}

fn finish(done: &Done, settings: &Settings) -> ExitCode {
    let warnings = !done.warnings.diagnostics.is_empty();
    let written = if settings.json {
        let mut json = done.json.clone();
        if let (serde_json::Value::Object(fields), true) = (&mut json, warnings) {
            fields.insert("warnings".to_owned(), render_json(&done.warnings));
        }
        output::out(&format!("{json:#}\n"))
    } else {
        if warnings {
            output::err(&render(&done.warnings, settings.style));
        }
        output::out(&done.text)
    };
    match written {
        Ok(()) => ExitCode::from(done.warnings.exit_code()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let message = format!("standard output cannot be written: {error}");
            complain(&Diagnostic::error(Kind::World, message).into(), settings);
            ExitCode::from(Kind::World.exit_code())
        }
    }
}

/// Problems go to standard error, also as JSON: standard output holds results only.
fn complain(report: &Report, settings: &Settings) {
    if settings.json {
        output::err(&format!("{:#}\n", render_json(report)));
    } else {
        output::err(&render(report, settings.style));
    }
}
