//! A keyring file of a stranger.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rolecast::archive::Keyring;

fuzz_target!(|bytes: &[u8]| {
    let _ = Keyring::parse(bytes);
});
