//! The page of a lab's run: verdicts, figures, and for each scenario a picture of the cluster over time.
//!
//! One file without any resource from elsewhere; the same recording gives the same bytes. Everything that a colour says
//! is also said by shape, place or word; all can be reached with a keyboard; the pictures are there without the script,
//! which only adds a cursor that reads them out. Style and script are files beside this one.

mod picture;

use std::fmt::Write as _;
use std::time::Duration;

use super::markup::escape;
use super::timeline::{Entry, Played, Recording, Verdict};

use picture::Picture;

const STYLE: &str = include_str!("report/style.css");
const SCRIPT: &str = include_str!("report/cursor.js");

/// The page, whole.
pub fn page(recording: &Recording) -> String {
    let mut html = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>rolecast lab: {subject}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#scenarios\">Skip to the scenarios</a>\n\
         <header>\n<h1>rolecast lab: {subject}</h1>\n<p>Began {began} UTC. {count}</p>\n</header>\n",
        subject = escape(&recording.subject),
        began = escape(&recording.began),
        count = count(recording),
    );
    overview(&mut html, recording);
    html.push_str("<main id=\"scenarios\">\n");
    for played in &recording.scenarios {
        section(&mut html, recording, played);
    }
    let _ = write!(html, "</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
    html
}

fn count(recording: &Recording) -> String {
    let of = |word: &str| recording.scenarios.iter().filter(|played| played.verdict.word() == word).count();
    let (passed, failed, skipped) = (of("passed"), of("failed"), of("skipped"));
    format!("{passed} passed, {failed} failed, {skipped} skipped.")
}

/// The table of all scenarios.
fn overview(html: &mut String, recording: &Recording) {
    html.push_str(
        "<nav aria-label=\"Scenarios\">\n<table>\n<caption>Scenarios</caption>\n<thead><tr><th scope=\"col\">No.</th>\
         <th scope=\"col\">Scenario</th><th scope=\"col\">Verdict</th><th scope=\"col\" class=\"number\">Took</th>\
         <th scope=\"col\">Figures with an aim</th></tr></thead>\n<tbody>\n",
    );
    for played in &recording.scenarios {
        let _ = write!(
            html,
            "<tr><td>{number}</td><th scope=\"row\"><a href=\"#{id}\">{name}</a></th><td>{verdict}</td>\
             <td class=\"number\">{took:.1} s</td><td>",
            number = played.number,
            id = escape(&played.name),
            name = escape(&played.name),
            verdict = verdict(&played.verdict),
            took = (played.to - played.from).as_secs_f64(),
        );
        // Those with an aim; the rest stands with the scenario.
        for (index, figure) in played.figures.iter().filter(|figure| figure.aim.is_some()).enumerate() {
            let between = if index == 0 { "" } else { "<br>" };
            let _ = write!(html, "{between}{}: {}", escape(&figure.name), escape(&figure.text()));
        }
        html.push_str("</td></tr>\n");
    }
    html.push_str("</tbody>\n</table>\n</nav>\n");
}

/// A verdict with a sign of its own, so that it does not need its colour.
fn verdict(verdict: &Verdict) -> String {
    let word = verdict.word();
    let sign = match verdict {
        Verdict::Passed => "✓",
        Verdict::Failed(_) => "✗",
        Verdict::Skipped(_) => "–",
    };
    format!("<span class=\"verdict {word}\"><span aria-hidden=\"true\">{sign}</span> {word}</span>")
}

