//! The daemon's life between "ready" and the end: who is connected, how many may be, and how everybody is sent home.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Everybody who is connected.
pub(crate) struct Guests {
    most: usize,
    book: Mutex<Book>,
    left: Condvar,
}

#[derive(Default)]
struct Book {
    closing: bool,
    last_name: u64,
    inside: usize,
    /// The express lane's sockets, so that their blocked readers can be woken.
    waiting: HashMap<u64, Arc<UnixStream>>,
    last_refusal: Option<Instant>,
}

/// A place for one connection; dropping it frees the place.
pub(crate) struct Permit {
    guests: Arc<Guests>,
    name: u64,
}

impl Guests {
    /// Room for `most` connections.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Guests { most, book: Mutex::default(), left: Condvar::new() })
    }

    /// A place for a new connection, or `None` when all are taken or the daemon stops.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Permit> {
        let mut book = self.book.lock();
        if book.closing {
            return None;
        }
        if book.inside >= self.most {
            // A flood of connections must not become a flood of lines.
            if book.last_refusal.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
                book.last_refusal = Some(Instant::now());
                tracing::warn!(most = self.most, "connection refused: daemon.max_connections are open");
            }
            return None;
        }
        book.inside += 1;
        book.last_name += 1;
        Some(Permit { guests: Arc::clone(self), name: book.last_name })
    }

    /// Admits nobody any more and ends the reading of every express connection; what is being answered is answered.
    pub(crate) fn send_home(&self) {
        let mut book = self.book.lock();
        book.closing = true;
        for stream in book.waiting.values() {
            // A connection that is gone already needs no waking.
            stream.shutdown(Shutdown::Read).unwrap_or_default();
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

impl Permit {
    /// Lets [`Guests::send_home`] wake this connection's blocked reader.
    pub(crate) fn wake_at_the_end(&self, stream: &Arc<UnixStream>) {
        let mut book = self.guests.book.lock();
        if book.closing {
            stream.shutdown(Shutdown::Read).unwrap_or_default();
        }
        book.waiting.insert(self.name, Arc::clone(stream));
    }

    /// The connection is no longer the express lane's.
    pub(crate) fn leave_alone(&self) {
        self.guests.book.lock().waiting.remove(&self.name);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut book = self.guests.book.lock();
        book.inside -= 1;
        book.waiting.remove(&self.name);
        self.guests.left.notify_all();
    }
}

/// The signals that the daemon listens to.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
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

    #[test]
    fn the_last_place_is_given_once_and_comes_back() {
        let guests = Guests::new(1);
        let first = guests.admit();
        assert!(first.is_some() && guests.admit().is_none());
        assert!(!guests.wait_until_empty(Duration::from_millis(1)));
        drop(first);
        assert!(guests.wait_until_empty(Duration::from_millis(1)));
        assert!(guests.admit().is_some());
    }

    #[test]
    fn the_end_wakes_a_blocked_reader_and_admits_nobody() {
        let guests = Guests::new(9);
        let permit = guests.admit().expect("room");
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let ours = Arc::new(ours);
        permit.wake_at_the_end(&ours);
        let reader = std::thread::spawn(move || (&*ours).read(&mut [0; 1]).map_err(|e| e.kind()));
        guests.send_home();
        assert_eq!(reader.join().expect("no panic"), Ok(0));
        assert!(guests.admit().is_none());
    }
}
