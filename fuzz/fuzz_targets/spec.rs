//! What a person, or a stranger, wrote: read as an image file, a profile and a template.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = rolecast::spec::read_text(text);
});
