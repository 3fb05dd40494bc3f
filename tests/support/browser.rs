//! Chromium without a screen, driven through chromedriver's HTTP interface (W3C WebDriver).
//!
//! Runs in a network namespace that holds only `lo`: a page that asks for anything from elsewhere cannot get it.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::namespace::Namespace;

/// Longest start of driver and browser; 1 to 3 s were measured.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// A browser with one page open; ended when dropped.
pub struct Browser {
    driver: Child,
    namespace: Namespace,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens a file.
    #[track_caller]
    pub fn open(page: &Path) -> Self {
        let namespace = Namespace::new();
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut command = namespace.command("chromedriver");
        command.args(["--port=9515"]).env("HOME", profile.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = command.spawn().expect("package chromium-driver is installed");
        let mut browser = Self { driver, namespace, session: String::new(), _profile: profile };
        let data = format!("--user-data-dir={}", browser._profile.path().join("profile").display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1000",
            data.as_str(),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let since = Instant::now();
        let session = loop {
            match browser.ask("session", Some(&wanted)) {
                Ok(value) => break value["sessionId"].as_str().expect("a session has a name").to_owned(),
                Err(error) => assert!(since.elapsed() < STARTED_WITHIN, "no browser: {error}"),
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        browser.session = session;
        browser.command("url", &json!({ "url": format!("file://{}", page.display()) }));
        browser
    }

    /// The value of a JavaScript expression in the page.
    #[track_caller]
    pub fn evaluate(&self, expression: &str) -> Value {
        self.command("execute/sync", &json!({ "script": format!("return {expression};"), "args": [] }))
    }

    /// Presses keys on whatever has the focus: text, or WebDriver's code points such as [`TAB`].
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let strokes = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })));
        let strokes: Vec<Value> = strokes.collect();
        self.command("actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] }));
    }

    /// What the page wrote to the console since the last call, and what the browser wrote there about it.
    #[track_caller]
    pub fn console(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({ "type": "browser" }));
        // The browser's own pages, such as the one that a new tab shows, complain there too.
        let lines = log.as_array().expect("a log is a list").iter();
        let lines = lines.filter(|line| !line["message"].as_str().is_some_and(|text| text.starts_with("chrome://")));
        lines.map(|line| format!("{}: {}", line["level"], line["message"])).collect()
    }

    #[track_caller]
    fn command(&self, name: &str, body: &Value) -> Value {
        self.ask(&format!("session/{}/{name}", self.session), Some(body)).unwrap_or_else(|error| panic!("{error}"))
    }

    fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:9515/{path}");
        self.namespace.inside(|| {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(STARTED_WITHIN))
                .build()
                .into();
            let sent = match body {
                Some(body) => agent.post(&url).header("Content-Type", "application/json").send(body.to_string()),
                None => agent.delete(&url).call(),
            };
            let text =
                sent.and_then(|mut answer| answer.body_mut().read_to_string()).map_err(|error| error.to_string())?;
            let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
            match answer["value"]["error"].as_str() {
                Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
                None => Ok(answer["value"].clone()),
            }
        })
    }
}

/// WebDriver's code points of keys.
pub const TAB: &str = "\u{e004}";
/// The arrow to the right.
pub const RIGHT: &str = "\u{e014}";
/// The End key.
pub const END: &str = "\u{e010}";
/// The space bar, as Enter: both press a button.
pub const ENTER: &str = "\u{e007}";

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.ask(&format!("session/{}", self.session), None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
