//! What passes over one gRPC connection: which requests are under way, how much of them is held, whether its client takes the answers, and
//! since when nothing was asked.
//!
//! HTTP/2 takes a whole answer off our hands as soon as one byte of it may be sent, and keeps it until the client has read it. So answers
//! are handed over in [pieces](Pieces): what the client does not take stays here, where it is counted. A request is [heard](Heard) no
//! further while its client owes too much reading, nor while others of the connection's are as long: it waits in HTTP/2's window.
//! `line.rs` ends a connection whose client takes nothing for a while.

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

/// A request is long when more bytes of it than these have come.
const LONG: usize = 64 * 1024;

/// So many long requests of a connection are held at once, from there until their answers.
const LONG_AT_ONCE: usize = 4;

/// The requests and answers of one connection.
pub(crate) struct Traffic {
    state: Mutex<State>,
    /// Told when a request that waits may be heard further.
    moved: Notify,
}

struct State {
    last: Instant,
    next: u64,
    under_way: HashMap<u64, UnderWay>,
    /// Bytes of answers that have not been handed over.
    unread: usize,
}

/// A request that has not been answered to the end.
#[derive(Default)]
struct UnderWay {
    /// Whether it has one of the places for long ones.
    is_long: bool,
    /// Since when a piece of its answer lies with the client.
    lies: Option<Instant>,
}

impl Traffic {
    /// A connection on which nothing was asked yet.
    pub(crate) fn new() -> Arc<Self> {
        let state = State { last: Instant::now(), next: 0, under_way: HashMap::new(), unread: 0 };
        Arc::new(Traffic { state: Mutex::new(state), moved: Notify::new() })
    }

    /// Whether nothing has been asked for so long, and nothing is under way.
    pub(crate) fn is_idle(&self, longest: Duration) -> bool {
        let state = self.state.lock();
        state.under_way.is_empty() && state.last.elapsed() >= longest
    }

    /// Whether the client has not taken some answer for so long.
    pub(crate) fn is_left_unread(&self, longest: Duration) -> bool {
        self.state.lock().under_way.values().filter_map(|request| request.lies).any(|since| since.elapsed() >= longest)
    }

    /// Whether a request may be heard further of which so many bytes have come. A long one gets its place here.
    fn admits(&self, number: u64, heard: usize) -> bool {
        let mut state = self.state.lock();
        let taken = state.under_way.values().filter(|request| request.is_long).count();
        let is_free = state.unread <= UNREAD;
        match state.under_way.get_mut(&number) {
            Some(request) if is_free && heard > LONG && !request.is_long => {
                request.is_long = taken < LONG_AT_ONCE;
                request.is_long
            }
            _ => is_free,
        }
    }

