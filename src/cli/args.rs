//! What can be typed. No meaning here: `settings` gives it.

mod build;
mod deploy;
mod lab;
mod look;
mod remote;
mod trust;

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use build::{
    BuildArguments, CheckArguments, ChosenArguments, FormatName, LockArguments, MirrorArguments, PlanArguments,
    VendorArguments, VerifyArguments,
};
pub use deploy::{ApplyArguments, ClusterArguments, PublishArguments, SecretsVerb, SeedArguments, TermsArguments};
pub use lab::{
    LabBackEnd, LabDownArguments, LabMachines, LabPlace, LabShellArguments, LabTestArguments, LabUpArguments, LabVerb,
};
pub use look::{DiffArguments, InspectArguments};
pub use remote::{PullArguments, PushArguments, RemoteArguments, TrustArguments};
pub use trust::{AuditArguments, SecureBootArguments, SignArguments, SignerArguments, VerifySignatureArguments};

/// The name of something that is read: it has to be there.
fn there() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.try_exists() {
        Ok(false) => Err("there is no such file or directory"),
        // Whoever reads it says what else is wrong.
        _ => Ok(path),
    })
}

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
not; 6 known holes in packages; 70 a bug of rolecast."
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
    /// Sign what was built, so that others know who built it
    Sign(SignArguments),
    /// Check who signed what was built, and that it is what they signed
    VerifySignature(VerifySignatureArguments),
    /// Say which packages have known holes, and which of these an update mends
    Audit(AuditArguments),
    /// Keep every input of a lock in a directory, for a build without any other mirror
    Vendor(VendorArguments),
    /// Open a shell in what a failed maintainer script left, as the message of the build names it
    Enter {
        /// The directory that the message names
        directory: PathBuf,
    },
    /// Boot the built images as a cluster on a private network of this host (needs root)
    #[command(subcommand)]
    Lab(LabVerb),
    /// Make, show and change the secrets of a cluster
    #[command(subcommand)]
    Secrets(SecretsVerb),
    /// Write each machine's seed: who it is and what it needs to know
    Seed(SeedArguments),
    /// Write the tree that a TFTP and HTTP server hands out: images, boot scripts, seeds
    Publish(PublishArguments),
    /// Bring machines their secrets over SSH: to those that wait for them, and after a rotation
    Apply(ApplyArguments),
    /// Look after the store
    #[command(subcommand)]
    Store(StoreVerb),
    /// Write shell completions, man pages, the JSON Schemas or the reference of all options
    #[command(subcommand)]
    Generate(GenerateVerb),
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
    /// Bring what was built to a store that others share: a registry, a bucket, a web server
    Push(PushArguments),
    /// Take from there what a build would need
    Pull(PullArguments),
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
