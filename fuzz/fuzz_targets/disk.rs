//! A disk image of a stranger, as `inspect` meets it: GPT, FAT, UEFI programs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rolecast::format::{fat, gpt, pe};

fuzz_target!(|bytes: &[u8]| {
    let _ = gpt::read(bytes);
    if let Ok(reader) = fat::Reader::open(bytes) {
        for found in reader.list().unwrap_or_default() {
            let _ = reader.read_found(&found, 1 << 20);
        }
    }
    let _ = pe::read_section(bytes, ".cmdline", 1 << 16);
});
