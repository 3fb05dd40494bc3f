//! dpkg's database, as dpkg itself writes it while it unpacks.
//!
//! Owns the text of `/var/lib/dpkg`: status, the lists and control files of each package, triggers, diversions. The
//! target's own dpkg takes over from there. Specifications: dpkg-query(1), deb-triggers(5), dpkg's doc/triggers.txt;
//! the files' forms are those of dpkg 1.22.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::deb::control::{Stanza, Stanzas};
use crate::deb::package::{MultiArch, Package};

use super::unpack::Unpacked;

/// Where the database lies.
pub const PLACE: &str = "var/lib/dpkg";

/// The order in which dpkg writes the fields that it knows; others follow in their own order.
const ORDER: [&str; 24] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
];

/// What a database says of an installed package that the laying of further ones has to know.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its stanza.
    pub package: Package,
    /// Name of its files in `info`: `libc6:amd64`, `dpkg`.
    pub instance: String,
    /// Absolute paths of what it ships, as it names them.
    pub files: Vec<String>,
    /// The text of its control file `triggers`.
    pub triggers: String,
}

/// A diversion: what other packages ship at `from` stands at `to` (dpkg-divert(1)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diversion {
    /// Absolute path that is diverted.
    pub from: String,
    /// Absolute path where it goes.
    pub to: String,
    /// The package whose own file is not diverted; `:` for none.
    pub package: String,
}

/// The name of a package's files in `info`, and the name by which dpkg is told of it.
pub fn instance_name(package: &Package) -> String {
    match package.multi_arch {
        MultiArch::Same => format!("{}:{}", package.name, package.architecture),
        _ => package.name.clone(),
    }
}

/// Reads the file `diversions`: three lines each.
pub fn parse_diversions(text: &str) -> Vec<Diversion> {
    let lines: Vec<&str> = text.lines().collect();
    let diversion =
        |three: &[&str]| Diversion { from: three[0].to_owned(), to: three[1].to_owned(), package: three[2].to_owned() };
    lines.chunks_exact(3).map(diversion).collect()
}

/// The stanzas of a `status` file that are installed or unpacked, with their text.
pub fn parse_status(text: &str) -> Vec<(Package, Stanza<'_>)> {
    let present = |stanza: &Stanza<'_>| {
        let status = stanza.get("Status").map_or("", |field| field.value);
        !matches!(status.rsplit(' ').next(), Some("not-installed" | "config-files") | None)
    };
    let stanzas = Stanzas::new(text).filter(present);
    stanzas.filter_map(|stanza| Some((Package::parse(stanza).ok()?, stanza))).collect()
}

/// The stanza of a package in `status`, with its state: `unpacked`, `installed`.
///
/// A configuration file stands at its place already, so its digest is there too: what `dpkg --unpack` leaves for
/// `dpkg --configure` to do (rename `X.dpkg-new`, note its MD5) is done. One that was laid before then counts as
/// changed by the administrator, and is kept.
pub fn status_stanza(unpacked: &Unpacked, state: &str) -> String {
    let Some(stanza) = Stanzas::new(&unpacked.stanza).next() else { return String::new() };
    let mut fields: BTreeMap<(usize, usize), (&str, String)> = BTreeMap::new();
    let place = |name: &str, index: usize| {
        let known = ORDER.iter().position(|known| known.eq_ignore_ascii_case(name));
        (known.unwrap_or(ORDER.len() + usize::from(!name.eq_ignore_ascii_case("Description"))), index)
    };
    for (index, field) in stanza.fields().map_while(Result::ok).enumerate() {
        fields.insert(place(field.name, index), (field.name, field.value.to_owned()));
    }
    fields.insert(place("Status", 0), ("Status", format!("install ok {state}")));
    if !unpacked.conffiles.is_empty() {
        let mut lines = String::new();
        for conffile in &unpacked.conffiles {
            let digest = conffile.md5.as_deref().unwrap_or("newconffile");
            let flag = if conffile.removed { " remove-on-upgrade" } else { "" };
            let _ = write!(lines, "\n {} {digest}{flag}", conffile.path);
        }
        fields.insert(place("Conffiles", 0), ("Conffiles", lines));
    }
    let mut text = String::new();
    for (name, value) in fields.into_values() {
        let space = if value.starts_with('\n') || value.is_empty() { "" } else { " " };
        let _ = writeln!(text, "{name}:{space}{value}");
    }
    text
}

