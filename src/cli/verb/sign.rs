//! `rolecast sign`: sign what was built before, or elsewhere.

use std::fmt::Write as _;
use std::path::Path;

use crate::cli::args::{SignArguments, SignerArguments};
use crate::cli::settings::{Settings, variable};
use crate::cli::{Done, progress};
use crate::image::sums::SIGNATURE;
use crate::report::{Diagnostic, Kind, Report, Unit};
use crate::sign::{self, FileKey, GpgKey, Signer};
use crate::sys::private;

use super::build::shown;
use super::cluster::now;
use super::verify_signature::complaint;

/// The variable that may hold the secret key's text.
const KEY: &str = "ROLECAST_SIGN_KEY";

/// The variable that may hold its passphrase.
const PASSPHRASE: &str = "ROLECAST_SIGN_PASSPHRASE";

/// Largest secret key that is read, in bytes: one of many subkeys and names has some 100 KiB.
const LARGEST_KEY: u64 = 1 << 20;

/// Largest passphrase, in bytes.
const LARGEST_PASSPHRASE: u64 = 4096;

/// Signs the directories of roles.
///
/// # Errors
/// When nobody is named who signs, a file is not the one that the list names, or the key does not sign.
pub fn run(arguments: &SignArguments, settings: &Settings) -> Result<Done, Report> {
    let Some(signer) = signer(&arguments.signer)? else {
        return Err(Diagnostic::error(Kind::Usage, "nobody is named who signs")
            .hint(format!("name a secret key with `--sign-key` or {KEY}, or one of gpg's with `--sign-with-gpg`"))
            .into());
    };
    let mut directories = Vec::new();
    for path in &arguments.directories {
        directories.extend(sign::directories(path)?);
    }
    let progress = progress::for_run(settings.json);
    let task = progress.begin("compare with the lists", 0, Unit::Bytes);
    let mut wrong = Report::new();
    for directory in &directories {
        let checked = sign::check_directory(directory, None, 0, &|bytes| task.advance(bytes))?;
        wrong.extend(complaint(&checked));
    }
    drop(task);
    if wrong.has_errors() {
        return Err(wrong);
    }
    let (mut text, mut roles) = (String::new(), Vec::new());
    for directory in &directories {
        let signed = sign::sign(directory, &signer)?;
        let _ = writeln!(text, "{}  {}, {} files", shown(&directory.join(SIGNATURE)), signed.role, signed.files);
        roles.push(serde_json::json!({
            "directory": directory.display().to_string(), "role": signed.role, "files": signed.files,
        }));
    }
    let _ = writeln!(text, "signed by {}", signer.fingerprint());
    let json = serde_json::json!({ "signed_by": signer.fingerprint(), "roles": roles });
    Ok(Done { text, json, ..Done::default() })
}

/// Who signs, by what was typed and the environment; none when nobody is named.
///
/// # Errors
/// When the key cannot be read, or may not sign.
pub(super) fn signer(arguments: &SignerArguments) -> Result<Option<Signer>, Report> {
    let now = i64::try_from(now()).unwrap_or(i64::MAX);
    if let Some(name) = &arguments.sign_with_gpg {
        return Ok(Some(Signer::Gpg(GpgKey::find(name, now)?)));
    }
    let private = |path: &Path, limit| private::read(path, limit).map_err(Diagnostic::from);
    let held = variable(KEY).filter(|text| !text.trim().is_empty());
    let (bytes, from) = match (&arguments.sign_key, held) {
        (Some(path), _) => (private(path, LARGEST_KEY)?, format!("`{}`", path.display())),
        (None, Some(text)) => (text.into_bytes(), KEY.to_owned()),
        (None, None) => return Ok(None),
    };
    let passphrase = match &arguments.sign_passphrase {
        Some(path) => Some(private(path, LARGEST_PASSPHRASE)?),
        None => variable(PASSPHRASE).filter(|text| !text.is_empty()).map(String::into_bytes),
    };
    // An editor ends the file with a line break that is not meant.
    let passphrase = passphrase.as_deref().map(|bytes| bytes.strip_suffix(b"\n").unwrap_or(bytes));
    let key = FileKey::read(&bytes, passphrase, now)
        .map_err(|error| Diagnostic::from(error).note(format!("it was read from {from}")))?;
    Ok(Some(Signer::File(Box::new(key))))
}
