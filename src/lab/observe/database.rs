//! Whether a container's database takes writes, asked of PostgreSQL itself over one session that stays.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::super::tools;

/// Number of the user `postgres`, fixed in the profile `region`.
const POSTGRES: &str = "241";

/// Longest wait for an answer; it takes a millisecond.
const LIMIT: Duration = Duration::from_millis(500);

/// Between two tries to open a session where there is no server.
const AGAIN: Duration = Duration::from_millis(500);

/// A session, or the memory of one that ended.
#[derive(Debug)]
pub struct Question {
    session: Option<Session>,
    ended: Instant,
}

#[derive(Debug)]
struct Session {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

/// Whether the database of the container whose PID 1 is `process` takes writes. No answer is no.
pub fn writable(question: &mut Option<Question>, process: i32) -> bool {
    let asked = question.get_or_insert_with(|| Question { session: Session::open(process), ended: Instant::now() });
    match &mut asked.session {
        Some(session) => {
            if let Some(answer) = session.ask() {
                return answer;
            }
            *asked = Question { session: None, ended: Instant::now() };
        }
        None if asked.ended.elapsed() > AGAIN => *question = None,
        None => {}
    }
    false
}

impl Session {
    fn open(process: i32) -> Option<Self> {
        let target = process.to_string();
        let mut command = Command::new("nsenter");
        // Not into its control group: the machine would not be taken for off while this ends.
        command.args(["--target", &target, "--mount", "--pid", "--uts", "--ipc", "--net"]);
        command.args(["--setuid", POSTGRES, "--setgid", POSTGRES, "--", "psql", "-XAtqn", "--host=/run/postgresql"]);
        command.env_clear().env("PATH", tools::PATH).env("PGUSER", "postgres").env("PGCONNECT_TIMEOUT", "2");
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let (input, output) = (child.stdin.take()?, child.stdout.take()?);
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Some(Self { child, input, answers })
    }

    /// None when the session has ended or does not answer.
    fn ask(&mut self) -> Option<bool> {
        // An answer that came too late belongs to an older question.
        while self.answers.try_recv().is_ok() {}
        self.input.write_all(b"SELECT NOT pg_is_in_recovery();\n").ok()?;
        match self.answers.recv_timeout(LIMIT) {
            Ok(answer) => Some(answer == "t"),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
