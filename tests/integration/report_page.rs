//! The lab's report in a real browser, and its JUnit XML against a schema.

use std::fs;
use std::path::Path;

use rolecast::lab::{junit, report};

use crate::support::browser::{Browser, END, ENTER, RIGHT, TAB};
use crate::support::command::run;

use rolecast::lab::timeline::{
    Change, Entry, EntryKind, Figure, Machine, Played, Recording, Request, RequestKind, Seen, Verdict,
};

/// The recording that the room's own tests use.
#[path = "../../src/lab/timeline/sample.rs"]
mod sample;

#[test]
fn the_page_works_in_a_browser() {
    // Where it stays, for a person to look at.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html");
    fs::write(&path, report::page(&sample::recording())).expect("a file in cargo's folder for tests");
    let browser = Browser::open(&path);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console is not empty");

    // The pictures are drawn, and every part has a place on the page.
    assert_eq!(browser.evaluate("document.querySelectorAll('svg.picture').length"), 2);
    for part in
        ["rect.leads", "rect.address", "rect.writable", "rect.machine", "path.done", "path.failed", "g.fault path"]
    {
        let size = format!(
            "(() => {{ const box = document.querySelector('#leader-dies svg {part}').getBoundingClientRect(); \
                            return box.width > 0 && box.height > 0; }})()"
        );
        assert_eq!(browser.evaluate(&size), true, "`{part}` has no size");
    }
    // Colours are resolved: a variable that is missing would make a bar black, as no fill does.
    let fill = "getComputedStyle(document.querySelector('rect.leads')).fill";
    assert_eq!(browser.evaluate(fill), "rgb(0, 114, 178)");
    assert_eq!(
        browser.evaluate("document.documentElement.scrollWidth <= innerWidth"),
        true,
        "the page scrolls sideways"
    );

    // Everything that can be focused has a name, and every picture a description.
    let nameless = "[...document.querySelectorAll('a, button, input, [tabindex]')].filter(one => \
                    !(one.textContent.trim() || one.getAttribute('aria-label') || (one.labels && one.labels.length))).length";
    assert_eq!(browser.evaluate(nameless), 0);
    let words = "document.querySelector('#leader-dies svg desc').textContent";
    assert!(browser.evaluate(words).as_str().is_some_and(|words| words.contains("region-2 leads from 27.9 to 40.0 s")));

    keyboard(&browser);
    assert_eq!(browser.console(), Vec::<String>::new(), "the console is not empty after use");
}

/// The cursor is reached and moved without a pointer, and reads the picture out.
fn keyboard(browser: &Browser) {
    let focused = "document.activeElement.id";
    for _ in 0..30 {
        browser.press(TAB);
        if browser.evaluate(focused) == "leader-dies-at" {
            break;
        }
    }
    assert_eq!(browser.evaluate(focused), "leader-dies-at", "the slider cannot be reached with Tab");
    let told = || browser.evaluate("document.querySelector('#leader-dies output').textContent").to_string();
    browser.press(RIGHT);
    assert!(told().contains("At 0.1 s: region-1 leads; region-1 holds the virtual address"), "{}", told());
    browser.press(END);
    assert!(told().contains("At 40.0 s"), "{}", told());
    // Back to the last mark by its button.
    browser.press(TAB);
    browser.press(ENTER);
    assert!(told().contains("At 30.0 s: region-2 leads") && told().contains("mend: start region-1"), "{}", told());
    assert!(told().contains("region-1 off"), "{}", told());
    let visible = "getComputedStyle(document.querySelector('#leader-dies .cursor')).visibility";
    assert_eq!(browser.evaluate(visible), "visible");
}

#[test]
fn the_verdicts_are_valid_junit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("junit.xml");
    fs::write(&path, junit::document(&sample::recording())).expect("a file in the temporary folder");
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/junit.xsd");
    run("xmllint", ["--noout".as_ref(), "--schema".as_ref(), schema.as_os_str(), path.as_os_str()]).succeeds();
}
