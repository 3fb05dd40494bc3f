//! What a build says when it is done.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::cli::Done;
use crate::cli::output::size;
use crate::image::manifest::BootFacts;
use crate::image::sums::{SIGNATURE, SUMS};
use crate::remote::Remote;
use crate::report::Report;

use super::super::remote;
use super::Built;

/// The roles that were built since `begun`, each with its outputs.
pub(super) fn done(
    built: &[Built],
    signed_by: Option<String>,
    remote: Option<&Remote>,
    warnings: Report,
    begun: Instant,
) -> Done {
    let mut text = String::new();
    for role in built {
        let manifest = &role.manifest;
        let note = if role.reused { " (nothing changed)" } else { "" };
        let _ = writeln!(text, "{} {}{note}", manifest.role, manifest.version);
        if let Some(boot) = &manifest.boot {
            let _ = writeln!(text, "  {}", boot_signature(boot));
        }
        for output in &manifest.outputs {
            let path = shown(&role.directory.join(&output.file));
            let _ = writeln!(text, "  {path:<44} {:>10}  sha256 {}", size(output.size), output.sha256);
        }
        let names = manifest.documents.iter().map(|document| document.file.as_str());
        for name in names.chain(["manifest.json", SUMS]).chain(signed_by.is_some().then_some(SIGNATURE)) {
            let _ = writeln!(text, "  {}", shown(&role.directory.join(name)));
        }
    }
    if let Some(fingerprint) = &signed_by {
        let _ = writeln!(text, "signed by {fingerprint}");
    }
    let tally = remote.map(Remote::tally);
    if let (Some(remote), Some(tally)) = (remote, &tally) {
        text += &remote::told(remote.shown(), tally);
    }
    let _ = writeln!(text, "{} roles in {:.1} s", built.len(), begun.elapsed().as_secs_f64());
    let roles: Vec<_> = built
        .iter()
        .map(|role| {
            serde_json::json!({
                "directory": role.directory.display().to_string(),
                "reused": role.reused,
                "manifest": role.manifest,
            })
        })
        .collect();
    Done { text, json: serde_json::json!({ "roles": roles, "signed_by": signed_by, "remote": tally }), warnings }
}

/// Who signed what boots, as a person is told.
pub(in crate::cli::verb) fn boot_signature(boot: &BootFacts) -> String {
    match &boot.secure_boot {
        Some(signer) => {
            format!("signed for Secure Boot by {} (certificate sha256 {})", signer.subject, signer.certificate)
        }
        None => "not signed: boots where Secure Boot is off".to_owned(),
    }
}

/// A path as a person would type it: from the working directory when it lies below.
pub(in crate::cli::verb) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
