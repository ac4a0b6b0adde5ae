//! The journal that is being written: one pen, one flusher, receipts.
//!
//! Under the pen's lock a line gets its sequence, time and chain value and is written to the file; everything else
//! happens outside. The file is made durable for groups of lines: by whoever needs it, else by the flusher 10 ms later.
//! Lines that are written but not yet durable are kept in memory until they are, because a failed fsync may have
//! dropped them from the page cache: they are then written again before anything else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::chain::{Finding, Head, Wrong, line_hash};
use super::file::{JournalFile, Medium, TornTail, hash_of_record, remembered_head};
use super::record::{Category, Change, Client, Draft, Entry, Fact, Stamp};
use crate::config::LogLevel as Level;
use crate::crypto::rng;
use crate::{Clock, Error, Kind, Result};

/// A written line is durable at most this much later, plus one fsync.
const GROUP: Duration = Duration::from_millis(8);
/// How often a failed journal tries again when nobody asks it to write.
const RETRY: Duration = Duration::from_secs(1);
/// How far the wall clock may run away from the steady one before it is called a jump.
const JUMP_NANOS: i128 = 60_000_000_000;
/// How many of the newest store changes the journal can still find by generation.
const REMEMBERED_CHANGES: usize = 65_536;

/// Whether `[audit].log_level` keeps records of this category; the journal's own are always kept.
pub(super) fn keeps(level: Level, category: Category) -> bool {
    match category {
        Category::Journal => true,
        Category::Crypto => matches!(level, Level::All | Level::Crypto),
        Category::Auth => matches!(level, Level::All | Level::Auth),
        Category::Admin => matches!(level, Level::All | Level::Admin),
    }
}

/// When [`Journal::append`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the record is written; it is durable at most 10 ms later.
    Written,
    /// When the record is durable.
    Durable,
}

/// Where the journal is and what it keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file.
    pub path: PathBuf,
    /// Which records are kept.
    pub level: Level,
    /// The newest record that the store remembers; the journal must still hold it.
    pub known: Option<Head>,
}

/// Proof that an operation's record is written. Only the journal makes one.
#[must_use = "an answer may only go out with the receipt of its record"]
#[derive(Debug)]
pub struct Receipt {
    seq: Option<u64>,
}

impl Receipt {
    /// The record's sequence number; `None` when `[audit].log_level` keeps no such record.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }
}

/// The open journal. Shared by all threads; dropping it makes everything durable.
pub struct Journal {
    shared: Arc<Shared>,
    path: PathBuf,
    flusher: Option<JoinHandle<()>>,
}

struct Shared {
    medium: Box<dyn Medium>,
    clock: Arc<dyn Clock>,
    boot: String,
    level: Level,
    pen: Mutex<Pen>,
    /// Told when a group became durable or failed.
    settled: Condvar,
    /// Told when there is something to make durable, or the journal closes.
    dirty: Condvar,
}

pub(super) struct Pen {
    head: Head,
    last_time: u64,
    last_generation: u64,
    /// Generation to sequence, of the records that belong to a store change.
    changes: BTreeMap<u64, u64>,
    written_len: u64,
    durable_len: u64,
    durable: Head,
    /// Lines that are written and not durable: those of the running fsync, and those after.
    in_flight: Vec<u8>,
    pending: Vec<u8>,
    syncing: bool,
    /// A write failed and its bytes may still lie behind `written_len`.
    tail_dirty: bool,
    failed: Option<String>,
    closing: bool,
    /// Wall clock minus steady clock, and the steady clock's origin.
    offset: i128,
    origin: Instant,
}

impl Pen {
    pub(super) fn empty() -> Self {
        Pen {
            head: Head::EMPTY,
            last_time: 0,
            last_generation: 0,
            changes: BTreeMap::new(),
            written_len: 0,
            durable_len: 0,
            durable: Head::EMPTY,
            in_flight: Vec::new(),
            pending: Vec::new(),
            syncing: false,
            tail_dirty: false,
            failed: None,
            closing: false,
            offset: 0,
            origin: Instant::now(),
        }
    }

    fn note(&mut self, generation: u64, change: bool, seq: u64) {
        self.last_generation = self.last_generation.max(generation);
        if change {
            self.changes.insert(generation, seq);
            if self.changes.len() > REMEMBERED_CHANGES {
                self.changes.pop_first();
            }
        }
    }

