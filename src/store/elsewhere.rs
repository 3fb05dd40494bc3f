//! What a store lacks and may borrow: results and objects that are somewhere else, brought when they are asked for.
//!
//! The store knows no remote. Whoever knows one implements [`Elsewhere`]. What it hands over is judged here as what
//! lies in the store itself: a result by its digest and key, an object by its name.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::{Digest, Key};
use crate::report::Diagnostic;
use crate::tree::Tree;

use super::{Store, StoreError};

/// How many things are asked for at once: latency, not the line, is what lasts.
pub const CONNECTIONS: usize = 8;

/// A place beside the store. Called from several threads.
pub trait Elsewhere: fmt::Debug + Send + Sync {
    /// The file of a result, as [`Store::parcel`] reads it; none when it is not there or the place cannot be reached.
    ///
    /// # Errors
    /// When what is there may not be believed.
    fn result(&self, key: &Key) -> Result<Option<Vec<u8>>, Diagnostic>;

    /// Whether the place said, with a result, that it has this object.
    fn promises(&self, object: &Digest) -> bool;

    /// Writes the object's bytes; false when they cannot be had, which takes the promise back.
    ///
    /// # Errors
    /// When the bytes are others than were promised, or `sink` does not take them.
    fn object(&self, object: &Digest, sink: &mut dyn Write) -> Result<bool, Diagnostic>;
}

impl Store {
    /// The same store, which borrows what it lacks.
    #[must_use]
    pub fn borrowing(self, elsewhere: Arc<dyn Elsewhere>) -> Self {
        Self { elsewhere: Some(elsewhere), ..self }
    }

    /// Looks for the results of several steps at once, so that [`Store::result`] finds them: worth it where asking one
    /// after another would wait for a network each time.
    ///
    /// # Errors
    /// As [`Store::result`].
    pub fn ask(&self, keys: &[Key]) -> Result<(), StoreError> {
        match self.elsewhere {
            Some(_) => at_once(keys, |key| self.knows(key).map(drop)),
            None => Ok(()),
        }
    }

    /// Brings those of `objects` that are not here and are promised elsewhere, several at once. `progress` is told of
    /// each one that is here. What cannot be had after all stays missing: whoever opens it is told.
    ///
    /// # Errors
    /// When what came is not what was promised, or the store cannot be written.
    pub fn bring(
        &self,
        objects: impl IntoIterator<Item = Digest>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), StoreError> {
        if self.elsewhere.is_none() {
            return Ok(());
        }
        let lacking: Vec<Digest> = objects.into_iter().filter(|object| !self.has(object)).collect();
        at_once(&lacking, |object| {
            self.borrow(object)?;
            progress(1);
            Ok(())
        })
    }

    /// Brings every content of a tree: for programs that see the store's files and nothing else.
    ///
    /// # Errors
    /// As [`Store::bring`].
    pub fn bring_tree(&self, tree: &Tree) -> Result<(), StoreError> {
        let contents = tree.iter().filter_map(|(_, node)| Some(node.content()?.place.object));
        self.bring(contents.collect::<BTreeSet<Digest>>(), &|_| {})
    }

