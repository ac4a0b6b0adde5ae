//! The application's link to the daemon: attached once, over a few connections, and again after the daemon was away.
//!
//! A thread uses the lane that its number points at. As many lanes as there are processors, at least two, serve what is quick; on
//! the same machine a few more serve what waits for a disk or a generator, so that no signature waits behind it. Each is opened when
//! it is first needed. The daemon ends an application when its last connection closes, so a lane that turned out dead is replaced
//! before it is dropped. Each time the daemon does not know the application any more, a new *epoch* begins: sessions of an earlier
//! one are dead, unless they are resumed (`[shim] session_resume`).
//!
//! Nothing that changes something is ever sent twice. When its connection breaks, the daemon is asked what became of it; another run
//! of the daemon cannot know.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use hsm_proto::frame::{MAX_BODY, PROTOCOL};
use hsm_proto::v1::{self, OutcomeState, reply::Result as Answer, request::Op};
use prost::Message;

use super::express::Express;
use super::grpc::Grpc;
use super::{Carrier, Failure, Resident, is_long, is_repeatable, is_secret, lock, wipe};
use crate::config::{Config, Endpoint};

/// The least time that a key generation gets.
const LONG: Duration = Duration::from_secs(120);
/// What a message needs beside its data.
const OVERHEAD: u64 = 4096;
/// Bytes in one C_GenerateRandom message where the daemon names no limit.
const DEFAULT_RANDOM: u64 = 1024;
/// Lanes for what is slow.
const SLOW_LANES: usize = 8;
/// Between two looks for a daemon that is away, or for an outcome that is not there yet.
const PAUSE: Duration = Duration::from_millis(20);

/// A lane, the epoch in which it was opened, and as whom.
#[derive(Clone)]
struct Strand {
    carrier: Arc<dyn Carrier>,
    epoch: u64,
    home: Arc<Home>,
}

/// The names of an application and of the daemon's run that knows it.
#[derive(Clone, Default, PartialEq, Eq)]
struct Home {
    application: Vec<u8>,
    boot: Vec<u8>,
}

/// What an Attach said.
#[derive(Default)]
struct Attached {
    home: Arc<Home>,
    /// When connecting last failed.
    failed: Option<Instant>,
}

/// See the module.
pub(crate) struct Link {
    endpoint: Endpoint,
    request_timeout: Duration,
    connect_timeout: Duration,
    spin: bool,
    program: String,
    lanes: Box<[RwLock<Option<Strand>>]>,
    /// So many of the lanes are for what is quick.
    quick: usize,
    /// How long a daemon that went away is waited for.
    wait: Duration,
    numbers: AtomicU64,
    attached: Mutex<Attached>,
    epoch: AtomicU64,
    max_data: AtomicU64,
    max_random: AtomicU64,
    closed: AtomicBool,
}

impl Link {
    /// A link that connects when it is first used.
    pub(crate) fn new(config: &Config) -> Self {
        let quick = thread::available_parallelism().map_or(2, usize::from).clamp(2, 64);
        // HTTP/2 carries many requests at once.
        let lanes = quick + if matches!(config.endpoint, Endpoint::Local(_)) { SLOW_LANES } else { 0 };
        Link {
            endpoint: config.endpoint.clone(),
            request_timeout: config.request_timeout,
            connect_timeout: config.connect_timeout,
            spin: config.spin,
            program: program(),
            lanes: (0..lanes).map(|_| RwLock::new(None)).collect(),
            quick,
            wait: config.resume.as_ref().map_or(Duration::ZERO, |resume| resume.wait),
            numbers: AtomicU64::new(0),
            attached: Mutex::new(Attached::default()),
            epoch: AtomicU64::new(0),
            max_data: AtomicU64::new(MAX_BODY as u64 - OVERHEAD),
            max_random: AtomicU64::new(DEFAULT_RANDOM),
            closed: AtomicBool::new(false),
        }
    }

    /// The present epoch; it moves when the daemon has forgotten this application.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The most data that one message carries.
    pub(crate) fn max_data(&self) -> u64 {
        self.max_data.load(Ordering::Relaxed)
    }

    /// The most random bytes that one message asks for.
    pub(crate) fn max_random(&self) -> u64 {
        self.max_random.load(Ordering::Relaxed)
    }

