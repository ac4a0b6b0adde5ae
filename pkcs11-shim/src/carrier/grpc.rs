//! The gRPC carrier: the same requests, as calls of `Token.Exchange` over TLS, for a daemon on another machine.
//!
//! One call is one HTTP/2 stream with one message each way (gRPC over HTTP/2, "Requests" and "Responses"). Each connection
//! has a runtime of its own, which runs in the threads that call and in no other: while nobody calls, it stands still.
//! Names are resolved and connections opened by `std`, so that the runtime never wants a helper thread.
//!
//! What holds a secret, or asks for one, travels sealed (`Token.Sealed`), so that the buffers of HTTP/2 and TLS on both sides hold no plain
//! one: a request to a one-time key of the daemon's, which costs a round trip, a reply to a key that is made for it. There is no way back to
//! plain words: a daemon that does not know sealing gets none.
//!
//! After a fork the child never touches any of this: what the parent had is left where it is (`ffi::process`).

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ck::rv::CKR_FUNCTION_NOT_SUPPORTED;
use data_encoding::BASE64_NOPAD;
use hsm_proto::frame::MAX_BODY;
use hsm_proto::seal::{self, ReplyKey};
use hsm_proto::v1::{self, reply::Result as Answer};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle, set_tcp_keepintvl};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::remote::{Remote, Rpcs};
use super::{Carrier, Failure};

/// The metadata key of the application that Attach named.
const APPLICATION: &str = "craton-application-bin";
/// Before each message: a byte that says "not compressed", and the length.
const PREFIX: usize = 5;
/// What a daemon answers to a call that it does not know (gRPC's status codes).
const UNIMPLEMENTED: &[u8] = b"12";
/// How long a connection may be still before the kernel asks whether the peer is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// One connection.
pub(super) struct Grpc {
    sender: SendRequest<Full<Bytes>>,
    runtime: Runtime,
    rpcs: Arc<Rpcs>,
    /// A second handle of the socket, to end the connection from any thread.
    socket: TcpStream,
    application: OnceLock<HeaderValue>,
    sound: AtomicBool,
    under_way: AtomicUsize,
}

impl Grpc {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// [`Failure::Away`].
    pub(super) fn connect(remote: &Remote, timeout: Duration) -> Result<Self, Failure> {
        Self::open(remote, Instant::now() + timeout).map_err(|_| Failure::Away)
    }

    fn open(remote: &Remote, deadline: Instant) -> io::Result<Self> {
        let _occupied = occupy_standard_streams()?;
        let socket = dial(remote, deadline)?;
        let handle = socket.try_clone()?;
        // Neither a pool nor a driver thread: a current-thread runtime lives in whoever blocks on it.
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let sender = runtime.block_on(async {
            timeout_at(deadline.into(), shake_hands(remote, socket)).await.unwrap_or(Err(ErrorKind::TimedOut.into()))
        })?;
        Ok(Grpc {
            sender,
            runtime,
            rpcs: Arc::clone(&remote.rpcs),
            socket: handle,
            application: OnceLock::new(),
            sound: AtomicBool::new(true),
            under_way: AtomicUsize::new(0),
        })
    }

    async fn exchange(&self, request: &v1::Request, secret: bool) -> Result<v1::Reply, Failure> {
        let (carries, gives) =
            request.op.as_ref().map_or((false, false), |op| (op.carries_secret(), op.gives_secret()));
        if !carries && !gives {
            let reply = self.call(&self.rpcs.exchange, message(request, secret)?).await?.ok_or(Failure::Broken)?;
            return decoded(&reply).ok_or(Failure::Broken);
        }
        let reply_key = gives.then(ReplyKey::new).transpose().map_err(|_| Failure::NotSent)?;
        let outgoing = if carries {
            // Until here nothing of the request has been sent.
            let key = self.call(&self.rpcs.seal_key, message(&v1::SealKeyRequest {}, false)?).await;
            let key = key.map_err(|failure| if failure == Failure::Broken { Failure::NotSent } else { failure })?;
            let Some(key) = key.as_deref().and_then(decoded) else { return Ok(without_sealing()) };
            let sealed = seal::request(&key, request, reply_key.as_ref()).map_err(|_| Failure::NotSent)?;
            message(&sealed, false)?
        } else {
            covered(request, reply_key.as_ref())?
        };
        let Some(reply) = self.call(&self.rpcs.sealed, outgoing).await? else { return Ok(without_sealing()) };
        let reply: v1::SealedReply = decoded(&reply).ok_or(Failure::Broken)?;
        match (reply_key, reply.reply) {
            (Some(key), reply) => key.open(v1::SealedReply { reply }).map_err(|_| Failure::Broken),
            (None, Some(v1::sealed_reply::Reply::Plain(reply))) => Ok(reply),
            (None, _) => Err(Failure::Broken),
        }
    }

