//! A client against a server that fails in known ways.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use super::super::timeline::Recording;
use super::*;

/// A server of the stub's rows that drops every connection while `broken` is set, and "loses" row 3.
struct Server {
    port: u16,
    broken: Arc<AtomicBool>,
}

fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let broken = Arc::new(AtomicBool::new(false));
    let rows = Arc::new(Mutex::new(BTreeSet::new()));
    let down = Arc::clone(&broken);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, down, rows) = (stream.unwrap(), Arc::clone(&down), Arc::clone(&rows));
            std::thread::spawn(move || {
                if down.load(Ordering::Relaxed) {
                    return;
                }
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).unwrap_or(0);
                let request = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let (status, body) = respond(&request, &mut rows.lock().unwrap());
                let length = body.len();
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
            });
        }
    });
    Server { port, broken }
}

fn respond(request: &str, rows: &mut BTreeSet<u64>) -> (&'static str, String) {
    if let Some((_, body)) = request.split_once("\r\n\r\n").filter(|_| request.starts_with("POST /MAAS/stub/rows/ ")) {
        let row: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(row["client"], "c1");
        let number = row["n"].as_u64().unwrap();
        if number != 3 {
            rows.insert(number);
        }
        return ("201 Created", format!("{{\"n\":{number}}}"));
    }
    if request.starts_with("GET /MAAS/stub/rows/?client=c1 ") {
        let ranges: Vec<_> = rows.iter().map(|number| (number, number)).collect();
        return ("200 OK", serde_json::json!({ "ranges": ranges }).to_string());
    }
    ("200 OK", "{\"version\":\"3.7\"}".into())
}

fn here() -> Enter {
    Arc::new(|work| {
        work();
        Ok(())
    })
}

#[test]
fn a_client_writes_down_what_it_saw_and_counts_what_is_gone() {
    let server = server();
    let recorder = Recorder::start(Recording::default(), Box::new(|_| {}));
    let mut client = Client::start("c1", (Ipv4Addr::LOCALHOST, server.port).into(), Pace::BRISK, here(), &recorder);
    std::thread::sleep(Duration::from_millis(900));
    server.broken.store(true, Ordering::Relaxed);
    let from = recorder.now();
    std::thread::sleep(Duration::from_millis(500));
    server.broken.store(false, Ordering::Relaxed);
    let to = recorder.now();
    std::thread::sleep(Duration::from_millis(700));
    client.stop().unwrap();
    let requests = recorder.read().requests.clone();
    let (writes, reads): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.kind.is_write());
    assert!(writes.len() >= 8 && reads.len() >= 8, "{} writes, {} reads", writes.len(), reads.len());
    let failed: Vec<_> = requests.iter().filter(|request| request.failure.is_some()).collect();
    assert!(!failed.is_empty(), "nothing failed while the server was broken");
    let margin = Duration::from_millis(300);
    assert!(failed.iter().all(|request| request.ended >= from && request.sent <= to + margin), "{failed:?}");
    let acknowledged = super::super::timeline::measure::acknowledged(&requests, client.index());
    let rows = Rows::compare(&acknowledged, &client.present().unwrap());
    assert_eq!(rows.lost, [3]);
    assert_eq!(rows.acknowledged, acknowledged.len());
}

#[test]
fn a_list_of_rows_is_read_and_nothing_else() {
    let listed = numbers(br#"{"stub":true,"ranges":[[1,3],[5,5]]}"#);
    assert_eq!(listed.unwrap(), BTreeSet::from([1, 2, 3, 5]));
    assert_eq!(numbers(br#"{"ranges":[]}"#).unwrap(), BTreeSet::new());
    for text in
        ["", "{}", r#"{"ranges":[["1","2"]]}"#, r#"{"ranges":[[-1,2]]}"#, r#"{"ranges":[[0,18446744073709551615]]}"#]
    {
        assert!(numbers(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn rows_that_were_committed_without_an_answer_are_not_lost_ones() {
    let rows = Rows::compare(&BTreeSet::from([1, 2, 3]), &BTreeSet::from([2, 3, 4]));
    assert_eq!(rows, Rows { acknowledged: 3, lost: vec![1], unconfirmed: 1 });
}