    /// How far the wall clock jumped since the last look, if it did.
    fn jump(&mut self, now: u64) -> Option<i128> {
        let elapsed = i128::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i128::MAX);
        let offset = i128::from(now) - elapsed;
        let jumped = offset - self.offset;
        self.offset = offset;
        (jumped.abs() > JUMP_NANOS).then_some(jumped)
    }
}

impl Journal {
    /// Opens the journal, creating it when there is none: verifies every record, sets an unfinished last line aside,
    /// and writes `journal_open`.
    ///
    /// # Errors
    ///
    /// [`Kind::Device`] when the file cannot be used, is in use, or does not verify; the sentence names the line.
    pub fn open(options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        let file = JournalFile::open(&options.path)?;
        let noted = remembered_head(&options.path);
        let mut pen = Pen::empty();
        let torn = load(&file, &options, noted, &mut pen)?;
        let now = clock.now_unix_nanos();
        let behind = pen.last_time.saturating_sub(now);
        pen.offset = i128::from(now);
        let mut boot = [0; 8];
        rng::fill(&mut boot).map_err(|_| Error::new(Kind::Device, "no random bytes from the system"))?;
        let journal = Journal::start(Box::new(file), clock, HEXLOWER.encode(&boot), options, pen);
        let generation = journal.last_generation();
        if let Some(torn) = torn {
            let entry = Entry::new(Category::Journal, "tail_repaired", Client::Daemon)
                .with_fact("bytes", Fact::number(torn.bytes))
                .with_fact("file", Fact::name(&torn.name))
                .with_fact("sha256", Fact::digest(&torn.sha256));
            journal.append(entry, generation, Durability::Durable).map(drop)?;
        }
        if i128::from(behind) > JUMP_NANOS {
            let entry = jump_entry(now, -i128::from(behind));
            journal.append(entry, generation, Durability::Durable).map(drop)?;
        }
        let entry = Entry::new(Category::Journal, "journal_open", Client::Daemon)
            .with_fact("program", Fact::word(env!("CARGO_PKG_VERSION")));
        journal.append(entry, generation, Durability::Durable).map(drop)?;
        Ok(journal)
    }

    pub(super) fn start(
        medium: Box<dyn Medium>,
        clock: Arc<dyn Clock>,
        boot: String,
        options: Options,
        pen: Pen,
    ) -> Self {
        let shared = Arc::new(Shared {
            medium,
            clock,
            boot,
            level: options.level,
            pen: Mutex::new(pen),
            settled: Condvar::new(),
            dirty: Condvar::new(),
        });
        let worker = Arc::clone(&shared);
        let flusher = std::thread::Builder::new().name("audit-flush".to_owned()).spawn(move || worker.flush_loop());
        // Without a flusher thread a record would never become durable by itself: then every append waits.
        Journal { shared, path: options.path, flusher: flusher.ok() }
    }

    /// Writes the record of an operation that changed nothing in the store, which is at `generation`.
    ///
    /// # Errors
    ///
    /// [`Kind::Device`] when the record cannot be written: the operation must be refused. The next call tries again.
    pub fn append(&self, entry: Entry, generation: u64, durability: Durability) -> Result<Receipt> {
        if !keeps(self.shared.level, entry.category) {
            return Ok(Receipt { seq: None });
        }
        let seq = self.shared.write(&Draft::new(&entry), generation, Change::Nothing)?;
        if durability == Durability::Durable || self.flusher.is_none() {
            self.shared.make_durable(seq)?;
        }
        Ok(Receipt { seq: Some(seq) })
    }

    /// Writes the record of the store transaction that made `generation`, from [`Entry::encode`]'s bytes. A generation
    /// that has its record already is not written twice. An empty body is a change whose category is not kept.
    ///
    /// # Errors
    ///
    /// [`Kind::Device`] when the record cannot be written or the bytes are not an encoded entry.
    pub fn append_change(&self, generation: u64, body: &[u8]) -> Result<Receipt> {
        if body.is_empty() {
            return Ok(Receipt { seq: None });
        }
        let known = self.shared.pen.lock().changes.get(&generation).copied();
        let seq = match known {
            Some(seq) => seq,
            None => self.shared.write(&Draft::from_bytes(body)?, generation, Change::Made)?,
        };
        Ok(Receipt { seq: Some(seq) })
    }

    /// Forgets the generations that the journal names: for a store in memory, whose generations begin anew with each run.
    pub fn forget_generations(&self) {
        let mut pen = self.shared.pen.lock();
        pen.changes.clear();
        pen.last_generation = 0;
    }

    /// Whether records of this category are kept.
    pub fn keeps(&self, category: Category) -> bool {
        keeps(self.shared.level, category)
    }

