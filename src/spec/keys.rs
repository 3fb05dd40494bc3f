//! The key table: every key of an image file and of a profile, once.
//!
//! What is not here cannot be written. The reader, the JSON Schema and the reference all follow this table.

use super::shape::{Absent, Key, Keys, Shape, Text};

use Absent::{Default, Nothing, Required};
use Shape::{Boolean, Choice, Integer, List, Map, Ports, Scalar, Table};

/// Most items of any list. Far above what a person writes; bounds what a stranger can make us do.
const MANY: usize = 10_000;

const fn key(name: &'static str, shape: Shape, absent: Absent, doc: &'static str) -> Key {
    Key { name, shape, absent, doc }
}

/// `images/NAME.toml`.
pub static IMAGE: Keys = Keys {
    name: "image",
    doc: "an image file, `images/NAME.toml`: one deployment",
    keys: &[
        key(
            "version",
            Shape::Text(Text::Version),
            Required,
            "Version of the images. Ordered as systemd orders versions; names the kernel image and is what an update compares.",
        ),
        key("distribution", Table(&DISTRIBUTION), Required, "What the images are made from."),
        key(
            "archive",
            Map(Text::Name, &Table(&ARCHIVE)),
            Nothing,
            "Archives of packages. The distribution's own are there without being written; a table of the same name changes their fields, a new name adds an archive.",
        ),
        key(
            "options",
            Map(Text::OptionName, &Scalar),
            Nothing,
            "Values of the options that the profiles declare; names are quoted, as in `\"maas.packaging\" = \"stub\"`.",
        ),
        key("role", Map(Text::Name, &Table(&ROLE)), Required, "The roles to build, each named as its profile."),
        key(
            "cluster",
            Table(&CLUSTER),
            Nothing,
            "The cluster that the images serve. Without it the images are generic, and what mentions the cluster is bound by `rolecast seed`.",
        ),
        key("node", Map(Text::Host, &Table(&NODE)), Nothing, "The machines of the cluster by host name."),
        key("dhcp", List(&Table(&DHCP), 0, MANY), Nothing, "Ranges that MAAS's DHCP hands out."),
    ],
};

/// `[distribution]`.
pub static DISTRIBUTION: Keys = Keys {
    name: "distribution",
    doc: "what the images are made from",
    keys: &[
        key("id", Choice(&["debian", "ubuntu"]), Required, "The distribution."),
        key("suite", Shape::Text(Text::Suite), Required, "Its suite by code name: `trixie`, `noble`."),
        key("architecture", Choice(&["amd64"]), Default("\"amd64\""), "Debian's name of the architecture."),
        key(
            "components",
            List(&Shape::Text(Text::Component), 1, MANY),
            Nothing,
            "Components of the distribution's own archives. Default: `main`, for Ubuntu `main` and `universe`.",
        ),
    ],
};

/// `[archive.NAME]`.
pub static ARCHIVE: Keys = Keys {
    name: "archive",
    doc: "one archive of packages",
    keys: &[
        key(
            "suites",
            List(&Shape::Text(Text::Suite), 1, MANY),
            Nothing,
            "Suites as in `dists/`. Has to be written for an archive that the distribution does not bring.",
        ),
        key(
            "components",
            List(&Shape::Text(Text::Component), 1, MANY),
            Nothing,
            "Components of the suites. Default for a new archive: `main`.",
        ),
        key(
            "keyring",
            Shape::Text(Text::Keyring),
            Nothing,
            "OpenPGP certificates that may sign its Release files, binary or armored. Default: `images/keyrings/NAME.pgp`, for the distribution's own archives `images/keyrings/ID-archive.pgp`.",
        ),
        key(
            "priority",
            Integer(-1000, 10_000),
            Default("500"),
            "As apt's pin priority: a higher one wins over a higher version.",
        ),
        key(
            "mirror",
            Shape::Text(Text::Url),
            Nothing,
            "Where to fetch from, unless `--mirror` or the environment says otherwise. No part of the lock.",
        ),
        key(
            "fingerprints",
            List(&Shape::Text(Text::Fingerprint), 1, MANY),
            Nothing,
            "Fingerprints that alone may sign. Default: every certificate of the keyring.",
        ),
        key(
            "allow-expired",
            Boolean,
            Default("false"),
            "Accept a Release file past its `Valid-Until`; for old snapshots.",
        ),
    ],
};

