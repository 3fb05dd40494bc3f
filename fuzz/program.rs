//! One program for every target, so that it is linked once: libFuzzer's main, with the target that the environment names.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target of fuzz/targets.rs"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rolecast_fuzz::run(&TARGET, bytes));