    /// Whether the store change that made this generation has its record. Only the newest 65,536 changes are
    /// known; older ones were settled long ago.
    pub fn contains_generation(&self, generation: u64) -> bool {
        self.shared.pen.lock().changes.contains_key(&generation)
    }

    /// The highest store generation that a record names. A store below it was rolled back: also a restored store goes on
    /// above it.
    pub fn last_generation(&self) -> u64 {
        self.shared.pen.lock().last_generation
    }

    /// The newest record.
    pub fn head(&self) -> Head {
        self.shared.pen.lock().head
    }

    /// The newest record that is known to be durable.
    pub fn durable_head(&self) -> Head {
        self.shared.pen.lock().durable
    }

    /// Whether the journal holds this record. Reads the file up to it unless it is the newest: for the start.
    ///
    /// # Errors
    ///
    /// [`Kind::Device`] when the file cannot be read.
    pub fn contains_head(&self, head: &Head) -> Result<bool> {
        let (now, durable) = {
            let pen = self.shared.pen.lock();
            (pen.head, pen.durable)
        };
        if *head == Head::EMPTY || *head == now || *head == durable {
            return Ok(true);
        }
        let hash = hash_of_record(&self.path, head.seq)
            .map_err(|error| Error::new(Kind::Device, format!("the journal cannot be read: {error}")))?;
        Ok(hash == Some(head.hash))
    }

    /// Why the journal cannot be written at the moment; `None` when it can.
    pub fn failure(&self) -> Option<String> {
        self.shared.pen.lock().failed.clone()
    }

    /// Waits until every record written so far is durable.
    ///
    /// # Errors
    ///
    /// [`Kind::Device`] when the file cannot be made durable.
    pub fn sync(&self) -> Result<()> {
        let seq = self.shared.pen.lock().head.seq;
        self.shared.make_durable(seq)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.pen.lock().closing = true;
        self.shared.dirty.notify_all();
        if let Some(flusher) = self.flusher.take() {
            flusher.join().ok();
        }
        self.sync().ok();
    }
}

impl Shared {
    /// The short lock: stamp, write, remember. Returns the sequence number.
    fn write(&self, draft: &Draft, generation: u64, change: Change) -> Result<u64> {
        let now = self.clock.now_unix_nanos();
        let mut pen = self.pen.lock();
        self.recover(&mut pen)?;
        if let Some(jumped) = pen.jump(now) {
            let draft = Draft::new(&jump_entry(now, jumped));
            let generation = pen.last_generation;
            self.write_line(&mut pen, &draft, now, generation, Change::Nothing)?;
        }
        self.write_line(&mut pen, draft, now, generation, change)?;
        let seq = pen.head.seq;
        pen.note(generation, change == Change::Made, seq);
        Ok(seq)
    }

    fn write_line(&self, pen: &mut Pen, draft: &Draft, now: u64, generation: u64, change: Change) -> Result<()> {
        let Head { seq, hash } = pen.head;
        let time = now.max(pen.last_time);
        let stamp = Stamp { seq: seq + 1, time, boot: &self.boot, generation, change, prev: &hash };
        let start = pen.pending.len();
        draft.stamp(&stamp, &mut pen.pending);
        let hash = line_hash(&pen.pending[start..]);
        pen.pending.push(b'\n');
        if let Err(error) = self.medium.write_at(&pen.pending[start..], pen.written_len) {
            pen.pending.truncate(start);
            pen.tail_dirty = self.medium.truncate(pen.written_len).is_err();
            return Err(refused(&format!("the journal cannot be written: {error}")));
        }
        if start == 0 && !pen.syncing {
            self.dirty.notify_one();
        }
        pen.written_len += (pen.pending.len() - start) as u64;
        pen.head = Head { seq: seq + 1, hash };
        pen.last_time = time;
        Ok(())
    }

    /// Brings a journal that failed back to a state in which the next line may follow, or refuses.
    fn recover(&self, pen: &mut Pen) -> Result<()> {
        if pen.tail_dirty {
            self.medium
                .truncate(pen.written_len)
                .map_err(|error| refused(&format!("the journal cannot be written: {error}")))?;
            pen.tail_dirty = false;
        }
        if pen.failed.is_none() {
            return Ok(());
        }
        let again = self
            .medium
            .truncate(pen.durable_len)
            .and_then(|()| self.medium.write_at(&pen.pending, pen.durable_len))
            .and_then(|()| self.medium.sync());
        match again {
            Ok(()) => {
                pen.failed = None;
                pen.pending.clear();
                pen.durable_len = pen.written_len;
                pen.durable = pen.head;
                self.medium.remember(&pen.head);
                Ok(())
            }
            Err(error) => {
                let why = format!("the journal cannot be made durable: {error}");
                pen.failed = Some(why.clone());
                Err(refused(&why))
            }
        }
    }

