//! External programs: found or skipped by name, run with a time limit, their output kept for the failure message.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::daemon::workspace;

/// The longest that any tool may take in any test: on a busy machine, tens of times what it takes otherwise.
pub const TOOL_LIMIT: Duration = Duration::from_secs(300);

/// What a finished program left.
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Both outputs as text.
    pub fn all(&self) -> String {
        format!("{}{}", self.text(), self.stderr)
    }

    /// Itself, after asserting that it succeeded.
    #[track_caller]
    pub fn ok(self) -> Finished {
        assert!(self.status.success(), "should have succeeded: {self}");
        self
    }

    /// Itself, after asserting that it failed by itself (an exit code, not a signal) and said why.
    #[track_caller]
    pub fn refused(self) -> Finished {
        assert!(self.status.code().is_some_and(|code| code != 0), "should have failed with an exit code: {self}");
        assert!(self.all().split_whitespace().count() >= 3, "should have said why: {self}");
        self
    }

    /// Asserts that one of its outputs holds `words`, in any letter case.
    #[track_caller]
    pub fn says(self, words: &str) -> Finished {
        assert!(self.all().to_lowercase().contains(&words.to_lowercase()), "should have said {words:?}: {self}");
        self
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n-> {}\n{}", self.command, self.status, self.all())
    }
}

/// Runs a command to its end within [`TOOL_LIMIT`].
///
/// # Panics
/// When it cannot be started or does not end in time.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    run_with_input(command, b"")
}

/// Like [`run`], with bytes for its standard input.
///
/// # Panics
/// When it cannot be started or does not end in time.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Finished {
    let line = command_line(command);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // In a group of its own, which is ended as a whole: what a script has started holds the pipes open as well.
    let mut child = pipes.process_group(0).spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
    let stdout = drain(child.stdout.take().expect("stdout is piped"));
    let stderr = drain(child.stderr.take().expect("stderr is piped"));
    // A program may end without reading its input.
    child.stdin.take().expect("stdin is piped").write_all(input).unwrap_or_default();
    let status = waited(&mut child, TOOL_LIMIT);
    if status.is_none() {
        end_group(&child);
        child.wait().ok();
    }
    let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    let text = String::from_utf8_lossy(&stdout).into_owned();
    let status = status.unwrap_or_else(|| panic!("{line}: did not end within {TOOL_LIMIT:?}\n{text}{stderr}"));
    Finished { command: line, status, stdout, stderr }
}

/// Waits for a child; kills it when the limit passes.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let status = waited(child, limit);
    if status.is_none() {
        child.kill().ok();
        child.wait().ok();
    }
    status
}

fn waited(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Kills a child and everybody in its group.
fn end_group(child: &Child) {
    let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process number");
    kill_process_group(leader, Signal::KILL).ok();
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could be read before an error is what the failure message needs.
        pipe.read_to_end(&mut bytes).ok();
        bytes
    })
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// The path of a program, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?, program)
}

/// The path of a program, if it is installed in one of the directories of `path`.
pub fn find_in(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Whether a program is installed; says by the test's name that it is skipped otherwise.
pub fn available(test: &str, program: &str) -> bool {
    let found = find(program).is_some();
    if !found {
        skip(test, &format!("{program} not found"));
    }
    found
}

/// Says that a test is skipped, and why: the closing summary of `make test` collects these lines.
pub fn skip(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
}

/// The interpreter that has a module of Python: `.venv` of the workspace.
pub fn python(module: &str) -> Option<PathBuf> {
    let python = workspace().join(".venv/bin/python");
    let import = format!("import {module}");
    let has_module = python.is_file() && run(Command::new(&python).args(["-c", &import])).status.success();
    has_module.then_some(python)
}

/// SoftHSM2's module.
pub fn softhsm() -> Option<PathBuf> {
    const PLACES: [&str; 3] = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib64/libsofthsm2.so",
    ];
    PLACES.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_owned)
}
