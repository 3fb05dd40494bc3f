//! Versions and relations: reading is total, order is an order, and what was read is read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rolecast::deb::relation::{Relations, Shape};
use rolecast::deb::version::{Version, compare};

fuzz_target!(|text: &str| {
    let (left, right) = text.split_once('\n').unwrap_or((text, text));
    if let (Ok(left), Ok(right)) = (Version::parse(left), Version::parse(right)) {
        assert_eq!(compare(left.as_str(), right.as_str()), compare(right.as_str(), left.as_str()).reverse());
    }
    for shape in [Shape::Alternatives, Shape::Plain, Shape::Provides] {
        if let Ok(relations) = Relations::parse(text, shape) {
            let again = Relations::parse(relations.as_str(), shape);
            assert_eq!(again.map(|again| again.relations()).ok(), Some(relations.relations()));
        }
    }
});
