//! What a registry may answer: a challenge, a refusal that passes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::digest::{Digest, Key};
use crate::remote::login;
use crate::remote::oci::Registry;
use crate::remote::place::{Name, Place as _, Put};
use crate::remote::wire::Trouble;

/// Answers each request by its first line and headers; every request's head is kept.
fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heads.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).is_ok_and(|length| length > 2) {}
            let length =
                head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let _ = reader.take(length.unwrap_or(0)).read_to_end(&mut Vec::new());
            let reply = answer(&head);
            kept.lock().unwrap().push(head);
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    (address, heads)
}

#[test]
fn a_registry_that_wants_a_token_is_given_one() {
    let auth = |realm: &str| {
        format!(
            "WWW-Authenticate: Bearer realm=\"{realm}\",service=\"registry\",scope=\"repository:a/b:pull,push\"\r\n"
        )
    };
    let ok =
        |body: &str| format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (tokens, asked) = serve(move |head| {
        let known = head.to_ascii_lowercase().contains("authorization: basic ywrhomh1bnrlcji=");
        match known && head.contains("service=registry") {
            true => ok("{\"token\":\"t0ken\"}"),
            false => "HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(),
        }
    });
    let realm = format!("http://{tokens}/token");
    let (registry, heads) = serve(move |head| match head.contains("Bearer t0ken") {
        true => "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(),
        false => format!("HTTP/1.1 401 No\r\nConnection: close\r\n{}Content-Length: 0\r\n\r\n", auth(&realm)),
    });
    let environment = |name: &str| match name {
        "ROLECAST_REMOTE_USER" => Some("ada".to_owned()),
        "ROLECAST_REMOTE_PASSWORD" => Some("hunter2".to_owned()),
        _ => None,
    };
    let login = login::of_registry(&registry, &environment).unwrap();
    let place = Registry::new("oci://here/a/b", &registry, "a/b", login);
    assert_eq!(place.has(&Digest::of(b"x")), Ok(false));
    assert_eq!(place.has(&Digest::of(b"y")), Ok(false));
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "a token is asked for once: {asked:?}");
    assert!(asked[0].contains("scope=repository%3Aa%2Fb%3Apull%2Cpush"), "{asked:?}");
    assert!(
        heads.lock().unwrap().iter().all(|head| !head.to_ascii_lowercase().contains("basic")),
        "the password went astray"
    );
    // Without credentials the answer is told, and no secret with it.
    let place = Registry::new("oci://here/a/b", &registry, "a/b", None);
    let trouble = place.has(&Digest::of(b"x")).unwrap_err();
    assert!(matches!(trouble, Trouble::Status { status: 401, .. }), "{trouble:?}");
    assert!(trouble.diagnostic().hints.iter().any(|hint| hint.contains("docker login")));
}

/// Two pushes at once: what one sees of a blob while the other brings it too is empty for an instant (docker's registry).
#[test]
fn a_manifest_that_is_refused_while_another_brings_its_blob_is_put_again() {
    let reply = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let name = Name { step: "test.step".to_owned(), key: Key::new("test.step", 1).digest() };
    let put = |refusals: usize, code: &'static str| {
        let puts = AtomicUsize::new(0);
        let (registry, heads) = serve(move |head| {
            let words: Vec<&str> = head.split(' ').take(2).collect();
            match words.as_slice() {
                ["HEAD", _] => reply("200 OK", ""),
                ["PUT", _] if puts.fetch_add(1, Ordering::SeqCst) < refusals => {
                    reply("400 Bad Request", &format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#))
                }
                ["PUT", _] => reply("201 Created", ""),
                _ => reply("404 Not Found", ""),
            }
        });
        let place = Registry::new("oci://here/a/b", &registry, "a/b", None);
        let outcome = place.put_record(&name, b"record", &[], false);
        let puts = heads.lock().unwrap().iter().filter(|head| head.starts_with("PUT ")).count();
        (outcome, puts)
    };
    assert_eq!(put(2, "DIGEST_INVALID"), (Ok(Put::Done), 3));
    assert_eq!(put(1, "MANIFEST_BLOB_UNKNOWN"), (Ok(Put::Done), 2));
    // A blob that stays away is told, and so is at once what waiting does not mend.
    for (code, times) in [("MANIFEST_BLOB_UNKNOWN", 4), ("MANIFEST_INVALID", 1)] {
        let (outcome, puts) = put(usize::MAX, code);
        assert!(
            matches!(&outcome, Err(Trouble::Status { status: 400, said, .. }) if said.contains(code)),
            "{outcome:?}"
        );
        assert_eq!(puts, times, "{code}");
    }
}