fn section(html: &mut String, recording: &Recording, played: &Played) {
    let id = escape(&played.name);
    let _ = write!(
        html,
        "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{number}. {id} {verdict}</h2>\n\
         <p>{proves}.</p>\n",
        number = played.number,
        verdict = verdict(&played.verdict),
        proves = escape(played.proves.trim_end_matches('.')),
    );
    if let Verdict::Failed(why) | Verdict::Skipped(why) = &played.verdict {
        let _ = writeln!(html, "<p class=\"why\">{}</p>", escape(why));
    }
    if let Some(kept) = &played.kept {
        let _ = writeln!(html, "<p>Journals and status of all nodes: <code>{}</code></p>", escape(kept));
    }
    figures(html, played);
    if played.to > played.from {
        Picture::of(recording, played).draw(html, &id);
    }
    events(html, recording, played);
    html.push_str("</section>\n");
}

fn figures(html: &mut String, played: &Played) {
    if played.figures.is_empty() {
        return;
    }
    html.push_str(
        "<table>\n<caption>Figures</caption>\n<thead><tr><th scope=\"col\">Figure</th><th scope=\"col\">Measured</th>\
         </tr></thead>\n<tbody>\n",
    );
    for figure in &played.figures {
        let (name, text) = (escape(&figure.name), escape(&figure.text()));
        let _ = writeln!(html, "<tr><th scope=\"row\">{name}</th><td>{text}</td></tr>");
    }
    html.push_str("</tbody>\n</table>\n");
}

/// The scenario's part of the timeline.
fn events(html: &mut String, recording: &Recording, played: &Played) {
    let inside: Vec<&Entry> = within(recording, played).collect();
    if inside.is_empty() {
        return;
    }
    html.push_str(
        "<details>\n<summary>Timeline</summary>\n<table>\n<caption>Seconds since the scenario began</caption>\n<thead>\
         <tr><th scope=\"col\" class=\"number\">At</th><th scope=\"col\">What</th><th scope=\"col\"></th></tr></thead>\n\
         <tbody>\n",
    );
    for entry in inside {
        let _ = writeln!(
            html,
            "<tr><td class=\"number\">{:.1}</td><td>{}</td><td>{}</td></tr>",
            since(entry.at, played),
            entry.kind.word(),
            escape(&entry.text)
        );
    }
    html.push_str("</tbody>\n</table>\n</details>\n");
}

/// The events of a scenario.
fn within<'a>(recording: &'a Recording, played: &'a Played) -> impl Iterator<Item = &'a Entry> {
    recording.entries.iter().filter(|entry| entry.at >= played.from && entry.at < played.to)
}

/// Seconds since a scenario began.
fn since(at: Duration, played: &Played) -> f64 {
    at.saturating_sub(played.from).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::super::timeline::sample;
    use super::*;

    #[test]
    fn the_same_recording_gives_the_same_bytes() {
        assert_eq!(page(&sample::recording()), page(&sample::recording()));
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        let page = page(&sample::recording());
        for foreign in ["http://", "https://", "src=", "url(h", "url(/", "@import", "<link rel=\"stylesheet"] {
            let found = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(foreign), "`{foreign}` is in the page");
        }
    }

    #[test]
    fn hostile_text_stays_text() {
        let mut recording = sample::recording();
        recording.entries[1].text = "</script><script>alert(1)</script> \"'&\u{1b}[31m".into();
        recording.scenarios[0].proves = "<img onerror=x>".into();
        let page = page(&recording);
        assert!(!page.contains("alert(1)</script>") && !page.contains("<img"), "markup came through");
        assert!(!page.contains('\u{1b}'));
    }

    #[test]
    fn verdicts_figures_faults_and_places_are_there() {
        let page = page(&sample::recording());
        for part in [
            "1 passed, 1 failed, 1 skipped",
            "<a href=\"#leader-dies\">leader-dies</a>",
            "18.4 s (aim: at most 20.0 s, met)",
            "two databases took writes at 50.0 s, for 1.5 s",
            "<code>out/lab/partitions</code>",
            "kill region-1, the leader",
            "only in QEMU",
        ] {
            assert!(page.contains(part), "`{part}` is not in the page");
        }
        assert_eq!(page.matches("<svg").count(), 2, "a picture for each scenario that was played");
    }
}
