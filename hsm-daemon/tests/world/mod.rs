//! A daemon in a temporary folder, and how to talk to it.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::print_stdout, reason = "each test program uses its part")]

pub mod http2;
pub mod network;
#[path = "../../../tests/src/port.rs"]
mod port;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hsm_proto::frame::{self, HEADER_LEN, Header, PREFACE};
use hsm_proto::v1;
use prost::Message;
use tonic::transport::{Channel, Endpoint, Uri};

/// A folder with a configuration, and perhaps a running daemon, which is killed at the end.
pub struct World {
    /// Where everything lies.
    pub folder: tempfile::TempDir,
    /// The daemon while it runs.
    pub child: Option<Child>,
}

impl World {
    /// A folder whose configuration has this `[daemon]` table besides the socket.
    pub fn new(daemon: &str) -> Self {
        World::with_token(daemon, "")
    }

    /// The same, with this `[token]` table besides the store.
    pub fn with_token(daemon: &str, token: &str) -> Self {
        let folder = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o700)).tempdir().unwrap();
        let text = format!(
            "[daemon]\nallow_root = true\nbind_unix = \"hsm.sock\"\n{daemon}\n[token]\nstorage_path = \"store\"\n{token}\n\
             [security]\npbkdf2_iterations = 100000\n"
        );
        let world = World { folder, child: None };
        std::fs::write(world.path("craton_hsm.toml"), text).unwrap();
        world
    }

    /// Writes the clients file.
    pub fn write_clients(&self, text: &str) {
        // Under another name first: the daemon may be reading it.
        std::fs::write(self.path("clients.new"), text).unwrap();
        std::fs::set_permissions(self.path("clients.new"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(self.path("clients.new"), self.path("clients.toml")).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_craton-hsm-daemon"));
        command.arg("--config").arg(self.path("craton_hsm.toml")).env_remove("RUST_LOG").env("RUST_LOG_FORMAT", "text");
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn start(&mut self) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        self.child = Some(self.command().stderr(log).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(180);
        while !self.log().contains("ready") {
            assert!(Instant::now() < deadline, "not ready:\n{}", self.log());
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs the daemon to its end, which must come by itself.
    pub fn refuses(&self) -> (Option<i32>, String) {
        let output = self.command().output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Asks for the end and waits for it.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let told = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
        assert!(told.success());
        child.wait().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap_or_default();
            child.wait().map(drop).unwrap_or_default();
        }
    }
}

pub async fn local_channel(socket: PathBuf) -> Channel {
    let connect = move |_: Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
    };
    Endpoint::from_static("http://daemon").connect_with_connector(tower::service_fn(connect)).await.unwrap()
}

/// Sends one request on the express lane.
pub fn send(mut stream: &UnixStream, op: v1::request::Op) {
    let mut bytes = Vec::new();
    frame::encode(1, &v1::Request { op: Some(op), number: 0 }, &mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
}

/// Receives one reply.
pub fn receive(mut stream: &UnixStream) -> v1::Reply {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; Header::parse(header).unwrap().body_len as usize];
    stream.read_exact(&mut body).unwrap();
    v1::Reply::decode(body.as_slice()).unwrap()
}

/// One request and its reply.
pub fn ask(stream: &UnixStream, op: v1::request::Op) -> v1::Reply {
    send(stream, op);
    receive(stream)
}

pub fn attach_request() -> v1::AttachRequest {
    v1::AttachRequest { protocol: frame::PROTOCOL, application: Vec::new(), program: "test".to_owned() }
}

/// A connection on the express lane.
pub fn express(world: &World) -> UnixStream {
    let stream = UnixStream::connect(world.path("hsm.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    (&stream).write_all(&PREFACE).unwrap();
    stream
}

/// A connection on the express lane whose application has attached, and the application's name.
pub fn attached(world: &World) -> (UnixStream, Vec<u8>) {
    let stream = express(world);
    match ask(&stream, v1::request::Op::Attach(attach_request())).result {
        Some(v1::reply::Result::Attach(attached)) => (stream, attached.application),
        other => panic!("{other:?}"),
    }
}

/// Initialises the token of slot 0.
pub fn init_token(stream: &UnixStream) {
    let so_pin = b"so-pin-1234".to_vec();
    let init = v1::InitTokenRequest { slot: 0, so_pin, label: "test".to_owned() };
    let answer = ask(stream, v1::request::Op::InitToken(init));
    assert!(matches!(answer.result, Some(v1::reply::Result::Done(_))), "{answer:?}");
}

/// Opens a session with slot 0; the error is the return value.
pub fn open_session(stream: &UnixStream) -> Result<u64, u64> {
    match ask(stream, v1::request::Op::OpenSession(v1::OpenSessionRequest { slot: 0, flags: 6 })).result {
        Some(v1::reply::Result::OpenSession(opened)) => Ok(opened.session),
        Some(v1::reply::Result::Fault(fault)) => Err(fault.rv),
        other => panic!("{other:?}"),
    }
}

/// So many random bytes.
pub fn random(stream: &UnixStream, session: u64, len: u64) -> Vec<u8> {
    match ask(stream, v1::request::Op::Random(v1::RandomRequest { session, len })).result {
        Some(v1::reply::Result::Random(random)) => random.bytes,
        other => panic!("{other:?}"),
    }
}
