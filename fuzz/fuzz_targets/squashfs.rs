//! A squashfs image from anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = rolecast::format::squashfs::read::check(bytes, 1 << 20);
});
