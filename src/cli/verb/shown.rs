//! What a workshop tells, as steps on the terminal.

use std::sync::{Mutex, PoisonError};

use crate::layer;
use crate::report::{Progress, Task, Unit};

/// Shows the work on one layer: one step at a time.
pub struct Shown<'a> {
    progress: &'a dyn Progress,
    subject: &'a str,
    running: Mutex<Option<Running<'a>>>,
}

struct Running<'a> {
    task: Box<dyn Task + 'a>,
    unpacked: usize,
}

impl<'a> Shown<'a> {
    /// Shows steps of `subject`.
    pub fn new(progress: &'a dyn Progress, subject: &'a str) -> Self {
        Self { progress, subject, running: Mutex::new(None) }
    }

    /// Takes what the workshop tells.
    pub fn take(&self, event: layer::Progress) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            layer::Progress::Step(step) => {
                // The old step ends before the new one begins.
                *running = None;
                let task = self.progress.begin(&format!("{}: {step}", self.subject), 0, Unit::Things);
                *running = Some(Running { task, unpacked: 0 });
            }
            layer::Progress::Unpacked { done, total } => {
                let running = running.get_or_insert_with(|| {
                    let step = format!("{}: unpack", self.subject);
                    Running { task: self.progress.begin(&step, total as u64, Unit::Things), unpacked: 0 }
                });
                if let Some(more) = done.checked_sub(running.unpacked) {
                    running.task.advance(more as u64);
                    running.unpacked = done;
                }
            }
            layer::Progress::Line(_) | layer::Progress::Took(..) => {}
        }
    }
}
