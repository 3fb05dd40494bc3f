//! What is believed of a remote and what is not, on a place in memory. Real servers are spoken to in
//! `tests/integration/remote.rs`.

mod registry;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pgp::ser::Serialize as _;

use super::envelope::Blob;
use super::place::{Name, Place, Put};
use super::wire::{Body, Counts, Trouble};
use super::*;
use crate::archive::Keyring;
use crate::archive::testing::{Make, NOW, Signer as Maker};
use crate::digest::{Digest, Key};
use crate::report::{Diagnostic, Kind, Report, Silent};
use crate::sign::{FileKey, Signer};
use crate::store::{Parcel, Store, StoreError};

const STEPS: &[&str] = &["test.step", "test.guide"];

/// What lies in the place, and how it behaves.
#[derive(Debug, Default)]
struct Shelf {
    blobs: BTreeMap<Digest, Vec<u8>>,
    records: BTreeMap<Name, Vec<u8>>,
    /// Whether nobody answers.
    down: bool,
    /// After how many bytes a transfer breaks, each time.
    breaks: Option<usize>,
    puts: usize,
}

#[derive(Clone, Debug, Default)]
struct Memory {
    shelf: Arc<Mutex<Shelf>>,
    counts: Arc<Counts>,
}

impl Memory {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self) -> Result<MutexGuard<'_, Shelf>, Trouble> {
        let shelf = self.shelf();
        match shelf.down {
            true => Err(Trouble::Unreachable { url: "memory".to_owned(), reason: "it is down".to_owned() }),
            false => Ok(shelf),
        }
    }
}

impl Place for Memory {
    fn shown(&self) -> &str {
        "memory://here"
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }

    fn record(&self, name: &Name) -> Result<Option<Vec<u8>>, Trouble> {
        Ok(self.up()?.records.get(name).cloned())
    }

    fn put_record(&self, name: &Name, bytes: &[u8], blobs: &[Blob], replace: bool) -> Result<Put, Trouble> {
        let mut shelf = self.up()?;
        assert!(blobs.iter().all(|blob| shelf.blobs.contains_key(&blob.blob)), "a record before its blobs");
        if shelf.records.contains_key(name) && !replace {
            return Ok(Put::Taken);
        }
        shelf.records.insert(name.clone(), bytes.to_vec());
        Ok(Put::Done)
    }

    fn has(&self, blob: &Digest) -> Result<bool, Trouble> {
        Ok(self.up()?.blobs.contains_key(blob))
    }

    fn blob(&self, blob: &Digest, from: u64) -> Result<Option<Body>, Trouble> {
        let shelf = self.up()?;
        let Some(bytes) = shelf.blobs.get(blob) else { return Ok(None) };
        let rest = bytes.get(usize::try_from(from).unwrap()..).unwrap_or_default();
        let rest = &rest[..rest.len().min(shelf.breaks.unwrap_or(usize::MAX))];
        Ok(Some(Box::new(std::io::Cursor::new(rest.to_vec()))))
    }

    fn put_blob(&self, blob: &Digest, path: &Path, length: u64) -> Result<(), Trouble> {
        let bytes = std::fs::read(path).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (*blob, length));
        let mut shelf = self.up()?;
        shelf.puts += 1;
        shelf.blobs.insert(*blob, bytes);
        Ok(())
    }
}

fn signer(seed: u64) -> Signer {
    let secret = Maker::make(&Make { seed, ..Make::default() }).secret_key(None).to_bytes().unwrap();
    Signer::File(Box::new(FileKey::read(&secret, None, NOW).unwrap()))
}

fn keyring(signer: &Signer) -> Trust {
    Trust::Keyring(Box::new(signer.certificate().clone()), NOW)
}

fn key(level: u32) -> Key {
    Key::new("test.step", 1).input("level", level)
}

/// A store with one result of three objects: small, compressible, not compressible.
struct Builder {
    store: Store,
    objects: Vec<Digest>,
    _folder: tempfile::TempDir,
}

impl Builder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(100_000)
        .collect();
        let bytes: [&[u8]; 4] = [b"small", b"", &[b'x'; 100_000], &noise];
        let objects: Vec<Digest> = bytes.iter().map(|bytes| store.put(bytes).unwrap()).collect();
        store.record(&key(1), objects.clone(), &"made").unwrap();
        Self { store, objects, _folder: folder }
    }

    fn push(&self, place: &Memory, signer: Option<&Signer>) -> Result<(Pushed, Report), Report> {
        let trust = signer.map_or(Trust::Anybody, keyring);
        let remote = Remote::new(Box::new(place.clone()), trust, STEPS);
        let parcels: Vec<Parcel> = STEPS.iter().flat_map(|step| self.store.parcels(step).unwrap()).collect();
        push(&remote, &self.store, &parcels, &["test.guide"], signer, &Silent)
    }
}

