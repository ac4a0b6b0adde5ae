//! The journal that is being written: one pen, one flusher, receipts.
//!
//! Under the pen's lock a record gets its sequence and its time. One that an answer waits for, but not its durability, is put into
//! the staging file, which a kill leaves as it is; the flusher chains and writes many of them at once, and signs a checkpoint with
//! them when one is due. Any other is chained and written at once. The file is made durable for groups of lines: by whoever needs it,
//! else by the flusher 10 ms later. Lines that are written but not yet durable are kept in memory until they are, because a failed
//! fsync may have dropped them from the page cache: they are then written again before anything else.

mod closed;
mod closing;
mod flush;
mod lines;
mod open;
mod pen;
mod room;
mod write;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::chain::Head;
use super::checkpoint;
use super::draft::{Change, Draft};
use super::entry::{Category, Entry, Level};
use super::file::{Medium, hash_of_record};
use super::outside::{Outside, Witness};
use super::signer::{Announced, Signer, SigningKeys};
use crate::act;
use crate::observe::Observer;
use crate::sys::Indivisible;
use crate::{Clock, Error, Kind, Result};

pub(super) use self::pen::Pen;

/// A written line is durable at most this much later, plus one fsync.
const GROUP: Duration = Duration::from_millis(8);
/// How often a failed journal tries again when nobody asks it to write.
const RETRY: Duration = Duration::from_secs(1);
/// How far the wall clock may run away from the steady one before it is called a jump.
const JUMP_NANOS: i128 = 60_000_000_000;
/// How many of the newest store changes the journal can still find by generation.
const REMEMBERED_CHANGES: usize = 65_536;
/// A checkpoint is due so long after the first record that none covers; sooner after so many records, but not at once after the last.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
const CHECKPOINT_RECORDS: u64 = 256;
const CHECKPOINT_REST: Duration = Duration::from_millis(500);

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
    /// Who is told each checkpoint.
    pub witnesses: Vec<Witness>,
    /// When a file is closed and another begun.
    pub files: Files,
}

/// When a file of the journal is closed and another begun: at this length, or at this age; and how much must be free beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// Length in bytes.
    pub max_bytes: u64,
    /// Age of the file's first record of this run.
    pub max_age: Duration,
    /// Bytes that are to be free on its disk: below it operators are warned, below an eighth of it records are refused. Zero asks for
    /// nothing.
    pub min_free: u64,
}

impl Default for Files {
    fn default() -> Self {
        Files { max_bytes: 16 << 20, max_age: Duration::from_secs(24 * 3600), min_free: 64 << 20 }
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
    path: PathBuf,
    pen: Mutex<Pen>,
    /// Whoever makes and erases signing keys, gives files other names, or looks for a file by its name holds it, and never waits for it with
    /// the pen locked.
    names: Mutex<()>,
    /// Told when a group became durable or failed.
    settled: Condvar,
    /// Told when there is something to make durable, or the journal closes.
    dirty: Condvar,
    /// Hears how long the disk took.
    observer: OnceLock<Observer>,
    outside: Option<Outside>,
}

/// How far the journal is, for monitors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of the newest record.
    pub newest: u64,
    /// The number of the newest record that is durable.
    pub durable: u64,
    /// For how long the oldest record that is not durable has waited.
    pub behind: Duration,
    /// When the newest backup was made, in nanoseconds since the Unix epoch; zero when the journal does not tell.
    pub last_backup: u64,
}

