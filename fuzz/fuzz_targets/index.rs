//! What a mirror says: Packages and Release. Reading is total, and what was read prints and compares.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rolecast::deb::control::Stanzas;
use rolecast::deb::package::Package;
use rolecast::deb::release::Release;
use rolecast::deb::version::compare;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Release::parse(text);
    for stanza in Stanzas::new(text) {
        if let Ok(package) = Package::parse(stanza) {
            let version = package.version.as_str();
            assert!(compare(version, version).is_eq());
        }
    }
});
