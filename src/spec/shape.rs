//! Shapes of the written language: what a key may hold, checked once and described once.
//!
//! The key table in [`super::keys`] is made of these. The reader checks files against it, the JSON Schema and the
//! reference are printed from it, so the three cannot differ. Knows no file and no other room.

use std::net::Ipv4Addr;

/// The keys of one table.
#[derive(Debug)]
pub struct Keys {
    /// Name in the schema's `$defs`: `image`, `port`.
    pub name: &'static str,
    /// What the table is: one sentence without full stop.
    pub doc: &'static str,
    /// The keys, in the order in which people read them.
    pub keys: &'static [Key],
}

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    /// As written: `kernel-arguments`.
    pub name: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// What happens without it.
    pub absent: Absent,
    /// What it is for: one or two sentences.
    pub doc: &'static str,
}

/// What happens when a key is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// An error.
    Required,
    /// Nothing.
    Nothing,
    /// The same as this, in TOML.
    Default(&'static str),
}

/// What a key may hold.
#[derive(Debug)]
pub enum Shape {
    /// A text of one kind.
    Text(Text),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A whole number between the two, both included.
    Integer(i64, i64),
    /// A text, whole number or truth value: the value of an option.
    Scalar,
    /// A port number, or a text `"FIRST-LAST"`.
    Ports,
    /// A list with at least and at most so many items.
    List(&'static Shape, usize, usize),
    /// A table with known keys.
    Table(&'static Keys),
    /// A table whose keys are names that the writer chooses.
    Map(Text, &'static Shape),
}

impl Shape {
    /// What a person is told to write: `a text`, `a list`.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Choice(_) => "a text",
            Self::Boolean => "`true` or `false`",
            Self::Integer(..) => "a whole number",
            Self::Scalar => "a text, a whole number or a truth value",
            Self::Ports => "a port number, or a text such as `\"5250-5270\"`",
            Self::List(..) => "a list",
            Self::Table(_) | Self::Map(..) => "a table",
        }
    }
}

/// Kinds of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Anything on one line.
    Line,
    /// Anything, several lines too.
    Free,
    /// A version of an image.
    Version,
    /// A name of ours: role, archive, profile, overlay.
    Name,
    /// A host name, one label.
    Host,
    /// A name of an option: words joined by dots.
    OptionName,
    /// A suite of an archive.
    Suite,
    /// A component of a suite.
    Component,
    /// An http, https or file address.
    Url,
    /// A path from the project's root to a keyring.
    Keyring,
    /// An OpenPGP fingerprint.
    Fingerprint,
    /// An IPv4 address.
    Address,
    /// An IPv4 network, `ADDRESS/PREFIX`.
    Network,
    /// A MAC address.
    Mac,
    /// A relation to packages, as in `Depends`; the deb room reads it.
    Relation,
    /// A user's or group's name.
    Account,
    /// An absolute path in the root.
    Path,
    /// A home directory: as a path, but `/` alone and a trailing `/` are what some packages write.
    Home,
    /// Permission bits in octal.
    Mode,
    /// A systemd unit.
    Unit,
    /// A systemd target.
    Target,
    /// One word of the kernel command line.
    KernelArgument,
    /// A debconf answer's `package question`.
    Question,
    /// A condition over options.
    Condition,
}

