//! What a role's outputs are made of, kept: from this alone they are written again, here or on another machine.
//!
//! The tree that they came from is not needed for it, nor the packages, nor a lint's second look: what was kept had passed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Key};
use crate::format::{Bytes, Recipe};
use crate::report::{Diagnostic, Kind, Progress, Report, Unit};
use crate::store::{Store, StoreError};
use crate::sys::files;
use crate::tree::Content;

use super::manifest::Manifest;
use super::press::{self, Pressed};

/// The step that is kept.
pub const STEP: &str = "role.recipes";

/// Version of how it is kept (a format break).
const VERSION: u32 = 1;

/// Why outputs do not come out as they were: never seen with a sound store.
const UNSOUND: &str = "the outputs cannot be written again from what was kept of them";

/// The outputs of a role, as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    manifest: Manifest,
    /// The manifest's file, and those of the documents: by name.
    texts: BTreeMap<String, Stored>,
    /// The stored recipes.
    recipes: Stored,
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
    let put = |bytes: &[u8]| -> Result<Stored, StoreError> { Ok((store.put(bytes)?, bytes.len() as u64)) };
    let (literals, _) = put(&literals(&pressed.recipes))?;
    let mut at = 0;
    let mut objects = BTreeSet::new();
    let mut listed: BTreeMap<&str, Vec<Piece>> = BTreeMap::new();
    for (file, recipe) in &pressed.recipes {
        let pieces = listed.entry(file).or_default();
        for leaf in recipe.leaves() {
            let length = leaf.bytes.length();
            let place = match leaf.bytes {
                Bytes::Object { object, offset, .. } => Some((*object, *offset)),
                Bytes::Literal(_) => {
                    at += length;
                    Some((literals, at - length))
                }
                Bytes::Zeros(_) | Bytes::Recipe(_) => None,
            };
            objects.extend(place.map(|(object, _)| object));
            pieces.push((leaf.origin.to_string(), length, place));
        }
    }
    let text = serde_json::to_vec(&listed).map_err(|error| Diagnostic::error(Kind::Internal, error.to_string()))?;
    let recipes = put(&text)?;
    let mut texts = BTreeMap::new();
    let names = pressed.manifest.documents.iter().map(|document| document.file.as_str());
    for name in names.chain(["manifest.json"]) {
        let bytes = files::read(&directory.join(name)).map_err(Diagnostic::from)?;
        texts.insert(name.to_owned(), put(&bytes)?);
    }
    objects.extend(texts.values().chain([&recipes]).map(|(object, _)| *object));
    let kept = Kept { manifest: pressed.manifest.clone(), texts, recipes };
    Ok(store.record(&key(outputs), objects.into_iter().collect(), &kept)?)
}

/// All literal bytes of the recipes, in order.
fn literals(recipes: &BTreeMap<String, Recipe>) -> Vec<u8> {
    let leaves = recipes.values().flat_map(Recipe::leaves);
    let literals = leaves.filter_map(|leaf| match leaf.bytes {
        Bytes::Literal(bytes) => Some(&**bytes),
        _ => None,
    });
    literals.collect::<Vec<&[u8]>>().concat()
}

/// Writes the outputs that were kept under `outputs` into `directory`; none when there is no such thing.
///
/// # Errors
/// When the store or the directory fail, or something comes out otherwise than it was.
pub fn write(
    store: &Store,
    outputs: &Key,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<Option<Pressed>, Report> {
    let Some(kept) = store.result::<Kept>(&key(outputs))? else { return Ok(None) };
    let unsound = || Report::from(Diagnostic::error(Kind::Internal, UNSOUND));
    let read = |(object, size): Stored| store.read(&Content::whole(object, size));
    let listed: BTreeMap<String, Vec<Piece>> = serde_json::from_slice(&read(kept.recipes)?).map_err(|_| unsound())?;
    let expected: BTreeMap<&str, Digest> =
        kept.manifest.outputs.iter().map(|output| (output.file.as_str(), output.sha256)).collect();
    if !listed.keys().map(String::as_str).eq(expected.keys().copied()) || !listed.keys().all(|file| is_inside(file)) {
        return Err(unsound());
    }
    let mut objects: BTreeSet<Digest> = kept.texts.values().map(|(object, _)| *object).collect();
    objects.extend(listed.values().flatten().filter_map(|(_, _, place)| Some(place.as_ref()?.0)));
    let lacking = objects.iter().filter(|object| !store.has(object)).count();
    if lacking > 0 {
        let task = progress.begin(&format!("bring {}", kept.manifest.role), lacking as u64, Unit::Things);
        store.bring(objects, &|count| task.advance(count))?;
    }
    let recipes: BTreeMap<String, Recipe> = listed.into_iter().map(|(file, pieces)| (file, recipe(pieces))).collect();
    let named: Vec<(&str, &Recipe)> = recipes.iter().map(|(file, recipe)| (file.as_str(), recipe)).collect();
    let poured = press::pour(&kept.manifest.role, &named, directory, store, progress)?;
    if named.iter().zip(&poured).any(|((file, _), poured)| expected.get(file) != Some(&poured.digest)) {
        return Err(unsound());
    }
    let mut texts = BTreeMap::new();
    for (name, stored) in &kept.texts {
        texts.insert(name.as_str(), read(*stored)?);
    }
    let Some(text) = texts.remove("manifest.json") else { return Err(unsound()) };
    let manifest = kept.manifest;
    if !manifest.documents.iter().map(|document| document.file.as_str()).all(|name| texts.contains_key(name)) {
        return Err(unsound());
    }
    for (name, bytes) in texts.iter().filter(|(name, _)| is_inside(name)) {
        files::write_atomically(&directory.join(name), bytes).map_err(Diagnostic::from)?;
    }
    press::list(&manifest, &text, directory)?;
    Ok(Some(Pressed { manifest, recipes }))
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
