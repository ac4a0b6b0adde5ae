//! Another application: a process of its own that has loaded the module and obeys one line at a time. Its other half is
//! `bin/worker.rs`. A test says a line and gets one line back, beginning with `ok` or with `error`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use crate::world::World;

/// A running worker. Dropping it kills it, as a vanishing application would.
pub struct Worker {
    child: Child,
    /// Nothing once no more lines come.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a worker beside a world; it loads and initialises the module at once.
    ///
    /// # Panics
    /// When the process cannot be started.
    pub fn start(world: &World) -> Worker {
        Worker::start_with(&mut world.command(Worker::program()))
    }

    /// Starts a worker by a command that somebody has changed.
    ///
    /// # Panics
    /// When the process cannot be started.
    pub fn start_with(command: &mut Command) -> Worker {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the worker starts");
        let input = Some(child.stdin.take().expect("stdin is piped"));
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Worker { child, input, output }
    }

    /// A worker with a session.
    ///
    /// # Panics
    /// When the process cannot be started, or is refused.
    pub fn opened(world: &World) -> Worker {
        let mut worker = Worker::start(world);
        worker.ok("open");
        worker
    }

    /// A worker with a session, logged in as the user.
    ///
    /// # Panics
    /// As [`Worker::opened`].
    pub fn entered(world: &World) -> Worker {
        let mut worker = Worker::opened(world);
        worker.ok("login");
        worker
    }

    /// The worker's binary: built together with the tests, into the directory above theirs (`deps`).
    ///
    /// # Panics
    /// When the test binary lies elsewhere.
    pub fn program() -> PathBuf {
        let test = std::env::current_exe().expect("the test binary is running");
        let dir = test.parent().and_then(|deps| deps.parent()).expect("test binaries lie in target/<profile>/deps");
        dir.join("acceptance-worker")
    }

    /// Says a line without waiting for the answer.
    ///
    /// # Panics
    /// When the worker is gone.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("lines are said before the end");
        writeln!(input, "{line}").expect("the worker listens");
    }

    /// The next line that the worker says; nothing when it has ended.
    pub fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap_or(0);
        // A line that was cut short was not said.
        (read > 0 && line.ends_with('\n')).then(|| line.trim_end().to_owned())
    }

    /// Says a line and gives the answer.
    ///
    /// # Panics
    /// When the worker is gone.
    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear().unwrap_or_else(|| panic!("the worker ended at {line:?}"))
    }

    /// Says a line and gives what follows `ok `.
    ///
    /// # Panics
    /// When the answer is an error.
    #[track_caller]
    pub fn ok(&mut self, line: &str) -> String {
        let answer = self.ask(line);
        let Some(rest) = answer.strip_prefix("ok") else { panic!("{line:?}: {answer}") };
        rest.trim().to_owned()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says nothing more: the worker ends by itself.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn end(mut self) -> ExitStatus {
        self.input = None;
        self.child.wait().expect("the worker can be waited for")
    }

    /// Ends it with SIGKILL: no C_Finalize, no goodbye.
    pub fn vanish(mut self) {
        self.child.kill().expect("the worker runs");
        self.child.wait().expect("the worker can be waited for");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
