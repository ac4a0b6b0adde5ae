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
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hsm_core::Peer;
use hsm_core::sys::Indivisible;
use hsm_proto::v1::admin_server::AdminServer;
use hsm_proto::v1::token_server::TokenServer;
use hsm_proto::v1::witness_server::WitnessServer;
use hsm_proto::{frame, v1};
use rustix::net::RecvFlags;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::layer::util::{Identity, Stack};

use crate::clients::Clients;
use crate::config::Daemon;
use crate::dispatch::{Desk, Seat};
use crate::express::{Broken, Deadlines, Host, Lookouts, converse};
use crate::identify;
use crate::lifecycle::{Door, Guests, Stranger};
use crate::line::{Line, LocalArrival, Reception, RemoteArrival};
use crate::service::{AdminService, Counting, SelfTest, TokenService, Visitor, WitnessService};
use crate::socket::{NoListener, SocketFile, listen_locally};
use crate::tls::Tls;

/// The token's service, as health checks name it.
const TOKEN_SERVICE: &str = "craton.hsm.v1.Token";

/// Threads for long operations, per worker.
const POOL: usize = 4;

/// How much a connection may send ahead of what is heard of it. Its requests at once share it, so that those that wait hold up no other.
const WINDOW: u32 = 16 << 20;

/// The longest header list of a request, in bytes as HTTP/2 counts them.
const MAX_HEADERS: u32 = 16 * 1024;

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
        self.guests.part_from(|peer| identify::may_the_same(peer, clients));
    }

    /// How many connections have ended.
    pub(crate) fn departures(&self) -> u64 {
        self.guests.departures()
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

impl Hall {
    /// Whether the peer may do what it might when it came: the clients file may have been read again before the connection was known to
    /// [`Guests::part_from`].
    fn still_grants(&self, peer: &Peer) -> bool {
        let same = identify::may_the_same(peer, &self.clients);
        if !same {
            tracing::warn!(?peer.identity, "what a client may do has changed before it spoke: its connection is closed");
        }
        same
    }
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
            if hall.still_grants(&peer) {
                serve_express(&stream, peer, hall);
            }
        }
        b'P' => {
            if let Err(error) = permit.end_when_changed(&stream, &peer) {
                return tracing::warn!(%error, "a local connection could not be served");
            }
            if hall.still_grants(&peer) {
                let visitor = Visitor::new(peer);
                hall.lanes.deal(|lane| lane.local.send(LocalArrival { stream, visitor, permit }).is_ok());
            }
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

/// One application's seat before the desk.
struct Seated<'a> {
    desk: &'a Desk,
    seat: Seat,
}

impl Host for Seated<'_> {
    fn answer(&mut self, request: v1::Request) -> v1::Reply {
        self.desk.dispatch(&mut self.seat, request)
    }

    fn has_sessions(&self) -> bool {
        self.seat.caller.as_ref().is_some_and(|caller| caller.has_sessions())
    }
}

fn serve_express(stream: &UnixStream, peer: Peer, hall: &Hall) {
    let pid = peer.pid;
    let seated = Seated { desk: &hall.desk, seat: Seat::new(peer) };
    match converse(stream, &hall.lookouts, Deadlines::idle(hall.guests.limits().idle), seated) {
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
    let idle = services.reception.guests.limits().idle;
    let locals = UnboundedReceiverStream::new(local).filter_map(move |arrival| Line::local(arrival, idle));
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

fn limits(services: &Services) -> Server<Stack<Counting, Identity>> {
    let streams = services.reception.guests.limits().streams;
    Server::builder()
        .timeout(services.request_timeout)
        .initial_stream_window_size(WINDOW / streams.max(16))
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(streams)
        .http2_max_header_list_size(MAX_HEADERS)
        .layer(Counting)
}

/// What both doors offer; administration comes to the local one.
fn router(services: &Services) -> Router<Stack<Counting, Identity>> {
    let (health, token) = (services.health.clone(), services.token.clone());
    limits(services).add_service(health).add_service(token).add_service(services.witness.clone())
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
