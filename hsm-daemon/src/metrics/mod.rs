//! What the daemon counts and measures, and the page that monitors read (Prometheus' text format).
//!
//! Labels come from closed sets: operations, mechanisms and return values that have a name, and slots by number. Nothing that a client
//! chose and no token's label is ever one.

mod page;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use hsm_core::audit::Progress;
use hsm_core::{Hsm, Observer, Status, TokenSummary, Wait};
use hsm_proto::v1;
use hsm_proto::v1::reply::Result as Outcome;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub(crate) use self::page::MetricsDoor;
use crate::telemetry::{Answered, Counts};

/// Every metric's name begins so.
const PREFIX: &str = "craton_hsm";

/// One answered request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    operation: &'static str,
    mechanism: &'static str,
    result: &'static str,
}

/// What took how long.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Work {
    operation: &'static str,
    mechanism: &'static str,
}

/// One token.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Slot {
    slot: u64,
}

/// One token's holder of a PIN.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Holder {
    slot: u64,
    user: &'static str,
}

/// What the disk was waited for.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Step {
    step: &'static str,
}

/// One kind of backup.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Backup {
    kind: &'static str,
}

/// What became of a span.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Fate {
    outcome: &'static str,
}

/// Counters that requests move, and gauges that are set when somebody looks.
pub(crate) struct Metrics {
    answers: Family<Answer, Counter>,
    durations: Durations<Work>,
    waits: Durations<Step>,
    spans: Counts,
    witness: WitnessMeter,
    seen: Mutex<Seen>,
}

/// How telling the witnesses that are daemons goes.
#[derive(Clone, Default)]
pub(crate) struct WitnessMeter {
    failures: Counter,
    behind: Gauge,
}

impl WitnessMeter {
    /// One of them could not be told.
    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    /// So many durable records have not been told to the one that knows least.
    pub(crate) fn behind(&self, records: u64) {
        self.behind.set(number(records));
    }
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// What is looked up when somebody asks, and the registry of it all.
struct Seen {
    registry: Registry,
    healthy: Gauge,
    sealed: Gauge,
    started: Gauge,
    applications: Gauge,
    sessions: Gauge,
    generation: Gauge,
    journal: Gauge,
    unsynced: Gauge,
    lag: Gauge<f64, AtomicU64>,
    backups: Family<Backup, Gauge>,
    objects: Family<Slot, Gauge>,
    failures: Family<Holder, Gauge>,
    locked: Family<Holder, Gauge>,
    resident: Gauge,
    descriptors: Gauge,
}

/// A request that is being answered.
pub(crate) struct Begun {
    work: Work,
    at: Instant,
}

impl Metrics {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        let answers = Family::default();
        // 20 microseconds to 84 seconds, each twice the one before.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.00002, 2.0, 23));
        let (durations, waits) = (Family::new_with_constructor(histogram), Family::new_with_constructor(histogram));
        let (witness, mut seen) = (WitnessMeter::default(), Seen::new(&answers, &durations, &waits));
        let spans = seen.spans();
        seen.registry.register(
            "witness_failures",
            "How often a witness that is a daemon could not be told of a checkpoint",
            witness.failures.clone(),
        );
        seen.registry.register(
            "witness_behind_records",
            "Durable records that the witness which knows least has not been told of",
            witness.behind.clone(),
        );
        Metrics { answers, durations, waits, spans, witness, seen: Mutex::new(seen) }
    }

    /// Where it is noted how telling the witnesses goes.
    pub(crate) fn witness(&self) -> WitnessMeter {
        self.witness.clone()
    }

    /// Who hears how long the disk is waited for.
    pub(crate) fn observer(&self) -> Observer {
        let of = |step| self.waits.get_or_create_owned(&Step { step });
        let (commit, sync) = (of("store_commit"), of("journal_sync"));
        Arc::new(move |wait, took| {
            let histogram = match wait {
                Wait::StoreCommit => &commit,
                Wait::JournalSync => &sync,
            };
            histogram.observe(took.as_secs_f64());
        })
    }

