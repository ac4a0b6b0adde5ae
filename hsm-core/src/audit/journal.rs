//! The journal that is being written: one pen, one flusher, receipts.
//!
//! Under the pen's lock a record gets its sequence and its time. One that an answer waits for, but not its durability, is put into
//! the staging file, which a kill leaves as it is; the flusher chains and writes many of them at once. Any other is chained and
//! written at once. The file is made durable for groups of lines: by whoever needs it, else by the flusher 10 ms later.
//! Lines that are written but not yet durable are kept in memory until they are, because a failed fsync may have
//! dropped them from the page cache: they are then written again before anything else.
//!
//! The flusher also signs: it keeps the Merkle tree of the durable lines, writes checkpoints, and closes the file when it has grown
//! large or old.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::anchor;
use super::chain::{Head, line_hash};
use super::checkpoint::{self, Checkpoint, PublicKey, SEGMENT_OPEN};
use super::file::{JournalFile, Medium, Opened, Opening, TornTail, closed_path, hash_of_record, remembered_head};
use super::merkle::Tree;
use super::record::{Category, Change, Client, Draft, Entry, Fact, Stamp};
use super::signer::{Announced, Signer, SigningKeys};
use super::stage::{Stage, Staged, leftover};
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
/// So many records, or so much time after the first of them, and a checkpoint is due.
const CHECKPOINT_RECORDS: u64 = 256;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

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
    /// A file on another disk that names a durable record; the journal must still hold it.
    pub anchor: Option<PathBuf>,
    /// When a file is closed and another begun.
    pub files: Files,
}

/// When a file of the journal is closed and another begun: at this length, or at this age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// Length in bytes.
    pub max_bytes: u64,
    /// Age of the file's first record of this run.
    pub max_age: Duration,
}

impl Default for Files {
    fn default() -> Self {
        Files { max_bytes: 16 << 20, max_age: Duration::from_secs(24 * 3600) }
    }
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
    files: Files,
    anchor: Option<PathBuf>,
    path: PathBuf,
    pen: Mutex<Pen>,
    /// Told when a group became durable or failed.
    settled: Condvar,
    /// Told when there is something to make durable, or the journal closes.
    dirty: Condvar,
}

pub(super) struct Pen {
    /// The newest line.
    head: Head,
    /// Records that are staged and not lines yet; with them the newest number is `assigned`.
    queue: Vec<Queued>,
    assigned: u64,
    stage: Option<Stage>,
    /// Somebody makes lines of records outside the lock: nobody else may.
    forming: bool,
    /// Which run wrote the newest line that was found.
    last_boot: String,
    last_time: u64,
    last_generation: u64,
    /// Generation to sequence, of the records that belong to a store change; those up to `settled_changes` are in closed files.
    changes: BTreeMap<u64, u64>,
    settled_changes: u64,
    last_change: u64,
    /// The tree of the durable lines.
    tree: Tree,
    /// The key that certified records name.
    key: Option<PublicKey>,
    signer: Option<Signer>,
    /// The record that carried the newest checkpoint, and when that was.
    last_checkpoint: u64,
    checkpointed: Instant,
    /// A change or an administrative operation wants to be under a checkpoint soon.
    checkpoint_wanted: bool,
    /// The first record of the file, and when the file was begun or opened.
    file_first: u64,
    file_begun: Instant,
    /// Closing the file failed; when that was.
    close_failed: Option<Instant>,
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

/// A record that has its number and its time.
struct Queued {
    draft: Draft,
    time: u64,
    generation: u64,
}

impl Pen {
    pub(super) fn empty() -> Self {
        Pen {
            head: Head::EMPTY,
            queue: Vec::new(),
            assigned: 0,
            stage: None,
            forming: false,
            last_boot: String::new(),
            last_time: 0,
            last_generation: 0,
            changes: BTreeMap::new(),
            settled_changes: 0,
            last_change: 0,
            tree: Tree::default(),
            key: None,
            signer: None,
            last_checkpoint: 0,
            checkpointed: Instant::now(),
            checkpoint_wanted: false,
            file_first: 1,
            file_begun: Instant::now(),
            close_failed: None,
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
            self.last_change = self.last_change.max(generation);
            self.changes.insert(generation, seq);
            if self.changes.len() > REMEMBERED_CHANGES {
                self.changes.pop_first();
            }
        }
    }

