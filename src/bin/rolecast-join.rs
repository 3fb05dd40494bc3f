//! The on-machine half.

fn main() {}
