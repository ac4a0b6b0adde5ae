//! The local operators' socket: `operator.sock` in the state folder (mode 0700), one JSON command a line, one JSON answer a
//! line. Whoever may open it is the operator: the folder decides.
//!
//! The rule of the command line: when a server listens here, it performs the command; when none does, the command line opens
//! the store itself. The store can be open in one process only, so the two can never mix.

use super::command::{Answer, Command, Fault};
use super::operator::Operator;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Largest command: the serial numbers of 400,000 certificates.
const MAX_COMMAND_BYTES: u64 = 16 * 1024 * 1024;
/// Longest path of a Unix socket on Linux, without the final zero.
const MAX_PATH_BYTES: usize = 107;
/// How long either side may be silent while a command is on its way.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a server may take for one command: the revocation of hundreds of thousands is one.
const PATIENCE: Duration = Duration::from_secs(900);

/// The path of the socket.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("operator.sock")
}

/// Sends a command to the server. `None` when no server listens.
///
/// # Errors
/// When a server listens and does not answer.
pub(crate) fn ask(path: &Path, command: &Command) -> Result<Option<Answer>, Fault> {
    Ok(converse_with(path, command)?.map(|(_, answer)| answer))
}

/// Sends a command and reads the line of the answer; what follows is read from the reader.
fn converse_with(path: &Path, command: &Command) -> Result<Option<(BufReader<UnixStream>, Answer)>, Fault> {
    let unreachable = |fault: std::io::Error| Fault::new("unreachable", format!("{}: {fault}", path.display()));
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(fault) if matches!(fault.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(fault) => return Err(unreachable(fault)),
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
    let mut line = serde_json::to_vec(command).map_err(|fault| Fault::new("internal", fault))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(unreachable)?;
    let (mut reader, mut answer) = (BufReader::new(stream), String::new());
    reader.read_line(&mut answer).map_err(unreachable)?;
    let answer =
        serde_json::from_str(&answer).map_err(|_| Fault::new("unreachable", "the server closed the socket"))?;
    Ok(Some((reader, answer)))
}

/// Asks the server for the image of its store, which is what is read from the socket then. `None` when no server listens.
///
/// # Errors
/// When a server listens and does not give it.
pub(crate) fn image(path: &Path) -> Result<Option<Box<dyn Read>>, Fault> {
    let Some((reader, answer)) = converse_with(path, &Command::Image {})? else { return Ok(None) };
    Result::from(answer)?;
    Ok(Some(Box::new(reader)))
}

/// Opens the socket. A file left by a server that died is replaced: holding the store proves that none lives.
///
/// # Errors
/// A sentence with the path.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, String> {
    let shown = path.display();
    if path.as_os_str().len() > MAX_PATH_BYTES {
        return Err(format!(
            "{shown} is longer than a socket path may be (107 bytes): choose a shorter store.state_dir"
        ));
    }
    match std::fs::remove_file(path) {
        Ok(()) => tracing::info!(event = "stale_socket_removed", path = %shown),
        Err(fault) if fault.kind() == ErrorKind::NotFound => {}
        Err(fault) => return Err(format!("{shown}: {fault}")),
    }
    let listener = UnixListener::bind(path).map_err(|fault| format!("{shown}: {fault}"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|fault| format!("{shown}: {fault}"))?;
    Ok(listener)
}

/// Answers operators until the process ends. One thread a connection: there are few operators.
pub(crate) fn serve(listener: &UnixListener, operator: &Arc<Operator>) {
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(fault) => {
                tracing::warn!(event = "operator_accept_failed", %fault);
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let operator = Arc::clone(operator);
        let started = std::thread::Builder::new().name("operator".to_owned()).spawn(move || {
            if let Err(fault) = converse(stream, &operator) {
                tracing::debug!(%fault, "operator connection ended");
            }
        });
        if let Err(fault) = started {
            tracing::warn!(event = "operator_refused", %fault);
        }
    }
}

/// The answer, and behind it the image. When it breaks off its reader sees that it is not whole.
fn give_image(stream: &UnixStream, operator: &Operator) -> std::io::Result<()> {
    let mut out = BufWriter::new(stream);
    serde_json::to_writer(&mut out, &Answer::Done(serde_json::Value::Null))?;
    out.write_all(b"\n")?;
    operator.write_image(&mut out).map_err(std::io::Error::other)
}

fn converse(stream: UnixStream, operator: &Operator) -> std::io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut reader = BufReader::new((&stream).take(MAX_COMMAND_BYTES));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let answer: Answer = match serde_json::from_str::<Command>(&line) {
        Ok(Command::Image {}) => return give_image(&stream, operator),
        Ok(command) => operator.perform(command).into(),
        Err(fault) => Answer::Refused(Fault::new("bad_request", fault)),
    };
    let mut reply = serde_json::to_vec(&answer)?;
    reply.push(b'\n');
    (&stream).write_all(&reply)
}