/// `[role.NAME]`.
pub static ROLE: Keys = Keys {
    name: "role",
    doc: "one role to build; its name is the name of its profile",
    keys: &[key(
        "formats",
        List(&Choice(&["disk", "qcow2", "netboot", "tar", "update"]), 1, 5),
        Required,
        "What to make: `disk` (raw disk image), `qcow2`, `netboot` (kernel, initrd, root and boot scripts), `tar` (root tarball), `update` (root, verity and kernel image as systemd-sysupdate fetches them).",
    )],
};

/// `[cluster]`.
pub static CLUSTER: Keys = Keys {
    name: "cluster",
    doc: "the cluster that the images serve",
    keys: &[
        key("name", Shape::Text(Text::Name), Required, "Its name: scope of Patroni and token of etcd."),
        key("vip", Shape::Text(Text::Address), Required, "The virtual address that regions share."),
        key("vrid", Integer(1, 255), Required, "VRRP's virtual router id, unique on the network."),
        key(
            "network",
            Shape::Text(Text::Network),
            Required,
            "The network that all nodes and the virtual address are in.",
        ),
        key("gateway", Shape::Text(Text::Address), Nothing, "The default gateway."),
        key(
            "updates",
            Shape::Text(Text::Url),
            Nothing,
            "Where machines find updates: the folder `updates` of a published tree, each role's below it. Default: none, they are brought to each machine's `/run/rolecast/updates`.",
        ),
    ],
};

/// `[node.NAME]`.
pub static NODE: Keys = Keys {
    name: "node",
    doc: "one machine; its name is its host name",
    keys: &[
        key("role", Shape::Text(Text::Name), Required, "Its role, one of `[role.NAME]`."),
        key("address", Shape::Text(Text::Address), Required, "Its static address."),
        key("mac", Shape::Text(Text::Mac), Nothing, "MAC address of the interface that carries the address."),
        key(
            "voter",
            Boolean,
            Nothing,
            "Whether it is a voting member of etcd. Default: regions are, and the first rack where there would be fewer than three voters otherwise.",
        ),
    ],
};

/// `[[dhcp]]`.
pub static DHCP: Keys = Keys {
    name: "dhcp",
    doc: "one range that MAAS's DHCP hands out",
    keys: &[
        key("subnet", Shape::Text(Text::Network), Required, "The subnet."),
        key("range", List(&Shape::Text(Text::Address), 2, 2), Required, "First and last address."),
        key("primary", Shape::Text(Text::Host), Required, "The rack that answers."),
        key("secondary", Shape::Text(Text::Host), Nothing, "The rack that takes over."),
    ],
};

/// `profiles/NAME.toml`.
pub static PROFILE: Keys = Keys {
    name: "profile",
    doc: "a profile, `profiles/NAME.toml`: one layer",
    keys: &[
        key("description", Shape::Text(Text::Free), Nothing, "What the layer is, for people."),
        key("extends", Shape::Text(Text::Name), Nothing, "The layer under this one. Not in an included file."),
        INCLUDE,
        PACKAGES,
        RECOMMENDS,
        OVERLAY,
        KERNEL_ARGUMENTS,
        REMOVE,
        BEFORE_KEY,
        UNITS_KEY,
        FILE,
        DIRECTORY,
        STATE,
        PORT,
        key(
            "option",
            Map(Text::OptionName, &Table(&OPTION)),
            Nothing,
            "Options that the layer declares. Names are quoted, as in `[option.\"maas.packaging\"]`, and shared by all layers.",
        ),
        key(
            "when",
            Map(Text::Condition, &Table(&WHEN)),
            Nothing,
            "Sections that count when a condition over options holds: `option=value` or `option!=value`, several joined by ` & `.",
        ),
    ],
};

/// `[when."CONDITION"]`.
pub static WHEN: Keys = Keys {
    name: "when",
    doc: "a section that counts when its condition holds",
    keys: &[
        INCLUDE,
        PACKAGES,
        RECOMMENDS,
        OVERLAY,
        KERNEL_ARGUMENTS,
        REMOVE,
        BEFORE_KEY,
        UNITS_KEY,
        FILE,
        DIRECTORY,
        STATE,
        PORT,
    ],
};

