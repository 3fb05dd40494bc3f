//! Stands between `systemd-sysupdate(8)` and the server of updates, and answers with what the machine has already.
//!
//! Each connection to the machine's own loopback port is one request (`rolecast-updates.socket`). The list of digests
//! and its signature come from the server as they are. Of a file that has a casync index beside it only those chunks
//! are fetched, by their place in the file, that the running version does not have; the others are read from its
//! slots. Whatever is amiss, the rest of the file comes whole. Owns no trust: what is sent was checked against the
//! index, and systemd checks it once more against the signed list. Writes nothing to a disk. Specifications: RFC 9110
//! (section 14: ranges), RFC 9112, `format::caibx`.

mod assemble;
mod held;
mod request;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::archive::{Client, TransferError};
use crate::digest::Digest;
use crate::format::caibx::{self, Index};
use crate::image::sums;
use crate::report::{Diagnostic, Kind};
use crate::sys::files;

use assemble::{Assembly, Broken};
use held::Held;
use request::Answer;

/// Longest list of digests, and longest signature, in bytes.
const SMALL: u64 = 1 << 20;

/// Longest file of an update, in bytes; systemd bounds each by what it is written to.
const LARGEST: u64 = 16 << 30;

/// How long a chunk is looked for in what is not read yet, while `systemd-pull` waits: it gives up after a minute.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where an image says where its updates are, from the machine's root.
const UPSTREAM: &str = "usr/lib/rolecast/updates";

/// Where the machine's programs find certificate authorities, from its root.
pub const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// What a relay works with.
pub struct Relay<'a> {
    /// The folder with the role's updates, `http`, `https` or `file`, without `/` at its end.
    pub upstream: &'a str,
    /// Who fetches.
    pub client: &'a Client,
    /// Where the machine has what a file of this name may have in common with.
    pub own: &'a dyn Fn(&str) -> Vec<PathBuf>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes that came from the server.
    pub fetched: u64,
    /// Bytes that the machine had.
    pub held: u64,
}

impl Relay<'_> {
    /// Answers the request on `input`; what was done is told through `say`.
    ///
    /// # Errors
    /// When the one who asks goes away. Trouble with the server is an answer.
    pub fn answer(
        &self,
        input: &mut dyn Read,
        output: &mut dyn Write,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), Diagnostic> {
        let gone = |error: io::Error| Diagnostic::error(Kind::World, format!("the connection broke: {error}"));
        let mut answer = Answer::new(output);
        let name = match request::read(input).map_err(gone)? {
            Ok(name) => name,
            Err(status) => return answer.refuse(status).map_err(gone),
        };
        let done = match name.as_str() {
            sums::SUMS | sums::SIGNATURE => self.small(&name).and_then(|bytes| {
                answer.write_all(&bytes).map_err(|source| TransferError::Sink { url: name.clone(), source })
            }),
            _ => self.file(&name, &mut answer, say).map(|moved| {
                if let Some(Moved { fetched, held }) = moved {
                    say(&format!("{name}: {fetched} bytes fetched, {held} were here"));
                }
            }),
        };
        match done {
            Ok(()) => answer.finish().map_err(gone),
            Err(error) => {
                say(&error.to_string());
                let status = if matches!(error, TransferError::NotFound { .. }) { 404 } else { 502 };
                answer.refuse(status).map_err(gone)
            }
        }
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.upstream)
    }

    fn small(&self, name: &str) -> Result<Vec<u8>, TransferError> {
        self.client.get(&self.url(name), SMALL)
    }

    /// Sends the file `name`; returns what came from where, when its index was of use.
    fn file(
        &self,
        name: &str,
        answer: &mut Answer<'_>,
        say: &mut dyn FnMut(&str),
    ) -> Result<Option<Moved>, TransferError> {
        let url = self.url(name);
        let own: Vec<PathBuf> = (self.own)(name).into_iter().filter(|path| path.exists()).collect();
        let index = match self.index(name) {
            Ok(index) if !own.is_empty() => index,
            Ok(_) => return self.client.stream(&url, LARGEST, answer).map(|()| None),
            Err(why) => {
                say(&format!("{name} is fetched whole: {why}"));
                return self.client.stream(&url, LARGEST, answer).map(|()| None);
            }
        };
        let held = Held::look(&own, &index);
        let assembly = Assembly { index: &index, client: self.client, url: &url, patience: PATIENCE };
        match assembly.send(held, answer) {
            Ok(moved) => Ok(Some(moved)),
            Err(Broken { sent, why }) if !answer.broken() => {
                say(&format!("{name} is fetched whole from byte {sent} on: {why}"));
                let mut rest = Skip { skip: sent, sink: answer };
                self.client.stream(&url, LARGEST, &mut rest).map(|()| None)
            }
            Err(Broken { why, .. }) => Err(why),
        }
    }

    /// The index of the file `name`, when the list vouches for it.
    fn index(&self, name: &str) -> Result<Index, String> {
        let list = self.small(sums::SUMS).map_err(|error| error.to_string())?;
        let list = sums::parse(&String::from_utf8_lossy(&list)).map_err(|error| error.to_string())?;
        let name = caibx::index_name(name);
        let digest = list.get(&name).ok_or_else(|| format!("`{name}` is not in the list"))?;
        let bytes = self.client.get(&self.url(&name), caibx::LONGEST).map_err(|error| error.to_string())?;
        if Digest::of(&bytes) != *digest {
            return Err(format!("`{name}` is not the one of the list"));
        }
        Index::read(&bytes).map_err(|error| format!("`{name}` is of no use: {error}"))
    }
}

/// The folder with this machine's updates, as its image says. `root` is `/` but in tests.
///
/// # Errors
/// When the image does not say.
pub fn upstream(root: &Path) -> Result<String, Diagnostic> {
    let text = files::read(&root.join(UPSTREAM)).map_err(Diagnostic::from)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// Where this machine, of role `role` and version `version`, has what a file of an update may have in common with: what
/// it runs. `root` is `/` but in tests.
pub fn own(root: &Path, role: &str, version: &str, name: &str) -> Vec<PathBuf> {
    match name.rsplit('.').next() {
        Some("root") => vec![root.join("dev/mapper/root")],
        Some("verity") => vec![root.join("dev/disk/by-partlabel").join(format!("verity_{version}"))],
        Some("efi") => {
            let kernels = ["efi", "boot"].map(|esp| root.join(esp).join("EFI/Linux"));
            let kernels = kernels.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
            let own = kernels.map(|entry| entry.path()).filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with(&format!("{role}_")) && name.ends_with(".efi")
            });
            own.collect()
        }
        _ => Vec::new(),
    }
}

/// A sink that leaves out the first bytes.
struct Skip<'a, W: ?Sized> {
    skip: u64,
    sink: &'a mut W,
}

impl<W: Write + ?Sized> Write for Skip<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        self.sink.write_all(&bytes[skipped as usize..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
