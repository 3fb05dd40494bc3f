//! A scenario as a picture: lanes over time, drawn as SVG, with the same in words and as data for the cursor.

use std::fmt::Write as _;
use std::time::Duration;

use super::{escape, since, within};
use crate::lab::timeline::{EntryKind, Machine, Played, Recording, Seen};

/// Height of a bar of a node.
const BAR: f64 = 12.0;
/// From one bar to the next.
const ROW: f64 = 17.0;
/// Height of a group's heading.
const HEADING: f64 = 24.0;
/// Height of one request in a client's lane.
const REQUEST: f64 = 8.0;
/// Most requests of a tenth of a second that are drawn on each other.
const MOST: u8 = 3;
/// Where the plot begins.
const LEFT: f64 = 120.0;
/// Height of the marks above the plot.
const TOP: f64 = 30.0;

/// What of one scenario is drawn.
pub struct Picture<'a> {
    recording: &'a Recording,
    played: &'a Played,
    /// Indices of the nodes that have a database: they alone lead and carry the address.
    regions: Vec<usize>,
    clients: Vec<Counts>,
    width: f64,
}

/// A client's requests per tenth of a second.
struct Counts {
    name: String,
    /// Reads and writes, in this order.
    kinds: [Lane; 2],
}

/// One kind of request: how many were answered in each tenth, and how many that were sent in it failed.
#[derive(Default)]
struct Lane {
    done: Vec<u8>,
    failed: Vec<u8>,
}

impl<'a> Picture<'a> {
    /// Gathers.
    pub fn of(recording: &'a Recording, played: &'a Played) -> Self {
        let has_database = |node: &usize| {
            let mut changes = recording.changes.iter().filter(|change| change.node == *node);
            changes.any(|change| matches!(change.seen, Seen::Leads(true) | Seen::Writable(true) | Seen::Address(true)))
        };
        let tenths = tenth(played.to - played.from) + 1;
        Self {
            recording,
            played,
            regions: (0..recording.nodes.len()).filter(has_database).collect(),
            clients: counts(recording, played, tenths),
            // Wide enough for a tenth to be seen, and for the screen to be filled.
            width: (tenths as f64 * 1.5).clamp(1080.0, 9000.0),
        }
    }

    /// Appends picture, legend, cursor and words.
    pub fn draw(&self, html: &mut String, id: &str) {
        let mut body = String::new();
        let mut y = TOP;
        let regions = self.regions.clone();
        self.states(&mut body, &mut y, "Leads", "leads", &regions, &Seen::Leads(true));
        self.states(&mut body, &mut y, "Holds the virtual address", "address", &regions, &Seen::Address(true));
        self.states(&mut body, &mut y, "Takes writes", "writable", &regions, &Seen::Writable(true));
        self.machines(&mut body, &mut y);
        self.requests(&mut body, &mut y);
        let bottom = y + 6.0;
        // Under everything else.
        body.insert_str(0, &self.axis(bottom));
        self.marks(&mut body, bottom);
        let (width, height) = (LEFT + self.width + 20.0, bottom + 26.0);
        let _ = write!(
            html,
            "<figure>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Picture of {id}, scrolls\">\n\
             <svg xmlns=\"http://www.w3.org/2000/svg\" class=\"picture\" role=\"img\" aria-labelledby=\"{id}-svg-title \
             {id}-svg-words\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\">\n\
             <title id=\"{id}-svg-title\">The cluster during {id}</title>\n<desc id=\"{id}-svg-words\">{words}</desc>\n\
             <defs>\n{patterns}</defs>\n{body}<line class=\"cursor\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"{TOP}\" \
             y2=\"{bottom:.0}\"/>\n</svg>\n</div>\n",
            words = escape(&self.words()),
            patterns = patterns(id),
        );
        legend(html);
        let last = tenth(self.played.to - self.played.from);
        let data = escape(&self.data().to_string());
        let _ = write!(
            html,
            "<div class=\"reader\" hidden data-picture=\"{data}\"><label for=\"{id}-at\">Cursor, in tenths of a second \
             (arrow keys, Page Up and Page Down, Home and End)</label>\n<input type=\"range\" id=\"{id}-at\" min=\"0\" \
             max=\"{last}\" value=\"0\">\n<div class=\"buttons\"><button type=\"button\" class=\"previous\">Previous \
             mark</button> <button type=\"button\" class=\"next\">Next mark</button></div>\n<output for=\"{id}-at\" \
             aria-live=\"polite\"></output></div>\n</figure>\n<details>\n<summary>The picture in words</summary>\n\
             <p>{words}</p>\n</details>\n",
            words = escape(&self.words()).replace('\n', "<br>\n"),
        );
    }

