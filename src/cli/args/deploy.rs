//! What the verbs take that bring images to machines: secrets, seed, publish, apply.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{SignerArguments, there};

/// A cluster and its secrets.
#[derive(Clone, Debug, Args)]
pub struct ClusterArguments {
    /// The image file
    pub image: PathBuf,
    /// For generic images: the file with `[cluster]`, `[node.NAME]` and `[[dhcp]]`
    #[arg(long, value_name = "FILE", value_parser = there())]
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
