//! The listeners and who serves what they accept.
//!
//! - The Unix socket carries both the express lane and gRPC; the first byte of a connection tells which. An express
//!   connection keeps the thread that greeted it, a gRPC connection goes to a worker.
//! - The TCP socket carries gRPC under TLS; the handshake is the worker's, in a task of its own and with a deadline, so
//!   that accepting never waits for a client.
//! - The workers are as many single-threaded runtimes as there are processors, and connections are dealt round: short
//!   operations run inline, and on a work-stealing runtime two busy connections would end up on one thread.
//!
//! The administrative service is on the Unix socket only.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use hsm_core::Peer;
use hsm_core::sys::Indivisible;
use hsm_proto::frame;
use hsm_proto::v1::admin_server::AdminServer;
use hsm_proto::v1::token_server::TokenServer;
use hsm_proto::v1::witness_server::WitnessServer;
use rustix::net::{RecvFlags, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::transport::Server;
use tonic::transport::server::{Connected, Router};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::clients::Clients;
use crate::config::Daemon;
use crate::dispatch::{Desk, Seat};
use crate::express::{Broken, Lookouts, converse};
use crate::identify;
use crate::lifecycle::{Door, Guests, Permit, Stranger};
use crate::service::{AdminService, SelfTest, TokenService, Visitor, WitnessService};
use crate::socket::{NoListener, SocketFile, listen_locally};
use crate::tls::{Tls, Watched};

/// The token's service, as health checks name it.
const TOKEN_SERVICE: &str = "craton.hsm.v1.Token";

/// Threads for long operations, per worker.
const POOL: usize = 4;

/// Everything that serves connections, from the first listener to the end.
pub(crate) struct Doors {
    guests: Arc<Guests>,
    stop: watch::Sender<bool>,
    local: Arc<UnixListener>,
    remote: Option<Arc<TcpListener>>,
    socket_file: SocketFile,
    health: HealthReporter,
}

/// What the doors are opened with.
pub(crate) struct House {
    /// The dispatcher.
    pub(crate) desk: Arc<Desk>,
    /// The result of the self-test, for the operators.
    pub(crate) self_test: SelfTest,
    /// Which doors, and the limits.
    pub(crate) settings: Daemon,
    /// TLS for the TCP listener.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Who may do what.
    pub(crate) clients: Arc<Clients>,
}

impl Doors {
    /// Opens the listeners and starts everything that serves them.
    ///
    /// # Errors
    /// [`NoListener`]: which one, and why.
    pub(crate) fn open(house: House) -> Result<Self, NoListener> {
        let remote = house.settings.tcp.as_ref().map(|tcp| listen_remotely(tcp.address)).transpose()?;
        // Last: who finds the Unix socket finds every listener.
        let (local, socket_file) = listen_locally(&house.settings.socket, house.settings.socket_group)?;
        let guests = Guests::new(house.settings.limits);
        let (stop, stopped) = watch::channel(false);
        let health = HealthReporter::new();
        let lanes = start_workers(&house, &guests, &health, &stopped)?;
        let doors = Doors {
            guests: Arc::clone(&guests),
            stop,
            local: Arc::new(local),
            remote: remote.map(Arc::new),
            socket_file,
            health,
        };
        let lookouts = Arc::new(Lookouts::of_this_machine());
        let (listener, lanes_too, guests_too) = (Arc::clone(&doors.local), Arc::clone(&lanes), Arc::clone(&guests));
        let hall = Hall { guests: guests_too, desk: house.desk, clients: house.clients, lookouts, lanes: lanes_too };
        lasting_thread("accept-unix", move || accept_locally(&listener, &Arc::new(hall)))?;
        if let Some(listener) = doors.remote.clone() {
            lasting_thread("accept-tcp", move || accept_remotely(&listener, &guests, &lanes))?;
        }
        Ok(doors)
    }

    /// Tells the health service whether the token can be used.
    pub(crate) async fn report_health(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.health.set_service_status("", ServingStatus::Serving).await;
        self.health.set_service_status(TOKEN_SERVICE, status).await;
    }

    /// Ends the conversations of local clients whose grant is another one now.
    pub(crate) fn judge_again(&self, clients: &Clients) {
        self.guests.part_from(|peer| *identify::local_grant(&peer.identity, clients) == *peer.grant);
    }

    /// Accepts nobody any more and lets everybody finish, for at most `patience`; says whether all have.
    pub(crate) fn close(self, patience: Duration) -> bool {
        // Waking a listener that has failed anyway is no failure.
        rustix::net::shutdown(&*self.local, rustix::net::Shutdown::Both).unwrap_or_default();
        if let Some(remote) = &self.remote {
            rustix::net::shutdown(&**remote, rustix::net::Shutdown::Both).unwrap_or_default();
        }
        self.stop.send_replace(true);
        self.guests.send_home();
        let all = self.guests.wait_until_empty(patience);
        drop(self.socket_file);
        all
    }
}

fn listen_remotely(address: SocketAddr) -> Result<TcpListener, NoListener> {
    TcpListener::bind(address).map_err(|e| NoListener(format!("cannot listen on {address}: {e}")))
}

/// A thread that others depend on: without it connections would be taken and never served. A panic of it ends the daemon.
fn lasting_thread(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, NoListener> {
    thread(name, move || {
        let _whole = Indivisible::begin(name);
        work();
    })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, NoListener> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|e| NoListener(format!("no thread for {name}: {e}")))
}

/// Runs until the listener is shut down. Failures to accept (no descriptor left, a client that gave up) pass.
fn accept<C>(what: &str, mut next: impl FnMut() -> io::Result<C>, mut serve: impl FnMut(C)) {
    loop {
        match next() {
            Ok(connection) => serve(connection),
            // What a listener that has been shut down answers.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(listener = what, %error, "a connection could not be accepted");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// What a local connection is greeted with.
struct Hall {
    guests: Arc<Guests>,
    desk: Arc<Desk>,
    clients: Arc<Clients>,
    lookouts: Arc<Lookouts>,
    lanes: Arc<Lanes>,
}

fn accept_locally(listener: &UnixListener, hall: &Arc<Hall>) {
    accept(
        "unix",
        || listener.accept(),
        |(stream, _)| {
            hsm_core::failpoint!("accept.local");
            let Some(stranger) = hall.guests.greet(&stream, Door::Local) else { return };
            let hall = Arc::clone(hall);
            if let Err(why) = thread("local", move || greet(stream, stranger, &hall)) {
                tracing::error!(%why, "a connection was refused");
            }
        },
    );
}

fn accept_remotely(listener: &TcpListener, guests: &Arc<Guests>, lanes: &Lanes) {
    accept(
        "tcp",
        || listener.accept(),
        |(stream, address)| {
            let Some(stranger) = guests.greet(&stream, Door::Remote) else { return };
            lanes.deal(|lane| lane.remote.send(RemoteArrival { stream, address, stranger }).is_ok());
        },
    );
}

/// Finds out what a local connection speaks and serves it, or deals it to a worker.
fn greet(stream: UnixStream, stranger: Stranger, hall: &Hall) {
    let peer = match identify::local(&stream, &hall.clients) {
        Ok(peer) => peer,
        Err(error) => return tracing::warn!(%error, "a local connection without credentials was closed"),
    };
    let Some(byte) = first_byte(&stream, hall.guests.patience()) else { return };
    let Some(permit) = hall.guests.admit(&peer.canonical(), Door::Local) else { return };
    drop(stranger);
    hsm_core::failpoint!("greet.local");
    match byte {
        byte if byte == frame::PREFACE[0] => {
            let stream = Arc::new(stream);
            permit.wake_at_the_end(&stream, &peer);
            serve_express(&stream, peer, &hall.desk, &hall.lookouts);
        }
        b'P' => {
            let visitor = Visitor::new(peer);
            hall.lanes.deal(|lane| lane.local.send(LocalArrival { stream, visitor, permit }).is_ok());
        }
        _ => tracing::warn!(pid = peer.pid, "a local client speaks neither frames nor HTTP/2: closed"),
    }
}

/// The first byte, which stays in the socket; none when the client says nothing in time.
fn first_byte(stream: &UnixStream, patience: Duration) -> Option<u8> {
    stream.set_read_timeout(Some(patience)).ok()?;
    let mut byte = [0];
    let (seen, _) = rustix::net::recv(stream, &mut byte, RecvFlags::PEEK).ok()?;
    stream.set_read_timeout(None).ok()?;
    (seen == 1).then_some(byte[0])
}

fn serve_express(stream: &UnixStream, peer: Peer, desk: &Desk, lookouts: &Lookouts) {
    let pid = peer.pid;
    let mut seat = Seat::new(peer);
    match converse(stream, lookouts, |request| desk.dispatch(&mut seat, request)) {
        Ok(()) => tracing::debug!(pid, "an express connection ended"),
        Err(Broken::Socket(error)) => tracing::debug!(pid, %error, "an express connection broke"),
        Err(broken) => tracing::warn!(pid, %broken, "an express connection was closed"),
    }
}

/// The ways to the workers.
struct Lanes {
    lanes: Vec<Lane>,
    next: AtomicUsize,
}

struct Lane {
    local: mpsc::UnboundedSender<LocalArrival>,
    remote: mpsc::UnboundedSender<RemoteArrival>,
}

/// A local connection that speaks HTTP/2. Waiting arrivals are bounded by the permits they hold.
struct LocalArrival {
    stream: UnixStream,
    visitor: Visitor,
    permit: Permit,
}

/// A TCP connection before its handshake.
struct RemoteArrival {
    stream: TcpStream,
    address: SocketAddr,
    stranger: Stranger,
}

impl Lanes {
    /// Gives the connection to the worker whose turn it is.
    fn deal(&self, give: impl FnOnce(&Lane) -> bool) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        if !give(&self.lanes[turn]) {
            tracing::debug!("a connection came after the end and was closed");
        }
    }
}

/// Everything that one worker's tasks need.
#[derive(Clone)]
struct Services {
    health: HealthServer<HealthService>,
    token: TokenServer<TokenService>,
    admin: AdminServer<AdminService>,
    witness: WitnessServer<WitnessService>,
    request_timeout: Duration,
    reception: Reception,
}

/// What a connection from afar is greeted with.
#[derive(Clone)]
struct Reception {
    guests: Arc<Guests>,
    clients: Arc<Clients>,
    tls: Option<Arc<Tls>>,
}

fn start_workers(
    house: &House,
    guests: &Arc<Guests>,
    health: &HealthReporter,
    stopped: &watch::Receiver<bool>,
) -> Result<Arc<Lanes>, NoListener> {
    let token = TokenServer::new(TokenService::new(Arc::clone(&house.desk)))
        .max_decoding_message_size(frame::MAX_BODY)
        .max_encoding_message_size(frame::MAX_BODY);
    let services = Services {
        health: HealthServer::new(HealthService::from_health_reporter(health.clone())),
        token,
        admin: AdminServer::new(AdminService::new(Arc::clone(&house.desk), house.self_test.clone())),
        witness: WitnessServer::new(WitnessService::new(Arc::clone(&house.desk))),
        request_timeout: house.settings.request_timeout,
        reception: Reception {
            guests: Arc::clone(guests),
            clients: Arc::clone(&house.clients),
            tls: house.tls.clone(),
        },
    };
    let mut lanes = Vec::new();
    for number in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(POOL)
            .build()
            .map_err(|e| NoListener(format!("no runtime for gRPC: {e}")))?;
        let (local, local_arrivals) = mpsc::unbounded_channel();
        let (remote, remote_arrivals) = mpsc::unbounded_channel();
        let (services, stopped) = (services.clone(), stopped.clone());
        thread(&format!("grpc-{number}"), move || {
            let _whole = Indivisible::begin("a gRPC worker");
            runtime.block_on(work(services, local_arrivals, remote_arrivals, stopped));
        })?;
        lanes.push(Lane { local, remote });
    }
    Ok(Arc::new(Lanes { lanes, next: AtomicUsize::new(0) }))
}

/// One worker: a gRPC server for local connections and one, without administration, for the others.
async fn work(
    services: Services,
    local: mpsc::UnboundedReceiver<LocalArrival>,
    remote: mpsc::UnboundedReceiver<RemoteArrival>,
    stopped: watch::Receiver<bool>,
) {
    let (ready, handshaken) = mpsc::channel(32);
    tokio::spawn(shake_hands(remote, services.reception.clone(), ready));
    let local_door = router(&services).add_service(services.admin.clone());
    let remote_door = router(&services);
    let locals = UnboundedReceiverStream::new(local).filter_map(Line::local);
    let remotes = ReceiverStream::new(handshaken).map(Ok::<_, io::Error>);
    let (first, second) = tokio::join!(
        local_door.serve_with_incoming_shutdown(locals, until_stopped(stopped.clone())),
        remote_door.serve_with_incoming_shutdown(remotes, until_stopped(stopped)),
    );
    for error in [first.err(), second.err()].into_iter().flatten() {
        tracing::error!(%error, "a gRPC worker ended");
    }
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the end as well.
    stopped.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
}

fn limits(services: &Services) -> Server {
    Server::builder()
        .timeout(services.request_timeout)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .max_concurrent_streams(1024)
        .http2_max_header_list_size(16 * 1024)
}

/// What both doors offer; administration comes to the local one.
fn router(services: &Services) -> Router {
    let (health, token) = (services.health.clone(), services.token.clone());
    limits(services).add_service(health).add_service(token).add_service(services.witness.clone())
}

/// A peer that is silent for half a minute is asked by its kernel whether it is still there. Not by HTTP/2: a module runs nothing
/// between two calls and could not answer.
fn ask_when_silent(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

/// Each arrival in a task of its own, so that a slow client delays nobody.
async fn shake_hands(
    mut arrivals: mpsc::UnboundedReceiver<RemoteArrival>,
    reception: Reception,
    ready: mpsc::Sender<Line>,
) {
    while let Some(arrival) = arrivals.recv().await {
        let (reception, ready) = (reception.clone(), ready.clone());
        tokio::spawn(async move {
            let address = arrival.address;
            match tokio::time::timeout(reception.guests.patience(), Line::remote(arrival, &reception)).await {
                // The receiver is gone only at the end.
                Ok(Ok(Some(line))) => ready.send(line).await.unwrap_or_default(),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::info!(%address, %error, "a TLS handshake failed"),
                Err(_) => tracing::info!(%address, "a TLS handshake took too long"),
            }
        });
    }
}

/// One connection as tonic serves it. The fields are dropped in this order: the place is free when all else is gone.
struct Line {
    stream: Box<dyn Duplex>,
    visitor: Visitor,
    /// Until it has said its first word: how long it may still be silent. A place is not for those who only hold it.
    silence: Option<Pin<Box<Sleep>>>,
    _watched: Option<Watched>,
    _permit: Permit,
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Line {
    fn local(arrival: LocalArrival) -> Option<io::Result<Line>> {
        let stream = arrival
            .stream
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixStream::from_std(arrival.stream))
            .inspect_err(|error| tracing::warn!(%error, "a local connection could not be served"))
            .ok()?;
        let (visitor, permit) = (arrival.visitor, arrival.permit);
        // It has spoken, or it would not be here.
        Some(Ok(Line { stream: Box::new(stream), visitor, silence: None, _watched: None, _permit: permit }))
    }

    /// The connection of a client that is known and has a place; nothing for any other.
    async fn remote(arrival: RemoteArrival, reception: &Reception) -> io::Result<Option<Line>> {
        let silence = || Some(Box::pin(tokio::time::sleep(reception.guests.patience())));
        let place = |peer: &Peer| reception.guests.admit(&peer.canonical(), Door::Remote);
        arrival.stream.set_nonblocking(true)?;
        arrival.stream.set_nodelay(true)?;
        ask_when_silent(&arrival.stream)?;
        let Some(tls) = reception.tls.as_deref() else {
            let stream = tokio::net::TcpStream::from_std(arrival.stream)?;
            let peer = identify::anonymous();
            let Some(permit) = place(&peer) else { return Ok(None) };
            return Ok(Some(Line {
                stream: Box::new(stream),
                visitor: Visitor::new(peer),
                silence: silence(),
                _watched: None,
                _permit: permit,
            }));
        };
        let socket = arrival.stream.try_clone()?;
        let stream = tokio::net::TcpStream::from_std(arrival.stream)?;
        let stream = TlsAcceptor::from(tls.current()).accept(stream).await?;
        let (peer, watched) = match stream.get_ref().1.peer_certificates() {
            Some(chain @ [leaf, ..]) => {
                let known = identify::certificate(leaf, &reception.clients).map_err(io::Error::other)?;
                let Some(peer) = known else { return Ok(None) };
                let watched = tls.watch(chain, &peer, socket);
                (peer, Some(watched))
            }
            // The verifier demands a certificate unless the configuration lets anonymous clients in.
            _ => (identify::anonymous(), None),
        };
        let Some(permit) = place(&peer) else { return Ok(None) };
        drop(arrival.stranger);
        let (stream, visitor) = (Box::new(stream), Visitor::new(peer));
        Ok(Some(Line { stream, visitor, silence: silence(), _watched: watched, _permit: permit }))
    }
}

impl Connected for Line {
    type ConnectInfo = Visitor;

    fn connect_info(&self) -> Visitor {
        self.visitor.clone()
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(silence) = &mut self.silence {
            if read.is_ready() {
                self.silence = None;
            } else if silence.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client said nothing")));
            }
        }
        read
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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
