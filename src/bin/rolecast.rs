//! The builder.

fn main() {}
