//! What a role's outputs are made of, kept: from this alone they are written again, here or on another machine.
//!
//! The tree that they came from is not needed for it, nor the packages, nor a lint's second look: what was kept had passed.
//!
//! What is in no object yet (tables, hash trees, documents) is cut into chunks where its bytes say so, and these are
//! compressed: of what a change leaves as it was, the store has the chunks already.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zstd::bulk::Compressor;

use crate::digest::{Digest, Key};
use crate::format::caibx::{Chunks, LARGEST};
use crate::format::{Bytes, Recipe};
use crate::plan::materials::Material;
use crate::plan::{self, Format};
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::store::{Store, Wanted};
use crate::sys::files;
use crate::tree::Content;

use super::manifest::Manifest;
use super::press::{self, Pressed};
use super::provenance;

/// The step that is kept.
pub const STEP: &str = "role.recipes";

/// Version of how it is kept (a format break).
const VERSION: u32 = 3;

/// zstd's level for chunks: most of their text repeats itself, so more is hardly less.
const LEVEL: i32 = 1;

/// Why outputs do not come out as they were: never seen with a sound store.
const UNSOUND: &str = "the outputs cannot be written again from what was kept of them";

/// The outputs of a role, as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    manifest: Manifest,
    /// What every file that the manifest names is made of: [`Listed`] as JSON, in chunks.
    recipes: Vec<Stored>,
}

/// A chunk: the object that it is compressed to, and that one's size.
type Stored = (Digest, u64);

#[derive(Serialize, Deserialize)]
struct Listed {
    /// The chunks of what is in no object of its own.
    chunks: Vec<Stored>,
    /// The pieces of each file, by name.
    files: BTreeMap<String, Vec<Piece>>,
}

/// A piece of a recipe: origin, length, and where it is no zeros its place.
type Piece = (String, u64, Option<Place>);

/// Where bytes are kept: in an object or one of the chunks, from which byte.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
enum Place {
    Chunk(usize, u64),
    Object(Digest, u64),
}

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
    let mut listed = Listed { chunks: literals.stored(), files: BTreeMap::new() };
    for (file, recipe) in files.iter() {
        let pieces = listed.files.entry(file.clone()).or_default();
        for leaf in recipe.leaves() {
            let mut push = |length: u64, place: Option<Place>| pieces.push((leaf.origin.to_string(), length, place));
            match leaf.bytes {
                Bytes::Object { object, offset, length } => {
                    objects.insert(*object);
                    push(*length, Some(Place::Object(*object, *offset)));
                }
                Bytes::Literal(bytes) => {
                    literals.places(bytes).for_each(|(chunk, offset, length)| {
                        push(length, Some(Place::Chunk(chunk, offset)));
                    });
                }
                Bytes::Zeros(length) => push(*length, None),
                Bytes::Recipe(_) => {}
            }
        }
    }
    let text = serde_json::to_vec(&listed).map_err(|error| Diagnostic::error(Kind::Internal, error.to_string()))?;
    let recipes: Vec<Stored> = put_chunks(store, &text)?.into_iter().map(|(_, stored)| stored).collect();
    objects.extend(recipes.iter().chain(&listed.chunks).map(|(object, _)| *object));
    let kept = Kept { manifest: pressed.manifest.clone(), recipes };
    Ok(store.record(&key(outputs), objects.into_iter().collect(), &kept)?)
}

/// Stores bytes in chunks; returns the length of each and where it is, in order.
fn put_chunks(store: &Store, bytes: &[u8]) -> Result<Vec<(u64, Stored)>, Report> {
    let mut stored = Vec::new();
    let mut chunks = Chunks::new(bytes);
    let failed = |error: std::io::Error| Diagnostic::error(Kind::Internal, error.to_string());
    let mut compressor = Compressor::new(LEVEL).map_err(failed)?;
    while let Some(chunk) = chunks.cut().map_err(failed)? {
        let packed = compressor.compress(chunk).map_err(failed)?;
        stored.push((chunk.len() as u64, (store.put(&packed)?, packed.len() as u64)));
    }
    Ok(stored)
}