    /// Stages a record; none when there is no stage or no room on it.
    fn stage(&mut self, draft: Draft, now: u64, generation: u64) -> Result<u64, Draft> {
        let (seq, time) = (self.assigned + 1, now.max(self.last_time));
        let staged = Staged { seq, time, generation };
        if !self.stage.as_mut().is_some_and(|stage| stage.put(staged, &draft)) {
            return Err(draft);
        }
        self.queue.push(Queued { draft, time, generation });
        (self.assigned, self.last_time) = (seq, time);
        Ok(seq)
    }

    /// Whether a checkpoint is due now that the group is durable.
    fn checkpoint_due(&self) -> bool {
        let unsigned = self.head.seq.saturating_sub(self.last_checkpoint);
        let soon = self.checkpoint_wanted || self.closing || unsigned >= CHECKPOINT_RECORDS;
        self.signer.is_some() && unsigned > 0 && (soon || self.checkpointed.elapsed() >= CHECKPOINT_EVERY)
    }

    /// How long the flusher may sleep while there is nothing to make durable.
    fn rest(&self) -> Option<Duration> {
        let unsigned = self.signer.is_some() && self.head.seq > self.last_checkpoint;
        unsigned.then(|| CHECKPOINT_EVERY.saturating_sub(self.checkpointed.elapsed()))
    }

    fn file_is_full(&self, files: &Files) -> bool {
        let full = self.written_len >= files.max_bytes || self.file_begun.elapsed() >= files.max_age;
        let holds_records = self.head.seq > self.file_first;
        full && holds_records && self.close_failed.is_none_or(|when| when.elapsed() >= RETRY)
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
        if let Some(anchor) = &options.anchor {
            anchor::check(anchor, &options.path)?;
        }
        let (torn, begin_another) = load(&file, &options, noted, &mut pen)?;
        let now = clock.now_unix_nanos();
        let behind = pen.last_time.saturating_sub(now);
        pen.offset = i128::from(now);
        let mut boot = [0; 8];
        rng::fill(&mut boot).map_err(|_| Error::new(Kind::Device, "no random bytes from the system"))?;
        let staged = leftover(&options.path, &pen.last_boot, pen.head.seq)?;
        let journal = Journal::start(Box::new(file), clock, HEXLOWER.encode(&boot), options, pen);
        journal.finish(staged)?;
        if begin_another {
            journal.shared.continue_file(&mut journal.shared.pen.lock())?;
        }
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
        // Not before: until here the file holds what an earlier run left.
        match Stage::open(&journal.path, boot) {
            Ok(stage) => journal.shared.pen.lock().stage = Some(stage),
            Err(error) => tracing::warn!(%error, "no staging file: every record is written by itself"),
        }
        Ok(journal)
    }

