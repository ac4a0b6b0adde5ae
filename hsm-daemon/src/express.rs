//! The express lane: the daemon's side of one connection that speaks frames (`hsm_proto::frame`).
//!
//! One blocking thread serves one connection. It reads what has come, answers every whole frame of it in order, and
//! writes all answers at once. Between requests it first looks for the next one without sleeping, but only while that
//! has lately been worth it: a sleep and a wake-up between two processors cost more than most operations, and spinning
//! on a busy machine takes the processor from the client whose request it waits for.
//!
//! A client that does not finish what it says, or does not read what it is answered, loses its connection; so does one that asks nothing
//! for long and has no session.
//!
//! Nothing here knows what a request means. Received and sent bytes are wiped as soon as they have been used; a buffer
//! that is replaced is wiped by the allocator (`main.rs`).

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hsm_proto::frame::{self, HEADER_LEN, Header, PREFACE};
use hsm_proto::patience::Patience;
use hsm_proto::v1;
use prost::Message;
use rustix::io::Errno;
use rustix::net::RecvFlags;

/// The receive buffer of a quiet connection, in bytes.
const SMALL: usize = 16 * 1024;

/// The largest buffer that is kept from one request to the next.
const KEPT: usize = 1024 * 1024;

/// So many bytes of answers are written without waiting for the rest.
const FLUSH_AT: usize = 256 * 1024;

/// How long to look for the next request before sleeping.
const LOOK_FOR: Duration = Duration::from_micros(30);

/// How long a client may take for a frame that it has begun, and for reading its answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that has connected must say so within this time.
const PREFACE_DEADLINE: Duration = Duration::from_secs(5);

/// What a client gets time for.
#[derive(Clone, Copy)]
pub(crate) struct Deadlines {
    /// Asking nothing, without a session.
    idle: Duration,
    /// Finishing a frame that it has begun.
    frame: Duration,
    /// Reading its answers.
    reading: Duration,
}

impl Deadlines {
    /// The usual ones, with so long for asking nothing.
    pub(crate) fn idle(idle: Duration) -> Self {
        Deadlines { idle, frame: PATIENCE, reading: PATIENCE }
    }
}

/// How many threads may look for requests without sleeping at the same time.
pub(crate) struct Lookouts {
    most: usize,
    now: AtomicUsize,
}

impl Lookouts {
    /// Half of the processors; none on a machine that has only one.
    pub(crate) fn of_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from) / 2)
    }

    fn new(most: usize) -> Self {
        Lookouts { most, now: AtomicUsize::new(0) }
    }

    fn take(&self) -> Option<Lookout<'_>> {
        let taken =
            self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < self.most).then(|| now + 1));
        taken.ok().map(|_| Lookout(self))
    }
}

/// The right to look, given back when dropped.
struct Lookout<'a>(&'a Lookouts);

impl Drop for Lookout<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a conversation ended before the client ended it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The first bytes are not this framing's.
    #[error("the client does not speak this version of the framing")]
    Preface,
    /// A frame announces more than is allowed.
    #[error(transparent)]
    TooLong(#[from] frame::TooLong),
    /// A body is not a request.
    #[error("a frame's body is not a request")]
    Garbage,
    /// A frame does not come to its end.
    #[error("a frame was not finished in time")]
    Slow,
    /// The client left in the middle of a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
}

/// Whoever the conversation is with.
pub(crate) trait Host {
    /// Turns a request into its reply.
    fn answer(&mut self, request: v1::Request) -> v1::Reply;

    /// Whether the client has something that its connection must be kept for.
    fn has_sessions(&self) -> bool;
}

impl<F: FnMut(v1::Request) -> v1::Reply> Host for F {
    fn answer(&mut self, request: v1::Request) -> v1::Reply {
        self(request)
    }

    fn has_sessions(&self) -> bool {
        false
    }
}

