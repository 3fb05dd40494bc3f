//! A .deb of a stranger: ar, both tars, every compression. It may be refused, it must not panic nor grow.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use rolecast::deb::file::DebFile;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = DebFile::from_bytes(bytes) else { return };
    if let Ok(control) = file.control() {
        let _ = control.package();
    }
    if let Ok(mut data) = file.data(1 << 20) {
        let _ = io::copy(&mut data, &mut io::sink());
    }
});