    fn window(&self) -> (Duration, Duration) {
        (self.played.from, self.played.to)
    }

    fn x(&self, at: Duration) -> f64 {
        let whole = (self.played.to - self.played.from).as_secs_f64();
        LEFT + self.width * (since(at, self.played) / whole).clamp(0.0, 1.0)
    }

    fn heading(&self, body: &mut String, y: &mut f64, text: &str) {
        *y += HEADING;
        let _ = writeln!(body, "<text class=\"heading\" x=\"4\" y=\"{:.0}\">{}</text>", *y - 7.0, escape(text));
    }

    /// One row a node, with a bar while `like` was seen of it.
    fn states(&self, body: &mut String, y: &mut f64, text: &str, class: &str, nodes: &[usize], like: &Seen) {
        if nodes.is_empty() {
            return;
        }
        self.heading(body, y, text);
        for &node in nodes {
            self.row(body, *y, &self.recording.nodes[node]);
            for (from, to) in self.recording.spans(node, like, |seen| seen == like, self.window()) {
                self.bar(body, class, "", (from, to), *y, "");
            }
            *y += ROW;
        }
    }

    fn row(&self, body: &mut String, y: f64, name: &str) {
        let _ = writeln!(
            body,
            "<text class=\"node\" x=\"{:.0}\" y=\"{:.1}\">{}</text><line class=\"base\" x1=\"{LEFT}\" x2=\"{:.0}\" \
             y1=\"{base:.1}\" y2=\"{base:.1}\"/>",
            LEFT - 8.0,
            y + BAR - 2.0,
            escape(name),
            LEFT + self.width,
            base = y + BAR,
        );
    }

    fn bar(&self, body: &mut String, class: &str, style: &str, (from, to): (Duration, Duration), y: f64, title: &str) {
        let (x, end) = (self.x(from), self.x(to));
        let width = (end - x).max(0.5);
        let _ = write!(
            body,
            "<rect class=\"{class}\"{style} x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\""
        );
        let _ = match title {
            "" => writeln!(body, "/>"),
            title => writeln!(body, "><title>{}</title></rect>", escape(title)),
        };
    }

    fn machines(&self, body: &mut String, y: &mut f64) {
        self.heading(body, y, "Machines");
        for node in 0..self.recording.nodes.len() {
            self.row(body, *y, &self.recording.nodes[node]);
            for (machine, span) in self.machine_spans(node) {
                let (class, pattern) = match machine {
                    Machine::Off => ("machine off", None),
                    Machine::Booting => ("machine booting", Some("dots")),
                    Machine::Joining(_) => ("machine joining", Some("stripes")),
                    Machine::Stopped(_) => ("machine stopped", Some("mesh")),
                    Machine::Joined => ("machine joined", None),
                };
                let style = pattern.map(|name| format!(" fill=\"url(#{}-{name})\"", escape(&self.played.name)));
                self.bar(body, class, &style.unwrap_or_default(), span, *y, &machine.text());
            }
            *y += ROW;
        }
    }

