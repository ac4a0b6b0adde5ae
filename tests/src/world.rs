//! A world of its own for one test: a temporary directory with configuration, store and journal, and the daemon that serves it.
//!
//! The module keeps one state per process and finds its daemon by an environment variable. A test that loads the module therefore
//! runs in a process of its own, with a world of its own: [`module_test!`](crate::module_test) starts the test binary once more
//! for that one test.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates;
use crate::daemon::{self, Daemon, Surroundings, binary, end_left_over};
use crate::port::free_port;
use crate::tools::{self, Finished};

/// The label of the token that a world initialises.
pub const LABEL: &str = "test";
/// Its user PIN.
pub const PIN: &str = "user-pin-1234";
/// Its security officer's PIN.
pub const SO_PIN: &str = "so-pin-12345678";

/// A clients file by which whoever has a certificate may do everything in the token service.
pub const ANY_CERTIFICATE: &str =
    "[[client]]\nany_certificate = true\nroles = [\"use\", \"manage\", \"so\"]\ntokens = [\"*\"]\n";

/// The row of a clients file by which a user of this machine may do everything, also log in without a PIN.
pub fn trusted(uid: u32) -> String {
    format!(
        "[[client]]\nuid = {uid}\nroles = [\"use\", \"manage\", \"so\", \"backup\", \"audit-read\", \"admin\", \"auto-login\"]\n\
         tokens = [\"*\"]\n"
    )
}

/// The longest that a test in its own process may take.
const OWN_PROCESS_LIMIT: Duration = Duration::from_secs(900);
/// Set to `grpc`, it puts every world's module behind TCP and mutual TLS.
const CARRIER: &str = "ACCEPTANCE_CARRIER";
const CHILD: &str = "ACCEPTANCE_CHILD";
const CHILD_DIR: &str = "ACCEPTANCE_DIR";

/// How the module reaches the daemon of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Frames on the Unix socket.
    Express,
    /// gRPC over TCP with mutual TLS, as from another machine.
    Grpc,
}

impl Carrier {
    /// The carrier that this run of the tests is about.
    pub fn of_this_run() -> Carrier {
        if std::env::var(CARRIER).is_ok_and(|word| word == "grpc") { Carrier::Grpc } else { Carrier::Express }
    }
}

/// One directory, one configuration, at most one running daemon.
pub struct World {
    dir: PathBuf,
    carrier: Carrier,
    daemon: Option<Daemon>,
    surroundings: Surroundings,
    // Last: the directory goes after the daemon.
    _owned: Option<TempDir>,
}

impl World {
    /// A running daemon with one initialised token, in the default profile.
    pub fn start() -> World {
        World::blank().initialised()
    }

    /// A running daemon with a slot that holds no initialised token.
    pub fn blank() -> World {
        let mut world = World::unstarted();
        world.start_daemon();
        world
    }

    /// A configuration and nothing else.
    pub fn unstarted() -> World {
        World::unstarted_for(Carrier::of_this_run())
    }

    /// A configuration and nothing else, for a carrier that the story is about.
    pub fn unstarted_for(carrier: Carrier) -> World {
        let owned =
            tempfile::Builder::new().prefix("craton-acceptance.").tempdir().expect("a temporary directory can be made");
        // Whatever the umask of the one who runs the tests.
        fs::set_permissions(owned.path(), fs::Permissions::from_mode(0o700)).expect("our own directory");
        let world = World {
            dir: owned.path().to_owned(),
            carrier,
            daemon: None,
            surroundings: Surroundings::default(),
            _owned: Some(owned),
        };
        if carrier == Carrier::Grpc {
            certificates::make(world.dir(), &certificates::ENOUGH);
            fs::write(world.port_file(), free_port().to_string()).expect("the world's directory is writable");
            world.write_clients(ANY_CERTIFICATE);
        }
        world.configure("");
        world
    }

    /// A running daemon whose token takes this user without a PIN; `shim` is keys of the module's own table.
    pub fn unattended(shim: &str) -> World {
        let mut world = World::unstarted_for(Carrier::Express);
        world.write_clients(&trusted(rustix::process::geteuid().as_raw()));
        world.write_config(&format!("{}clients = \"clients.toml\"\n", world.config_with_shim(shim)));
        world.start_daemon();
        world.init_token();
        world.take_without_pin();
        world
    }

    /// Gives the token an AUTO slot.
    pub fn take_without_pin(&self) {
        self.admin(["token", "auto-login", "--enable", "--pin", "env:PIN"]).ok();
    }

    /// Writes the configuration; `more` is TOML that follows the daemon's section (more keys of it, or more sections).
    pub fn configure(&self, more: &str) {
        self.write_config(&format!("{}{more}\n", self.standard_config()));
    }

