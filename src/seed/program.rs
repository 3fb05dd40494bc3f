//! Programs that are given something secret: on standard input, never in an argument, the environment or a file.

use std::io::{self, Read as _, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

/// How much of what a program says is kept.
const KEPT: u64 = 4 << 20;

/// What a program has said.
pub struct Said {
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error; empty where that is the terminal.
    pub errors: String,
    /// How it ended.
    pub status: ExitStatus,
}

/// Runs `command` with `input` on its standard input, to its end.
///
/// # Errors
/// When it cannot be started.
pub fn run(command: &mut Command, input: &[u8]) -> io::Result<Said> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(move || {
            // A program may end without reading all of it; that shows in how it ends.
            stdin.map(|mut pipe| pipe.write_all(input))
        });
        let errors = scope.spawn(move || stderr.map(gather).unwrap_or_default());
        let output = stdout.map(gather).unwrap_or_default();
        let errors = String::from_utf8_lossy(&errors.join().unwrap_or_default()).into_owned();
        Ok(Said { output, errors, status: child.wait()? })
    })
}

/// Reads a pipe to its end and keeps the beginning.
fn gather(mut pipe: impl io::Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = pipe.by_ref().take(KEPT).read_to_end(&mut kept);
    let _ = io::copy(&mut pipe, &mut io::sink());
    kept
}