/// One directive of a `triggers` control file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interest {
    /// The trigger: a name, or an absolute path.
    pub trigger: String,
    /// As the database names it: `libc-bin`, with `/noawait` where nobody waits for it.
    pub package: String,
}

/// The interests that a package declares (deb-triggers(5)).
pub fn interests(instance: &str, triggers: &str) -> Vec<Interest> {
    let words = triggers.lines().map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    words
        .filter_map(|mut words| {
            let suffix = match words.next()? {
                "interest" | "interest-await" => "",
                "interest-noawait" => "/noawait",
                _ => return None,
            };
            Some(Interest { trigger: words.next()?.to_owned(), package: format!("{instance}{suffix}") })
        })
        .collect()
}

/// Whether a package sets off triggers by name as it is unpacked (deb-triggers(5)).
pub fn activates(triggers: &str) -> bool {
    triggers.lines().any(|line| line.trim_start().starts_with("activate"))
}

/// The files of `triggers/`: `File` for paths, one for each other trigger's name.
pub fn trigger_files(interests: &BTreeSet<Interest>) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    files.insert("File".to_owned(), String::new());
    for Interest { trigger, package } in interests {
        if trigger.starts_with('/') {
            let _ = writeln!(files.entry("File".to_owned()).or_default(), "{trigger} {package}");
        } else if !trigger.contains('/') {
            let _ = writeln!(files.entry(trigger.clone()).or_default(), "{package}");
        }
    }
    files
}

/// The file `triggers/Unincorp`: which installed packages' path triggers `paths` (absolute) set off. Packages that are
/// only unpacked are left out, as dpkg leaves them out: their configuration does all of it.
pub fn pending_triggers<'a>(
    interests: &BTreeSet<Interest>,
    waiting: impl Fn(&str) -> bool,
    paths: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    for Interest { trigger, package } in interests {
        let instance = package.strip_suffix("/noawait").unwrap_or(package);
        if !trigger.starts_with('/') || !waiting(instance) || seen.contains(trigger) {
            continue;
        }
        let under = |path: &str| {
            path.strip_prefix(trigger.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if paths.clone().any(under) {
            let _ = writeln!(text, "{trigger} -");
            seen.insert(trigger);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_become_interests() {
        let text = "# a comment\ninterest-noawait /usr/share/x\ninterest ldconfig\nactivate-noawait other\n\n";
        let found: BTreeSet<_> = interests("a:amd64", text).into_iter().collect();
        let files = trigger_files(&found);
        assert_eq!(files["File"], "/usr/share/x a:amd64/noawait\n");
        assert_eq!(files["ldconfig"], "a:amd64\n");
        assert_eq!(files.len(), 2);
        let pending = |path: &str| pending_triggers(&found, |_| true, [path].into_iter());
        assert_eq!(pending("/usr/share/x/y"), "/usr/share/x -\n");
        assert_eq!(pending("/usr/share/xy"), "");
        assert_eq!(pending_triggers(&found, |_| false, ["/usr/share/x"].into_iter()), "");
    }

    #[test]
    fn diversions_come_in_threes() {
        let text = "/bin/sh\n/bin/sh.distrib\ndash\n/a\n/b\n:\n/cut\n";
        let found = parse_diversions(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].from.as_str(), found[1].to.as_str(), found[1].package.as_str()), ("/a", "/b", ":"));
    }
}
