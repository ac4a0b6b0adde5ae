//! The express lane: protobuf messages in frames on the daemon's Unix socket (`hsm_proto::frame`).
//!
//! A lane may be shared by threads. Whoever finds nobody writing writes what is queued, its own frame and others'; whoever
//! finds nobody reading reads and hands replies out, until its own has come, and then leaves the reading to another. A
//! thread alone on its lane does one send and one receive.
//!
//! Every send has MSG_NOSIGNAL and none is vectored, so that a vanished daemon never raises SIGPIPE in the program.

use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hsm_proto::frame::{self, HEADER_LEN, Header, PREFACE};
use hsm_proto::patience::Patience;
use hsm_proto::v1;
use prost::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    shutdown, socket_with,
};
use zeroize::Zeroize;

use super::{Carrier, Failure, lock, spin};

/// Blocking calls return at least this often, so that a deadline is noticed.
const SLICE: Duration = Duration::from_secs(1);
/// What the buffers start with and shrink back to.
const BUFFER: usize = 16 * 1024;

/// One connection.
pub(super) struct Express {
    socket: OwnedFd,
    desk: Mutex<Desk>,
    sound: AtomicBool,
    under_way: AtomicUsize,
    spin: bool,
}

/// What the threads on a lane share.
struct Desk {
    outgoing: Vec<u8>,
    outgoing_secret: bool,
    writing: bool,
    batch: u32,
    reading: bool,
    inbox: Inbox,
    seats: Vec<Seat>,
    spare_bells: Vec<Arc<Condvar>>,
    last_id: u32,
    broken: bool,
}

/// A thread that waits for its reply.
struct Seat {
    id: u32,
    stage: Stage,
    parked: bool,
    bell: Arc<Condvar>,
}

enum Stage {
    Queued,
    /// Sent, or being sent, with this batch.
    Sent(u32),
    Answered(Vec<u8>),
}

/// Why a send or receive ended early.
enum Loss {
    Expired,
    Gone,
}

impl Express {
    /// Connects and says the preface.
    ///
    /// # Errors
    /// [`Failure::Away`].
    pub(super) fn connect(path: &Path, timeout: Duration, spin: bool) -> Result<Self, Failure> {
        let open = || {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            // In a program that has closed its standard streams the socket must not become one of them.
            let socket = if socket.as_raw_fd() < 3 { fcntl_dupfd_cloexec(&socket, 3)? } else { socket };
            // The send timeout also bounds connecting to a listener whose queue is full.
            set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
            connect(&socket, &SocketAddrUnix::new(path)?)?;
            set_socket_timeout(&socket, Timeout::Send, Some(SLICE))?;
            set_socket_timeout(&socket, Timeout::Recv, Some(SLICE))?;
            Ok::<OwnedFd, Errno>(socket)
        };
        let lane = Express {
            socket: open().map_err(|_| Failure::Away)?,
            desk: Mutex::new(Desk::new()),
            sound: AtomicBool::new(true),
            under_way: AtomicUsize::new(0),
            spin,
        };
        lane.send_all(&PREFACE, Instant::now() + timeout).map_err(|_| Failure::Away)?;
        Ok(lane)
    }

