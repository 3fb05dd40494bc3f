//! `rolecast verify-signature`: who signed what was built, and whether it is that.

use std::fmt::Write as _;
use std::path::Path;

use crate::archive::Keyring;
use crate::cli::args::VerifySignatureArguments;
use crate::cli::settings::Settings;
use crate::cli::{Done, progress};
use crate::image::sums::SUMS;
use crate::report::{Diagnostic, Kind, Report, Unit};
use crate::sign::{self, Checked, Problem};
use crate::sys::files;

use super::build::shown;
use super::cluster::now;

/// Most files of one kind that a message names.
const NAMED: usize = 10;

/// Verifies.
///
/// # Errors
/// When keyring or signature are missing or not good. A file that is not what was signed is a result, with exit code 4.
pub fn run(arguments: &VerifySignatureArguments, settings: &Settings) -> Result<Done, Report> {
    let keyring = keyring(&arguments.keyring)?;
    let now = i64::try_from(now()).unwrap_or(i64::MAX);
    let progress = progress::for_run(settings.json);
    let task = progress.begin("compare with what was signed", 0, Unit::Bytes);
    let advance = |bytes| task.advance(bytes);
    let mut found = Vec::new();
    if arguments.path.is_dir() {
        for directory in sign::directories(&arguments.path)? {
            found.push(sign::check_directory(&directory, Some(&keyring), now, &advance)?);
        }
    } else {
        found.push(sign::check_file(&arguments.path, Some(&keyring), now, &advance)?);
    }
    drop(task);
    let (mut text, mut warnings) = (String::new(), Report::new());
    for checked in &found {
        let _ = writeln!(text, "{}", shown(&checked.directory));
        let _ = writeln!(text, "  signed by {}", checked.signed_by.join(", "));
        for name in &checked.good {
            let _ = writeln!(text, "  = {name}");
        }
        for problem in &checked.problems {
            let (what, name) = told(problem);
            let _ = writeln!(text, "  ! {} {what}", name.escape_debug());
        }
        warnings.extend(complaint(checked));
    }
    let json = serde_json::json!({ "good": !warnings.has_errors(), "checked": found });
    Ok(Done { text, json, warnings })
}

/// Certificates from a file.
///
/// # Errors
/// When there are none.
pub(super) fn keyring(path: &Path) -> Result<Keyring, Report> {
    let bytes = files::read(path).map_err(Diagnostic::from)?;
    let refuse =
        |error| Diagnostic::error(Kind::Input, format!("the keyring `{}` is of no use: {error}", path.display()));
    Ok(Keyring::parse(&bytes)
        .map_err(refuse)
        .map_err(|refused| refused.hint("write it with `gpg --export FINGERPRINT`"))?)
}

/// What is wrong with a directory, if anything is.
pub(super) fn complaint(checked: &Checked) -> Report {
    let mut report = Report::new();
    if checked.problems.is_empty() {
        return report;
    }
    let message = format!("`{}` is not what its `{SUMS}` names", shown(&checked.directory));
    let mut diagnostic = Diagnostic::error(Kind::Trust, message);
    for problem in checked.problems.iter().take(NAMED) {
        let (what, name) = told(problem);
        diagnostic = diagnostic.note(format!("`{}` {what}", name.escape_debug()));
    }
    if checked.problems.len() > NAMED {
        diagnostic = diagnostic.note(format!("so are {} others", checked.problems.len() - NAMED));
    }
    report.push(diagnostic);
    report
}

fn told(problem: &Problem) -> (&'static str, &str) {
    match problem {
        Problem::Altered(name) => ("has other bytes", name),
        Problem::Missing(name) => ("is not there", name),
        Problem::Unlisted(name) => ("is not in the list: nobody vouches for it", name),
    }
}
