//! Which host key each machine of a cluster has, as an operator has accepted it.
//!
//! A file in the form of OpenSSH's `known_hosts` (sshd(8)), by node name, beside the secrets file. ssh reads it; only an
//! operator who has seen the fingerprint adds to it. Lines of other programs stay as they are.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::sys::files::{Context as _, FileError};
use crate::sys::{HostKey, private};

/// The file, which need not be there.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    path: PathBuf,
}

impl KnownHosts {
    /// What is kept at `path`.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The accepted key of a node.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn key(&self, node: &str) -> Result<Option<HostKey>, FileError> {
        Ok(named(&self.read()?, node))
    }

    /// Accepts a node's key, in the place of any that was accepted before.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn accept(&self, node: &str, key: &HostKey) -> Result<(), FileError> {
        let text = self.read()?;
        let others = text.lines().filter(|line| rest(line, node).is_none());
        let lines = others.map(str::to_owned).chain([format!("{node} {key}")]);
        private::write(&self.path, lines.map(|line| line + "\n").collect::<String>().as_bytes())
    }

    /// As an option of ssh's names it.
    pub(super) fn quoted(path: &Path) -> OsString {
        let mut quoted = OsString::from("\"");
        quoted.push(path);
        quoted.push("\"");
        quoted
    }

    fn read(&self) -> Result<String, FileError> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            read => read.on("read", &self.path),
        }
    }
}

/// The key of `node` in a text of that form.
pub(super) fn named(text: &str, node: &str) -> Option<HostKey> {
    text.lines().find_map(|line| HostKey::parse(rest(line, node)?))
}

/// What follows the name on a line of that node alone.
fn rest<'l>(line: &'l str, node: &str) -> Option<&'l str> {
    line.strip_prefix(node)?.strip_prefix([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> HostKey {
        HostKey::parse(&format!("ssh-ed25519 {text}")).unwrap()
    }

    #[test]
    fn a_key_is_kept_by_name_and_takes_the_place_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownHosts::at(folder.path().join("lab.known-hosts"));
        assert_eq!(known.key("rack-1").unwrap(), None);
        for (node, text) in [("rack-1", "AAAA"), ("rack-10", "AAAB"), ("rack-1", "AAAC")] {
            known.accept(node, &key(text)).unwrap();
        }
        assert_eq!(known.key("rack-1").unwrap(), Some(key("AAAC")));
        assert_eq!(known.key("rack-10").unwrap(), Some(key("AAAB")));
        assert_eq!(known.key("rack").unwrap(), None);
        let theirs = "# a comment\n@cert-authority *.example ssh-ed25519 AAAA\n";
        fs::write(known.path(), theirs).unwrap();
        known.accept("rack-1", &key("AAAA")).unwrap();
        assert_eq!(fs::read_to_string(known.path()).unwrap(), format!("{theirs}rack-1 ssh-ed25519 AAAA\n"));
    }
}