const INCLUDE: Key = key(
    "include",
    List(&Shape::Text(Text::Name), 0, MANY),
    Nothing,
    "Files of `profiles/`, without `.toml`, whose text is put into this layer before this file's own.",
);
const PACKAGES: Key = key(
    "packages",
    List(&Shape::Text(Text::Relation), 0, MANY),
    Nothing,
    "Packages wanted, each a relation as in `Depends`: `chrony`, `a | b`, `postgresql-17 (>= 17.2)`.",
);
const RECOMMENDS: Key =
    key("recommends", Boolean, Default("false"), "Install what the layer's packages recommend too.");
const OVERLAY: Key = key(
    "overlay",
    List(&Shape::Text(Text::Name), 0, MANY),
    Nothing,
    "Directories of `overlays/` whose files are laid over the configured root, in order. A file `NAME.tera` is a template and becomes `NAME`; an executable file gets mode 0755, another 0644.",
);
const KERNEL_ARGUMENTS: Key = key(
    "kernel-arguments",
    List(&Shape::Text(Text::KernelArgument), 0, MANY),
    Nothing,
    "Words for the kernel command line.",
);
const REMOVE: Key = key(
    "remove",
    List(&Shape::Text(Text::Path), 0, MANY),
    Nothing,
    "Paths removed from the root after its packages are configured.",
);
const BEFORE_KEY: Key =
    key("before", Table(&BEFORE), Nothing, "What has to be there before the layer's packages are configured.");
const UNITS_KEY: Key = key("units", Table(&UNITS), Nothing, "States of systemd units.");
const FILE: Key = key(
    "file",
    Map(Text::Path, &FILE_PERMISSION_SHAPE),
    Nothing,
    "Owner and mode of files that are not `root:root` with the overlay's mode.",
);
const DIRECTORY: Key = key(
    "directory",
    Map(Text::Path, &DIRECTORY_PERMISSION_SHAPE),
    Nothing,
    "Owner and mode of directories; one that is not there is made.",
);
const STATE: Key =
    key("state", List(&STATE_PATH_SHAPE, 0, MANY), Nothing, "Paths that survive a reboot. All else is reset at boot.");
const PORT: Key = key(
    "port",
    List(&PORT_TABLE_SHAPE, 0, MANY),
    Nothing,
    "Ports that the layer's programs listen on. The firewall is computed from them.",
);

// A constant cannot hold a reference to a shape made in place around a static, so these have a place of their own.
static FILE_PERMISSION_SHAPE: Shape = Table(&FILE_PERMISSION);
static DIRECTORY_PERMISSION_SHAPE: Shape = Table(&DIRECTORY_PERMISSION);
static STATE_PATH_SHAPE: Shape = Table(&STATE_PATH);
static PORT_TABLE_SHAPE: Shape = Table(&PORT_TABLE);

/// `[before]`.
pub static BEFORE: Keys = Keys {
    name: "before",
    doc: "what has to be there before the layer's packages are configured",
    keys: &[
        key(
            "overlay",
            Shape::Text(Text::Name),
            Nothing,
            "A directory of `overlays/` laid before configuration. Its templates may use `option` only.",
        ),
        key(
            "debconf",
            Map(Text::Question, &Table(&DEBCONF)),
            Nothing,
            "Answers for debconf, as in `\"tzdata tzdata/Areas\" = { type = \"select\", value = \"Etc\" }`.",
        ),
        key("user", Map(Text::Account, &Table(&USER)), Nothing, "Users with fixed numbers."),
        key("group", Map(Text::Account, &Table(&GROUP)), Nothing, "Groups with fixed numbers."),
    ],
};

/// A debconf answer.
pub static DEBCONF: Keys = Keys {
    name: "debconf",
    doc: "a debconf answer, as debconf-set-selections(1) takes it",
    keys: &[
        key(
            "type",
            Choice(&["string", "boolean", "select", "multiselect", "note", "text", "password"]),
            Required,
            "The question's type.",
        ),
        key("value", Shape::Text(Text::Line), Required, "The answer."),
    ],
};