    /// The configuration that the tests use unless they say otherwise.
    pub fn standard_config(&self) -> String {
        self.config_with_shim("")
    }

    /// The standard configuration with `shim` among the keys of the module's own table.
    pub fn config_with_shim(&self, shim: &str) -> String {
        let dir = self.dir.display();
        let (listen, reach) = match self.carrier {
            Carrier::Express => (String::new(), String::new()),
            Carrier::Grpc => self.over_tcp(),
        };
        format!(
            "[token]\nstorage_path = \"{dir}/store\"\n\
             [security]\npbkdf2_iterations = 100000\n\
             [audit]\nlog_path = \"{dir}/audit.jsonl\"\n\
             [shim]\n{reach}{shim}\n\
             [daemon]\nallow_root = true\nbind_unix = \"{dir}/hsm.sock\"\n{listen}"
        )
    }

    /// The daemon's keys and the module's, for TCP with mutual TLS.
    fn over_tcp(&self) -> (String, String) {
        let port = fs::read_to_string(self.port_file()).expect("the world's port was chosen at its beginning");
        // Whatever these tests do, module and operators' tool say no secret plainly: it would be refused.
        let listen = "tls_cert = \"server.pem\"\ntls_key = \"server.key\"\ntls_client_ca = \"ca.pem\"\nclients = \"clients.toml\"\n\
                      plain_secrets = false";
        let reach = "tls_ca = \"ca.pem\"\ntls_cert = \"right.pem\"\ntls_key = \"right.key\"";
        (
            format!("bind = \"127.0.0.1:{port}\"\n{listen}\n"),
            format!("endpoint = \"https://127.0.0.1:{port}\"\n{reach}\n"),
        )
    }

    fn port_file(&self) -> PathBuf {
        self.dir.join("port")
    }

    /// Writes the configuration file, mode 0600.
    pub fn write_config(&self, text: &str) {
        fs::write(self.config(), text).expect("the world's directory is writable");
        fs::set_permissions(self.config(), fs::Permissions::from_mode(0o600)).expect("our own file");
    }

    /// Writes the clients file, `clients.toml`, mode 0600, in the place of an older one.
    pub fn write_clients(&self, text: &str) {
        let fresh = self.dir.join("clients.new");
        fs::write(&fresh, text).expect("the world's directory is writable");
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).expect("our own file");
        fs::rename(fresh, self.dir.join("clients.toml")).expect("our own file");
    }

    fn initialised(self) -> World {
        self.init_token();
        self
    }

    /// Initialises the token by the admin tool.
    pub fn init_token(&self) {
        self.admin(["token", "init", "--label", LABEL, "--so-pin", "env:SO_PIN", "--user-pin", "env:PIN"]).ok();
    }

    /// The world's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("craton_hsm.toml")
    }

    /// Its store (`token.storage_path`).
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Its audit journal.
    pub fn journal(&self) -> PathBuf {
        self.dir.join("audit.jsonl")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("hsm.sock")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// Starts the daemon.
    ///
    /// # Panics
    /// With its log, when it does not come up.
    pub fn start_daemon(&mut self) {
        assert!(self.daemon.is_none(), "this world's daemon is running");
        self.daemon = Some(self.try_start().unwrap_or_else(|e| panic!("{e}")));
    }

    /// Tries to start a daemon on this world's configuration, beside one that may be running.
    ///
    /// # Errors
    /// The sentence of [`Daemon::start`].
    pub fn try_start(&self) -> Result<Daemon, String> {
        Daemon::start_with(&self.config(), &self.socket(), &self.log(), &self.surroundings)
    }

    /// What daemons that are started from now on find in their environment.
    pub fn daemon_environment(&mut self, variables: Vec<(&'static str, PathBuf)>) {
        self.surroundings.environment = variables;
    }

    /// What is started instead of the daemon's program from now on; it must become that.
    pub fn daemon_program(&mut self, program: PathBuf) {
        self.surroundings.program = Some(program);
    }

    /// Runs a daemon that is expected to refuse its start, and gives what it said.
    pub fn refused_start(&self) -> Finished {
        tools::run(Command::new(binary("craton-hsm-daemon")).arg("--config").arg(self.config())).refused()
    }

    /// The running daemon.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("this world's daemon was started")
    }

    /// Takes the daemon, to stop or to kill it.
    pub fn take_daemon(&mut self) -> Daemon {
        self.daemon.take().expect("this world's daemon was started")
    }

    /// Whether the daemon that was started has ended by itself.
    pub fn daemon_has_ended(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(Daemon::has_ended)
    }

    /// Stops the daemon in good order.
    pub fn stop_daemon(&mut self) {
        let status = self.take_daemon().stop();
        assert!(status.success(), "a graceful stop should exit with 0, not {status}");
    }

    /// kill -9, and a new daemon on the same store.
    pub fn crash_and_restart(&mut self) {
        self.take_daemon().kill();
        self.start_daemon();
    }

    /// A command with this world's variables, as scripts/with-token sets them.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("PKCS11_MODULE", daemon::module())
            .env("TOKEN_LABEL", LABEL)
            .env("PIN", PIN)
            .env("SO_PIN", SO_PIN)
            .env("CRATON_HSM_CONFIG", self.config())
            // For the tests that try the same on SoftHSM2.
            .env("SOFTHSM2_CONF", self.dir.join("softhsm2.conf"))
            .current_dir(&self.dir);
        match self.carrier {
            Carrier::Express => command.env("CRATON_HSM_SOCKET", self.socket()),
            // It would name the Unix socket instead.
            Carrier::Grpc => command.env_remove("CRATON_HSM_SOCKET"),
        };
        command
    }

    /// Runs craton-hsm-admin on this world's configuration.
    pub fn admin<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Finished {
        tools::run(self.command(binary("craton-hsm-admin")).arg("--config").arg(self.config()).args(args))
    }

    /// Runs craton-hsm-admin with `--json` and parses its answer.
    pub fn admin_json<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> serde_json::Value {
        let mut command = self.command(binary("craton-hsm-admin"));
        let finished = tools::run(command.arg("--config").arg(self.config()).arg("--json").args(args)).ok();
        serde_json::from_slice(&finished.stdout).unwrap_or_else(|e| panic!("{finished}\nis not JSON: {e}"))
    }

    /// Runs pkcs11-tool on our module.
    pub fn pkcs11_tool<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Finished {
        tools::run(self.command("pkcs11-tool").arg("--module").arg(daemon::module()).args(args))
    }

    /// Runs pkcs11-tool on our module, logged in as the user of the world's token.
    pub fn pkcs11_tool_login<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Finished {
        let mut command = self.command("pkcs11-tool");
        command
            .arg("--module")
            .arg(daemon::module())
            .args(["--token-label", LABEL, "--login", "--pin", PIN])
            .args(args);
        tools::run(&mut command)
    }
}

