//! What can be typed. No meaning here: `settings` gives it.

mod remote;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use remote::{PullArguments, PushArguments, RemoteArguments, TrustArguments};

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

/// Who signs the outputs. Without any of these, and without $ROLECAST_SIGN_KEY, nobody does.
#[derive(Clone, Debug, Default, Args)]
pub struct SignerArguments {
    /// Sign with the OpenPGP secret key in this file [default: the key that $ROLECAST_SIGN_KEY holds]
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,
    /// The file with the key's passphrase [default: what $ROLECAST_SIGN_PASSPHRASE holds]
    #[arg(long, value_name = "FILE")]
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
    #[arg(required = true)]
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
    pub path: PathBuf,
    /// OpenPGP certificates of those who may sign, binary or armored
    #[arg(long, value_name = "FILE")]
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
    #[arg(value_name = "LOCK|SBOM")]
    pub subject: PathBuf,
    /// Advisory data: a file, or a directory of OSV records
    #[arg(long, value_name = "FILE|DIR")]
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
    #[arg(long, value_name = "FILE")]
    pub keyring: Option<PathBuf>,
}

/// `rolecast lab`.
#[derive(Debug, Subcommand)]
pub enum LabVerb {
    /// Make the machines, power them on, and wait until all have joined; they run on until `down`
    Up(LabUpArguments),
    /// Say how far each machine is
    Status(LabPlace),
    /// Break the cluster in every way that it has to withstand, and measure what a client sees
    Test(LabTestArguments),
    /// Open a shell on a machine, or run a command there
    Shell(LabShellArguments),
    /// End the lab and remove all that it made, also after a crash
    Down(LabDownArguments),
}

/// Where a lab is.
#[derive(Clone, Debug, Args)]
pub struct LabPlace {
    /// The lab's directory [default: .rolecast/lab beside the project]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// What machines are made of, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabBackEnd {
    /// systemd as PID 1 of a container, on the root inside the disk image; seconds
    Container,
    /// Virtual machines: firmware, boot loader, verity and all; minutes where they are emulated
    Qemu,
}

/// What a lab is made of.
#[derive(Debug, Args)]
pub struct LabMachines {
    /// What machines are made of
    #[arg(long, value_name = "WHAT", default_value = "container")]
    pub back_end: LabBackEnd,
    /// Only these nodes [default: all of the cluster]
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// Where the images are
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub output: PathBuf,
}

/// `rolecast lab up`.
#[derive(Debug, Args)]
#[command(after_help = "Interrupted, it leaves the machines running: `rolecast lab down` removes them.

Examples:
  rolecast build images/ha-lab.toml --format disk && sudo rolecast lab up images/ha-lab.toml
  rolecast lab up images/ha-lab.toml --back-end qemu --nodes region-1,region-2,rack-1")]
pub struct LabUpArguments {
    /// The image file; it describes a cluster
    pub image: PathBuf,
    /// What the lab is made of
    #[command(flatten)]
    pub machines: LabMachines,
    /// Where the lab is
    #[command(flatten)]
    pub place: LabPlace,
}

/// `rolecast lab test`.
#[derive(Debug, Args)]
#[command(
    after_help = "It makes a lab of its own and removes it at the end. What a failed scenario leaves, the journals of all
machines above all, is kept below --report. Fails when a scenario does.

Examples:
  rolecast lab test images/ha-lab.toml
  rolecast lab test images/ha-lab.toml leader-dies 6
  rolecast lab test images/ha-lab.toml --list"
)]
pub struct LabTestArguments {
    /// The image file; it describes a cluster
    pub image: PathBuf,
    /// Scenarios by name, or by the number of a proof [default: all]
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// List the scenarios and what they prove, and play none
    #[arg(long)]
    pub list: bool,
    /// What the lab is made of
    #[command(flatten)]
    pub machines: LabMachines,
    /// Where report.html, junit.xml and timeline.txt go
    #[arg(long, value_name = "DIR", default_value = "out/lab")]
    pub report: PathBuf,
}

/// `rolecast lab shell`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast lab shell region-1
  rolecast lab shell region-1 -- patronictl list")]
pub struct LabShellArguments {
    /// The machine
    pub node: String,
    /// A command, instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Where the lab is
    #[command(flatten)]
    pub place: LabPlace,
}