    /// One request, one reply. `epoch`: the one in which the session was opened that the request is about, which `resident` may
    /// move on. A daemon that went away is waited for if that is configured.
    ///
    /// # Errors
    /// A [`Failure`]; a fault that the daemon answers is a reply.
    pub(crate) fn exchange(
        &self,
        op: Op,
        epoch: Option<&AtomicU64>,
        resident: &dyn Resident,
    ) -> Result<(v1::Reply, u64), Failure> {
        self.exchange_within(self.wait, op, epoch, resident)
    }

    /// As [`Link::exchange`], but a daemon that is away is not waited for.
    ///
    /// # Errors
    /// As [`Link::exchange`].
    pub(crate) fn look(&self, op: Op, resident: &dyn Resident) -> Result<(v1::Reply, u64), Failure> {
        self.exchange_within(Duration::ZERO, op, None, resident)
    }

    fn exchange_within(
        &self,
        wait: Duration,
        op: Op,
        epoch: Option<&AtomicU64>,
        resident: &dyn Resident,
    ) -> Result<(v1::Reply, u64), Failure> {
        let number = if op.has_kept_outcome() { self.numbers.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        let mut request = v1::Request { op: Some(op), number };
        let outcome = self.exchange_request(&request, epoch, resident, Instant::now() + wait);
        wipe(&mut request);
        match outcome {
            // What the daemon refuses because the sessions have just been closed is no answer to this call.
            Ok((v1::Reply { result: Some(Answer::Fault(_)), .. }, _)) | Err(_)
                if self.closed.load(Ordering::Acquire) =>
            {
                Err(Failure::Closed)
            }
            outcome => outcome,
        }
    }

    fn exchange_request(
        &self,
        request: &v1::Request,
        epoch: Option<&AtomicU64>,
        resident: &dyn Resident,
        home_by: Instant,
    ) -> Result<(v1::Reply, u64), Failure> {
        let patience = if is_long(request) { self.request_timeout.max(LONG) } else { self.request_timeout };
        let mut deadline = Instant::now() + patience;
        let secret = is_secret(request);
        let (mut broken, mut tries) = (false, 0);
        // Dead lanes are noticed by using them: each is tried once, and a request that broke on its way once more.
        while tries <= self.lanes.len() + 1 {
            let strand = match self.strand(request.op.as_ref().is_some_and(Op::waits), resident) {
                Ok(strand) => strand,
                Err(Failure::Away) if self.waits(home_by) => {
                    (deadline, tries) = (Instant::now() + patience, 0);
                    continue;
                }
                Err(_) if broken => return Err(Failure::Broken),
                Err(failure) => return Err(failure),
            };
            match epoch.map_or(strand.epoch, |epoch| epoch.load(Ordering::Acquire)) {
                // Another thread has just attached anew and taken the session along.
                session if session > strand.epoch => {
                    thread::yield_now();
                    continue;
                }
                session if session < strand.epoch => {
                    return Err(if broken { Failure::Broken } else { Failure::Stale });
                }
                _ => tries += 1,
            }
            match strand.carrier.carry(request, secret, deadline) {
                Err(Failure::NotSent) => {}
                Err(Failure::Broken) if is_repeatable(request) && (!broken || Instant::now() < home_by) => {
                    broken = true
                }
                Err(Failure::Broken) if request.number != 0 => {
                    return self.what_became(request, &strand, resident, deadline);
                }
                outcome => return outcome.map(|reply| (reply, strand.epoch)),
            }
        }
        Err(if broken { Failure::Broken } else { Failure::Away })
    }

    /// Whether the daemon, which is away, may be waited for; sleeps a moment then.
    fn waits(&self, home_by: Instant) -> bool {
        let was_here = !lock(&self.attached).home.boot.is_empty();
        let wait = was_here && Instant::now() < home_by && !self.closed.load(Ordering::Relaxed);
        if wait {
            thread::sleep(PAUSE);
        }
        wait
    }

    /// Asks the daemon over another connection what became of a request that broke on its way.
    fn what_became(
        &self,
        request: &v1::Request,
        sent: &Strand,
        resident: &dyn Resident,
        deadline: Instant,
    ) -> Result<(v1::Reply, u64), Failure> {
        let lasts = request.op.as_ref().is_some_and(Op::changes_the_token);
        let asked = v1::OutcomeRequest { application: sent.home.application.clone(), number: request.number };
        let asked = v1::Request { op: Some(Op::Outcome(asked)), number: 0 };
        let mut tries = 0;
        while tries <= self.lanes.len() && Instant::now() < deadline {
            let strand = self.strand(false, resident).map_err(|_| Failure::Broken)?;
            // What another run of the daemon did it cannot know, and what belonged to the application has ended with it.
            if strand.home.boot != sent.home.boot || (strand.epoch != sent.epoch && !lasts) {
                return Err(Failure::Broken);
            }
            let told = match strand.carrier.carry(&asked, true, deadline) {
                Ok(v1::Reply { result: Some(Answer::Outcome(told)), .. }) => told,
                Err(Failure::NotSent | Failure::Broken) => {
                    tries += 1;
                    continue;
                }
                _ => return Err(Failure::Broken),
            };
            match told.state() {
                OutcomeState::OutcomeUnknown => return Err(Failure::Broken),
                OutcomeState::OutcomePending => thread::sleep(PAUSE),
                OutcomeState::OutcomeKnown => {
                    let reply = v1::Reply::decode(told.reply.as_slice()).map_err(|_| Failure::Broken)?;
                    return Ok((reply, sent.epoch));
                }
            }
        }
        Err(Failure::Broken)
    }

    /// One of the last requests, over an idle lane that is open; nothing is opened for it, and other threads' calls end from now on.
    ///
    /// # Errors
    /// A [`Failure`]; [`Failure::Away`] when no lane is idle.
    pub(crate) fn part(&self, op: Op, patience: Duration) -> Result<(), Failure> {
        self.closed.store(true, Ordering::Release);
        let idle = (0..self.lanes.len()).find_map(|index| self.sound(index).filter(|lane| lane.carrier.is_idle()));
        let request = v1::Request { op: Some(op), number: 0 };
        idle.ok_or(Failure::Away)?.carrier.carry(&request, false, Instant::now() + patience).map(drop)
    }

    /// Closes every lane; whoever waits fails with [`Failure::Closed`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for lane in &self.lanes {
            let strand = lane.write().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(strand) = strand {
                strand.carrier.close();
            }
        }
    }

    /// A lane to use: the thread's own; while that is busy, one that is not. A program of one thread needs no lane for what is slow.
    fn strand(&self, slow: bool, resident: &dyn Resident) -> Result<Strand, Failure> {
        let number = thread_number();
        let slow = slow && self.lanes.len() > self.quick && THREADS.load(Ordering::Relaxed) > 1;
        let (first, count) = if slow { (self.quick, self.lanes.len() - self.quick) } else { (0, self.quick) };
        let place = |step: usize| first + (number + step) % count;
        let Some(own) = self.sound(place(0)) else { return self.open(place(0), resident) };
        if own.carrier.is_idle() {
            return Ok(own);
        }
        let idle = (1..count).find_map(|step| self.sound(place(step)).filter(|lane| lane.carrier.is_idle()));
        match idle {
            Some(idle) => Ok(idle),
            None if slow => match (1..count).map(place).find(|&place| self.sound(place).is_none()) {
                Some(unopened) => self.open(unopened, resident),
                None => Ok(own),
            },
            None => Ok(own),
        }
    }

    /// The lane, if it can be used in the present epoch.
    fn sound(&self, index: usize) -> Option<Strand> {
        let lane = self.lanes.get(index)?.read().unwrap_or_else(PoisonError::into_inner);
        lane.as_ref().filter(|strand| strand.epoch == self.epoch() && strand.carrier.is_sound()).cloned()
    }

    /// Opens the lane, attaching anew; others who want the same wait for the outcome.
    fn open(&self, index: usize, resident: &dyn Resident) -> Result<Strand, Failure> {
        let asked = Instant::now();
        let mut attached = lock(&self.attached);
        if let Some(strand) = self.sound(index) {
            return Ok(strand);
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(Failure::Closed);
        }
        if attached.failed.is_some_and(|failed| failed > asked) {
            return Err(Failure::Away);
        }
        match self.attach(&mut attached, resident) {
            Ok(strand) => {
                if let Some(lane) = self.lanes.get(index) {
                    *lane.write().unwrap_or_else(PoisonError::into_inner) = Some(strand.clone());
                }
                // Meanwhile every lane may have been closed, and this one would be left over.
                if self.closed.load(Ordering::Acquire) {
                    strand.carrier.close();
                    return Err(Failure::Closed);
                }
                Ok(strand)
            }
            Err(failure) => {
                attached.failed = Some(Instant::now());
                Err(failure)
            }
        }
    }

    /// Connects and attaches: as the application that we are, else as a new one.
    fn attach(&self, attached: &mut Attached, resident: &dyn Resident) -> Result<Strand, Failure> {
        let deadline = Instant::now() + self.connect_timeout;
        let carrier = self.connect()?;
        let known = Arc::clone(&attached.home);
        let reply = match self.say_attach(&*carrier, known.application.clone(), deadline)? {
            Some(reply) => reply,
            None if known.application.is_empty() => return Err(Failure::Away),
            None => self.say_attach(&*carrier, Vec::new(), deadline)?.ok_or(Failure::Away)?,
        };
        let home = Home { application: reply.application, boot: reply.boot };
        if home != *known {
            let next = self.epoch() + 1;
            resident.return_home(&*carrier, next, Instant::now() + self.request_timeout).map_err(|_| Failure::Away)?;
            attached.home = Arc::new(home);
            self.epoch.store(next, Ordering::Release);
        }
        let announced = Some(reply.max_message_bytes).filter(|&max| max > 2 * OVERHEAD).unwrap_or(MAX_BODY as u64);
        self.max_data.store(announced.min(MAX_BODY as u64) - OVERHEAD, Ordering::Relaxed);
        self.max_random
            .store(Some(reply.max_random_bytes).filter(|&max| max > 0).unwrap_or(DEFAULT_RANDOM), Ordering::Relaxed);
        Ok(Strand { carrier, epoch: self.epoch(), home: Arc::clone(&attached.home) })
    }

    /// A new connection of the kind that the configuration names.
    fn connect(&self) -> Result<Arc<dyn Carrier>, Failure> {
        Ok(match &self.endpoint {
            Endpoint::Local(socket) => Arc::new(Express::connect(socket, self.connect_timeout, self.spin)?),
            Endpoint::Remote(remote) => Arc::new(Grpc::connect(remote, self.connect_timeout)?),
        })
    }

    /// `None`: the daemon refused.
    fn say_attach(
        &self,
        carrier: &dyn Carrier,
        application: Vec<u8>,
        deadline: Instant,
    ) -> Result<Option<v1::AttachReply>, Failure> {
        let attach = v1::AttachRequest { protocol: PROTOCOL, application, program: self.program.clone() };
        let request = v1::Request { op: Some(Op::Attach(attach)), number: 0 };
        match carrier.carry(&request, true, deadline).map_err(|_| Failure::Away)?.result {
            Some(Answer::Attach(reply)) if reply.protocol == PROTOCOL => Ok(Some(reply)),
            _ => Ok(None),
        }
    }
}

/// The program's name, for the daemon's journal.
fn program() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    name.trim_end().chars().take(64).collect()
}

/// How many threads have come.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Threads are numbered as they come.
fn thread_number() -> usize {
    // A plain cell without a destructor: nothing to run when a thread ends.
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.get().unwrap_or_else(|| {
        let number = THREADS.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(Some(number));
        number
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Daemon, config};

    /// Ends the library while it is being attached.
    struct Finalizing<'l>(&'l Link);

    impl Resident for Finalizing<'_> {
        fn return_home(&self, _carrier: &dyn Carrier, _epoch: u64, _deadline: Instant) -> Result<(), Failure> {
            self.0.close();
            Ok(())
        }
    }

    #[test]
    fn no_lane_is_left_over_that_was_opened_while_all_were_closed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hsm.sock");
        let daemon = Daemon::start(&path, 1);
        let link = Link::new(&config(&path, Duration::from_secs(60)));
        let outcome = link.exchange(Op::ListSlots(v1::ListSlotsRequest {}), None, &Finalizing(&link));
        assert!(matches!(outcome, Err(Failure::Closed)));
        assert_eq!(daemon.asked(), ["Attach"]);
    }
}
