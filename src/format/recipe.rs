//! What a file is made of, before anything is written.

use std::sync::Arc;

use crate::digest::Digest;

/// Where the bytes of a piece come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// The bytes themselves; for headers and tables.
    Literal(Arc<[u8]>),
    /// `length` bytes of the stored object `object` from `offset`.
    Object {
        /// Digest of the whole object.
        object: Digest,
        /// First byte, from the object's start.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// That many zero bytes; poured as a hole.
    Zeros(u64),
    /// Everything of another recipe.
    Recipe(Arc<Recipe>),
}

impl Bytes {
    /// Number of bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Literal(bytes) => bytes.len() as u64,
            Self::Object { length, .. } | Self::Zeros(length) => *length,
            Self::Recipe(recipe) => recipe.length(),
        }
    }

    /// `length` of these bytes from `offset`; the caller has checked both.
    fn slice(&self, offset: u64, length: u64) -> Self {
        if length == self.length() {
            return self.clone();
        }
        match self {
            // A literal's length is a `usize`, and so is every part of it.
            Self::Literal(bytes) => Self::Literal(bytes[offset as usize..(offset + length) as usize].into()),
            Self::Object { object, offset: start, .. } => {
                Self::Object { object: *object, offset: start + offset, length }
            }
            Self::Zeros(_) => Self::Zeros(length),
            Self::Recipe(recipe) => Self::Recipe(Arc::new(recipe.slice(offset, length))),
        }
    }
}

/// One run of bytes and what it is (`package chrony 4.6.1-3`, `squashfs inode table`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The bytes.
    pub bytes: Bytes,
    /// Where they come from, for a person who asks why a byte differs.
    pub origin: Arc<str>,
}

/// An ordered list of pieces: the whole of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    pieces: Vec<Piece>,
    length: u64,
}

impl Recipe {
    /// A recipe of no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a piece; empty ones are left out.
    pub fn push(&mut self, bytes: Bytes, origin: impl Into<Arc<str>>) {
        let length = bytes.length();
        if length > 0 {
            self.length += length;
            self.pieces.push(Piece { bytes, origin: origin.into() });
        }
    }

    /// Appends literal bytes.
    pub fn literal(&mut self, bytes: impl Into<Arc<[u8]>>, origin: impl Into<Arc<str>>) {
        self.push(Bytes::Literal(bytes.into()), origin);
    }

    /// Appends zeros until the length is a multiple of `alignment` bytes.
    ///
    /// # Panics
    /// When `alignment` is zero.
    pub fn pad_to(&mut self, alignment: u64, origin: impl Into<Arc<str>>) {
        let length = self.length.next_multiple_of(alignment) - self.length;
        self.push(Bytes::Zeros(length), origin);
    }

    /// The pieces in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Total number of bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The `length` bytes from `offset` as a recipe of their own. Pieces that lie inside whole are shared, not copied.
    ///
    /// # Panics
    /// When the recipe ends before `offset + length`.
    #[must_use]
    pub fn slice(&self, offset: u64, length: u64) -> Self {
        let end = offset.checked_add(length).filter(|end| *end <= self.length);
        let end = end.unwrap_or_else(|| panic!("a slice {offset}+{length} of a recipe of {} bytes", self.length));
        let mut slice = Self::new();
        let mut start = 0;
        for piece in &self.pieces {
            let next = start + piece.bytes.length();
            let (from, to) = (offset.max(start), end.min(next));
            if from < to {
                slice.push(piece.bytes.slice(from - start, to - from), piece.origin.clone());
            }
            start = next;
            if start >= end {
                break;
            }
        }
        slice
    }

    /// The pieces with recipes inside recipes resolved, each with its place in the whole.
    pub fn leaves(&self) -> Leaves<'_> {
        Leaves { open: vec![self.pieces.iter()], offset: 0 }
    }

    /// What lies at byte `offset`, from the outermost piece's origin to the innermost; nothing past the end.
    pub fn origins_at(&self, offset: u64) -> Vec<&str> {
        let mut start = 0;
        for piece in &self.pieces {
            let next = start + piece.bytes.length();
            if offset < next {
                let mut origins = vec![&*piece.origin];
                if let Bytes::Recipe(recipe) = &piece.bytes {
                    origins.extend(recipe.origins_at(offset - start));
                }
                return origins;
            }
            start = next;
        }
        Vec::new()
    }
}

