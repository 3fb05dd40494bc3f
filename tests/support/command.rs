//! Running programs: reference tools, and `rolecast` itself in an environment of its own.
//!
//! Nothing of the caller's environment reaches a program but `PATH`; the locale is C and the time zone UTC.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::project::Project;

/// What a program did.
#[derive(Debug)]
pub struct Outcome {
    /// The command, for messages.
    pub command: String,
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output, lossily as UTF-8.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Wall time.
    pub took: Duration,
}

impl Outcome {
    /// Standard output of a program that must succeed.
    #[track_caller]
    pub fn succeeds(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        self.stdout
    }

    /// Standard error of a program that must fail with an exit code of its own (not by a signal, not by a panic).
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(!matches!(self.code, Some(0 | 101) | None), "{self}");
        self.stderr
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(formatter, "$ {}", self.command)?;
        writeln!(formatter, "exit code {:?} after {:.1} s", self.code, self.took.as_secs_f64())?;
        writeln!(formatter, "--- standard output\n{}", self.stdout)?;
        write!(formatter, "--- standard error\n{}", self.stderr)
    }
}

/// A command with nothing of the caller's environment but `PATH` (the system's folders added, as tools live in `sbin`).
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8").env("TZ", "UTC").stdin(Stdio::null());
    command
}

/// Runs a tool that CI installs; a missing one fails the test by its name.
#[track_caller]
pub fn run<I>(program: &str, arguments: I) -> Outcome
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let mut command = command(program);
    command.args(arguments);
    finish(command)
}

/// Runs a command to its end.
#[track_caller]
pub fn finish(mut command: Command) -> Outcome {
    let shown = show(&command);
    let start = Instant::now();
    let output = command.output().unwrap_or_else(|error| panic!("cannot run `{shown}`: {error}"));
    Outcome {
        command: shown,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: start.elapsed(),
    }
}

fn show(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _ = write!(shown, " {}", argument.to_string_lossy());
    }
    shown
}

/// `rolecast` with a store and an output folder of its own.
#[derive(Clone)]
pub struct Rolecast {
    project: PathBuf,
    /// Where objects and results are kept.
    pub store: PathBuf,
    /// Where images are written.
    pub output: PathBuf,
    environment: Vec<(OsString, OsString)>,
    wrapper: Vec<OsString>,
    /// The executable.
    pub program: PathBuf,
}

impl Rolecast {
    /// For `project`, with `store/` and `out/` beside it in the project's temporary folder.
    pub fn new(project: &Project) -> Self {
        let place = project.root().parent().expect("a project lies in a temporary folder");
        Self::at(project.root(), &place.join("store"), &place.join("out"))
    }

    /// For the project at `project`.
    pub fn at(project: &Path, store: &Path, output: &Path) -> Self {
        let environment = vec![("HOME".into(), project.as_os_str().to_owned()), ("NO_COLOR".into(), "1".into())];
        Self {
            project: project.into(),
            store: store.into(),
            output: output.into(),
            environment,
            wrapper: Vec::new(),
            program: env!("CARGO_BIN_EXE_rolecast").into(),
        }
    }

    /// Adds or replaces an environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.retain(|(have, _)| have != name);
        self.environment.push((name.into(), value.as_ref().into()));
        self
    }

    /// The mirror of the archive `id`, through `ROLECAST_MIRROR_<ID>`.
    #[must_use]
    pub fn mirror(self, id: &str, url: &str) -> Self {
        let name = format!("ROLECAST_MIRROR_{}", id.to_uppercase().replace('-', "_"));
        self.environment(&name, url)
    }

    /// Runs under another program: `setpriv --reuid=…`, `unshare -n`.
    #[must_use]
    pub fn under<S: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// The command for a verb and its arguments. `--store` goes by `ROLECAST_STORE`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.wrapper.iter().map(OsString::as_os_str).chain([self.program.as_os_str()]);
        let mut command = command(words.next().expect("at least the program"));
        command.args(words).args(arguments).current_dir(&self.project);
        command.env("ROLECAST_STORE", &self.store).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a verb to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let mut outcome = finish(self.command(arguments));
        outcome.stdout = self.filter(&outcome.stdout);
        outcome.stderr = self.filter(&outcome.stderr);
        outcome
    }

    /// Runs `build` into the output folder.
    #[track_caller]
    pub fn build(&self, image: &str, more: &[&str]) -> Outcome {
        let output = self.output.to_string_lossy().into_owned();
        let mut arguments = vec!["build", image, "--output", output.as_str()];
        arguments.extend(more);
        self.run(&arguments)
    }

    /// Starts a verb, its output kept for [`Started::wait`].
    pub fn start(&self, arguments: &[&str]) -> Started {
        let mut command = self.command(arguments);
        let shown = show(&command);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rolecast was built");
        Started { child, shown, since: Instant::now() }
    }

    /// `text` with this run's places replaced by names, so that it can be compared.
    pub fn filter(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (place, name) in [(&self.store, "[STORE]"), (&self.output, "[OUTPUT]"), (&self.project, "[PROJECT]")] {
            text = text.replace(&*place.to_string_lossy(), name);
        }
        text
    }
}

/// A verb that runs.
pub struct Started {
    child: Child,
    shown: String,
    since: Instant,
}

impl Started {
    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child can be awaited");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child can be asked").is_some()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Outcome {
        // Read beside each other: a full pipe would stop the program.
        let mut errors = self.child.stderr.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            text
        });
        let mut stdout = Vec::new();
        let _ = self.child.stdout.take().expect("piped").read_to_end(&mut stdout);
        let status = self.child.wait().expect("the child can be awaited");
        Outcome {
            command: self.shown,
            code: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&reader.join().expect("the reader ends")).into_owned(),
            took: self.since.elapsed(),
        }
    }
}