/// Reads chunks; none when one is not what it was stored as.
fn read_chunks(store: &Store, chunks: &[Stored]) -> Result<Option<Vec<Arc<[u8]>>>, Report> {
    store.bring(chunks.iter().map(|(object, _)| *object), &|_| {})?;
    let mut read = Vec::new();
    for (object, size) in chunks {
        let packed = store.read(&Content::whole(*object, *size))?;
        let Ok(chunk) = zstd::bulk::decompress(&packed, LARGEST) else { return Ok(None) };
        read.push(chunk.into());
    }
    Ok(Some(read))
}

/// The literal bytes of recipes, each run once, one after another in chunks.
struct Literals<'a> {
    /// Where each begins.
    starts: BTreeMap<&'a [u8], u64>,
    /// The chunks: where each begins, its length, where it is.
    chunks: Vec<(u64, u64, Stored)>,
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
        let chunks = put_chunks(store, &bytes)?.into_iter().map(|(length, stored)| {
            start += length;
            (start - length, length, stored)
        });
        Ok(Self { starts, chunks: chunks.collect() })
    }

    fn stored(&self) -> Vec<Stored> {
        self.chunks.iter().map(|(.., stored)| *stored).collect()
    }

    /// Where a literal is: chunks, offsets in them, lengths.
    fn places(&self, literal: &[u8]) -> impl Iterator<Item = (usize, u64, u64)> {
        let start = self.starts.get(literal).copied().unwrap_or_default();
        let end = start + literal.len() as u64;
        let first = self.chunks.partition_point(|(begin, length, _)| begin + length <= start);
        let within = self.chunks.iter().enumerate().skip(first).take_while(move |(_, (begin, ..))| *begin < end);
        within.map(move |(chunk, (begin, length, _))| {
            let (from, to) = (start.max(*begin), end.min(begin + length));
            (chunk, from - begin, to - from)
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
/// returns their manifest, none when there is no such thing.
///
/// # Errors
/// When the store or the directory fail, or something comes out otherwise than it was.
pub fn write(
    store: &Store,
    outputs: &Key,
    part: Option<Part<'_>>,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<Option<Manifest>, Report> {
    let Some(kept) = store.result::<Kept>(&key(outputs))? else { return Ok(None) };
    let unsound = || Report::from(Diagnostic::error(Kind::Internal, UNSOUND));
    let Kept { mut manifest, recipes } = kept;
    let text = read_chunks(store, &recipes)?.ok_or_else(unsound)?.concat();
    let Listed { chunks, files } = serde_json::from_slice(&text).map_err(|_| unsound())?;
    let chunks = read_chunks(store, &chunks)?.ok_or_else(unsound)?;
    let recipes = files.into_iter().map(|(file, pieces)| Some((file, recipe(pieces, &chunks)?)));
    let mut recipes: BTreeMap<String, Recipe> = recipes.collect::<Option<_>>().ok_or_else(unsound)?;
    if let Some(part) = part {
        let statement = recipes.get(provenance::NAME).ok_or_else(unsound)?;
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
        .map(|((file, recipe), digest)| Wanted { recipe, path: directory.join(file), expected: Some(digest) })
        .collect();
    press::pour(&manifest.role, &wanted, directory, store, progress)?;
    let text = manifest.to_text().map_err(|error| Diagnostic::error(Kind::Internal, error.to_string()))?;
    press::list(&manifest, text.as_bytes(), directory)?;
    Ok(Some(manifest))
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

/// The recipe of these pieces; none when one is in no chunk.
fn recipe(pieces: Vec<Piece>, chunks: &[Arc<[u8]>]) -> Option<Recipe> {
    let mut recipe = Recipe::new();
    for (origin, length, place) in pieces {
        let bytes = match place {
            Some(Place::Object(object, offset)) => Bytes::Object { object, offset, length },
            Some(Place::Chunk(chunk, offset)) => {
                let (start, end) = (usize::try_from(offset).ok()?, usize::try_from(offset.checked_add(length)?).ok()?);
                Bytes::Literal(chunks.get(chunk)?.get(start..end)?.into())
            }
            None => Bytes::Zeros(length),
        };
        recipe.push(bytes, origin);
    }
    Some(recipe)
}