/// Serves the connection until the client ends it, or asks nothing for long and has no session.
///
/// # Errors
/// [`Broken`]: the connection is of no more use and the caller closes it.
pub(crate) fn converse(
    stream: &UnixStream,
    lookouts: &Lookouts,
    deadlines: Deadlines,
    mut host: impl Host,
) -> Result<(), Broken> {
    greet(stream)?;
    stream.set_write_timeout(Some(deadlines.reading))?;
    stream.set_read_timeout(Some(deadlines.idle))?;
    let mut inbox = Inbox::new();
    let mut outbox = Vec::with_capacity(SMALL);
    let mut patience = Patience::default();
    let mut frame_begun = None;
    loop {
        while let Some((request_id, body)) = next_frame(stream, &mut inbox, &mut outbox, deadlines)? {
            let request = v1::Request::decode(inbox.body(&body)).map_err(|_| Broken::Garbage);
            inbox.wipe(body);
            let reply = host.answer(request?);
            hsm_core::failpoint!("reply.express.before");
            encode_reply(request_id, reply, &mut outbox)?;
            if outbox.len() >= FLUSH_AT {
                flush(stream, &mut outbox, deadlines)?;
            }
        }
        flush(stream, &mut outbox, deadlines)?;
        hsm_core::failpoint!("reply.express.after");
        watch_the_clock(stream, inbox.is_empty(), &mut frame_begun, deadlines)?;
        match wait(stream, inbox.room(), lookouts, &mut patience)? {
            Some(0) => return if inbox.is_empty() { Ok(()) } else { Err(Broken::Truncated) },
            Some(received) => inbox.received(received),
            None if frame_begun.is_some() => return Err(Broken::Slow),
            None if host.has_sessions() => {}
            // The client cannot send any more from now on, and what it has just sent is answered yet.
            None => stream.shutdown(Shutdown::Read)?,
        }
    }
}

/// The next whole frame. A client whose frame is too long is told so before the connection ends.
fn next_frame(
    stream: &UnixStream,
    inbox: &mut Inbox,
    outbox: &mut Vec<u8>,
    deadlines: Deadlines,
) -> Result<Option<(u32, core::ops::Range<usize>)>, Broken> {
    inbox.next_frame().map_err(|too_long| {
        let fault = v1::Fault::new(ck::rv::CKR_DATA_LEN_RANGE, too_long.to_string());
        let reply = v1::Reply { generation: 0, result: Some(v1::reply::Result::Fault(fault)) };
        let told = frame::encode(inbox.request_id(), &reply, outbox).map_err(Broken::TooLong);
        match told.and_then(|()| Ok(flush(stream, outbox, deadlines)?)) {
            Ok(()) => Broken::TooLong(too_long),
            Err(why) => why,
        }
    })
}

/// A frame that has begun has its deadline, which bytes that come one by one do not move.
fn watch_the_clock(
    stream: &UnixStream,
    all_answered: bool,
    frame_begun: &mut Option<Instant>,
    deadlines: Deadlines,
) -> Result<(), Broken> {
    match (all_answered, *frame_begun) {
        (true, None) => {}
        (true, Some(_)) => {
            *frame_begun = None;
            stream.set_read_timeout(Some(deadlines.idle))?;
        }
        (false, None) => {
            *frame_begun = Some(Instant::now());
            stream.set_read_timeout(Some(deadlines.frame))?;
        }
        (false, Some(begun)) if begun.elapsed() >= deadlines.frame => return Err(Broken::Slow),
        (false, Some(_)) => {}
    }
    Ok(())
}

/// Reads the first bytes, within their deadline.
fn greet(mut stream: &UnixStream) -> Result<(), Broken> {
    let mut preface = [0; PREFACE.len()];
    stream.set_read_timeout(Some(PREFACE_DEADLINE))?;
    stream.read_exact(&mut preface)?;
    stream.set_read_timeout(None)?;
    if preface == PREFACE { Ok(()) } else { Err(Broken::Preface) }
}

/// Appends the reply, or, when it is too long for a frame, a fault in its place.
fn encode_reply(request_id: u32, reply: v1::Reply, outbox: &mut Vec<u8>) -> Result<(), frame::TooLong> {
    match frame::encode(request_id, &reply, outbox) {
        Ok(()) => Ok(()),
        Err(_) => {
            let fault = v1::Fault::new(ck::rv::CKR_DATA_LEN_RANGE, "the reply is longer than a frame may be");
            let short = v1::Reply { generation: reply.generation, result: Some(v1::reply::Result::Fault(fault)) };
            frame::encode(request_id, &short, outbox)
        }
    }
}

fn flush(stream: &UnixStream, outbox: &mut Vec<u8>, deadlines: Deadlines) -> io::Result<()> {
    if outbox.is_empty() {
        return Ok(());
    }
    write_within(stream, outbox, deadlines.reading)?;
    if outbox.capacity() > KEPT {
        *outbox = Vec::with_capacity(SMALL);
    } else {
        outbox.fill(0);
        outbox.clear();
    }
    Ok(())
}

