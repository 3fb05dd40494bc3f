//! What a role's outputs are made of, kept: from this alone they are written again, here or on another machine.
//!
//! The tree that they came from is not needed for it, nor the packages, nor a lint's second look: what was kept had passed.
//!
//! What is in no object yet (tables, hash trees, documents) is cut into chunks where its bytes say so: of what a change
//! leaves as it was, the store has the chunks already.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Key};
use crate::format::caibx::Chunks;
use crate::format::{Bytes, Recipe};
use crate::plan::materials::Material;
use crate::plan::{self, Format};
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::store::{Store, Wanted};
use crate::sys::files;

use super::manifest::Manifest;
use super::press::{self, Pressed};
use super::provenance;

/// The step that is kept.
pub const STEP: &str = "role.recipes";

/// Version of how it is kept (a format break).
const VERSION: u32 = 2;

/// Why outputs do not come out as they were: never seen with a sound store.
const UNSOUND: &str = "the outputs cannot be written again from what was kept of them";

/// The outputs of a role, as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    manifest: Manifest,
    /// What every file that the manifest names is made of, by name: JSON, in chunks.
    recipes: Vec<Stored>,
}

/// An object and its size.
type Stored = (Digest, u64);

/// A piece of a recipe: origin, length, and the object and offset where it is no zeros.
type Piece = (String, u64, Option<(Digest, u64)>);

/// The key of what is kept of the outputs `outputs`; names the root that they hold.
pub fn key(outputs: &Key) -> Key {
    let root = outputs.inputs().iter().find(|(name, _)| name == "root").map_or("", |(_, value)| value);
    Key::new(STEP, VERSION).input("outputs", outputs.digest()).input("root", root)
}

/// Keeps what was pressed into `directory`.
///
/// # Errors
/// When the directory cannot be read, or the store not written.
pub fn keep(store: &Store, outputs: &Key, directory: &Path, pressed: &Pressed) -> Result<(), Report> {
    let mut files = pressed.recipes.clone();
    let names = pressed.manifest.documents.iter().map(|document| document.file.as_str());
    for name in names {
        let bytes = files::read(&directory.join(name)).map_err(Diagnostic::from)?;
        let mut recipe = Recipe::new();
        recipe.literal(bytes, name);
        files.insert(name.to_owned(), recipe);
    }
    let literals = Literals::store(&files, store)?;
    let mut objects = BTreeSet::new();
    let mut listed: BTreeMap<&str, Vec<Piece>> = BTreeMap::new();
    for (file, recipe) in &files {
        let pieces = listed.entry(file).or_default();
        for leaf in recipe.leaves() {
            let mut push = |length: u64, place: Option<(Digest, u64)>| {
                objects.extend(place.map(|(object, _)| object));
                pieces.push((leaf.origin.to_string(), length, place));
            };
            match leaf.bytes {
                Bytes::Object { object, offset, length } => push(*length, Some((*object, *offset))),
                Bytes::Literal(bytes) => {
                    literals.places(bytes).for_each(|(object, offset, length)| push(length, Some((object, offset))));
                }
                Bytes::Zeros(length) => push(*length, None),
                Bytes::Recipe(_) => {}
            }
        }
    }
    let text = serde_json::to_vec(&listed).map_err(|error| Diagnostic::error(Kind::Internal, error.to_string()))?;
    let recipes = put_chunks(store, &text)?;
    objects.extend(recipes.iter().map(|(object, _)| *object));
    let kept = Kept { manifest: pressed.manifest.clone(), recipes };
    Ok(store.record(&key(outputs), objects.into_iter().collect(), &kept)?)
}

/// Stores bytes in chunks; returns these in their order.
fn put_chunks(store: &Store, bytes: &[u8]) -> Result<Vec<Stored>, Report> {
    let mut stored = Vec::new();
    let mut chunks = Chunks::new(bytes);
    let failed = |error: std::io::Error| Diagnostic::error(Kind::Internal, error.to_string());
    while let Some(chunk) = chunks.cut().map_err(failed)? {
        stored.push((store.put(chunk)?, chunk.len() as u64));
    }
    Ok(stored)
}

/// The literal bytes of recipes, each run once, one after another in chunks.
struct Literals<'a> {
    /// Where each begins.
    starts: BTreeMap<&'a [u8], u64>,
    /// The chunks and where they begin.
    chunks: Vec<(u64, Stored)>,
}

impl<'a> Literals<'a> {
    fn store(files: &'a BTreeMap<String, Recipe>, store: &Store) -> Result<Self, Report> {
        let mut starts = BTreeMap::new();
        let mut bytes: Vec<u8> = Vec::new();
        for leaf in files.values().flat_map(Recipe::leaves) {
            if let Bytes::Literal(literal) = leaf.bytes {
                starts.entry(&**literal).or_insert_with(|| {
                    let start = bytes.len() as u64;
                    bytes.extend_from_slice(literal);
                    start
                });
            }
        }
        let mut start = 0;
        let stored = put_chunks(store, &bytes)?.into_iter();
        let chunks = stored.map(|chunk| {
            start += chunk.1;
            (start - chunk.1, chunk)
        });
        Ok(Self { starts, chunks: chunks.collect() })
    }

