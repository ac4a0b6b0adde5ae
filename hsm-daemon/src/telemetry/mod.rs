//! Traces: of each request that is chosen, one span of OpenTelemetry with operation, mechanism, result and duration, sent to a
//! collector by OTLP over HTTP (protobuf bodies). Off unless the configuration names a collector.
//!
//! A span says what a metric says and nothing more: no PIN, no label, no key, no client. The thread that serves a request only puts
//! the span into a bounded queue; if that is full the span is dropped and counted. A thread of its own talks to the collector: one
//! that is slow, dead or wrong costs spans, never a request.

mod collector;
mod parent;
mod wire;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::metrics::counter::Counter;

use self::collector::Collector;
pub(crate) use self::collector::Place;
pub(crate) use self::parent::{HEADER, Parent};

/// `[telemetry]` as it is meant.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    /// Where the collector is.
    pub(crate) place: Place,
    /// Of so many requests in 2^64 there is a span, unless the client decided.
    pub(crate) sampled: u64,
    /// How long spans are gathered before they are sent.
    pub(crate) interval: Duration,
    /// How many may wait.
    pub(crate) queue: usize,
    /// What every span's resource says beside the program's name and version.
    pub(crate) resource: Vec<(String, String)>,
}

/// What became of spans.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    /// The collector has them.
    pub(crate) sent: Counter,
    /// The queue was full.
    pub(crate) dropped: Counter,
    /// The collector did not take them.
    pub(crate) lost: Counter,
}

/// The most spans in one message.
const BATCH: usize = 512;

/// How long the end of the daemon waits for the last spans.
const FAREWELL: Duration = Duration::from_secs(2);

/// Chooses requests and queues their spans.
pub(crate) struct Traces {
    queue: SyncSender<Item>,
    ended: parking_lot::Mutex<Receiver<()>>,
    counts: Counts,
    sampled: u64,
    turn: AtomicU64,
    chance: RandomState,
}

enum Item {
    Span(Span),
    End,
}

/// A request that was chosen.
pub(crate) struct Chosen {
    trace: [u8; 16],
    span: [u8; 8],
    parent: Option<[u8; 8]>,
}

/// What is told of it.
pub(crate) struct Span {
    chosen: Chosen,
    answered: Answered,
    end: SystemTime,
}

/// A request and its end, in the words of the metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// What was asked.
    pub(crate) operation: &'static str,
    /// By which mechanism.
    pub(crate) mechanism: &'static str,
    /// The name of the return value.
    pub(crate) result: &'static str,
    /// Whether that is CKR_OK.
    pub(crate) ok: bool,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Traces {
    /// Begins the thread that talks to the collector.
    ///
    /// # Errors
    /// A sentence when the collector's TLS files cannot be used or there is no thread.
    pub(crate) fn start(telemetry: Telemetry, counts: Counts) -> Result<Self, String> {
        let collector = Collector::new(telemetry.place, &telemetry.resource).map_err(|why| why.to_string())?;
        let (queue, items) = mpsc::sync_channel(telemetry.queue);
        let (end, ended) = mpsc::channel();
        let (interval, counted) = (telemetry.interval, counts.clone());
        std::thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || {
                send(&collector, &items, interval, &counted);
                // Nobody waits when the daemon has given up waiting.
                end.send(()).unwrap_or_default();
            })
            .map_err(|why| format!("no thread for telemetry: {why}"))?;
        let ended = parking_lot::Mutex::new(ended);
        let (turn, chance) = (AtomicU64::new(0), RandomState::new());
        Ok(Traces { queue, ended, counts, sampled: telemetry.sampled, turn, chance })
    }

    /// Whether there will be a span of this request. A client that traces has decided; of the others a share is chosen.
    pub(crate) fn choose(&self, parent: Option<Parent>) -> Option<Chosen> {
        if parent.is_some_and(|parent| !parent.sampled) {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chance = |what: u8| self.chance.hash_one((turn, what));
        if parent.is_none() && chance(0) >= self.sampled {
            return None;
        }
        // No id is all zeros.
        let span = (chance(1) | 1).to_be_bytes();
        Some(match parent {
            Some(Parent { trace, span: parent, .. }) => Chosen { trace, span, parent: Some(parent) },
            None => {
                let trace = (u128::from(chance(2)) << 64 | u128::from(chance(3)) | 1).to_be_bytes();
                Chosen { trace, span, parent: None }
            }
        })
    }

    /// Queues the span of a request that was chosen; never waits.
    pub(crate) fn tell(&self, chosen: Chosen, answered: Answered) {
        let span = Span { chosen, answered, end: SystemTime::now() };
        match self.queue.try_send(Item::Span(span)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counts.dropped.inc();
            }
        }
    }

    /// Sends what waits, for a moment.
    pub(crate) fn finish(&self) {
        if self.queue.try_send(Item::End).is_ok() {
            // Too late or not: the daemon ends.
            self.ended.lock().recv_timeout(FAREWELL).unwrap_or_default();
        }
    }
}

/// Until the end: gathers spans, sends them.
fn send(collector: &Collector, items: &Receiver<Item>, interval: Duration, counts: &Counts) {
    let mut reached = true;
    loop {
        let (batch, goes_on) = gather(items, interval);
        if !batch.is_empty() {
            let outcome = collector.take(&batch);
            let counter = if outcome.is_ok() { &counts.sent } else { &counts.lost };
            counter.inc_by(batch.len() as u64);
            match (&outcome, reached) {
                (Err(why), true) => tracing::warn!(%why, "the collector takes no traces: they are lost until it does"),
                (Ok(()), false) => tracing::info!("the collector takes traces again"),
                _ => {}
            }
            reached = outcome.is_ok();
        }
        if !goes_on {
            return;
        }
    }
}

/// The spans of one interval, which begins with the first; and whether there will be more.
fn gather(items: &Receiver<Item>, interval: Duration) -> (Vec<Span>, bool) {
    let Ok(Item::Span(first)) = items.recv() else { return (Vec::new(), false) };
    let (mut batch, begun) = (vec![first], Instant::now());
    while batch.len() < BATCH {
        match items.recv_timeout(interval.saturating_sub(begun.elapsed())) {
            Ok(Item::Span(span)) => batch.push(span),
            Ok(Item::End) | Err(RecvTimeoutError::Disconnected) => return (batch, false),
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    (batch, true)
}

#[cfg(test)]
mod tests;
