//! The composed and checked specification: what the rooms after this one work from.
//!
//! Built once by reading; every value that an error could be about later keeps the [`Span`] where it was written.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::deb::relation::Alternatives;
use crate::digest::Digest;
use crate::report::Span;

/// A whole deployment as written.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name of the image file without `.toml`.
    pub name: String,
    /// `version`: ordered; names the UKI and `IMAGE_VERSION`.
    pub version: String,
    /// The distribution.
    pub distribution: Distribution,
    /// Archives by name; `distribution.id` is always one of them.
    pub archives: BTreeMap<String, Archive>,
    /// Value of every declared option.
    pub options: BTreeMap<String, OptionValue>,
    /// All layers that any role needs; a parent comes before its children.
    pub layers: Vec<Layer>,
    /// Packages of the tool layer that makes initrd, stub and boot loader (never part of an image).
    pub tools: Layer,
    /// The roles to build, in the order of the image file.
    pub roles: Vec<Role>,
    /// The cluster, where the image file describes one.
    pub cluster: Option<Cluster>,
    /// Digest of everything above that decides which packages are wanted: the lock answers this.
    pub digest: Digest,
}

impl Spec {
    /// The bytes of a size that an option gives in MiB; none where no profile declares it as a whole number.
    pub fn size_of(&self, option: &str) -> Option<u64> {
        match self.options.get(option) {
            Some(OptionValue::Integer(mebibytes)) => {
                Some(u64::try_from(*mebibytes).unwrap_or_default().saturating_mul(1 << 20))
            }
            _ => None,
        }
    }
}

/// `[distribution]`.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// `debian` or `ubuntu`.
    pub id: String,
    /// Code name: `trixie`.
    pub suite: String,
    /// Debian architecture name: `amd64`.
    pub architecture: String,
    /// Where `[distribution]` stands.
    pub span: Span,
}

/// `[archive.NAME]`, or the default archives of the distribution.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Its name: `debian`, `debian-security`, `maas`.
    pub name: String,
    /// Suites as in `dists/`: `trixie`, `trixie-updates`.
    pub suites: Vec<String>,
    /// Components: `main`.
    pub components: Vec<String>,
    /// The keyring's path from the project's root.
    pub keyring: String,
    /// The keyring's bytes (binary or armored OpenPGP certificates); none when the file is not there, which is an
    /// error only once something is to be fetched.
    pub keyring_bytes: Option<Vec<u8>>,
    /// Fingerprints (upper-case hexadecimal) that alone may sign, when the image file pins them; empty: all of the keyring.
    pub fingerprints: Vec<String>,
    /// As apt's pin priority: higher wins over version; 500 unless written.
    pub priority: i32,
    /// Mirror URL when the image file names one.
    pub mirror: Option<String>,
    /// Accept a Release past its `Valid-Until` (old snapshots).
    pub allow_expired: bool,
    /// Where it is written.
    pub span: Span,
}

/// Value of an option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OptionValue {
    /// A truth value.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A text or one of declared choices.
    Text(String),
}

impl std::fmt::Display for OptionValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(formatter),
            Self::Integer(value) => value.fmt(formatter),
            Self::Text(value) => value.fmt(formatter),
        }
    }
}

/// One profile as composed: includes and `when` sections folded in.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The profile's name.
    pub name: String,
    /// Index in [`Spec::layers`] of the layer under it; none for the lowest.
    pub parent: Option<usize>,
    /// Packages wanted, each with its place.
    pub wants: Vec<Want>,
    /// Install `Recommends` too.
    pub recommends: bool,
    /// What has to be there before packages are configured.
    pub before: Before,
    /// Files to lay over the configured root, in order; later ones win.
    pub files: Vec<OverlayFile>,
    /// Owners and modes of paths that are not `root:root` with the mode of the overlay file.
    pub permissions: Vec<Permission>,
    /// Units.
    pub units: Units,
    /// Paths removed from the root after configure.
    pub remove: Vec<Written<String>>,
    /// Words for the kernel command line.
    pub kernel_arguments: Vec<String>,
    /// Paths that survive a reboot.
    pub state: Vec<State>,
    /// Ports that its programs listen on.
    pub ports: Vec<Port>,
    /// The beginning of its profile, for what has no better place.
    pub span: Span,
}

