//! A template of a stranger, read and rendered: bounded in size, output and time.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rolecast::report::Source;
use rolecast::spec::facts::Facts;
use rolecast::spec::{OptionValue, Template, template};

fuzz_target!(|text: &str| {
    let source = Arc::new(Source { path: "overlays/text/etc/text.tera".into(), text: text.to_owned() });
    if let Ok(template) = Template::read(&source, 0o644) {
        let options = BTreeMap::from([
            ("maas.packaging".to_owned(), OptionValue::Text("stub".into())),
            ("disk.size".to_owned(), OptionValue::Integer(512)),
            ("maas.tls".to_owned(), OptionValue::Boolean(true)),
        ]);
        let _ = template::render(&template, &Facts::of_options(&options));
    }
});
