//! A running craton-hsm-daemon: spawn, kill, pause, restart. Not its configuration: see `world`.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a daemon may take from its start to the first accepted connection (power-on self-test included, unoptimised build).
pub const START_LIMIT: Duration = Duration::from_secs(180);
/// How long a daemon may take to end after SIGTERM.
pub const STOP_LIMIT: Duration = Duration::from_secs(120);

/// The directory of the binaries and of the module: `CRATON_BIN_DIR`, or the workspace's `target/debug`.
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("CRATON_BIN_DIR") {
        return PathBuf::from(dir);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| workspace().join("target")).join("debug")
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests' manifest lies below the workspace root")
        .to_owned()
}

/// The path of one of our binaries.
///
/// # Panics
/// When it has not been built; the message names the command that builds it.
pub fn binary(name: &str) -> PathBuf {
    let path = bin_dir().join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace --lib --bins` first", path.display());
    path
}

/// The module's file.
pub fn module() -> PathBuf {
    binary("libcraton_pkcs11.so")
}

/// In what a daemon is started.
#[derive(Default)]
pub struct Surroundings {
    /// What it finds in its environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// What is started in its place, and becomes it.
    pub program: Option<PathBuf>,
}

/// A daemon that was started by a test. Dropping it kills it.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon and waits until its socket answers.
    ///
    /// # Errors
    /// A sentence with the daemon's log when it ended early or did not answer within [`START_LIMIT`].
    pub fn start(config: &Path, socket: &Path, log: &Path) -> Result<Daemon, String> {
        Daemon::start_with(config, socket, log, &Surroundings::default())
    }

    /// [`Daemon::start`] in other surroundings.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_with(config: &Path, socket: &Path, log: &Path, surroundings: &Surroundings) -> Result<Daemon, String> {
        let mut daemon = Daemon::spawn_with(config, log, surroundings)?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if UnixStream::connect(socket).is_ok() {
                return Ok(daemon);
            }
            if let Ok(Some(status)) = daemon.child.try_wait() {
                return Err(format!("the daemon ended with {status}; its log:\n{}", daemon.log()));
            }
            if Instant::now() > deadline {
                return Err(format!("the daemon did not answer within {START_LIMIT:?}; its log:\n{}", daemon.log()));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts a daemon without waiting; its process id is left beside its log, for whoever must clean up after a dead test.
    ///
    /// # Errors
    /// A sentence when the process cannot be started.
    pub fn spawn(config: &Path, log: &Path) -> Result<Daemon, String> {
        Daemon::spawn_with(config, log, &Surroundings::default())
    }

    fn spawn_with(config: &Path, log: &Path, surroundings: &Surroundings) -> Result<Daemon, String> {
        let out = File::options().create(true).append(true).open(log).map_err(|e| format!("{}: {e}", log.display()))?;
        let err = out.try_clone().map_err(|e| e.to_string())?;
        let program = surroundings.program.clone().unwrap_or_else(|| binary("craton-hsm-daemon"));
        let child = Command::new(program)
            .arg("--config")
            .arg(config)
            // A daemon is not started with the PINs of its users in its environment.
            .env_remove("PIN")
            .env_remove("SO_PIN")
            .envs(surroundings.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|e| format!("the daemon could not be started: {e}"))?;
        fs::write(pid_file(log), child.id().to_string()).map_err(|e| e.to_string())?;
        Ok(Daemon { child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child that was not waited for can be waited for");
    }

    /// SIGTERM, and the exit status.
    ///
    /// # Panics
    /// When it has not ended within [`STOP_LIMIT`].
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(STOP_LIMIT)
            .unwrap_or_else(|| panic!("the daemon did not end within {STOP_LIMIT:?}; its log:\n{}", self.log()))
    }

    /// SIGSTOP: alive, connected, and silent. Returns when every thread has stopped, not only when it was told to.
    ///
    /// # Panics
    /// When they have not within some minutes.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let deadline = Instant::now() + START_LIMIT;
        while !self.thread_states().iter().all(|state| *state == 'T') {
            assert!(Instant::now() < deadline, "the daemon does not stop: {:?}", self.thread_states());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The state letter of each thread (proc_pid_stat(5)); a thread that ends meanwhile is left out.
    fn thread_states(&self) -> Vec<char> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the daemon runs");
        let stats = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        // The name in parentheses may hold anything; the state follows the last one.
        stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect()
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Its exit status if it ends within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    fn signal(&self, signal: Signal) {
        // A daemon that has ended by itself cannot take a signal; what it left behind tells the story.
        kill_process(Pid::from_child(&self.child), signal).unwrap_or_default();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::KILL);
            self.child.wait().ok();
        }
    }
}

/// Ends the daemon whose process id lies beside `log`, if that process still is one of ours.
pub fn end_left_over(log: &Path) {
    let Some(pid) = fs::read_to_string(pid_file(log)).ok().and_then(|text| text.trim().parse::<i32>().ok()) else {
        return;
    };
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    if let Some(pid) = Pid::from_raw(pid).filter(|_| exe.ends_with("craton-hsm-daemon")) {
        kill_process(pid, Signal::KILL).unwrap_or_default();
    }
}

fn pid_file(log: &Path) -> PathBuf {
    log.with_extension("pid")
}
