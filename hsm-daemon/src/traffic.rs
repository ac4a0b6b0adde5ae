//! What passes over one gRPC connection: which requests are under way, whether its client takes the answers, and since when nothing was
//! asked.
//!
//! HTTP/2 takes a whole answer off our hands as soon as one byte of it may be sent, and keeps it until the client has read it. So answers
//! are handed over in [pieces](Pieces): what the client does not take stays here, where it is counted. While a client owes too much
//! reading its next requests wait, and `line.rs` ends a connection whose client takes nothing for a while.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use prost::bytes::Bytes;
use tokio::sync::Notify;
use tonic::Status;
use tonic::body::Body;

/// So many bytes are handed over at once: what one frame of HTTP/2 holds.
const PIECE: usize = 16 * 1024;

/// A client that has left more than this unread gets no further answer until it has read. As long as the longest message.
const UNREAD: usize = 4 * 1024 * 1024;

/// The requests and answers of one connection.
pub(crate) struct Traffic {
    state: Mutex<State>,
    read: Notify,
}

struct State {
    last: Instant,
    next: u64,
    /// Per request under way: since when a piece of its answer lies with the client.
    under_way: HashMap<u64, Option<Instant>>,
    /// Bytes of answers that have not been handed over.
    unread: usize,
}

impl Traffic {
    /// A connection on which nothing was asked yet.
    pub(crate) fn new() -> Arc<Self> {
        let state = State { last: Instant::now(), next: 0, under_way: HashMap::new(), unread: 0 };
        Arc::new(Traffic { state: Mutex::new(state), read: Notify::new() })
    }

    /// Whether nothing has been asked for so long, and nothing is under way.
    pub(crate) fn is_idle(&self, longest: Duration) -> bool {
        let state = self.state.lock();
        state.under_way.is_empty() && state.last.elapsed() >= longest
    }

    /// Whether the client has not taken some answer for so long.
    pub(crate) fn is_left_unread(&self, longest: Duration) -> bool {
        self.state.lock().under_way.values().flatten().any(|since| since.elapsed() >= longest)
    }

    /// Waits until the client has read enough for one more answer.
    pub(crate) async fn room(&self) {
        loop {
            let read = self.read.notified();
            if self.state.lock().unread <= UNREAD {
                return;
            }
            read.await;
        }
    }

    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>) -> Turn {
        let mut state = self.state.lock();
        state.next += 1;
        let number = state.next;
        state.under_way.insert(number, None);
        state.last = Instant::now();
        Turn { traffic: Arc::clone(self), number, unread: 0 }
    }
}

/// One request under way, until its answer has been handed over or is not wanted any more.
pub(crate) struct Turn {
    traffic: Arc<Traffic>,
    number: u64,
    /// Bytes of its answer that have not been handed over.
    unread: usize,
}

impl Turn {
    /// A piece has been taken, or will be: since when it lies with the client.
    fn lies(&self, since: Option<Instant>) {
        self.traffic.state.lock().under_way.insert(self.number, since);
    }

    /// So many bytes more, or fewer, are to be handed over.
    fn is_owed(&mut self, unread: usize) {
        let mut state = self.traffic.state.lock();
        state.unread = state.unread.saturating_sub(self.unread) + unread;
        self.unread = unread;
        drop(state);
        self.traffic.read.notify_waiters();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.is_owed(0);
        let mut state = self.traffic.state.lock();
        state.under_way.remove(&self.number);
        state.last = Instant::now();
    }
}

/// An answer, piece by piece.
pub(crate) struct Pieces {
    body: Body,
    turn: Turn,
    rest: Bytes,
}

impl Pieces {
    /// The answer of this body to the request of this turn.
    pub(crate) fn of(body: Body, turn: Turn) -> Self {
        Pieces { body, turn, rest: Bytes::new() }
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Status;

    /// Asked for the next piece when the one before has been taken.
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        this.turn.lies(None);
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => {
                        this.turn.lies(Some(Instant::now()));
                        return Poll::Ready(Some(Ok(trailers)));
                    }
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        this.turn.is_owed(this.rest.len());
        this.turn.lies(Some(Instant::now()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn answer(traffic: &Arc<Traffic>, len: usize) -> Pieces {
        let body = Full::new(Bytes::from(vec![7; len])).map_err(|never| match never {});
        Pieces::of(Body::new(body), traffic.begin())
    }

    #[tokio::test]
    async fn an_answer_is_handed_over_in_pieces_and_whole() {
        let traffic = Traffic::new();
        let mut body = answer(&traffic, 3 * PIECE + 1);
        let mut lengths = Vec::new();
        while let Some(frame) = body.frame().await {
            lengths.push(frame.expect("a piece").into_data().expect("data").len());
        }
        assert_eq!(lengths, [PIECE, PIECE, PIECE, 1]);
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn what_is_not_taken_is_noticed_until_it_is() {
        let traffic = Traffic::new();
        assert!(traffic.is_idle(Duration::ZERO));
        let mut body = answer(&traffic, 2 * PIECE);
        assert!(!traffic.is_idle(Duration::ZERO) && !traffic.is_left_unread(Duration::ZERO));
        body.frame().await.expect("a piece").expect("a piece");
        assert!(traffic.is_left_unread(Duration::ZERO) && !traffic.is_left_unread(Duration::from_secs(3600)));
        drop(body);
        assert!(traffic.is_idle(Duration::ZERO) && !traffic.is_left_unread(Duration::ZERO));
        assert_eq!(traffic.state.lock().unread, 0);
    }

    #[tokio::test]
    async fn who_has_much_to_read_waits_for_the_next_answer() {
        let traffic = Traffic::new();
        let mut unread = answer(&traffic, UNREAD + 2 * PIECE);
        unread.frame().await.expect("a piece").expect("a piece");
        let mut next = Box::pin(traffic.room());
        assert!(futures_are_pending(&mut next).await);
        unread.frame().await.expect("a piece").expect("a piece");
        next.await;
    }

    async fn futures_are_pending(future: &mut Pin<Box<impl Future<Output = ()>>>) -> bool {
        core::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
}