    /// Waits until it may.
    async fn admit(self: Arc<Self>, number: u64, heard: usize) {
        loop {
            let moved = self.moved.notified();
            if self.admits(number, heard) {
                return;
            }
            moved.await;
        }
    }

    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>) -> Turn {
        let mut state = self.state.lock();
        state.next += 1;
        let number = state.next;
        state.under_way.insert(number, UnderWay::default());
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
    /// The message of this request, as it comes.
    pub(crate) fn hear(&self, body: Body) -> Heard {
        Heard { body, traffic: Arc::clone(&self.traffic), number: self.number, heard: 0, waiting: None }
    }

    /// Nothing of the request is held any more.
    pub(crate) fn is_done(&self) {
        if let Some(request) = self.traffic.state.lock().under_way.get_mut(&self.number) {
            request.is_long = false;
        }
        self.traffic.moved.notify_waiters();
    }

    /// A piece has been taken, or will be: since when it lies with the client.
    fn lies(&self, since: Option<Instant>) {
        if let Some(request) = self.traffic.state.lock().under_way.get_mut(&self.number) {
            request.lies = since;
        }
    }

    /// So many bytes more, or fewer, are to be handed over.
    fn is_owed(&mut self, unread: usize) {
        let mut state = self.traffic.state.lock();
        let before = state.unread;
        state.unread = before.saturating_sub(self.unread) + unread;
        self.unread = unread;
        let is_free_again = before > UNREAD && state.unread <= UNREAD;
        drop(state);
        if is_free_again {
            self.traffic.moved.notify_waiters();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.is_owed(0);
        let mut state = self.traffic.state.lock();
        let was_long = state.under_way.remove(&self.number).is_some_and(|request| request.is_long);
        state.last = Instant::now();
        drop(state);
        if was_long {
            self.traffic.moved.notify_waiters();
        }
    }
}

/// A request's message, no faster than its connection may be heard.
pub(crate) struct Heard {
    body: Body,
    traffic: Arc<Traffic>,
    number: u64,
    /// Bytes that have come.
    heard: usize,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl HttpBody for Heard {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.waiting.is_none() && !this.traffic.admits(this.number, this.heard) {
            this.waiting = Some(Box::pin(Arc::clone(&this.traffic).admit(this.number, this.heard)));
        }
        if let Some(waiting) = &mut this.waiting {
            ready!(waiting.as_mut().poll(cx));
            this.waiting = None;
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            this.heard += data.len();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
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
    use http_body_util::{BodyExt, Full, StreamBody};

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

    /// A body of frames as HTTP/2 brings them, with the turn of its request.
    fn asked(traffic: &Arc<Traffic>, len: usize) -> (Turn, Heard) {
        let bytes = vec![7; len];
        let frame = |part: &[u8]| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(part)));
        let frames: Vec<_> = bytes.chunks(PIECE).map(frame).collect();
        let turn = traffic.begin();
        let heard = turn.hear(Body::new(StreamBody::new(tokio_stream::iter(frames))));
        (turn, heard)
    }

    /// Hears what may be heard now: so many bytes, and whether that is all.
    async fn hear(body: &mut Heard) -> (usize, bool) {
        let mut len = 0;
        loop {
            let frame = core::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await;
            match frame {
                Poll::Pending => return (len, false),
                Poll::Ready(None) => return (len, true),
                Poll::Ready(Some(frame)) => len += frame.expect("a frame").into_data().expect("data").len(),
            }
        }
    }

    /// Also one whose request had begun before there was so much to read.
    #[tokio::test]
    async fn who_has_much_to_read_waits_for_the_next_answer() {
        let traffic = Traffic::new();
        let (_turn, mut next) = asked(&traffic, 2 * PIECE);
        next.frame().await.expect("a frame").expect("a frame");
        let mut unread = answer(&traffic, UNREAD + 2 * PIECE);
        unread.frame().await.expect("a piece").expect("a piece");
        assert_eq!(hear(&mut next).await, (0, false));
        let mut after = Box::pin(next.frame());
        assert!(core::future::poll_fn(|cx| Poll::Ready(after.as_mut().poll(cx).is_pending())).await);
        unread.frame().await.expect("a piece").expect("a piece");
        after.await.expect("a frame").expect("a frame");
    }

    #[tokio::test]
    async fn so_many_long_requests_are_held_at_once_and_short_ones_beside_them() {
        let traffic = Traffic::new();
        let mut long: Vec<_> = (0..LONG_AT_ONCE + 2).map(|_| asked(&traffic, 4 * LONG)).collect();
        for (index, (_, body)) in long.iter_mut().enumerate() {
            let (heard, is_all) = hear(body).await;
            assert_eq!(is_all, index < LONG_AT_ONCE, "the {index}th");
            assert!(is_all || heard <= LONG + PIECE, "{heard} bytes of one that waits");
        }
        let (_short, mut body) = asked(&traffic, LONG);
        assert_eq!(hear(&mut body).await, (LONG, true));
        // Neither that the message has come makes room, but that it has been answered, or is not wanted any more.
        let (answered, _) = long.remove(0);
        assert!(!hear(&mut long[LONG_AT_ONCE - 1].1).await.1);
        answered.is_done();
        assert!(hear(&mut long[LONG_AT_ONCE - 1].1).await.1);
        assert!(!hear(&mut long[LONG_AT_ONCE].1).await.1);
        drop(long.remove(0));
        assert!(hear(&mut long[LONG_AT_ONCE - 1].1).await.1);
    }
}
