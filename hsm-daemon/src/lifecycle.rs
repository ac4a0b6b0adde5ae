//! The daemon's life between "ready" and the end: who is connected, how many may be, and how everybody is sent home.

use std::collections::{BTreeMap, HashMap};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hsm_core::Peer;
use parking_lot::{Condvar, Mutex};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Limits;

/// Which listener somebody came by. Crowds at one door close it for nobody at the other.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Door {
    /// The Unix socket.
    Local,
    /// TCP.
    Remote,
}

/// Everybody who is connected.
pub(crate) struct Guests {
    limits: Limits,
    book: Mutex<Book>,
    left: Condvar,
    departures: AtomicU64,
}

#[derive(Default)]
struct Book {
    closing: bool,
    last_name: u64,
    inside: usize,
    /// How many of them came over TCP.
    from_afar: usize,
    /// How many connections each client has.
    of: HashMap<String, usize>,
    /// Who has connected and has not said yet who it is, by door, oldest first.
    strangers: HashMap<Door, BTreeMap<u64, OwnedFd>>,
    /// The express lane's sockets, so that their blocked readers can be woken.
    waiting: HashMap<u64, (Arc<UnixStream>, Peer)>,
    /// The sockets of local gRPC connections, so that they can be ended when what their clients may do has changed.
    lines: HashMap<u64, (OwnedFd, Peer)>,
    last_refusal: Option<Instant>,
}

/// A place for one connection; dropping it frees the place.
pub(crate) struct Permit {
    guests: Arc<Guests>,
    name: u64,
    client: String,
    door: Door,
}

/// A connection of which it is not known yet who it is.
pub(crate) struct Stranger {
    guests: Arc<Guests>,
    name: u64,
    door: Door,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.guests.departures.fetch_add(1, Ordering::Relaxed);
        if let Some(strangers) = self.guests.book.lock().strangers.get_mut(&self.door) {
            strangers.remove(&self.name);
        }
    }
}

impl Guests {
    /// Room for so many connections.
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Guests { limits, book: Mutex::default(), left: Condvar::new(), departures: AtomicU64::new(0) })
    }

    /// What it was opened with.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// How many connections have ended.
    pub(crate) fn departures(&self) -> u64 {
        self.departures.load(Ordering::Relaxed)
    }

    /// How long a stranger may take to say who it is.
    pub(crate) fn patience(&self) -> Duration {
        self.limits.greeting
    }

    /// Somebody has connected; `None` when the daemon stops or has no descriptor left. When too many at this door have said nothing
    /// yet, the one that has been silent longest is closed: whoever says who it is at once is served however many are silent.
    pub(crate) fn greet(self: &Arc<Self>, socket: impl AsFd, door: Door) -> Option<Stranger> {
        let handle = socket.as_fd().try_clone_to_owned().ok()?;
        let mut book = self.book.lock();
        if book.closing {
            return None;
        }
        let strangers = book.strangers.entry(door).or_default();
        if strangers.len() >= self.limits.pending
            && let Some((_, oldest)) = strangers.pop_first()
        {
            // One that has gone by itself needs no closing.
            rustix::net::shutdown(oldest, rustix::net::Shutdown::Both).unwrap_or_default();
            book.warn(|| {
                tracing::warn!("daemon.max_handshakes connections have said nothing yet: the oldest are closed")
            });
        }
        book.last_name += 1;
        let name = book.last_name;
        book.strangers.entry(door).or_default().insert(name, handle);
        Some(Stranger { guests: Arc::clone(self), name, door })
    }

    /// A place for a client, or `None` when all are taken, or all that TCP or one client gets, or the daemon stops.
    pub(crate) fn admit(self: &Arc<Self>, client: &str, door: Door) -> Option<Permit> {
        let mut book = self.book.lock();
        let Limits { connections, from_afar, of_one_client, .. } = self.limits;
        if book.closing {
            return None;
        }
        if door == Door::Remote && book.from_afar >= from_afar {
            book.warn(|| tracing::warn!(from_afar, "connection refused: daemon.max_tcp_connections are open"));
            return None;
        }
        if book.inside >= connections {
            book.warn(|| tracing::warn!(connections, "connection refused: daemon.max_connections are open"));
            return None;
        }
        if book.of.get(client).is_some_and(|open| *open >= of_one_client) {
            book.warn(|| {
                tracing::warn!(client, of_one_client, "connection refused: daemon.max_connections_per_client are open")
            });
            return None;
        }
        book.inside += 1;
        book.from_afar += usize::from(door == Door::Remote);
        book.last_name += 1;
        *book.of.entry(client.to_owned()).or_default() += 1;
        Some(Permit { guests: Arc::clone(self), name: book.last_name, client: client.to_owned(), door })
    }

    /// Ends the conversations of local clients for which `still` does not hold any more.
    pub(crate) fn part_from(&self, still: impl Fn(&Peer) -> bool) {
        let book = self.book.lock();
        let waiting = book.waiting.values().map(|(stream, peer)| (stream.as_fd(), peer));
        let lines = book.lines.values().map(|(socket, peer)| (socket.as_fd(), peer));
        for (socket, peer) in waiting.chain(lines).filter(|(_, peer)| !still(peer)) {
            tracing::warn!(?peer.identity, "what a client may do has changed: its connection is closed");
            rustix::net::shutdown(socket, rustix::net::Shutdown::Both).unwrap_or_default();
        }
    }

    /// Admits nobody any more and ends the reading of every express connection; what is being answered is answered.
    pub(crate) fn send_home(&self) {
        let mut book = self.book.lock();
        book.closing = true;
        for (stream, _) in book.waiting.values() {
            // A connection that is gone already needs no waking.
            stream.shutdown(Shutdown::Read).unwrap_or_default();
        }
        for stranger in core::mem::take(&mut book.strangers).into_values().flat_map(BTreeMap::into_values) {
            rustix::net::shutdown(stranger, rustix::net::Shutdown::Both).unwrap_or_default();
        }
    }

    /// Waits until everybody has left; says whether they have.
    pub(crate) fn wait_until_empty(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut book = self.book.lock();
        while book.inside > 0 {
            if self.left.wait_until(&mut book, deadline).timed_out() {
                return book.inside == 0;
            }
        }
        true
    }
}

