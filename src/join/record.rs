//! The join's record: what a machine remembers across restarts and reboots.
//!
//! Owns where the record is and how it is read and kept: on state, root's alone, durable before the action that must not
//! be forgotten. Its form is [`Record`]; what it means is the steps'. A damaged record is never taken for an empty one:
//! that would be a machine that has forgotten that it was a member.

use std::io;
use std::path::Path;

use super::durable::{self, Belongs};
use super::world::Record;
use crate::report::{Diagnostic, Kind};
use crate::sys::FileError;

/// Where the record is kept.
pub const PATH: &str = "/var/lib/rolecast/join.json";

/// The version of the form that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Reads the record; a machine that never joined has an empty one. `root` is `/` but in tests.
///
/// # Errors
/// When it is damaged or of a newer form: a person has to decide.
pub fn read(root: &Path) -> Result<Record, Diagnostic> {
    let path = root.join(PATH.trim_start_matches('/'));
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Record { format: FORMAT, ..Record::default() });
        }
        Err(error) => return Err(Diagnostic::error(Kind::World, format!("cannot read `{PATH}`: {error}"))),
    };
    let unreadable = |why: String| {
        Diagnostic::error(Kind::World, format!("the join's record `{PATH}` {why}"))
            .note("without it this machine does not know whether it was a member of etcd")
    };
    let record: Record = serde_json::from_slice(&text).map_err(|error| {
        unreadable(format!("is damaged: {error}"))
            .hint("re-image the machine with an empty state: it is then replaced in the cluster")
    })?;
    match record.format <= FORMAT {
        true => Ok(record),
        false => Err(unreadable(format!("has format {}, newer than this image's {FORMAT}", record.format))
            .hint("boot the newer image again")),
    }
}

/// Keeps the record, durably.
///
/// # Errors
/// When state cannot be written.
pub fn keep(root: &Path, record: &Record) -> Result<(), FileError> {
    // A value of plain fields always serializes.
    let text = serde_json::to_string_pretty(record).unwrap_or_default() + "\n";
    durable::write(root, Path::new(PATH), text.as_bytes(), Belongs::mine())
}

#[cfg(test)]
mod tests {
    use super::super::world::EtcdRecord;
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_damaged_one_is_not_an_empty_one() {
        let root = tempfile::tempdir().unwrap();
        let fresh = read(root.path()).unwrap();
        assert_eq!((fresh.etcd, fresh.format), (EtcdRecord::Never, FORMAT));
        let record = Record { etcd: EtcdRecord::Member, database_begun: true, ..fresh };
        keep(root.path(), &record).unwrap();
        assert_eq!(read(root.path()).unwrap(), record);
        keep(root.path(), &Record { format: FORMAT + 1, ..record }).unwrap();
        assert!(read(root.path()).unwrap_err().message.contains("newer"));
        std::fs::write(root.path().join(PATH.trim_start_matches('/')), "{\"etcd\":").unwrap();
        assert!(read(root.path()).unwrap_err().message.contains("damaged"));
    }
}