    /// What a node was, span after span; neighbours that look the same are one.
    fn machine_spans(&self, node: usize) -> Vec<(Machine, (Duration, Duration))> {
        let (from, to) = self.window();
        let mut spans: Vec<(Machine, (Duration, Duration))> = Vec::new();
        for change in self.recording.changes.iter().filter(|change| change.node == node && change.at < to) {
            let Seen::Machine(machine) = &change.seen else { continue };
            let at = change.at.max(from);
            if let Some((_, (_, end))) = spans.last_mut() {
                *end = at;
            }
            spans.push((machine.clone(), (at, to)));
        }
        spans.retain(|(_, (start, end))| end > start);
        spans
    }

    /// Two lanes a client: answered requests stand on the line, failed ones hang from it.
    fn requests(&self, body: &mut String, y: &mut f64) {
        for client in &self.clients {
            self.heading(body, y, &format!("Client {}: answered above the line, failed below it", client.name));
            for (lane, name) in client.kinds.iter().zip(["reads", "writes"]) {
                let line = *y + REQUEST * f64::from(MOST);
                let _ = writeln!(
                    body,
                    "<text class=\"node\" x=\"{:.0}\" y=\"{:.1}\">{name}</text><line class=\"base\" x1=\"{LEFT}\" \
                     x2=\"{:.0}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>",
                    LEFT - 8.0,
                    line + 4.0,
                    LEFT + self.width,
                );
                for (counts, class, sign) in [(&lane.done, "done", -1.0), (&lane.failed, "failed", 1.0)] {
                    let path = self.bars(counts, line, sign);
                    if !path.is_empty() {
                        let _ = writeln!(body, "<path class=\"{class}\" d=\"{path}\"/>");
                    }
                }
                *y = line + REQUEST * f64::from(MOST) + 4.0;
            }
        }
    }

    /// Bars from `line`, upwards with sign -1; tenths of the same height are one.
    fn bars(&self, counts: &[u8], line: f64, sign: f64) -> String {
        let mut path = String::new();
        let mut start = 0;
        for run in counts.chunk_by(|one, other| one == other) {
            let end = start + run.len();
            if run[0] > 0 {
                let top = line + sign * REQUEST * f64::from(run[0].min(MOST));
                let x = |tenths: usize| self.x(self.played.from + Duration::from_millis(100 * tenths as u64));
                let _ = write!(path, "M{:.1} {line:.1}V{top:.1}H{:.1}V{line:.1}Z", x(start), x(end));
            }
            start = end;
        }
        path
    }