    /// Returns when record `seq` is durable. One thread runs the fsync for all that wait.
    fn make_durable(&self, seq: u64) -> Result<()> {
        let mut pen = self.pen.lock();
        while pen.durable.seq < seq {
            if let Some(why) = &pen.failed {
                return Err(refused(why));
            }
            if pen.syncing {
                self.settled.wait(&mut pen);
            } else {
                self.sync_group(&mut pen);
            }
        }
        Ok(())
    }

    fn sync_group(&self, pen: &mut MutexGuard<'_, Pen>) {
        pen.syncing = true;
        let group = &mut **pen;
        core::mem::swap(&mut group.in_flight, &mut group.pending);
        let (head, len) = (pen.head, pen.written_len);
        let outcome = MutexGuard::unlocked(pen, || self.medium.sync().inspect(|()| self.medium.remember(&head)));
        pen.syncing = false;
        match outcome {
            Ok(()) => {
                pen.durable_len = len;
                pen.durable = head;
                pen.in_flight.clear();
            }
            Err(error) => {
                let later = core::mem::take(&mut pen.pending);
                pen.pending = core::mem::take(&mut pen.in_flight);
                pen.pending.extend_from_slice(&later);
                pen.failed = Some(format!("the journal cannot be made durable: {error}"));
                tracing::error!(%error, "the audit journal cannot be made durable; operations are refused");
            }
        }
        self.settled.notify_all();
    }

    fn flush_loop(&self) {
        let mut pen = self.pen.lock();
        loop {
            if pen.failed.is_some() {
                if pen.closing {
                    return;
                }
                self.dirty.wait_for(&mut pen, RETRY);
                if pen.failed.is_some() && self.recover(&mut pen).is_ok() {
                    tracing::info!("the audit journal can be written again");
                    self.settled.notify_all();
                }
                continue;
            }
            if pen.durable.seq == pen.head.seq {
                if pen.closing {
                    return;
                }
                self.dirty.wait(&mut pen);
                continue;
            }
            if !pen.closing {
                self.dirty.wait_for(&mut pen, GROUP);
            }
            if pen.syncing {
                self.settled.wait(&mut pen);
            } else if pen.failed.is_none() && pen.durable.seq < pen.head.seq {
                self.sync_group(&mut pen);
            }
        }
    }
}

/// Verifies the whole file into `pen`; sets an unfinished last line aside, if nobody remembers it as written.
fn load(file: &JournalFile, options: &Options, noted: Option<Head>, pen: &mut Pen) -> Result<Option<TornTail>> {
    let known: Vec<Head> = options.known.into_iter().chain(noted).collect();
    let outcome = file.visit(&known, |line| {
        let record = line.record;
        pen.note(record.generation, record.change == Some(true), record.seq);
        pen.last_time = record.time;
        pen.head = line.head;
        pen.written_len += line.text.len() as u64 + 1;
        Ok(())
    });
    let torn = match outcome {
        Ok(_) => None,
        Err(Finding { wrong: Wrong::TornTail { offset }, .. }) if known.iter().all(|head| head.seq <= pen.head.seq) => {
            Some(file.set_tail_aside(offset, pen.head.seq + 1)?)
        }
        Err(finding) => return Err(tampered(&options.path, &finding)),
    };
    pen.durable_len = pen.written_len;
    pen.durable = pen.head;
    Ok(torn)
}

fn jump_entry(clock: u64, jumped: i128) -> Entry {
    let seconds = u64::try_from(jumped.unsigned_abs() / 1_000_000_000).unwrap_or(u64::MAX);
    Entry::new(Category::Journal, "clock_jump", Client::Daemon)
        .with_fact("clock", Fact::number(clock))
        .with_fact("direction", Fact::word(if jumped < 0 { "back" } else { "forward" }))
        .with_fact("seconds", Fact::number(seconds))
}

fn refused(why: &str) -> Error {
    Error::new(Kind::Device, format!("{why}; without a record the operation is refused"))
}

fn tampered(path: &Path, finding: &Finding) -> Error {
    Error::new(
        Kind::Device,
        format!(
            "the journal {} does not verify at {finding}; move it aside for examination, or restore it, before starting again",
            path.display()
        ),
    )
}
