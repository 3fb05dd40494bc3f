//! What each target does with the bytes of a stranger: they may be refused, they must not panic, hang or grow.
//!
//! One list for two readers: the fuzzer's programs under `fuzz_targets`, and `tests/integration/corpora.rs`, which
//! replays the corpora without a fuzzer.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use rolecast::archive::Keyring;
use rolecast::deb::control::Stanzas;
use rolecast::deb::file::DebFile;
use rolecast::deb::package::Package;
use rolecast::deb::relation::{Relations, Shape};
use rolecast::deb::release::Release;
use rolecast::deb::version::{Version, compare};
use rolecast::digest::Digest;
use rolecast::format::authenticode::{Program, Signer};
use rolecast::format::caibx::{Index, LARGEST};
use rolecast::format::uki::measure;
use rolecast::format::{Recipe, fat, gpt, pe, squashfs};
use rolecast::join::adapters::heard;
use rolecast::lock;
use rolecast::report::Source;
use rolecast::spec::facts::Facts;
use rolecast::spec::{self, OptionValue, Template, template};
use rolecast::ticket::Ticket;

/// What takes any bytes, and neither panics nor takes for ever.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const ALL: [(&str, Target); 14] = [
    ("caibx", caibx),
    ("deb", deb),
    ("disk", disk),
    ("index", index),
    ("keyring", keyring),
    ("lock", lock),
    ("peers", heard::read),
    ("program", program),
    ("relations", relations),
    ("signer", signer),
    ("spec", spec),
    ("squashfs", squashfs),
    ("template", template),
    ("ticket", ticket),
];

/// Runs the target `name` once.
///
/// # Panics
/// When there is no such target, and when the target found something.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = ALL.iter().find(|(known, _)| *known == name).expect("a target of the list");
    target(bytes);
}

/// casync's index of a file: its chunks are the file, and what was read is written and read again as the same.
fn caibx(bytes: &[u8]) {
    if let Ok(index) = Index::read(bytes) {
        let mut end = 0;
        for chunk in &index.chunks {
            assert!(chunk.start == end && (1..=LARGEST).contains(&chunk.length));
            end = chunk.end();
        }
        assert_eq!(Index::read(&index.write()).as_ref(), Ok(&index));
    }
}

/// A .deb: ar, both tars, every compression.
fn deb(bytes: &[u8]) {
    let Ok(mut file) = DebFile::from_bytes(bytes) else { return };
    if let Ok(control) = file.control() {
        let _ = control.package();
    }
    if let Ok(mut data) = file.data(1 << 20) {
        let _ = io::copy(&mut data, &mut io::sink());
    }
}

/// A disk image, as `inspect` meets it: GPT and FAT.
fn disk(bytes: &[u8]) {
    let _ = gpt::read(bytes);
    if let Ok(reader) = fat::Reader::open(bytes) {
        for found in reader.list().unwrap_or_default() {
            let _ = reader.read_found(&found, 1 << 20);
        }
    }
}

/// What a mirror says: Packages and Release. What was read compares with itself.
fn index(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Release::parse(text);
    for stanza in Stanzas::new(text) {
        if let Ok(package) = Package::parse(stanza) {
            let version = package.version.as_str();
            assert!(compare(version, version).is_eq());
        }
    }
}

/// A keyring file.
fn keyring(bytes: &[u8]) {
    let _ = Keyring::parse(bytes);
}

/// A lock: what is accepted is written again as the same bytes.
fn lock(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let source = |text: &str| Arc::new(Source { path: "images/text.lock".into(), text: text.to_owned() });
    if let Ok(read) = lock::read(&source(text)) {
        let written = lock::write(&read);
        assert_eq!(lock::read(&source(&written)).map(|again| lock::write(&again)).ok(), Some(written));
    }
}

/// A UEFI program: its sections, what a TPM would measure of it, what a signature of it would cover.
fn program(bytes: &[u8]) {
    let _ = pe::read_section(bytes, ".cmdline", 1 << 16);
    let mut file = Recipe::new();
    file.literal(bytes, "program");
    for (_, content) in measure::measured(&file).unwrap_or_default() {
        assert!(content.length() <= u64::from(u32::MAX));
    }
    if let Ok(program) = Program::new(&file) {
        let signed = program.signed_bytes().length();
        assert!(signed <= (bytes.len() as u64).next_multiple_of(8));
    }
}

/// Versions and relations: order is an order, and what was read is read again as the same.
fn relations(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
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
}

/// A key and its certificate, in one text: PEM, PKCS#8, X.509.
fn signer(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(signer) = Signer::read(text, text) {
        assert_ne!(signer.certificate_digest(), Digest::of(b""));
        let _ = (signer.subject(), signer.validity());
    }
}

/// An image file, a profile and a template.
fn spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = spec::read_text(text);
}

/// A squashfs image.
fn squashfs(bytes: &[u8]) {
    let _ = squashfs::read::check(bytes, 1 << 20);
}

/// A template, read and rendered: bounded in size, output and time.
fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let source = Arc::new(Source { path: "overlays/text/etc/text.tera".into(), text: text.to_owned() });
    if let Ok(template) = Template::read(&source, 0o644) {
        let options = BTreeMap::from([
            ("maas.packaging".to_owned(), OptionValue::Text("stub".into())),
            ("disk.size".to_owned(), OptionValue::Integer(512)),
            ("maas.tls".to_owned(), OptionValue::Boolean(true)),
        ]);
        let _ = template::render(&template, &Facts::of_options(&options));
    }
}

/// A ticket: what is read is written and read again as the same.
fn ticket(bytes: &[u8]) {
    if let Ok(ticket) = Ticket::read(bytes) {
        let again = Ticket::read(ticket.write().as_bytes());
        assert_eq!(again.ok().as_ref(), Some(&ticket));
    }
}