/// `rolecast lab down`.
#[derive(Debug, Args)]
pub struct LabDownArguments {
    /// Keep the lab's files: consoles, state, seeds
    #[arg(long)]
    pub keep: bool,
    /// Where the lab is
    #[command(flatten)]
    pub place: LabPlace,
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

/// A cluster and its secrets.
#[derive(Clone, Debug, Args)]
pub struct ClusterArguments {
    /// The image file
    pub image: PathBuf,
    /// For generic images: the file with `[cluster]`, `[node.NAME]` and `[[dhcp]]`
    #[arg(long, value_name = "FILE")]
    pub cluster: Option<PathBuf>,
    /// The secrets file; encrypted if named `*.age` [default: secrets/NAME.toml beside `images`]
    #[arg(long, value_name = "FILE", env = "ROLECAST_SECRETS")]
    pub secrets: Option<PathBuf>,
    /// Your age identity, for an encrypted secrets file
    #[arg(long, value_name = "FILE", env = "ROLECAST_AGE_IDENTITY")]
    pub identity: Option<PathBuf>,
}

/// `rolecast secrets`.
#[derive(Debug, Subcommand)]
pub enum SecretsVerb {
    /// Make the secrets of a cluster, or add what is missing for nodes that are new
    #[command(after_help = "Examples:
  rolecast secrets init images/ha-lab.toml
  rolecast secrets init images/ha-lab.toml --recipient age1…")]
    Init {
        /// Whose
        #[command(flatten)]
        cluster: ClusterArguments,
        /// Encrypt the file with age, for this recipient
        #[arg(long = "recipient", value_name = "RECIPIENT")]
        recipients: Vec<String>,
    },
    /// List the secrets: names, ages, days that certificates have left
    #[command(after_help = "Example:\n  rolecast secrets show images/ha-lab.toml --reveal admin_password")]
    Show {
        /// Whose
        #[command(flatten)]
        cluster: ClusterArguments,
        /// Print the value of this one, and nothing else
        #[arg(long, value_name = "NAME")]
        reveal: Option<String>,
    },
    /// Replace secrets; `rolecast apply --all` then brings them to the machines
    #[command(after_help = "Examples:
  rolecast secrets rotate images/ha-lab.toml                    passwords, MAAS's secret and certificates
  rolecast secrets rotate images/ha-lab.toml database_password
  rolecast secrets rotate images/ha-lab.toml region-1           the certificate of a node
  rolecast secrets rotate images/ha-lab.toml --ca               begin, or go on with, a new authority")]
    Rotate {
        /// Whose
        #[command(flatten)]
        cluster: ClusterArguments,
        /// Secrets, and nodes for their certificates [default: all of both]
        names: Vec<String>,
        /// Take the next step of changing the cluster's authority
        #[arg(long, conflicts_with = "names")]
        ca: bool,
    },
}

/// `rolecast seed`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast seed images/ha-lab.toml
  rolecast seed images/ha-lab.toml rack-1 --output /mnt/seeds")]
pub struct SeedArguments {
    /// Whose
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// Nodes [default: all]
    pub nodes: Vec<String>,
    /// Where the seeds go, a directory a node [default: beside the secrets file, named as the image file]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// What the seeds may hold
    #[command(flatten)]
    pub terms: TermsArguments,
}

/// What seeds may hold.
#[derive(Clone, Copy, Debug, Args)]
pub struct TermsArguments {
    /// Put secrets also into what travels over plain HTTP, where anyone on the network can read it
    #[arg(long)]
    pub secrets_over_http: bool,
    /// Let regions keep their state in memory only: a reboot loses the database
    #[arg(long)]
    pub memory_state: bool,
}

/// `rolecast publish`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rolecast publish /srv/boot images/ha-lab.toml --url http://10.77.0.1:8080")]
pub struct PublishArguments {
    /// Where the tree goes
    pub directory: PathBuf,
    /// Whose
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// Where machines find the tree; over `http:` the seeds carry no secrets
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// Where `build` put the images
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub images: PathBuf,
    /// What the seeds may hold
    #[command(flatten)]
    pub terms: TermsArguments,
    /// Who signs the updates
    #[command(flatten)]
    pub signer: SignerArguments,
}

/// `rolecast apply`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast apply images/ha-lab.toml region-1 --host-key region-1=SHA256:…    the first time
  rolecast apply images/ha-lab.toml region-1
  rolecast apply images/ha-lab.toml --all")]
pub struct ApplyArguments {
    /// Whose
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// Nodes
    #[arg(conflicts_with = "all")]
    pub nodes: Vec<String>,
    /// All nodes; goes on with a change of the authority until it is done
    #[arg(long)]
    pub all: bool,
    /// Accept a machine's SSH host key by the fingerprint that `rolecast-join status` shows there: its first one, or
    /// another in its place
    #[arg(long = "host-key", value_name = "NODE=SHA256:…", value_parser = crate::seed::shown)]
    pub host_keys: Vec<(String, String)>,
    /// The program that reaches machines, called as ssh is
    #[arg(long, value_name = "PROGRAM", default_value = "ssh")]
    pub ssh: std::ffi::OsString,
    /// How long machines may take to follow a step of changing the authority
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub patience: u64,
    /// Let regions keep their state in memory only: a reboot loses the database
    #[arg(long)]
    pub memory_state: bool,
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