impl Book {
    /// A flood of connections must not become a flood of lines.
    fn warn(&mut self, say: impl FnOnce()) {
        if self.last_refusal.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            self.last_refusal = Some(Instant::now());
            say();
        }
    }
}

impl Permit {
    /// Lets [`Guests::send_home`] wake this connection's blocked reader.
    pub(crate) fn wake_at_the_end(&self, stream: &Arc<UnixStream>, peer: &Peer) {
        let mut book = self.guests.book.lock();
        if book.closing {
            stream.shutdown(Shutdown::Read).unwrap_or_default();
        }
        book.waiting.insert(self.name, (Arc::clone(stream), peer.clone()));
    }

    /// Lets [`Guests::part_from`] end this connection, which is served elsewhere.
    ///
    /// # Errors
    /// Without a descriptor for it.
    pub(crate) fn end_when_changed(&self, socket: impl AsFd, peer: &Peer) -> std::io::Result<()> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        self.guests.book.lock().lines.insert(self.name, (socket, peer.clone()));
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.guests.departures.fetch_add(1, Ordering::Relaxed);
        let mut book = self.guests.book.lock();
        book.inside -= 1;
        book.from_afar -= usize::from(self.door == Door::Remote);
        book.waiting.remove(&self.name);
        book.lines.remove(&self.name);
        if let Some(open) = book.of.get_mut(&self.client) {
            *open -= 1;
            if *open == 0 {
                book.of.remove(&self.client);
            }
        }
        self.guests.left.notify_all();
    }
}

/// The signals that the daemon listens to.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Never looked at: that somebody listens keeps the signal from ending the daemon, and the write that was refused says so itself.
    _file_too_long: Signal,
}

/// What a signal asks for.
pub(crate) enum Wish {
    /// SIGTERM or SIGINT.
    Stop(&'static str),
    /// SIGHUP: read the TLS files again.
    Reload,
}

impl Signals {
    /// Starts listening; must be called inside a runtime.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            _file_too_long: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Wish::Stop("SIGINT"),
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn room(connections: usize, of_one_client: usize, pending: usize) -> Arc<Guests> {
        Guests::new(Limits {
            connections,
            from_afar: connections.div_ceil(2),
            of_one_client,
            pending,
            greeting: Duration::from_secs(1),
            idle: Duration::from_secs(600),
            streams: 64,
        })
    }

