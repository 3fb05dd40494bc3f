//! From Spec and Lock to steps, each with its key. No I/O.
