//! Progress on a terminal: what runs, how far, what was reused. Silent anywhere else.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::report::{Progress, Silent, Task, Unit};

/// Progress for this run: bars when standard error is a terminal and nobody asked for JSON, else nothing.
pub fn for_run(json: bool) -> Box<dyn Progress> {
    if json || !std::io::stderr().is_terminal() { Box::new(Silent) } else { Box::new(Terminal::default()) }
}

/// One line a step; running steps have a bar, ended ones their time.
#[derive(Debug, Default)]
struct Terminal {
    bars: MultiProgress,
}

struct Bar(ProgressBar);

impl Progress for Terminal {
    fn begin(&self, step: &str, total: u64, unit: Unit) -> Box<dyn Task + '_> {
        let template = match (total, unit) {
            (0, _) => "  {spinner} {msg} {elapsed}",
            (_, Unit::Bytes) => "  {spinner} {msg:32} {bar:30} {bytes}/{total_bytes} {elapsed}",
            (_, Unit::Things) => "  {spinner} {msg:32} {bar:30} {pos}/{len} {elapsed}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.bars.add(ProgressBar::new(total).with_style(style).with_message(step.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(120));
        Box::new(Bar(bar))
    }

    fn reused(&self, step: &str) {
        // The terminal may be gone; progress is not worth failing for.
        let _ = self.bars.println(format!("  = {step} (reused)"));
    }
}

impl Task for Bar {
    fn advance(&self, amount: u64) {
        self.0.inc(amount);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish();
    }
}