    /// Sends everything; the error says how many bytes had gone out.
    fn send_all(&self, bytes: &[u8], deadline: Instant) -> Result<(), (usize, Loss)> {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if Instant::now() < deadline => {}
                Err(Errno::AGAIN) => return Err((sent, Loss::Expired)),
                Err(_) => return Err((sent, Loss::Gone)),
            }
        }
        Ok(())
    }

    /// Receives something into the inbox.
    fn receive(&self, inbox: &mut Inbox, deadline: Instant, may_spin: bool) -> Result<(), Loss> {
        if may_spin && self.spin && spin::patience(Patience::wants_to_look) {
            let until = Instant::now() + spin::LONGEST;
            while Instant::now() < until {
                match self.receive_once(inbox, RecvFlags::DONTWAIT) {
                    Err(Errno::AGAIN | Errno::INTR) => std::hint::spin_loop(),
                    Ok(0) | Err(_) => return Err(Loss::Gone),
                    Ok(_) => {
                        spin::patience(Patience::hit);
                        return Ok(());
                    }
                }
            }
            spin::patience(Patience::miss);
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Loss::Expired);
            }
            if left < SLICE && !self.is_readable_within(left) {
                continue;
            }
            match self.receive_once(inbox, RecvFlags::empty()) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(0) | Err(_) => return Err(Loss::Gone),
                Ok(_) => return Ok(()),
            }
        }
    }

    fn receive_once(&self, inbox: &mut Inbox, flags: RecvFlags) -> Result<usize, Errno> {
        let room = inbox.room();
        let (count, _) = recv(&self.socket, room, flags)?;
        inbox.filled(count);
        Ok(count)
    }

    /// Near the deadline the receive timeout of the socket is too coarse.
    fn is_readable_within(&self, left: Duration) -> bool {
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        !matches!(poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)), Ok(0) | Err(_))
    }

    /// Writes what is queued, unless someone else is at it and will.
    fn push<'d>(&'d self, mut desk: MutexGuard<'d, Desk>, deadline: Instant) -> MutexGuard<'d, Desk> {
        if desk.writing {
            return desk;
        }
        desk.writing = true;
        while !desk.outgoing.is_empty() && !desk.broken {
            let mut bytes = mem::take(&mut desk.outgoing);
            let secret = mem::take(&mut desk.outgoing_secret);
            let batch = desk.next_batch();
            drop(desk);
            let outcome = self.send_all(&bytes, deadline);
            if secret {
                bytes.zeroize();
            }
            bytes.clear();
            desk = lock(&self.desk);
            if let Err((sent, _)) = outcome {
                // A frame cut in two, or a dead peer: nothing more can be said on this connection.
                desk.fail((sent == 0).then_some(batch));
                self.sound.store(false, Ordering::Relaxed);
            }
            if desk.outgoing.capacity() == 0 && bytes.capacity() <= 4 * BUFFER {
                desk.outgoing = bytes;
            }
        }
        desk.writing = false;
        desk
    }

    /// Waits for the reply to `id`: reads for all while nobody else does, sleeps otherwise.
    fn await_reply<'d>(
        &'d self,
        mut desk: MutexGuard<'d, Desk>,
        id: u32,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(outcome) = desk.outcome(id) {
                desk.leave(id);
                return outcome;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                desk.leave(id);
                self.sound.store(false, Ordering::Relaxed);
                return Err(Failure::Expired);
            }
            desk = if desk.reading { Self::park(desk, id, left) } else { self.lead(desk, id, deadline) };
        }
    }

    fn park<'d>(mut desk: MutexGuard<'d, Desk>, id: u32, left: Duration) -> MutexGuard<'d, Desk> {
        let Some(seat) = desk.seat(id) else { return desk };
        seat.parked = true;
        let bell = Arc::clone(&seat.bell);
        let (mut desk, _) = bell.wait_timeout(desk, left).unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = desk.seat(id) {
            seat.parked = false;
        }
        desk
    }

    fn lead<'d>(&'d self, mut desk: MutexGuard<'d, Desk>, id: u32, deadline: Instant) -> MutexGuard<'d, Desk> {
        desk.reading = true;
        let mut inbox = mem::take(&mut desk.inbox);
        let alone = desk.seats.len() == 1;
        drop(desk);
        let received = self.receive(&mut inbox, deadline, alone);
        let mut desk = lock(&self.desk);
        desk.reading = false;
        let whole = desk.hand_out(&mut inbox, id);
        desk.inbox = inbox;
        if whole.is_err() || matches!(received, Err(Loss::Gone)) {
            desk.fail(None);
            self.sound.store(false, Ordering::Relaxed);
        }
        desk
    }
}

impl Carrier for Express {
    fn carry(&self, request: &v1::Request, secret: bool, deadline: Instant) -> Result<v1::Reply, Failure> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let body = (|| {
            let mut desk = lock(&self.desk);
            if desk.broken {
                return Err(Failure::NotSent);
            }
            let id = desk.next_id();
            frame::encode(id, request, &mut desk.outgoing).map_err(|_| Failure::TooLong)?;
            desk.outgoing_secret |= secret;
            desk.sit(id);
            let desk = self.push(desk, deadline);
            self.await_reply(desk, id, deadline)
        })();
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        v1::Reply::decode(body?.as_slice()).map_err(|_| {
            self.sound.store(false, Ordering::Relaxed);
            Failure::Broken
        })
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
        shutdown(&self.socket, Shutdown::Both).ok();
    }
}

impl Desk {
    fn new() -> Self {
        Desk {
            outgoing: Vec::with_capacity(BUFFER),
            outgoing_secret: false,
            writing: false,
            batch: 0,
            reading: false,
            inbox: Inbox::default(),
            seats: Vec::new(),
            spare_bells: Vec::new(),
            last_id: 0,
            broken: false,
        }
    }

    fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// Everything queued goes out with a new batch.
    fn next_batch(&mut self) -> u32 {
        self.batch = self.batch.wrapping_add(1);
        for seat in &mut self.seats {
            if matches!(seat.stage, Stage::Queued) {
                seat.stage = Stage::Sent(self.batch);
            }
        }
        self.batch
    }

