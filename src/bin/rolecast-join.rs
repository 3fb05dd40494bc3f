//! The on-machine half: says what this machine is. It cannot join a cluster yet.

use std::io::Write as _;
use std::process::ExitCode;

use rolecast::join::{Facts, Status};
use rolecast::report::{Diagnostic, Report, Style, render};

const USAGE: &str = "usage: rolecast-join status [--json]\n";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let json = match words.as_slice() {
        ["status"] => false,
        ["status", "--json"] => true,
        ["--help" | "-h"] => return say(USAGE),
        _ => {
            let _ = std::io::stderr().write_all(USAGE.as_bytes());
            return ExitCode::from(2);
        }
    };
    match status(json) {
        Ok(text) => say(&text),
        Err(diagnostic) => {
            let report = Report::from(diagnostic);
            let _ = std::io::stderr().write_all(render(&report, Style::Plain).as_bytes());
            ExitCode::from(report.exit_code())
        }
    }
}

fn status(json: bool) -> Result<String, Diagnostic> {
    let status = Status::of(&Facts::observe()?)?;
    Ok(if json { serde_json::json!(status).to_string() + "\n" } else { status.to_text() })
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
