//! One gRPC connection as tonic serves it: how it comes to be, and when it ends without its client's doing.
//!
//! A connection is ended when its client says nothing after its handshake; when nothing was asked for `daemon.idle_timeout_secs` and no
//! application of it has a session; and when it leaves answers unread. A client that merely keeps the line busy, by pings or by a byte now
//! and then, asks for nothing. Whether the other machine is still there at all its kernel is asked.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hsm_core::Peer;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use crate::clients::Clients;
use crate::identify;
use crate::lifecycle::{Door, Guests, Permit, Stranger};
use crate::service::Visitor;
use crate::tls::{Tls, Watched};

/// A client that takes nothing of its answers for so long is gone.
const UNREAD: Duration = Duration::from_secs(30);

/// How often it is looked whether a connection is over.
const LOOK: Duration = Duration::from_secs(5);

/// A peer whose kernel does not acknowledge what was sent for so long is gone, in milliseconds.
const UNACKNOWLEDGED: u32 = 60_000;

/// A local connection that speaks HTTP/2. Waiting arrivals are bounded by the permits they hold.
pub(crate) struct LocalArrival {
    pub(crate) stream: UnixStream,
    pub(crate) visitor: Visitor,
    pub(crate) permit: Permit,
}

/// A TCP connection before its handshake.
pub(crate) struct RemoteArrival {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    pub(crate) stranger: Stranger,
}

/// What a connection from afar is greeted with.
#[derive(Clone)]
pub(crate) struct Reception {
    pub(crate) guests: Arc<Guests>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) tls: Option<Arc<Tls>>,
}

/// One connection. The fields are dropped in this order: the place is free when all else is gone.
pub(crate) struct Line {
    stream: Box<dyn Duplex>,
    visitor: Visitor,
    pace: Pace,
    _watched: Option<Watched>,
    _permit: Permit,
}

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Line {
    /// The connection of a local client. It has spoken, or it would not be here.
    pub(crate) fn local(arrival: LocalArrival, idle: Duration) -> Option<io::Result<Line>> {
        let stream = arrival
            .stream
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixStream::from_std(arrival.stream))
            .inspect_err(|error| tracing::warn!(%error, "a local connection could not be served"))
            .ok()?;
        let (visitor, permit) = (arrival.visitor, arrival.permit);
        let pace = Pace::new(visitor.clone(), idle, None);
        Some(Ok(Line { stream: Box::new(stream), visitor, pace, _watched: None, _permit: permit }))
    }

    /// The connection of a client that is known and has a place; nothing for any other.
    pub(crate) async fn remote(arrival: RemoteArrival, reception: &Reception) -> io::Result<Option<Line>> {
        let place = |peer: &Peer| reception.guests.admit(&peer.canonical(), Door::Remote);
        let line = |stream: Box<dyn Duplex>, peer, watched, permit| {
            let (visitor, limits) = (Visitor::new(peer), reception.guests.limits());
            // A place is not for those who only hold it.
            let pace = Pace::new(visitor.clone(), limits.idle, Some(limits.greeting));
            Line { stream, visitor, pace, _watched: watched, _permit: permit }
        };
        arrival.stream.set_nonblocking(true)?;
        arrival.stream.set_nodelay(true)?;
        ask_when_silent(&arrival.stream)?;
        let Some(tls) = reception.tls.as_deref() else {
            let stream = tokio::net::TcpStream::from_std(arrival.stream)?;
            let peer = identify::anonymous();
            let Some(permit) = place(&peer) else { return Ok(None) };
            return Ok(Some(line(Box::new(stream), peer, None, permit)));
        };
        let socket = arrival.stream.try_clone()?;
        let stream = tokio::net::TcpStream::from_std(arrival.stream)?;
        let config = tls.current();
        let stream = TlsAcceptor::from(Arc::clone(&config)).accept(stream).await?;
        let (peer, watched) = match stream.get_ref().1.peer_certificates() {
            Some(chain @ [leaf, ..]) => {
                let known = identify::certificate(leaf, &reception.clients).map_err(io::Error::other)?;
                let Some(peer) = known else { return Ok(None) };
                let watched = tls.watch(chain, &peer, socket);
                if !Arc::ptr_eq(&config, &tls.current()) {
                    // The files have been read again meanwhile, when nobody watched this connection yet.
                    tls.judge_open_lines(&reception.clients);
                }
                (peer, Some(watched))
            }
            // The verifier demands a certificate unless the configuration lets anonymous clients in.
            _ => (identify::anonymous(), None),
        };
        let Some(permit) = place(&peer) else { return Ok(None) };
        drop(arrival.stranger);
        Ok(Some(line(Box::new(stream), peer, watched, permit)))
    }
}