/// Writes everything; a client that reads a byte now and then gets no more time than one that reads nothing.
fn write_within(mut stream: &UnixStream, mut bytes: &[u8], deadline: Duration) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match stream.write(bytes) {
            Ok(written) if written == bytes.len() => return Ok(()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if begun.elapsed() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answers"));
        }
    }
}

/// Waits for bytes: looking first, if that is worth it, then asleep. Zero is the end of the connection, nothing that the time is over.
fn wait(
    mut stream: &UnixStream,
    room: &mut [u8],
    lookouts: &Lookouts,
    patience: &mut Patience,
) -> io::Result<Option<usize>> {
    if patience.wants_to_look()
        && let Some(_lookout) = lookouts.take()
        && let Some(received) = look(stream, room, patience)?
    {
        return Ok(Some(received));
    }
    loop {
        match stream.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            outcome => return outcome.map(Some),
        }
    }
}

fn look(stream: &UnixStream, room: &mut [u8], patience: &mut Patience) -> io::Result<Option<usize>> {
    let mut since = None;
    loop {
        match rustix::net::recv(stream, &mut *room, RecvFlags::DONTWAIT) {
            Ok((received, _)) => {
                if since.is_some() {
                    patience.hit();
                }
                return Ok(Some(received));
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if since.get_or_insert_with(Instant::now).elapsed() >= LOOK_FOR {
            patience.miss();
            return Ok(None);
        }
        core::hint::spin_loop();
    }
}

/// Received bytes that are not answered yet: `bytes[start..end]`; all others are zero.
struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    fn new() -> Self {
        Inbox { bytes: vec![0; SMALL], start: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn received(&mut self, len: usize) {
        self.end += len;
    }

    /// The id and the place of the next whole frame's body, which is then taken out of the queue.
    fn next_frame(&mut self) -> Result<Option<(u32, core::ops::Range<usize>)>, frame::TooLong> {
        let Some((header, rest)) = self.bytes[self.start..self.end].split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::parse(*header)?;
        let body_len = header.body_len as usize;
        if rest.len() < body_len {
            return Ok(None);
        }
        let from = self.start + HEADER_LEN;
        self.start = from + body_len;
        Ok(Some((header.request_id, from..self.start)))
    }

    /// The id of the frame whose header has come.
    fn request_id(&self) -> u32 {
        self.bytes[self.start..self.end].first_chunk::<HEADER_LEN>().copied().map_or(0, Header::id)
    }

    fn body(&self, place: &core::ops::Range<usize>) -> &[u8] {
        &self.bytes[place.clone()]
    }

    fn wipe(&mut self, place: core::ops::Range<usize>) {
        self.bytes[place].fill(0);
    }

    /// Space for more bytes: enough for the rest of the frame that has begun.
    fn room(&mut self) -> &mut [u8] {
        let begun = self.end - self.start;
        let wanted = match self.bytes[self.start..self.end].first_chunk::<HEADER_LEN>() {
            // `next_frame` has refused a header that announces too much.
            Some(header) => Header::parse(*header).map_or(SMALL, |header| HEADER_LEN + header.body_len as usize),
            None => SMALL,
        };
        let len = wanted.next_multiple_of(SMALL);
        if len > self.bytes.len() || (begun == 0 && self.bytes.len() > KEPT) {
            let mut other = vec![0; len];
            other[..begun].copy_from_slice(&self.bytes[self.start..self.end]);
            self.bytes = other;
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.bytes[begun..self.end].fill(0);
        }
        (self.start, self.end) = (0, begun);
        &mut self.bytes[begun..]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread::JoinHandle;

    use super::*;

    /// Answers a random request with as many bytes, and anything else with its own generation.
    fn echo(request: v1::Request) -> v1::Reply {
        let result = match request.op {
            Some(v1::request::Op::Random(wanted)) => {
                v1::reply::Result::Random(v1::RandomReply { bytes: vec![7; wanted.len as usize] })
            }
            Some(v1::request::Op::SeedRandom(seed)) => v1::reply::Result::Random(v1::RandomReply { bytes: seed.seed }),
            _ => v1::reply::Result::Done(v1::Empty {}),
        };
        v1::Reply { generation: 1, result: Some(result) }
    }

    fn served(most_lookouts: usize) -> (UnixStream, JoinHandle<Result<(), Broken>>) {
        served_within(Deadlines::idle(Duration::from_secs(600)), most_lookouts, echo)
    }

    fn served_within(
        deadlines: Deadlines,
        most_lookouts: usize,
        host: impl Host + Send + 'static,
    ) -> (UnixStream, JoinHandle<Result<(), Broken>>) {
        let (client, server) = UnixStream::pair().expect("pair");
        let lookouts = Arc::new(Lookouts::new(most_lookouts));
        let thread = std::thread::spawn(move || converse(&server, &lookouts, deadlines, host));
        (client, thread)
    }

    /// An application with a session.
    struct Busy;

    impl Host for Busy {
        fn answer(&mut self, request: v1::Request) -> v1::Reply {
            echo(request)
        }

        fn has_sessions(&self) -> bool {
            true
        }
    }

    fn request(id: u32, op: v1::request::Op) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::encode(id, &v1::Request { op: Some(op), number: 0 }, &mut bytes).expect("short");
        bytes
    }

    fn random(id: u32, len: u64) -> Vec<u8> {
        request(id, v1::request::Op::Random(v1::RandomRequest { session: 1, len }))
    }

    fn reply(mut client: &UnixStream) -> (u32, v1::Reply) {
        let mut header = [0; HEADER_LEN];
        client.read_exact(&mut header).expect("header");
        let header = Header::parse(header).expect("short");
        let mut body = vec![0; header.body_len as usize];
        client.read_exact(&mut body).expect("body");
        (header.request_id, v1::Reply::decode(body.as_slice()).expect("a reply"))
    }

    fn bytes_of(reply: v1::Reply) -> Vec<u8> {
        match reply.result {
            Some(v1::reply::Result::Random(random)) => random.bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_that_come_together_are_answered_together_in_order() {
        for lookouts in [0, 1] {
            let (mut client, thread) = served(lookouts);
            let mut all = PREFACE.to_vec();
            for id in 1..=100 {
                all.extend(random(id, u64::from(id)));
            }
            client.write_all(&all).expect("sent");
            for id in 1..=100 {
                let (echoed, reply) = reply(&client);
                assert_eq!((echoed, bytes_of(reply).len()), (id, id as usize));
            }
            drop(client);
            assert!(thread.join().expect("no panic").is_ok());
        }
    }

    #[test]
    fn a_frame_that_comes_byte_by_byte_is_one_request() {
        let (mut client, _thread) = served(1);
        for byte in PREFACE.into_iter().chain(random(5, 3)) {
            client.write_all(&[byte]).expect("sent");
        }
        let (id, reply) = reply(&client);
        assert_eq!((id, bytes_of(reply)), (5, vec![7; 3]));
    }

    #[test]
    fn a_large_request_is_followed_by_a_small_one() {
        let (client, _thread) = served(1);
        let seed: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        let large = request(1, v1::request::Op::SeedRandom(v1::SeedRandomRequest { session: 1, seed: seed.clone() }));
        let sender = client.try_clone().expect("clone");
        let writer = std::thread::spawn(move || {
            let all = [PREFACE.to_vec(), large, random(2, 1)].concat();
            (&sender).write_all(&all).expect("sent");
        });
        assert_eq!(bytes_of(reply(&client).1), seed);
        assert_eq!(bytes_of(reply(&client).1), [7]);
        writer.join().expect("no panic");
    }

    #[test]
    fn a_reply_that_is_too_long_becomes_a_fault_and_the_conversation_goes_on() {
        let (mut client, _thread) = served(0);
        let all = [PREFACE.to_vec(), random(1, frame::MAX_BODY as u64), random(2, 1)].concat();
        client.write_all(&all).expect("sent");
        match reply(&client).1.result {
            Some(v1::reply::Result::Fault(fault)) => assert_eq!(fault.rv, ck::rv::CKR_DATA_LEN_RANGE.0),
            other => panic!("{other:?}"),
        }
        assert_eq!(bytes_of(reply(&client).1), [7]);
    }

    #[test]
    fn garbage_ends_the_connection() {
        let oversized = [&PREFACE[..], &[0xff; HEADER_LEN]].concat();
        let not_a_request = [&PREFACE[..], &[2, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff]].concat();
        let rows: [(&[u8], &str); 4] = [
            (b"GET / HTTP/1.1\r\n", "version of the framing"),
            (&oversized, "longer than"),
            (&not_a_request, "not a request"),
            (&[&PREFACE[..], &[9, 0, 0, 0, 1]].concat(), "inside a frame"),
        ];
        for (bytes, expected) in rows {
            let (mut client, thread) = served(1);
            client.write_all(bytes).expect("sent");
            client.shutdown(std::net::Shutdown::Write).expect("shut");
            let broken = thread.join().expect("no panic").expect_err(expected).to_string();
            assert!(broken.contains(expected), "{broken}");
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_answered_with_what_is_wrong() {
        let (mut client, thread) = served(0);
        let header = [(64u32 << 20).to_le_bytes(), 9u32.to_le_bytes()].concat();
        client.write_all(&[PREFACE.to_vec(), header, vec![7; 1000]].concat()).expect("sent");
        let (id, answer) = reply(&client);
        let Some(v1::reply::Result::Fault(fault)) = answer.result else { panic!("{answer:?}") };
        assert_eq!((id, fault.rv), (9, ck::rv::CKR_DATA_LEN_RANGE.0));
        assert!(fault.detail.contains("67108864 bytes is longer"), "{}", fault.detail);
        assert!(matches!(thread.join().expect("no panic"), Err(Broken::TooLong(_))));
    }

    #[test]
    fn a_frame_that_comes_byte_by_byte_has_its_deadline() {
        let deadlines = Deadlines { frame: Duration::from_millis(50), ..Deadlines::idle(Duration::from_secs(600)) };
        // Nothing of the header, a part of it, all of it and a part of a body of a megabyte.
        for begun in [&[1][..], &[0, 0, 16], &[0, 0, 16, 0, 1, 0, 0, 0, 1]] {
            let (mut client, thread) = served_within(deadlines, 0, Busy);
            client.write_all(&[&PREFACE[..], begun].concat()).expect("sent");
            if begun.len() > HEADER_LEN {
                while client.write_all(&[0]).is_ok() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            assert!(matches!(thread.join().expect("no panic"), Err(Broken::Slow)));
        }
    }

    #[test]
    fn a_client_that_does_not_read_its_answers_has_its_deadline() {
        let deadlines = Deadlines { reading: Duration::from_millis(50), ..Deadlines::idle(Duration::from_secs(600)) };
        for reads in [false, true] {
            let (mut client, thread) = served_within(deadlines, 0, Busy);
            client.write_all(&[PREFACE.to_vec(), random(1, 4 << 20), random(2, 4 << 20)].concat()).expect("sent");
            let mut byte = [0];
            // Reading a byte now and then is no reading.
            while !thread.is_finished() && (!reads || client.read(&mut byte).is_ok()) {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(matches!(thread.join().expect("no panic"), Err(Broken::Socket(_))), "{reads}");
        }
    }

    #[test]
    fn who_asks_nothing_is_sent_away_unless_it_has_a_session() {
        let deadlines = Deadlines::idle(Duration::from_millis(50));
        let (mut idle, idle_thread) = served_within(deadlines, 0, echo);
        let (mut busy, busy_thread) = served_within(deadlines, 0, Busy);
        busy.write_all(&PREFACE).expect("sent");
        idle.write_all(&[PREFACE.to_vec(), random(1, 1)].concat()).expect("sent");
        assert_eq!(bytes_of(reply(&idle).1), [7]);
        assert_eq!(idle.read(&mut [0]).expect("the end"), 0);
        assert!(idle_thread.join().expect("no panic").is_ok());
        busy.write_all(&random(2, 1)).expect("sent");
        assert_eq!(bytes_of(reply(&busy).1), [7]);
        drop(busy);
        assert!(busy_thread.join().expect("no panic").is_ok());
    }

    #[test]
    fn answered_bytes_do_not_stay_in_the_inbox() {
        let mut inbox = Inbox::new();
        let sent = random(1, 5);
        inbox.room()[..sent.len() + 3].copy_from_slice(&[sent.clone(), vec![1, 2, 3]].concat());
        inbox.received(sent.len() + 3);
        let (_, body) = inbox.next_frame().expect("short").expect("whole");
        inbox.wipe(body);
        inbox.room();
        assert_eq!(inbox.bytes[..3], [1, 2, 3]);
        assert!(inbox.bytes[3..].iter().all(|&byte| byte == 0));
    }
}