    /// Who counts what becomes of spans.
    pub(crate) fn spans(&self) -> Counts {
        self.spans.clone()
    }

    /// A request has come.
    pub(crate) fn begin(&self, request: &v1::Request) -> Begun {
        let subject = request.op.as_ref().map(v1::request::Op::subject);
        let mechanism = match subject.and_then(|subject| subject.mechanism) {
            None => "none",
            Some(number) => ck::Mechanism(number).name().unwrap_or("unknown"),
        };
        let operation = subject.map_or("unknown", |subject| subject.operation);
        Begun { work: Work { operation, mechanism }, at: Instant::now() }
    }

    /// It has been answered.
    pub(crate) fn end(&self, begun: Begun, reply: &v1::Reply) -> Answered {
        let took = begun.at.elapsed();
        let rv = match &reply.result {
            Some(Outcome::Fault(fault)) => ck::Rv(fault.rv),
            _ => ck::rv::CKR_OK,
        };
        let Work { operation, mechanism } = begun.work;
        let answer = Answer { operation, mechanism, result: rv.name().unwrap_or("unknown") };
        self.answers.get_or_create(&answer).inc();
        // How long a refusal took says nothing of the operation.
        if rv == ck::rv::CKR_OK {
            self.durations.get_or_create(&begun.work).observe(took.as_secs_f64());
        }
        Answered { operation, mechanism, result: answer.result, ok: rv == ck::rv::CKR_OK, took }
    }

    /// The page, as it is now.
    pub(crate) fn page(&self, hsm: &Hsm) -> String {
        let status = hsm.status();
        let tokens = hsm.admin_tokens().unwrap_or_default();
        let seen = self.seen.lock();
        seen.look(&status, &hsm.journal_progress(), &tokens);
        let mut text = String::new();
        // Writing to a String does not fail.
        encode(&mut text, &seen.registry).map_or_else(|_| String::new(), |()| text)
    }
}

impl Seen {
    fn new(answers: &Family<Answer, Counter>, durations: &Durations<Work>, waits: &Durations<Step>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register("operations", "Answered requests by operation, mechanism and return value", answers.clone());
        registry.register(
            "operation_duration_seconds",
            "How long the daemon took for a request that it answered with CKR_OK",
            durations.clone(),
        );
        registry.register(
            "disk_wait_seconds",
            "How long the disk took for a transaction of the store and for an fsync of the journal",
            waits.clone(),
        );
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let healthy = gauge("healthy", "1 while the token serves and nothing is wrong");
        let sealed = gauge("sealed", "1 while the store key is missing");
        let started = gauge("start_time_seconds", "When the daemon started, in seconds since 1970");
        let applications = gauge("applications", "Applications that are attached");
        let sessions = gauge("sessions", "Open sessions");
        let generation = gauge("store_generation", "Number of the newest change of the store");
        let journal = gauge("journal_sequence", "Number of the newest record of the journal");
        let unsynced = gauge("journal_unsynced_records", "Records of the journal that are written and not durable yet");
        let resident = gauge("resident_memory_bytes", "Memory of the process that is in RAM");
        let descriptors = gauge("open_descriptors", "Open file descriptors of the process");
        let (lag, backups) = (Gauge::default(), Family::default());
        registry.register("journal_lag_seconds", "For how long the oldest record waits to be durable", lag.clone());
        registry.register(
            "backup_time_seconds",
            "When the newest backup was made, in seconds since 1970; 0 when the journal tells of none",
            backups.clone(),
        );
        let (objects, failures, locked) = (Family::default(), Family::default(), Family::default());
        registry.register("token_objects", "Objects in a token, public and private", objects.clone());
        registry.register("pin_failures", "Wrong PINs in a row", failures.clone());
        registry.register("pin_locked", "1 while the PIN is locked", locked.clone());
        Seen {
            registry,
            healthy,
            sealed,
            started,
            applications,
            sessions,
            generation,
            journal,
            unsynced,
            lag,
            backups,
            objects,
            failures,
            locked,
            resident,
            descriptors,
        }
    }

