//! `rolecast audit`: what advisories say of a lock or a bill of materials.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::archive;
use crate::audit::{Advisories, Finding, State, Subject, of_bill, of_lock};
use crate::cli::Done;
use crate::cli::args::AuditArguments;
use crate::cli::settings::Settings;
use crate::lock;
use crate::report::{Diagnostic, Kind, Report, Source};
use crate::store::Store;
use crate::sys::files;

/// Most guessed packages that a message names.
const NAMED: usize = 10;

/// Audits.
///
/// # Errors
/// When lock, bill or data do not read. Holes are a result, with exit code 6.
pub fn run(arguments: &AuditArguments, settings: &Settings) -> Result<Done, Report> {
    let advisories = Advisories::at(&arguments.against)?;
    let subject = subject(&arguments.subject, settings)?;
    if matches!(advisories, Advisories::Tracker(_)) && subject.distribution != "debian" {
        let message = format!("`{}` is about Debian, not about {}", arguments.against.display(), subject.distribution);
        return Err(Diagnostic::error(Kind::Input, message).hint("name a file or directory of OSV records").into());
    }
    let findings = advisories.findings(&subject)?;
    let mut warnings = Report::new();
    let guessed: Vec<&str> =
        subject.sources.iter().filter(|source| !source.certain).map(|source| source.name.as_str()).collect();
    if !guessed.is_empty() {
        let more = if guessed.len() > NAMED { ", …" } else { "" };
        let names = guessed[..guessed.len().min(NAMED)].join(", ");
        warnings.push(
            Diagnostic::warning(format!("of {} source packages the versions are guessed", guessed.len()))
                .note(format!("the lock does not name them, and the store has no index that does: {names}{more}"))
                .note("where source and package are numbered differently, a hole can be overlooked")
                .hint("run `rolecast lock` with this store, or audit the bill beside an image (`sbom.cdx.json`)"),
        );
    }
    let counts: Vec<&Finding> = findings.iter().filter(|finding| finding.counts()).collect();
    if !counts.is_empty() {
        let sources: BTreeSet<&str> = counts.iter().map(|finding| finding.source.as_str()).collect();
        let message = format!("{} known holes in {} source packages", counts.len(), sources.len());
        warnings.push(Diagnostic::error(Kind::Vulnerable, message).hint("the result on standard output names them"));
    }
    let text = tell(&subject, &findings);
    let json = json!({
        "distribution": subject.distribution, "suite": subject.suite, "sources": subject.sources.len(),
        "guessed": guessed, "findings": findings,
    });
    Ok(Done { text, json, warnings })
}

/// What is audited, by the file's name.
fn subject(path: &Path, settings: &Settings) -> Result<Subject, Report> {
    let bytes = files::read(path).map_err(Diagnostic::from)?;
    if path.extension().is_some_and(|extension| extension == "lock") {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lock = lock::read(&Arc::new(Source { path: path.display().to_string(), text }))?;
        // Looking does not make a store.
        let store = settings.store.join("format").exists().then(|| Store::open(&settings.store)).transpose()?;
        let known = store.map_or_else(|| Ok(BTreeMap::new()), |store| archive::built_from(&lock, &store))?;
        return Ok(of_lock(&lock, &known));
    }
    Ok(of_bill(&bytes).map_err(|refused| refused.note(format!("in `{}`", path.display())))?)
}

fn tell(subject: &Subject, findings: &[Finding]) -> String {
    let mut text = format!("{} source packages of {} {}\n", subject.sources.len(), subject.distribution, subject.suite);
    for (state, title) in [(State::Fixed, "an update mends"), (State::Open, "not mended yet")] {
        let those: Vec<&Finding> = findings.iter().filter(|finding| finding.state == state).collect();
        if !those.is_empty() {
            let _ = writeln!(text, "{title}: {}", those.len());
        }
        for finding in those {
            let _ = write!(
                text,
                "  {} {}  {}  {}",
                finding.source,
                finding.version,
                plain(&finding.id),
                plain(&finding.severity)
            );
            if let Some(fixed) = &finding.fixed {
                let _ = write!(text, "  mended in {}", plain(fixed));
            }
            if let Some(note) = &finding.note {
                let _ = write!(text, "  ({})", plain(note));
            }
            text.push('\n');
        }
    }
    let mended = findings.iter().filter(|finding| finding.state == State::Fixed);
    let packages: BTreeSet<&str> = mended.flat_map(|finding| &finding.packages).map(String::as_str).collect();
    if !packages.is_empty() {
        let packages: Vec<&str> = packages.into_iter().collect();
        let _ = writeln!(text, "to update: rolecast lock IMAGE --update {}", packages.join(" "));
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (unimportant, undetermined) = (count(State::Unimportant), count(State::Undetermined));
    let _ = writeln!(text, "{unimportant} without consequence, {undetermined} undetermined: `--json` lists them");
    text
}

/// Text of the data as one line without control characters.
fn plain(text: &str) -> String {
    text.chars().take(200).map(|character| if character.is_control() { ' ' } else { character }).collect()
}