    /// Where a literal is: objects, offsets in them, lengths.
    fn places(&self, literal: &[u8]) -> impl Iterator<Item = (Digest, u64, u64)> {
        let start = self.starts.get(literal).copied().unwrap_or_default();
        let end = start + literal.len() as u64;
        let first = self.chunks.partition_point(|(begin, (_, length))| begin + length <= start);
        let within = self.chunks[first..].iter().take_while(move |(begin, _)| *begin < end);
        within.map(move |(begin, (object, length))| {
            let (from, to) = (start.max(*begin), end.min(begin + length));
            (*object, from - begin, to - from)
        })
    }
}

/// Some of a role's outputs.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Their formats.
    pub formats: &'a [Format],
    /// What went into them.
    pub materials: &'a [Material],
}

/// Writes the outputs that were kept under `outputs` into `directory`, or a part of them as if it alone had been built;
/// none when there is no such thing.
///
/// # Errors
/// When the store or the directory fail, or something comes out otherwise than it was.
pub fn write(
    store: &Store,
    outputs: &Key,
    part: Option<Part<'_>>,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<Option<Pressed>, Report> {
    let Some(kept) = store.result::<Kept>(&key(outputs))? else { return Ok(None) };
    let unsound = || Report::from(Diagnostic::error(Kind::Internal, UNSOUND));
    let Kept { mut manifest, recipes } = kept;
    store.bring(recipes.iter().map(|(object, _)| *object), &|_| {})?;
    let mut text = Recipe::new();
    recipes
        .iter()
        .for_each(|(object, length)| text.push(Bytes::Object { object: *object, offset: 0, length: *length }, STEP));
    let text = store.bytes_of(&text)?;
    let listed: BTreeMap<String, Vec<Piece>> = serde_json::from_slice(&text).map_err(|_| unsound())?;
    let mut recipes: BTreeMap<String, Recipe> =
        listed.into_iter().map(|(file, pieces)| (file, recipe(pieces))).collect();
    if let Some(part) = part {
        let statement = recipes.get(provenance::NAME).ok_or_else(unsound)?;
        store.bring(objects(statement), &|_| {})?;
        let statement = store.bytes_of(statement)?;
        let statement = narrow(&mut manifest, &statement, part).ok_or_else(unsound)?;
        let mut recipe = Recipe::new();
        recipe.literal(statement, provenance::NAME);
        recipes.insert(provenance::NAME.to_owned(), recipe);
        recipes.retain(|file, _| manifest.files().any(|(name, _)| name == file));
    }
    let expected: BTreeMap<&str, Digest> = manifest.files().collect();
    if !recipes.keys().map(String::as_str).eq(expected.keys().copied()) || !recipes.keys().all(|file| is_inside(file)) {
        return Err(unsound());
    }
    let objects: BTreeSet<Digest> = recipes.values().flat_map(objects).collect();
    let lacking = objects.iter().filter(|object| !store.has(object)).count();
    if lacking > 0 {
        let task = progress.begin(&format!("bring {}", manifest.role), lacking as u64, Unit::Things);
        store.bring(objects, &|count| task.advance(count))?;
    }
    let wanted: Vec<Wanted<'_>> = recipes
        .iter()
        .zip(expected.into_values())
        .map(|((file, recipe), digest)| Wanted { recipe, path: Some(directory.join(file)), expected: Some(digest) })
        .collect();
    press::pour(&manifest.role, &wanted, directory, store, progress)?;
    let text = manifest.to_text().map_err(|error| Diagnostic::error(Kind::Internal, error.to_string()))?;
    press::list(&manifest, text.as_bytes(), directory)?;
    recipes.retain(|file, _| manifest.outputs.iter().any(|output| output.file == *file));
    Ok(Some(Pressed { manifest, recipes }))
}

/// Makes the manifest what it is where `part` alone is built of the same root, and returns the provenance of that; none when
/// `statement` is not what the manifest names.
fn narrow(manifest: &mut Manifest, statement: &[u8], part: Part<'_>) -> Option<Vec<u8>> {
    let Part { formats, materials } = part;
    manifest.outputs.retain(|output| formats.contains(&output.format));
    if !plan::boots(formats) {
        (manifest.root, manifest.boot) = (None, None);
    }
    if let Some(boot) = manifest.boot.as_mut().filter(|_| !press::holds_uki(formats)) {
        boot.pcr11.clear();
    }
    let subjects = manifest.files().filter(|(file, _)| *file != provenance::NAME);
    let subjects: Vec<(String, Digest)> = subjects.map(|(file, sha256)| (file.to_owned(), sha256)).collect();
    let text = provenance::narrowed(statement, formats, &subjects, materials)?;
    let document = manifest.documents.iter_mut().find(|document| document.file == provenance::NAME)?;
    (document.size, document.sha256) = (text.len() as u64, Digest::of(&text));
    Some(text)
}

/// The objects that a recipe needs.
fn objects(recipe: &Recipe) -> impl Iterator<Item = Digest> {
    recipe.leaves().filter_map(|leaf| match leaf.bytes {
        Bytes::Object { object, .. } => Some(*object),
        _ => None,
    })
}

/// Whether a path leads into the directory that it starts from.
fn is_inside(file: &str) -> bool {
    !file.split('/').any(|part| matches!(part, "" | "." | "..")) && !file.contains('\0')
}

fn recipe(pieces: Vec<Piece>) -> Recipe {
    let mut recipe = Recipe::new();
    for (origin, length, place) in pieces {
        let bytes = match place {
            Some((object, offset)) => Bytes::Object { object, offset, length },
            None => Bytes::Zeros(length),
        };
        recipe.push(bytes, origin);
    }
    recipe
}
