//! A recording as text, for a terminal or a log.

use std::fmt::Write as _;

use super::{Entry, Recording, Verdict};

impl Recording {
    /// The timeline, then the scenarios with their figures: for a terminal or a log.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            text.push_str(&line(entry));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.summary());
        text
    }

    /// The scenarios with verdicts and figures.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for played in &self.scenarios {
            let seconds = (played.to - played.from).as_secs_f64();
            let _ = writeln!(text, "{:7} {:>2} {} ({seconds:.1} s)", played.verdict.word(), played.number, played.name);
            if let Verdict::Failed(why) | Verdict::Skipped(why) = &played.verdict {
                let _ = writeln!(text, "           {}", why.replace('\n', "\n           "));
            }
            for figure in &played.figures {
                let _ = writeln!(text, "           {}: {}", figure.name, figure.text());
            }
            if let Some(kept) = &played.kept {
                let _ = writeln!(text, "           journals and status of all nodes: {kept}");
            }
        }
        let count = |word: &str| self.scenarios.iter().filter(|played| played.verdict.word() == word).count();
        let (passed, failed, skipped) = (count("passed"), count("failed"), count("skipped"));
        let _ = writeln!(text, "{passed} passed, {failed} failed, {skipped} skipped");
        text
    }
}

/// One line of the timeline.
pub(super) fn line(entry: &Entry) -> String {
    format!("{:8.1} s  {:8}  {}", entry.at.as_secs_f64(), entry.kind.word(), entry.text)
}