    /// Writes the records that an earlier run had staged and answered for.
    fn finish(&self, staged: Vec<(Staged, Draft)>) -> Result<()> {
        if staged.is_empty() {
            return Ok(());
        }
        tracing::info!(records = staged.len(), "records of the last run are taken from the staging file");
        let mut pen = self.shared.pen.lock();
        let boot = pen.last_boot.clone();
        for (Staged { time, generation, .. }, draft) in staged {
            self.shared.write_line_of(&boot, &mut pen, &draft, time, generation, Change::Nothing)?;
            let seq = pen.head.seq;
            pen.note(generation, false, seq);
        }
        drop(pen);
        self.sync()
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
            files: options.files,
            anchor: options.anchor,
            path: options.path.clone(),
            pen: Mutex::new(pen),
            settled: Condvar::new(),
            dirty: Condvar::new(),
        });
        let worker = Arc::clone(&shared);
        let flusher = std::thread::Builder::new().name("audit-flush".to_owned()).spawn(move || worker.flush_loop());
        // Without a flusher thread a record would never become durable by itself: then every append waits.
        Journal { shared, path: options.path, flusher: flusher.ok() }
    }

    /// From now on checkpoints are signed. The key is the one that the journal names last, if `keys` has it.
    ///
    /// # Errors
    ///
    /// [`Kind::Device`] when a key or its record cannot be written.
    pub(crate) fn sign_with(&self, keys: SigningKeys) -> Result<()> {
        let mut pen = self.shared.lock_when_formed();
        let (signer, announced) = Signer::attach(keys, pen.key)?;
        if announced == Announced::Broken {
            tracing::warn!("the journal's signing key is gone; a new one begins that the old one did not sign for");
        }
        if announced != Announced::Yes {
            self.shared.write_entry(&mut pen, &checkpoint::key_entry(signer.public()))?;
        }
        pen.key = Some(*signer.public());
        pen.signer = Some(signer);
        pen.checkpoint_wanted = true;
        drop(pen);
        self.shared.dirty.notify_one();
        self.sync()
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
        let wanted = entry.category == Category::Admin;
        let draft = Draft::new(&entry);
        let seq = match (durability, self.flusher.is_some(), wanted) {
            (Durability::Written, true, false) => self.shared.write_staged(draft, generation)?,
            _ => self.shared.write(&draft, generation, Change::Nothing, wanted)?,
        };
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
        let (known, settled) = {
            let pen = self.shared.pen.lock();
            (pen.changes.get(&generation).copied(), generation <= pen.settled_changes)
        };
        let seq = match known {
            Some(seq) => seq,
            None if settled => return Ok(Receipt { seq: None }),
            None => self.shared.write(&Draft::from_bytes(body)?, generation, Change::Made, true)?,
        };
        Ok(Receipt { seq: Some(seq) })
    }

    /// Forgets the generations that the journal names: for a store in memory, whose generations begin anew with each run.
    pub fn forget_generations(&self) {
        let mut pen = self.shared.pen.lock();
        pen.changes.clear();
        (pen.last_generation, pen.last_change, pen.settled_changes) = (0, 0, 0);
    }

    /// Whether records of this category are kept.
    pub fn keeps(&self, category: Category) -> bool {
        keeps(self.shared.level, category)
    }

    /// Whether the store change that made this generation has its record. Changes whose records are in closed files were
    /// settled before these were closed; of the others the newest 65,536 are known.
    pub fn contains_generation(&self, generation: u64) -> bool {
        let pen = self.shared.pen.lock();
        generation <= pen.settled_changes || pen.changes.contains_key(&generation)
    }

    /// The highest store generation that a record names. A store below it was rolled back: also a restored store goes on
    /// above it.
    pub fn last_generation(&self) -> u64 {
        self.shared.pen.lock().last_generation
    }

    /// The newest record.
    pub fn head(&self) -> Head {
        let mut pen = self.shared.lock_when_formed();
        // What cannot be written is no line yet.
        self.shared.form(&mut pen).unwrap_or_default();
        pen.head
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
        let seq = self.shared.pen.lock().assigned;
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
    fn write(&self, draft: &Draft, generation: u64, change: Change, checkpoint_wanted: bool) -> Result<u64> {
        let now = self.clock.now_unix_nanos();
        let mut pen = self.lock_when_formed();
        self.recover(&mut pen)?;
        self.note_jump(&mut pen, now)?;
        self.write_line(&mut pen, draft, now, generation, change)?;
        let seq = pen.head.seq;
        pen.note(generation, change == Change::Made, seq);
        pen.checkpoint_wanted |= checkpoint_wanted;
        Ok(seq)
    }

    /// The shorter lock: number, stage, remember. Returns the sequence number.
    fn write_staged(&self, draft: Draft, generation: u64) -> Result<u64> {
        let now = self.clock.now_unix_nanos();
        let mut pen = self.pen.lock();
        if pen.failed.is_some() || pen.tail_dirty {
            drop(pen);
            return self.write(&draft, generation, Change::Nothing, false);
        }
        if let Some(jumped) = pen.jump(now) {
            // Said again below: the jump is noted by a line.
            pen.offset -= jumped;
            drop(pen);
            return self.write(&draft, generation, Change::Nothing, false);
        }
        let draft = match pen.stage(draft, now, generation) {
            Ok(seq) => {
                pen.note(generation, false, seq);
                if pen.queue.len() == 1 && !pen.syncing {
                    self.dirty.notify_one();
                }
                return Ok(seq);
            }
            Err(draft) => draft,
        };
        drop(pen);
        self.write(&draft, generation, Change::Nothing, false)
    }

    fn note_jump(&self, pen: &mut Pen, now: u64) -> Result<()> {
        let Some(jumped) = pen.jump(now) else { return Ok(()) };
        let generation = pen.last_generation;
        self.write_line(pen, &Draft::new(&jump_entry(now, jumped)), now, generation, Change::Nothing)
    }

    /// The lock, at a moment when nobody makes lines outside it.
    fn lock_when_formed(&self) -> MutexGuard<'_, Pen> {
        let mut pen = self.pen.lock();
        while pen.forming {
            self.settled.wait(&mut pen);
        }
        pen
    }

    /// Makes lines of the records that are staged, and writes them.
    fn form(&self, pen: &mut Pen) -> Result<()> {
        if pen.queue.is_empty() {
            return Ok(());
        }
        let queue = core::mem::take(&mut pen.queue);
        let start = pen.pending.len();
        pen.head = self.chain(&queue, pen.head, &mut pen.pending);
        match self.medium.write_at(&pen.pending[start..], pen.written_len) {
            Ok(()) => {
                pen.written_len += (pen.pending.len() - start) as u64;
                if let Some(stage) = &mut pen.stage {
                    stage.begin();
                }
                Ok(())
            }
            Err(error) => {
                let why = format!("the journal cannot be written: {error}");
                pen.failed = Some(why.clone());
                Err(refused(&why))
            }
        }
    }

    /// The same outside the lock; records go on being staged. Says whether they are written.
    fn form_group(&self, pen: &mut MutexGuard<'_, Pen>) -> bool {
        if pen.queue.is_empty() {
            return true;
        }
        pen.forming = true;
        let queue = core::mem::take(&mut pen.queue);
        if let Some(stage) = &mut pen.stage {
            stage.turn();
        }
        let (head, position, dirty) = (pen.head, pen.written_len, pen.tail_dirty);
        let mut lines = Vec::with_capacity(queue.len() * 640);
        let (head, written) = MutexGuard::unlocked(pen, || {
            let head = self.chain(&queue, head, &mut lines);
            let clean = if dirty { self.medium.truncate(position) } else { Ok(()) };
            (head, clean.and_then(|()| self.medium.write_at(&lines, position)))
        });
        pen.forming = false;
        pen.head = head;
        pen.pending.extend_from_slice(&lines);
        self.settled.notify_all();
        match written {
            Ok(()) => {
                pen.tail_dirty = false;
                pen.written_len += lines.len() as u64;
                true
            }
            Err(error) => {
                pen.failed = Some(format!("the journal cannot be written: {error}"));
                tracing::error!(%error, "the audit journal cannot be written; operations are refused");
                false
            }
        }
    }

    /// Appends the lines of records to `lines`; gives the newest.
    fn chain(&self, queue: &[Queued], mut head: Head, lines: &mut Vec<u8>) -> Head {
        for Queued { draft, time, generation } in queue {
            let seq = head.seq + 1;
            let (time, generation) = (*time, *generation);
            let stamp = Stamp { seq, time, boot: &self.boot, generation, change: Change::Nothing, prev: &head.hash };
            let start = lines.len();
            draft.stamp(&stamp, lines);
            head = Head { seq, hash: line_hash(&lines[start..]) };
            lines.push(b'\n');
        }
        head
    }

    /// A record of the journal about itself.
    fn write_entry(&self, pen: &mut Pen, entry: &Entry) -> Result<()> {
        let generation = pen.last_generation;
        self.write_line(pen, &Draft::new(entry), self.clock.now_unix_nanos(), generation, Change::Nothing)
    }

    /// Signs for everything written so far. No fsync may be running: the tree and `pending` together are all lines.
    fn write_checkpoint(&self, pen: &mut Pen) -> Result<()> {
        self.form(pen)?;
        let Some(signer) = &pen.signer else { return Ok(()) };
        let mut tree = pen.tree.clone();
        tree.push_lines(&pen.pending);
        if tree.size() != pen.head.seq {
            return Err(Error::new(Kind::Internal, "the journal's tree has lost count of its records"));
        }
        let checkpoint = Checkpoint {
            origin: signer.origin().to_owned(),
            size: tree.size(),
            root: tree.root(),
            generation: pen.last_generation,
        };
        let entry = signer.sign(&checkpoint)?;
        self.write_entry(pen, &entry)?;
        if let Some(signer) = &mut pen.signer {
            signer.signed();
            pen.key = Some(*signer.public());
        }
        pen.last_checkpoint = pen.head.seq;
        pen.checkpointed = Instant::now();
        pen.checkpoint_wanted = false;
        if let Some(anchor) = &self.anchor {
            anchor::write(anchor, &pen.durable);
        }
        Ok(())
    }

    /// Closes the file and begins another: the next key is announced under the old one's last checkpoint, everything is made
    /// durable, the file gets its closed name, and the old key is erased.
    fn close_file(&self, pen: &mut Pen) -> Result<()> {
        if let Some(prepared) = pen.signer.as_ref().map(Signer::prepare).transpose()?.flatten() {
            self.write_entry(pen, &checkpoint::key_entry(prepared.public()))?;
            if let Some(signer) = &mut pen.signer {
                signer.announced(prepared);
            }
        }
        self.write_checkpoint(pen)?;
        self.sync_alone(pen)?;
        if let Some(signer) = &mut pen.signer {
            signer.retire()?;
        }
        let cannot = |error| Error::new(Kind::Device, format!("the journal's file cannot be closed: {error}"));
        self.medium.begin_another(pen.file_first).map_err(cannot)?;
        (pen.written_len, pen.durable_len) = (0, 0);
        pen.settled_changes = pen.last_change;
        pen.changes.clear();
        self.continue_file(pen)
    }

    /// The first record of a file that continues another: what a verifier must know of the files before.
    fn continue_file(&self, pen: &mut Pen) -> Result<()> {
        let peaks = pen.tree.peaks().concat();
        let closed = closed_path(&self.path, pen.file_first);
        let name = closed.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut entry = Entry::new(Category::Journal, SEGMENT_OPEN, Client::Daemon)
            .with_fact("file", Fact::name(&name))
            .with_fact("last_change", Fact::number(pen.settled_changes))
            .with_fact("last_generation", Fact::number(pen.last_generation))
            .with_fact("peaks", Fact::public(&peaks));
        if let Some(key) = &pen.key {
            entry = entry.with_fact("key", Fact::public(key));
        }
        self.write_entry(pen, &entry)?;
        (pen.file_first, pen.file_begun) = (pen.head.seq, Instant::now());
        Ok(())
    }

    /// One fsync under the lock, for the end of a file: nobody may write in between.
    fn sync_alone(&self, pen: &mut Pen) -> Result<()> {
        match self.medium.sync() {
            Ok(()) => {
                self.medium.remember(&pen.head);
                pen.tree.push_lines(&pen.pending);
                pen.pending.clear();
                pen.durable_len = pen.written_len;
                pen.durable = pen.head;
                self.settled.notify_all();
                Ok(())
            }
            Err(error) => {
                let why = format!("the journal cannot be made durable: {error}");
                pen.failed = Some(why.clone());
                self.settled.notify_all();
                Err(refused(&why))
            }
        }
    }

    fn write_line(&self, pen: &mut Pen, draft: &Draft, now: u64, generation: u64, change: Change) -> Result<()> {
        self.form(pen)?;
        self.write_line_of(&self.boot, pen, draft, now, generation, change)
    }

    /// A line of this run or of the one before it.
    fn write_line_of(
        &self,
        boot: &str,
        pen: &mut Pen,
        draft: &Draft,
        now: u64,
        generation: u64,
        change: Change,
    ) -> Result<()> {
        let Head { seq, hash } = pen.head;
        let time = now.max(pen.last_time);
        let stamp = Stamp { seq: seq + 1, time, boot, generation, change, prev: &hash };
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
        (pen.assigned, pen.last_time) = (seq + 1, time);
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
        if pen.syncing {
            return Err(refused(pen.failed.as_deref().unwrap_or_default()));
        }
        let again = self
            .medium
            .truncate(pen.durable_len)
            .and_then(|()| self.medium.write_at(&pen.pending, pen.durable_len))
            .and_then(|()| self.medium.sync());
        match again {
            Ok(()) => {
                pen.failed = None;
                pen.tree.push_lines(&pen.pending);
                pen.durable_len += pen.pending.len() as u64;
                pen.written_len = pen.durable_len;
                pen.pending.clear();
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
        if !self.form_group(pen) {
            pen.syncing = false;
            self.settled.notify_all();
            return;
        }
        let group = &mut **pen;
        core::mem::swap(&mut group.in_flight, &mut group.pending);
        let (head, len) = (pen.head, pen.written_len);
        // While `syncing` is set nobody else looks at these two.
        let (mut tree, mut lines) = (core::mem::take(&mut pen.tree), core::mem::take(&mut pen.in_flight));
        let outcome = MutexGuard::unlocked(pen, || {
            self.medium.sync().inspect(|()| {
                self.medium.remember(&head);
                tree.push_lines(&lines);
            })
        });
        pen.syncing = false;
        pen.tree = tree;
        match outcome {
            Ok(()) => {
                pen.durable_len = len;
                pen.durable = head;
                lines.clear();
                pen.in_flight = lines;
            }
            Err(error) => {
                let later = core::mem::replace(&mut pen.pending, lines);
                pen.pending.extend_from_slice(&later);
                pen.failed = Some(format!("the journal cannot be made durable: {error}"));
                tracing::error!(%error, "the audit journal cannot be made durable; operations are refused");
            }
        }
        self.settled.notify_all();
    }

    /// What the flusher does between two groups: checkpoints, and another file. True when it wrote something.
    fn keep_house(&self, pen: &mut Pen) -> bool {
        if pen.syncing || pen.failed.is_some() || pen.tail_dirty {
            return false;
        }
        if pen.file_is_full(&self.files) {
            let outcome = self.close_file(pen);
            pen.close_failed = outcome.as_ref().is_err().then(Instant::now);
            if let Err(error) = outcome {
                tracing::error!(error = error.detail(), "the journal goes on in its present file");
            }
            return true;
        }
        if !pen.checkpoint_due() {
            return false;
        }
        if let Err(error) = self.write_checkpoint(pen) {
            tracing::error!(error = error.detail(), "no checkpoint could be written");
            pen.checkpointed = Instant::now();
            pen.checkpoint_wanted = false;
            return false;
        }
        true
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
            if pen.durable.seq == pen.assigned && !self.keep_house(&mut pen) {
                if pen.closing {
                    return;
                }
                match pen.rest() {
                    Some(rest) => drop(self.dirty.wait_for(&mut pen, rest.max(GROUP))),
                    None => self.dirty.wait(&mut pen),
                }
                continue;
            }
            if !pen.closing {
                self.dirty.wait_for(&mut pen, GROUP);
            }
            if pen.syncing {
                self.settled.wait(&mut pen);
            } else if pen.failed.is_none() && pen.durable.seq < pen.assigned {
                self.sync_group(&mut pen);
                self.keep_house(&mut pen);
            }
        }
    }
}

