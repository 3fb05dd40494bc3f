//! The results of a press's many small steps, told together: whoever shares a store asks once, not a thousand times.
//!
//! Under the name of the configured tree, because most parts are of packages: another overlay changes few. So this is a
//! guide and no step: of two writers' lists either serves, and each result in it counts under its own key alone.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Key};
use crate::plan::{self, Format};
use crate::report::Report;
use crate::store::{Parcel, Store};

/// The step under which lists are kept.
pub const STEP: &str = "image.parts";

/// Version of the lists (a format break).
const VERSION: u32 = 1;

/// What is told together, and the steps of it.
const KINDS: [(&str, &[&str]); 3] = [
    ("root", &["squashfs.segment", "verity.leaves", "kernel"]),
    ("tarball", &["tar.member"]),
    ("bill", &["sbom.sha1"]),
];

/// The step that notes which results a list in this store has, so that it need not be read to know.
const NOTE: &str = "image.parts.told";

/// A list is written anew when more than one in so many of what was used is not in it.
const STALE: usize = 16;

/// The files of results.
#[derive(Serialize, Deserialize)]
struct Parts {
    results: Vec<String>,
}

/// Steps and keys.
type Used = BTreeSet<(String, Digest)>;

/// The keys of what `formats` need over the configured tree `base`.
pub fn keys(base: &Digest, formats: &[Format]) -> Vec<Key> {
    kinds(formats).map(|(kind, _)| key(kind, base)).collect()
}

fn kinds(formats: &[Format]) -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    KINDS.into_iter().filter(|(kind, _)| match *kind {
        "root" => plan::boots(formats),
        "tarball" => formats.contains(&Format::Tar),
        _ => true,
    })
}

fn key(kind: &str, base: &Digest) -> Key {
    named(STEP, kind, base)
}

fn named(step: &'static str, kind: &str, base: &Digest) -> Key {
    Key::new(step, VERSION).input("of", kind).input("base", base)
}

/// Takes what others made of the parts, where this store has not done so yet, nor made them itself.
///
/// # Errors
/// When the store cannot be read or written.
pub fn take(store: &Store, base: &Digest, formats: &[Format]) -> Result<(), Report> {
    let mut wanted = Vec::new();
    for (kind, steps) in kinds(formats) {
        if !store.knows(&named(NOTE, kind, base))? {
            wanted.push((kind, steps));
        }
    }
    store.ask(&wanted.iter().map(|(kind, _)| key(kind, base)).collect::<Vec<Key>>())?;
    for (kind, steps) in wanted {
        let Some(parts) = store.result::<Parts>(&key(kind, base))? else { continue };
        let mut taken = Used::new();
        let parcels = parts.results.into_iter().filter_map(|text| Parcel::read(text.into_bytes()));
        for parcel in parcels.filter(|parcel| steps.contains(&parcel.step.as_str())) {
            store.adopt(&parcel)?;
            taken.insert((parcel.step, parcel.key));
        }
        store.record(&named(NOTE, kind, base), Vec::new(), &taken)?;
    }
    store.take_used();
    Ok(())
}

/// Tells together what was used since [`take`], unless a list that is there has nearly all of it.
///
/// # Errors
/// When the store cannot be read or written.
pub fn tell(store: &Store, base: &Digest) -> Result<(), Report> {
    let used = store.take_used();
    for (kind, steps) in KINDS {
        let used: Used = used.iter().filter(|(step, _)| steps.contains(&step.as_str())).cloned().collect();
        let (key, note) = (key(kind, base), named(NOTE, kind, base));
        let told = store.result::<Used>(&note)?.filter(|_| store.keeps(&key)).unwrap_or_default();
        if used.difference(&told).count() <= used.len() / STALE {
            continue;
        }
        let mut parts = Parts { results: Vec::new() };
        let mut objects = BTreeSet::new();
        for (step, key) in &used {
            let Some(parcel) = store.parcel(step, key)? else { continue };
            objects.extend(parcel.objects);
            parts.results.extend(String::from_utf8(parcel.bytes));
        }
        store.record(&key, objects.into_iter().collect(), &parts)?;
        store.record(&note, Vec::new(), &used)?;
    }
    Ok(())
}
