//! The scenarios' verdicts as JUnit XML, as CI systems read it.
//!
//! There is no standard; this keeps to what the readers' schemas share (Apache Ant's `junit` task, Jenkins): one suite,
//! every attribute that any of them requires, figures as the suite's properties, the timeline as its output.

use std::fmt::Write as _;

use super::markup::escape;
use super::timeline::{Recording, Verdict};

/// The document, whole.
pub fn document(recording: &Recording) -> String {
    let count = |word: &str| recording.scenarios.iter().filter(|played| played.verdict.word() == word).count();
    let seconds: f64 = recording.scenarios.iter().map(|played| (played.to - played.from).as_secs_f64()).sum();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        xml,
        "  <testsuite id=\"0\" name=\"{subject}\" package=\"rolecast.lab\" hostname=\"lab\" timestamp=\"{began}\" \
         tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{seconds:.3}\">",
        subject = escape(&recording.subject),
        began = escape(&recording.began),
        tests = recording.scenarios.len(),
        failures = count("failed"),
        skipped = count("skipped"),
    );
    xml.push_str("    <properties>\n");
    for played in &recording.scenarios {
        for figure in &played.figures {
            let name = format!("{}: {}", played.name, figure.name);
            let (name, value) = (escape(&name), escape(&figure.text()));
            let _ = writeln!(xml, "      <property name=\"{name}\" value=\"{value}\"/>");
        }
    }
    xml.push_str("    </properties>\n");
    for played in &recording.scenarios {
        let _ = write!(
            xml,
            "    <testcase classname=\"rolecast.lab.scenario-{:02}\" name=\"{}\" time=\"{:.3}\"",
            played.number,
            escape(&played.name),
            (played.to - played.from).as_secs_f64(),
        );
        let _ = match &played.verdict {
            Verdict::Passed => writeln!(xml, "/>"),
            Verdict::Skipped(_) => writeln!(xml, "><skipped/></testcase>"),
            Verdict::Failed(why) => {
                let first = escape(why.lines().next().unwrap_or_default());
                let kept = played.kept.as_ref().map(|kept| format!("\njournals and status of all nodes: {kept}"));
                let all = escape(&format!("{why}{}", kept.unwrap_or_default()));
                writeln!(xml, "><failure type=\"scenario\" message=\"{first}\">{all}</failure></testcase>")
            }
        };
    }
    let _ = writeln!(xml, "    <system-out>{}</system-out>", escape(&recording.text()));
    xml.push_str("    <system-err/>\n  </testsuite>\n</testsuites>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::super::timeline::sample;
    use super::*;

    #[test]
    fn counts_verdicts_and_figures_are_there() {
        let xml = document(&sample::recording());
        for part in [
            "tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"60.000\"",
            "<property name=\"leader-dies: acknowledged rows that are gone\" value=\"0 rows (aim: at most 0 rows, met)\"/>",
            "<testcase classname=\"rolecast.lab.scenario-04\" name=\"leader-dies\" time=\"40.000\"/>",
            "<failure type=\"scenario\" message=\"two databases took writes at 50.0 s, for 1.5 s\">",
            "<skipped/>",
        ] {
            assert!(xml.contains(part), "`{part}` is not in\n{xml}");
        }
    }

    #[test]
    fn what_xml_cannot_say_is_replaced() {
        let mut recording = sample::recording();
        recording.scenarios[1].verdict = Verdict::Failed("a \u{0} <b> & \"c\" \u{1b}[0m\nsecond line".into());
        let xml = document(&recording);
        let message = "message=\"a \u{fffd} &lt;b&gt; &amp; &quot;c&quot; \u{fffd}[0m\"";
        assert!(xml.contains(message), "{xml}");
    }
}