/// Runs `body` in a new process of this test binary, beside a daemon with an initialised token. What [`crate::module_test!`]
/// expands to; `test` is the test's full path, beginning with the crate's name.
///
/// # Panics
/// In the parent, with the child's output, when the child failed.
pub fn in_own_process(test: &str, body: impl FnOnce(&mut World)) {
    let test = test.split_once("::").map_or(test, |(_, path)| path);
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        let dir = PathBuf::from(std::env::var_os(CHILD_DIR).expect("the parent names the directory"));
        let mut world = World {
            dir,
            carrier: Carrier::of_this_run(),
            daemon: None,
            surroundings: Surroundings::default(),
            _owned: None,
        };
        world.start_daemon();
        world.init_token();
        body(&mut world);
        return;
    }
    let world = World::unstarted();
    let mut command = world.command(std::env::current_exe().expect("the test binary is running"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, test).env(CHILD_DIR, world.dir());
    // Into files: a child that dies by a signal must not take its last words along.
    let out = world.dir().join("child.out");
    let file = fs::File::create(&out).expect("the world's directory is writable");
    let copy = file.try_clone().expect("a file can be shared");
    let mut child =
        command.stdin(Stdio::null()).stdout(file).stderr(copy).spawn().expect("the test binary can be started again");
    let status = tools::wait(&mut child, OWN_PROCESS_LIMIT);
    end_left_over(&world.log());
    let said = String::from_utf8_lossy(&fs::read(&out).unwrap_or_default()).into_owned();
    let status = status.map_or_else(|| format!("not ended within {OWN_PROCESS_LIMIT:?}"), |status| status.to_string());
    let daemon = quoted(&String::from_utf8_lossy(&fs::read(world.log()).unwrap_or_default()));
    let passed = status == "exit status: 0" && said.contains("1 passed");
    assert!(passed, "in its own process, {status}:\n{}\nthe daemon's log:\n{daemon}", quoted(&said));
    // What the closing summary collects, and rows of tables.
    for line in said.lines().filter(|line| line.starts_with("SKIPPED ") || line.starts_with("TABLE ")) {
        println!("{line}");
    }
}

/// Indented, so that the summary lines of the inner test run are not taken for the outer one's.
fn quoted(text: &str) -> String {
    text.lines().map(|line| format!("  | {line}\n")).collect()
}

/// A test that loads the module: it runs in a process of its own with a [`World`] of its own.
#[macro_export]
macro_rules! module_test {
    ($(#[$meta:meta])* fn $name:ident($world:ident) $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::world::in_own_process(concat!(module_path!(), "::", stringify!($name)), |$world| $body);
        }
    };
}