/// `[before.user.NAME]`.
pub static USER: Keys = Keys {
    name: "user",
    doc: "a user with a fixed number",
    keys: &[
        key("uid", Integer(1, 65_533), Required, "Its number."),
        key("gid", Integer(1, 65_533), Nothing, "Number of its primary group. Default: the same as `uid`."),
        key("group", Shape::Text(Text::Account), Nothing, "Name of its primary group. Default: the user's name."),
        key("home", Shape::Text(Text::Home), Default("\"/nonexistent\""), "Home directory."),
        key("shell", Shape::Text(Text::Path), Default("\"/usr/sbin/nologin\""), "Login shell."),
        key("comment", Shape::Text(Text::Line), Default("\"\""), "Comment field."),
    ],
};

/// `[before.group.NAME]`.
pub static GROUP: Keys = Keys {
    name: "group",
    doc: "a group with a fixed number",
    keys: &[key("gid", Integer(1, 65_533), Required, "Its number.")],
};

/// `[units]`.
pub static UNITS: Keys = Keys {
    name: "units",
    doc: "states of systemd units; what a layer says wins over its parent",
    keys: &[
        key("enable", List(&Shape::Text(Text::Unit), 0, MANY), Nothing, "Enabled as `systemctl enable` does it."),
        key(
            "disable",
            List(&Shape::Text(Text::Unit), 0, MANY),
            Nothing,
            "Disabled, whatever the packages' scripts enabled.",
        ),
        key("mask", List(&Shape::Text(Text::Unit), 0, MANY), Nothing, "Masked."),
        key("default-target", Shape::Text(Text::Target), Nothing, "The target that is booted."),
    ],
};

const OWNER: Key = key("owner", Shape::Text(Text::Account), Default("\"root\""), "Owner's name.");
const GROUP_NAME: Key = key("group", Shape::Text(Text::Account), Default("\"root\""), "Group's name.");

/// `[file."/PATH"]`.
pub static FILE_PERMISSION: Keys = Keys {
    name: "file",
    doc: "owner and mode of one file",
    keys: &[
        OWNER,
        GROUP_NAME,
        key(
            "mode",
            Shape::Text(Text::Mode),
            Nothing,
            "Permission bits in octal. Default: the mode of the overlay file; for a file of a package it has to be written.",
        ),
    ],
};

/// `[directory."/PATH"]`.
pub static DIRECTORY_PERMISSION: Keys = Keys {
    name: "directory",
    doc: "owner and mode of one directory",
    keys: &[OWNER, GROUP_NAME, key("mode", Shape::Text(Text::Mode), Default("\"0755\""), "Permission bits in octal.")],
};

/// `[[state]]`.
pub static STATE_PATH: Keys = Keys {
    name: "state",
    doc: "a path that survives a reboot",
    keys: &[
        key("path", Shape::Text(Text::Path), Required, "The path."),
        OWNER,
        GROUP_NAME,
        key("mode", Shape::Text(Text::Mode), Default("\"0755\""), "Permission bits in octal."),
    ],
};

/// `[[port]]`.
pub static PORT_TABLE: Keys = Keys {
    name: "port",
    doc: "a port that a program listens on",
    keys: &[
        key("program", Shape::Text(Text::Line), Required, "The program, for messages and comments."),
        key(
            "listen",
            Choice(&["any", "node", "loopback", "vip"]),
            Required,
            "Addresses: every one, the node's own, 127.0.0.1 and ::1, or the virtual one.",
        ),
        key(
            "protocol",
            Choice(&["tcp", "udp", "vrrp"]),
            Default("\"tcp\""),
            "The protocol; `vrrp` is IP protocol 112 and has no port.",
        ),
        key(
            "port",
            Ports,
            Nothing,
            "A number, or a range as a text: `\"5250-5270\"`. Has to be written for `tcp` and `udp`.",
        ),
        key(
            "from",
            Choice(&["loopback", "regions", "racks", "peers", "anyone"]),
            Required,
            "Who may reach it: the machine itself, machines of a region role, of a rack role, every machine of the cluster, or anyone.",
        ),
    ],
};

/// `[option."NAME"]`.
pub static OPTION: Keys = Keys {
    name: "option",
    doc: "an option that a layer declares",
    keys: &[
        key("type", Choice(&["choice", "boolean", "integer", "text"]), Required, "Type of its value."),
        key("values", List(&Shape::Text(Text::Line), 1, MANY), Nothing, "The values of a `choice`."),
        key(
            "default",
            Scalar,
            Nothing,
            "Its value where the image file gives none. Without a default the image file has to.",
        ),
        key("doc", Shape::Text(Text::Free), Required, "What it decides, for people."),
    ],
};