/// A peer that is silent for half a minute is asked by its kernel whether it is still there, and one that acknowledges nothing is gone.
/// Not by HTTP/2: a module runs nothing between two calls and could not answer.
fn ask_when_silent(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED)?;
    Ok(())
}

/// Whether a connection keeps the pace that is asked of it.
struct Pace {
    visitor: Visitor,
    look: Pin<Box<Sleep>>,
    every: Duration,
    idle: Duration,
    /// Until the client has said its first word: by when it must.
    first_word: Option<Instant>,
    /// Since when the socket takes nothing more.
    blocked: Option<Instant>,
}

impl Pace {
    fn new(visitor: Visitor, idle: Duration, greeting: Option<Duration>) -> Self {
        let every = (idle.min(greeting.unwrap_or(idle)) / 4).clamp(Duration::from_millis(50), LOOK);
        let look = Box::pin(tokio::time::sleep(every));
        Pace { visitor, look, every, idle, first_word: greeting.map(|given| Instant::now() + given), blocked: None }
    }

    /// Why the connection is over, if it is; to be called whenever the connection's task waits for its socket, and wakes it up in time.
    fn end(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        while self.look.as_mut().poll(cx).is_ready() {
            let why = self.judge();
            if let Some(why) = why {
                tracing::info!(peer = ?self.visitor.peer().identity, "a gRPC connection was closed: {why}");
                return Some(io::Error::new(ErrorKind::TimedOut, why));
            }
            self.look.as_mut().reset(tokio::time::Instant::now() + self.every);
        }
        None
    }

    fn judge(&self) -> Option<&'static str> {
        let traffic = self.visitor.traffic();
        if self.first_word.is_some_and(|by| Instant::now() >= by) {
            return Some("the client said nothing");
        }
        if self.blocked.is_some_and(|since| since.elapsed() >= UNREAD) || traffic.is_left_unread(UNREAD) {
            return Some("the client does not read its answers");
        }
        (traffic.is_idle(self.idle) && !self.visitor.has_sessions()).then_some("nothing was asked for long")
    }

    /// What becomes of a write, which may show that the socket takes nothing.
    fn written(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if outcome.is_ready() {
            self.blocked = None;
            return outcome;
        }
        self.blocked.get_or_insert_with(Instant::now);
        self.end(cx).map_or(Poll::Pending, |why| Poll::Ready(Err(why)))
    }
}

impl Connected for Line {
    type ConnectInfo = Visitor;

    fn connect_info(&self) -> Visitor {
        self.visitor.clone()
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Line { stream, pace, .. } = self.get_mut();
        let read = Pin::new(stream).poll_read(cx, buf);
        if read.is_ready() {
            pace.first_word = None;
            return read;
        }
        pace.end(cx).map_or(Poll::Pending, |why| Poll::Ready(Err(why)))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Line { stream, pace, .. } = self.get_mut();
        let written = Pin::new(stream).poll_write(cx, bytes);
        pace.written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Line { stream, pace, .. } = self.get_mut();
        let written = Pin::new(stream).poll_write_vectored(cx, slices);
        pace.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
