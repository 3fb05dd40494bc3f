//! The results of a press's many small steps, told together: whoever shares a store asks once, not a thousand times.
//!
//! Under the name of the configured tree, because most parts are of packages: another overlay changes few. So this is a
//! guide and no step: of two writers' lists either serves, and each result in it counts under its own key alone.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Key};
use crate::plan::Format;
use crate::report::Report;
use crate::store::{Parcel, Store};

/// The step under which lists are kept.
pub const STEP: &str = "image.parts";

/// Version of the lists (a format break).
const VERSION: u32 = 1;

/// What is told together, and the steps of it.
const KINDS: [(&str, &[&str]); 3] =
    [("root", &["squashfs.segment", "verity.leaves"]), ("tarball", &["tar.member"]), ("bill", &["sbom.sha1"])];

/// The files of results.
#[derive(Serialize, Deserialize)]
struct Parts {
    results: Vec<String>,
}

/// The keys of what `formats` need over the configured tree `base`.
pub fn keys(base: &Digest, formats: &[Format]) -> Vec<Key> {
    let wanted = |kind: &str| match kind {
        "root" => formats.iter().any(|format| *format != Format::Tar),
        "tarball" => formats.contains(&Format::Tar),
        _ => true,
    };
    let kinds = KINDS.iter().filter(|(kind, _)| wanted(kind));
    kinds.map(|(kind, _)| key(kind, base)).collect()
}

fn key(kind: &str, base: &Digest) -> Key {
    Key::new(STEP, VERSION).input("of", kind).input("base", base)
}

/// Takes what others made of the parts.
///
/// # Errors
/// When the store cannot be read or written.
pub fn take(store: &Store, base: &Digest, formats: &[Format]) -> Result<(), Report> {
    let keys = keys(base, formats);
    store.ask(&keys)?;
    for key in &keys {
        let Some(parts) = store.result::<Parts>(key)? else { continue };
        let parcels = parts.results.into_iter().filter_map(|text| Parcel::read(text.into_bytes()));
        for parcel in parcels.filter(|parcel| KINDS.iter().any(|(_, steps)| steps.contains(&parcel.step.as_str()))) {
            store.adopt(&parcel)?;
        }
    }
    store.take_used();
    Ok(())
}

/// Tells together what was used since [`take`].
///
/// # Errors
/// When the store cannot be read or written.
pub fn tell(store: &Store, base: &Digest) -> Result<(), Report> {
    let used = store.take_used();
    for (kind, steps) in KINDS {
        let mut parts = Parts { results: Vec::new() };
        let mut objects = BTreeSet::new();
        for (step, key) in used.iter().filter(|(step, _)| steps.contains(&step.as_str())) {
            let Some(parcel) = store.parcel(step, key)? else { continue };
            objects.extend(parcel.objects);
            parts.results.extend(String::from_utf8(parcel.bytes));
        }
        if !parts.results.is_empty() {
            store.record(&key(kind, base), objects.into_iter().collect(), &parts)?;
        }
    }
    Ok(())
}
