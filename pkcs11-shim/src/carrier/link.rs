//! The application's link to the daemon: attached once, over a few connections, and again after the daemon was away.
//!
//! A thread uses the lane that its number points at; there are as many lanes as processors, at least two, each opened
//! when it is first needed. The daemon ends an application when its last connection closes, so a lane that turned out
//! dead is replaced before it is dropped. Each time the daemon does not know the application any more, a new *epoch*
//! begins: sessions of an earlier one are dead.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hsm_proto::frame::{MAX_BODY, PROTOCOL};
use hsm_proto::v1::{self, reply::Result as Answer, request::Op};

use super::express::Express;
use super::grpc::Grpc;
use super::{Carrier, Failure, is_long, is_repeatable, is_secret, lock, wipe};
use crate::config::{Config, Endpoint};

/// The least time that a key generation gets.
const LONG: Duration = Duration::from_secs(120);
/// What a message needs beside its data.
const OVERHEAD: u64 = 4096;
/// Bytes in one C_GenerateRandom message where the daemon names no limit.
const DEFAULT_RANDOM: u64 = 1024;

/// A lane and the epoch in which it was opened.
#[derive(Clone)]
struct Strand {
    carrier: Arc<dyn Carrier>,
    epoch: u64,
}

/// What an Attach said.
#[derive(Default)]
struct Attached {
    application: Vec<u8>,
    boot: Vec<u8>,
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
    attached: Mutex<Attached>,
    epoch: AtomicU64,
    max_data: AtomicU64,
    max_random: AtomicU64,
    closed: AtomicBool,
}

impl Link {
    /// A link that connects when it is first used.
    pub(crate) fn new(config: &Config) -> Self {
        let lanes = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 64);
        Link {
            endpoint: config.endpoint.clone(),
            request_timeout: config.request_timeout,
            connect_timeout: config.connect_timeout,
            spin: config.spin,
            program: program(),
            lanes: (0..lanes).map(|_| RwLock::new(None)).collect(),
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

    /// One request, one reply. `epoch`: the one in which the session was opened that the request is about.
    ///
    /// # Errors
    /// A [`Failure`]; a fault that the daemon answers is a reply.
    pub(crate) fn exchange(&self, op: Op, epoch: Option<u64>) -> Result<(v1::Reply, u64), Failure> {
        let mut request = v1::Request { op: Some(op), number: 0 };
        let outcome = self.exchange_request(&request, epoch);
        wipe(&mut request);
        if self.closed.load(Ordering::Relaxed) { outcome.map_err(|_| Failure::Closed) } else { outcome }
    }

    fn exchange_request(&self, request: &v1::Request, epoch: Option<u64>) -> Result<(v1::Reply, u64), Failure> {
        let patience = if is_long(request) { self.request_timeout.max(LONG) } else { self.request_timeout };
        let deadline = Instant::now() + patience;
        let secret = is_secret(request);
        let mut broken = false;
        // Dead lanes are noticed by using them: each is tried once, and a request that broke on its way once more.
        for _ in 0..=self.lanes.len() + 1 {
            let strand = match self.strand() {
                Ok(strand) => strand,
                Err(_) if broken => return Err(Failure::Broken),
                Err(failure) => return Err(failure),
            };
            if epoch.is_some_and(|epoch| epoch != strand.epoch) {
                return Err(if broken { Failure::Broken } else { Failure::Stale });
            }
            match strand.carrier.carry(request, secret, deadline) {
                Err(Failure::NotSent) => {}
                Err(Failure::Broken) if is_repeatable(request) && !broken => broken = true,
                outcome => return outcome.map(|reply| (reply, strand.epoch)),
            }
        }
        Err(if broken { Failure::Broken } else { Failure::Away })
    }

    /// Closes every lane; whoever waits fails with [`Failure::Closed`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for lane in &self.lanes {
            let strand = lane.write().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(strand) = strand {
                strand.carrier.close();
            }
        }
    }

    /// A lane to use: the thread's own; while that is busy, one that is not.
    fn strand(&self) -> Result<Strand, Failure> {
        let own = thread_number() % self.lanes.len();
        match self.sound(own) {
            Some(strand) if strand.carrier.is_idle() => Ok(strand),
            Some(strand) => {
                let idle = (1..self.lanes.len()).map(|step| (own + step) % self.lanes.len()).find_map(|other| {
                    let lane = self.sound(other)?;
                    lane.carrier.is_idle().then_some(lane)
                });
                Ok(idle.unwrap_or(strand))
            }
            None => self.open(own),
        }
    }

    /// The lane, if it can be used in the present epoch.
    fn sound(&self, index: usize) -> Option<Strand> {
        let lane = self.lanes.get(index)?.read().unwrap_or_else(PoisonError::into_inner);
        lane.as_ref().filter(|strand| strand.epoch == self.epoch() && strand.carrier.is_sound()).cloned()
    }

    /// Opens the lane, attaching anew; others who want the same wait for the outcome.
    fn open(&self, index: usize) -> Result<Strand, Failure> {
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
        match self.attach(&mut attached) {
            Ok(strand) => {
                if let Some(lane) = self.lanes.get(index) {
                    *lane.write().unwrap_or_else(PoisonError::into_inner) = Some(strand.clone());
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
    fn attach(&self, attached: &mut Attached) -> Result<Strand, Failure> {
        let deadline = Instant::now() + self.connect_timeout;
        let carrier = self.connect()?;
        let known = std::mem::take(&mut attached.application);
        let reply = match self.say_attach(&*carrier, known.clone(), deadline) {
            Ok(Some(reply)) => reply,
            Ok(None) if !known.is_empty() => self.say_attach(&*carrier, Vec::new(), deadline)?.ok_or(Failure::Away)?,
            Ok(None) => return Err(Failure::Away),
            Err(failure) => {
                attached.application = known;
                return Err(failure);
            }
        };
        if known.is_empty() || reply.application != known || reply.boot != attached.boot {
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
        attached.application = reply.application;
        attached.boot = reply.boot;
        let announced = Some(reply.max_message_bytes).filter(|&max| max > 2 * OVERHEAD).unwrap_or(MAX_BODY as u64);
        self.max_data.store(announced.min(MAX_BODY as u64) - OVERHEAD, Ordering::Relaxed);
        self.max_random
            .store(Some(reply.max_random_bytes).filter(|&max| max > 0).unwrap_or(DEFAULT_RANDOM), Ordering::Relaxed);
        Ok(Strand { carrier, epoch: self.epoch() })
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

/// Threads are numbered as they come.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // A plain cell without a destructor: nothing to run when a thread ends.
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.get().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(Some(number));
        number
    })
}