    #[test]
    fn the_last_place_is_given_once_and_comes_back() {
        let guests = room(1, 9, 9);
        let first = guests.admit("a", Door::Local);
        assert!(first.is_some() && guests.admit("b", Door::Local).is_none());
        assert!(!guests.wait_until_empty(Duration::from_millis(1)));
        drop(first);
        assert!(guests.wait_until_empty(Duration::from_millis(1)));
        assert!(guests.admit("a", Door::Local).is_some());
    }

    #[test]
    fn one_client_leaves_places_for_others() {
        let guests = room(9, 2, 9);
        let (first, _second) = (guests.admit("a", Door::Local), guests.admit("a", Door::Local));
        assert!(guests.admit("a", Door::Local).is_none() && guests.admit("b", Door::Local).is_some());
        drop(first);
        assert!(guests.admit("a", Door::Local).is_some());
    }

    #[test]
    fn clients_from_afar_leave_places_for_local_ones() {
        let guests = room(4, 9, 9);
        let afar: Vec<_> = (0..4).filter_map(|_| guests.admit("a", Door::Remote)).collect();
        assert_eq!(afar.len(), 2);
        let here: Vec<_> = (0..4).filter_map(|_| guests.admit("b", Door::Local)).collect();
        assert_eq!(here.len(), 2);
        drop(afar);
        assert!(guests.admit("a", Door::Remote).is_some());
    }

    #[test]
    fn the_stranger_that_has_been_silent_longest_makes_room() {
        let guests = room(9, 9, 2);
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().expect("pair")).collect();
        let at_the_other_door = UnixStream::pair().expect("pair");
        let _other = guests.greet(&at_the_other_door.0, Door::Local);
        let strangers: Vec<_> = pairs.iter().map(|(ours, _)| guests.greet(ours, Door::Remote)).collect();
        assert!(strangers.iter().all(Option::is_some));
        // The oldest reads the end of its connection, the others would wait.
        assert_eq!((&pairs[0].0).read(&mut [0; 1]).expect("closed"), 0);
        for ours in pairs[1..].iter().map(|(ours, _)| ours).chain([&at_the_other_door.0]) {
            ours.set_nonblocking(true).expect("set");
            assert_eq!((&*ours).read(&mut [0; 1]).map_err(|e| e.kind()), Err(std::io::ErrorKind::WouldBlock));
        }
        drop(strangers);
        assert!(guests.book.lock().strangers[&Door::Remote].is_empty());
    }

    #[test]
    fn a_client_whose_grant_changed_is_parted_from() {
        let guests = room(9, 9, 9);
        let peer = |uid| Peer::unrestricted(hsm_core::Identity::Local { uid, gid: 0 }, None);
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let (ours, permit) = (Arc::new(ours), guests.admit("a", Door::Local).expect("room"));
        permit.wake_at_the_end(&ours, &peer(7));
        ours.set_nonblocking(true).expect("set");
        guests.part_from(|known| *known == peer(7));
        assert!((&*ours).read(&mut [0; 1]).is_err(), "nothing has changed");
        guests.part_from(|known| *known == peer(8));
        assert_eq!((&*ours).read(&mut [0; 1]).expect("closed"), 0);
    }

    #[test]
    fn the_end_wakes_a_blocked_reader_and_admits_nobody() {
        let guests = room(9, 9, 9);
        let permit = guests.admit("a", Door::Local).expect("room");
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let ours = Arc::new(ours);
        permit.wake_at_the_end(&ours, &Peer::unrestricted(hsm_core::Identity::Local { uid: 1, gid: 1 }, None));
        let reader = std::thread::spawn(move || (&*ours).read(&mut [0; 1]).map_err(|e| e.kind()));
        guests.send_home();
        assert_eq!(reader.join().expect("no panic"), Ok(0));
        assert!(guests.admit("b", Door::Local).is_none());
    }
}