    /// Whether the object is here, or promised.
    pub(super) fn can_have(&self, object: &Digest) -> bool {
        self.has(object) || self.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.promises(object))
    }

    /// Brings one object; false when nobody has it.
    pub(super) fn borrow(&self, object: &Digest) -> Result<bool, StoreError> {
        let Some(elsewhere) = self.elsewhere.as_ref().filter(|elsewhere| elsewhere.promises(object)) else {
            return Ok(false);
        };
        // Two threads that want the same object bring it once.
        let slot: Arc<Mutex<()>> = locked(&self.coming).entry(*object).or_default().clone();
        let _held = locked(&slot);
        if self.has(object) {
            return Ok(true);
        }
        let mut writer = self.writer()?;
        let refused = |diagnostic| StoreError::Elsewhere(Box::new(diagnostic));
        if !elsewhere.object(object, &mut writer).map_err(refused)? {
            return Ok(false);
        }
        Ok(writer.finish()?.0 == *object)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` for each of `things`, [`CONNECTIONS`] at once: threads that wait, not rayon's, which compute. The first
/// failure, in their order, is returned; what is under way is finished.
///
/// # Errors
/// That of `work`.
pub fn at_once<T: Sync, E: Send>(things: &[T], work: impl Fn(&T) -> Result<(), E> + Sync) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None::<(usize, E)>);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS.min(things.len()) {
            scope.spawn(|| {
                while locked(&failed).is_none() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(thing) = things.get(index) else { break };
                    if let Err(error) = work(thing) {
                        let mut failed = locked(&failed);
                        if failed.as_ref().is_none_or(|(earlier, _)| index < *earlier) {
                            *failed = Some((index, error));
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    /// Another store, as a place.
    #[derive(Debug)]
    struct Other {
        store: Store,
        promised: Mutex<BTreeSet<Digest>>,
        asked: Mutex<BTreeMap<Digest, usize>>,
        /// Objects whose bytes are others there.
        spoiled: BTreeSet<Digest>,
    }

    impl Elsewhere for Other {
        fn result(&self, key: &Key) -> Result<Option<Vec<u8>>, Diagnostic> {
            let parcel = self.store.parcel(key.step(), &key.digest())?;
            let Some(parcel) = parcel else { return Ok(None) };
            locked(&self.promised).extend(parcel.objects.iter().copied());
            Ok(Some(parcel.bytes))
        }

        fn promises(&self, object: &Digest) -> bool {
            locked(&self.promised).contains(object)
        }

        fn object(&self, object: &Digest, sink: &mut dyn Write) -> Result<bool, Diagnostic> {
            *locked(&self.asked).entry(*object).or_default() += 1;
            if !self.store.has(object) {
                locked(&self.promised).remove(object);
                return Ok(false);
            }
            let mut bytes = Vec::new();
            self.store.open_object(object)?.read_to_end(&mut bytes).expect("a test's own file");
            if self.spoiled.contains(object) {
                bytes.push(b'!');
            }
            sink.write_all(&bytes).expect("a test's own file");
            Ok(true)
        }
    }

    #[test]
    fn results_are_borrowed_with_their_objects_when_these_are_opened() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let lender = Store::open(there.path()).unwrap();
        let objects: Vec<Digest> = (0..20_u8).map(|byte| lender.put(&[byte; 100]).unwrap()).collect();
        let key = Key::new("test.step", 1).input("level", 3);
        lender.record(&key, objects.clone(), &"made").unwrap();
        let gone = lender.put(b"gone").unwrap();
        let incomplete = Key::new("test.step", 1).input("level", 4);
        lender.record(&incomplete, vec![gone], &"incomplete").unwrap();
        lender.remove_object(&gone).unwrap();
        let other = Arc::new(Other {
            store: lender,
            promised: Mutex::default(),
            asked: Mutex::default(),
            spoiled: BTreeSet::from([objects[1]]),
        });
        let store = Store::open(here.path()).unwrap().borrowing(other.clone());
        assert_eq!(store.result::<String>(&key).unwrap().as_deref(), Some("made"));
        assert_eq!(store.stats().unwrap().objects, 0, "nothing is brought before it is wanted");
        let mut bytes = Vec::new();
        store.open_object(&objects[7]).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 100]);
        assert!(matches!(store.open_object(&objects[1]), Err(StoreError::Missing(_))), "another's bytes were taken");
        store.bring(objects[2..].iter().copied(), &|_| {}).unwrap();
        assert!(objects[2..].iter().all(|object| store.has(object)));
        assert!(locked(&other.asked).values().all(|times| *times == 1));
        // What is not there after all: found out when it is wanted, and then the result is none.
        assert!(store.knows(&incomplete).unwrap());
        store.bring([gone], &|_| {}).unwrap();
        assert!(!store.knows(&incomplete).unwrap() || !store.has(&gone));
        // Alone, the store has only what is whole.
        drop(store);
        assert_eq!(Store::open(here.path()).unwrap().result::<String>(&key).unwrap(), None);
    }

    #[test]
    fn the_first_failure_in_order_is_told() {
        let things: Vec<u32> = (0..100).collect();
        let done = AtomicUsize::new(0);
        let outcome = at_once(&things, |thing| {
            done.fetch_add(1, Ordering::Relaxed);
            if *thing == 3 { Err(*thing) } else { Ok(()) }
        });
        assert_eq!(outcome, Err(3));
        assert_eq!(at_once(&things, |_| Ok::<_, ()>(())), Ok(()));
        assert!(done.load(Ordering::Relaxed) < 100);
    }
}
