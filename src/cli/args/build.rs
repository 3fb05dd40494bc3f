//! What the verbs that make images take: check, lock, plan, build, verify, vendor.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{RemoteArguments, SecureBootArguments, SignerArguments};

/// Where packages come from.
#[derive(Clone, Debug, Args)]
pub struct MirrorArguments {
    /// Mirror of an archive, e.g. `debian=http://mirror.example/debian`; else $ROLECAST_MIRROR_<ID>, the
    /// image file, or this host's own apt sources
    #[arg(long = "mirror", value_name = "ID=URL")]
    pub mirrors: Vec<String>,
    /// A directory that `rolecast vendor` filled: the mirror of every archive
    #[arg(long, value_name = "DIR")]
    pub vendor: Option<PathBuf>,
    /// Use only what the store holds, and mirrors that are directories (`--vendor`, file://)
    #[arg(long)]
    pub offline: bool,
}

/// `rolecast check`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rolecast check images/ha-lab.toml")]
pub struct CheckArguments {
    /// The image file
    pub image: PathBuf,
}

/// `rolecast lock`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast lock images/ha-lab.toml                     keep every pin that is still served
  rolecast lock images/ha-lab.toml --update            take the newest of everything
  rolecast lock images/ha-lab.toml --update openssl    … of one package")]
pub struct LockArguments {
    /// The image file
    pub image: PathBuf,
    /// Take newer versions: of the named packages, or of all when none is named
    #[arg(long, value_name = "PACKAGE", num_args = 0..)]
    pub update: Option<Vec<String>>,
    /// Where packages come from
    #[command(flatten)]
    pub mirrors: MirrorArguments,
}

/// `rolecast plan`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rolecast plan images/ha-lab.toml --role rack")]
pub struct PlanArguments {
    /// The image file
    pub image: PathBuf,
    /// Which outputs
    #[command(flatten)]
    pub chosen: ChosenArguments,
}

/// Which outputs of an image file.
#[derive(Clone, Debug, Args)]
pub struct ChosenArguments {
    /// Only these roles [default: all of the image file]
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// Only these formats [default: those that the image file asks for]
    #[arg(long = "format", value_name = "FORMAT")]
    pub formats: Vec<FormatName>,
    /// The executable laid as rolecast-join [default: the one beside rolecast]
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
}

/// A format as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// Raw UEFI disk image
    Disk,
    /// The disk as qcow2
    Qcow2,
    /// Kernel, initrd, root and boot scripts
    Netboot,
    /// Root tarball (MAAS custom image, LXD, nspawn)
    Tar,
    /// Root, verity and kernel image, as systemd-sysupdate fetches them
    Update,
}

/// `rolecast build`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast build images/ha-lab.toml
  rolecast build images/ha-lab.toml --role rack --format disk
  rolecast build images/ha-lab.toml --locked --offline --output /srv/images --sign-key release.key
  rolecast build images/ha-lab.toml --secure-boot-key db.key --secure-boot-certificate db.pem
  rolecast build images/ha-lab.toml --locked --remote oci://registry.example/rolecast --remote-keyring ci.pgp")]
pub struct BuildArguments {
    /// The image file
    pub image: PathBuf,
    /// Which outputs
    #[command(flatten)]
    pub chosen: ChosenArguments,
    /// Take the lock as it is: refuse a stale one and packages that are gone
    #[arg(long)]
    pub locked: bool,
    /// Where packages come from
    #[command(flatten)]
    pub mirrors: MirrorArguments,
    /// Where the images go
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub output: PathBuf,
    /// Who signs what firmware starts
    #[command(flatten)]
    pub secure_boot: SecureBootArguments,
    /// How many processors to use [default: all]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Who signs the outputs
    #[command(flatten)]
    pub signer: SignerArguments,
    /// Where results of others are taken from
    #[command(flatten)]
    pub remote: RemoteArguments,
}

/// `rolecast verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast verify images/ha-lab.toml
  rolecast verify images/ha-lab.toml --role rack --against /srv/images
  rolecast verify images/ha-lab.toml --against received/rack/manifest.json

Exit code: 0 when every byte is the same, 5 when one is not.")]
pub struct VerifyArguments {
    /// The image file, with its lock
    pub image: PathBuf,
    /// What to compare with: a manifest.json, a role's directory, or the directory above the roles'
    #[arg(long, value_name = "MANIFEST|DIR", default_value = "out")]
    pub against: PathBuf,
    /// Only these roles [default: all that are there]
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// The executable laid as rolecast-join [default: the one beside rolecast]
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Where packages come from
    #[command(flatten)]
    pub mirrors: MirrorArguments,
    /// Who signed what firmware starts, where what is compared with is signed
    #[command(flatten)]
    pub secure_boot: SecureBootArguments,
    /// How many processors to use [default: all]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
}

/// `rolecast vendor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast vendor /srv/ha-lab images/ha-lab.toml
  rolecast vendor /srv/ha-lab images/ha-lab.toml --check
  rolecast build images/ha-lab.toml --locked --offline --vendor /srv/ha-lab")]
pub struct VendorArguments {
    /// The directory: new, or one of an earlier run, which is completed
    pub directory: PathBuf,
    /// The image file, with its lock
    pub image: PathBuf,
    /// Fetch and write nothing: verify digests, signatures and that every package is vouched for
    #[arg(long)]
    pub check: bool,
    /// Where packages come from
    #[command(flatten)]
    pub mirrors: MirrorArguments,
}