/// Verifies the file into `pen`; sets an unfinished last line aside, if nobody remembers it as written. Also says whether the file
/// has just been begun.
fn load(file: &JournalFile, options: &Options, noted: Option<Head>, pen: &mut Pen) -> Result<(Option<TornTail>, bool)> {
    let known: Vec<Head> = options.known.into_iter().chain(noted).collect();
    let outcome = file.visit(&known, |line| {
        let record = line.record;
        if pen.head.seq == 0 || record.op == SEGMENT_OPEN {
            (pen.file_first, pen.written_len) = (record.seq, 0);
        }
        if record.op == checkpoint::CHECKPOINT {
            pen.last_checkpoint = record.seq;
        }
        pen.note(record.generation, record.change == Some(true), record.seq);
        pen.last_time = record.time;
        pen.head = line.head;
        if pen.last_boot != record.boot {
            pen.last_boot.clone_from(&record.boot);
        }
        pen.written_len += line.text.len() as u64 + 1;
        Ok(())
    });
    let Opened { walk, torn, begin_another } = outcome.map_err(|opening| tampered(&opening))?;
    let torn = torn.map(|offset| file.set_tail_aside(offset, pen.head.seq + 1)).transpose()?;
    // What the records of closed files said, the file's first record says.
    pen.settled_changes = walk.last_change_before();
    pen.last_change = walk.last_change();
    pen.last_generation = pen.last_generation.max(walk.summary().last_generation);
    pen.key = walk.key();
    pen.tree = walk.tree().clone();
    if begin_another {
        pen.written_len = 0;
        pen.settled_changes = pen.last_change;
    }
    pen.durable_len = pen.written_len;
    pen.durable = pen.head;
    pen.assigned = pen.head.seq;
    Ok((torn, begin_another))
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

fn tampered(opening: &Opening) -> Error {
    let Opening { path, finding } = opening;
    Error::new(
        Kind::Device,
        format!(
            "the journal {} does not verify at {finding}; move it aside for examination, or restore it, before starting again",
            path.display()
        ),
    )
}
