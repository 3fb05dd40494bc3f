//! What a room tells of its work while it goes on.

/// What the numbers of a task count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things: packages, blocks, groups.
    Things,
}

/// Shown to a person by `cli`, silent elsewhere. Never decides anything.
pub trait Progress: Sync {
    /// A step begins; `total` is how much there is to do, 0 when unknown. It ends when the task is dropped.
    fn begin(&self, step: &str, total: u64, unit: Unit) -> Box<dyn Task + '_>;
    /// A step need not be done: its result is in the store.
    fn reused(&self, step: &str);
}

/// A step that is going on.
pub trait Task: Sync + Send {
    /// So much more is done.
    fn advance(&self, amount: u64);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64, _: Unit) -> Box<dyn Task + '_> {
        Box::new(Self)
    }

    fn reused(&self, _: &str) {}
}

impl Task for Silent {
    fn advance(&self, _: u64) {}
}