    fn seat(&mut self, id: u32) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.id == id)
    }

    fn sit(&mut self, id: u32) {
        let bell = self.spare_bells.pop().unwrap_or_default();
        self.seats.push(Seat { id, stage: Stage::Queued, parked: false, bell });
    }

    /// The reply, or why none will come; `None` while it may.
    fn outcome(&mut self, id: u32) -> Option<Result<Vec<u8>, Failure>> {
        let broken = self.broken;
        let seat = self.seat(id)?;
        match &mut seat.stage {
            Stage::Answered(body) => Some(Ok(mem::take(body))),
            Stage::Queued if broken => Some(Err(Failure::NotSent)),
            Stage::Sent(_) if broken => Some(Err(Failure::Broken)),
            Stage::Queued | Stage::Sent(_) => None,
        }
    }

    /// Gives the seat back; if nobody reads now, a sleeping neighbour is woken to do it.
    fn leave(&mut self, id: u32) {
        if let Some(index) = self.seats.iter().position(|seat| seat.id == id) {
            let seat = self.seats.swap_remove(index);
            self.spare_bells.push(seat.bell);
        }
        if !self.reading
            && let Some(next) = self.seats.iter().find(|seat| seat.parked)
        {
            next.bell.notify_one();
        }
    }

    /// Hands the whole replies in the inbox to their seats; a reply that nobody waits for any more is dropped.
    fn hand_out(&mut self, inbox: &mut Inbox, mine: u32) -> Result<(), frame::TooLong> {
        while let Some((id, body)) = inbox.next()? {
            if let Some(seat) = self.seat(id) {
                seat.stage = Stage::Answered(body);
                if id != mine {
                    seat.bell.notify_one();
                }
            }
        }
        Ok(())
    }

    /// Nothing more comes or goes. `unsent`: the batch of which not one byte went out.
    fn fail(&mut self, unsent: Option<u32>) {
        self.broken = true;
        self.outgoing.zeroize();
        for seat in &mut self.seats {
            if matches!(seat.stage, Stage::Sent(batch) if Some(batch) == unsent) {
                seat.stage = Stage::Queued;
            }
            seat.bell.notify_one();
        }
    }
}

/// Received bytes that are not handed out yet.
#[derive(Default)]
struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Room to receive into: at least what the frame that has begun still needs.
    fn room(&mut self) -> &mut [u8] {
        let wanted = self.header().map_or(0, |header| HEADER_LEN + header.body_len as usize).max(BUFFER);
        if self.start > 0 && self.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    fn filled(&mut self, count: usize) {
        self.end += count;
    }

    fn held(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The header of the frame that has begun, if it is whole and announces a length that is allowed.
    fn header(&self) -> Option<Header> {
        Header::parse(*self.held().first_chunk()?).ok()
    }

    /// The next whole frame.
    fn next(&mut self) -> Result<Option<(u32, Vec<u8>)>, frame::TooLong> {
        let Some(first) = self.held().first_chunk() else { return Ok(None) };
        let header = Header::parse(*first)?;
        let len = HEADER_LEN + header.body_len as usize;
        let Some(body) = self.held().get(HEADER_LEN..len) else { return Ok(None) };
        let body = body.to_vec();
        // Replies may hold plaintext: what has been handed out does not stay here.
        let (start, end) = (self.start, self.start + len);
        self.buffer.get_mut(start..end).unwrap_or_default().fill(0);
        self.start = end;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.buffer.truncate(4 * BUFFER);
            self.buffer.shrink_to(4 * BUFFER);
        }
        Ok(Some((header.request_id, body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(id: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::from((body.len() as u32).to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let bytes: Vec<u8> = [framed(1, b"one"), framed(2, b""), framed(3, &[7; 100_000])].concat();
        for piece in [1, 7, 5000, bytes.len()] {
            let mut inbox = Inbox::default();
            let mut got = Vec::new();
            for mut part in bytes.chunks(piece) {
                while !part.is_empty() {
                    let room = inbox.room();
                    let count = room.len().min(part.len());
                    room[..count].copy_from_slice(&part[..count]);
                    inbox.filled(count);
                    part = &part[count..];
                    while let Some((id, body)) = inbox.next().expect("allowed lengths") {
                        got.push((id, body.len()));
                    }
                }
            }
            assert_eq!(got, [(1, 3), (2, 0), (3, 100_000)], "pieces of {piece}");
        }
    }

    #[test]
    fn an_announced_length_beyond_the_limit_is_an_error() {
        let mut inbox = Inbox::default();
        inbox.room()[..HEADER_LEN].copy_from_slice(&[0xff; HEADER_LEN]);
        inbox.filled(HEADER_LEN);
        assert!(inbox.next().is_err());
    }
}
