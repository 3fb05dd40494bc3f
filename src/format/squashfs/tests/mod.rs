//! Tests of the writer against the own reader, backhand, unsquashfs and the kernel.

mod kernel;
mod support;
