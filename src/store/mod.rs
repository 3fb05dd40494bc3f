//! Objects by digest, results of steps by key, pouring of recipes.
//!
//! Owns the directory that outlives a build: what is written there, how it is shared between builds at once, and what may be
//! collected. Never trusts a name: an object is what its digest says.
