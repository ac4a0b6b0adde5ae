//! The way to the running daemon: gRPC over its Unix socket.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use hsm_proto::seal;
use hsm_proto::secrecy::Sealable;
use hsm_proto::v1::SealKeyRequest;
use hsm_proto::v1::admin_client::AdminClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::config::Settings;
use crate::failure::Failure;

/// How long an answer may take: the longest operation runs two password functions behind a queue of others.
const ANSWER: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(5);

/// The operators' client.
pub(crate) type Client = AdminClient<Channel>;

/// Connects, and runs one conversation with the daemon to its end.
///
/// # Errors
///
/// When nobody listens on the socket, and whatever `talk` answers.
pub(crate) fn talk<T, F, A>(settings: &Settings, talk: F) -> Result<T, Failure>
where
    F: FnOnce(Client) -> A,
    A: Future<Output = Result<T, Failure>>,
{
    converse(async { talk(AdminClient::new(channel(&settings.socket).await?)).await })
}

/// As [`talk`], with a message that nobody but the daemon's service reads on its way.
///
/// # Errors
///
/// As [`talk`].
pub(crate) fn talk_sealed<M, T, F, A>(settings: &Settings, message: M, talk: F) -> Result<T, Failure>
where
    M: Sealable,
    F: FnOnce(Client, M) -> A,
    A: Future<Output = Result<T, Failure>>,
{
    self::talk(settings, |mut daemon| async move {
        let key = daemon.seal_key(SealKeyRequest {}).await?.into_inner();
        let sealed = seal::message(&key, &message).map_err(|error| Failure::new(error.to_string()))?;
        talk(daemon, sealed).await
    })
}

/// Runs a conversation to its end.
///
/// # Errors
///
/// Whatever the conversation answers.
pub(crate) fn converse<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the tool cannot start: {error}")))?;
    runtime.block_on(conversation)
}

/// Connects to the daemon on a socket.
///
/// # Errors
///
/// When nobody listens there.
pub(crate) async fn channel(socket: &Path) -> Result<Channel, Failure> {
    // Tried first by itself: the reason is clearer here than wrapped in a transport error.
    drop(open(socket.to_owned()).await.map_err(|error| no_daemon(socket, &error))?);
    let path = socket.to_owned();
    Endpoint::from_static("http://craton-hsm.invalid") // a Unix socket has no host name; HTTP/2 wants one
        .timeout(ANSWER)
        .connect_timeout(CONNECT)
        .connect_with_connector(service_fn(move |_: Uri| {
            let path = path.clone();
            async move { open(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|error| Failure::new(format!("the daemon at {} does not speak gRPC: {error}", socket.display())))
}

async fn open(path: std::path::PathBuf) -> std::io::Result<UnixStream> {
    UnixStream::connect(path).await
}

fn no_daemon(socket: &Path, error: &std::io::Error) -> Failure {
    let next = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "run this as root or as the daemon's user",
        _ => "is it running? systemctl status craton-hsm, and journalctl -u craton-hsm says why not",
    };
    Failure::new(format!("no daemon answers on {}: {error}; {next}", socket.display()))
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn who_may_not_connect_is_not_sent_to_look_whether_the_daemon_runs() {
        let rows = [(ErrorKind::PermissionDenied, "as root"), (ErrorKind::NotFound, "is it running?")];
        for (kind, next) in rows {
            let failure = no_daemon(Path::new("/run/hsm.sock"), &Error::from(kind));
            assert!(failure.sentence().contains(next), "{}", failure.sentence());
        }
    }
}
