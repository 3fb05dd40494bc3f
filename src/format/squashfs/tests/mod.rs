//! Tests of writer and reader against each other, squashfs-tools and the kernel.

mod hostile;
mod kernel;
mod others;
mod round_trip;
mod support;
mod writer;
