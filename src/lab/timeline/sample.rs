//! A recording as two scenarios would leave it, for tests of what is made of recordings.

use std::time::Duration;

use super::{Change, Entry, EntryKind, Figure, Machine, Played, Recording, Request, RequestKind, Seen, Verdict};

fn at(seconds: f64) -> Duration {
    Duration::from_millis((seconds * 1000.0) as u64)
}

/// The leader dies after ten seconds and comes back; then a partition goes wrong; a third was not played.
pub fn recording() -> Recording {
    let nodes = ["region-1", "region-2", "rack-1"].map(str::to_owned).to_vec();
    let entry = |seconds, kind, text: &str| Entry { at: at(seconds), kind, text: text.into() };
    let entries = vec![
        entry(0.0, EntryKind::Scenario, "leader-dies"),
        entry(10.0, EntryKind::Fault, "kill region-1, the leader"),
        entry(27.9, EntryKind::Seen, "region-2 leads"),
        entry(28.4, EntryKind::Figure, "first write after the leader's death: 18.4 s"),
        entry(30.0, EntryKind::Mend, "start region-1"),
        entry(40.0, EntryKind::Verdict, "leader-dies passed"),
        entry(40.0, EntryKind::Scenario, "partitions"),
        entry(45.0, EntryKind::Fault, "cut region-1 <off> & \"alone\""),
        entry(60.0, EntryKind::Verdict, "partitions failed"),
    ];
    let change = |seconds, node, seen| Change { at: at(seconds), node, seen };
    let mut changes = Vec::new();
    for node in 0..3 {
        changes.push(change(0.0, node, Seen::Machine(Machine::Joined)));
        changes.push(change(0.0, node, Seen::Leads(node == 0)));
        changes.push(change(0.0, node, Seen::Writable(node == 0)));
        changes.push(change(0.0, node, Seen::Address(node == 0)));
    }
    changes.extend([
        change(10.1, 0, Seen::Leads(false)),
        change(10.1, 0, Seen::Writable(false)),
        change(10.1, 0, Seen::Address(false)),
        change(10.1, 0, Seen::Machine(Machine::Off)),
        change(11.9, 1, Seen::Address(true)),
        change(27.9, 1, Seen::Leads(true)),
        change(28.1, 1, Seen::Writable(true)),
        change(30.2, 0, Seen::Machine(Machine::Booting)),
        change(33.0, 0, Seen::Machine(Machine::Joining("waiting for the leader <region-2>".into()))),
        change(38.0, 0, Seen::Machine(Machine::Joined)),
        change(50.0, 0, Seen::Writable(true)),
        change(51.5, 0, Seen::Writable(false)),
    ]);
    Recording {
        subject: "ha-lab 2026.11.1, containers".into(),
        began: "2026-11-24T22:00:00".into(),
        nodes,
        clients: vec!["c1".into(), "c2".into()],
        entries,
        changes,
        requests: requests(),
        scenarios: scenarios(),
    }
}

/// A read and a write each tenth of a second; reads fail for two seconds after the fault and writes for 18.4.
fn requests() -> Vec<Request> {
    let mut requests = Vec::new();
    for tick in 0..600_u64 {
        let sent = Duration::from_millis(tick * 100);
        for (kind, back) in [(RequestKind::Read, 12.0), (RequestKind::Write(tick), 28.4)] {
            let down = sent >= at(10.0) && sent < at(back);
            requests.push(Request {
                client: 0,
                kind,
                sent,
                ended: sent + Duration::from_millis(if down { 1000 } else { 12 }),
                failure: down.then(|| "no connection within 1 s".to_owned()),
            });
        }
    }
    requests.sort_by_key(|request| request.ended);
    requests
}

fn scenarios() -> Vec<Played> {
    let figure = |name: &str, value, unit: &str, aim| Figure { name: name.into(), value, unit: unit.into(), aim };
    vec![
        Played {
            name: "leader-dies".into(),
            number: 4,
            proves: "Writes resume by themselves after the leader's machine dies".into(),
            from: at(0.0),
            to: at(40.0),
            verdict: Verdict::Passed,
            figures: vec![
                figure("first write after the leader's death", 18.4, "s", Some(20.0)),
                figure("acknowledged rows that are gone", 0.0, "rows", Some(0.0)),
            ],
            kept: None,
        },
        Played {
            name: "partitions".into(),
            number: 6,
            proves: "No cut of the network ever makes two writable databases".into(),
            from: at(40.0),
            to: at(60.0),
            verdict: Verdict::Failed("two databases took writes at 50.0 s, for 1.5 s".into()),
            figures: vec![],
            kept: Some("out/lab/partitions".into()),
        },
        Played {
            name: "first-boot".into(),
            number: 11,
            proves: "A disk image boots with a volume named CIDATA".into(),
            from: at(60.0),
            to: at(60.0),
            verdict: Verdict::Skipped("only in QEMU".into()),
            figures: vec![],
            kept: None,
        },
    ]
}
