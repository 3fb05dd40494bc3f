//! Programs that are run: with a time limit, bounded output, and what is secret on standard input only.
//!
//! A program is started in a session of its own, so that a prompt finds no terminal and reads standard input instead
//! (getpass(3) and Python's getpass do), and so that everything it started can be ended with it.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin";

/// How much of what a program says is kept; the rest is read and dropped.
const KEPT: u64 = 4 << 20;

/// A program to run.
#[derive(Debug)]
pub struct Program {
    command: Command,
    name: String,
    input: Vec<u8>,
    limit: Duration,
}

/// What a program that ended has said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Standard output, at most 4 MiB of it.
    pub output: String,
    /// Standard error, likewise.
    pub errors: String,
    /// How it ended.
    pub status: ExitStatus,
}

/// Why a program gave nothing to go on.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It cannot be started.
    #[error("cannot run `{0}`: {1}")]
    Start(String, io::Error),
    /// It took too long and was ended.
    #[error("`{0}` did not end within {1} s and was stopped")]
    Slow(String, u64),
    /// It failed.
    #[error("`{0}` failed: {1}")]
    Failed(String, String),
}

impl Program {
    /// The program `name` with its arguments; ten seconds for it. Its environment holds no more than where programs
    /// are and the language.
    pub fn new<I: IntoIterator<Item = S>, S: Into<OsString>>(name: &str, arguments: I) -> Self {
        let mut command = Command::new(name);
        command.args(arguments.into_iter().map(Into::into)).env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8");
        #[expect(unsafe_code, reason = "setsid(2) is safe between fork and exec: it touches no memory")]
        // SAFETY: the closure makes one system call that allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(())
            });
        }
        Self { command, name: name.to_owned(), input: Vec::new(), limit: Duration::from_secs(10) }
    }

    /// Gives it `input` on standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// A variable of its environment. Never a secret: environments can be read.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it, and is content with any way in which it ends.
    ///
    /// # Errors
    /// When it cannot be started or takes too long.
    pub fn ask(self) -> Result<Said, ProgramError> {
        self.ask_while(|| true)
    }

    /// As [`Program::ask`], and ends it as soon as `wanted` says no; asked a few times a second.
    ///
    /// # Errors
    /// As there.
    pub fn ask_while(mut self, mut wanted: impl FnMut() -> bool) -> Result<Said, ProgramError> {
        let start = |error| ProgramError::Start(self.name.clone(), error);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Started(self.command.spawn().map_err(start)?);
        let input = std::mem::take(&mut self.input);
        if let Some(mut pipe) = child.0.stdin.take() {
            // A program may end without reading all of it; that shows in how it ends.
            thread::spawn(move || pipe.write_all(&input));
        }
        let output = gather(child.0.stdout.take());
        let errors = gather(child.0.stderr.take());
        let began = Instant::now();
        let mut pause = Duration::from_millis(2);
        let status = loop {
            if let Some(status) = child.0.try_wait().map_err(start)? {
                break status;
            }
            if began.elapsed() > self.limit || !wanted() {
                return Err(ProgramError::Slow(self.name, began.elapsed().as_secs()));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
        };
        // What it left behind may keep the pipes open for ever.
        let text = |from: &Receiver<Vec<u8>>| from.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let text = |from| String::from_utf8_lossy(&text(from)).into_owned();
        Ok(Said { output: text(&output), errors: text(&errors), status })
    }

    /// Starts it and leaves its input open. Standard error goes nowhere.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn session(mut self) -> Result<Session, ProgramError> {
        let start = |error| ProgramError::Start(self.name.clone(), error);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Started(self.command.spawn().map_err(start)?);
        let (Some(input), Some(output)) = (child.0.stdin.take(), child.0.stdout.take()) else {
            return Err(start(io::ErrorKind::BrokenPipe.into()));
        };
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output.take(KEPT)).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Session { input, lines, _child: child })
    }

    /// Runs it and returns its standard output.
    ///
    /// # Errors
    /// When it cannot be started, takes too long or fails; the last lines of its standard error say why.
    pub fn run(self) -> Result<String, ProgramError> {
        let name = self.name.clone();
        self.ask()?.succeeded(&name)
    }
}

/// A program that is spoken with, a line at a time; ended when this value is dropped.
#[derive(Debug)]
pub struct Session {
    input: ChildStdin,
    lines: Receiver<String>,
    // Dropped last: it is ended after its input was closed.
    _child: Started,
}

impl Session {
    /// Says `line` and returns the line that comes back.
    ///
    /// # Errors
    /// When the program has ended or does not answer within `patience`.
    pub fn ask(&mut self, line: &str, patience: Duration) -> io::Result<String> {
        writeln!(self.input, "{line}")?;
        self.lines.recv_timeout(patience).map_err(|_| io::ErrorKind::TimedOut.into())
    }
}

impl Said {
    /// Its standard output if it ended well.
    ///
    /// # Errors
    /// When it did not; `name` is what it is called in the message.
    pub fn succeeded(self, name: &str) -> Result<String, ProgramError> {
        match self.status.success() {
            true => Ok(self.output),
            false => Err(ProgramError::Failed(name.to_owned(), self.reason())),
        }
    }

    /// The end of what it said on standard error, or how it ended.
    pub fn reason(&self) -> String {
        let lines: Vec<&str> = self.errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(3)..].join("; ");
        match last.is_empty() {
            true => self.status.to_string(),
            false => last.chars().take(600).collect(),
        }
    }
}

/// A process whose whole session ends with this value.
#[derive(Debug)]
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.0.wait();
        }
    }
}

/// Reads a pipe to its end in a thread of its own.
fn gather(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(KEPT).read_to_end(&mut kept);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        sender.send(kept)
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_its_input_and_says_its_output() {
        assert_eq!(Program::new("cat", [""; 0]).input("secret\n").run().unwrap(), "secret\n");
        let failed = Program::new("sh", ["-c", "echo no such thing >&2; exit 3"]).run().unwrap_err();
        assert_eq!(failed.to_string(), "`sh` failed: no such thing");
        assert!(matches!(Program::new("/nowhere/program", [""; 0]).run(), Err(ProgramError::Start(..))));
    }

    #[test]
    fn a_program_that_does_not_end_is_ended_with_what_it_started() {
        let slow = Program::new("sh", ["-c", "sleep 60 & sleep 60"]).limit(Duration::from_millis(50));
        assert!(matches!(slow.run(), Err(ProgramError::Slow(..))));
        let unwanted = Program::new("sleep", ["60"]).ask_while(|| false);
        assert!(matches!(unwanted, Err(ProgramError::Slow(..))));
    }

    #[test]
    fn a_session_answers_line_by_line_until_it_is_dropped() {
        let mut session = Program::new("sh", ["-c", "while read word; do echo $word again; done"]).session().unwrap();
        assert_eq!(session.ask("one", Duration::from_secs(5)).unwrap(), "one again");
        assert_eq!(session.ask("two", Duration::from_secs(5)).unwrap(), "two again");
        let mut silent = Program::new("sleep", ["60"]).session().unwrap();
        assert!(silent.ask("one", Duration::from_millis(20)).is_err());
    }

    #[test]
    fn endless_output_is_cut() {
        let said = Program::new("sh", ["-c", "yes | head -c 20000000"]).ask().unwrap();
        assert_eq!(said.output.len() as u64, KEPT);
    }

    #[test]
    fn a_prompt_finds_no_terminal() {
        assert!(Program::new("sh", ["-c", ": </dev/tty"]).run().is_err());
    }
}
