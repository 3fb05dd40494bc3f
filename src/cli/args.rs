//! What can be typed. No meaning here: `settings` gives it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Builds highly available MAAS clusters as bootable, immutable role images.
#[derive(Debug, Parser)]
#[command(
    name = "rolecast",
    version,
    max_term_width = 100,
    after_help = "Examples:
  rolecast build images/ha-lab.toml
  rolecast build images/ha-lab.toml --role rack --format disk --locked
  rolecast inspect out/rack/rack.raw /etc/chrony/chrony.conf

Exit codes: 0 done; 1 something you wrote needs mending; 2 the command line does; 3 the world
(network, disk, a package's script); 4 a signature or digest; 5 bytes that should be equal are
not; 70 a bug of rolecast."
)]
pub struct Arguments {
    /// What applies to every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What applies to every verb.
#[derive(Debug, Args)]
pub struct Global {
    /// Print the result, and any problem, as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Where what was fetched and built is kept [default: ~/.cache/rolecast]
    #[arg(long, global = true, value_name = "DIR", env = "ROLECAST_STORE")]
    pub store: Option<PathBuf>,
    /// When to colour [default: on a terminal, unless NO_COLOR is set]
    #[arg(long, global = true, value_name = "WHEN")]
    pub color: Option<ColorWhen>,
}

/// When to colour messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Read and check an image file, its profiles and overlays; fetch nothing
    Check(CheckArguments),
    /// Choose every package and write the lock beside the image file
    Lock(LockArguments),
    /// Show what a build would do and why
    Plan(PlanArguments),
    /// Build the images
    Build(BuildArguments),
    /// Say what an image is, or where a path in it comes from
    Inspect(InspectArguments),
    /// Say what differs between two locks, two manifests or two images
    Diff(DiffArguments),
    /// Rebuild from nothing and compare with what was built before
    Verify(VerifyArguments),
    /// Keep every input of a lock in a directory, for a build without any other mirror
    Vendor(VendorArguments),
    /// Open a shell in what a failed maintainer script left, as the message of the build names it
    Enter {
        /// The directory that the message names
        directory: PathBuf,
    },
    /// Look after the store
    #[command(subcommand)]
    Store(StoreVerb),
    /// Write shell completions, man pages, the JSON Schemas or the reference of all options
    #[command(subcommand)]
    Generate(GenerateVerb),
}

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
}

/// `rolecast build`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast build images/ha-lab.toml
  rolecast build images/ha-lab.toml --role rack --format disk
  rolecast build images/ha-lab.toml --locked --offline --output /srv/images")]
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
    /// How many processors to use [default: all]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
}

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

/// `rolecast store`.
#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Count what the store holds
    Stats,
    /// Remove what no recent build used
    #[command(after_help = "Example:\n  rolecast store gc --older-than 7")]
    Gc {
        /// Keep what was used in so many days
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        older_than: u32,
    },
}

/// `rolecast generate`.
#[derive(Debug, Subcommand)]
pub enum GenerateVerb {
    /// Completions for a shell, on standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Man pages, one a verb
    Man {
        /// Where they go
        directory: PathBuf,
    },
    /// The JSON Schema of image files or profiles, on standard output
    Schema {
        /// Of what
        of: SchemaOf,
    },
    /// The reference of every key and option, as Markdown on standard output
    Reference {
        /// The project: the directory that holds `profiles`
        #[arg(default_value = ".")]
        project: PathBuf,
    },
}

/// What a schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// Files under `images`
    Image,
    /// Files under `profiles`
    Profile,
}