/// A value with the place where it was written.
#[derive(Clone, Debug)]
pub struct Written<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub span: Span,
}

/// A wanted package: a relation as in `Depends`, alternatives included.
#[derive(Clone, Debug)]
pub struct Want {
    /// The relation.
    pub relation: Alternatives,
    /// Where it is written.
    pub span: Span,
}

/// What must exist before the layer's packages are configured.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// debconf answers: package, question, type, value; as `debconf-set-selections(1)` takes them.
    pub debconf: Vec<Debconf>,
    /// Users and groups with fixed numbers.
    pub users: Vec<User>,
    /// Groups without a user of the same name.
    pub groups: Vec<Group>,
    /// Files: absolute path without the leading `/`, and bytes. Never templates with late variables.
    pub files: Vec<BeforeFile>,
}

impl Before {
    /// Whether there is nothing to put in place.
    pub fn is_empty(&self) -> bool {
        self.debconf.is_empty() && self.users.is_empty() && self.groups.is_empty() && self.files.is_empty()
    }
}

/// One debconf answer.
#[derive(Clone, Debug)]
pub struct Debconf {
    /// Owning package.
    pub package: String,
    /// Question, `package/question`.
    pub question: String,
    /// Its type: `string`, `boolean`, `select`, ….
    pub kind: String,
    /// The answer.
    pub value: String,
}

/// A user with a fixed number.
#[derive(Clone, Debug)]
pub struct User {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Primary group; made with number [`User::gid`] where it is missing.
    pub group: String,
    /// The group's number.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// Comment field.
    pub comment: String,
    /// Where it is written.
    pub span: Span,
}

/// A group with a fixed number.
#[derive(Clone, Debug)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Number.
    pub gid: u32,
    /// Where it is written.
    pub span: Span,
}

/// A file laid before configure.
#[derive(Clone, Debug)]
pub struct BeforeFile {
    /// Path in the root, no leading `/`.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
    /// Bytes.
    pub content: Vec<u8>,
    /// The overlay file it comes from, from the project's root.
    pub source: String,
    /// Where a profile asks for the overlay.
    pub span: Span,
}

/// A file of an overlay.
#[derive(Clone, Debug)]
pub struct OverlayFile {
    /// Path in the root, no leading `/`, without `.tera`.
    pub path: String,
    /// The file, from the project's root.
    pub source: String,
    /// Where a profile asks for the overlay.
    pub span: Span,
    /// What it becomes.
    pub body: Body,
}

/// What an overlay file becomes in the root.
#[derive(Clone, Debug)]
pub enum Body {
    /// A plain file, its bytes as they are.
    Plain {
        /// Bytes.
        content: Vec<u8>,
        /// 0755 when the file is executable, else 0644.
        mode: u16,
    },
    /// A symbolic link.
    Link {
        /// Target.
        target: String,
    },
    /// A template whose variables are all known at build: rendered per role.
    Early {
        /// The template's text.
        template: Template,
    },
    /// A template that mentions `node`, `secret`, or `cluster` without a described cluster: rendered by `seed`.
    Late {
        /// The template's text.
        template: Template,
    },
}

/// A template and its variables.
#[derive(Clone, Debug)]
pub struct Template {
    /// Name for messages: the overlay file.
    pub source: std::sync::Arc<crate::report::Source>,
    /// 0755 when the file is executable, else 0644.
    pub mode: u16,
    /// Top-level variables that it mentions: `option`, `role`, `cluster`, `node`, `secret`.
    pub variables: Vec<String>,
}

/// Owner and mode of one path.
#[derive(Clone, Debug)]
pub struct Permission {
    /// Path in the root, no leading `/`.
    pub path: String,
    /// Owner's name (resolved in the built root's passwd).
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Permission bits.
    pub mode: u16,
    /// Make a directory where there is nothing.
    pub directory: bool,
    /// Where it is written.
    pub span: Span,
}

