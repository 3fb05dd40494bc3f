//! Whose turn it is to boot: two machines of one processor at once, or one test alone, first come, first served.
//!
//! More would overrun the bounds that their waits have; fewer would leave one of two processors idle.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many machines boot at once.
const PLACES: usize = 2;

static QUEUE: Mutex<Queue> = Mutex::new(Queue { taken: 0, next: 0, served: 0 });
static CHANGED: Condvar = Condvar::new();

struct Queue {
    taken: usize,
    /// The ticket of the next test that comes.
    next: u64,
    /// The ticket whose turn it is.
    served: u64,
}

/// A test's places, given back when it ends.
#[must_use]
pub struct Turn {
    places: usize,
}

/// Waits for a place beside another machine.
pub fn beside_another() -> Turn {
    wait_for(1)
}

/// Waits until nothing else boots: for a test that measures, or that needs both processors.
pub fn alone() -> Turn {
    wait_for(PLACES)
}

fn wait_for(places: usize) -> Turn {
    let mut queue = queue();
    let ticket = queue.next;
    queue.next += 1;
    while queue.served != ticket || queue.taken + places > PLACES {
        queue = CHANGED.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    queue.served += 1;
    queue.taken += places;
    CHANGED.notify_all();
    Turn { places }
}

fn queue() -> MutexGuard<'static, Queue> {
    // A test that failed gave its places back: what the lock guards is whole.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Turn {
    fn drop(&mut self) {
        queue().taken -= self.places;
        CHANGED.notify_all();
    }
}