/// A store that has nothing, over the place.
struct Runner {
    store: Store,
    remote: Arc<Remote>,
    _folder: tempfile::TempDir,
}

impl Runner {
    fn new(place: &Memory, trust: Trust) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let remote = Arc::new(Remote::new(Box::new(place.clone()), trust, STEPS));
        let store = Store::open(folder.path()).unwrap().borrowing(remote.clone());
        Self { store, remote, _folder: folder }
    }

    fn result(&self) -> Result<Option<String>, Diagnostic> {
        self.store.result::<String>(&key(1)).map_err(Diagnostic::from)
    }

    /// Whether all objects came.
    fn bring(&self, objects: &[Digest]) -> Result<bool, Diagnostic> {
        self.store.bring(objects.iter().copied(), &|_| {}).map_err(Diagnostic::from)?;
        Ok(objects.iter().all(|object| self.store.has(object)))
    }
}

fn shared(signer: &Signer) -> (Builder, Memory) {
    let (builder, place) = (Builder::new(), Memory::default());
    builder.push(&place, Some(signer)).unwrap();
    (builder, place)
}

fn only_record(place: &Memory) -> Vec<u8> {
    place.shelf().records.values().next().unwrap().clone()
}

fn set_record(place: &Memory, bytes: Vec<u8>) {
    *place.shelf().records.values_mut().next().unwrap() = bytes;
}