    /// One call: the response's body, or nothing when the daemon does not know the call.
    async fn call(&self, rpc: &Uri, message: Bytes) -> Result<Option<Bytes>, Failure> {
        // Nobody has looked at the socket since the last call. The first pass sees what has come, the second lets the
        // connection understand it; if it is the end, nothing has been sent yet.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let mut request = Request::post(rpc.clone())
            .header(TE, "trailers")
            .header(CONTENT_TYPE, "application/grpc")
            .body(Full::new(message))
            .map_err(|_| Failure::NotSent)?;
        if let Some(application) = self.application.get() {
            request.headers_mut().insert(APPLICATION, application.clone());
        }
        let response = self.sender.clone().try_send_request(request).await;
        let response = response.map_err(|mut error| match error.take_message() {
            Some(_) => Failure::NotSent,
            None => Failure::Broken,
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, PREFIX + MAX_BODY).collect().await.map_err(|_| Failure::Broken)?;
        // Without a message the status is in the head.
        let status = body.trailers().unwrap_or(&head.headers);
        if head.status != StatusCode::OK {
            return Err(Failure::Broken);
        }
        match status.get("grpc-status").map(HeaderValue::as_bytes) {
            Some(b"0") => Ok(Some(body.to_bytes())),
            Some(UNIMPLEMENTED) => Ok(None),
            _ => Err(Failure::Broken),
        }
    }
}

impl Carrier for Grpc {
    fn carry(&self, request: &v1::Request, secret: bool, deadline: Instant) -> Result<v1::Reply, Failure> {
        if !self.is_sound() {
            return Err(Failure::NotSent);
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        // Several threads may block on the runtime at once: one of them drives it, for all.
        let outcome = self.runtime.block_on(async {
            timeout_at(deadline.into(), self.exchange(request, secret)).await.unwrap_or(Err(Failure::Expired))
        });
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        match &outcome {
            // Known before anything was sent.
            Err(Failure::TooLong) => {}
            Err(_) => self.sound.store(false, Ordering::Relaxed),
            Ok(v1::Reply { result: Some(Answer::Attach(attached)), .. }) => {
                let name = HeaderValue::try_from(BASE64_NOPAD.encode(&attached.application));
                self.application.get_or_init(|| name.unwrap_or(HeaderValue::from_static("")));
            }
            Ok(_) => {}
        }
        outcome
    }

    fn is_sound(&self) -> bool {
        self.sound.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }

    fn close(&self) {
        self.sound.store(false, Ordering::Relaxed);
        // An error means that it is closed already.
        self.socket.shutdown(Shutdown::Both).ok();
    }
}

/// What is answered for a daemon that knows no sealing.
fn without_sealing() -> v1::Reply {
    let fault = v1::Fault::new(CKR_FUNCTION_NOT_SUPPORTED, "the daemon takes no sealed requests");
    v1::Reply { generation: 0, result: Some(Answer::Fault(fault)) }
}

/// A request without a secret whose reply is to be sealed, with its prefix.
fn covered(request: &v1::Request, reply_key: Option<&ReplyKey>) -> Result<Bytes, Failure> {
    let reply_key = reply_key.map(|key| key.public().to_vec()).unwrap_or_default();
    // The request would have to be copied into the message; its field is written by hand instead: tag 1, a length, itself.
    let frame = v1::SealedExchange { request: None, reply_key };
    let len = 1 + prost::length_delimiter_len(request.encoded_len()) + request.encoded_len() + frame.encoded_len();
    let mut out = prefix(len)?;
    out.push(0x0a);
    request.encode_length_delimited(&mut out).map_err(|_| Failure::TooLong)?;
    frame.encode_raw(&mut out);
    Ok(Bytes::from(out))
}

/// The prefix of a message, and room for it.
fn prefix(len: usize) -> Result<Vec<u8>, Failure> {
    let announced = u32::try_from(len).ok().filter(|_| len <= MAX_BODY).ok_or(Failure::TooLong)?;
    let mut out = Vec::with_capacity(PREFIX + len);
    out.push(0);
    out.extend_from_slice(&announced.to_be_bytes());
    Ok(out)
}

/// The message with its prefix; a secret one is wiped when the last holder lets go of it.
fn message(request: &impl Message, secret: bool) -> Result<Bytes, Failure> {
    let mut out = prefix(request.encoded_len())?;
    request.encode_raw(&mut out);
    Ok(if secret { Bytes::from_owner(Zeroizing::new(out)) } else { Bytes::from(out) })
}

/// The one uncompressed message of a response.
fn decoded<M: Message + Default>(body: &[u8]) -> Option<M> {
    let ([0, len @ ..], message) = body.split_first_chunk::<PREFIX>()? else { return None };
    (u32::from_be_bytes(*len) as usize == message.len()).then_some(())?;
    M::decode(message).ok()
}

/// In a program that has closed its standard streams none of our descriptors must become one of them: the places are
/// held until everything is open.
fn occupy_standard_streams() -> io::Result<Vec<File>> {
    let mut held = Vec::new();
    loop {
        let file = File::open("/dev/null")?;
        if file.as_raw_fd() > 2 {
            return Ok(held);
        }
        held.push(file);
    }
}

/// The first of the host's addresses that answers. The resolver keeps its own time limits.
fn dial(remote: &Remote, deadline: Instant) -> io::Result<TcpStream> {
    let mut outcome = Err(io::Error::from(ErrorKind::TimedOut));
    for address in (remote.host.as_str(), remote.port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        outcome = TcpStream::connect_timeout(&address, left);
        if outcome.is_ok() {
            break;
        }
    }
    let socket = outcome?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    set_socket_keepalive(&socket, true)?;
    set_tcp_keepidle(&socket, KEEPALIVE)?;
    set_tcp_keepintvl(&socket, KEEPALIVE)?;
    Ok(socket)
}

async fn shake_hands(remote: &Remote, socket: TcpStream) -> io::Result<SendRequest<Full<Bytes>>> {
    let wire = Wire(tokio::net::TcpStream::from_std(socket)?);
    let stream = TlsConnector::from(remote.tls.clone()).connect(remote.name.clone(), wire).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(ErrorKind::Unsupported.into());
    }
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // How it ended is told to the requests that were under way.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

/// The socket under TLS. `std` sends with MSG_NOSIGNAL, but its vectored write is writev(2), which raises SIGPIPE in the
/// program when the daemon has gone. This wrapper offers no vectored writes: whoever asks for one gets a plain one.
struct Wire(tokio::net::TcpStream);

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hsm_proto::v1::request::Op;
    use hsm_proto::v1::sealed_exchange;