/// A piece that is no recipe, and where it lies in the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// First byte, from the start of the whole.
    pub offset: u64,
    /// The bytes; never [`Bytes::Recipe`].
    pub bytes: &'a Bytes,
    /// Where they come from: the innermost origin.
    pub origin: &'a Arc<str>,
}

/// The iterator that [`Recipe::leaves`] returns.
#[derive(Clone, Debug)]
pub struct Leaves<'a> {
    open: Vec<std::slice::Iter<'a, Piece>>,
    offset: u64,
}

impl<'a> Iterator for Leaves<'a> {
    type Item = Leaf<'a>;

    fn next(&mut self) -> Option<Leaf<'a>> {
        loop {
            match self.open.last_mut()?.next() {
                None => {
                    self.open.pop();
                }
                Some(Piece { bytes: Bytes::Recipe(recipe), .. }) => self.open.push(recipe.pieces.iter()),
                Some(Piece { bytes, origin }) => {
                    let leaf = Leaf { offset: self.offset, bytes, origin };
                    self.offset += bytes.length();
                    return Some(leaf);
                }
            }
        }
    }
}

/// Pouring into memory, for the tests of the formats.
#[cfg(test)]
pub(crate) mod testing {
    use std::collections::BTreeMap;

    use super::*;

    /// Objects by digest, as a store would hold them.
    #[derive(Default)]
    pub(crate) struct Objects(BTreeMap<Digest, Vec<u8>>);

    impl Objects {
        /// Keeps `bytes` and returns a recipe of them.
        pub(crate) fn keep(&mut self, bytes: impl Into<Vec<u8>>) -> Recipe {
            let bytes = bytes.into();
            let object = Digest::of(&bytes);
            let mut recipe = Recipe::new();
            recipe.push(Bytes::Object { object, offset: 0, length: bytes.len() as u64 }, "object");
            self.0.insert(object, bytes);
            recipe
        }

        /// The bytes that `recipe` stands for.
        pub(crate) fn pour(&self, recipe: &Recipe) -> Vec<u8> {
            let mut poured = Vec::new();
            for leaf in recipe.leaves() {
                assert_eq!(leaf.offset, poured.len() as u64);
                match leaf.bytes {
                    Bytes::Literal(bytes) => poured.extend_from_slice(bytes),
                    Bytes::Zeros(length) => poured.resize(poured.len() + *length as usize, 0),
                    Bytes::Object { object, offset, length } => {
                        poured.extend_from_slice(&self.0[object][*offset as usize..][..*length as usize]);
                    }
                    Bytes::Recipe(_) => unreachable!("a leaf is no recipe"),
                }
            }
            assert_eq!(poured.len() as u64, recipe.length());
            poured
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Objects;
    use super::*;

    #[test]
    fn slices_of_nested_recipes_hold_the_same_bytes() {
        let mut objects = Objects::default();
        let mut inner = Recipe::new();
        inner.literal(*b"abcdef", "letters");
        inner.push(Bytes::Zeros(3), "gap");
        let mut recipe = objects.keep(*b"0123456789");
        recipe.push(Bytes::Recipe(Arc::new(inner)), "inner");
        recipe.literal(*b"xyz", "end");
        let whole = objects.pour(&recipe);
        assert_eq!(whole, b"0123456789abcdef\0\0\0xyz");
        for start in 0..=whole.len() {
            for end in start..=whole.len() {
                let slice = recipe.slice(start as u64, (end - start) as u64);
                assert_eq!(objects.pour(&slice), &whole[start..end], "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_byte_knows_what_it_lies_in() {
        let mut inner = Recipe::new();
        inner.literal(*b"ab", "letters");
        inner.pad_to(4, "padding");
        let mut recipe = Recipe::new();
        recipe.literal(*b"0", "header");
        recipe.push(Bytes::Recipe(Arc::new(inner)), "inner");
        let places: Vec<_> = recipe.leaves().map(|leaf| (leaf.offset, leaf.bytes.length(), &**leaf.origin)).collect();
        assert_eq!(places, [(0, 1, "header"), (1, 2, "letters"), (3, 2, "padding")]);
        assert_eq!(recipe.origins_at(4), ["inner", "padding"]);
        assert!(recipe.origins_at(5).is_empty());
    }
}