/// Unit states of a layer.
#[derive(Clone, Debug, Default)]
pub struct Units {
    /// Enabled by links as `systemctl enable` makes them.
    pub enable: Vec<Written<String>>,
    /// Disabled, whatever the packages' scripts enabled. The join starts those that wait for it.
    pub disable: Vec<Written<String>>,
    /// Masked.
    pub mask: Vec<Written<String>>,
    /// The default target, `multi-user.target` unless a child says otherwise.
    pub default_target: Option<Written<String>>,
}

/// A path that survives a reboot.
#[derive(Clone, Debug)]
pub struct State {
    /// Absolute path without the leading `/`.
    pub path: String,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Permission bits.
    pub mode: u16,
    /// Where it is written.
    pub span: Span,
}

/// Which address a program listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listen {
    /// Every address of the machine.
    Any,
    /// The node's own address.
    Node,
    /// 127.0.0.1 and ::1.
    Loopback,
    /// The virtual address.
    Vip,
}

/// Who may reach a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Only the machine itself.
    Loopback,
    /// Machines of the cluster with a region role.
    Regions,
    /// Machines of the cluster with a rack role.
    Racks,
    /// Every machine of the cluster.
    Peers,
    /// Anyone.
    Anyone,
}

/// A port that a program of the layer listens on.
#[derive(Clone, Debug)]
pub struct Port {
    /// The program, for messages.
    pub program: String,
    /// Addresses.
    pub listen: Listen,
    /// `tcp`, `udp`, or `vrrp` (IP protocol 112, no port).
    pub protocol: String,
    /// First port.
    pub first: u16,
    /// Last port; equal to the first for one port.
    pub last: u16,
    /// Who may reach it.
    pub from: Reach,
    /// Where it is written.
    pub span: Span,
}

/// A role to build: its profile and outputs.
#[derive(Clone, Debug)]
pub struct Role {
    /// Name of role and profile: `rack`, `region-primary`, `region-standby`.
    pub name: String,
    /// Indexes into [`Spec::layers`], lowest first.
    pub layers: Vec<usize>,
    /// What its machines are to MAAS.
    pub kind: RoleKind,
    /// Outputs asked for.
    pub formats: Vec<Format>,
    /// Where it is written.
    pub span: Span,
}

/// What the machines of a role are to MAAS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoleKind {
    /// Region controllers: one of the role's layers is the profile `region`.
    Region,
    /// Rack controllers: one of the role's layers is the profile `rack`.
    Rack,
    /// Neither, such as a role that is only `base`.
    Other,
}

/// An output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Raw disk image.
    Disk,
    /// The disk image as qcow2.
    Qcow2,
    /// Kernel, initrd, root and boot scripts for the network.
    Netboot,
    /// Root tarball.
    Tar,
    /// Root, verity and kernel image, as `systemd-sysupdate(8)` fetches them.
    Update,
}

/// `[cluster]` with its nodes.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// The virtual address.
    pub vip: Ipv4Addr,
    /// Virtual router id, 1 to 255.
    pub vrid: u8,
    /// Network address.
    pub network: Ipv4Addr,
    /// Prefix length of the network.
    pub prefix: u8,
    /// Default gateway, where there is one.
    pub gateway: Option<Ipv4Addr>,
    /// Where updates are, without `/` at the end; none when they are brought to each machine.
    pub updates: Option<String>,
    /// Nodes, in the order of the image file.
    pub nodes: Vec<NodeFacts>,
    /// DHCP ranges.
    pub dhcp: Vec<Dhcp>,
    /// Where `[cluster]` stands.
    pub span: Span,
}

/// `[node.NAME]`.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Unique host name.
    pub name: String,
    /// Role.
    pub role: String,
    /// Static address.
    pub address: Ipv4Addr,
    /// MAC address, lower case with colons.
    pub mac: Option<String>,
    /// Whether it is a voter of etcd.
    pub voter: bool,
    /// Where it is written.
    pub span: Span,
}

/// `[[dhcp]]`.
#[derive(Clone, Debug)]
pub struct Dhcp {
    /// Subnet, address and prefix.
    pub subnet: (Ipv4Addr, u8),
    /// First and last address handed out.
    pub range: (Ipv4Addr, Ipv4Addr),
    /// Rack that answers.
    pub primary: String,
    /// Rack that takes over.
    pub secondary: Option<String>,
    /// Where it is written.
    pub span: Span,
}