impl Journal {
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
            path: options.path.clone(),
            pen: Mutex::new(pen),
            names: Mutex::new(()),
            settled: Condvar::new(),
            dirty: Condvar::new(),
            observer: OnceLock::new(),
            outside: Outside::start(options.anchor, options.witnesses),
        });
        let worker = Arc::clone(&shared);
        let flusher = std::thread::Builder::new().name("audit-flush".to_owned()).spawn(move || worker.flush_loop());
        // Without a flusher thread a record would never become durable by itself: then every append waits.
        Journal { shared, path: options.path, flusher: flusher.ok() }
    }

    /// From now on `observer` hears how long the disk takes.
    pub(crate) fn observe(&self, observer: Observer) {
        // The first one hears.
        self.shared.observer.set(observer).unwrap_or_default();
    }

    /// From now on checkpoints are signed. The key is the one that the journal names last, if `keys` has it.
    ///
    /// # Errors
    ///
    /// [`Kind::Device`] when a key or its record cannot be written.
    pub(crate) fn sign_with(&self, keys: SigningKeys) -> Result<()> {
        let mut pen = self.shared.lock_when_formed();
        let _whole = whole();
        let (signer, announced) = Signer::attach(keys, pen.key.as_ref())?;
        if announced == Announced::Broken {
            tracing::warn!("the journal's signing key is gone; a new one begins that the old one did not sign for");
        }
        // A run that ended between announcing a key and certifying it left an announcement that nobody can keep: another takes its place.
        if announced != Announced::Yes || core::mem::take(&mut pen.between_keys) {
            self.shared.write_entry(&mut pen, &checkpoint::key_entry(signer.public()))?;
        }
        let is_to_change = signer.is_to_change();
        pen.key = Some(signer.public().clone());
        pen.signer = Some(signer);
        pen.checkpoint_wanted = true;
        drop(pen);
        if is_to_change {
            self.shared.change_suite()?;
            tracing::info!("the journal is signed with other kinds of keys from here on");
        }
        self.shared.dirty.notify_one();
        self.sync()
    }

    /// Writes the record of an operation that changed nothing in the store, which is at `generation`.
    ///
    /// # Errors
    ///
    /// [`Kind::Device`] when the record cannot be written: the operation must be refused. The next call tries again.
    pub fn append(&self, entry: Entry, generation: u64, durability: Durability) -> Result<Receipt> {
        if !self.shared.level.keeps(entry.category) {
            return Ok(Receipt { seq: None });
        }
        let wanted = entry.category == Category::Admin;
        let backup = is_good_backup(&entry);
        let draft = Draft::again(entry);
        let seq = match (durability, self.flusher.is_some(), wanted) {
            (Durability::Written, true, false) => self.shared.write_staged(&draft, generation)?,
            _ => self.shared.write(&draft, generation, Change::Nothing, wanted)?,
        };
        if backup {
            self.shared.pen.lock().last_backup = self.shared.clock.now_unix_nanos();
        }
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
        self.shared.level.keeps(category)
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
        let _whole = whole();
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
        // A file that is closed meanwhile, as a full one is right after the start, would not be found under either name.
        let _named = self.shared.names.lock();
        let hash = hash_of_record(&self.path, head.seq)
            .map_err(|error| Error::new(Kind::Device, format!("the journal cannot be read: {error}")))?;
        Ok(hash == Some(head.hash))
    }

    /// How far the journal is.
    pub fn progress(&self) -> Progress {
        let pen = self.shared.pen.lock();
        Progress {
            newest: pen.assigned,
            durable: pen.durable.seq,
            behind: pen.behind_since.map(|since| since.elapsed()).unwrap_or_default(),
            last_backup: pen.last_backup,
        }
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

/// Whether a backup was made, and all of it was given out.
fn is_good_backup(entry: &Entry) -> bool {
    let begun = || entry.detail.iter().any(|(name, _)| *name == "phase");
    entry.op == act::BACKUP.name && entry.rv == ck::rv::CKR_OK && !begun()
}

/// Lines, tree and numbers change together, others wait for what one thread writes: a panic in the middle would leave a journal that
/// does not verify, or nobody who ever answers. To be made after the lock is taken, so that it ends before the lock is free.
fn whole() -> Indivisible {
    Indivisible::begin("the journal")
}

/// What an operation is told whose record cannot be kept.
fn refused(why: &str) -> Error {
    Error::new(Kind::Device, format!("{why}; without a record the operation is refused"))
}