#[test]
fn what_was_pushed_is_pulled_and_nothing_goes_twice() {
    let signer = signer(1);
    let (builder, place) = (Builder::new(), Memory::default());
    let (pushed, warnings) = builder.push(&place, Some(&signer)).unwrap();
    assert_eq!((pushed.results, pushed.there, pushed.blobs), (1, 0, 3), "no bytes need no blob");
    assert!(pushed.bytes < 101_000, "{} bytes: what compresses was not compressed", pushed.bytes);
    assert_eq!(warnings, Report::new());
    let (again, _) = builder.push(&place, Some(&signer)).unwrap();
    assert_eq!(again, Pushed { results: 0, there: 1, blobs: 0, bytes: 0 });

    let runner = Runner::new(&place, keyring(&signer));
    assert_eq!(runner.result(), Ok(Some("made".to_owned())));
    assert_eq!(runner.bring(&builder.objects), Ok(true));
    assert_eq!(runner.remote.tally().objects, 4);
    assert!(runner.remote.notices().is_empty() && runner.remote.lie().is_none());
    // A step that is not shared is not asked for.
    assert_eq!(runner.store.result::<String>(&Key::new("test.other", 1)).unwrap(), None);
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_stopped() {
    let signer = signer(1);
    let (builder, place) = shared(&signer);
    place.shelf().breaks = Some(40_000);
    let runner = Runner::new(&place, keyring(&signer));
    assert!(runner.result().unwrap().is_some());
    assert_eq!(runner.bring(&builder.objects), Ok(true));
    // One that breaks time and again ends it.
    place.shelf().breaks = Some(1000);
    let runner = Runner::new(&place, keyring(&signer));
    assert!(runner.result().unwrap().is_some());
    assert_eq!(runner.bring(&builder.objects), Ok(false));
    assert_eq!(runner.result(), Ok(None), "a result whose objects cannot be had");
    assert!(runner.remote.take_lost() && !runner.remote.take_lost());
    assert!(runner.remote.notices()[0].message.contains("ended after"), "{:?}", runner.remote.notices());
}

#[test]
fn a_record_counts_when_a_believed_key_signed_it_as_it_is() {
    let (own, other) = (signer(1), signer(2));
    let (_builder, place) = shared(&own);
    let good = only_record(&place);
    let text = String::from_utf8(good.clone()).unwrap();
    let (line, record) = text.split_once('\n').unwrap();
    let cases: [(&str, Vec<u8>); 6] = [
        ("altered", text.replace("made", "mode").into_bytes()),
        ("unsigned", format!("unsigned\n{record}").into_bytes()),
        ("another's signature", format!("{}\n{record}", &line[..line.len() - 8]).into_bytes()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("no record", b"<html>".to_vec()),
        ("empty", Vec::new()),
    ];
    for (what, bytes) in cases {
        set_record(&place, bytes);
        let runner = Runner::new(&place, keyring(&own));
        let refused = runner.result().expect_err(what);
        assert_eq!(refused.kind, Kind::Trust, "{what}");
        assert!(refused.notes.iter().any(|note| note.contains("test.step")), "{what}: {refused:?}");
        assert_eq!(runner.remote.lie().as_ref(), Some(&refused), "{what}");
        assert_eq!(runner.store.stats().unwrap().results, 0, "{what}");
    }
    set_record(&place, good.clone());
    let refused = Runner::new(&place, keyring(&other)).result().unwrap_err();
    assert!(refused.message.contains("not signed by a key that is believed"), "{refused:?}");
    assert!(refused.hints.iter().any(|hint| hint.contains("--remote-keyring")), "{refused:?}");
    let both = Keyring::clone(own.certificate()).and(other.certificate());
    assert!(Runner::new(&place, Trust::Keyring(Box::new(both), NOW)).result().unwrap().is_some());
    // Whoever says so believes anybody; what is altered is none all the same.
    set_record(&place, format!("unsigned\n{record}").into_bytes());
    assert!(Runner::new(&place, Trust::Anybody).result().unwrap().is_some());
    set_record(&place, format!("unsigned\n{}", record.replace("made", "mode")).into_bytes());
    assert!(Runner::new(&place, Trust::Anybody).result().is_err());
}

#[test]
fn a_record_under_another_name_is_refused() {
    let signer = signer(1);
    let (builder, place) = shared(&signer);
    builder.store.record(&key(2), Vec::new(), &"another").unwrap();
    builder.push(&place, Some(&signer)).unwrap();
    let records: Vec<Vec<u8>> = place.shelf().records.values().cloned().collect();
    place.shelf().records.values_mut().zip(records.into_iter().rev()).for_each(|(record, other)| *record = other);
    let refused = Runner::new(&place, keyring(&signer)).result().unwrap_err();
    assert!(refused.message.contains("stands under another result's name"), "{refused:?}");
}

#[test]
fn an_altered_blob_is_refused_and_a_missing_one_is_a_miss() {
    let signer = signer(1);
    for spoil in [
        (|bytes: &mut Vec<u8>| bytes[0] ^= 1) as fn(&mut Vec<u8>),
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| bytes.extend_from_slice(&[0; 64]),
    ] {
        let (builder, place) = shared(&signer);
        let before: Vec<usize> = place.shelf().blobs.values().map(Vec::len).collect();
        place.shelf().blobs.values_mut().for_each(spoil);
        let longer = place.shelf().blobs.values().zip(before).any(|(blob, before)| blob.len() != before);
        let runner = Runner::new(&place, keyring(&signer));
        assert!(runner.result().unwrap().is_some());
        // More than the record says is never read.
        match runner.bring(&builder.objects) {
            Ok(whole) => assert!(whole && longer),
            Err(refused) => {
                assert_eq!(refused.kind, Kind::Trust);
                assert!(refused.message.contains("other bytes than its digest says"), "{refused:?}");
                assert!(!longer && runner.remote.lie().is_some());
            }
        }
    }
    let (builder, place) = shared(&signer);
    let gone = place.shelf().blobs.pop_first().unwrap().0;
    let runner = Runner::new(&place, keyring(&signer));
    assert!(runner.result().unwrap().is_some());
    assert_eq!(runner.bring(&builder.objects), Ok(false));
    assert_eq!(runner.result(), Ok(None));
    assert!(runner.remote.take_lost() && runner.remote.lie().is_none());
    assert!(runner.remote.notices()[0].message.contains("are not there"));
    // Who has it brings it back, although the record stands.
    let (pushed, _) = builder.push(&place, Some(&signer)).unwrap();
    assert_eq!((pushed.results, pushed.there, pushed.blobs), (0, 1, 1));
    assert!(place.shelf().blobs.contains_key(&gone));
}

#[test]
fn a_frame_that_grows_beyond_its_size_is_cut_off() {
    let signer = signer(1);
    let place = Memory::default();
    let builder = Builder::new();
    let object = builder.store.put(b"a bomb").unwrap();
    builder.store.record(&key(1), vec![object], &"made").unwrap();
    // The signer itself says something wrong: the object is larger than its record says.
    let frame = zstd::encode_all(&[0_u8; 1 << 20][..], 3).unwrap();
    let blob = Blob { object, size: 6, blob: Digest::of(&frame), length: frame.len() as u64, zstd: true };
    let parcel = builder.store.parcel("test.step", &key(1).digest()).unwrap().unwrap();
    let record = envelope::seal(&parcel, std::slice::from_ref(&blob), Some(&signer)).unwrap();
    place.shelf().blobs.insert(blob.blob, frame);
    place.shelf().records.insert(Name { step: "test.step".to_owned(), key: key(1).digest() }, record);
    let runner = Runner::new(&place, keyring(&signer));
    assert!(runner.result().unwrap().is_some());
    let refused = runner.bring(&[object]).unwrap_err();
    assert!(refused.message.contains("holds another object than its record says"), "{refused:?}");
    assert!(matches!(runner.store.open_object(&object), Err(StoreError::Elsewhere(_))));
}

#[test]
fn a_remote_that_does_not_answer_is_a_notice() {
    let signer = signer(1);
    let (builder, place) = shared(&signer);
    place.shelf().down = true;
    let runner = Runner::new(&place, keyring(&signer));
    assert_eq!(runner.result(), Ok(None));
    let notices = runner.remote.notices();
    assert!(notices[0].message.contains("memory://here") && notices[0].message.contains("it is down"), "{notices:?}");
    assert!(notices[0].hints.iter().any(|hint| hint.contains("--remote")));
    assert!(builder.push(&place, Some(&signer)).unwrap_err().has_errors());
    // Midway: what was promised is a miss from then on.
    place.shelf().down = false;
    let runner = Runner::new(&place, keyring(&signer));
    assert!(runner.result().unwrap().is_some());
    place.shelf().down = true;
    assert_eq!(runner.bring(&builder.objects), Ok(false));
    assert_eq!(runner.result(), Ok(None));
    assert!(runner.remote.take_lost());
}

#[test]
fn the_first_writer_of_a_name_wins_unless_nobody_believes_it() {
    let signer = signer(1);
    let (_first, place) = shared(&signer);
    let good = only_record(&place);
    let second = Builder::new();
    second.store.record(&key(1), Vec::new(), &"otherwise").unwrap();
    let (pushed, warnings) = second.push(&place, Some(&signer)).unwrap();
    assert_eq!(pushed.results, 0);
    assert!(warnings.diagnostics[0].message.contains("another result of the same step"), "{warnings:?}");
    assert_eq!(only_record(&place), good);
    // A guide may differ, and nobody is told.
    let guide = Key::new("test.guide", 1);
    for value in ["mine", "yours"] {
        let writer = Builder::new();
        writer.store.record(&guide, Vec::new(), &value).unwrap();
        assert_eq!(writer.push(&place, Some(&signer)).unwrap().1, Report::new());
    }
    place.shelf().records.pop_first();
    // What nobody signed holds no place.
    set_record(&place, b"unsigned\n{}".to_vec());
    let (pushed, warnings) = second.push(&place, Some(&signer)).unwrap();
    assert_eq!(pushed.results, 1);
    assert!(warnings.diagnostics[0].message.contains("is not signed") && !warnings.has_errors(), "{warnings:?}");
    assert_eq!(Runner::new(&place, keyring(&signer)).result(), Ok(Some("otherwise".to_owned())));
}

#[test]
fn writers_at_once_leave_what_one_of_them_made() {
    let signer = signer(1);
    let place = Memory::default();
    let builders: Vec<Builder> = (0..4).map(|_| Builder::new()).collect();
    std::thread::scope(|scope| {
        for builder in &builders {
            scope.spawn(|| builder.push(&place, Some(&signer)).unwrap());
        }
    });
    let runner = Runner::new(&place, keyring(&signer));
    assert_eq!(runner.result(), Ok(Some("made".to_owned())));
    assert_eq!(runner.bring(&builders[0].objects), Ok(true));
}

#[test]
fn what_means_no_remote_is_told_without_secrets() {
    let nothing = |_: &str| None;
    for (text, part) in [
        ("registry.example/x", "`://`"),
        ("ftp://host/x", "none of the three"),
        ("oci://registry.example", "no repository"),
        ("oci://registry.example/Upper", "lower-case"),
        ("https://ada:hunter2@host/x", "no host"),
        ("https://host/x?token=hunter2", "cannot be there"),
        ("s3://", "no host"),
    ] {
        let refused = open(text, &nothing).unwrap_err();
        assert_eq!(refused.kind, Kind::Usage);
        assert!(refused.message.contains(part), "{text}: {refused:?}");
        assert!(!text.contains('@') || !format!("{refused:?}").contains("hunter2"), "{refused:?}");
    }
    let named = |name: &str| (name.starts_with("ROLECAST_REMOTE_")).then(|| "hunter2".to_owned());
    let refused = open("http://host.example/x", &named).unwrap_err();
    assert!(refused.message.contains("plain HTTP") && !format!("{refused:?}").contains("hunter2"));
    for text in ["oci://127.0.0.1:5000/a/b", "s3://bucket/some/prefix", "https://host.example/x/"] {
        assert_eq!(open(text, &nothing).unwrap().shown(), text);
    }
}
