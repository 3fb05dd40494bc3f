//! What can be typed about a shared store.

use std::path::PathBuf;

use clap::Args;

use super::{ChosenArguments, SignerArguments};

/// Where results of others are taken from.
#[derive(Clone, Debug, Default, Args)]
pub struct RemoteArguments {
    /// Take from here what others have made: oci://HOST/REPOSITORY, s3://BUCKET/PREFIX or https://HOST/PATH.
    /// Not with --offline
    #[arg(long, value_name = "REMOTE", env = "ROLECAST_REMOTE")]
    pub remote: Option<String>,
    /// Whose results are believed
    #[command(flatten)]
    pub trust: TrustArguments,
}

/// Whose results are believed.
#[derive(Clone, Debug, Default, Args)]
pub struct TrustArguments {
    /// OpenPGP certificates of those whose results in the remote are believed
    #[arg(long, value_name = "FILE", env = "ROLECAST_REMOTE_KEYRING")]
    pub remote_keyring: Option<PathBuf>,
    /// Believe everybody who can write to the remote: what they put there becomes your images
    #[arg(long, conflicts_with = "remote_keyring")]
    pub remote_unsigned: bool,
}

/// `rolecast store push`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast store push oci://registry.example/team/rolecast images/ha-lab.toml --sign-key ci.key
  rolecast store push s3://builds/rolecast --sign-key ci.key

Credentials: of a registry those of `docker login`, or $ROLECAST_REMOTE_USER and $ROLECAST_REMOTE_PASSWORD, which
a web server gets too; of a bucket $AWS_ACCESS_KEY_ID, $AWS_SECRET_ACCESS_KEY, $AWS_REGION and, where it is not
Amazon's, $AWS_ENDPOINT_URL. What is there is not sent again.")]
pub struct PushArguments {
    /// oci://HOST/REPOSITORY, s3://BUCKET/PREFIX or https://HOST/PATH
    pub remote: String,
    /// Image files whose results are brought, each with its lock [default: everything in the store]
    pub images: Vec<PathBuf>,
    /// The executable laid as rolecast-join [default: the one beside rolecast]
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Who signs the results
    #[command(flatten)]
    pub signer: SignerArguments,
    /// Whose results that are there already are left in place; the signer's own are
    #[command(flatten)]
    pub trust: TrustArguments,
}

/// `rolecast store pull`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast store pull oci://registry.example/team/rolecast images/ha-lab.toml --remote-keyring ci.pgp
  rolecast store pull s3://builds/rolecast --remote-keyring ci.pgp

A build does this by itself with --remote, and brings only what it needs. Credentials: as for `store push`.")]
pub struct PullArguments {
    /// oci://HOST/REPOSITORY, s3://BUCKET/PREFIX or https://HOST/PATH
    pub remote: String,
    /// Image files that are to be built, each with its lock [default: all of ./images that have one]
    pub images: Vec<PathBuf>,
    /// Which outputs
    #[command(flatten)]
    pub chosen: ChosenArguments,
    /// Whose results are believed
    #[command(flatten)]
    pub trust: TrustArguments,
}