    fn axis(&self, bottom: f64) -> String {
        let mut body = String::new();
        let seconds = (self.played.to - self.played.from).as_secs_f64();
        let step = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0]
            .into_iter()
            .find(|step| self.width / (seconds / step) >= 60.0)
            .unwrap_or(600.0);
        let mut at = 0.0;
        while at <= seconds {
            let x = self.x(self.played.from + Duration::from_secs_f64(at));
            let _ = writeln!(
                body,
                "<line class=\"tick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.0}\"/><text class=\"tick\" \
                 x=\"{x:.1}\" y=\"{:.0}\">{at:.0} s</text>",
                bottom + 4.0,
                bottom + 18.0,
            );
            at += step;
        }
        body
    }

    /// Faults point down, mends point up; both are numbered in the order of the timeline.
    fn marks(&self, body: &mut String, bottom: f64) {
        for (number, (at, kind, text)) in (1..).zip(self.marked()) {
            let x = self.x(at);
            let (class, shape) = match kind {
                EntryKind::Fault => ("mark fault", format!("M{:.1} 18H{:.1}L{x:.1} 28Z", x - 6.0, x + 6.0)),
                _ => ("mark mend", format!("M{:.1} 28H{:.1}L{x:.1} 18Z", x - 6.0, x + 6.0)),
            };
            let _ = writeln!(
                body,
                "<g class=\"{class}\"><title>{word} {number}: {text}</title><line x1=\"{x:.1}\" x2=\"{x:.1}\" \
                 y1=\"28\" y2=\"{bottom:.0}\"/><path d=\"{shape}\"/><text x=\"{x:.1}\" y=\"13\">{number}</text></g>",
                word = kind.word(),
                text = escape(text),
            );
        }
    }

    fn marked(&self) -> impl Iterator<Item = (Duration, EntryKind, &str)> {
        within(self.recording, self.played)
            .filter(|entry| matches!(entry.kind, EntryKind::Fault | EntryKind::Mend))
            .map(|entry| (entry.at, entry.kind, entry.text.as_str()))
    }

    /// What the picture shows, for who cannot see it.
    fn words(&self) -> String {
        let mut lines = Vec::new();
        for (number, (at, kind, text)) in (1..).zip(self.marked()) {
            lines.push(format!("{} {number} at {:.1} s: {text}.", capital(kind.word()), since(at, self.played)));
        }
        for (what, like) in [
            ("leads", Seen::Leads(true)),
            ("holds the virtual address", Seen::Address(true)),
            ("takes writes", Seen::Writable(true)),
        ] {
            for &node in &self.regions {
                let spans = self.recording.spans(node, &like, |seen| *seen == like, self.window());
                let shown: Vec<String> = spans
                    .iter()
                    .map(|(from, to)| format!("{:.1} to {:.1} s", since(*from, self.played), since(*to, self.played)))
                    .collect();
                if !shown.is_empty() {
                    lines.push(format!("{} {what} from {}.", self.recording.nodes[node], shown.join(", ")));
                }
            }
        }
        for client in &self.clients {
            for (lane, name) in client.kinds.iter().zip(["reads", "writes"]) {
                let sum = |counts: &[u8]| counts.iter().map(|count| u32::from(*count)).sum::<u32>();
                let (done, failed) = (sum(&lane.done), sum(&lane.failed));
                lines.push(format!("Client {}: {done} {name} answered, {failed} failed.", client.name));
            }
        }
        lines.join("\n")
    }

    /// For the cursor: the same as drawn, in tenths of a second.
    fn data(&self) -> serde_json::Value {
        let spans = |like: Seen| {
            let of = |node: &usize| {
                let spans = self.recording.spans(*node, &like, |seen| *seen == like, self.window());
                let tenths = |at: Duration| tenth(at.saturating_sub(self.played.from));
                let spans: Vec<_> = spans.iter().map(|(from, to)| [tenths(*from), tenths(*to)]).collect();
                serde_json::json!({ "node": self.recording.nodes[*node], "spans": spans })
            };
            self.regions.iter().map(of).collect::<Vec<_>>()
        };
        let machine = |node: usize| {
            let states = self.machine_spans(node).into_iter().map(|(machine, (from, _))| {
                serde_json::json!([tenth(from.saturating_sub(self.played.from)), machine.text()])
            });
            serde_json::json!({ "node": self.recording.nodes[node], "states": states.collect::<Vec<_>>() })
        };
        let digits = |counts: &[u8]| counts.iter().map(|count| char::from(b'0' + (*count).min(9))).collect::<String>();
        let client = |client: &Counts| {
            let lane = |lane: &Lane| serde_json::json!([digits(&lane.done), digits(&lane.failed)]);
            serde_json::json!({ "name": client.name, "reads": lane(&client.kinds[0]), "writes": lane(&client.kinds[1]) })
        };
        let marks = self
            .marked()
            .map(|(at, kind, text)| serde_json::json!([tenth(at.saturating_sub(self.played.from)), kind.word(), text]));
        serde_json::json!({
            "left": LEFT,
            "width": self.width,
            "leads": spans(Seen::Leads(true)),
            "address": spans(Seen::Address(true)),
            "writable": spans(Seen::Writable(true)),
            "machines": (0..self.recording.nodes.len()).map(machine).collect::<Vec<_>>(),
            "clients": self.clients.iter().map(client).collect::<Vec<_>>(),
            "marks": marks.collect::<Vec<_>>(),
        })
    }
}