impl Text {
    /// What it is, for messages and the reference.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Line => "one line of text",
            Self::Free => "a text",
            Self::Version => "a version: lower-case letters, digits, `.` and `-`, beginning with a digit or letter",
            Self::Name => "a name: lower-case letters, digits and `-`, beginning with a letter",
            Self::Host => "a host name: lower-case letters, digits and `-`, at most 63 characters",
            Self::OptionName => "an option's name: lower-case words with digits and `_`, joined by `.`",
            Self::Suite => "a suite as in `dists/`: letters, digits, `.`, `-` and `/`",
            Self::Component => "a component: lower-case letters, digits, `-` and `/`",
            Self::Url => "an `http://`, `https://` or `file://` address",
            Self::Keyring => "a path under `images/keyrings/`",
            Self::Fingerprint => "an OpenPGP fingerprint: 40 or 64 hexadecimal digits",
            Self::Address => "an IPv4 address such as `10.77.0.10`",
            Self::Network => "an IPv4 network such as `10.77.0.0/24`",
            Self::Mac => "a MAC address such as `52:54:00:77:00:11`",
            Self::Relation => "a relation to packages, as in `Depends`: `name`, `a | b`, `name (>= version)`",
            Self::Account => {
                "a name of a user or group: lower-case letters, digits, `-` and `_`, at most 32 characters"
            }
            Self::Path => "an absolute path without `.`, `..`, doubled or trailing `/`",
            Self::Home => "an absolute path without `.`, `..` or doubled `/`",
            Self::Mode => "permission bits in octal, as a text such as `\"0640\"`",
            Self::Unit => "a systemd unit with its suffix, such as `haproxy.service`",
            Self::Target => "a systemd target, such as `multi-user.target`",
            Self::KernelArgument => "one word of the kernel command line, without spaces or quotes",
            Self::Question => "a package and its debconf question, such as `tzdata tzdata/Areas`",
            Self::Condition => "a condition: `option=value` or `option!=value`, several joined by ` & `",
        }
    }

    /// A regular expression for the JSON Schema, where one says it well.
    pub fn pattern(self) -> Option<&'static str> {
        Some(match self {
            Self::Line => "^[^\\u0000-\\u001f\\u007f]*$",
            Self::Free | Self::Relation | Self::Condition => return None,
            Self::Version => "^[0-9a-z][0-9a-z.-]{0,63}$",
            Self::Name => "^[a-z][a-z0-9-]{0,63}$",
            Self::Host => "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
            Self::OptionName => "^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*)*$",
            Self::Suite => "^[A-Za-z0-9][A-Za-z0-9./-]*$",
            Self::Component => "^[a-z0-9][a-z0-9/-]*$",
            Self::Url => "^(https?|file)://[^\\s]+$",
            Self::Keyring => "^images/keyrings/.+$",
            Self::Fingerprint => "^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$",
            Self::Address => "^[0-9]{1,3}(\\.[0-9]{1,3}){3}$",
            Self::Network => "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$",
            Self::Mac => "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$",
            Self::Account => "^[a-z_][a-z0-9_-]{0,31}$",
            Self::Path => "^/[^/]+(/[^/]+)*$",
            Self::Home => "^/([^/]+(/[^/]+)*/?)?$",
            Self::Mode => "^0?[0-7]{3,4}$",
            Self::Unit => {
                "^[A-Za-z0-9:_.\\\\@-]+\\.(service|socket|timer|target|path|mount|automount|swap|slice|scope|device)$"
            }
            Self::Target => "^[A-Za-z0-9:_.\\\\@-]+\\.target$",
            Self::KernelArgument => "^[^\\s\"']+$",
            Self::Question => "^[a-z0-9][a-z0-9+.-]* \\S+$",
        })
    }

    /// Whether `text` is of this kind. [`Text::Relation`] and [`Text::Condition`] are read by others and always pass.
    pub fn accepts(self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let lower = |byte: &u8| byte.is_ascii_lowercase();
        let lower_or_digit = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let of = |set: &'static [u8]| move |byte: &u8| set.contains(byte);
        match self {
            Self::Free | Self::Relation | Self::Condition => true,
            Self::Line => !text.chars().any(char::is_control),
            Self::Version => {
                bytes.len() <= 64
                    && bytes.first().is_some_and(lower_or_digit)
                    && bytes.iter().all(|byte| lower_or_digit(byte) || of(b".-")(byte))
            }
            Self::Name => {
                bytes.len() <= 64
                    && bytes.first().is_some_and(lower)
                    && bytes.iter().all(|byte| lower_or_digit(byte) || *byte == b'-')
            }
            Self::Host => {
                bytes.len() <= 63
                    && bytes.first().is_some_and(lower_or_digit)
                    && bytes.last().is_some_and(lower_or_digit)
                    && bytes.iter().all(|byte| lower_or_digit(byte) || *byte == b'-')
            }
            Self::OptionName => text.split('.').all(|word| {
                word.as_bytes().first().is_some_and(lower)
                    && word.bytes().all(|byte| lower_or_digit(&byte) || byte == b'_')
            }),
            Self::Suite => {
                bytes.first().is_some_and(u8::is_ascii_alphanumeric)
                    && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || of(b"./-")(byte))
                    && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
            }
            Self::Component => {
                bytes.first().is_some_and(lower_or_digit)
                    && bytes.iter().all(|byte| lower_or_digit(byte) || of(b"-/")(byte))
                    && text.split('/').all(|part| !part.is_empty())
            }
            Self::Url => {
                let rest = ["http://", "https://", "file://"].iter().find_map(|scheme| text.strip_prefix(scheme));
                rest.is_some_and(|rest| !rest.is_empty()) && !text.chars().any(|c| c.is_whitespace() || c.is_control())
            }
            Self::Keyring => text.strip_prefix("images/keyrings/").is_some_and(is_relative_path),
            Self::Fingerprint => matches!(bytes.len(), 40 | 64) && bytes.iter().all(u8::is_ascii_hexdigit),
            Self::Address => text.parse::<Ipv4Addr>().is_ok(),
            Self::Network => network(text).is_some(),
            Self::Mac => {
                let mut parts = text.split(':');
                let good = parts
                    .by_ref()
                    .take(6)
                    .filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
                good.count() == 6 && parts.next().is_none()
            }
            Self::Account => {
                bytes.len() <= 32
                    && bytes.first().is_some_and(|byte| lower(byte) || *byte == b'_')
                    && bytes.iter().all(|byte| lower_or_digit(byte) || of(b"-_")(byte))
            }
            Self::Path => text.strip_prefix('/').is_some_and(is_relative_path),
            Self::Home => {
                text == "/"
                    || text
                        .strip_prefix('/')
                        .is_some_and(|path| is_relative_path(path.strip_suffix('/').unwrap_or(path)))
            }
            Self::Mode => mode(text).is_some(),
            Self::Unit => is_unit(text, UNIT_SUFFIXES),
            Self::Target => is_unit(text, &["target"]),
            Self::KernelArgument => {
                !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"' || c == '\'')
            }
            Self::Question => text.split_once(' ').is_some_and(|(package, question)| {
                package.as_bytes().first().is_some_and(lower_or_digit)
                    && package.bytes().all(|byte| lower_or_digit(&byte) || of(b"+.-")(&byte))
                    && !question.is_empty()
                    && !question.chars().any(|c| c.is_whitespace() || c.is_control())
            }),
        }
    }
}