    use crate::ffi::signal::{block_sigpipe, sigpipe_was_raised};
    use std::future::poll_fn;
    use std::io::{IoSlice, Write};
    use std::net::TcpListener;

    #[test]
    fn writing_to_a_daemon_that_has_gone_raises_no_sigpipe() {
        block_sigpipe();
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        drop(listener.accept().expect("accepted"));
        let mut plain = socket.try_clone().expect("a second handle");
        socket.set_nonblocking(true).expect("non-blocking");
        let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
        let error = runtime.block_on(async {
            let mut wire = Wire(tokio::net::TcpStream::from_std(socket).expect("registered"));
            loop {
                let parts = [IoSlice::new(b"some"), IoSlice::new(b"thing")];
                let written = poll_fn(|cx| Pin::new(&mut wire).poll_write_vectored(cx, &parts)).await;
                match written {
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => break error,
                    _ => tokio::task::yield_now().await,
                }
            }
        });
        assert!(!sigpipe_was_raised(), "{error}");
        // What the wrapper is for: the same socket without it.
        plain.write_vectored(&[IoSlice::new(b"some"), IoSlice::new(b"thing")]).expect_err("the pipe is broken");
        assert!(sigpipe_was_raised());
    }

    #[test]
    fn a_message_is_its_prefix_and_itself() {
        let request = v1::Request { op: Some(v1::request::Op::ListSlots(v1::ListSlotsRequest {})), number: 0 };
        for secret in [false, true] {
            let sent = message(&request, secret).expect("short");
            assert_eq!(sent[..PREFIX], [0, 0, 0, 0, u8::try_from(request.encoded_len()).expect("short")]);
            assert_eq!(v1::Request::decode(&sent[PREFIX..]).expect("itself").op, request.op);
        }
        for bad in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x01", b"\0\0\0\0\0\0"] {
            assert!(decoded::<v1::Reply>(bad).is_none(), "{bad:?}");
        }
        assert!(decoded::<v1::Reply>(b"\0\0\0\0\0").is_some());
    }

    #[test]
    fn a_request_whose_reply_is_sealed_is_a_message_of_the_schema() {
        let key = ReplyKey::new().expect("random numbers");
        let random = v1::RandomRequest { session: 3, len: 32 };
        let request = v1::Request { op: Some(Op::Random(random)), number: 0 };
        let sent = covered(&request, Some(&key)).expect("short");
        let exchange: v1::SealedExchange = decoded(&sent).expect("a message");
        assert_eq!(exchange.request, Some(sealed_exchange::Request::Plain(request)));
        assert_eq!(exchange.reply_key, key.public());
    }
}
