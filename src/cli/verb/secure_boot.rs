//! Who signs for Secure Boot, from the files that were named. The key stays in memory.

use crate::cli::args::SecureBootArguments;
use crate::deb::date::format_rfc3339;
use crate::format::authenticode::{Signer, SignerError};
use crate::report::{Diagnostic, Kind, Report};
use crate::sys::files;

/// The signer; none when no key was named. `now`, in seconds since the Epoch, has to lie within the certificate's
/// validity where it is given.
///
/// # Errors
/// When key or certificate cannot be read, cannot sign, or do not belong together.
pub(super) fn signer(arguments: &SecureBootArguments, now: Option<u64>) -> Result<Option<Signer>, Report> {
    let SecureBootArguments { secure_boot_key: Some(key), secure_boot_certificate: Some(certificate) } = arguments
    else {
        return Ok(None);
    };
    let refuse = |why: &str| {
        Diagnostic::error(Kind::Input, format!("nothing can be signed for Secure Boot: {why}")).note(format!(
            "the key is `{}`, the certificate `{}`",
            key.display(),
            certificate.display()
        ))
    };
    let text = |path| files::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let key_text = text(key).map_err(Diagnostic::from)?;
    let certificate_text = text(certificate).map_err(Diagnostic::from)?;
    let signer =
        Signer::read(&key_text, &certificate_text).map_err(|error| refuse(&error.to_string()).hint(remedy(&error)))?;
    let validity = signer.validity();
    if now.is_some_and(|now| !(validity.from..=validity.until).contains(&now)) {
        let date = |seconds: u64| format_rfc3339(i64::try_from(seconds).unwrap_or(i64::MAX));
        let (from, until) = (date(validity.from), date(validity.until));
        return Err(refuse(&format!("the certificate holds from {from} to {until}"))
            .hint("make a new certificate of the same key, and enrol it on the machines")
            .into());
    }
    Ok(Some(signer))
}

fn remedy(error: &SignerError) -> &'static str {
    match error {
        SignerError::Encrypted => "decrypt it for this build alone: `--secure-boot-key <(openssl pkcs8 -in KEY)`",
        SignerError::NotPkcs8 => "convert it: `openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW`",
        SignerError::Mismatch => "name the certificate that was made of this key",
        SignerError::NotPem { .. } => "convert it to PEM with `openssl pkey` or `openssl x509`",
        _ => "make an RSA key of 2048 bits and its certificate, as docs/secure-boot.md shows",
    }
}
