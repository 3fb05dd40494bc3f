//! What the machine is, from the image's table and the kernel command line.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::report::{Diagnostic, Kind};
use crate::sys::files;

/// Where the image's table is.
const TABLE: &str = "/usr/lib/rolecast/image.json";

/// Where an accepted seed's ticket will be.
const TICKET: &str = "/var/lib/rolecast/ticket.json";

/// The part of the image's table that is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Table {
    image: String,
    version: String,
    role: String,
    late: Vec<LatePath>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LatePath {
    path: String,
}

/// What was observed.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The text of the image's table.
    pub table: String,
    /// The kernel command line.
    pub command_line: String,
    /// Whether there is a ticket.
    pub ticket: bool,
}

/// What the machine is and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Name of the image file that it was built from.
    pub image: String,
    /// Version of the image.
    pub version: String,
    /// Its role.
    pub role: String,
    /// dm-verity's root hash; none on a machine with a writable root.
    pub root_hash: Option<String>,
    /// Why the machine is no member of a cluster.
    pub waiting_for: String,
    /// Files that a seed has to bring.
    pub missing: Vec<String>,
}

impl Facts {
    /// Looks at this machine.
    ///
    /// # Errors
    /// When the machine does not run an image of rolecast.
    pub fn observe() -> Result<Self, Diagnostic> {
        let text = |path: &str| files::read(Path::new(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let table = text(TABLE).map_err(|error| {
            Diagnostic::error(Kind::World, "this machine does not run an image of rolecast").note(error.to_string())
        })?;
        let command_line = text("/proc/cmdline")?;
        Ok(Self { table, command_line, ticket: Path::new(TICKET).exists() })
    }
}

impl Status {
    /// What the facts mean.
    ///
    /// # Errors
    /// When the image's table is broken.
    pub fn of(facts: &Facts) -> Result<Self, Diagnostic> {
        let table: Table = serde_json::from_str(&facts.table).map_err(|error| {
            Diagnostic::error(Kind::World, format!("`{TABLE}` cannot be read: {error}"))
                .hint("the image is damaged: boot another one")
        })?;
        let root_hash = facts.command_line.split_whitespace().find_map(|word| word.strip_prefix("roothash="));
        let waiting_for = match facts.ticket {
            false => "a seed: nothing has told this machine who it is",
            true => "a later version of rolecast: this one cannot join a cluster",
        };
        Ok(Self {
            image: table.image,
            version: table.version,
            role: table.role,
            root_hash: root_hash.map(str::to_owned),
            waiting_for: waiting_for.to_owned(),
            missing: table.late.into_iter().map(|late| late.path).collect(),
        })
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let Self { image, version, role, waiting_for, .. } = self;
        let root = match &self.root_hash {
            Some(hash) => format!("sealed, root hash {hash}"),
            None => "writable, not sealed".to_owned(),
        };
        format!("{role} {version} of {image}\nroot: {root}\nwaiting for {waiting_for}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_says_what_it_is_and_what_it_waits_for() {
        let facts = Facts {
            table: r#"{"format":1,"image":"lab","version":"1","role":"rack","late":[{"path":"/etc/x"}],"state":[]}"#
                .to_owned(),
            command_line: "roothash=abc console=ttyS0\n".to_owned(),
            ticket: false,
        };
        let status = Status::of(&facts).unwrap();
        assert_eq!(status.root_hash.as_deref(), Some("abc"));
        assert_eq!(status.missing, ["/etc/x"]);
        assert!(status.to_text().contains("rack 1 of lab"), "{}", status.to_text());
        assert!(Status::of(&Facts { table: "{".into(), ..facts }).is_err());
    }
}
