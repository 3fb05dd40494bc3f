//! What the verbs of trust take: who signs, whose signature is believed, which advisories are known.

use std::path::PathBuf;

use clap::Args;

use super::there;

/// Who signs the outputs. Without any of these, and without $ROLECAST_SIGN_KEY, nobody does.
#[derive(Clone, Debug, Default, Args)]
pub struct SignerArguments {
    /// Sign with the OpenPGP secret key in this file [default: the key that $ROLECAST_SIGN_KEY holds]
    #[arg(long, value_name = "FILE", value_parser = there())]
    pub sign_key: Option<PathBuf>,
    /// The file with the key's passphrase [default: what $ROLECAST_SIGN_PASSPHRASE holds]
    #[arg(long, value_name = "FILE", value_parser = there())]
    pub sign_passphrase: Option<PathBuf>,
    /// Sign through gpg, with this key of its: also one on a token
    #[arg(long, value_name = "KEY", conflicts_with_all = ["sign_key", "sign_passphrase"])]
    pub sign_with_gpg: Option<String>,
}

/// `rolecast sign`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast sign out --sign-key release.key
  rolecast sign out/rack out/region-primary --sign-with-gpg 0123456789ABCDEF0123456789ABCDEF01234567

Every file is first compared with SHA256SUMS. Others verify with `gpgv --keyring FILE SHA256SUMS.gpg SHA256SUMS`
and `sha256sum --check SHA256SUMS`.")]
pub struct SignArguments {
    /// Directories of roles, or the one above
    #[arg(required = true, value_parser = there())]
    pub directories: Vec<PathBuf>,
    /// Who signs
    #[command(flatten)]
    pub signer: SignerArguments,
}

/// `rolecast verify-signature`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast verify-signature out --keyring release.pgp
  rolecast verify-signature out/rack/rack.raw --keyring release.pgp

Exit code: 0 when the signature is good and every file is what was signed; 4 when not.")]
pub struct VerifySignatureArguments {
    /// The directory of a role, the one above, or one file of a role
    #[arg(value_parser = there())]
    pub path: PathBuf,
    /// OpenPGP certificates of those who may sign, binary or armored
    #[arg(long, value_name = "FILE", value_parser = there())]
    pub keyring: PathBuf,
}

/// `rolecast audit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast audit images/ha-lab.lock --against debian-tracker.json
  rolecast audit out/rack/sbom.cdx.json --against osv/

The data is brought by you: the file `data/json` of Debian's security tracker, one OSV record, a list of
them, or a directory of them. Nothing is fetched.

Exit code: 0 when nothing is known, 6 when something is. What a distribution holds to be of no consequence,
and what is undetermined, is counted and changes no exit code.")]
pub struct AuditArguments {
    /// A lock, or an SPDX or CycloneDX bill of materials in JSON
    #[arg(value_name = "LOCK|SBOM", value_parser = there())]
    pub subject: PathBuf,
    /// Advisory data: a file, or a directory of OSV records
    #[arg(long, value_name = "FILE|DIR", value_parser = there())]
    pub against: PathBuf,
}

/// Who signs what firmware starts.
#[derive(Clone, Debug, Default, Args)]
pub struct SecureBootArguments {
    /// Sign boot loader, unified kernel image and netboot kernel for Secure Boot with this key: RSA, PKCS#8, PEM
    #[arg(long, value_name = "FILE", env = "ROLECAST_SECURE_BOOT_KEY", requires = "secure_boot_certificate")]
    pub secure_boot_key: Option<PathBuf>,
    /// The certificate of that key, PEM: the one in the firmware's `db`
    #[arg(long, value_name = "FILE", env = "ROLECAST_SECURE_BOOT_CERTIFICATE", requires = "secure_boot_key")]
    pub secure_boot_certificate: Option<PathBuf>,
}
