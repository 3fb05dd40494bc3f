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
}
