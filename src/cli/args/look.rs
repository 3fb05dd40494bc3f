//! What the verbs take that look at what was made: inspect, diff.

use std::path::PathBuf;

use clap::Args;

use super::there;

/// `rolecast inspect`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast inspect out/rack/manifest.json
  rolecast inspect out/rack/rack.raw
  rolecast inspect out/rack/rack.raw /usr/sbin/dhcpd")]
pub struct InspectArguments {
    /// A manifest, or an image beside its manifest
    pub image: PathBuf,
    /// A path inside the image
    pub path: Option<String>,
    /// Check the signature beside the image with these OpenPGP certificates
    #[arg(long, value_name = "FILE", value_parser = there())]
    pub keyring: Option<PathBuf>,
}

/// `rolecast diff`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast diff before/ha-lab.lock images/ha-lab.lock
  rolecast diff old/rack/manifest.json out/rack/manifest.json --markdown
  rolecast diff old/rack/rack.raw out/rack/rack.raw")]
pub struct DiffArguments {
    /// A lock, a manifest.json, a disk image, a network root (root.img), a squashfs or a root tarball
    pub before: PathBuf,
    /// Another of the same kind
    pub after: PathBuf,
    /// Print Markdown for a merge request: a summary, and long lists folded
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Exit with code 5 when they differ [default: 0 whether they differ or not]
    #[arg(long)]
    pub exit_code: bool,
}
