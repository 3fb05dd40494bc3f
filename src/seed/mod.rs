//! An image and one node's facts and secrets become a seed for that machine.
//!
//! Owns the secrets file, the tickets, and their forms of travel: a NoCloud directory, a `CIDATA` volume, user data for
//! a deployment by MAAS, and the tree that a network server hands out. Never puts a secret into the store or an image.
