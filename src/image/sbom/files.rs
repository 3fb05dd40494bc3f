//! The files of a root with both digests that SPDX 2.3 wants: SHA-1, which it demands, and SHA-256.
//!
//! The SHA-256 is the tree's. SHA-1s are made a group of files at a time, as the groups are compressed, and kept as
//! the result of a step: a file is read for its SHA-1 once in the life of a store, whichever roles hold it.

use std::collections::BTreeMap;
use std::io::Read as _;

use rayon::prelude::*;
use sha1::{Digest as _, Sha1};

use crate::digest::{Digest, Hasher, Key};
use crate::image::group;
use crate::image::press::Request;
use crate::report::{Diagnostic, Kind, Report};
use crate::store::{Store, StoreError};
use crate::sys::files::FileError;
use crate::tree::{Content, Origin};

/// Version of what is kept (a format break).
const VERSION: u32 = 1;

/// A file of the root.
pub struct Listed<'a> {
    /// Path without the leading `/`; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// SHA-1, hexadecimal.
    pub sha1: String,
    /// SHA-256.
    pub sha256: Digest,
    /// Name and version of the package that ships it as it is; none for what scripts, overlays or rolecast made.
    pub package: Option<(&'a str, &'a str)>,
}

/// Every regular file of the root in tree order, each name of a hard link by itself.
///
/// # Errors
/// When a content is missing from the store, or its bytes are not what its digest says.
pub fn list<'a>(request: &Request<'a>, store: &Store) -> Result<Vec<Listed<'a>>, Report> {
    let groups = group::groups(request.tree, request.layers, |_, node| node.content().is_some());
    let contents = group::contents(&groups);
    let made: Result<Vec<_>, Report> = contents.par_iter().map(|(_, contents)| digests(contents, store)).collect();
    let mut sha1s: BTreeMap<Digest, String> = BTreeMap::new();
    sha1s.insert(Digest::of(b""), hexadecimal(&Sha1::digest(b"")));
    for ((_, contents), made) in contents.iter().zip(made?) {
        sha1s.extend(contents.iter().map(|content| content.digest).zip(made));
    }
    let mut listed = Vec::new();
    for (path, node) in request.tree.iter() {
        let Some(content) = node.content() else { continue };
        let package = match node.origin.as_ref() {
            Origin::Package { name, version, .. } => Some((name.as_str(), version.as_str())),
            _ => None,
        };
        let sha1 = sha1s
            .get(&content.digest)
            .cloned()
            .ok_or_else(|| Diagnostic::error(Kind::Internal, format!("no SHA-1 was made for `/{path}`")))?;
        listed.push(Listed { path: path.to_string(), sha1, sha256: content.digest, package });
    }
    Ok(listed)
}

/// The SHA-1 of each content, in order, from the store where it has them.
fn digests(contents: &[Content], store: &Store) -> Result<Vec<String>, Report> {
    let mut named = Hasher::new();
    contents.iter().for_each(|content| named.update(content.digest.as_bytes()));
    let key = Key::new("sbom.sha1", VERSION).input("contents", named.finish());
    if let Some(known) = store.result::<Vec<String>>(&key)?
        && known.len() == contents.len()
    {
        return Ok(known);
    }
    let made: Result<Vec<String>, StoreError> = contents.iter().map(|content| digest(content, store)).collect();
    let made = made?;
    store.record(&key, Vec::new(), &made)?;
    Ok(made)
}

/// The SHA-1 of a content; bytes that are not the file's get none.
///
/// # Errors
/// When the content is missing, unreadable or altered.
pub fn digest(content: &Content, store: &Store) -> Result<String, StoreError> {
    let mut reader = store.reader(content)?;
    let mut sha1 = Sha1::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hexadecimal(&sha1.finalize())),
            Ok(read) => sha1.update(&buffer[..read]),
            // The reader's own word on altered bytes, or the file system's.
            Err(error) => {
                let path = store.object_path(&content.place.object);
                let unreadable = |source| FileError { doing: "read", path, source }.into();
                return Err(error.downcast::<StoreError>().unwrap_or_else(unreadable));
            }
        }
    }
}

/// Lower-case hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