/// The clients that asked during a scenario, with their requests by tenths.
fn counts(recording: &Recording, played: &Played, tenths: usize) -> Vec<Counts> {
    let empty = || Lane { done: vec![0; tenths], failed: vec![0; tenths] };
    let mut all: Vec<Option<[Lane; 2]>> = recording.clients.iter().map(|_| None).collect();
    for request in recording.requests.iter().filter(|one| one.ended >= played.from && one.sent < played.to) {
        let lanes = all[request.client].get_or_insert_with(|| [empty(), empty()]);
        let lane = &mut lanes[usize::from(request.kind.is_write())];
        let (counts, at) = match request.failure {
            None => (&mut lane.done, request.ended),
            Some(_) => (&mut lane.failed, request.sent),
        };
        if let Some(count) = counts.get_mut(tenth(at.saturating_sub(played.from))) {
            *count = count.saturating_add(1);
        }
    }
    let named = all.into_iter().zip(&recording.clients);
    named.filter_map(|(kinds, name)| Some(Counts { name: name.clone(), kinds: kinds? })).collect()
}

fn tenth(time: Duration) -> usize {
    // A scenario of more than thirteen years would not fit.
    usize::try_from(time.as_millis() / 100).unwrap_or(usize::MAX)
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Fills that are told apart without colour. Each picture has its own: identifiers are the page's.
fn patterns(id: &str) -> String {
    format!(
        "<pattern id=\"{id}-dots\" width=\"5\" height=\"6\" patternUnits=\"userSpaceOnUse\"><circle cx=\"2\" cy=\"3\" \
         r=\"1\"/></pattern>\n<pattern id=\"{id}-stripes\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
         <path d=\"M0 6L6 0\"/></pattern>\n<pattern id=\"{id}-mesh\" width=\"6\" height=\"6\" \
         patternUnits=\"userSpaceOnUse\"><path d=\"M0 6L6 0M0 0L6 6\"/></pattern>\n"
    )
}

fn legend(html: &mut String) {
    html.push_str(
        "<figcaption>Triangles above mark what was broken (pointing down) and put right (pointing up), numbered as in \
         the timeline. Machines: a full bar is a member, stripes a machine that joins, dots one that boots, a mesh one \
         that has stopped and waits for a person, an empty outline one that is off. Clients: answered requests stand on \
         the line at the moment of the answer, failed ones hang from it at the moment they were sent.</figcaption>\n",
    );
}

#[cfg(test)]
mod tests {
    use super::super::super::timeline::sample;
    use super::*;

    #[test]
    fn lanes_marks_and_words_follow_the_recording() {
        let recording = sample::recording();
        let picture = Picture::of(&recording, &recording.scenarios[0]);
        let mut html = String::new();
        picture.draw(&mut html, "leader-dies");
        assert_eq!(html.matches("class=\"leads\"").count(), 2, "one bar for each leader");
        assert_eq!(html.matches("class=\"mark fault\"").count(), 1);
        assert_eq!(html.matches("class=\"mark mend\"").count(), 1);
        for words in ["region-1 leads from 0.0 to 10.1 s.", "region-2 takes writes from 28.1 to 40.0 s."] {
            assert!(html.contains(words), "`{words}` is not in\n{}", picture.words());
        }
        assert!(html.contains("waiting for the leader &lt;region-2&gt;"));
    }

    #[test]
    fn requests_are_counted_by_tenths() {
        let recording = sample::recording();
        let picture = Picture::of(&recording, &recording.scenarios[0]);
        let [reads, writes] = &picture.clients[0].kinds;
        assert_eq!((reads.done[50], reads.failed[50]), (1, 0));
        assert_eq!((reads.done[110], reads.failed[110]), (0, 1));
        assert_eq!((writes.done[200], writes.failed[200]), (0, 1));
        assert_eq!(picture.clients.len(), 1, "a client that asked nothing has no lane");
    }

    #[test]
    fn a_scenario_shorter_than_a_tenth_and_a_very_long_one_are_drawn() {
        let mut recording = sample::recording();
        for to in [1, 40 * 3600 * 1000] {
            recording.scenarios[0].to = Duration::from_millis(to);
            let mut html = String::new();
            Picture::of(&recording, &recording.scenarios[0]).draw(&mut html, "x");
            assert!(!html.contains("NaN") && !html.contains("inf"), "{to}");
        }
    }
}
