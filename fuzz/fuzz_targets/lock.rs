//! A lock of a stranger: what is accepted is written again as the same bytes.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rolecast::lock;
use rolecast::report::Source;

fuzz_target!(|text: &str| {
    let source = |text: &str| Arc::new(Source { path: "images/text.lock".into(), text: text.to_owned() });
    if let Ok(read) = lock::read(&source(text)) {
        let written = lock::write(&read);
        assert_eq!(lock::read(&source(&written)).map(|again| lock::write(&again)).ok(), Some(written));
    }
});
