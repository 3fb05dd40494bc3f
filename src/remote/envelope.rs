//! How a result travels: the record of its value and its blobs, under the signature of who made it.
//!
//! One file, so that no reader sees the record of one writer under the signature of another: a line with the signature in
//! base64 (or `unsigned`), then the record, in JSON, exactly as it was signed. The record begins with a text that stands in
//! no other thing that the same key signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::archive::{Keyring, Policy, verify_detached};
use crate::digest::Digest;
use crate::report::{Diagnostic, Kind, Report};
use crate::sign::Signer;
use crate::store::Parcel;

use super::place::Name;

/// What a record is; changes with its form.
const FORMAT: &str = "rolecast shared result 1";

/// Stands where a signature would.
const UNSIGNED: &[u8] = b"unsigned";

/// Most bytes of a signature, in base64.
const LONGEST_SIGNATURE: usize = 64 << 10;

/// An object and the blob that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Digest of the object.
    pub object: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Digest of the blob.
    pub blob: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// Whether the blob is a zstd frame of the object (RFC 8878), or the object itself.
    pub zstd: bool,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: String,
    step: String,
    key: Digest,
    /// The result's file as a store keeps it.
    result: String,
    /// By object.
    blobs: Vec<Blob>,
}

/// Who is believed.
#[derive(Debug)]
pub enum Trust {
    /// Whoever signs with a key of this keyring. The time judges expiry, in seconds since the Epoch.
    Keyring(Box<Keyring>, i64),
    /// Everybody who can write there: the user said so.
    Anybody,
}

/// A record that is believed.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The result.
    pub parcel: Parcel,
    /// The blobs of its objects.
    pub blobs: Vec<Blob>,
}

/// Why a record is not believed: the link that broke, and facts about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong, as the end of a sentence about the record.
    pub what: String,
    /// Facts.
    pub notes: Vec<String>,
}

impl Refused {
    fn new(what: &str) -> Self {
        Self { what: what.to_owned(), notes: Vec::new() }
    }

    /// As told to a person; `place` and `name` say which record.
    pub fn diagnostic(self, place: &str, name: &Name) -> Diagnostic {
        let message = format!("the record of a result in `{place}` {}", self.what);
        let diagnostic = Diagnostic::error(Kind::Trust, message).note(format!("it is `{} {}`", name.step, name.key));
        self.notes.into_iter().fold(diagnostic, Diagnostic::note)
    }
}

/// Writes and signs the record of a result.
///
/// # Errors
/// When the key does not sign.
pub fn seal(parcel: &Parcel, blobs: &[Blob], signer: Option<&Signer>) -> Result<Vec<u8>, Report> {
    let internal = |error: &dyn std::fmt::Display| Diagnostic::error(Kind::Internal, error.to_string());
    let record = Record {
        format: FORMAT.to_owned(),
        step: parcel.step.clone(),
        key: parcel.key,
        result: String::from_utf8(parcel.bytes.clone()).map_err(|error| internal(&error))?,
        blobs: blobs.to_vec(),
    };
    let record = serde_json::to_vec(&record).map_err(|error| internal(&error))?;
    let mut bytes = match signer {
        // Dated by the key's beginning, so that the same result has the same record whoever's turn it is.
        Some(signer) => STANDARD.encode(signer.sign(&record, 0)?).into_bytes(),
        None => UNSIGNED.to_vec(),
    };
    bytes.push(b'\n');
    bytes.extend(record);
    Ok(bytes)
}

/// Judges the bytes that stand under `name`: who signed them, that they are that result's, and that they are whole.
///
/// # Errors
/// With the link that broke.
pub fn open(bytes: &[u8], name: &Name, trust: &Trust) -> Result<Opened, Refused> {
    let end = bytes.iter().take(LONGEST_SIGNATURE).position(|byte| *byte == b'\n');
    let (signature, record) =
        end.map(|end| (&bytes[..end], &bytes[end + 1..])).ok_or_else(|| Refused::new("is none"))?;
    if let Trust::Keyring(keyring, now) = trust {
        if signature == UNSIGNED {
            return Err(Refused::new("is not signed"));
        }
        let signature = STANDARD.decode(signature).map_err(|_| Refused::new("is none"))?;
        let policy = Policy { keyring, pins: &[], now: *now, outlived: false };
        verify_detached(record, &signature, policy).map_err(|error| Refused {
            what: "is not signed by a key that is believed".to_owned(),
            notes: error.reasons(),
        })?;
    }
    let record: Record = serde_json::from_slice(record).map_err(|_| Refused::new("does not read"))?;
    if record.format != FORMAT {
        return Err(Refused::new("is of another form than this rolecast knows"));
    }
    if (record.step.as_str(), record.key) != (name.step.as_str(), name.key) {
        let notes = vec![format!("it says that it is `{} {}`", record.step, record.key)];
        return Err(Refused { what: "stands under another result's name".to_owned(), notes });
    }
    let parcel =
        Parcel::read(record.result.into_bytes()).ok_or_else(|| Refused::new("holds a result that is altered"))?;
    if (parcel.step.as_str(), parcel.key) != (name.step.as_str(), name.key) {
        return Err(Refused::new("holds another result than its name says"));
    }
    if !parcel.objects.iter().eq(record.blobs.iter().map(|blob| &blob.object)) {
        return Err(Refused::new("names other objects than its result needs"));
    }
    Ok(Opened { parcel, blobs: record.blobs })
}