    fn spans(&mut self) -> Counts {
        let spans: Family<Fate, Counter> = Family::default();
        self.registry.register("spans", "Spans of traces by what became of them", spans.clone());
        let of = |outcome| spans.get_or_create_owned(&Fate { outcome });
        Counts { sent: of("sent"), dropped: of("dropped"), lost: of("lost") }
    }

    fn look(&self, status: &Status, journal: &Progress, tokens: &[TokenSummary]) {
        self.healthy.set(i64::from(status.health == "ok"));
        self.sealed.set(i64::from(status.sealed));
        self.started.set(number(status.started_unix_seconds));
        self.applications.set(number(status.applications));
        self.sessions.set(number(status.sessions));
        self.generation.set(number(status.store_generation));
        self.journal.set(number(journal.newest));
        self.unsynced.set(number(journal.newest.saturating_sub(journal.durable)));
        self.lag.set(journal.behind.as_secs_f64());
        let archive = journal.last_backup / 1_000_000_000;
        self.backups.get_or_create(&Backup { kind: "archive" }).set(number(archive));
        if let Some(stream) = &status.stream {
            self.backups.get_or_create(&Backup { kind: "stream" }).set(number(stream.taken_unix_seconds));
        }
        for token in tokens.iter().filter(|token| token.initialized) {
            let slot = token.slot;
            self.objects.get_or_create(&Slot { slot }).set(number(token.objects));
            let holders = [
                ("user", token.user_pin_failures, token.user_pin_locked),
                ("so", token.so_pin_failures, token.so_pin_locked),
            ];
            for (user, failures, locked) in holders {
                self.failures.get_or_create(&Holder { slot, user }).set(number(failures));
                self.locked.get_or_create(&Holder { slot, user }).set(i64::from(locked));
            }
        }
        let (resident, descriptors) = process();
        self.resident.set(number(resident.unwrap_or_default()));
        self.descriptors.set(number(descriptors.unwrap_or_default()));
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Resident memory in bytes and the number of open descriptors, where /proc says.
fn process() -> (Option<u64>, Option<u64>) {
    let status = std::fs::read_to_string("/proc/self/status").ok();
    let kilobytes = status.and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    let resident = kilobytes.map(|kilobytes| kilobytes.saturating_mul(1024));
    let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
    (resident, descriptors)
}

/// How long a page may take to be asked for and read.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn request(op: v1::request::Op) -> v1::Request {
        v1::Request { op: Some(op), ..Default::default() }
    }

    #[test]
    fn what_a_client_chose_is_no_label() {
        let metrics = Metrics::new();
        let begin = v1::Begin {
            mechanism: Some(v1::Mechanism { r#type: 0x8123_4567, ..Default::default() }),
            ..Default::default()
        };
        let sign = v1::OneShotRequest {
            kind: v1::OperationKind::OperationSign as i32,
            begin: Some(begin),
            ..Default::default()
        };
        let fault = v1::Fault { rv: 0x8765_4321, ..Default::default() };
        for _ in 0..2 {
            let begun = metrics.begin(&request(v1::request::Op::OneShot(sign.clone())));
            let reply = v1::Reply { result: Some(Outcome::Fault(fault.clone())), ..Default::default() };
            metrics.end(begun, &reply);
        }
        let begun = metrics.begin(&v1::Request::default());
        metrics.end(begun, &v1::Reply { result: Some(Outcome::Done(v1::Empty {})), ..Default::default() });
        let mut text = String::new();
        encode(&mut text, &metrics.seen.lock().registry).expect("written");
        let line = r#"craton_hsm_operations_total{operation="sign",mechanism="unknown",result="unknown"} 2"#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains(r#"operation="unknown",mechanism="none",result="CKR_OK"} 1"#), "{text}");
        assert!(!text.contains(r#"duration_seconds_count{operation="sign""#), "a refusal has no duration: {text}");
        assert!(text.contains(r#"duration_seconds_count{operation="unknown""#), "{text}");
    }
}
