//! Listening: accept loops for TLS and plain TCP, HTTP/1.1 only, with a deadline and a limit on everything a stranger sends.
//!
//! A request is read whole, then answered by a plain function on a blocking thread: the token and the store block, and the
//! rooms behind need no async.

mod spelling;
pub(crate) mod tls;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Time for a TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Time for the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// Time for the body of a request.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Largest body of a request: the largest post-quantum requests need most of it.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;
/// How much of a refused body is read and thrown away, so that the client gets to read the refusal.
const MAX_DRAINED_BYTES: usize = 4 * 1024 * 1024;
/// Connections at once per listener.
const MAX_CONNECTIONS: usize = 1024;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Its certificate, verified to be from this PKI or from a manufacturer that some label names; which, and revocation, is judged
    /// elsewhere.
    pub(crate) certificate: Option<Vec<u8>>,
    /// The certificates that came along with it.
    pub(crate) above: Vec<Vec<u8>>,
    /// The tls-exporter channel binding (RFC 9266); none for TLS 1.2, where rustls cannot tell whether it would be unique.
    pub(crate) exporter: Option<[u8; 32]>,
}

/// Why a body did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// Larger than [`MAX_BODY_BYTES`].
    TooLarge,
    /// Broken off or too slow.
    Broken,
}

/// A request, read whole.
pub(crate) struct Call {
    /// Method.
    pub(crate) method: Method,
    /// Path, not decoded.
    pub(crate) path: String,
    /// What follows the question mark.
    pub(crate) query: String,
    /// Header fields.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Result<Bytes, BodyFault>,
    /// Who sent it.
    pub(crate) peer: Peer,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Status.
    pub(crate) status: StatusCode,
    /// Header fields besides Content-Length.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Bytes,
}

impl Reply {
    /// An answer without body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// An answer with a body of a kind.
    pub(crate) fn with(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::empty(status) }.header(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// A sentence.
    pub(crate) fn sentence(status: StatusCode, sentence: &str) -> Self {
        Self::with(status, "text/plain; charset=utf-8", format!("{sentence}\n"))
    }

    /// The same answer with the body of another one, and the fields that say what that is.
    pub(crate) fn with_body_of(mut self, other: Self) -> Self {
        self.headers.extend(other.headers);
        Self { body: other.body, ..self }
    }

    /// The same answer with one more header field.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// What answers requests.
pub(crate) type Handler = Arc<dyn Fn(&Call) -> Reply + Send + Sync>;

/// How connections are secured.
#[derive(Clone)]
pub(crate) enum Transport {
    /// TLS, by a configuration that may change between connections.
    Tls(tls::ServerTls),
    /// None: for content that carries its own signature.
    Plain,
}

/// Binds an address.
///
/// # Errors
/// A sentence with the address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|fault| format!("cannot listen on {address}: {fault}"))
}

/// Accepts connections until told to stop, then waits for those that are open.
pub(crate) async fn serve(
    listener: TcpListener,
    transport: Transport,
    handler: Handler,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(fault) => {
                tracing::warn!(event = "accept_failed", %fault);
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // A full house closes the connection at once rather than letting it wait unseen.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (transport, handler, stop) = (transport.clone(), Arc::clone(&handler), stop.clone());
        connections.spawn(async move {
            let _place = place;
            welcome(stream, address.ip(), transport, handler, stop).await;
        });
    }
    let all_done = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(BODY_DEADLINE, all_done).await.is_err() {
        tracing::warn!(event = "connections_cut", "some connections did not end in time");
    }
}

async fn welcome(
    stream: TcpStream,
    address: IpAddr,
    transport: Transport,
    handler: Handler,
    stop: watch::Receiver<bool>,
) {
    if let Err(fault) = stream.set_nodelay(true) {
        tracing::debug!(%fault, "no TCP_NODELAY");
    }
    match transport {
        Transport::Plain => {
            converse(stream, Peer { address, certificate: None, above: Vec::new(), exporter: None }, handler, stop)
                .await;
        }
        Transport::Tls(tls) => match tokio::time::timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let peer = tls::peer(address, stream.get_ref().1);
                converse(spelling::Spelling(stream), peer, handler, stop).await;
            }
            Ok(Err(fault)) => tracing::info!(event = "handshake_refused", %address, %fault),
            Err(_) => tracing::info!(event = "handshake_too_slow", %address),
        },
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    handler: Handler,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| answer(request, peer.clone(), Arc::clone(&handler)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .title_case_headers(true)
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(fault) = ended {
        tracing::debug!(%fault, "connection ended");
    }
}

async fn answer(request: Request<Incoming>, peer: Peer, handler: Handler) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = read_body(body).await;
    let call = Call {
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        method: head.method,
        headers: head.headers,
        body,
        peer,
    };
    let is_head = call.method == Method::HEAD;
    let is_chunked = call.headers.contains_key(TRANSFER_ENCODING);
    let reply = tokio::task::spawn_blocking(move || handler(&call)).await.unwrap_or_else(|fault| {
        tracing::error!(event = "handler_failed", %fault);
        Reply::sentence(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    });
    let length = HeaderValue::from(reply.body.len());
    let mut response = Response::new(Full::new(if is_head { Bytes::new() } else { reply.body }));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response.headers_mut().insert(CONTENT_LENGTH, length);
    if is_chunked {
        // The request may have named a length as well; what follows it on the connection could then be a smuggled one
        // (RFC 9112 section 6.1).
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Reads a body up to the limit. What is beyond it is read and thrown away for a while: a client that is still sending when
/// the connection closes would see a reset instead of the refusal.
async fn read_body(mut body: Incoming) -> Result<Bytes, BodyFault> {
    if body.size_hint().lower() > u64::try_from(MAX_DRAINED_BYTES).unwrap_or(u64::MAX) {
        return Err(BodyFault::TooLarge);
    }
    let read = async {
        let mut bytes = Vec::new();
        let mut seen = 0usize;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(BodyFault::Broken) };
            let Ok(data) = frame.into_data() else { continue };
            seen = seen.saturating_add(data.len());
            if seen > MAX_DRAINED_BYTES {
                return Err(BodyFault::TooLarge);
            }
            if seen <= MAX_BODY_BYTES {
                bytes.extend_from_slice(&data);
            }
        }
        if seen > MAX_BODY_BYTES { Err(BodyFault::TooLarge) } else { Ok(Bytes::from(bytes)) }
    };
    tokio::time::timeout(BODY_DEADLINE, read).await.unwrap_or(Err(BodyFault::Broken))
}