/// Suffixes of unit files, systemd.unit(5).
const UNIT_SUFFIXES: &[&str] =
    &["service", "socket", "timer", "target", "path", "mount", "automount", "swap", "slice", "scope", "device"];

fn is_unit(text: &str, suffixes: &[&str]) -> bool {
    text.len() <= 255
        && text.rsplit_once('.').is_some_and(|(stem, suffix)| {
            !stem.is_empty()
                && suffixes.contains(&suffix)
                && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte))
        })
}

/// Whether `path` is one or more plain components joined by single slashes.
pub fn is_relative_path(path: &str) -> bool {
    path.len() <= 4096
        && path
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255 && !part.chars().any(char::is_control))
}

/// Permission bits of `text`: three or four octal digits.
pub fn mode(text: &str) -> Option<u16> {
    let good = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    if good { u16::from_str_radix(text, 8).ok() } else { None }
}

/// Address and prefix length of `text`, when no bit below the prefix is set.
pub fn network(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    if prefix.is_empty() || prefix.len() > 2 || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    (address.to_bits() & !mask(prefix) == 0).then_some((address, prefix))
}

/// The netmask of a prefix length.
pub fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_text_takes_what_it_says() {
        let table: &[(Text, &[&str], &[&str])] = &[
            (Text::Line, &["", "a b"], &["a\nb", "\u{7f}"]),
            (Text::Version, &["2026.11.1", "1-rc2"], &["", "A", "1_2", "1+2", ".1"]),
            (Text::Name, &["rack", "region-primary"], &["", "Rack", "1a", "a_b", "a/b"]),
            (Text::Host, &["rack-1", "9"], &["", "-a", "a-", "a.b", "A"]),
            (Text::OptionName, &["kernel", "maas.packaging", "a_b.c1"], &["", ".", "a.", "a-b", "A", "1"]),
            (Text::Suite, &["trixie", "trixie-security", "stable/updates"], &["", "../x", "a//b", "-a", "a b"]),
            (Text::Component, &["main", "updates/main"], &["", "Main", "a/"]),
            (Text::Url, &["https://a/b", "http://x", "file:///srv/debian"], &["ftp://a", "https://", "http://a b"]),
            (Text::Keyring, &["images/keyrings/a.pgp"], &["images/a.pgp", "images/keyrings/../a", "/x"]),
            (Text::Fingerprint, &["0123456789abcdefABCD0123456789abcdefABCD"], &["", "0123", "g"]),
            (Text::Address, &["10.0.0.1"], &["10.0.0", "10.0.0.256", "10.0.0.01", "::1"]),
            (Text::Network, &["10.0.0.0/24", "0.0.0.0/0"], &["10.0.0.1/24", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8"]),
            (Text::Mac, &["52:54:00:77:00:aF"], &["52:54:00:77:00", "52-54-00-77-00-11", "52:54:00:77:00:11:22"]),
            (Text::Account, &["maas", "_apt", "systemd-network"], &["", "Maas", "0x", "a b"]),
            (Text::Path, &["/etc", "/etc/a b"], &["etc", "/", "/etc/", "/a//b", "/a/../b", "/a/./b", "/a\nb"]),
            (Text::Home, &["/", "/var/lib/etcd/", "/home/a"], &["", "//", "a", "/a//", "/../"]),
            (Text::Mode, &["0640", "755", "4755"], &["", "64", "0888", "00644", "0o644"]),
            (Text::Unit, &["a.service", "getty@tty1.service", "x.mount"], &["a", ".service", "a b.service", "a.conf"]),
            (Text::Target, &["multi-user.target"], &["a.service"]),
            (Text::KernelArgument, &["quiet", "console=ttyS0,115200"], &["", "a b", "a\"b"]),
            (Text::Question, &["tzdata tzdata/Areas"], &["tzdata", "tzdata ", " a/b", "a b c"]),
        ];
        for (kind, good, bad) in table {
            for text in *good {
                assert!(kind.accepts(text), "{kind:?} has to take {text:?}");
            }
            for text in *bad {
                assert!(!kind.accepts(text), "{kind:?} has to refuse {text:?}");
            }
        }
    }
}
